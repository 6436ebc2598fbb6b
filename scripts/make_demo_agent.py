"""Trains the demo's stuck agent: PPO on MountainCar-v0, 60k steps with sensible settings, never at the flag.

    python scripts/make_demo_agent.py src/unstuck/demo/mountaincar-stuck

Every episode that it has seen returned -200, so its advantages are noise and more PPO does not help.
"""

import sys

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize


def main(stem: str) -> None:
    torch.set_num_threads(1)
    venv = VecNormalize(make_vec_env("MountainCar-v0", 16, seed=3), norm_reward=False)
    model = PPO(
        "MlpPolicy", venv, n_steps=128, batch_size=256, n_epochs=10, gamma=0.99, ent_coef=0.0, seed=3, device="cpu"
    )  # fmt: skip
    model.learn(60_000)
    model.save(stem)
    venv.save(stem + ".vecnormalize.pkl")


if __name__ == "__main__":
    main(sys.argv[1])
