"""What the built-in describers are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.tasks.card import ActionSpec, Obs, TaskCard, Variable

Function = Callable[[np.ndarray], np.ndarray]
"""Observations (N, D) → values (N,)."""


@dataclass(frozen=True)
class ColumnDescriber:
    """A describer whose variables are chosen entries of a flat observation, then functions of all of it."""

    card: TaskCard
    columns: tuple[int, ...]
    derived: tuple[Function, ...] = ()

    def variables(self, obs: Obs) -> np.ndarray:
        """(N, *obs_shape) → (N, V) float64."""
        flat = np.asarray(obs, dtype=np.float64)
        flat = flat.reshape(len(flat), -1)
        values = np.empty((len(flat), len(self.columns) + len(self.derived)))
        values[:, : len(self.columns)] = flat[:, self.columns]
        for i, function in enumerate(self.derived, start=len(self.columns)):
            values[:, i] = function(flat)
        return values


def var(name: str, description: str, unit: str = "", low: float | None = None, high: float | None = None) -> Variable:
    """An entry of the observation."""
    return Variable(name=name, description=description, unit=unit, low=low, high=high)


def flag(name: str, description: str) -> Variable:
    return var(name, description, "0 or 1", 0.0, 1.0)


def discrete(**actions: str) -> ActionSpec:
    """Names of the actions in the order of their indices, with what they do."""
    return ActionSpec(kind="discrete", names=tuple(actions), descriptions=tuple(actions.values()))


def continuous(env: Any, unit: str = "", **actions: str) -> ActionSpec:
    """Names for the dimensions of a Box action space with what they do; the bounds are the space's."""
    space = env.action_space
    return ActionSpec(
        kind="continuous", names=tuple(actions), descriptions=tuple(actions.values()), unit=unit,
        low=tuple(map(float, space.low)), high=tuple(map(float, space.high)),
    )  # fmt: skip


def describer(
    env: Any,
    *,
    goal: str,
    reward: str,
    termination: str,
    variables: Sequence[Variable],
    action: ActionSpec,
    derived: Sequence[tuple[Variable, Function]] = (),
    columns: Sequence[int] | None = None,
    notes: str = "",
) -> ColumnDescriber | None:
    """A describer of the environment, or None if its observation is not the one that is described.

    `variables` name the entries `columns` of the flat observation; by default all of it, and then their
    number must be its size.
    """
    if columns is None and len(variables) != observation_size(env):
        return None
    card = TaskCard(
        env_id=env_id(env), goal=goal, reward=reward.strip(), termination=termination, action=action, notes=notes,
        variables=(*variables, *(v.model_copy(update={"derived": True}) for v, _ in derived)),
        max_episode_steps=max_episode_steps(env),
    )  # fmt: skip
    return ColumnDescriber(card, tuple(columns or range(len(variables))), tuple(f for _, f in derived))


def env_id(env: Any) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def max_episode_steps(env: Any) -> int | None:
    """Of the tightest time limit around the environment."""
    from gymnasium.wrappers import TimeLimit

    limits = []
    layer = env
    while hasattr(layer, "env"):
        if isinstance(layer, TimeLimit):
            limits.append(layer._max_episode_steps)
        layer = layer.env
    return min(limits, default=env.spec.max_episode_steps if env.spec is not None else None)


def observation_size(env: Any) -> int:
    """How many numbers an observation has: 1 for Discrete, -1 where they are not one array."""
    from gymnasium import spaces

    space = env.observation_space
    if isinstance(space, spaces.Discrete):
        return 1
    return -1 if space.shape is None else int(np.prod(space.shape))


def number(value: float) -> str:
    """0.001 as '0.001', 5.0 as '5'."""
    return f"{value:g}"
