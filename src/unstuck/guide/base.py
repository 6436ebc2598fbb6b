"""What a part of guidance is: its settings, declared once, and the hooks by which it takes part in training.

A part is made anew for each training run. What an algorithm's trainer does with the hooks:

| hook | on-policy | off-policy |
|---|---|---|
| `agent` | before its learner is made | the same |
| `env` | around each single environment, below Monitor | the same |
| `wrap` | once, around all environments, before `Sense` | the same |
| `reward` | added to the rollout's rewards | added when a batch is *sampled* (`replay.guided`), as it may fade |
| `reward` of a part that `needs` "each_step" | added at each step, by `Sense` | the same; stored with the transition |
| `act` | what is stored is the action taken | the same |
| `target` | a loss inside PPO's own (`on_policy`) | the algorithm's own way, on the sampled batch |
| `on_update` | when a rollout is complete, before its update | after each quantum of steps |

Other packages add parts by an entry point of the group `unstuck.parts`: name → a `Part` class.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from unstuck.errors import GuidanceError
from unstuck.guide.advisor import Selection
from unstuck.guide.data import Array, PartSettings, Steps, Suggestions, Times

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium import spaces
    from stable_baselines3.common.vec_env import VecEnv

    from unstuck.episodes import EpisodeSet
    from unstuck.guidance import Guidance
    from unstuck.snapshots import Snapshotter
    from unstuck.tasks.card import Describer

__all__ = ["GROUP", "Array", "Context", "Part", "PartSettings", "Source", "Steps", "Suggestions", "Times", "parts"]
GROUP = "unstuck.parts"
"""The group of entry points in which other packages name their parts."""
Need = Literal["each_step", "single_env", "observations"]

_BUILT_IN: dict[str, str] = {
    "rewards": "rewards:Rewards",
    "execution": "execution:Execution",
    "imitation": "imitation:Imitation",
    "restarts": "restarts:RestartsPart",
    "roll_in": "roll_in:RollInPart",
    "short_episodes": "short_episodes:ShortEpisodes",
    "novelty": "novelty:NoveltyPart",
    "thaw": "thaw:Thaw",
    "rescaling": "rescaling:Rescaling",
    "conserving": "conserving:Conserving",
}
"""Name → module and class in `parts/`, in the order in which they are asked."""


class Source(Protocol):
    """What a part may ask of the run: made when it is asked for, as some of it takes long."""

    @property
    def describer(self) -> Describer: ...

    @property
    def spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Observations and actions of the task."""
        ...

    @property
    def snapshotter(self) -> Snapshotter: ...

    @property
    def episodes(self) -> EpisodeSet | None:
        """The stuck agent's, or None where none were collected."""
        ...

    @property
    def actor(self) -> Any:
        """The stuck agent: `act(obs (N, ...), deterministic, rngs) -> actions`."""
        ...

    def make_env(self) -> gym.Env: ...

    def rescaled(self, agent: Any) -> Any:
        """The agent with inputs that can only be small brought to the range from -1 to 1; what it does stays."""
        ...

    def importance(self) -> Callable[[Any], Array]:
        """Raw observations (N, ...) → (N,) how critical each is, by the mask network.

        Raises:
            RunError: none was trained.
        """
        ...


@dataclass(frozen=True)
class Context:
    """What a part is made for: one training run."""

    source: Source
    selection: Selection
    """Which of the guidance counts, and where it applies."""
    guidance: Guidance | None
    seed: int
    total: int
    """Environment steps of the whole training: fading goes by them."""
    gamma: float
    """Discount of the learner."""
    n_envs: int

    @cached_property
    def action_space(self) -> spaces.Space:
        return self.source.spaces[1]


class Part:
    """One way for an explanation, or something beside it, to enter training. The hooks here do nothing.

    Attributes:
        variables: names of the task's variables that the part looks at; others may be NaN.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[PartSettings]]
    explained: ClassVar[bool] = True
    """Whether it needs an explanation; without one it is left out."""
    needs: frozenset[Need] = frozenset()
    """each_step: depends on history, so that it must be asked at each step, in order, and only once. single_env:
    reaches into single environments, which simulators of many at once do not allow. observations: looks at
    `Steps.next_obs`."""
    rewards: bool = False
    """Whether `reward` is to be asked."""
    acts: bool = False
    """Whether `act` is to be asked."""
    imitate: float = 0.0
    """Coefficient with which the policy imitates `target`; 0: there is none."""
    balance: bool = False
    """Whether rare suggestions pull as hard, all together, as frequent ones (`guide.parts.imitation.pulls`)."""
    memory: int = 0
    """How many states are remembered with their suggestions, to be imitated for longer than their rollout."""
    wants_own: bool = False
    """Whether `target` depends on what the policy itself would do."""
    unseen_steps: int = 0
    """Environment steps so far that no learner sees, but that are charged."""
    variables: frozenset[str] = frozenset()

    def __init__(self, settings: Any, context: Context):
        """Raises:
        UnstuckError: what the settings ask for is not there; says what to do.
        """
        self.settings, self.context = settings, context

    def agent(self, agent: Any) -> Any:
        """An `unstuck.agents.Agent` → as training begins with it; it must do the same."""
        return agent

    def env(self, env: gym.Env) -> gym.Env:
        """Around a single environment, below Monitor."""
        return env

    def wrap(self, venv: VecEnv) -> VecEnv:
        """Around all environments, or a change of what they do; rewards and observations are raw."""
        return venv

    def reward(self, steps: Steps, now: Times) -> Array:
        """(B,) what the steps are worth at this time of training, to be added to the task's own reward.

        A pure function of both, so that it can be asked again and in any order; unless the part needs "each_step".
        """
        raise NotImplementedError

    def see(self, values: Array, begun: Array) -> None:
        """At each step, for a part that acts: the states from which the next step will be taken.

        Args:
            values: (n_envs, V).
            begun: (n_envs,) bool, where an episode begins with this state.
        """

    def act(self, own: Array) -> Array:
        """(n_envs, *action shape) the actions that the policy chose in the states just seen → those to take, the same
        array where nothing is replaced."""
        return own

    @property
    def acting(self) -> Array:
        """(n_envs,) bool, where `act` replaces something in the states just seen."""
        return np.zeros(self.context.n_envs, dtype=bool)

    def target(self, values: Array, own: Array | None) -> Suggestions | None:
        """What the policy is to imitate in some states; None for nowhere.

        Args:
            values: (B, V).
            own: (B, *action shape) the policy's most likely actions there; given if `wants_own`.
        """
        return None

    def on_update(self, model: Any) -> None:
        """At the algorithm's cadence. `model`: Stable-Baselines3's, with its `policy` and its buffer."""

    def line(self) -> dict[str, Any]:
        """For a line of the learning curve: what happened since the last call. `hit_rate` (share of states in which
        advice applied) and `bonus_mean` (guidance reward of a step, before fading) are shown by report and console."""
        return {}

    def notes(self) -> list[str]:
        """What was done to this agent beyond the guidance, for people."""
        return []

    def state(self) -> dict[str, Any]:
        """What must be remembered where another process goes on: plain values, arrays, tensors."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            KeyError: it is of another part.
        """


@cache
def parts() -> Mapping[str, type[Part]]:
    """Name → part: built-in ones in the order in which they are asked, then those of other packages by name. A package
    whose part cannot be loaded is left out with a warning, so that it takes nothing else down."""
    found: dict[str, type[Part]] = {}
    for name, place in _BUILT_IN.items():
        module, attribute = place.split(":")
        found[name] = getattr(importlib.import_module(f"unstuck.guide.parts.{module}"), attribute)
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: p.name):
        try:
            found[point.name] = _checked(point.load(), point.name, found)
        except Exception as error:
            text = f"the part {point.name!r} ({point.value}) is left out: {type(error).__name__}: {error}"
            warnings.warn(text, stacklevel=1)
    return found


def _checked(part: Any, name: str, others: Mapping[str, type[Part]]) -> type[Part]:
    if not (isinstance(part, type) and issubclass(part, Part)):
        raise GuidanceError("it is no unstuck.guide.base.Part")
    if name in others or getattr(part, "name", "") != name:
        raise GuidanceError("a part's name must be its own, and that of its entry point")
    taken = {field for other in others.values() for field in other.Settings.model_fields} | set(Selection.model_fields)
    if both := taken & set(part.Settings.model_fields):
        raise GuidanceError(f"another part has a setting of the same name: {', '.join(sorted(both))}")
    return part
