"""Who goes on in a race, and for how many steps: pure decisions over numbers, so that they can be simulated.

Successive halving (Jamieson and Talwalkar, AISTATS 2016) with two changes. Competitors are not ranked by where they
stand but by where they are heading, because what is trained afresh begins at the bottom and overtakes late. And what
all losers together may take is bounded, because it is missing where the winner is the one that a user would have
trained anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPONENT = 0.6
"""Learning curves are taken to go on like steps^EXPONENT: concave, but not yet flat."""
GROWTH = 2
"""By what a rung is longer than the one before, counted from the beginning of training."""
LONGEST_FIRST, TIMES_SHORTEST = 0.15, 2
"""Share of the budget that a first rung takes at most, and how many times the shortest that says anything: it is there
to see who is ruined and who gets on, and what it takes is missing where the winner trains."""
EVALUATION_SHARE = 0.2
"""Steps of a rung's evaluation episodes, as a share of its training, about."""
RISE = 0.2
"""Share of the agent's return by which what is on its way must be heading above it."""
LEAP = 0.5
"""Likewise, by which what has surely come to more is above it."""
FEWEST, MOST = 2, 10
"""Evaluation episodes after a rung."""


@dataclass(frozen=True)
class Curve:
    """What is known of one competitor."""

    name: str
    trained: int
    """Environment steps that it was trained."""
    level: float
    """Mean return of the evaluation episodes at that point."""
    noise: float
    """Standard error of the level."""
    slope: float = 0.0
    """Return gained for each step of training, by its own episodes in training."""
    slope_noise: float = float("inf")
    """Standard error of the slope."""


@dataclass(frozen=True)
class Rungs:
    """How a race is laid out."""

    entered: int
    """How many competitors take part, in the order that they are given."""
    first: int
    """Environment steps of training up to the end of the first rung."""
    episodes: int
    """Evaluation episodes of each competitor after each rung."""

    @property
    def survivors(self) -> tuple[int, ...]:
        """How many are left after each rung; the last is 1."""
        found, left = [], self.entered
        while left > 1:
            left = (left + 1) // 2
            found.append(left)
        return tuple(found)

    def stop(self, rung: int) -> int:
        """Environment steps of training at the end of a rung, from 0."""
        return self.first * GROWTH**rung

    def wasted(self, episode: int) -> int:
        """Environment steps that all losers together take, with evaluation episodes of so many steps."""
        total, before = 0, self.entered
        for rung, after in enumerate(self.survivors):
            total += (before - after) * (self.stop(rung) + (rung + 1) * self.episodes * episode)
            before = after
        return total


def plan_rungs(
    budget: int,
    quantum: int,
    episode: int,
    competitors: int,
    *,
    share: float,
    shortest: int,
    times: int = TIMES_SHORTEST,
) -> Rungs:
    """As many competitors as there is room for, each with a first rung that is worth something.

    Args:
        budget: environment steps of the whole.
        quantum: of which rungs are multiples: one rollout.
        episode: steps of an evaluation episode, at most.
        competitors: how many there are to choose from.
        share: of the budget, what all losers together may take.
        shortest: steps below which a first rung says nothing.
        times: how many times that it is long at most.
    """
    longest = min(int(LONGEST_FIRST * budget), max(times * shortest, shortest + quantum))
    for entered in range(competitors, 1, -1):
        for count in range(longest // quantum, 0, -1):
            first = count * quantum
            if first < shortest:
                break
            episodes = int(np.clip(EVALUATION_SHARE * first / max(1, episode), FEWEST, MOST))
            rungs = Rungs(entered, first, episodes)
            if rungs.wasted(episode) <= share * budget:
                return rungs
    return Rungs(1, budget // quantum * quantum, FEWEST)


def forecast(curve: Curve, total: int) -> float:
    """The return that training up to `total` steps is expected to bring.

    From level R and slope r at t steps, a curve c + d·t^p goes on to R + r·t/p·((T/t)^p - 1). The slope counts as far
    as it stands out of its noise (by 1 - 1/z², as James and Stein shrink); one that goes down counts as flat, because
    a policy that is being changed often loses first.
    """
    if curve.trained <= 0 or curve.slope <= 0 or not np.isfinite(curve.slope_noise):
        return curve.level
    z = curve.slope / max(curve.slope_noise, 1e-12)
    kept = max(0.0, 1.0 - 1.0 / z**2)
    reach = curve.trained / EXPONENT * ((max(total, curve.trained) / curve.trained) ** EXPONENT - 1.0)
    return curve.level + kept * curve.slope * reach


def optimistic(curve: Curve, total: int) -> float:
    """The return that training up to `total` steps may bring at best: a straight line, one standard error steeper than
    it was so far; infinite where no slope is known yet."""
    if not np.isfinite(curve.slope_noise):
        return float("inf")
    return curve.level + max(0.0, curve.slope + curve.slope_noise) * max(0, total - curve.trained)


def drawn_out(first: float, curve: Curve, total: int, exponent: float = EXPONENT) -> float:
    """The return that training up to `total` steps is expected to bring what begins from the bottom, by all that it has
    gained since its first episodes (mean return `first`): a curve c + d·t^exponent from there through its level. A few
    long episodes show no slope, and this."""
    if curve.trained <= 0:
        return curve.level
    grown = (max(total, curve.trained) / curve.trained) ** exponent - 1.0
    return curve.level + max(0.0, curve.level - first) * grown


def climbs(curve: Curve, before: float, error: float, total: int) -> bool:
    """Whether a training that goes on from an agent of return `before` (standard error `error`) surely gets on: its own
    returns rise by more than twice their noise, it is not below the agent, and it is heading clearly above it."""
    if not np.isfinite(curve.slope_noise) or curve.slope <= 2 * curve.slope_noise:
        return False
    return curve.level >= before - error and forecast(curve, total) > before + max(2 * error, RISE * abs(before))


def leapt(curve: Curve, before: float, error: float) -> bool:
    """Whether a training that goes on from an agent of return `before` (standard error `error`) has surely come to much
    more than that, so that it needs no slope."""
    return curve.level - 2 * curve.noise > before + max(2 * error, LEAP * abs(before))


def rank(curves: Sequence[Curve], total: int) -> list[tuple[Curve, float]]:
    """Best first, each with its forecast; the order in which they are given decides between equals."""
    found = [(curve, forecast(curve, total)) for curve in curves]
    return sorted(found, key=lambda entry: -entry[1])


def difference(before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> float:
    """By how many of its standard errors the mean of episodes is higher after than before, where means of groups of
    them are known, with the number in each; 0 where there are fewer than three groups of either, or no spread."""
    found = []
    for means, counts in (before, after):
        if len(means) < 3:
            return 0.0
        mean = float((counts * means).sum() / counts.sum())
        variance = float((counts * (means - mean) ** 2).sum() / (len(means) - 1))  # of one episode
        found.append((mean, variance / float(counts.sum())))
    (low, one), (high, other) = found
    error = float(np.sqrt(one + other))
    return (high - low) / error if error > 0 else 0.0


def slope_of(steps: Sequence[float], returns: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Slope of a straight line through mean returns at steps, weighted by the episodes behind each, and its standard
    error; (0, inf) where there are fewer than four points or all are at one step."""
    x, y, w = (np.asarray(v, dtype=float) for v in (steps, returns, weights))
    if len(x) < 4:
        return 0.0, float("inf")
    w = w / w.sum()
    centred = x - (w * x).sum()
    spread = float((w * centred**2).sum())
    if spread <= 0:
        return 0.0, float("inf")
    slope = float((w * centred * (y - (w * y).sum())).sum() / spread)
    residual = y - (w * y).sum() - slope * centred
    return slope, float(np.sqrt((w * residual**2).sum() / spread / (len(x) - 2)))
