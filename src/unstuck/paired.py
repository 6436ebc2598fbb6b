"""The statistics of a last test: what is better, and what is worse."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

from unstuck.results import Gain


def gain(ours: Sequence[float], theirs: Sequence[float], level: float) -> Gain:
    """The mean difference of paired returns, with its one-sided lower bound at 1 - level (Student's t).

    Thomas et al., "High Confidence Policy Improvement" (ICML 2015): hand over only what is better with high
    probability.
    """
    n, mean, error = _difference(ours, theirs)
    if error is None:
        return Gain(mean=mean, low=None, pairs=n)
    return Gain(mean=mean, low=mean - float(stats.t.ppf(1 - level, n - 1)) * error, pairs=n)


def is_better(gain: Gain) -> bool:
    """Whether the lower bound is above zero."""
    return gain.low is not None and gain.low > 0


def stands_out(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether the mean of the paired differences exceeds its standard error: more likely better than not, and far from
    shown. False with fewer than two pairs."""
    _, mean, error = _difference(ours, theirs)
    return error is not None and mean > error


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[int, float, float | None]:
    """The pairs, their mean difference, and its standard error; None with fewer than two."""
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    n, mean = len(differences), float(differences.mean()) if len(differences) else 0.0
    return n, mean, float(differences.std(ddof=1) / np.sqrt(n)) if n > 1 else None


def is_worse(ours: Sequence[float], theirs: Sequence[float], level: float) -> bool:
    """Whether our mean is below theirs with error probability `level` (Welch's one-sided t), the episodes not paired;
    False with fewer than two of either."""
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if min(len(a), len(b)) < 2:
        return False
    if a.std() == b.std() == 0:
        return bool(a.mean() < b.mean())
    with warnings.catch_warnings():  # scipy's, where all of one side are equal; the test is as good
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(stats.ttest_ind(a, b, equal_var=False, alternative="less").pvalue) < level
