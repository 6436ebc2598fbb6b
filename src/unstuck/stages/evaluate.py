"""Evaluate: agents without guidance, on the task's true reward, deterministic and sampled, with intervals.

A run's score for a seed is the mean over its late checkpoints, because a single final policy is as noisy as most
differences between methods. The interval of an arm is over its seeds; that of the agent before, over episodes.

The best of several checkpoints, seeds and arms is somewhat lucky. So it then plays fresh episodes, paired with the
agent before's: the last test, by which it is handed over or not. A race has a test of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from unstuck.agents import load_agent
from unstuck.algorithms import continued_by
from unstuck.contender import MODE, choose, files_of, races_of
from unstuck.paired import gain, is_worse
from unstuck.playing import LONGEST, Arena, Played
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
from unstuck.rollout import EACH_SEED, LIMIT_HINT, first_of
from unstuck.run import Run, alone, digest
from unstuck.workers import end_with_parent, one_thread
from unstuck.workspace import EnvMaker

SCORES = Path("evaluate/scores.json")
"""In the run folder."""
TEST_SEED = 2_000_000
"""Seed of the first episode of the last test, beyond the first one that is scored."""
LEVEL = 0.05
"""One minus the confidence with which it must be better."""


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
class Scoring:
    """An agent that is to be scored."""

    agent: Path
    vecnormalize: Path | None
    episodes: int
    later: int = 0
    """By how much the seeds of its episodes are beyond the first that is scored."""
    modes: tuple[Mode, ...] = MODES
    key: StageKey | None = None
    """Of the training run; None for the agent before."""
    trained: int = 0


@alone
def evaluate(run: Run, progress: Progress | None = None) -> Scores:
    """Score the agent before and every trained arm; write RUN/evaluate/scores.json and return it.

    Raises:
        RunError: if what training left is damaged.
    """
    progress = progress or Progress.silent()
    mark = fingerprint(run)
    if run.done("evaluate", mark):
        return Scores.read(run.root / SCORES)
    scorings = _scorings(run)
    returns: dict[Scoring, dict[Mode, Played]] = {}
    with run.stage("evaluate", mark) as draft, progress.task("evaluate", len(scorings)) as bar:
        for scoring, played in _played(run, scorings):
            returns[scoring] = played
            bar.advance()
        scores, steps = last_test(run, _scores(run, returns))
        each = [p for played in returns.values() for p in played.values()]
        draft.env_steps += sum(p.steps for p in each) + steps
        scores.write(draft.folder / "scores.json")
    cut = sum(p.cut for p in each)
    if cut:
        progress.say(f"evaluate: {cut} episodes were cut after {LONGEST} steps; {run.config.task.env}: {LIMIT_HINT}")
    return scores


def _scorings(run: Run) -> list[Scoring]:
    """The agent before, and the checkpoints of each training one after the other."""
    config = run.config.evaluate
    found = [Scoring(run.agent_path, run.vecnormalize_path, config.before_episodes)]
    for facts in (facts for arm in arms_of(run).values() for facts in arm):
        run.need(str(facts.key))
        folder, later = run.root / str(facts.key), episodes_of(facts.seed)
        found += [
            Scoring(folder / p.file, None, config.episodes, later, key=facts.key, trained=p.trained)
            for p in TrainFacts.read(folder / "info.json").checkpoints
        ]
    return found


def _played(run: Run, scorings: Sequence[Scoring]) -> Iterator[tuple[Scoring, dict[Mode, Played]]]:
    """What comes of them, in their order. The checkpoints of a training share environments in one process, unless
    there are more processes than trainings; and all of them do where there is only this process."""
    from joblib import Parallel, delayed

    workers = run.config.train.jobs or os.cpu_count() or 1
    if workers == 1:
        yield from zip(scorings, _one_by_one(str(run.root), scorings), strict=True)
        return
    groups = [list(group) for _, group in groupby(scorings, key=lambda scoring: scoring.key)]
    if workers > len(groups):
        groups = [[scoring] for scoring in scorings]
    parallel = Parallel(n_jobs=min(workers, len(groups)), return_as="generator")
    done = parallel(delayed(play_all)(str(run.root), group) for group in groups)
    for group, found in zip(groups, done, strict=True):
        yield from zip(group, found, strict=True)


def episodes_of(seed: int) -> int:
    """By how much the episodes in which a training is scored are beyond those of the agent before. Each seed has
    its own: else intervals over seeds would say nothing of what the choice of a few episodes does, and least where one
    agent is what all seeds come to."""
    return first_of(0, seed)


def play_all(root: str, scorings: Sequence[Scoring]) -> list[dict[Mode, Played]]:
    """In a worker process: what comes of the episodes of each, in the same environments."""
    end_with_parent()
    return list(_one_by_one(root, scorings))


def _one_by_one(root: str, scorings: Sequence[Scoring]) -> Iterator[dict[Mode, Played]]:
    run = Run(root)
    # Agents that training wrote need no trust; only the one that was given may.
    trust, seed = run.config.agent.trust, run.config.evaluate.seed
    with one_thread(), Arena(EnvMaker(run.config.task)) as arena:
        for s in scorings:
            agent = load_agent(s.agent, vecnormalize=s.vecnormalize, trust=trust)
            yield arena.play(agent, range(seed + s.later, seed + s.later + s.episodes), s.modes)


def _scores(run: Run, returns: dict[Scoring, dict[Mode, Played]]) -> Scores:
    seeds: dict[StageKey, list[CheckpointScores]] = {}
    before: dict[Mode, tuple[float, ...]] = {}
    for scoring, played in returns.items():
        by_mode = {mode: p.returns for mode, p in played.items()}
        if scoring.key is None:
            before = by_mode
        else:
            seeds.setdefault(scoring.key, []).append(CheckpointScores(trained=scoring.trained, **by_mode))
    arms = {
        arm: ArmScores(
            charged=Charges.mean([f.charged for f in each]),
            seeds={f.seed: AgentScores(checkpoints=tuple(seeds[f.key])) for f in each},
        )
        for arm, each in arms_of(run).items()
    }
    algorithm = continued_by(load_agent(run.agent_path, trust=run.config.agent.trust))
    return Scores(env_id=run.config.task.env, algorithm=algorithm, before=Returns(**before), arms=arms)


def last_test(run: Run, scores: Scores) -> tuple[Scores, int]:
    """The scores with the last test of the best of what was trained, and the environment steps that it took: as many
    pairs as the agent before has scored episodes. Untested stays what a race hands over, which has a test of its own,
    and what does not return more than the agent before, because that is not handed over anyway."""
    found = choose(scores) if scores.arms else None
    if found is None or found.seed is None or races_of(run, scores):
        return scores, 0
    count = run.config.evaluate.before_episodes
    pair = [
        Scoring(*files_of(run, found), count, TEST_SEED, (MODE,), StageKey("train", found.arm, found.seed)),
        Scoring(run.agent_path, run.vecnormalize_path, count, TEST_SEED, (MODE,)),
    ]
    ours, before = (played[MODE] for _, played in _played(run, pair))
    point = next(c for c in scores.arms[found.arm].seeds[found.seed].checkpoints if c.trained == found.trained)
    other = next(mode for mode in MODES if mode != MODE)
    first = run.config.evaluate.seed + TEST_SEED
    test = LastTest(
        arm=found.arm, seed=found.seed, trained=found.trained, mode=MODE, level=LEVEL,
        seeds=tuple(range(first, first + count)), returns=ours.returns, before=before.returns,
        over_before=gain(ours.returns, before.returns, LEVEL),
        worse=is_worse(point.of(other), scores.before.of(other), LEVEL),
    )  # fmt: skip
    return scores.model_copy(update={"test": test}), ours.steps + before.steps
