"""What an algorithm is to Unstuck: one small interface, and the registry of those that are known.

Everything that depends on how an agent learns stands behind `Algorithm`: recognising its file, its policy and what its
critic says, a learner that goes on with it, and a plain zip of the same class. Stages, commands and parts of guidance
ask `algorithm_of(agent)` and nothing else; none of them names an algorithm.

This module imports neither torch nor Stable-Baselines3: the built-in algorithms are imported when they are asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from unstuck.errors import AgentError
from unstuck.transitions import Transitions

if TYPE_CHECKING:
    from gymnasium import spaces
    from stable_baselines3.common.vec_env import VecEnv

    from unstuck.agents.normalization import Normalization
    from unstuck.agents.types import Agent
    from unstuck.config import TrainConfig
    from unstuck.guide.assembly import Guide

Array = np.ndarray
GROUP = "unstuck.algorithms"
"""The group of entry points in which other packages name their algorithms: name → an `Algorithm` or its class."""

_BUILT_IN = {
    "PPO": "on_policy:PPO",
    "TRPO": "on_policy:TRPO",
    "A2C": "on_policy:A2C",
    "SAC": "sac:SAC",
    "TD3": "td3:TD3",
    "DDPG": "td3:DDPG",
    "DQN": "dqn:DQN",
    "TQC": "tqc:TQC",
    "CrossQ": "crossq:CrossQ",
    "QRDQN": "qrdqn:QRDQN",
    "ARS": "ars:ARS",
}
"""Name → module and class in this package; the first that reads a file has it."""
_WITHOUT_FILES = {"SACDiscrete": "sac_discrete:SACDiscrete"}
"""Of those, what trains agents whose files are another's."""


@dataclass(frozen=True)
class Archive:
    """The zip of an agent, opened but not interpreted: nothing that it names has been imported or run."""

    path: Path
    data: Mapping[str, Any]
    """The JSON in it. What SB3 pickled stands as {":serialized:": base64}."""
    policy_class: str | None
    """Dotted name of the policy's class; None where it is none of SB3's and sb3-contrib's."""

    def pickled(self, key: str) -> Any:
        """What SB3 pickled under this key: plain values, arrays, and records of what it names; nothing is imported.
        None where there is nothing, or where it cannot be read as data."""
        from unstuck.agents._pickles import read_pickle, serialized

        stored, where = self.data.get(key), f"{self.path} ({key})"
        if not (isinstance(stored, Mapping) and ":serialized:" in stored):
            return None
        try:
            return read_pickle(serialized(where, stored), where)
        except AgentError:
            return None

    def number(self, key: str) -> float | None:
        """A number, as it is or pickled, or a constant schedule; None for anything else."""
        from unstuck.agents._pickles import to_number

        stored = self.data.get(key)
        return to_number(self.pickled(key) if isinstance(stored, Mapping) else stored)


class Policy(Protocol):
    """A frozen policy that takes raw observations, before any VecNormalize."""

    action_space: spaces.Space
    normalization: Normalization | None

    def act(self, obs_raw: Any, deterministic: bool = ..., rngs: Sequence[np.random.Generator] | None = ...) -> Array:
        """(N, *action_shape) actions to execute, inside the bounds, of the action space's dtype.

        Args:
            obs_raw: (N, *obs_shape), or a dict of such arrays.
            deterministic: the most likely action; else as the agent explores.
            rngs: N generators; row i draws from the i-th alone, however rows are batched. By default all rows draw
                from a generator of the policy's own.
        """
        ...

    def signals(self, obs_raw: Any, actions: Array | None = None) -> dict[str, Array]:
        """What the agent thinks of raw observations, by name, each float64 with N rows.

        Args:
            actions: (N, *action_shape) actions taken there.

        Returns:
            `value` (N,): V(s); of critics over actions the largest Q(s, a) (discrete actions) or Q at the most likely
            action (continuous ones). Such critics give `q` (N,) too, Q of `actions`, if these are given, and for
            discrete actions `action_value` (N, n), Q of each. Of the policy: `action_mean` and `action_std` (N, A),
            or `action_prob` (N, n), or for several choices at once `action_prob` (N, sum of their sizes).
        """
        ...

    def plain(self) -> Any | None:
        """The same policy in numpy, picklable, with bit-equal actions; None where only torch computes it."""
        ...


@dataclass(frozen=True)
class Update:
    """What a trainer tells after each update (off-policy: after each `Algorithm.quantum` of steps)."""

    steps: int
    """Environment steps since training began, those of segments before included."""
    episodes: tuple[tuple[float, int], ...] = ()
    """(return, length) of the episodes that ended since the last update."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Of the algorithm: `entropy`, `explained_variance`, losses... by the names of the learning curve."""


OnUpdate = Callable[[Update], None]


class Trainer(Protocol):
    """A learner that begins with an agent's weights, under the guidance it was made with."""

    model: Any
    """Stable-Baselines3's, or something with `policy`, `num_timesteps`, `observation_space`, `action_space` and
    `get_env`."""
    engine: str
    """What computes rollouts and updates: "fast" or "sb3"."""

    def learn(self, stop: int, on_update: OnUpdate) -> None:
        """Train from `Training.start` to this step of the whole, or the first update after it."""
        ...

    def save(self, path: Path) -> Path:
        """Write a plain zip of the agent's own class, and its observation statistics, as `Algorithm.save` does."""
        ...

    def state(self) -> dict[str, Any]:
        """What another process needs to go on, as plain values, arrays and tensors: at least `steps` done, weights,
        moments of the optimisers, what the parts remember, random numbers, and a replay buffer if there is one.
        Environments are not in it: they begin new episodes."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, in a trainer made with the same arguments.

        Raises:
            RunError: it is of another agent or plan.
        """
        ...


@dataclass(frozen=True)
class Training:
    """What a trainer is made for: one training, or a segment of it."""

    config: TrainConfig
    guide: Guide
    """The parts of guidance, wrapped around the environments already; without parts for plain training."""
    seed: int
    steps: int
    """Environment steps of the whole training: schedules, warm-up and fading go by them, not by a segment's."""
    start: int = 0
    """The step of the whole at which this segment begins."""
    begun: int = 0
    """The step of the whole at which the optimiser was fresh: warm-up goes by it."""
    experience: Transitions | None = None
    """Steps of the task that were taken before, with which a replay buffer begins. They are not counted again."""


class Algorithm(ABC):
    """One way to learn: how its agents are read, act, go on learning and are saved. Stateless."""

    name: ClassVar[str]
    """As its class is called in Stable-Baselines3."""
    on_policy: ClassVar[bool] = False
    """Whether it learns only from what the policy of now did; else from a replay buffer."""
    policies: ClassVar[Mapping[str, str]] = {}
    """Dotted names of the policy classes that its files may name → "MlpPolicy", "CnnPolicy", "MultiInputPolicy"."""
    policy_arguments: ClassVar[frozenset[str]] = frozenset()
    """What `policy_kwargs` in its files may hold."""
    state_dependent_noise: ClassVar[bool] = False
    """Whether its policies take `use_sde`."""
    first_layers: ClassVar[tuple[str, ...]] = ()
    """Names of weights of which one is the first layer of an MlpPolicy, (units, inputs)."""
    added: ClassVar[str] = ""
    """What `completed` adds, in words after "it has", for prompts and diagnoses."""
    unspoken: ClassVar[frozenset[str]] = frozenset()
    """Findings of a diagnosis that would be about what `completed` added, and say nothing of its agents."""

    @abstractmethod
    def reads(self, archive: Archive) -> bool:
        """Whether this file is one of its agents."""

    @abstractmethod
    def hyperparameters(self, archive: Archive, notes: list[str]) -> dict[str, Any]:
        """By the names of its learner's arguments; what cannot be read as data is None, and `notes` says so."""

    @abstractmethod
    def policy_class(self, agent: Agent) -> type:
        """The class of the agent's policy, where the file names no custom one."""

    @abstractmethod
    def policy_base(self) -> type:
        """What a custom policy class must be a kind of."""

    @abstractmethod
    def policy(
        self, agent: Agent, observation_space: spaces.Space, action_space: spaces.Space, seed: int = 0
    ) -> Policy:
        """The agent's policy on the CPU, with its weights.

        Args:
            observation_space: of the environment, images in either layout.
            seed: of the generator that the policy draws from when it is given none.

        Raises:
            AgentError: the weights do not fit the spaces or the stored arguments.
        """

    @abstractmethod
    def save(self, model: Any, path: Path | str, normalization: Normalization | None = None) -> Path:
        """Write a plain zip, whole or not at all, that the class of the same name loads without Unstuck.

        Args:
            normalization: if given, also written beside it as `<path without .zip>.vecnormalize.pkl`.

        Raises:
            RunError: the folder cannot be written to.
        """

    def n_envs(self, config: TrainConfig) -> int:
        """Environments that it trains in side by side."""
        return config.n_envs

    def quantum(self, agent: Agent, config: TrainConfig) -> int:
        """Environment steps between two updates: budgets are rounded down to multiples of it."""
        return self.n_envs(config)

    def trainer(self, agent: Agent, venv: VecEnv, training: Training) -> Trainer:
        """A learner that goes on from the agent in these environments, which have raw observations.

        Raises:
            AgentError: it cannot go on there; says why.
        """
        raise AgentError(f"{agent.path}: agents of {self.name} can be looked at here, but not trained on")

    def action_outputs(self, agent: Agent) -> int | None:
        """How many numbers its network gives for an action; None where that cannot be told."""
        return None

    def modernize(
        self, state: dict[str, Any], kwargs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Weights and policy arguments of older versions in today's layout, and notes on what was changed."""
        return state, dict(kwargs), []

    def completed(self, agent: Agent) -> Agent:
        """What was read, with what its learner needs and the file does not hold.

        Raises:
            AgentError: it cannot be completed.
        """
        return agent


def names() -> tuple[str, ...]:
    """The names of all algorithms that have agents of their own, built-in ones first."""
    return (*_BUILT_IN, *sorted(_others().keys() - _BUILT_IN.keys()))


def algorithm(name: str) -> Algorithm:
    """The algorithm of this name. Another package's stands in for a built-in one of the same name.

    Raises:
        AgentError: there is none; or its package is missing or broken.
    """
    found = _others().get(name)
    if found is not None:
        return _from_entry_point(found)
    if name not in _BUILT_IN and name not in _WITHOUT_FILES:
        raise AgentError(f"no algorithm is called {name!r}; there are {', '.join(names())}")
    return _built_in(name)


def algorithm_of(agent: Agent) -> Algorithm:
    """Whose agent this is."""
    return algorithm(agent.algorithm)


def continued_by(agent: Agent) -> str:
    """The name of what trains an agent on: its own algorithm, or PPO where that learns on-policy."""
    own = algorithm_of(agent)
    return "PPO" if own.on_policy else own.name


def algorithm_of_model(model: Any) -> Algorithm:
    """Whose learner this is: that of the first of its classes which is not Unstuck's and whose name is known.

    Raises:
        AgentError: there is none.
    """
    known = names()
    for kind in type(model).__mro__:
        if kind.__name__ in known and kind.__module__.split(".")[0] != "unstuck":
            return algorithm(kind.__name__)
    raise AgentError(f"{type(model).__name__} is a learner of no algorithm here; there are {', '.join(known)}")


def policy_of(agent: Agent, observation_space: spaces.Space, action_space: spaces.Space, seed: int = 0) -> Policy:
    """The agent's policy, to act in environments with these spaces; see `Algorithm.policy`."""
    return algorithm_of(agent).policy(agent, observation_space, action_space, seed)


def recognise(archive: Archive) -> Algorithm | None:
    """Whose file this is; None if no algorithm reads it. Those of other packages are asked first."""
    return next((a for a in _all() if a.reads(archive)), None)


def _all() -> Iterator[Algorithm]:
    """Those of other packages first. One that cannot be loaded is left out with a warning, so that it takes nothing
    else down."""
    for name in (*_others(), *(n for n in _BUILT_IN if n not in _others())):
        try:
            yield algorithm(name)
        except AgentError as error:
            if name in _BUILT_IN and name not in _others():
                raise
            warnings.warn(f"{error}; it is left out", stacklevel=1)


@cache
def _built_in(name: str) -> Algorithm:
    module, attribute = (_BUILT_IN | _WITHOUT_FILES)[name].split(":")
    return getattr(importlib.import_module(f"unstuck.algorithms.{module}"), attribute)()


@cache
def _others() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def _from_entry_point(point: importlib.metadata.EntryPoint) -> Algorithm:
    try:
        found = point.load()
        made = _made(found) if isinstance(found, type) else found
    except Exception as error:
        raise AgentError(
            f"the algorithm {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Algorithm) or made.name != point.name:
        raise AgentError(
            f"the algorithm {point.name!r} ({point.value}) is no unstuck.algorithms.Algorithm of that name"
        )
    return made


@cache
def _made(kind: type[Algorithm]) -> Algorithm:
    return kind()
