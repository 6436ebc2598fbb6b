"""What evaluation costs beside training: seconds of both stages of one run, as they come.

The task has no end but its time limit, so that each of evaluation's episodes is as long as any can be.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed import machine
from benchmarks.speed.rows import Row, side_by_side

ENV, STEPS, DEFAULT_STEPS = "HalfCheetah-v5", (100_000, 500_000), 500_000
SHARE = 0.25
"""Of training's time that evaluation may take."""


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """Seconds of training, and of evaluation: of one seed and the agent before on one core for each budget, and of what
    `unstuck refine` does by default."""
    runs = {f"{ENV}, one seed of {n:,} steps": partial(_one, n, quick) for n in ((2_048,) if quick else STEPS)}
    steps = 12_288 if quick else DEFAULT_STEPS
    # Once: where SAC takes part, a race of so many steps takes minutes, beside which evaluation is next to nothing.
    whole = {
        f"{ENV}, the default command: a race of {steps:,} steps and PPO continued, all cores, once": partial(
            _default, steps, quick
        )
    }
    found = {**side_by_side(runs, repeats), **side_by_side(whole, 1)}
    return [_row(what, rows) for what, rows in found.items()]


def _row(what: str, found: list[tuple[float, float, float, int]]) -> Row:
    train, evaluate, limit, steps = (np.array(each) for each in zip(*found, strict=True))
    ratios = evaluate / train
    return {
        "what": what, "unit": "s", "baseline": float(np.median(train)),
        "ours": float(np.median(evaluate)), "ratio": float(np.median(ratios)),
        "spread": [float(ratios.min()), float(ratios.max())], "limit": float(np.median(limit)), "target": SHARE,
        "note": f"{int(np.median(steps)):,} steps are evaluated",
    }  # fmt: skip


def _one(steps: int, quick: bool) -> tuple[float, float, float, int]:
    """One training without guidance, in this process."""
    return _seconds({"method": "ppo", "steps": steps, "seeds": (1,), "jobs": 1}, (), 1, quick)


def _default(steps: int, quick: bool) -> tuple[float, float, float, int]:
    """A race without a coach."""
    from unstuck.stages.collect import collect
    from unstuck.stages.explain import explain
    from unstuck.stages.verify import verify

    before = (collect, explain, verify)
    return _seconds({"method": "race", "steps": steps, "jobs": int(quick)}, before, machine.cores(), quick)


def _seconds(
    settings: dict[str, Any], before: tuple[Any, ...], cores: int, quick: bool
) -> tuple[float, float, float, int]:
    """Of training, of evaluation, and of `mj_step` for as many steps as are evaluated, on so many cores; and these."""
    from stable_baselines3 import PPO

    from unstuck.config import AgentConfig, EvaluateConfig, RunConfig, TaskConfig, TrainConfig
    from unstuck.pipeline import open_run
    from unstuck.rounds import train
    from unstuck.stages.evaluate import evaluate
    from unstuck.tasks import make_env

    with tempfile.TemporaryDirectory() as name:
        agent = Path(name) / "agent.zip"
        PPO("MlpPolicy", make_env(ENV), seed=0, device="cpu").save(agent)
        config = RunConfig(
            task=TaskConfig(env=ENV, env_kwargs={"max_episode_steps": 50} if quick else {}),
            agent=AgentConfig(agent=str(agent)),
            train=TrainConfig(**settings),
            evaluate=EvaluateConfig(episodes=2, before_episodes=2) if quick else EvaluateConfig(),
        )  # fmt: skip
        run = open_run(config, Path(name) / "run", named=set(settings))
        for stage in before:
            stage(run)
        seconds = []
        for stage in (train, evaluate):
            begun = time.perf_counter()
            stage(run)
            seconds.append(time.perf_counter() - begun)
        steps = run.record("evaluate").env_steps
    return seconds[0], seconds[1], steps * machine.raw_step(ENV) / cores, steps
