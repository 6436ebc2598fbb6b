"""How much of training afresh is its recipe: one training run of a new network for each seed, scored in ten episodes.

    python -m benchmarks.afresh agent.zip --env Walker2d-v5 --steps 300000 --seeds 1 2 --set gae_lambda=1.0
    python -m benchmarks.afresh agent.zip --env Walker2d-v5 --set batch_size=32 --set norm_reward=1

Of the agent only its shape, its discount and its observation statistics are taken. A line of JSON for each seed goes to
standard output: deterministic return, its standard deviation over episodes, and every 100,000 steps the mean return of
the last 20 training episodes, which are sampled.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from unstuck.agents import Agent, load_agent, to_ppo
from unstuck.algorithms.training import normalized
from unstuck.ppo.fast import FastPPO
from unstuck.treatments import afresh
from unstuck.vecenvs import make_vec_env

EPISODES, FIRST_SEED, EVERY = 10, 10_000, 100_000
RECIPE: dict[str, float] = {
    "learning_rate": 3e-4, "n_envs": 16, "n_steps": 128, "batch_size": 64, "n_epochs": 10, "clip_range": 0.2,
    "gae_lambda": 0.95, "running": 0, "norm_reward": 0, "falling": 0,
}  # fmt: skip
"""What a race trains afresh with. running: observation statistics of its own, that follow training; norm_reward: the
scale of rewards likewise (with running); falling: the learning rate falls to zero."""


class Curve(BaseCallback):
    """Every so many steps the mean return of the last 20 training episodes."""

    def __init__(self, every: int = EVERY) -> None:
        super().__init__()
        self._every = every
        self.returns: list[float] = []
        self.points: list[tuple[int, int]] = []

    def _on_step(self) -> bool:
        self.returns += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps // self._every > len(self.points) and self.returns:
            self.points.append((self.num_timesteps, round(float(np.mean(self.returns[-20:])))))


def run(agent: Agent, env_id: str, seed: int, steps: int, recipe: dict[str, float]) -> dict[str, Any]:
    """Train and score once."""
    venv: VecEnv = make_vec_env(lambda: gym.make(env_id), env_id, {}, int(recipe["n_envs"]), "auto", 1)
    new = afresh(agent, None, venv.observation_space, venv.action_space, seed)
    if recipe["running"] or recipe["norm_reward"]:
        gamma = float(agent.hyperparameters.get("gamma") or 0.99)
        env: VecEnv = VecNormalize(venv, norm_reward=bool(recipe["norm_reward"]), gamma=gamma)
    else:
        env = normalized(venv, new)
    whole = {name: int(recipe[name]) for name in ("n_steps", "batch_size", "n_epochs")}
    rate = recipe["learning_rate"]
    model = to_ppo(
        new, env, ent_coef=0.0, seed=seed, learning_rate=(lambda left: rate * left) if recipe["falling"] else rate,
        clip_range=recipe["clip_range"],
        gae_lambda=recipe["gae_lambda"], ppo_class=FastPPO, **whole,
    )  # fmt: skip
    curve, begun = Curve(), time.perf_counter()
    model.learn(steps, callback=curve)
    seconds = time.perf_counter() - begun
    returns = _score(model, env, env_id)
    venv.close()
    mean, spread = round(float(returns.mean())), round(float(returns.std()))
    return {"seed": seed, "return": mean, "std": spread, "curve": curve.points, "seconds": round(seconds)}


def _score(model: FastPPO, trained: VecEnv, env_id: str) -> np.ndarray:
    venv: VecEnv = make_vec_env(lambda: gym.make(env_id), env_id, {}, EPISODES, "gymnasium", 1)
    venv.seed(FIRST_SEED)
    if isinstance(trained, VecNormalize):
        venv = VecNormalize(venv, training=False, norm_obs=trained.norm_obs, norm_reward=False)
        venv.obs_rms, venv.epsilon, venv.clip_obs = trained.obs_rms, trained.epsilon, trained.clip_obs
    returns, _ = evaluate_policy(model, venv, EPISODES, return_episode_rewards=True)
    venv.close()
    return np.asarray(returns)


def mean_and_std(model: Any, env: Any, episodes: int, deterministic: bool) -> tuple[float, float]:
    """Mean return of so many episodes, and their standard deviation."""
    returns, _ = evaluate_policy(model, env, episodes, deterministic=deterministic, return_episode_rewards=True)
    return round(float(np.mean(returns)), 2), round(float(np.std(returns)), 2)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", help="a zip, or a folder of RL Zoo")
    parser.add_argument("--env", required=True)
    parser.add_argument("--vecnormalize", help="the agent's statistics, where they do not lie beside it")
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help=", ".join(RECIPE))
    arguments = parser.parse_args()
    changes = dict(each.split("=", 1) for each in arguments.set)
    if unknown := set(changes) - set(RECIPE):
        parser.error(f"no such setting: {', '.join(sorted(unknown))}")
    recipe = RECIPE | {name: float(value) for name, value in changes.items()}
    torch.set_num_threads(1)
    agent = load_agent(arguments.agent, vecnormalize=arguments.vecnormalize)
    for seed in arguments.seeds:
        found = run(agent, arguments.env, seed, arguments.steps, recipe)
        print(json.dumps({"env": arguments.env, "steps": arguments.steps, "set": changes, **found}), flush=True)


if __name__ == "__main__":
    main()
