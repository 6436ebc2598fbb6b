"""What runs in worker processes: each job reads a run folder, works in it, and says how it went.

A job holds nothing but data, so that it can travel to another process or another machine.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unstuck.errors import NoRecordingError, UnstuckError
from unstuck.results import AgentScores, CheckpointScores, Returns, StageKey, TrainFacts
from unstuck.run import Draft, Run, digest
from unstuck.stages.train import Job as Training

Kind = Literal["before", "collect", "explain", "verify", "train"]
Status = Literal["done", "unanswered", "failed"]


@dataclass(frozen=True)
class BenchJob:
    """One piece of work. `before`, `collect`, `explain` and `verify` enter themselves in the manifest of their run
    folder, in which nobody else works; of `train`, several work in one folder, and the main process enters them."""

    kind: Kind
    task: str
    root: str
    method: str = ""
    seed: int = 0
    steps: int = 0
    """Environment steps that are expected, for the estimate of the time left."""
    training: Training | None = None
    train: bool = True
    """With `train`: whether the agent is to be trained, or is there and only has to be scored."""
    recordings: str = ""
    """A further folder of recorded replies."""
    demo: bool = False
    """The agent is the demo's, whose recorded reply speaks of the episodes that ship with it."""

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.task, self.method, self.kind) if part) + (
            f" seed {self.seed}" if self.kind == "train" else ""
        )


@dataclass
class JobResult:
    """How a job went."""

    job: BenchJob
    status: Status = "done"
    error: str = ""
    trace: str = ""
    """Of errors that a user cannot act on."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage: train, score."""
    machine: str = ""
    """Of a cluster, the node that did it."""
    parcel: bytes | None = None
    """What the job wrote, where it worked on another machine."""


def perform(job: BenchJob) -> JobResult:
    """Do the job; errors are told, not raised, so that one does not hold up the others."""
    outcome = JobResult(job)
    try:
        with _quiet(), _recordings(job.recordings):
            _WORK[job.kind](job, outcome)
    except NoRecordingError as error:
        outcome.status, outcome.error = "unanswered", str(error)
    except UnstuckError as error:
        outcome.status, outcome.error = "failed", str(error)
    except Exception as error:
        outcome.status, outcome.error = "failed", f"{type(error).__name__}: {error}"
        outcome.trace = traceback.format_exc()
    return outcome


def score_stage(job: Training) -> str:
    """The stage of a training run's scores."""
    return str(StageKey.parse(job.stage).to("score"))


def score_mark(run: Run, trained: str) -> str:
    """Fingerprint of scores: of the agent's, and of how it is evaluated."""
    from unstuck.rollout import EACH_SEED

    return digest(trained, run.config.evaluate, EACH_SEED)


def _before(job: BenchJob, outcome: JobResult) -> None:
    from unstuck.stages.evaluate import Scoring, play_all

    run = Run(job.root)
    mark = before_mark(run)
    if run.done("score", mark):
        return
    n = run.config.evaluate.before_episodes
    with run.stage("score", mark) as draft:
        (played,) = play_all(job.root, [Scoring(run.agent_path, run.vecnormalize_path, n)])
        draft.env_steps += sum(p.steps for p in played.values())
        scores: dict[str, Any] = {mode: p.returns for mode, p in played.items()}
        Returns(**scores).write(draft.folder / "scores.json")


def before_mark(run: Run) -> str:
    """Fingerprint of the scores of the agent before."""
    return digest(run.agent_path, run.vecnormalize_path, run.config.task, run.config.evaluate)


def _collect(job: BenchJob, outcome: JobResult) -> None:
    from unstuck.stages.collect import collect

    run = Run(job.root)
    collect(run)
    if job.demo:
        from unstuck.demo import match_recording

        match_recording(run)


def _explain(job: BenchJob, outcome: JobResult) -> None:
    from unstuck.stages.explain import explain

    _collect(job, outcome)
    explain(Run(job.root))


def _verify(job: BenchJob, outcome: JobResult) -> None:
    from unstuck.stages.verify import verify

    verify(Run(job.root))


def _train(job: BenchJob, outcome: JobResult) -> None:
    from unstuck.rounds import train_in_rounds

    assert job.training is not None
    run, training = Run(job.root), job.training
    folder = run.root / training.stage
    if job.train:
        folder = run.draft(training.stage).folder
        outcome.seconds["train"] = train_in_rounds(job.root, training, str(folder))[1]
    begun = time.monotonic()
    _score(job, run, folder, run.draft(score_stage(training)))
    outcome.seconds["score"] = time.monotonic() - begun


def _score(job: BenchJob, run: Run, folder: Path, draft: Draft) -> None:
    from unstuck.stages.evaluate import Scoring, episodes_of, play_all

    facts = TrainFacts.read(folder / "info.json")
    count, later = run.config.evaluate.episodes, episodes_of(facts.seed)
    found = play_all(job.root, [Scoring(folder / c.file, None, count, later) for c in facts.checkpoints])
    points = [
        CheckpointScores(trained=c.trained, **{mode: p.returns for mode, p in played.items()})
        for c, played in zip(facts.checkpoints, found, strict=True)
    ]
    taken = sum(p.steps for played in found for p in played.values())
    scores = AgentScores(checkpoints=tuple(points), env_steps=taken, versions=versions())
    scores.write(draft.folder / "scores.json")


def versions() -> dict[str, str]:
    """Of what decides the numbers, on the machine that makes them."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from unstuck import __version__

    found = {"python": platform.python_version(), "unstuck": __version__}
    for name in ("stable-baselines3", "torch", "gymnasium", "numpy", "mujoco", "ale-py", "minigrid", "envpool"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


_WORK = {"before": _before, "collect": _collect, "explain": _explain, "verify": _verify, "train": _train}


@contextlib.contextmanager
def _recordings(folder: str) -> Iterator[None]:
    """Let recorded replies be found in this folder too."""
    from unstuck.stages.explain import RECORDINGS_VARIABLE

    held = os.environ.get(RECORDINGS_VARIABLE)
    if folder:
        os.environ[RECORDINGS_VARIABLE] = os.pathsep.join(p for p in (folder, held) if p)
    try:
        yield
    finally:
        if held is None:
            os.environ.pop(RECORDINGS_VARIABLE, None)
        else:
            os.environ[RECORDINGS_VARIABLE] = held


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """One core for each job, and none of other libraries' warnings between the lines of the table."""
    import warnings

    from unstuck.workers import end_with_parent, one_thread

    end_with_parent()
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")
        yield
