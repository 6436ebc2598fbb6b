"""Guidance compiled for speed: which advice applies to which row of a batch, and what the terms are worth.

Everything is evaluated for a whole vector step at once on named variables (N, V); there is no loop over advice
and none over environments. Up to about ten thousand pieces of advice, plain numpy beats trees and indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from unstuck.errors import GuidanceError
from unstuck.guidance import Advice, AnyOf, Condition, Guidance, Term, When

Applies = Literal["as-given", "table", "near"]
"""`as-given`: each advice's own condition or neighbourhood. `table`: the paper's look-up table, the discretised
state of the evidence. `near`: a neighbourhood of the evidence, whatever condition the advice carries."""


class Conditions:
    """Many conjunctions of clauses, evaluated together."""

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
        hold = self._sign * x > self._bound
        if self._any_equal:
            same = np.isclose(x[:, self._equal], self._value[self._equal], rtol=1e-6, atol=1e-9)
            hold[:, self._equal] = same ^ self._negate[self._equal]
        clauses = hold if self._single else np.logical_or.reduceat(hold, self._clause_starts, axis=1)
        whens = np.logical_and.reduceat(clauses, self._when_starts, axis=1)
        if not self._any_always:
            return whens
        out = np.ones((len(values), len(self._always)), dtype=bool)
        out[:, ~self._always] = whens
        return out


class Terms:
    """A sum of piecewise-linear terms (see `guidance.Term` for the formula)."""

    def __init__(self, terms: Sequence[Term], names: Sequence[str]):
        column = {name: i for i, name in enumerate(names)}
        self._columns = np.array([column[t.variable] for t in terms], dtype=np.intp)
        self._abs = np.array([t.abs for t in terms], dtype=bool)
        self._weight = np.array([t.weight for t in terms])
        self._cap = np.array([t.cap for t in terms])
        one_sided = np.array([t.above is not None or t.below is not None for t in terms], dtype=bool)
        self._floor = np.where(one_sided, 0.0, -self._cap)
        # excess = sign·(x - origin): (x - above), (below - x), or x itself.
        self._sign = np.array([-1.0 if t.below is not None else 1.0 for t in terms])
        self._origin = np.array([t.above if t.above is not None else t.below or 0.0 for t in terms])
        self._when = Conditions([t.when for t in terms], names)
        self._any_abs = bool(self._abs.any())

    def each(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N, K) value of each term in each row."""
        x = values.take(self._columns, axis=1)
        if self._any_abs:
            np.abs(x, out=x, where=self._abs)
        excess = np.minimum(np.maximum(self._sign * (x - self._origin), self._floor), self._cap)
        return self._weight * excess * self._when(values)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N,) sum of the terms."""
        return self.each(values).sum(axis=1)


class Matcher:
    """Advice → for each row of values the first piece of advice that applies.

    Order matters: an earlier piece shadows a later one wherever both apply.

    Raises:
        GuidanceError: if advice that is to apply at the state of its evidence does not say that state.
    """

    def __init__(
        self,
        advice: Sequence[Advice],
        guidance: Guidance,
        names: Sequence[str],
        applies: Applies = "as-given",
        *,
        radius: float = 0.15,
        bins: int = 20,
    ):
        """`radius` is that of neighbourhoods in variables scaled to [-1, 1]; `bins` the number of cells into
        which the look-up table divides each variable's range."""
        self.advice = tuple(advice)
        low = np.array([guidance.scales.get(n, (-1.0, 1.0))[0] for n in names])
        high = np.array([guidance.scales.get(n, (-1.0, 1.0))[1] for n in names])
        self._centre, self._half = (low + high) / 2, np.maximum((high - low) / 2, 1e-12)
        self._bins = bins
        kinds = [_kind(a, applies) for a in self.advice]
        self._by_condition = np.array([k == "when" for k in kinds], dtype=bool)
        self._by_near = np.array([k == "near" for k in kinds], dtype=bool)
        self._by_table = np.array([k == "table" for k in kinds], dtype=bool)
        self._only_conditions = all(k == "when" for k in kinds)
        whens = [a.when or () for a, k in zip(self.advice, kinds, strict=True) if k == "when"]
        self._conditions = Conditions(whens, names)
        near = [a for a, k in zip(self.advice, kinds, strict=True) if k == "near"]
        points = [self._point(a, a.near.point if a.near and applies == "as-given" else None, names) for a in near]
        self._points = np.array(points).reshape(len(near), len(names))
        self._ignored = np.isnan(self._points)
        own = [a.near.radius if a.near and applies == "as-given" else radius for a in near]
        self._radius = np.array(own)
        table = [a for a, k in zip(self.advice, kinds, strict=True) if k == "table"]
        cells = [self._cell(self._point(a, None, names)[None])[0] for a in table]
        self._cells = np.array(cells, dtype=np.int64).reshape(len(table), len(names))

    def _point(self, advice: Advice, point: dict[str, float] | None, names: Sequence[str]) -> np.ndarray:
        """The scaled point around which the advice applies; NaN where a variable does not matter."""
        point = point if point is not None else (advice.evidence.state if advice.evidence else {})
        if not point:
            raise GuidanceError(f"advice {advice.id}: its evidence does not say the state, so it can match nowhere")
        raw = np.array([point.get(n, np.nan) for n in names])
        return (raw - self._centre) / self._half

    def _cell(self, scaled: np.ndarray) -> np.ndarray:
        cells = np.floor((scaled + 1) * self._bins / 2)
        return np.nan_to_num(cells, nan=np.iinfo(np.int32).min).astype(np.int64)

    def __len__(self) -> int:
        return len(self.advice)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N, A) whether each piece of advice applies in each row."""
        if self._only_conditions:
            return self._conditions(values)
        out = np.zeros((len(values), len(self.advice)), dtype=bool)
        if self._by_condition.any():
            out[:, self._by_condition] = self._conditions(values)
        if self._by_near.any() or self._by_table.any():
            scaled = (values - self._centre) / self._half
            if self._by_near.any():
                distance = np.abs(scaled[:, None, :] - self._points[None])
                distance[:, self._ignored] = 0.0
                out[:, self._by_near] = distance.max(axis=2) <= self._radius
            if self._by_table.any():
                out[:, self._by_table] = (self._cell(scaled)[:, None, :] == self._cells[None]).all(axis=2)
        return out

    def first(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N,) index of the first advice that applies, -1 where none does."""
        if not self.advice:
            return np.full(len(values), -1, dtype=np.intp)
        matrix = self.matrix(values)
        first = matrix.argmax(axis=1)
        return np.where(matrix[np.arange(len(values)), first], first, -1)


def _kind(advice: Advice, applies: Applies) -> Literal["when", "near", "table"]:
    if applies == "table":
        return "table"
    if applies == "near":
        return "near" if advice.evidence else "when"
    if advice.when is not None:
        return "when"
    return "near" if advice.near is not None else "table"
