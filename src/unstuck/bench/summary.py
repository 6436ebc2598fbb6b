"""From rows to statistics: scores by seed, normalised scores, aggregates over tasks, and the verdict.

A seed's score on a task is the mean over all episodes of its late checkpoints. It is normalised to 0 at the return of
the agent before (in the same mode: deterministic or sampled) and 1 at the task's reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from unstuck.bench.results import BEFORE, Row
from unstuck.bench.suite import SuiteError
from unstuck.results import MODES
from unstuck.stats import (
    Interval,
    aggregate,
    aggregate_difference,
    difference_interval,
    mean_interval,
    mean_statistic,
    normalized_scores,
    probability_of_improvement,
)

__all__ = ["MODES", "SuiteSummary", "SuiteVerdict"]


@dataclass(frozen=True)
class Beside:
    """Two methods on all tasks on which both have results, in one mode."""

    tasks: int
    ours: Interval
    """Interquartile mean of normalised scores."""
    control: Interval
    probability: Interval
    """That ours is better."""


@dataclass(frozen=True)
class SuiteVerdict:
    """Whether the suite's own method wins, in one mode."""

    mode: str
    ours: Interval
    rival: str
    """The rival with the highest interquartile mean."""
    theirs: Interval
    ahead: float | None
    """How far above the best rival, as a share of its interquartile mean; None where that is not above zero."""
    overlap: bool
    worse: tuple[str, ...]
    """Tasks on which it is significantly worse than the control (95 %, Welch, not corrected for many tasks)."""
    better: tuple[str, ...]
    beside: Beside | None = None
    """Ours and the control, where they have more tasks in common than all methods have."""

    @property
    def met(self) -> bool:
        """At least a fifth above the best rival, intervals apart, and worse than the control nowhere."""
        far = self.ahead >= 0.2 if self.ahead is not None else self.ours.mean > max(0.0, self.theirs.mean)
        return far and not self.overlap and self.ours.mean > self.theirs.mean and not self.worse


@dataclass(frozen=True)
class SuiteSummary:
    """Statistics of one suite's rows.

    Raises:
        SuiteError: if arms of a task have unequal budgets or starting agents (unless `allow_unequal`), or a
            reference is not above the agent before.
    """

    head: dict[str, Any]
    rows: Sequence[Row]
    allow_unequal: bool = False

    def __post_init__(self) -> None:
        if self.unequal and not self.allow_unequal:
            raise SuiteError(
                "\n".join(self.unequal) + "\nSuch results cannot be compared. --allow-unequal shows them all the same."
            )

    @cached_property
    def unequal(self) -> list[str]:
        """A sentence on each task whose arms cannot be compared."""
        found = []
        for task in self.tasks:
            rows = [r for r in self.rows if r["task"] == task and r["method"] != BEFORE]
            for what, key in (("budgets of environment steps", "budget"), ("starting agents", "agent")):
                values: dict[Any, set[str]] = {}
                for row in rows:
                    values.setdefault(row[key], set()).add(row["method"])
                if len(values) > 1:
                    listed = "; ".join(f"{v}: {', '.join(sorted(m))}" for v, m in values.items())
                    found.append(f"{task}: the arms have different {what} ({listed})")
        return found

    @cached_property
    def tasks(self) -> list[str]:
        """Those with any results, in the suite's order."""
        held = {r["task"] for r in self.rows if r["method"] != BEFORE}
        return [t for t in self.head["tasks"] if t in held]

    @cached_property
    def methods(self) -> list[str]:
        """Those with any results, in the suite's order."""
        held = {r["method"] for r in self.rows}
        return [m for m in self.head["methods"] if m in held]

    @cached_property
    def common(self) -> list[str]:
        """Tasks on which every method has a result: those that aggregates are of."""
        return [t for t in self.tasks if all(self.scores(t, m, MODES[0]) for m in self.methods)]

    def label(self, method: str) -> str:
        return str(self.head["labels"].get(method, method))

    @cached_property
    def _scores(self) -> dict[tuple[str, str, str], dict[int, float]]:
        pooled: dict[tuple[str, str, str], dict[int, list[float]]] = {}
        for row in self.rows:
            if row["method"] != BEFORE:
                seeds = pooled.setdefault((row["task"], row["method"], row["mode"]), {})
                seeds.setdefault(row["seed"], []).append(float(np.mean(row["returns"])))
        return {k: {s: float(np.mean(v)) for s, v in sorted(seeds.items())} for k, seeds in pooled.items()}

    def scores(self, task: str, method: str, mode: str) -> dict[int, float]:
        """Seed → mean return; empty where there are no results."""
        return self._scores.get((task, method, mode), {})

    def before(self, task: str, mode: str) -> Interval:
        """Return of the stuck agent; the interval is over episodes."""
        return mean_interval(self._before_row(task, mode)["returns"])

    def _before_row(self, task: str, mode: str) -> Row:
        return next(r for r in self.rows if r["task"] == task and r["method"] == BEFORE and r["mode"] == mode)

    def reference(self, task: str) -> float:
        return float(self._before_row(task, MODES[0])["reference"])

    def cell(self, task: str, method: str, mode: str) -> Interval | None:
        """Mean return over seeds with Student's t interval."""
        scores = self.scores(task, method, mode)
        return mean_interval(list(scores.values())) if scores else None

    def normalized(self, task: str, method: str, mode: str) -> np.ndarray:
        """Normalised scores by seed (seeds,)."""
        values = list(self.scores(task, method, mode).values())
        try:
            return normalized_scores(values, self.before(task, mode).mean, self.reference(task))
        except ValueError as error:
            raise SuiteError(f"{task}, {mode}: {error}; give the task a higher `reference`") from error

    def runs(self, method: str, mode: str) -> list[np.ndarray]:
        """Normalised scores on the tasks that all methods have: (seeds,) for each."""
        return [self.normalized(t, method, mode) for t in self.common]

    def iqm(self, method: str, mode: str) -> Interval:
        return aggregate(self.runs(method, mode))

    def mean(self, method: str, mode: str) -> Interval:
        return aggregate(self.runs(method, mode), mean_statistic)

    def beats(self, method: str, other: str, mode: str) -> Interval:
        """Probability of improvement of one method over another."""
        return probability_of_improvement(self.runs(method, mode), self.runs(other, mode))

    def minus(self, method: str, other: str, mode: str) -> Interval | None:
        """Difference of interquartile means, paired by seed; None where seeds differ."""
        for task in self.common:
            if self.scores(task, method, mode).keys() != self.scores(task, other, mode).keys():
                return None
        return aggregate_difference(self.runs(method, mode), self.runs(other, mode))

    @property
    def ours(self) -> str | None:
        return self.head["ours"] if self.head["ours"] in self.methods else None

    @property
    def control(self) -> str | None:
        return self.head["control"] if self.head["control"] in self.methods else None

    @cached_property
    def ablations(self) -> list[str]:
        """Variants of the suite's own method."""
        return [m for m in self.methods if m != self.head["ours"] and self.head["bases"][m] == self.head["ours"]]

    @cached_property
    def rivals(self) -> list[str]:
        return [m for m in self.methods if m != self.head["ours"] and m not in self.ablations]

    def best_rival(self, mode: str) -> str | None:
        """The rival with the highest interquartile mean."""
        if not self.rivals or not self.common:
            return None
        return max(self.rivals, key=lambda m: self.iqm(m, mode).mean)

    def verdict(self, mode: str) -> SuiteVerdict | None:
        """None where the suite's own method, or every rival, is missing."""
        rival = self.best_rival(mode)
        if self.ours is None or rival is None:
            return None
        ours, theirs = self.iqm(self.ours, mode), self.iqm(rival, mode)
        apart = None not in (ours.low, theirs.high) and (ours.low > theirs.high or ours.high < theirs.low)  # type: ignore[operator]
        ahead = ours.mean / theirs.mean - 1 if theirs.mean > 0 else None
        gaps = {t: self.gap(t, self.ours, mode) for t in self.tasks}
        worse = tuple(t for t, g in gaps.items() if g is not None and g.high is not None and g.high < 0)
        better = tuple(t for t, g in gaps.items() if g is not None and g.low is not None and g.low > 0)
        return SuiteVerdict(mode, ours, rival, theirs, ahead, not apart, worse, better, self._beside(mode))

    def _beside(self, mode: str) -> Beside | None:
        ours, control = self.ours, self.control
        if ours is None or control is None:
            return None
        tasks = [t for t in self.tasks if self.scores(t, ours, mode) and self.scores(t, control, mode)]
        if len(tasks) <= len(self.common):
            return None
        a, b = ([self.normalized(t, method, mode) for t in tasks] for method in (ours, control))
        return Beside(len(tasks), aggregate(a), aggregate(b), probability_of_improvement(a, b))

    def gap(self, task: str, method: str, mode: str) -> Interval | None:
        """Mean return of a method minus that of the control, with Welch's interval."""
        if self.control is None:
            return None
        a, b = self.scores(task, method, mode), self.scores(task, self.control, mode)
        return difference_interval(list(a.values()), list(b.values())) if a and b else None
