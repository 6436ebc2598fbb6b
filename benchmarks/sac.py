"""What a user comes to who leaves the stuck agent alone and trains SAC afresh, with Stable-Baselines3's defaults.

    python -m benchmarks.sac --env HalfCheetah-v5 --steps 100000 --seeds 1 2

Nothing of Unstuck takes part in training. A line of JSON for each seed goes to standard output: deterministic and
sampled return of ten episodes at the end, and every 10,000 steps the mean return of the last 20 training episodes.
Half an hour for 100,000 steps on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import gymnasium as gym
import torch
from benchmarks.afresh import EPISODES, FIRST_SEED, Curve, mean_and_std
from stable_baselines3 import SAC
from stable_baselines3.common.monitor import Monitor

EVERY = 10_000


def run(env_id: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and score once."""
    model, curve = SAC("MlpPolicy", gym.make(env_id), seed=seed, device="cpu"), Curve(EVERY)
    begun = time.perf_counter()
    model.learn(steps, callback=curve)
    seconds = time.perf_counter() - begun
    found: dict[str, Any] = {"seed": seed}
    for name, sure in (("return", True), ("sampled", False)):
        env = Monitor(gym.make(env_id))
        env.reset(seed=FIRST_SEED)
        found[name], found[f"{name}_std"] = mean_and_std(model, env, EPISODES, sure)
    return {**found, "curve": curve.points, "seconds": round(seconds)}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        found = run(arguments.env, seed, arguments.steps)
        print(json.dumps({"env": arguments.env, "steps": arguments.steps, **found}), flush=True)


if __name__ == "__main__":
    main()
