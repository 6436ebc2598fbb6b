"""Means with intervals, and comparisons of arms over seeds.

Few seeds are the rule here, so the interval of a mean over seeds is Student's t, which widens honestly at n = 3,
where a percentile bootstrap would be far too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its confidence interval; bounds are None where n < 2 leaves them unknown."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4g} (n={self.n})"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Mean of independent values with Student's t interval.

    Raises:
        ValueError: if there are no values, or one is not finite.
    """
    x = np.asarray(values, dtype=float)
    if not x.size or not np.all(np.isfinite(x)):
        raise ValueError("an interval needs at least one value, and all of them finite")
    mean, n = float(x.mean()), len(x)
    if n < 2:
        return Interval(mean, None, None, n)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * x.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def difference_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of a minus mean of b with Welch's interval (arms differ in variance); `n` is the smaller sample."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    mean, n = float(x.mean() - y.mean()), min(len(x), len(y))
    if n < 2:
        return Interval(mean, None, None, n)
    vx, vy = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if vx + vy == 0:
        return Interval(mean, mean, mean, n)
    df = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1))
    half = float(stats.t.ppf(0.5 + confidence / 2, df) * np.sqrt(vx + vy))
    return Interval(mean, mean - half, mean + half, n)


def paired_verdict(gains: np.ndarray, tests: int, level: float = 0.1) -> tuple[str, Interval]:
    """Judge paired gains (R,): 'helpful' or 'harmful' when the two-sided interval at `level`, Bonferroni-corrected
    for `tests` of them, leaves zero out, else 'unresolved'."""
    interval = mean_interval(gains, confidence=1 - level / max(1, tests))
    if interval.low is None or interval.high is None:
        return "unresolved", interval
    if interval.low > 0:
        return "helpful", interval
    if interval.high < 0:
        return "harmful", interval
    return "unresolved", interval
