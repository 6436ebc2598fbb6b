"""Conditions of the guidance, compiled: all of them at once, or as intervals for `Masks`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unstuck.guidance import AnyOf, Condition, When
from unstuck.matching.masks import Clause, Column, Differences, Interval, Minus

RTOL, ATOL = 1e-6, 1e-9
"""What counts as equal in `==` and `!=`: |x - value| <= ATOL + RTOL·|value|."""


class Conditions:
    """Many conjunctions of clauses, all of them evaluated: for many rows, or where each truth is wanted."""

    def __init__(self, whens: Sequence[When], names: Sequence[str]):
        column = {name: i for i, name in enumerate(names)}
        flat: list[Condition] = []
        clause_starts: list[int] = []
        when_starts: list[int] = []
        self._always = np.array([not w for w in whens], dtype=bool)
        for when in whens:
            if when:
                when_starts.append(len(clause_starts))
            for clause in when:
                clause_starts.append(len(flat))
                flat += clause.any if isinstance(clause, AnyOf) else (clause,)
        self._clause_starts = np.array(clause_starts, dtype=np.intp)
        self._when_starts = np.array(when_starts, dtype=np.intp)
        self._columns = np.array([column[c.variable] for c in flat], dtype=np.intp)
        self._abs = np.array([c.abs for c in flat], dtype=bool)
        self._less = Differences([_minus(c, column) for c in flat])
        self._equal = np.array([c.op in ("==", "!=") for c in flat], dtype=bool)
        self._negate = np.array([c.op == "!=" for c in flat], dtype=bool)
        self._value = np.array([c.value for c in flat])
        # Every inequality becomes sign·x > bound, so that one comparison serves all four operators.
        self._sign = np.array([-1.0 if c.op in ("<", "<=") else 1.0 for c in flat])
        bound = self._sign * self._value
        loose = np.array([c.op in ("<=", ">=") for c in flat], dtype=bool)
        self._bound = np.where(loose, np.nextafter(bound, -np.inf), bound)
        # Looked at once, not at every step: each numpy call there costs more than the arithmetic that it does.
        self._any_abs, self._any_equal = bool(self._abs.any()), bool(self._equal.any())
        self._any_always, self._single = bool(self._always.any()), len(clause_starts) == len(flat)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N, W) whether each conjunction holds in each row."""
        if not self._clause_starts.size:
            return np.ones((len(values), len(self._always)), dtype=bool)
        x = values.take(self._columns, axis=1)
        if self._any_abs:
            np.abs(x, out=x, where=self._abs)
        self._less(x.T, values.T)
        hold = self._sign * x > self._bound
        if self._any_equal:
            same = np.isclose(x[:, self._equal], self._value[self._equal], rtol=RTOL, atol=ATOL)
            hold[:, self._equal] = same ^ self._negate[self._equal]
        clauses = hold if self._single else np.logical_or.reduceat(hold, self._clause_starts, axis=1)
        whens = np.logical_and.reduceat(clauses, self._when_starts, axis=1)
        if not self._any_always:
            return whens
        out = np.ones((len(values), len(self._always)), dtype=bool)
        out[:, ~self._always] = whens
        return out


def clauses_of(when: When, column: dict[str, int]) -> list[Clause]:
    """A conjunction as intervals of variables that `column` numbers, which say the same for each floating-point
    number."""
    return [
        tuple(_interval(c, column) for c in (clause.any if isinstance(clause, AnyOf) else (clause,))) for clause in when
    ]


def _interval(condition: Condition, column: dict[str, int]) -> Interval:
    of, value = (
        Column(column[condition.variable], condition.abs, minus=_minus(condition, column)),
        condition.value,
    )
    match condition.op:
        case ">":
            return Interval(of, low=float(np.nextafter(value, np.inf)))
        case ">=":
            return Interval(of, low=value)
        case "<":
            return Interval(of, high=float(np.nextafter(value, -np.inf)))
        case "<=":
            return Interval(of, high=value)
    low, high = reach(np.array([value]), ATOL + RTOL * abs(value))
    return Interval(of, float(low[0]), float(high[0]), negated=condition.op == "!=")


def _minus(condition: Condition, column: dict[str, int]) -> Minus | None:
    other = condition.than
    return Minus(column[other.variable], other.abs, other.times) if other else None


def reach(
    points: np.ndarray, tolerance: np.ndarray | float, centre: np.ndarray | float = 0.0, half: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest x for which |(x - centre) / half - point| <= tolerance as it comes out in floating
    point; where there is no such x, the least is greater than the greatest.

    By bisection over all numbers, as neither side ever falls when x grows: what rounding does near the edge is not
    worth a formula.
    """
    ends = []
    for sign in (-1, 1):
        inside, outside = (_rank(np.full(np.shape(points), side * sign * np.inf)) for side in (-1, 1))
        for _ in range(64):
            middle = (inside >> 1) + (outside >> 1) + (inside & outside & 1)
            with np.errstate(over="ignore"):
                near = sign * ((_number(middle) - centre) / half - points) <= tolerance
            inside, outside = np.where(near, middle, inside), np.where(near, outside, middle)
        ends.append(_number(inside))
    return ends[0], ends[1]


def _rank(x: np.ndarray) -> np.ndarray:
    """Integers in the order of the floating-point numbers that they stand for."""
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.int64)
    return np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)


def _number(rank: np.ndarray) -> np.ndarray:
    return np.where(rank < 0, np.iinfo(np.int64).min - rank, rank).view(np.float64)
