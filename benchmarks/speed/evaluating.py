"""What evaluation costs beside training: seconds of both stages of one run, as they come.

The task has no end but its time limit, so that each of evaluation's episodes is as long as any can be.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.speed.rows import Row

ENV, STEPS, WORKERS = "HalfCheetah-v5", (100_000, 500_000), 1
SHARE = 0.25
"""Of training's time that evaluation may take."""


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """A row for each budget: seconds of training a seed, and of evaluating it and the agent before."""
    return [_row(steps, [_run(steps, quick) for _ in range(repeats)]) for steps in ((2_048,) if quick else STEPS)]


def _row(steps: int, found: list[tuple[float, float]]) -> Row:
    train, evaluate = (np.array(each) for each in zip(*found, strict=True))
    ratios = evaluate / train
    return {
        "what": f"{ENV}, one seed of {steps:,} steps", "unit": "s", "baseline": float(np.median(train)),
        "ours": float(np.median(evaluate)), "ratio": float(np.median(ratios)),
        "spread": [float(ratios.min()), float(ratios.max())], "limit": None, "target": SHARE,
    }  # fmt: skip


def _run(steps: int, quick: bool) -> tuple[float, float]:
    from stable_baselines3 import PPO

    from unstuck.config import AgentConfig, EvaluateConfig, RunConfig, TaskConfig, TrainConfig
    from unstuck.pipeline import open_run
    from unstuck.stages.evaluate import evaluate
    from unstuck.stages.train import train
    from unstuck.tasks import make_env

    with tempfile.TemporaryDirectory() as name:
        agent = Path(name) / "agent.zip"
        PPO("MlpPolicy", make_env(ENV), seed=0, device="cpu").save(agent)
        config = RunConfig(
            task=TaskConfig(env=ENV, env_kwargs={"max_episode_steps": 50} if quick else {}),
            agent=AgentConfig(agent=str(agent)),
            train=TrainConfig(method="ppo", steps=steps, seeds=(1,), jobs=WORKERS),
            evaluate=EvaluateConfig(episodes=2, before_episodes=2) if quick else EvaluateConfig(),
        )  # fmt: skip
        run = open_run(config, Path(name) / "run")
        seconds = []
        for stage in (train, evaluate):
            begun = time.perf_counter()
            stage(run)
            seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1]
