"""Iterated rounds: collect, explain, verify and train again, each time from the improved agent.

A stuck agent never shows its later bottlenecks, so what is said of its episodes cannot help there. Round 1 is the run
itself. What it trains, seed by seed, is the stuck agent of round 2, and so on; the budget is shared among the rounds.

    RUN/rounds/ARM/SEED/1/    what the first round trained
    RUN/rounds/ARM/SEED/2/    an ordinary run folder, of the agent in 1/
    RUN/rounds/ARM/SEED/3/    another one, of the agent that round 2 trained
    RUN/train/ARM/SEED/       the last round's agents, and the learning curve of all rounds

Every round is kept when it is done, so that a run that was killed, or waits for a language model's reply, goes on.
Exchanges with a language model are all kept with RUN's own, so that its caps hold over all rounds together.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from unstuck.cells import cell
from unstuck.config import RunConfig
from unstuck.llm import Request
from unstuck.methods import METHODS
from unstuck.progress import Progress
from unstuck.race import train_race
from unstuck.results import MODES, StageKey, trainings
from unstuck.rounds.result import Trained, gather
from unstuck.run import Round, Run, alone, digest
from unstuck.stages import train as training
from unstuck.stages.train import Job, NoRoomError, round_folder
from unstuck.workers import end_with_parent, one_thread
from unstuck.workspace import Workspace

SEEDS = 100_000
"""Seeds of a round (collecting, explaining, training) are so much larger than those of the round before: its episodes
are fresh ones, and the same in every rerun."""


@alone
def train(run: Run, progress: Progress | None = None, *, model: Any = None) -> dict[str, list[Path]]:
    """Train all arms and seeds that are not done yet, in as many rounds as configured; returns the refined agents of
    each arm, by seed.

    Args:
        model: a pydantic-ai model object for later rounds to ask; seeds then train one after the other, in this
            process.

    Raises:
        RunError: if verifying has not run, or the budget leaves no room for training.
        GuidanceError: if the guidance file is not valid.
        LLMError: if a later round gets no reply. Everything that was trained is kept, and the next call goes on.
    """
    races = METHODS[run.config.train.method].race is not None
    if run.config.train.rounds == 1 and not races:
        return training.train(run, progress)
    say = progress.say if progress is not None and races and len(run.config.train.seeds) == 1 else None
    work = functools.partial(train_in_rounds, model=model, say=say)
    if say is not None:
        # Competitors are trained side by side, and the control beside all of them.
        return training.train(run, progress, work=work, workers=1, beside=lambda job: job.race is None)
    agents = training.train(run, progress, work=work, workers=0 if model is None else 1)
    if progress is not None:
        _say(run, progress)
    return agents


def _say(run: Run, progress: Progress) -> None:
    """What each later round began with."""
    for facts in trainings(run).values():
        for told in facts.rounds[1:]:
            known = [(mode, told.before.of(mode)) for mode in MODES]
            seen = ", ".join(f"{mean:.4g} {mode}" for mode, mean in known if mean is not None)
            progress.say(f"{facts.arm}, seed {facts.seed}: before round {told.round}: {seen}")


@one_thread()
def train_in_rounds(
    root: str, job: Job, folder: str, *, model: Any = None, say: Callable[[str], None] | None = None
) -> tuple[str, float]:
    """In a worker process: train all rounds that are not done yet, and leave the result of them all in the draft
    folder, which then looks as if it had been one. Jobs of one round are trained as always, and races are raced.

    Returns:
        the job's stage, and the seconds that all its rounds took.

    Raises:
        LLMError: if a round gets no reply; those before it are kept.
    """
    if job.race is not None:
        return train_race(root, job, folder, say=say)
    if job.rounds == 1:
        return training.train_one(root, job, folder)
    end_with_parent()
    run = Run(root)
    done = [_first(run, job)]
    problem = ""
    for number in range(2, job.rounds + 1):
        try:
            done.append(_next(run, job, done, model))
        except NoRoomError as error:
            problem = (
                f"only {number - 1} of {job.rounds} rounds were trained. Round {number}: {error} What it took before "
                "that is not charged, as nothing came of it."
            )
            break
    gather(run, job, done, Path(folder), problem)
    return job.stage, sum(d.seconds for d in done)


def _first(run: Run, job: Job) -> Trained:
    """Round 1: the run's own guidance, trained with its share of the budget."""
    alone = replace(job, rounds=1)
    folder = round_folder(run.root, job, 1)

    def work(draft: Path) -> dict[str, Any]:
        return {"took": round(training.train_one(str(run.root), alone, str(draft))[1], 3)}

    found = cell(folder, training.fingerprint(run, alone), work)
    return Trained(1, run, alone, folder, float(found["took"]))


def _next(run: Run, job: Job, done: list[Trained], model: Any) -> Trained:
    """One more round, all of its stages; those that are done stay as they are.

    Raises:
        NoRoomError: if what is left of the budget is too little.
    """
    from unstuck.stages.collect import collect
    from unstuck.stages.explain import explain
    from unstuck.stages.verify import verify

    number, settings = len(done) + 1, run.config.train
    share = (settings.steps - sum(d.steps for d in done)) // (job.rounds - number + 1)
    if share < Workspace(run).quantum:
        raise NoRoomError(f"its share of the budget is {share} environment steps, less than one rollout.")
    later = _open(run, job, done[-1], number, share, sum(d.charged["train"] for d in done))
    collect(later)
    if share - later.record("collect").env_steps < Workspace(run).quantum:
        raise NoRoomError(f"collecting took its share of the budget, {share} environment steps.")  # ask nobody
    with one_at_a_time(later):
        explain(later, model=model)
    verify(later)
    (planned,) = training.plan_jobs(later)
    if number == job.rounds:
        _spread_checkpoints(later, planned, sum(d.charged["train"] for d in done), settings.late_share)
    mark = training.fingerprint(later, planned)
    if not later.done(planned.stage, mark):
        draft = later.draft(planned.stage)
        seconds = training.train_one(str(later.root), planned, str(draft.folder))[1]
        training.commit(later, planned, draft, seconds)
    seconds = sum(later.record(s).seconds for s in ("collect", "explain", "verify", planned.stage))
    return Trained(number, later, planned, later.root / planned.stage, seconds)


def _open(run: Run, job: Job, last: Trained, number: int, share: int, trained: int) -> Run:
    """The run folder of a later round, with the agent of the one before. One of another agent is begun anew."""
    folder = round_folder(run.root, job, number)
    agent, vec = last.folder / "agent.zip", last.folder / "agent.vecnormalize.pkl"
    files = {"agent": agent} | ({"vecnormalize": vec} if vec.exists() else {})
    if (folder / "manifest.json").exists():
        held = Run(folder)
        if digest(held.agent_path, held.vecnormalize_path) != digest(agent, files.get("vecnormalize")):
            shutil.rmtree(folder)
    later = Run.create(folder, round_settings(run.config, job.seed, number, share, agent), files)
    before = run.manifest.round.trained if run.manifest.round else _trained_steps(run)
    outer = os.path.relpath(run.root, folder)
    later.manifest.round = Round(number=number, outer=outer, trained=before and before + trained)
    later.configure(later.config)  # writes the manifest
    return later


def _trained_steps(run: Run) -> int | None:
    steps = Workspace(run).agent.hyperparameters.get("num_timesteps")
    return int(steps) if steps else None


def round_settings(config: RunConfig, seed: int, number: int, share: int, agent: Path) -> RunConfig:
    """The run's own, but for the agent, the budget and the seeds."""
    more = SEEDS * (number - 1)
    collect = config.collect.model_copy(update={"seed": config.collect.seed + more})
    explain = config.explain.model_copy(update={"seed": config.explain.seed + more})
    one = {"rounds": 1, "control": False, "steps": share, "seeds": (seed + more,), "jobs": 1}
    parts = {
        "agent": config.agent.model_copy(update={"agent": str(agent), "vecnormalize": None}),
        "collect": collect, "explain": explain, "train": config.train.model_copy(update=one),
    }  # fmt: skip
    return config.model_copy(update=parts)


def _spread_checkpoints(later: Run, planned: Job, before: int, late_share: float) -> None:
    """Late checkpoints at the same shares of the whole training as those of arms that train in one round, as far as
    the last round reaches."""
    share = min(1.0, late_share * (before + planned.steps) / planned.steps)
    train = later.config.train.model_copy(update={"late_share": share})
    later.configure(later.config.model_copy(update={"train": train}))


@contextlib.contextmanager
def one_at_a_time(later: Run) -> Iterator[None]:
    """Seeds that train side by side ask a live model one after the other, so that each sees what the others have
    spent. Where the system has no such locks (Windows), each may have one call under way."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    if later.config.llm.is_none or later.config.llm.is_recorded:
        yield
        return
    later.recordings_path.mkdir(parents=True, exist_ok=True)
    with open(later.recordings_path / ".lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def later_rounds(run: Run) -> list[Run]:
    """The run folders of later rounds of the configured arm, as far as they were begun."""
    config = run.config.train
    found = []
    for seed in config.seeds if config.rounds > 1 else ():
        for number in range(2, config.rounds + 1):
            folder = run.root / str(StageKey("rounds", config.name or config.method, seed)) / str(number)
            if (folder / "manifest.json").exists():
                found.append(Run(folder))
    return found


def waiting(run: Run) -> list[tuple[Run, Request]]:
    """What later rounds that are not explained yet would ask a language model, as far as no recorded reply answers it;
    each with the round's run folder. Corrections of invalid replies are among them."""
    from unstuck.stages.explain import asks, fingerprint, prompts, recordings_of

    found = []
    for later in later_rounds(run):
        if not asks(later) or "collect" not in later.manifest.stages:
            continue
        if later.done("explain", fingerprint(later)) and later.advice_path.exists():
            continue
        store, asked = recordings_of(later), prompts(later)
        openings = {r.messages[0].content for r in asked}
        asked += [r for r in store.pending() if len(r.messages) > 1 and r.messages[0].content in openings]
        found += [(later, request) for request in asked if store.find(request) is None]
    return found
