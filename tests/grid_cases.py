"""A toy task in which exactly one step matters, and what the tests of the grid share."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from unstuck.config import (
    AgentConfig,
    CollectConfig,
    EvaluateConfig,
    ExplainConfig,
    RunConfig,
    TaskConfig,
    TrainConfig,
    VerifyConfig,
)  # fmt: skip
from unstuck.llm import LLMConfig
from unstuck.pipeline import open_run
from unstuck.stages.collect import collect

ONE_STEP, LENGTH, MATTERS = "UnstuckOneStep-v0", 10, 6


class OneStep(gym.Env):
    """Ten steps; the reward is 10 for action 1 in step 6, and nothing else. Observation: the step, one-hot."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Box(0.0, 1.0, (LENGTH + 1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode, self.t = render_mode, 0

    def _obs(self):
        return np.eye(LENGTH + 1, dtype=np.float32)[self.t]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        reward = 10.0 * (self.t == MATTERS and int(action) == 1)
        self.t += 1
        return self._obs(), reward, self.t == LENGTH, False, {}


if ONE_STEP not in gym.registry:
    gym.register(ONE_STEP, OneStep)

SMALL = {
    "n_envs": 4,
    "n_steps": 32,
    "batch_size": 64,
    "n_epochs": 2,
    "critic_warmup": 128,
    "jobs": 1,
    "late_checkpoints": 1,
}


def config(env_id, agent, *, explain=None, llm="", **train):
    return RunConfig(
        task=TaskConfig(env=env_id, import_module="unstuck.testing"),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=4, max_steps=300),
        explain=ExplainConfig(**({"search_states": 1, "mask_steps": 2048} | (explain or {}))),
        llm=LLMConfig(model=llm),
        verify=VerifyConfig(pairs=2, max_steps=600, episode_pairs=0),
        train=TrainConfig(**(SMALL | {"steps": 4_500, "seeds": (1,), "control": False} | train)),
        evaluate=EvaluateConfig(episodes=2, before_episodes=2),
    )


def collected(path, env_id, agent, **settings):
    run = open_run(config(env_id, agent, **settings), path)
    collect(run)
    return run
