"""From pairs of branches to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unstuck.branching.branches import Branch, Pair, Start
from unstuck.guidance import ProgressMeasure, Verdict
from unstuck.stats import paired_verdict


@dataclass(frozen=True)
class Trial:
    """The branches of one piece of advice (or of a set)."""

    starts: tuple[Start, ...]
    pairs: tuple[Pair, ...]
    steps: int
    """Environment steps that they took, replayed ones included."""
    horizon: int
    window: int
    """Steps from the start over which progress is judged."""
    whole: bool = False
    """Whether the branches are whole episodes."""

    def and_more(self, other: Trial) -> Trial:
        """Both, where `other` has further pairs of the same."""
        return replace(
            self, starts=self.starts + other.starts, pairs=self.pairs + other.pairs, steps=self.steps + other.steps,
            horizon=max(self.horizon, other.horizon), window=max(self.window, other.window),
            whole=self.whole and other.whole,
        )  # fmt: skip

    def returns(self) -> np.ndarray:
        """(R,) gain of each pair in true undiscounted return."""
        gains = np.array([sum(w.rewards) - sum(o.rewards) for w, o in self.pairs])
        size = max((abs(sum(b.rewards)) for pair in self.pairs for b in pair), default=0.0)
        return _without_rounding(gains, size)

    def progress(self, aggregate: str) -> np.ndarray:
        """(R,) gain of each pair in the progress measure over the window.

        A branch that ends keeps its last value until the other ends too.
        """
        n = self.window
        both = np.array([(_aggregate(w, o, aggregate, n), _aggregate(o, w, aggregate, n)) for w, o in self.pairs])
        return _without_rounding(both[:, 0] - both[:, 1], float(np.abs(both).max()))

    def record(self, progress: ProgressMeasure | None) -> list[dict[str, Any]]:
        """Every pair in words and numbers, for branches.json."""
        rows = []
        for start, (w, o) in zip(self.starts, self.pairs, strict=True):
            row: dict[str, Any] = {"episode": start.episode, "step": start.step, "noise": start.noise}
            for name, branch, other in (("with", w, o), ("without", o, w)):
                row[name] = {
                    "return": _number(sum(branch.rewards)), "steps": len(branch.rewards), "ending": branch.ending,
                }  # fmt: skip
                if progress is not None:
                    value = _aggregate(branch, other, progress.aggregate, self.window)
                    row[name]["progress"] = _number(value)
            row["with"] |= {"advised": w.advised, "changed": w.changed}
            rows.append(row)
        return rows


def judge(trial: Trial, progress: ProgressMeasure | None, *, silent: bool, tests: int, level: float) -> Verdict:
    """The verdict on a trial.

    True return decides wherever it shows any difference: also on a silent task, where a goal reached within the
    branch changes it, be it by a reward or by costly steps that are saved. Progress decides where the return is the
    same in all pairs, and on silent tasks also where the return differs without being significant; then two tests
    are made, and corrected for.

    Args:
        silent: whether the collected episodes all had the same return.
        tests: pieces of advice that are judged together.
    """
    short = min(trial.window, trial.horizon)
    metrics: list[tuple[str, np.ndarray]] = []
    returns = trial.returns()
    if returns.any():
        metrics.append((_words("return", trial, trial.horizon), returns))
    if progress is not None and (silent or not metrics):
        metrics.append((_words("progress", trial, short), trial.progress(progress.aggregate)))
    if not metrics:
        metrics.append((_words("return", trial, trial.horizon), returns))
    if not all(np.all(np.isfinite(g)) for _, g in metrics):
        return Verdict(
            status="unresolved", metric=metrics[0][0], pairs=len(trial.pairs), steps=trial.steps,
            note="the simulator gave values that are not finite",
        )  # fmt: skip
    found = [(metric, *paired_verdict(gains, tests * len(metrics), level)) for metric, gains in metrics]
    metric, status, interval = next((f for f in found if f[1] != "unresolved"), found[-1])
    note = "" if any(gains.any() for _, gains in metrics) else _idle(trial)
    return Verdict.model_validate({
        "status": status, "metric": metric, "gain": interval.mean, "low": interval.low, "high": interval.high,
        "pairs": len(trial.pairs), "steps": trial.steps, "note": note,
    })  # fmt: skip


def _idle(trial: Trial) -> str:
    if not any(w.advised for w, _ in trial.pairs):
        return "it never applied in the branches"
    if not any(w.changed for w, _ in trial.pairs):
        return "it made no difference: the policy took the same actions by itself"
    return "it made no difference in any pair"


def _words(what: str, trial: Trial, steps: int) -> str:
    return f"{what} over whole episodes" if trial.whole else f"{what} over {steps} steps"


def _aggregate(branch: Branch, other: Branch, aggregate: str, window: int) -> float:
    values = np.array(branch.progress[:window])
    if not values.size:
        return 0.0
    if aggregate == "last":
        return float(values[-1])
    if aggregate == "max":
        return float(values.max())
    missing = max(0, min(window, len(other.progress)) - len(values))
    return float(np.concatenate([values, np.full(missing, values[-1])]).mean())


def _number(x: float) -> float | None:
    """As JSON has it, which knows no NaN."""
    return round(x, 6) if np.isfinite(x) else None


def _without_rounding(gains: np.ndarray, size: float) -> np.ndarray:
    """Differences that are no more than rounding are none; `size` is that of the numbers they are between."""
    if not np.isfinite(size):
        return gains
    return np.where(np.abs(gains) <= 1e-9 * max(1.0, size), 0.0, gains)


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many there are of each status."""
    return {s: sum(v.status == s for v in verdicts) for s in ("helpful", "harmful", "unresolved", "untested")}
