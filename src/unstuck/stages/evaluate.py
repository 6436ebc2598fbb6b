"""Evaluate: agents without guidance, on the task's true reward, deterministic and sampled, with intervals.

A run's score for a seed is the mean over its late checkpoints, because a single final policy is as noisy as most
differences between methods. The interval of an arm is over its seeds; that of the agent before, over episodes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.agents import Actor, build_policy, load_agent
from unstuck.numpy_policy import numpy_policy
from unstuck.progress import Progress
from unstuck.rollout import LIMIT_HINT, run_episodes, time_limit
from unstuck.run import Run, digest, read_json, write_json
from unstuck.stats import Interval, difference_interval, mean_interval
from unstuck.workers import end_with_parent, one_thread
from unstuck.workspace import EnvMaker

MODES = ("deterministic", "sampled")
LONGEST = 10_000
"""Steps after which an episode is cut where the task sets no time limit: a good agent may never fall."""


def arms_of(run: Run) -> dict[str, list[str]]:
    """Arm → its finished training stages at the configured budget, by seed."""
    arms: dict[str, list[str]] = {}
    for name, record in run.manifest.stages.items():
        if name.startswith("train/") and record.facts.get("budget") == run.config.train.steps:
            arms.setdefault(record.facts["arm"], []).append(name)
    return {a: sorted(names, key=lambda n: int(n.rsplit("/", 1)[1])) for a, names in arms.items()}


def fingerprint(run: Run) -> str:
    """What the scores depend on."""
    stages = [n for names in arms_of(run).values() for n in names]
    marks = {n: run.manifest.stages[n].fingerprint for n in stages}
    return digest(run.agent_path, run.vecnormalize_path, run.config.task, run.config.evaluate, marks)


def evaluate(run: Run, progress: Progress | None = None) -> dict[str, Any]:
    """Score the agent before and every trained arm; write RUN/evaluate/scores.json and return it."""
    from joblib import Parallel, delayed

    progress = progress or Progress.silent()
    mark = fingerprint(run)
    if run.done("evaluate", mark):
        return read_json(run.root / "evaluate" / "scores.json")
    config = run.config.evaluate
    jobs: list[tuple[str, str, str, int, int]] = []
    before = str(run.agent_path), str(run.vecnormalize_path or "")
    jobs += [("before", mode, *before, config.before_episodes) for mode in MODES]  # type: ignore[misc]
    for names in arms_of(run).values():
        for name in names:
            for steps, file in read_json(run.root / name / "info.json")["checkpoints"]:
                path = run.root / name / file
                for mode in MODES:
                    jobs.append((f"{name}:{steps}", mode, str(path), "", config.episodes))  # type: ignore[arg-type]
    results: dict[tuple[str, str], list[float]] = {}
    cut = 0
    with run.stage("evaluate", mark) as draft, progress.task("evaluate", len(jobs)) as bar:
        parallel = Parallel(n_jobs=min(run.config.train.jobs or os.cpu_count() or 1, len(jobs)), return_as="generator")
        work = (delayed(episode_returns)(str(run.root), mode, path, vec, n) for _, mode, path, vec, n in jobs)
        for (label, mode, *_), (returns, steps, cuts) in zip(jobs, parallel(work), strict=True):
            results[label, mode] = returns
            draft.env_steps += steps
            cut += cuts
            bar.advance()
        scores = _scores(run, results)
        write_json(draft.folder / "scores.json", scores)
    if cut:
        progress.say(f"evaluate: {cut} episodes were cut after {LONGEST} steps; {run.config.task.env}: {LIMIT_HINT}")
    return scores


@one_thread()
def episode_returns(root: str, mode: str, path: str, vecnormalize: str, episodes: int) -> tuple[list[float], int, int]:
    """In a worker process: the returns of `episodes` episodes, by seed, the environment steps they took, and how
    many were cut."""
    end_with_parent()
    run = Run(root)
    make_env = EnvMaker(run.config.task)
    envs = [make_env() for _ in range(min(8, episodes))]
    # Agents that training wrote need no trust; only the one that was given may.
    trust = run.config.agent.trust
    agent = load_agent(Path(path), vecnormalize=Path(vecnormalize) if vecnormalize else None, trust=trust)
    policy = build_policy(agent, envs[0].observation_space, envs[0].action_space)
    actor = Actor(policy, agent.normalization, envs[0].action_space)
    player, first = numpy_policy(actor) or actor, run.config.evaluate.seed
    traces = run_episodes(
        envs, player, range(first, first + episodes), deterministic=mode == "deterministic", keep=False,
        max_length=None if time_limit(envs[0]) else LONGEST,
    )  # fmt: skip
    found = {trace.seed: (trace.total_reward, len(trace), trace.cut) for trace in traces}
    for env in envs:
        env.close()
    return (
        [found[s][0] for s in sorted(found)],
        sum(n for _, n, _ in found.values()),
        sum(c for *_, c in found.values()),
    )


def _scores(run: Run, results: dict[tuple[str, str], list[float]]) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    for arm, names in arms_of(run).items():
        charged = _charged([run.manifest.stages[name].facts["charged"] for name in names])
        seeds: dict[str, Any] = {}
        for name in names:
            points = read_json(run.root / name / "info.json")["checkpoints"]
            seeds[name.rsplit("/", 1)[1]] = {
                "checkpoints": [{"steps": s, **{m: results[f"{name}:{s}", m] for m in MODES}} for s, _ in points]
            }
        arms[arm] = {"charged": charged, "seeds": seeds}
    before = {mode: results["before", mode] for mode in MODES}
    summary: dict[str, Any] = {
        "before": {m: _as_dict(mean_interval(before[m])) for m in MODES},
        "arms": {},
        "difference": {},
    }
    for arm, data in arms.items():
        per_seed = {m: per_seed_scores(data, m) for m in MODES}
        summary["arms"][arm] = {m: _as_dict(mean_interval(x)) | {"per_seed": x} for m, x in per_seed.items()}
        if arm != "ppo" and "ppo" in arms:
            summary["difference"][arm] = {
                m: _as_dict(difference_interval(per_seed[m], per_seed_scores(arms["ppo"], m))) for m in MODES
            }
    return {"env_id": run.config.task.env, "before": before, "arms": arms, "summary": summary}


def _charged(seeds: list[dict[str, int]]) -> dict[str, int]:
    """Steps charged to one training run: the same for all seeds, but for later rounds; then their mean."""
    return {stage: round(sum(c.get(stage, 0) for c in seeds) / len(seeds)) for stage in seeds[0]}


def per_seed_scores(arm: dict[str, Any], mode: str) -> list[float]:
    """Mean return over all episodes of all late checkpoints, for each seed."""
    return [float(np.mean([c[mode] for c in seed["checkpoints"]])) for seed in arm["seeds"].values()]


def _as_dict(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
