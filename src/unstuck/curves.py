"""The learning curve that a training run leaves in its folder: curve.jsonl, a line for each update."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

CURVE = "curve.jsonl"
TAIL = 4_000
"""Bytes at the end of a file in which its last line lies."""


@dataclass(frozen=True)
class CurvePoint:
    """What happened between two updates (off-policy: between two reports)."""

    steps: int
    """Environment steps that the arm was charged so far, those before training included."""
    trained: int = 0
    """Of these, steps of training."""
    return_mean: float | None = None
    """Of the training episodes that ended; None where none did."""
    episodes: int = 0
    length_mean: float | None = None
    hit_rate: float | None = None
    """Share of the states in which advice applied; None without advice."""
    bonus_mean: float | None = None
    """Guidance reward of a step, before fading."""
    steps_per_second: float = 0.0
    round: int | None = None
    """Of several rounds; None where there is only one."""
    signals: Mapping[str, Any] = field(default_factory=dict)
    """By name, what the algorithm and parts of guidance tell beside."""

    def value(self, name: str) -> float | None:
        """A number by its name, of the point's own or of its signals; None where there is none of that name."""
        found = getattr(self, name) if name in _OWN else self.signals.get(name)
        return float(found) if isinstance(found, int | float) else None

    def as_line(self) -> str:
        """One line of the file."""
        held = {name: getattr(self, name) for name in _OWN if name != "round" or self.round is not None}
        return json.dumps({**held, **self.signals}) + "\n"

    @classmethod
    def of(cls, line: str) -> CurvePoint:
        """Raises:
        ValueError: it is no line of a learning curve.
        """
        try:
            data = dict(json.loads(line))
            own = {name: data.pop(name) for name in _OWN if name in data}
            point = cls(**own, signals=data)
        except (TypeError, RecursionError) as error:
            raise ValueError(f"no line of a learning curve: {error}") from error
        held = [v for v in {**data, **own}.values() if v is not None]
        if not isinstance(point.steps, int | float) or not all(
            isinstance(v, int | float) for v in own.values() if v is not None
        ):
            raise ValueError("no line of a learning curve: it holds something that is no number")
        if any(isinstance(v, int) and abs(v) > _MOST for v in held):
            raise ValueError("no line of a learning curve: a number beyond any")
        return point


_MOST = 2**63
_OWN = tuple(f.name for f in fields(CurvePoint) if f.name != "signals")


def read_curve(path: Path) -> tuple[CurvePoint, ...]:
    """The points of a file, or of the file in a training run's folder; what cannot be read is left out."""
    return tuple(_points(path / CURVE if path.is_dir() else path))


def _points(path: Path) -> Iterator[CurvePoint]:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                yield CurvePoint.of(line)


def last_point(folder: Path) -> CurvePoint | None:
    """The newest point of a training run under way or done, without reading all of them; None where there is none."""
    try:
        with open(folder / CURVE, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            return CurvePoint.of(file.read().splitlines()[-1].decode("utf-8"))
    except (OSError, ValueError, IndexError):
        return None


def write_curve(path: Path, points: Iterable[CurvePoint]) -> None:
    """All of a curve, into the file of this name."""
    path.write_text("".join(point.as_line() for point in points), encoding="utf-8")
