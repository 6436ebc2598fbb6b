"""The mask network: which steps of an agent matter, learnt by blinding it.

At each step the network keeps the agent's action or blinds the agent, and a random action is taken instead. It learns,
by PPO, to blind as often as possible without costing return; a step is important where it keeps the agent's action.
Two objectives:

- RICE (Cheng et al. 2024, section 3.3): maximise the return of the blinded agent with a bonus α for each blinded step.
- StateMask (Cheng et al. 2023): the return of the blinded agent is to stay that of the agent, solved by a primal-dual
  method; here: maximise the share of blinded steps subject to a return of at most a given share below the agent's, with
  a Lagrange multiplier that follows the violation after each rollout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from unstuck.agents import Actor, build_policy, load_agent, save_agent
from unstuck.agents.normalization import Normalization
from unstuck.algorithms import Policy
from unstuck.ppo.fast import FastPPO
from unstuck.tasks.beside import seen, seen_space
from unstuck.vecenvs import make_vec_env
from unstuck.workers import one_thread
from unstuck.workspace import Workspace

BLIND, KEEP = 0, 1
MASK_FILE = "mask.zip"
"""In the folder of the stage `explain`."""
Objective = Literal["statemask", "rice"]
N_ENVS, N_STEPS = 8, 256
EPISODE_WORTH = 10.0
"""StateMask: what a whole episode blinded is worth, and likewise the agent's whole return, before the multiplier."""
MULTIPLIER_RATE = 10.0
"""StateMask: how much the multiplier grows for a violation as large as the agent's whole return."""


@dataclass(frozen=True)
class MaskNetwork:
    """A trained mask network."""

    actor: Actor

    def importance(self, obs_raw: Any) -> np.ndarray:
        """Raw observations (N, *obs_shape) → (N,) the probability that the agent's action is kept."""
        return self.actor.signals(obs_raw)["action_prob"][:, KEEP]


def load_mask(path: Path, space: Workspace) -> MaskNetwork:
    """Read what `train_mask` saved."""
    env = space.make_env()
    agent = load_agent(path)
    binary = spaces.Discrete(2)
    policy = build_policy(agent, env.observation_space, binary)
    env.close()
    return MaskNetwork(Actor(policy, agent.normalization, binary))


@dataclass
class Blinding:
    """Reward for keeping or blinding: the two objectives."""

    objective: Objective
    bonus: float = 0.01
    """RICE's α, in standard deviations of the return."""
    tolerance: float = 0.05
    """StateMask: share of the agent's return that may be lost."""
    agent_return: float = 0.0
    """StateMask: expected return of the agent."""
    agent_length: float = 1.0
    """StateMask: its expected steps in an episode."""
    multiplier: float = 1.0
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        self.scale = max(abs(self.agent_return), 1e-6)

    def rewards(self, task: np.ndarray, normalised: np.ndarray, blinded: np.ndarray) -> np.ndarray:
        """(N,) the task's rewards, the same over the return's deviation, and whether each was blinded → (N,)."""
        if self.objective == "rice":
            return normalised + self.bonus * blinded
        lagrangian = blinded / self.agent_length + self.multiplier * task / self.scale
        return EPISODE_WORTH * lagrangian / (1.0 + self.multiplier)

    def update(self, returns: list[float], mean_reward: float) -> None:
        """After a rollout, with the blinded agent's returns in it; where no episode ended, they are estimated by its
        mean reward in a step and the agent's length of an episode."""
        if self.objective == "rice":
            return
        blinded = float(np.mean(returns)) if returns else mean_reward * self.agent_length
        lost = (self.agent_return - blinded) / self.scale
        self.multiplier = max(0.0, self.multiplier + MULTIPLIER_RATE * (lost - self.tolerance))


class MaskVecEnv(VecEnvWrapper):
    """The task with a frozen agent in it, seen by its mask network: actions are BLIND and KEEP.

    Observations are what the agent sees (normalised as for it); the agent samples its actions, as it does while it is
    refined.
    """

    def __init__(self, venv: VecEnv, agent: Policy, blinding: Blinding, seed: int, gamma: float = 0.99):
        super().__init__(venv, seen_space(venv.observation_space), spaces.Discrete(2))
        self._agent, self._blinding, self._gamma = agent, blinding, gamma
        self._rngs = [np.random.default_rng([seed, 6, i]) for i in range(self.num_envs)]
        self._random = venv.action_space
        self._random.seed(seed)
        self._normalization: Normalization | None = agent.normalization
        self._obs: Any = None
        self._blinded = np.zeros(self.num_envs, dtype=bool)
        self._sums, self._moments = np.zeros(self.num_envs), RunningMeanStd(shape=())
        self.blinded = self.steps = 0
        self.rewards = 0.0
        """Steps blinded, steps, and the sum of the task's rewards since the last `take_means`."""
        self.returns: list[float] = []

    def _seen(self, obs: Any) -> Any:
        obs = seen(obs)
        return self._normalization.apply(obs) if self._normalization is not None else obs

    def reset(self) -> Any:
        self._obs = self.venv.reset()
        return self._seen(self._obs)

    def step_async(self, actions: np.ndarray) -> None:
        self._blinded = np.asarray(actions) == BLIND
        taken = self._agent.act(self._obs, False, self._rngs)
        for i in np.flatnonzero(self._blinded):
            taken[i] = self._random.sample()
        self.venv.step_async(taken)

    def step_wait(self) -> Any:
        self._obs, rewards, dones, infos = self.venv.step_wait()
        rewards = np.asarray(rewards, dtype=np.float64)
        self._sums = self._gamma * self._sums + rewards
        self._moments.update(self._sums)
        self._sums[dones] = 0.0
        for i in np.flatnonzero(dones):
            self.returns.append(float(infos[i]["episode"]["r"]))
            infos[i]["terminal_observation"] = self._seen(_one(infos[i]["terminal_observation"]))[0]
        self.blinded += int(self._blinded.sum())
        self.steps += self.num_envs
        self.rewards += float(rewards.sum())
        normalised = rewards / np.sqrt(self._moments.var + 1e-8)
        mixed = self._blinding.rewards(rewards, normalised, self._blinded.astype(np.float64))
        return self._seen(self._obs), mixed.astype(np.float32), dones, infos

    def take_means(self) -> tuple[float, float]:
        """Share of steps blinded, and the task's mean reward in a step, since the last call."""
        steps = max(1, self.steps)
        means = self.blinded / steps, self.rewards / steps
        self.blinded, self.steps, self.rewards = 0, 0, 0.0
        return means


def _one(obs: Any) -> Any:
    return {k: np.asarray(v)[None] for k, v in obs.items()} if isinstance(obs, dict) else np.asarray(obs)[None]


class _Follow(BaseCallback):
    """Moves the multiplier, and keeps what the manifest tells."""

    def __init__(self, env: MaskVecEnv, blinding: Blinding):
        super().__init__()
        self._env, self._blinding = env, blinding
        self.shares: list[float] = []
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        share, mean_reward = self._env.take_means()
        self.shares.append(share)
        if self._env.returns:
            self.returns.append(float(np.mean(self._env.returns)))
        self._blinding.update(self._env.returns, mean_reward)
        self._env.returns = []


def train_mask(
    space: Workspace, blinding: Blinding, steps: int, seed: int, *,
    n_envs: int = N_ENVS, n_steps: int = N_STEPS,
) -> tuple[PPO, dict[str, Any]]:  # fmt: skip
    """Train a mask network of the run's agent for at least one rollout, and at most `steps` where that is more.

    Returns:
        The PPO whose policy it is, and what came of it: `env_steps`, `blinded` (share of steps, last rollout),
        `return_blinded` (last rollout that ended an episode), `multiplier`.
    """
    import torch

    task = space.config.task
    venv = make_vec_env(space.make_env, task.env, task.env_kwargs, n_envs, space.config.train.backend)
    gamma = float(space.agent.hyperparameters.get("gamma") or 0.99)
    env = MaskVecEnv(venv, space.actor, blinding, seed, gamma)
    follow = _Follow(env, blinding)
    with torch.random.fork_rng(devices=[]), one_thread():
        model = FastPPO(
            _policy(env.observation_space), env, learning_rate=3e-4, n_steps=n_steps, batch_size=256, n_epochs=10,
            gamma=gamma, ent_coef=0.0, seed=seed, device="cpu",
        )  # fmt: skip
        model.learn(max(1, steps // (n_envs * n_steps)) * n_envs * n_steps, callback=follow)
    env.close()
    return model, {
        "env_steps": model.num_timesteps,
        "blinded": round(follow.shares[-1], 4),
        "return_blinded": round(follow.returns[-1], 4) if follow.returns else None,
        "multiplier": round(blinding.multiplier, 4) if blinding.objective == "statemask" else None,
    }


def save_mask(model: PPO, path: Path, normalization: Normalization | None) -> None:
    """Write the network, and the observation statistics it needs beside it."""
    save_agent(model, path, normalization)


def _policy(space: spaces.Space) -> str:
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if len(space.shape or ()) == 3 else "MlpPolicy"
