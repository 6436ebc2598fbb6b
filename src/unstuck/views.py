"""Episodes as an explainer looks at them: named variables in place of raw observations, and where value was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unstuck.episodes import Episode
from unstuck.tasks.card import Describer

Array = np.ndarray
DROP_SPAN = 5
"""Steps over which a fall of V(s) counts as one."""

FLAT = 0.002
"""Where TD errors vary by less than this share of |V|, the critic tells no step from another."""


@dataclass(frozen=True)
class View:
    """One episode of T steps in the task's V named variables."""

    index: int
    deterministic: bool
    ending: str
    """'terminated', 'truncated' or 'cut', as in `Episode.ending`."""
    states: Array
    """(T+1, V) float64."""
    actions: Array
    """(T,) or (T, A)."""
    rewards: Array
    """(T,)."""
    value: Array | None = None
    """(T,) V(s_t), in the unit of the rewards that the agent learnt from (collecting undoes their normalisation)."""
    td_error: Array | None = None
    """(T,)."""
    q: Array | None = None
    """(T,) Q(s_t, a_t) where the critic is one of actions; V is then the largest Q, or Q at the most likely action."""
    confidence: Array | None = None
    """(T,) the policy's probability of the action taken, discrete actions only."""

    policy: Mapping[str, Array] = field(default_factory=dict)
    """Of the policy at each step: `action_mean` and `action_std` (T, A), or `action_prob` (T, n)."""
    reward_parts: Mapping[str, Array] = field(default_factory=dict)
    """(T,) each, as in `Episode.reward_parts`."""

    seed: int = 0
    """Of the episode."""
    learnt_rewards: Array | None = None
    """(T,) as in `Episode.learnt_rewards`; None where these are `rewards`."""
    learnt_ends: Array | None = None
    """(T,) bool, as in `Episode.learnt_ends`."""

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def total_reward(self) -> float:
        return float(np.sum(self.rewards))

    @property
    def learnt(self) -> Array:
        """(T,) rewards as the agent's own training paid them: what its critic knows, and training goes on with."""
        return self.rewards if self.learnt_rewards is None else self.learnt_rewards

    @property
    def mode(self) -> str:
        return "deterministic" if self.deterministic else "sampled"

    def drops(self, span: int = DROP_SPAN) -> Array:
        """(T,) how far V falls within `span` steps from each step; zeros where there is no critic."""
        if self.value is None:
            return np.zeros(len(self))
        later = np.minimum(np.arange(len(self)) + span, len(self) - 1)
        return self.value - self.value[later]

    def tension(self) -> Array:
        """(T,) how much seems decided at each step: the larger of |TD error| and of the fall of V, each in its
        standard deviations; without a critic, how unusual the reward is. Zeros where V is so flat that its ups and
        downs mean nothing."""
        if self.value is None or self.td_error is None:
            return _in_deviations(np.abs(self.rewards - np.median(self.rewards)))
        if np.std(self.td_error) < FLAT * np.abs(self.value).max():
            return np.zeros(len(self))
        return np.maximum(_in_deviations(np.abs(self.td_error)), _in_deviations(np.maximum(self.drops(), 0)))


def _in_deviations(x: Array) -> Array:
    deviation = float(np.std(x))
    return x / deviation if deviation > 1e-9 else np.zeros(len(x))


def view_of(episode: Episode, describer: Describer) -> View:
    """The episode without its raw observations and snapshots, which may be large."""
    signals = episode.signals
    probabilities = signals.get("action_prob")
    taken = None
    if probabilities is not None and episode.actions.ndim == 1:
        chosen = np.clip(episode.actions.astype(int), 0, probabilities.shape[1] - 1)
        taken = probabilities[np.arange(len(episode)), chosen]
    return View(
        index=episode.index,
        deterministic=episode.deterministic,
        ending=episode.ending,
        states=describer.variables(episode.observations),
        actions=episode.actions,
        rewards=episode.rewards,
        value=signals.get("value"),
        td_error=signals.get("td_error"),
        q=signals.get("q"),
        confidence=taken,
        seed=episode.seed,
        policy={k: v for k, v in signals.items() if k in ("action_mean", "action_std", "action_prob")},
        reward_parts=episode.reward_parts,
        learnt_rewards=episode.learnt_rewards,
        learnt_ends=episode.learnt_ends,
    )


def views_of(episodes: Iterable[Episode], describer: Describer) -> list[View]:
    return [view_of(e, describer) for e in episodes]


def peaks(score: Array, count: int, distance: int) -> list[int]:
    """Up to `count` steps of largest positive score, highest first, at least `distance` apart."""
    left = np.array(score, dtype=np.float64)
    found: list[int] = []
    while len(found) < count and left.size and (best := int(np.argmax(left))) >= 0 and left[best] > 1e-12:
        found.append(best)
        left[max(0, best - distance + 1) : best + distance] = -np.inf
    return found


def reward_scale(views: Iterable[View]) -> float:
    """The 95th percentile of |reward| over all steps, as training pays them: what an implicit reward of 1 is worth; 1
    where that is 0."""
    scale = float(np.percentile(np.abs(np.concatenate([v.learnt for v in views])), 95))
    return scale if scale > 1e-12 else 1.0


def whole_of(views: Sequence[View]) -> list[View]:
    """Those that the task ended, whose returns may be compared; all of them where it ended none."""
    return [v for v in views if v.ending != "cut"] or list(views)


def same_returns(views: Iterable[View]) -> bool:
    """Whether the true return tells no episode from another, as on a sparse task that is never solved. Differences of
    a millionth of the largest return are rounding."""
    totals = np.array([v.total_reward for v in whole_of(list(views))])
    return bool(np.ptp(totals) <= 1e-6 * max(1.0, float(np.abs(totals).max())))
