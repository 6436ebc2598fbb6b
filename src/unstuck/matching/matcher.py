"""Advice, compiled: which piece applies first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from unstuck.errors import GuidanceError
from unstuck.guidance import Advice, Guidance
from unstuck.matching.conditions import Conditions, clauses_of, reach
from unstuck.matching.masks import Clause, Column, Interval, Masks

Applies = Literal["as-given", "table", "near"]
"""`as-given`: each advice's own condition or neighbourhood. `table`: the paper's look-up table, the discretised
state of the evidence. `near`: a neighbourhood of the evidence, whatever condition the advice carries."""

_FAR = 2.0**40
"""Points and cells beyond are all one: far outside of everything that was collected."""
BLOCK = 1024
"""Rows matched at once: what is looked up for more of them would not fit the cache."""


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
        self._bins, self._names = bins, tuple(names)
        kinds = np.array([_kind(a, applies) for a in self.advice], dtype="U5")
        self._kinds = kinds
        near, table = self._of("near"), self._of("table")
        points = [self._point(a, a.near.point if a.near and applies == "as-given" else None, names) for a in near]
        self._points = np.array(points).reshape(len(near), len(names))
        self._radius = np.array([a.near.radius if a.near and applies == "as-given" else radius for a in near])
        self._all_near = False
        cells = [self._cell(self._point(a, None, names)[None])[0] for a in table]
        self._cells = np.array(cells).reshape(len(table), len(names))
        self._all_near = bool((np.abs(self._cells) < _FAR).all())
        self._compile()

    def _of(self, kind: str) -> list[Advice]:
        return [self.advice[i] for i in np.flatnonzero(self._kinds == kind)]

    def _compile(self) -> None:
        column = {name: i for i, name in enumerate(self._names)}
        pieces: dict[int, list[Clause]] = {}
        for i in np.flatnonzero(self._kinds == "when"):
            pieces[int(i)] = clauses_of(self.advice[i].when or (), column)
        pieces |= dict(zip(np.flatnonzero(self._kinds == "near").tolist(), self._neighbourhoods(), strict=True))
        order = sorted(pieces)
        self._masks = Masks([pieces[i] for i in order]) if order else None
        # The last entry stands for what matches nowhere.
        self._number = np.array([*order, -1], dtype=np.intp)
        self._table: dict[bytes, int] = {}
        for k, cell in zip(np.flatnonzero(self._kinds == "table").tolist(), self._cells, strict=True):
            self._table.setdefault(cell.tobytes(), k)

    def _neighbourhoods(self) -> list[list[Clause]]:
        """Each neighbourhood as one interval for each variable that matters to it."""
        points = np.where(np.isnan(self._points), 0.0, self._points)
        low, high = reach(points, self._radius[:, None], self._centre, self._half)
        return [
            [(Interval(Column(v), a[v], b[v]),) for v in np.flatnonzero(~np.isnan(point)).tolist()]
            for point, a, b in zip(self._points, low.tolist(), high.tolist(), strict=True)
        ]

    def _point(self, advice: Advice, point: dict[str, float] | None, names: Sequence[str]) -> np.ndarray:
        """The scaled point around which the advice applies; NaN where a variable does not matter."""
        point = point if point is not None else (advice.evidence.state if advice.evidence else {})
        if not point:
            raise GuidanceError(f"advice {advice.id}: its evidence does not say the state, so it can match nowhere")
        raw = np.array([point.get(n, np.nan) for n in names])
        with np.errstate(over="ignore"):
            return np.clip((raw - self._centre) / self._half, -_FAR, _FAR)

    def _cell(self, scaled: np.ndarray) -> np.ndarray:
        """(N, V) scaled values → the cells of the look-up table that they are in, whole numbers. Uses up `scaled`."""
        scaled += 1
        scaled *= self._bins / 2
        np.floor(scaled, out=scaled)
        # Where no entry lies far out, it makes no difference what cells there are called.
        return scaled if self._all_near else np.clip(np.nan_to_num(scaled, nan=-_FAR), -_FAR, _FAR)

    @property
    def variables(self) -> set[str]:
        """The variables on which matching depends; what the others are makes no difference to `first`."""
        if self._table:
            return set(self._names)
        return {self._names[i] for i in self._masks.variables} if self._masks is not None else set()

    def __len__(self) -> int:
        return len(self.advice)

    @cached_property
    def _conditions(self) -> Conditions:
        return Conditions([a.when or () for a in self._of("when")], self._names)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N, A) whether each piece of advice applies in each row. Looks at all of them."""
        if (self._kinds == "when").all():
            return self._conditions(values)
        out = np.zeros((len(values), len(self.advice)), dtype=bool)
        out[:, self._kinds == "when"] = self._conditions(values)
        scaled = (values - self._centre) / self._half
        distance = np.abs(scaled[:, None, :] - self._points[None])
        distance[:, np.isnan(self._points)] = 0.0
        out[:, self._kinds == "near"] = distance.max(axis=2, initial=0.0) <= self._radius
        out[:, self._kinds == "table"] = (self._cell(scaled)[:, None, :] == self._cells[None]).all(axis=2)
        return out

    def first(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N,) index of the first advice that applies, -1 where none does."""
        if len(values) > BLOCK:
            parts = [self.first(values[i : i + BLOCK]) for i in range(0, len(values), BLOCK)]
            return np.concatenate(parts)
        if self._masks is None:
            return self._look_up(values)
        found = self._number.take(self._masks.first(values))
        if self._table:
            # -1 is the greatest of all when unsigned.
            found = np.minimum(found.view(np.uintp), self._look_up(values).view(np.uintp)).view(np.intp)
        return found

    def _look_up(self, values: np.ndarray) -> np.ndarray:
        """The first piece in the cell of each row, -1 where there is none."""
        scaled = values - self._centre
        scaled /= self._half
        cells = self._cell(scaled)
        data, width = cells.tobytes(), cells.shape[1] * 8
        found = [self._table.get(data[i : i + width], -1) for i in range(0, len(data), width)]
        return np.array(found, dtype=np.intp)


def _kind(advice: Advice, applies: Applies) -> Literal["when", "near", "table"]:
    if applies == "table":
        return "table"
    if applies == "near":
        return "near" if advice.evidence else "when"
    if advice.when is not None:
        return "when"
    return "near" if advice.near is not None else "table"
