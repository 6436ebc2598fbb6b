"""The best of what was trained, by the scores of evaluation: what is tested last, and then handed over."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from unstuck.results import BEFORE, CONTROL, RACE, AgentScores, Mode, Scores, StageKey, TrainFacts, trainings
from unstuck.run import Run

MODE: Mode = "deterministic"


class Chosen(NamedTuple):
    """The agent to use."""

    arm: str
    seed: int | None = None
    trained: int = 0


def subject_of(run: Run, scores: Scores) -> str:
    """The arm that the run is about: the configured one, else a guided one, else PPO continued."""
    wanted = run.config.train.name or run.config.train.method
    return wanted if wanted in scores.arms else (scores.guided or [CONTROL])[0]


def races_of(run: Run, scores: Scores) -> list[tuple[TrainFacts, Path]]:
    """The subject's races at the configured budget, and where what they came to lies."""
    arm = subject_of(run, scores)
    held = [(facts, run.root / str(key) / RACE) for key, facts in trainings(run).items() if key.arm == arm]
    return [(facts, path) for facts, path in held if facts.budget == run.config.train.steps and path.exists()]


def choose(scores: Scores) -> Chosen:
    """The agent to use, as the head of `unstuck.stages.handover` says, before its test."""
    means = {arm: scores.interval(arm, MODE).mean for arm in scores.arms}
    best = max(means, key=lambda arm: (means[arm], arm != CONTROL))
    if means[best] <= scores.interval_before(MODE).mean:
        return Chosen(BEFORE)
    seeds = scores.arms[best].seeds
    seed = max(sorted(seeds), key=lambda s: seeds[s].score(MODE))
    return Chosen(best, seed, _best_checkpoint(seeds[seed]))


def _best_checkpoint(agent: AgentScores) -> int:
    """Environment steps that it was trained for."""
    return max(agent.checkpoints, key=lambda c: (float(np.mean(c.of(MODE))), c.trained)).trained


def files_of(run: Run, found: Chosen) -> tuple[Path, Path | None]:
    """Its zip, and its observation statistics if it has any."""
    if found.arm == BEFORE:
        return run.agent_path, run.vecnormalize_path
    key = StageKey("train", found.arm, found.seed)
    facts = trainings(run)[key]
    file = next(c.file for c in reversed(facts.checkpoints) if c.trained == found.trained)
    agent = run.root / str(key) / file
    statistics = agent.with_suffix(".vecnormalize.pkl")
    return agent, statistics if statistics.exists() else None
