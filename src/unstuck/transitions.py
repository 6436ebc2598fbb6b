"""Single steps of a task, as a learner with a replay buffer keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Transitions:
    """N steps. Checked on construction.

    Raises:
        ValueError: they do not have the same length.
    """

    observations: Any
    """(N, *obs_shape) raw, or a dict of such."""
    next_observations: Any
    """(N, *obs_shape) what came after each step, or a dict of such; never the first of the next episode."""
    actions: np.ndarray
    """(N, *action_shape) as executed."""
    rewards: np.ndarray
    """(N,)"""
    terminated: np.ndarray
    """(N,) bool: the task ended the episode there."""
    cut: np.ndarray
    """(N,) bool: it was cut there, so that what comes after still has its value."""

    def __post_init__(self) -> None:
        parts = [self.actions, self.rewards, self.terminated, self.cut]
        for held in (self.observations, self.next_observations):
            parts += list(held.values()) if isinstance(held, dict) else [held]
        if len({len(part) for part in parts}) != 1:
            raise ValueError("transitions: not all parts have the same length")

    def __len__(self) -> int:
        return len(self.rewards)


def rows_of(obs: Any, index: Any) -> Any:
    """Rows of a batch of observations, be it an array or a dict of arrays."""
    return {k: v[index] for k, v in obs.items()} if isinstance(obs, dict) else obs[index]
