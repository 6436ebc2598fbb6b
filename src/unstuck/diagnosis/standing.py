"""How the agent stands: whether its returns still rise, and how far it is from what is known to be reachable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from unstuck.agents.history import LearningCurve
from unstuck.diagnosis.evidence import Evidence
from unstuck.diagnosis.panel import Finding, Status
from unstuck.diagnosis.references import Reference
from unstuck.stats import Interval, difference_interval, mean_interval

Array = np.ndarray
GOOD = 0.9
"""Share of the way from random play to the reference from which an agent counts as good."""
STUCK_BELOW = 0.25
"""Share of what is missing that another training as long would close: below, the agent is stuck. The same as for the
stuck agents that ship with Unstuck."""
WINDOW = 1 / 3
"""Of the curve, at its end: where its slope is taken."""
FEWEST = 5
LONGEST = 1_000_000
"""Steps over which a slope is drawn on, at most: RL Zoo's usual training. Who has trained for 200 million steps will
not do so again."""
RECENT = 5
"""Evaluations at the end of the curve that count for how good the agent is."""
KEPT = 0.7
"""Share of the return in training from which the task is taken to be the same."""
TRUNK_HORIZON = 100_000
"""Steps over which the slope of a trunk is drawn on: the budget of the criterion."""
STUCK_SOURCE = "the criterion of the stuck agents that ship (docs/agents.md)"


def slope(steps: Array, returns: Array, confidence: float = 0.95) -> Interval:
    """Least-squares slope in return per step, with an interval that counts correlated points as fewer: their number is
    n (1 - ρ) / (1 + ρ), ρ the lag-1 autocorrelation of the residuals (Santer et al., J. Geophys. Res. 105, 2000).

    Bounds are None where less than 3 points are left of them.
    """
    line = stats.linregress(steps, returns)
    n = len(steps)
    residuals = returns - line.intercept - line.slope * steps
    spread = float(np.dot(residuals, residuals))
    rho = float(np.dot(residuals[1:], residuals[:-1]) / spread) if spread > 0 else 0.0
    effective = n * (1 - max(0.0, rho)) / (1 + max(0.0, rho))
    if effective <= 2.5:
        return Interval(float(line.slope), None, None, n)
    error = line.stderr * np.sqrt((n - 2) / (effective - 2))
    half = float(stats.t.ppf(0.5 + confidence / 2, effective - 2) * error)
    return Interval(float(line.slope), float(line.slope) - half, float(line.slope) + half, n)


@dataclass(frozen=True)
class Pace:
    """What another training as long as the one so far would close, at the present slope."""

    share: Interval
    """Of `missing`."""
    missing: float
    """Return that is missing to the reference; without one, what was gained so far."""
    to_reference: bool
    per_100k: Interval
    """Slope in return per 100,000 steps."""


def pace(
    curve: LearningCurve, reference: Reference | None, *, window: float = WINDOW, horizon: float | None = None
) -> Pace | None:
    """From the last part of the curve; None where that has too few points.

    Args:
        window: that part, as a share of the points.
        horizon: steps over which the slope is drawn on; by default as many as the curve has, at most `LONGEST`.
    """
    n = len(curve.steps)
    kept = max(FEWEST, int(np.ceil(n * window)))
    if n < FEWEST:
        return None
    x, y = np.array(curve.steps[-kept:], dtype=float), np.array(curve.returns[-kept:])
    if x[-1] <= x[0]:
        return None
    s = slope(x, y)
    gained = float(np.max(curve.returns) - np.mean(curve.returns[: max(1, n // 10)]))
    missing = reference.target - float(np.mean(y)) if reference else 0.0
    to_reference = reference is not None and missing > 0
    if not to_reference:
        missing = gained
    if missing <= 0:
        return None
    return Pace(
        _times(s, (horizon or min(float(curve.steps[-1]), LONGEST)) / missing), missing, to_reference, _times(s, 1e5)
    )


def _times(x: Interval, factor: float) -> Interval:
    bounds = [None if b is None else b * factor for b in (x.low, x.high)]
    return Interval(x.mean * factor, bounds[0], bounds[1], x.n)


def progress(evidence: Evidence) -> Finding:
    """Whether returns still rise, from the learning curve."""
    if evidence.curve is None:
        note = evidence.curve_note or "no learning curve is known"
        return Finding(
            name="progress", status="unknown", threshold=STUCK_BELOW, side="below", source=STUCK_SOURCE,
            meaning=f"Whether it still improves is not known: {note}.",
            remedy="`unstuck diagnose AGENT --trunk 50000` trains a copy with PPO for so many steps, to see.",
        )  # fmt: skip
    curve = evidence.curve
    if evidence.trunk:
        found = pace(curve, evidence.reference, window=1.0, horizon=TRUNK_HORIZON)
        name, part, more = "PPO continued on a copy", "over all of it", f"{TRUNK_HORIZON:,} steps more"
    else:
        found = pace(curve, evidence.reference)
        name, part = curve.source, "over the last third"
        more = f"{min(curve.steps[-1], LONGEST):,} steps more"
    if found is None:
        return Finding(
            name="progress", status="unknown", threshold=STUCK_BELOW, side="below", source=STUCK_SOURCE,
            meaning=f"{name} has {len(curve.steps)} points, too few or too flat from the start for a slope.",
        )  # fmt: skip
    share, what = found.share, "what is missing to a good agent" if found.to_reference else "what it gained so far"
    slope_words = f"{name}: {part} ({share.n} points) returns change by {found.per_100k} per 100,000 steps; " + (
        f"{more} would close {_percent(share)} of {what}." if share.mean > 0 else f"{what} does not get less."
    )
    status: Status
    rises = share.low is not None and share.low > 0
    if evidence.trunk and rises and share.mean < STUCK_BELOW:
        # So short a training is drawn on no further than the criterion goes: slow is not stuck.
        status, words, remedy = "ok", "It improves, but slowly.", ""
    elif share.high is not None and share.high < STUCK_BELOW:
        status = "fault"
        words, remedy = "It is stuck: more of the same will not do.", "Treat it; plain training is not enough."
        if share.high < 0:
            words = f"It gets worse; {_peak(curve)}."
            remedy = "Begin from a checkpoint of its better days, if there is one, and with a smaller learning rate."
    elif rises and share.mean >= STUCK_BELOW:
        status, words, remedy = "ok", "It is on its way.", ""
    else:
        status, words, remedy = "unknown", "The curve is too noisy to say whether it still improves.", ""
    return Finding(
        name="progress", value=share.mean, unit=f"of {what}, by {more}", status=status,
        threshold=STUCK_BELOW, side="below", source=STUCK_SOURCE, meaning=f"{slope_words} {words}", remedy=remedy,
    )  # fmt: skip


def _peak(curve: LearningCurve) -> str:
    """Where the curve, averaged over a few points, was highest."""
    width = max(1, len(curve.returns) // 20)
    smooth = np.convolve(curve.returns, np.ones(width) / width, mode="valid")
    best = int(np.argmax(smooth))
    return f"it was best ({smooth[best]:.4g}) at about {curve.steps[best + width // 2]:,} steps"


def _percent(x: Interval) -> str:
    if x.low is None or x.high is None:
        return f"{x.mean:.0%}"
    return f"{x.mean:.0%} [{x.low:.0%}, {x.high:.0%}]"


def distance(evidence: Evidence) -> Finding | None:
    """How far the agent is from what is known to be reachable. The better of its two modes counts; a few episodes tell
    little, so it is averaged with the last evaluations in its training, where these are known, and are of this task."""
    modes = [r for r in (evidence.returns(True), evidence.returns(False)) if len(r)]
    if not modes:
        return None
    best, reference = max(modes, key=lambda r: float(r.mean())), evidence.reference
    here = float(best.mean())
    recent = _recent(evidence)
    value = here if recent is None else (here + recent) / 2
    if reference is None:
        return Finding(
            name="distance", status="unknown", source="none known",
            meaning=f"It returns {here:.4g}; what a good agent returns here is not known.",
        )  # fmt: skip
    # Good if all of the evidence says so, or if the episodes at hand alone say it beyond chance.
    # Against evaluations that say otherwise, a mode's few episodes may be luck: both modes must do.
    low = mean_interval((best if recent is None else np.concatenate(modes)).tolist()).low
    good = recent is not None and _reaches(reference, value)
    if low is not None and _reaches(reference, low):
        good, value = True, here
    share, target = reference.share(value), f"{reference.target:,.4g}"
    known = f"It returns {here:.4g}"
    if recent is not None:
        known += f" here, {recent:.4g} in its last {RECENT} evaluations"
    if share is None:
        words = f"{known}; a good agent {target} ({reference.source})."
    else:
        words = (
            f"{known}: {share:.0%} of the way from random play ({reference.random:.4g}) to a good agent "
            f"({target}; {reference.source})."
        )
    if reference.solved is not None and good and value >= reference.solved:
        words += f" Gymnasium calls the task solved from {reference.solved:.4g}."
    if reference.best is not None:
        words += f" The best published agent of any kind returns {reference.best:,.5g}."
    return Finding(
        name="distance", value=value if share is None else share,
        unit="return" if share is None else "of the way to a good agent", status="ok" if good else "note",
        whole=None if reference.random is None else reference.target - reference.random,
        threshold=reference.target if share is None else GOOD, side="below", source=reference.source, meaning=words,
    )  # fmt: skip


def _reaches(reference: Reference, value: float) -> bool:
    if reference.solved is not None and value >= reference.solved:
        return True
    share = reference.share(value)
    return value >= reference.target if share is None else share >= GOOD


def as_in_training(evidence: Evidence) -> Finding | None:
    """Whether deterministic episodes return what the last evaluations in training did: a task that was made otherwise
    (another version, missing wrappers, other statistics) shows here."""
    curve, here = evidence.curve, evidence.returns(True)
    if curve is None or evidence.trunk or curve.source != "evaluations.npz" or len(here) < 3:
        return None
    then = np.array(curve.returns[-RECENT:])
    if len(then) < 3:
        return None
    gap = difference_interval(here.tolist(), then.tolist(), confidence=0.99)
    floor = evidence.reference.random if evidence.reference and evidence.reference.random is not None else 0.0
    kept = 1.0 + gap.mean / max(abs(float(then.mean()) - floor), 1e-9)
    bad = gap.high is not None and gap.high < 0 and kept < KEPT
    return Finding(
        name="as-in-training", value=kept, unit="of what it had in training above random play",
        status="note" if bad else "ok", threshold=KEPT, side="below",
        source="with a difference that Welch's 99 % interval resolves",
        meaning=(
            f"It returns {here.mean():.4g} here, and {then.mean():.4g} in its last evaluations in training: the "
            "task may not be the one that it was trained on."
            if bad
            else "It returns what it did in its own training."
        ),
        remedy="Compare version, wrappers, frame stacks and VecNormalize statistics with those of its training."
        if bad
        else "",
    )  # fmt: skip


def _recent(evidence: Evidence) -> float | None:
    """Mean of the last evaluations in the agent's own training; None where there are none, or these were of another
    task."""
    curve, same = evidence.curve, as_in_training(evidence)
    if curve is None or evidence.trunk or curve.source != "evaluations.npz" or (same and same.status == "note"):
        return None
    return float(np.mean(curve.returns[-RECENT:]))


def is_good(found: Finding | None) -> bool:
    """Whether `distance` says that the agent is good already."""
    return found is not None and found.status == "ok"
