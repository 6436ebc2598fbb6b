"""Advantages and returns of a rollout."""

from __future__ import annotations

import numpy as np


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    last_values: np.ndarray,
    dones: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16), (n_steps, n_envs) float32.

    Args:
        rewards: (n_steps, n_envs), those of truncated episodes with the discounted value of their end.
        values: (n_steps, n_envs) of the states acted in.
        starts: (n_steps, n_envs) 1 where the state acted in was the first of an episode.
        last_values: (n_envs,) of the states after the last step.
        dones: (n_envs,) whether the last step ended an episode.
    """
    goes_on = np.empty_like(rewards)
    goes_on[:-1], goes_on[-1] = 1.0 - starts[1:], 1.0 - dones.astype(np.float32)
    following = np.empty_like(values)
    following[:-1], following[-1] = values[1:], last_values
    result = rewards + gamma * following * goes_on - values
    decay = gamma * gae_lambda * goes_on
    for step in range(len(rewards) - 2, -1, -1):
        result[step] += decay[step] * result[step + 1]
    return result
