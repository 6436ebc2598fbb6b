"""Many conjunctions of intervals over the same variables, tested at once by table look-up.

The bounds that occur on a variable cut its range into cells, and within a cell no condition changes its truth. So for
each variable and cell a row of bits says which pieces may hold there. A state is looked up once for each variable,
whatever the number of pieces, and the rows found are combined with `&`; a piece more costs a bit for each variable.
(The idea is that of bitmap indexes in databases.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MAX_CUTS = 256
"""Cuts of one variable at most: the rows then stay in the cache. With more bounds than that, a bit says that the piece
holds somewhere in the cell, and what is found is checked."""
MAX_LAYERS = 8
"""Alternatives of one piece that have bits; what the others say is checked."""
FEW = 8192
"""Bytes of bits that are unpacked to find the first; of more, only one byte of each row."""
_LOWEST = np.array([0, *((b & -b).bit_length() - 1 for b in range(1, 256))], dtype=np.intp)
"""Of each byte but 0."""


@dataclass(frozen=True)
class Minus:
    """`times` · y of a variable y, or `times` · |y| if `abs`."""

    variable: int
    abs: bool = False
    times: float = 1.0


@dataclass(frozen=True)
class Column:
    """What is compared with bounds: a variable, or its absolute value if `abs`; of that, `minus` is taken off, if
    given."""

    variable: int
    abs: bool = False
    minus: Minus | None = None


@dataclass(frozen=True)
class Interval:
    """low <= value <= high; or, `negated`, that this is not so, which is true of NaN too."""

    column: Column
    low: float = -np.inf
    high: float = np.inf
    negated: bool = False


class Differences:
    """Takes other variables off what is compared, where there are any: x becomes x - times · y."""

    def __init__(self, minus: Sequence[Minus | None]):
        self._rows = np.array([k for k, m in enumerate(minus) if m is not None], dtype=np.intp)
        those = [m for m in minus if m is not None]
        self._columns = np.array([m.variable for m in those], dtype=np.intp)
        self._abs = np.array([[m.abs] for m in those], dtype=bool).reshape(-1, 1)
        self._times = np.array([[m.times] for m in those]).reshape(-1, 1)
        self.variables: set[int] = set(self._columns.tolist())

    def __call__(self, x: np.ndarray, values: np.ndarray) -> None:
        """(K, N) what is compared, (V, N) values of variables. Changes `x`."""
        if self._rows.size:
            y = values.take(self._columns, axis=0)
            np.abs(y, out=y, where=self._abs)
            with np.errstate(invalid="ignore"):  # of infinities, which compare as NaN then
                x[self._rows] -= self._times * y


Clause = tuple[Interval, ...]
"""Holds where one of its intervals does."""


class Masks:
    """Pieces, each a conjunction of clauses → the first that holds in each row.

    Attributes:
        exact: whether bits alone decide; False where a variable has more than `max_cuts` bounds, or a piece more
            than `MAX_LAYERS` clauses with several intervals.
    """

    def __init__(self, pieces: Sequence[Sequence[Clause]], max_cuts: int | None = MAX_CUTS):
        self._pieces, self.exact = pieces, all(sum(len(c) > 1 for c in p) <= MAX_LAYERS for p in pieces)
        found = dict.fromkeys(i.column for piece in pieces for clause in piece for i in clause)
        columns = sorted(found, key=lambda column: column.variable)
        number = {column: k for k, column in enumerate(columns)}
        self._variables = np.array([c.variable for c in columns], dtype=np.intp)
        self._abs = np.array([[c.abs] for c in columns], dtype=bool)
        # Looked at once, not at every step: each numpy call there costs more than the arithmetic that it does.
        self._any_abs = bool(self._abs.any())
        self._in_order = self._variables.tolist() == [*range(len(columns))]
        self._less = Differences([c.minus for c in columns])
        flat = np.array(
            [
                (piece, layer, number[i.column], i.low, i.high, i.negated)
                for piece, clauses in enumerate(pieces)
                for layer, clause in _layered(clauses)
                for i in clause
            ]
        ).reshape(-1, 6)
        self._cut(flat, len(columns), max_cuts)
        self._intervals: list[list[list[tuple[int, float, float, bool]]]] = []
        """Of each piece and clause, with the number of the column, where `first` has to check."""
        if not self.exact:
            self._intervals = [
                [[(number[i.column], i.low, i.high, i.negated) for i in clause] for clause in piece] for piece in pieces
            ]
        self._keys = np.empty((0, 0), dtype=complex)
        layers = range(int(flat[:, 1].max(initial=0)) + 1)
        self._layers = [self._compiled(flat[flat[:, 1] == layer], layer > 0) for layer in layers]

    @property
    def variables(self) -> set[int]:
        """The variables on which a bound lies; no other is looked at."""
        return set(self._variables.tolist()) | self._less.variables

    def __len__(self) -> int:
        return len(self._pieces)

    def _cut(self, flat: np.ndarray, columns: int, most: int | None) -> None:
        """Choose the cuts of each column: x lies in cell p = #{cuts < x}; the last cut, infinity, is never passed."""
        self._cuts: list[np.ndarray] = []
        for k in range(columns):
            low, high = flat[flat[:, 2] == k, 3:5].T
            # x >= low is x > the number before.
            cuts = np.unique(np.concatenate([np.nextafter(low, -np.inf), high]))
            cuts = cuts[np.isfinite(cuts)]
            if most is not None and len(cuts) > most:
                self.exact = False
                cuts = cuts[np.linspace(0, len(cuts) - 1, most).astype(int)]
            self._cuts.append(np.append(cuts, np.inf))
        self._start = np.concatenate([[0], np.cumsum([len(c) for c in self._cuts])]).astype(np.intp)
        # Complex numbers are ordered by their real part first: one search finds the cells of all columns. Those with
        # NaN as the imaginary part come after all others, in the order of their real parts.
        self._bounds = np.empty(self._start[-1] + columns, dtype=complex)
        self._bounds.real = np.concatenate([np.repeat(np.arange(columns), np.diff(self._start)), np.arange(columns)])
        self._bounds.imag = np.concatenate([*self._cuts, np.full(columns, np.nan)])

    def _compiled(self, flat: np.ndarray, alternatives: bool) -> tuple[np.ndarray | None, np.ndarray]:
        """The columns of a layer (None: all) and its bits: a row for each cell of each column, then for NaN of each.

        In layer 0 a bit is set where all of a piece's intervals of the column may hold, and layers are combined with
        `&` over columns; with `alternatives` it is set where one may, and they are combined with `|`. One more bit than
        there are pieces is always set: the first bit of a row in which no piece holds.
        """
        count, cells = len(self._pieces) + 1, self._start[-1]
        words = -(-count // 64)
        table = np.zeros((cells + len(self._cuts), words), dtype=np.uint64)
        concerned = np.zeros(count, dtype=bool)
        concerned[flat[:, 0].astype(int)] = True
        used = np.unique(flat[:, 2]).astype(np.intp)
        for k in used:
            mine = flat[flat[:, 2] == k]
            piece, negated = mine[:, 0].astype(np.intp), mine[:, 5].astype(bool)
            held = _cells_held(self._cuts[k], mine[:, 3], mine[:, 4], negated, piece, count)
            wanted = np.bincount(piece, minlength=count)
            holds = (held > 0) | ~concerned if alternatives else held == wanted
            bits = _packed(holds, words)
            table[self._start[k] : self._start[k + 1]] = bits[:-1]
            table[cells + k] = bits[-1]
        return None if len(used) == len(self._cuts) else used, table

    def values(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values of variables → (K, N) what is compared with bounds, for each column; maybe a view."""
        if self._in_order and not self._any_abs and not self._less.variables:
            return values.T[: len(self._variables)]
        x = values.T.take(self._variables, axis=0)
        if self._any_abs:
            np.abs(x, out=x, where=self._abs)
        self._less(x, values.T)
        return x

    def bits(self, x: np.ndarray) -> np.ndarray:
        """(K, N) values of columns → (N, words) a bit for each piece that may hold, piece 0 the lowest, and one for the
        end."""
        if self._keys.shape != x.shape:
            self._keys = np.empty(x.shape, dtype=complex)
            self._keys.real = np.arange(len(x))[:, None]
        self._keys.imag = x
        cells = self._bounds.searchsorted(self._keys)
        used, table = self._layers[0]
        bits = np.bitwise_and.reduce(table.take(cells if used is None else cells[used], axis=0), axis=0)
        for used, table in self._layers[1:]:
            bits &= np.bitwise_or.reduce(table.take(cells if used is None else cells[used], axis=0), axis=0)
        return bits

    def first(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values of variables, float64 → (N,) the first piece that holds, `len(self)` where none does."""
        x = self.values(values)
        bits = self.bits(x).view(np.uint8)
        found = self._lowest(bits)
        if not self.exact:
            self._check(x, bits, found)
        return found

    def all(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values of variables → (N, pieces) whether each may hold; whether it does, if `exact`."""
        bits = self.bits(self.values(values)).view(np.uint8)
        return np.unpackbits(bits, axis=1, count=len(self._pieces), bitorder="little").view(bool)

    def pairs(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, V) values of variables → what `all` says, as rows (M,) and pieces (M,) in order; quick if few hold."""
        bits = self.bits(self.values(values)).view(np.uint8)
        end = len(self._pieces)
        bits[:, end >> 3] &= 255 ^ (1 << (end & 7))
        filled = np.flatnonzero(bits != 0)
        each = np.flatnonzero(np.unpackbits(bits.ravel().take(filled), bitorder="little").view(bool))
        rows, byte = np.divmod(filled.take(each >> 3), bits.shape[1])
        return rows, byte * 8 + (each & 7)

    def _lowest(self, bits: np.ndarray) -> np.ndarray:
        """(N, bytes) → (N,) the number of the lowest bit that is set."""
        if bits.size <= FEW:
            return np.unpackbits(bits, axis=1, bitorder="little").view(bool).argmax(axis=1)
        where = bits.astype(bool).argmax(axis=1)
        byte = bits.ravel().take(where + np.arange(0, bits.size, bits.shape[1]))
        return where * 8 + _LOWEST.take(byte)

    def _check(self, x: np.ndarray, bits: np.ndarray, found: np.ndarray) -> None:
        """Go on to the next bit wherever the piece found does not hold after all. Changes `bits` and `found`."""
        rows = np.flatnonzero(found < len(self._pieces))
        while rows.size:
            rows = rows[[not self._holds(int(found[r]), x[:, r].tolist()) for r in rows.tolist()]]
            if not rows.size:
                return
            at = found[rows]
            bits[rows, at >> 3] &= (255 ^ (1 << (at & 7))).astype(np.uint8)
            found[rows] = self._lowest(bits[rows])
            rows = rows[found[rows] < len(self._pieces)]

    def _holds(self, piece: int, x: Sequence[float]) -> bool:
        return all(
            any((low <= x[k] <= high) != negated for k, low, high, negated in clause)
            for clause in self._intervals[piece]
        )


def _layered(clauses: Sequence[Clause]) -> Iterator[tuple[int, Clause]]:
    """Each clause with its layer: 0 for those of one interval, the others one each as far as there are layers."""
    layer = 0
    for clause in clauses:
        layer += len(clause) > 1
        if len(clause) == 1 or layer <= MAX_LAYERS:
            yield layer if len(clause) > 1 else 0, clause


def _cells_held(
    cuts: np.ndarray, low: np.ndarray, high: np.ndarray, negated: np.ndarray, piece: np.ndarray, count: int
) -> np.ndarray:
    """How many of a piece's intervals may hold in each cell, and for NaN: (cells + 1, pieces)."""
    below = np.nextafter(low, -np.inf)
    start, stop = cuts.searchsorted(below, "right"), cuts.searchsorted(high, "left") + 1
    # The complement is x <= below, or x > high.
    upto = np.where(np.isfinite(low), cuts.searchsorted(below, "left") + 1, 0)
    beyond = cuts.searchsorted(high, "right")
    change = np.zeros((len(cuts) + 1, count), dtype=np.int16)
    plain = ~negated
    np.add.at(change, (start[plain], piece[plain]), 1)
    np.add.at(change, (np.maximum(start, stop)[plain], piece[plain]), -1)
    np.add.at(change, (0, piece[negated]), 1)
    np.add.at(change, (upto[negated], piece[negated]), -1)
    np.add.at(change, (np.maximum(upto, beyond)[negated], piece[negated]), 1)
    held = np.cumsum(change, axis=0, dtype=np.int16)
    held[-1] = np.bincount(piece[negated], minlength=count)
    return held


def _packed(holds: np.ndarray, words: int) -> np.ndarray:
    """(rows, pieces) bool → (rows, words) bits, piece 0 the lowest of the first byte."""
    packed = np.packbits(holds, axis=1, bitorder="little")
    out = np.zeros((len(holds), words * 8), dtype=np.uint8)
    out[:, : packed.shape[1]] = packed
    return out.view(np.uint64)
