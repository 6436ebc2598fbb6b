"""What enters one training run, and how: the settings of every modulation as data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from unstuck.guidance import Advice, Guidance, Term


@dataclass(frozen=True)
class Plan:
    """Everything that decides how an explanation enters one training run. The defaults are plain PPO."""

    execute: bool = False
    log_prob: Literal["suggestion", "own", "mixed"] = "suggestion"
    imitate: float = 0.0
    state_reward: bool = False
    terms: bool = False
    anneal: Literal["linear", "none"] = "linear"
    fade: float = 1.0
    """Share of training after which annealed rewards are zero."""
    applies: Literal["as-given", "table", "near"] = "as-given"
    verified: bool = False
    """Uses what verification found, drops what it found harmful, and is charged for its steps."""
    kinds: tuple[str, ...] = ("rule", "state")
    only_helpful: bool = False
    """Uses only advice that verification found helpful."""
    radius: float = 0.15
    bins: int = 20
    potential: bool = False
    """State rewards and terms are potentials Φ: the reward is γΦ(s') - Φ(s)."""
    restart: float = 0.0
    """Probability that an episode begins at a critical state."""
    restart_at: Literal["advice", "fresh"] = "advice"
    """The critical states of the explanation, or the most critical one of the episode just finished (mask network)."""
    rnd: float = 0.0
    """Coefficient of the novelty bonus."""
    roll_in: Literal["none", "curriculum", "random"] = "none"
    """Whether the stuck agent takes the first steps of each episode."""
    short_episodes: int = 0
    """Steps after which most environments cut their episodes, where only the time limit ends the stuck agent's."""
    thaw: float = 0.0
    """Floor of the policy's noise at the start of training, as a share of the most that it can be."""

    def __repr__(self) -> str:
        """Only what differs from plain PPO: what was trained once stays trained when a setting is added."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return f"Plan({', '.join(f'{k}={v!r}' for k, v in changed.items())})"

    @property
    def guided(self) -> bool:
        """Whether anything of the advice or the reward terms is looked at in each step."""
        return self.execute or self.imitate > 0 or self.state_reward or self.terms

    @property
    def begins_elsewhere(self) -> bool:
        """Whether episodes may begin otherwise than the task's do."""
        return self.restart > 0 or self.roll_in != "none"

    def fading(self, step: int, total: int) -> float:
        """What guidance rewards are multiplied with after `step` of `total` environment steps: from 1 to 0 when
        annealed."""
        return 1.0 if self.anneal == "none" else max(0.0, 1.0 - step / (self.fade * total))

    def advice(self, guidance: Guidance) -> tuple[Advice, ...]:
        """The advice that this plan lets touch training, in order."""
        pool = guidance.active if self.verified else tuple(a for a in guidance.advice if a.enabled)
        return tuple(
            a for a in pool if a.kind in self.kinds and (not self.only_helpful or a.verdict.status == "helpful")
        )

    def reward_terms(self, guidance: Guidance) -> tuple[Term, ...]:
        return guidance.reward_terms if self.terms else ()
