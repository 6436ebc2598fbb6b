"""What all sections share: rows of the page, repeats that take turns, an untrained agent to train."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
"""`what`, `unit`, `baseline`, `ours`, `ratio` (better than 1 is better for us), `spread` of the ratio over repeats
(lowest, highest), `limit` in the same unit, `note`; and what a section adds for its targets."""


def side_by_side(arms: Mapping[Any, Callable[[], Any]], repeats: int) -> dict[Any, list[Any]]:
    """Arm → what it returned in each repeat. The arms take turns, so that a noisy machine slows all of them alike."""
    found: dict[Any, list[Any]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, arm in arms.items():
            found[name].append(arm())
    return found


def faster(what: str, unit: str, baseline: list[float], ours: list[float], limit: float | None, **more: Any) -> Row:
    """A row of rates (more is better): medians, and the ratio of neighbours in time."""
    ratios = np.array(ours) / np.array(baseline)
    return {
        "what": what, "unit": unit, "baseline": float(np.median(baseline)), "ours": float(np.median(ours)),
        "ratio": float(np.median(ratios)), "spread": [float(ratios.min()), float(ratios.max())], "limit": limit, **more,
    }  # fmt: skip


def rate(call: Callable[[], int], seconds: float) -> float:
    """Steps per second of a function that takes some steps and says how many, called for about `seconds`."""
    call()
    begun, steps = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        steps += call()
    return steps / spent


def workspace(env_id: str, folder: Path) -> Any:
    """A run of an untrained SB3 agent, opened for work: how well it acts does not matter to its speed."""
    from stable_baselines3 import PPO

    from unstuck.config import AgentConfig, RunConfig, TaskConfig
    from unstuck.pipeline import open_run
    from unstuck.tasks import make_env
    from unstuck.workspace import Workspace

    agent = folder / "agent.zip"
    PPO("MlpPolicy", make_env(env_id), seed=0, device="cpu").save(agent)
    config = RunConfig(task=TaskConfig(env=env_id), agent=AgentConfig(agent=str(agent)))
    return Workspace(open_run(config, folder / "run"))
