"""Agents that are stuck as published ones of A2C are: in Box2D trained with settings like RL Zoo's for that algorithm,
elsewhere with Stable-Baselines3's defaults but for what stands below, and for fewer steps.

    python -m benchmarks.a2c --env LunarLanderContinuous-v3 BipedalWalker-v3 --out agents

Nothing of Unstuck takes part. Leaves OUT/ENV/agent.zip with agent.vecnormalize.pkl beside it, and prints a line of JSON
for each: deterministic and sampled return of twenty episodes. From two minutes (Pendulum) to twenty on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks.afresh import mean_and_std
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

EPISODES = 20
BOX2D: dict[str, Any] = {
    "ent_coef": 0.0, "use_sde": True, "n_steps": 8, "gae_lambda": 0.9, "vf_coef": 0.4, "max_grad_norm": 0.5,
    "policy_kwargs": {"log_std_init": -2, "ortho_init": False},
}  # fmt: skip
"""As of RL Zoo's A2C agents of Box2D with continuous actions; that of BipedalWalkerHardcore has 0.001 for entropy."""


@dataclass(frozen=True)
class Recipe:
    """How an agent is trained."""

    steps: int
    envs: int = 4
    falling: float | None = None
    """Learning rate at first, from which it falls to zero in a straight line; None: as the settings say."""
    settings: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "LunarLanderContinuous-v3": Recipe(400_000, falling=7e-4, settings=BOX2D),
    "BipedalWalker-v3": Recipe(500_000, envs=16, falling=9.6e-4, settings=BOX2D),
    "Pendulum-v1": Recipe(100_000, settings={"gamma": 0.9}),
    "InvertedDoublePendulum-v5": Recipe(150_000, settings={"learning_rate": 2e-3}),
    "Ant-v5": Recipe(400_000),
}


def train(env_id: str, recipe: Recipe, seed: int, out: Path) -> dict[str, Any]:
    """Train one agent, write it and score it."""
    settings = dict(recipe.settings)
    if (first := recipe.falling) is not None:
        settings["learning_rate"] = lambda left: first * left
    env = make_vec_env(env_id, n_envs=recipe.envs, seed=seed)
    env = VecNormalize(env, gamma=settings.get("gamma", 0.99))
    model = A2C("MlpPolicy", env, seed=seed, device="cpu", **settings)
    model.learn(recipe.steps)
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "agent.zip")
    env.save(str(out / "agent.vecnormalize.pkl"))
    env.training, env.norm_reward = False, False
    found: dict[str, Any] = {"env": env_id, "steps": recipe.steps, "seed": seed}
    for name, sure in (("return", True), ("sampled", False)):
        found[name], found[f"{name}_std"] = mean_and_std(model, env, EPISODES, sure)
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="+", choices=sorted(RECIPES), default=sorted(RECIPES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for env_id in arguments.env:
        found = train(env_id, RECIPES[env_id], arguments.seed, arguments.out / env_id)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
