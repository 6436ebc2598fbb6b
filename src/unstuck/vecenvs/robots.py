"""Gymnasium's MuJoCo environments stepped together (`unstuck.robots`), with the same results as `LeanVecEnv`."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from unstuck.robots.stepping import Stepped, Together
from unstuck.vecenvs.lean import LeanVecEnv


class RobotVecEnv(LeanVecEnv):
    """Monitor-wrapped environments of a MuJoCo task, whose simulators `threads` threads step.

    Observations, rewards, ends, infos and what Monitor tells are those of `LeanVecEnv` to the bit, and resets are the
    environments' own. Of each environment, only `step` is not called, nor that of its wrappers.
    """

    def __init__(self, env_factory: Callable[[], gym.Env], n_envs: int, threads: int = 1):
        super().__init__(lambda: _Told(env_factory()), n_envs)
        self.backend = f"mujoco {mujoco.__version__}"
        self._told: list[_Told] = [env.env for env in self.envs]  # type: ignore[attr-defined]
        self._together = Together([told.env for told in self._told], threads)
        self._rewards: np.ndarray = np.zeros((256, n_envs))
        """Of the episodes under way; row t has those of each environment's step t."""

    def close(self) -> None:
        self._together.close()
        super().close()

    def _step_each(self, cut: np.ndarray, infos: list[dict[str, Any]]) -> None:
        self._at, self._what = 0, "step"
        found = self._together.step(self.actions)
        self._keep(found.rewards)
        over = found.terminated | found.truncated
        dones = over | cut
        self.buf_rews[:], self.buf_dones[:] = found.rewards, dones
        self.buf_obs[None][:] = found.obs  # type: ignore[index]
        infos += found.infos
        cuts = dones & ~found.terminated
        for info, truncated in zip(infos, cuts.tolist(), strict=True):
            info["TimeLimit.truncated"] = truncated
        for i in np.flatnonzero(dones).tolist():
            self._end(i, found, bool(over[i]))

    def _keep(self, rewards: np.ndarray) -> None:
        if self._lengths.max() > len(self._rewards):
            self._rewards = np.concatenate((self._rewards, np.zeros_like(self._rewards)))
        self._rewards[self._lengths - 1, np.arange(self.num_envs)] = rewards

    def _end(self, i: int, found: Stepped, over: bool) -> None:
        """End the episode of environment i, and begin another. Monitor hears of its steps now, all at once."""
        monitor: Any = self.envs[i]
        if over:
            steps = int(self._lengths[i])
            monitor.rewards = self._rewards[: steps - 1, i].tolist()
            monitor.total_steps += steps - 1
            self._told[i].answer = tuple(part[i] for part in found)
            monitor.step(None)
        found.infos[i]["terminal_observation"] = deepcopy(found.obs[i])
        self._lengths[i] = 0
        self._episodes[i] += 1
        self._at, self._what = i, "reset"
        obs, self.reset_infos[i] = monitor.reset()
        self._save_obs(i, obs)


class _Told(gym.Wrapper):
    """Stands between an environment and its Monitor, which asks it for what the environment gave."""

    answer: Any = None

    def step(self, action: Any) -> Any:
        return self.answer
