"""Races whose learning curves are given."""

from __future__ import annotations

from typing import Any

from unstuck.config import RaceConfig
from unstuck.guide.plan import Plan
from unstuck.race import track
from unstuck.race.competitors import competitor
from unstuck.race.entry import Entry
from unstuck.race.schedule import Curve


class Given(track.Track):
    """One with curves that are given."""

    def __init__(self, curves: dict[str, Curve]) -> None:
        self.curves, self.total, self.budget, self.spent = curves, 60_000, 100_000, {"train": 50_000}
        self.run = self.home = None  # type: ignore[assignment]
        self.config, self.episode, self.entries = RaceConfig(treatments=("continue", "afresh")), 1000, []

    def curve(self, entry: Entry) -> Curve:
        return self.curves[entry.name]

    before = (750.0, 10.0)  # type: ignore[assignment]

    def given(self, mode: Any) -> dict[int, float]:
        return {}

    def show(self, title: str = "") -> None:
        pass


def entry(name: str, *points: tuple[int, list[float]]) -> Entry:
    return Entry(competitor(name), Plan(), None, points[-1][0] if points else 0, list(points))


class Bottom(Given):
    """Whose late ones end where they are said to."""

    def __init__(self, curves: dict[str, Curve]) -> None:
        super().__init__(curves)
        self.steps: dict[str, int] = {}
        self.quantum, self.episodes, self.stretches = 1000, 2, (1, 1)

    def train(self, racing: Any, stop: int, episodes: int | None = None) -> None:
        for each in racing:
            self.steps[each.name] = stop
