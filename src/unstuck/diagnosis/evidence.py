"""What is known of an agent before anything is measured: its episodes, activations, settings, learning curve.

`gather` reads a run's episodes once and takes no environment steps. The measurements are pure functions of `Evidence`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from unstuck.diagnosis.references import Reference

if TYPE_CHECKING:
    from unstuck.agents.history import LearningCurve
    from unstuck.agents.normalization import Normalization
    from unstuck.episodes import Episode

Array = np.ndarray
STATES = 2048
"""States at which activations are looked at, at most."""
BYTES = 2**21
"""Of the observations at these states, at most: images are many."""


@dataclass(frozen=True)
class Rollout:
    """An episode of T steps without its observations."""

    seed: int
    deterministic: bool
    actions: Array
    """(T,) or (T, A): as executed."""
    rewards: Array
    """(T,) the task's own."""
    terminated: bool
    cut: bool
    """Collection stopped it: neither the task nor its time limit did."""
    signals: Mapping[str, Array]
    """As `Episode.signals`; `value` in the reward's unit."""
    last_value: float
    """V after the last step, 0 where the episode terminated."""
    learnt_rewards: Array | None = None
    """(T,) as in `Episode.learnt_rewards`; None where they are the task's own."""
    learnt_ends: Array | None = None
    """(T,) bool, as in `Episode.learnt_ends`; None where there are none."""

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def learnt(self) -> Array:
        """(T,) rewards as the agent's own training paid them."""
        return self.rewards if self.learnt_rewards is None else self.learnt_rewards

    @property
    def total(self) -> float:
        """The undiscounted return."""
        return float(self.rewards.sum())


@dataclass(frozen=True)
class Layer:
    """A hidden layer's outputs at N states."""

    name: str
    """Path in the network."""
    kind: str
    """The activation's class, e.g. "Tanh"."""
    critic: bool
    outputs: Array
    """(N, U) float32; of convolutions the mean of |h| over the image, for each channel."""
    fresh: Array
    """(N, U): of the same layer at the same states, in a network just initialised."""
    image: bool = False


@dataclass(frozen=True)
class ShadowUpdate:
    """What one update of PPO did to a copy of the agent (`unstuck.diagnosis.shadow`)."""

    kl: float
    """Mean over the states of the batch of KL(before ‖ after)."""
    clip_fraction: float
    """SB3's: of the samples in all minibatches, how many had a ratio outside 1 ± clip range."""
    steps: int
    """Samples in the batch."""


@dataclass(frozen=True)
class Evidence:
    """All that the measurements look at."""

    agent: str
    env: str
    algorithm: str
    on_policy: bool
    hyperparameters: Mapping[str, Any]
    rollouts: tuple[Rollout, ...]
    action_space: spaces.Space
    observation_space: spaces.Space
    states: Any
    """(N, *obs_shape) raw observations, or a dict of such: a sample of those visited."""
    normalization: Normalization | None = None
    normalized_rewards: bool = False
    """Whether it learnt from rewards scaled by VecNormalize."""
    layers: tuple[Layer, ...] = ()
    curve: LearningCurve | None = None
    trunk: bool = False
    """Whether the curve is of PPO continued from the agent, for this diagnosis."""
    curve_note: str = ""
    """Why there is no curve, in words."""
    shadow: ShadowUpdate | None = None
    shadow_note: str = ""
    time_limit: int | None = None
    reference: Reference | None = None
    action_names: tuple[str, ...] = ()
    """Of discrete actions; () where they are not known by name."""
    unspoken: frozenset[str] = frozenset()
    """As `Algorithm.unspoken`."""

    @cached_property
    def gamma(self) -> float:
        """Its discount."""
        return float(self.hyperparameters.get("gamma") or 0.99)

    def returns(self, deterministic: bool | None = None) -> Array:
        """Returns of the episodes that were not cut, in one mode or in both."""
        chosen = [r for r in self.rollouts if deterministic in (None, r.deterministic) and not r.cut]
        return np.array([r.total for r in chosen])

    @cached_property
    def half_range(self) -> Array | None:
        """(A,) half the range of each action; None where actions are no bounded Box."""
        space = self.action_space
        if not isinstance(space, spaces.Box) or not space.is_bounded():
            return None
        return ((space.high - space.low) / 2).reshape(-1).astype(np.float64)

    @cached_property
    def centre(self) -> Array:
        """(A,) the middle of each action's range, where `half_range` is known."""
        space: Any = self.action_space
        return ((space.high + space.low) / 2).reshape(-1).astype(np.float64)

    def signal(self, name: str) -> Array | None:
        """One of the agent's signals over all steps of all episodes, (T, ...); None where it has none."""
        parts = [r.signals[name] for r in self.rollouts if name in r.signals]
        return np.concatenate(parts).astype(np.float64) if len(parts) == len(self.rollouts) and parts else None


def rollout_of(episode: Episode, gamma: float) -> Rollout:
    """The episode without its observations."""
    last = 0.0
    signals, (learnt, ends) = dict(episode.signals), episode.as_learnt()
    if not ends[-1] and "td_error" in signals and "value" in signals and gamma > 0:
        # td_error = r + γ V' - V, and V' of the last step is kept nowhere else.
        last = (float(signals["td_error"][-1]) + float(signals["value"][-1]) - float(learnt[-1])) / gamma
    return Rollout(
        seed=episode.seed, deterministic=episode.deterministic, actions=np.asarray(episode.actions),
        rewards=np.asarray(episode.rewards, dtype=np.float64), terminated=episode.terminated,
        cut=not (episode.terminated or episode.truncated), signals=signals, last_value=last,
        learnt_rewards=episode.learnt_rewards, learnt_ends=episode.learnt_ends,
    )  # fmt: skip


class StateSample:
    """Rows taken evenly from batches of observations that come one after another, so that only these are held."""

    def __init__(self, total: int, states: int = STATES, size: int = BYTES):
        """For `total` rows in all: at most `states` of them, and at most `size` bytes (but one of each batch)."""
        self._total, self._states, self._size = max(1, total), states, size
        self._seen = 0
        self._parts: list[dict[str, Array]] = []

    def add(self, observations: Any) -> None:
        """Take from a batch (N, *obs_shape), or a dict of such."""
        parts = observations if isinstance(observations, Mapping) else {"": observations}
        count = len(next(iter(parts.values())))
        width = sum(v.nbytes for v in parts.values()) // max(1, count)
        keep = max(1, min(self._states, self._size // max(1, width)))
        stride = max(1, -(-self._total // keep))
        rows = np.arange((-self._seen) % stride, count, stride)
        self._seen += count
        if len(rows):
            self._parts.append({k: np.asarray(v)[rows] for k, v in parts.items()})

    def states(self) -> Any:
        """(N, *obs_shape), or a dict of such."""
        joined = {k: np.concatenate([p[k] for p in self._parts]) for k in self._parts[0]}
        return joined[""] if list(joined) == [""] else joined


_CRITIC = ("value_net", "vf_", "critic", "qf", "q_net", "quantile_net")
"""Words in the paths of layers that only critics have."""


def hidden_layers(policy: Any, states: Any, *, orthogonal: bool, seed: int = 0) -> tuple[Layer, ...]:
    """The hidden layers of an agent's networks at raw observations, found by their activations.

    Args:
        policy: acts and has `signals`; its torch module is its attribute `policy`. Without one, there are no layers.
        orthogonal: whether a fresh network of this kind is initialised orthogonally, as SB3's on-policy ones are.
    """
    import torch

    module = getattr(policy, "policy", None)
    if not isinstance(module, torch.nn.Module):
        return ()
    now = _activations(policy, module, states)
    other = copy.copy(policy)
    other.policy = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _initialise(other.policy, orthogonal)
    fresh = _activations(other, other.policy, states)
    found = []
    for name, (kind, outputs) in now.items():
        if name in fresh and outputs.shape == fresh[name][1].shape:
            image = outputs.ndim > 2
            values, begun = (_channels(o) if image else o for o in (outputs, fresh[name][1]))
            critic = any(word in name for word in _CRITIC)
            found.append(Layer(name, kind, critic, values, begun, image))
    return tuple(found)


def _channels(outputs: Array) -> Array:
    return np.abs(outputs).reshape(*outputs.shape[:2], -1).mean(axis=2)


def _activations(policy: Any, module: Any, states: Any) -> dict[str, tuple[str, Array]]:
    """Path → (class, outputs (N, U) or (N, C, H, W)) of every activation that `signals` passes through."""
    import torch
    from torch.nn.modules import activation

    kinds: Any = tuple(
        c for c in vars(activation).values() if isinstance(c, type) and c.__module__ == activation.__name__
    )
    found: dict[str, tuple[str, Array]] = {}
    hooks = []

    def remember(path: str, kind: str) -> Any:
        def hook(_: Any, __: Any, out: Any) -> None:
            if isinstance(out, torch.Tensor) and out.dim() in (2, 4):
                found[path] = (kind, out.detach().float().numpy())

        return hook

    for path, part in module.named_modules():
        if isinstance(part, kinds) and not list(part.children()):
            hooks.append(part.register_forward_hook(remember(path, type(part).__name__)))
    try:
        policy.signals(states)
    finally:
        for handle in hooks:
            handle.remove()
    return found


def _initialise(module: Any, orthogonal: bool) -> None:
    import torch

    for part in module.modules():
        if orthogonal and isinstance(part, (torch.nn.Linear, torch.nn.Conv2d)):
            torch.nn.init.orthogonal_(part.weight, gain=float(np.sqrt(2)))
            if part.bias is not None:
                part.bias.data.zero_()
        elif hasattr(part, "reset_parameters"):
            part.reset_parameters()
