"""Train PPO on the crane until it is stuck: `python train.py`, about a minute, writes crane-stuck.zip."""

from __future__ import annotations

import sys

import crane  # noqa: F401  (registers Crane-v0)
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env


def main(steps: int = 40_000) -> None:
    """Plain PPO with Stable-Baselines3's own settings."""
    torch.set_num_threads(1)
    agent = PPO("MlpPolicy", make_vec_env("Crane-v0", n_envs=8, seed=0), n_steps=256, seed=0, device="cpu")
    agent.learn(steps)
    agent.save("crane-stuck.zip")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
