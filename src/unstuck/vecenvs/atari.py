"""Atari games as their agents were trained: clipped rewards, and a life as an episode.

`unstuck.tasks.atari.Games` gives whole games and what they pay, because that is what agents are judged by. A learner
goes on as the agent learnt: its critic knows no rewards but -1, 0 and 1, and no life after the one that is lost.
Monitor lies below, so that learning curves show true scores of whole games.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from unstuck.tasks.atari import LIFE_LOST, TRAINED_REWARD, Games
from unstuck.tasks.beside import Beside, seen, seen_space


class AsTrained(VecEnvWrapper):
    """Rewards and ends as `AtariWrapper` gave them to the agent."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        dones = np.array(dones)
        rewards = np.array([info.get(TRAINED_REWARD, r) for info, r in zip(infos, rewards, strict=True)], rewards.dtype)
        for i, info in enumerate(infos):
            if info.get(LIFE_LOST) and not dones[i]:
                dones[i] = True
                info["terminal_observation"] = _row(obs, i)
                info["TimeLimit.truncated"] = False
        return obs, rewards, dones, infos


class SeenByAgent(VecEnvWrapper):
    """Observations without what lies beside what the agent sees."""

    def __init__(self, venv: VecEnv):
        super().__init__(venv, seen_space(venv.observation_space))

    def reset(self) -> Any:
        return seen(self.venv.reset())

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            infos[i]["terminal_observation"] = seen(infos[i]["terminal_observation"])
        return seen(obs), rewards, dones, infos


def seen_by_agent(venv: VecEnv) -> VecEnv:
    """The environments as a learner sees them."""
    return SeenByAgent(venv) if isinstance(venv.observation_space, Beside) else venv


def _row(obs: Any, i: int) -> Any:
    return {k: v[i] for k, v in obs.items()} if isinstance(obs, dict) else obs[i]


def as_trained(venv: VecEnv) -> VecEnv:
    """The environments with that, where they are games of Atari agents; else themselves."""
    return AsTrained(venv) if any(venv.env_is_wrapped(Games)) else venv
