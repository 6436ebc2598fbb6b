"""Evaluate: agents without guidance, on the task's true reward, deterministic and sampled, with intervals.

A run's score for a seed is the mean over its late checkpoints, because a single final policy is as noisy as most
differences between methods. The interval of an arm is over its seeds; that of the agent before, over episodes.

The best of several checkpoints, seeds and arms is somewhat lucky. So it then plays fresh episodes, paired with the
agent before's: the last test, by which it is handed over or not. A race has a test of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from unstuck.agents import load_agent
from unstuck.algorithms import continued_by, policy_of
from unstuck.contender import MODE, choose, files_of, races_of
from unstuck.numpy_policy import numpy_policy
from unstuck.paired import gain, is_worse
from unstuck.progress import Progress
from unstuck.results import (
    MODES,
    AgentScores,
    ArmScores,
    Charges,
    CheckpointScores,
    LastTest,
    Mode,
    Returns,
    Scores,
    StageKey,
    TrainFacts,
    trainings,
)
from unstuck.rollout import EACH_SEED, LIMIT_HINT, first_of, run_episodes, time_limit
from unstuck.run import Run, alone, digest
from unstuck.workers import end_with_parent, one_thread
from unstuck.workspace import EnvMaker

SCORES = Path("evaluate/scores.json")
"""In the run folder."""
TEST_SEED = 2_000_000
"""Seed of the first episode of the last test, beyond the first one that is scored."""
LEVEL = 0.05
"""One minus the confidence with which it must be better."""
LONGEST = 10_000
"""Steps after which an episode is cut where the task sets no time limit: a good agent may never fall."""


def arms_of(run: Run) -> dict[str, list[TrainFacts]]:
    """Arm → its finished training runs at the configured budget, by seed; the control first."""
    arms: dict[str, list[TrainFacts]] = {}
    for facts in trainings(run).values():
        if facts.budget == run.config.train.steps:
            arms.setdefault(facts.arm, []).append(facts)
    return arms


def fingerprint(run: Run) -> str:
    """What the scores depend on."""
    stages = [str(facts.key) for arm in arms_of(run).values() for facts in arm]
    marks = {n: run.manifest.stages[n].fingerprint for n in stages}
    return digest(run.agent_path, run.vecnormalize_path, run.config.task, run.config.evaluate, marks, EACH_SEED)


@dataclass(frozen=True)
class _Scoring:
    """One policy to score in one mode."""

    agent: Path
    vecnormalize: Path | None
    mode: Mode
    episodes: int
    key: StageKey | None = None
    """Of the training run; None for the agent before."""
    trained: int = 0

    @property
    def later(self) -> int:
        return 0 if self.key is None else episodes_of(self.key.seed or 0)


@alone
def evaluate(run: Run, progress: Progress | None = None) -> Scores:
    """Score the agent before and every trained arm; write RUN/evaluate/scores.json and return it.

    Raises:
        RunError: if what training left is damaged.
    """
    from joblib import Parallel, delayed

    progress = progress or Progress.silent()
    mark = fingerprint(run)
    if run.done("evaluate", mark):
        return Scores.read(run.root / SCORES)
    jobs = _jobs(run)
    returns: dict[_Scoring, tuple[float, ...]] = {}
    cut = 0
    with run.stage("evaluate", mark) as draft, progress.task("evaluate", len(jobs)) as bar:
        parallel = Parallel(n_jobs=min(run.config.train.jobs or os.cpu_count() or 1, len(jobs)), return_as="generator")
        work = (
            delayed(episode_returns)(
                str(run.root), j.mode, str(j.agent), str(j.vecnormalize or ""), j.episodes, j.later
            )
            for j in jobs
        )
        for job, (found, steps, cuts) in zip(jobs, parallel(work), strict=True):
            returns[job] = tuple(found)
            draft.env_steps += steps
            cut += cuts
            bar.advance()
        scores, steps = last_test(run, _scores(run, returns))
        draft.env_steps += steps
        scores.write(draft.folder / "scores.json")
    if cut:
        progress.say(f"evaluate: {cut} episodes were cut after {LONGEST} steps; {run.config.task.env}: {LIMIT_HINT}")
    return scores


def _jobs(run: Run) -> list[_Scoring]:
    config = run.config.evaluate
    jobs = [_Scoring(run.agent_path, run.vecnormalize_path, mode, config.before_episodes) for mode in MODES]
    for facts in (facts for arm in arms_of(run).values() for facts in arm):
        run.need(str(facts.key))
        folder = run.root / str(facts.key)
        for point in TrainFacts.read(folder / "info.json").checkpoints:
            for mode in MODES:
                jobs.append(_Scoring(folder / point.file, None, mode, config.episodes, facts.key, point.trained))
    return jobs


def episodes_of(seed: int) -> int:
    """By how much the episodes in which a training is scored are beyond those of the agent before. Each seed has
    its own: else intervals over seeds would say nothing of what the choice of a few episodes does, and least where one
    agent is what all seeds come to."""
    return first_of(0, seed)


@one_thread()
def episode_returns(
    root: str, mode: str, path: str, vecnormalize: str, episodes: int, later: int = 0
) -> tuple[list[float], int, int]:
    """In a worker process: the returns of `episodes` episodes, by seed, the environment steps they took, and how
    many were cut. `later` is by how much their seeds are beyond those that are scored."""
    end_with_parent()
    run = Run(root)
    make_env = EnvMaker(run.config.task)
    envs = [make_env() for _ in range(min(8, episodes))]
    # Agents that training wrote need no trust; only the one that was given may.
    trust = run.config.agent.trust
    agent = load_agent(Path(path), vecnormalize=Path(vecnormalize) if vecnormalize else None, trust=trust)
    actor = policy_of(agent, envs[0].observation_space, envs[0].action_space)
    player, first = numpy_policy(actor) or actor, run.config.evaluate.seed + later
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


def _scores(run: Run, returns: dict[_Scoring, tuple[float, ...]]) -> Scores:
    points: dict[tuple[StageKey | None, int], dict[str, tuple[float, ...]]] = {}
    for job, found in returns.items():
        points.setdefault((job.key, job.trained), {})[job.mode] = found
    seeds: dict[StageKey, list[CheckpointScores]] = {}
    for (key, trained), by_mode in points.items():
        if key is not None:
            seeds.setdefault(key, []).append(CheckpointScores(trained=trained, **by_mode))
    arms = {
        arm: ArmScores(
            charged=Charges.mean([f.charged for f in each]),
            seeds={f.seed: AgentScores(checkpoints=tuple(seeds[f.key])) for f in each},
        )
        for arm, each in arms_of(run).items()
    }
    algorithm = continued_by(load_agent(run.agent_path, trust=run.config.agent.trust))
    return Scores(env_id=run.config.task.env, algorithm=algorithm, before=Returns(**points[None, 0]), arms=arms)


def last_test(run: Run, scores: Scores) -> tuple[Scores, int]:
    """The scores with the last test of the best of what was trained, and the environment steps that it took: as many
    pairs as the agent before has scored episodes. Untested stays what a race hands over, which has a test of its own,
    and what does not return more than the agent before, because that is not handed over anyway."""
    found = choose(scores) if scores.arms else None
    if found is None or found.seed is None or races_of(run, scores):
        return scores, 0
    count, taken, returns = run.config.evaluate.before_episodes, 0, []
    for agent, statistics in (files_of(run, found), (run.agent_path, run.vecnormalize_path)):
        held, steps, _ = episode_returns(str(run.root), MODE, str(agent), str(statistics or ""), count, TEST_SEED)
        returns.append(tuple(held))
        taken += steps
    point = next(c for c in scores.arms[found.arm].seeds[found.seed].checkpoints if c.trained == found.trained)
    other = next(mode for mode in MODES if mode != MODE)
    first = run.config.evaluate.seed + TEST_SEED
    test = LastTest(
        arm=found.arm, seed=found.seed, trained=found.trained, mode=MODE, level=LEVEL,
        seeds=tuple(range(first, first + count)), returns=returns[0], before=returns[1],
        over_before=gain(returns[0], returns[1], LEVEL),
        worse=is_worse(point.of(other), scores.before.of(other), LEVEL),
    )  # fmt: skip
    return scores.model_copy(update={"test": test}), taken
