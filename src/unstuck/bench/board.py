"""What a person sees while a suite runs: a live table on a terminal, plain lines elsewhere, and the time left.

The estimate is of measured seconds per environment step, of each task by itself; runs of earlier calls count too.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unstuck.bench.jobs import BenchJob, JobResult, score_stage
from unstuck.bench.layout import Arm
from unstuck.bench.runner import SuitePlan
from unstuck.curves import last_point
from unstuck.errors import RunError
from unstuck.results import AgentScores, trainings
from unstuck.run import Run
from unstuck.stages.train import trained_so_far

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDEST = 8
"""Tasks beside each other in the table; more are counted, and shown by the plain lines' totals."""


_PHASES = {"before": "prepare", "collect": "collect", "explain": "prepare", "verify": "verify", "train": "train"}


class Board:
    """Follows a plan; `plan.on_jobs` and `plan.on_outcome` are its own."""

    def __init__(self, plan: SuitePlan, console: Console):
        self.plan, self.console = plan, console
        self.workers = plan.workers or os.cpu_count() or 1
        self.left: dict[str, BenchJob] = {}
        self.done: dict[tuple[str, str], dict[int, float]] = {}
        self.speed: dict[str, list[tuple[float, float]]] = {}
        """Task → (seconds per step, seconds to score) of each finished training."""
        self.phase, self.total, self._live = "", 0, False
        self._known()
        plan.on_jobs, plan.on_outcome = self.on_jobs, self.on_outcome

    def _known(self) -> None:
        for arm in self.plan.arms():
            if not (arm.root / "manifest.json").exists():
                continue
            run = Run(arm.root)
            stages = run.manifest.stages
            for key in trainings(run):
                score, record = str(key.to("score")), stages[str(key)]
                if score not in stages:
                    continue
                self._timed(arm.task.name, record.seconds, record.env_steps, stages[score].seconds)
                if key.seed in self.plan.seeds:
                    self._scored(arm.task.name, arm.method, key.seed, run.root / score)

    def _timed(self, task: str, train: float, steps: int, score: float) -> None:
        if steps:
            self.speed.setdefault(task, []).append((train / steps, score))

    def _scored(self, task: str, method: str, seed: int, folder: Path) -> float | None:
        try:
            score = AgentScores.read(folder / "scores.json").score("deterministic")
        except RunError:
            return None
        self.done.setdefault((task, method), {})[seed] = score
        return score

    def on_jobs(self, jobs: Sequence[BenchJob]) -> None:
        """A phase begins."""
        self.left = {job.name: job for job in jobs}
        self.phase, self.total = (_PHASES[jobs[-1].kind] if jobs else ""), len(jobs)
        if self.phase == "train":
            for job in jobs:
                self.done.get((job.task, job.method), {}).pop(job.seed, None)
        if jobs and not self._live:
            self._say(f"{self.phase}: {len(jobs)} to do{self._left_words()}")

    def on_outcome(self, outcome: JobResult) -> None:
        """A job ended."""
        job = outcome.job
        self.left.pop(job.name, None)
        words = f"{job.name}: {outcome.status}"
        if job.training is not None and outcome.status == "done":
            root = Path(job.root)
            score = self._scored(job.task, job.method, job.seed, root / score_stage(job.training))
            self._timed(job.task, outcome.seconds.get("train", 0.0), job.steps, outcome.seconds["score"])
            words = f"{job.name}: {score:.4g} deterministic ({sum(outcome.seconds.values()):.0f} s)"
        if outcome.status != "done":
            first = outcome.error.splitlines()[0] if outcome.error else ""
            self.console.print(f"{words}: {first}", style="red", markup=False, highlight=False, soft_wrap=True)
        elif not self._live:
            self._say(f"{words}; {self.total - len(self.left)}/{self.total}{self._left_words()}")

    def _say(self, words: str) -> None:
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def _left_words(self) -> str:
        seconds = self.seconds_left()
        return "" if seconds is None else f", {duration(seconds)} left"

    def seconds_left(self) -> float | None:
        """Of the training phase; None as long as nothing has been measured, or before that phase."""
        if self.phase != "train" or not self.left:
            return None
        known = {
            t: (float(np.median([a for a, _ in v])), float(np.median([b for _, b in v]))) for t, v in self.speed.items()
        }
        work, running = 0.0, self._running()
        for task, per_step in self._speeds_of(running).items():
            known.setdefault(task, (per_step, 0.0))
        if not known:
            return None
        usual = float(np.mean([a for a, _ in known.values()])), float(np.mean([b for _, b in known.values()]))
        for job in self.left.values():
            per_step, score = known.get(job.task, usual)
            work += max(0, job.steps - running.get(job.name, (0, 0.0))[0]) * per_step + score
        return work / min(self.workers, len(self.left))

    def _running(self) -> dict[str, tuple[int, float]]:
        """Jobs under way on this machine → steps trained, seconds since they began."""
        found = {}
        for job in self.left.values():
            if job.training is None:
                continue
            folder = Path(job.root) / f"{job.training.stage}.draft"
            if folder.is_dir() and (steps := trained_so_far(Path(job.root), job.training)):
                found[job.name] = (steps, time.time() - folder.stat().st_ctime)
        return found

    def _speeds_of(self, running: dict[str, tuple[int, float]]) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for name in running:
            job = self.left[name]
            folder = Path(job.root) / f"{job.training.stage}.draft" if job.training else Path()
            if (point := last_point(folder)) is not None and point.steps_per_second > 0:
                found.setdefault(job.task, []).append(1 / point.steps_per_second)
        return {task: float(np.mean(v)) for task, v in found.items()}

    def table(self) -> Table:
        """Methods × tasks: seeds done of all, and their mean return so far, deterministic."""
        from rich.table import Table

        plan = self.plan
        table = Table()
        table.add_column("", no_wrap=True)
        tasks = plan.tasks[:WIDEST]
        for task in tasks:
            table.add_column(task.name, justify="right")
        for method in plan.methods:
            cells = [self._cell(Arm(plan.suite, plan.out, task, method)) for task in tasks]
            table.add_row(method, *cells)
        if len(plan.tasks) > WIDEST:
            table.caption = f"and {len(plan.tasks) - WIDEST} more tasks"
        return table

    def headline(self) -> str:
        """The phase, what is done of it, and the time left."""
        running = {n: steps for n, (steps, _) in self._running().items() if n in self.left}
        now = sum(min(1.0, steps / max(1, self.left[n].steps)) for n, steps in running.items())
        count = f" {self.total - len(self.left)}/{self.total}" + (f", {now:.1f} of those running" if now else "")
        return f"{self.plan.suite.name}: {self.phase}{count}{self._left_words()}"

    def _cell(self, arm: Arm) -> str:
        scores = self.done.get((arm.task.name, arm.method), {})
        mean = f" {np.mean(list(scores.values())):.4g}" if scores else ""
        broken = any(
            name.startswith((f"{arm.task.name} {arm.method} ", f"{arm.task.name} by {arm.source.name} "))
            for name in self.plan.failures
        )
        return f"{len(scores)}/{len(self.plan.seeds)}{mean}{' !' if broken else ''}"

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show it for the length of the block."""
        if not self.console.is_terminal:
            yield
            return
        from rich.live import Live

        self._live = True
        with Live(console=self.console, get_renderable=self._renderable, refresh_per_second=1):
            yield
        self._live = False

    def _renderable(self) -> Any:
        from rich.console import Group

        # It is drawn by another thread while jobs come and go.
        for _ in range(3):
            with contextlib.suppress(RuntimeError, KeyError):
                return Group(self.headline(), self.table())
        return ""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
