"""How something outside may take part in a `FastPPO`: the places where guidance touches policy, loss and rollouts.

What only changes rewards or what the environment executes needs none of them: it is a VecEnv wrapper. But rewards that
no step depends on cost less for a whole rollout at once.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np


class Substitution(Protocol):
    """Puts other actions in the place of those that the policy sampled, while rollouts are collected."""

    log_prob: Literal["suggestion", "mixed"]
    """What is stored beside the substituted action: its own log-probability, or that of the policy's own action."""

    def substitute(self, actions: np.ndarray) -> np.ndarray:
        """(n_envs, ...) the policy's actions → the actions to take; the same array where nothing is replaced."""


class Target(Protocol):
    """Suggestions that the policy is to imitate, by a loss inside PPO's own."""

    whole_pull: float
    """Share of a minibatch that must have a suggestion for the loss to be the mean over those that have one; where
    fewer have, it is less in proportion."""

    @property
    def coefficient(self) -> float:
        """What the loss is multiplied with now."""
        ...

    def suggestions(self, mode: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Suggestions for the states from which the last step was taken.

        Args:
            mode: (n_envs, ...) the policy's most likely actions in these states.

        Returns:
            (n_envs,) bool, where there is a suggestion, and (M, ...) the suggested actions there; None for nowhere.
        """

    def pulls(self, advised: np.ndarray, suggested: np.ndarray) -> np.ndarray:
        """(N,) float32, how hard each sample of a rollout is pulled towards its suggestion.

        Args:
            advised: (N,) bool, where there is one.
            suggested: (N, ...); only looked at where advised.
        """
        ...

    def record(self, losses: list[float]) -> None:
        """Takes the losses of the update's minibatches that had a suggestion, before `coefficient`."""


class Hindsight(Protocol):
    """Gives for a whole rollout what would otherwise be asked for at each step."""

    wants_modes: bool
    """Whether suggestions depend on what the policy itself would do."""

    def begin(self) -> None:
        """A rollout begins; the one before may have been broken off."""

    def rewards(self) -> np.ndarray | None:
        """(n_steps, n_envs) what to add to the rewards of the rollout; None for nothing."""

    def suggestions(self, modes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Suggestions for the states of the rollout; asked only if there is a `Target`, and in place of its own.

        Args:
            modes: (n_steps, n_envs, ...) the policy's most likely actions in these states if `wants_modes`.

        Returns:
            (n_steps, n_envs) bool, where there is a suggestion, and (M, ...) the suggested actions there; None for
            nowhere.
        """
