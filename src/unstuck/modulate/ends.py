"""What the wrappers of training share: the states that episodes end in, and episodes that are not the task's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnvWrapper

from unstuck.modulate.restart import ELSEWHERE


def with_ends(obs: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> Any:
    """Observations after a vector step, with the last ones of ended episodes in place of the next ones' first."""
    ended = np.flatnonzero(dones)
    if not ended.size:
        return obs
    last = [infos[i]["terminal_observation"] for i in ended]
    if isinstance(obs, dict):
        parts = {k: np.array(v) for k, v in obs.items()}
        for k, part in parts.items():
            part[ended] = np.stack([o[k] for o in last])
        return parts
    obs = np.array(obs)
    obs[ended] = np.stack(last)
    return obs


class WholeEpisodes(VecEnvWrapper):
    """Keeps Monitor's return from being reported where an episode did not begin as the task's do, or where somebody
    else began it: it is no return of the policy on the task."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            if infos[i].get(ELSEWHERE):
                infos[i].pop("episode", None)
        return obs, rewards, dones, infos
