"""The winner's training with what is left, and who goes on in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from race_cases import Bottom, Given, entry
from unstuck.race.finish import _from_the_bottom, ahead_of, finish, kept
from unstuck.race.schedule import Curve


@pytest.mark.parametrize(
    ("name", "points", "patient", "gives_way"),
    [
        ("afresh", [(20_000, [200.0]), (40_000, [900.0])], False, False),  # ahead
        ("afresh", [(20_000, [200.0]), (40_000, [500.0])], False, True),
        ("afresh", [(20_000, [200.0]), (40_000, [500.0])], True, False),  # it is passing, and there is time
        ("afresh", [(20_000, [200.0]), (40_000, [210.0])], True, True),
        ("transplant", [(12_000, [740.0, 600.0]), (30_000, [760.0, 780.0])], False, False),
        ("transplant", [(12_000, [740.0, 600.0]), (30_000, [300.0, 310.0])], True, True),
    ],
)
def test_who_is_not_ahead_gives_way_to_the_trunk(
    name: str, points: list[tuple[int, list[float]]], patient: bool, gives_way: bool
) -> None:
    trunk, winner = entry("continue", (12_000, [750.0, 750.0])), entry(name, *points)
    track_ = Given(
        {
            "continue": Curve("continue", 12_000, 750.0, 5.0),
            name: Curve(name, points[-1][0], float(np.mean(points[-1][1])), 5.0, 0.0, 0.001),
        }
    )
    found = ahead_of(track_, winner, [trunk], patient)
    assert (found is trunk) == gives_way
    assert (winner.rank.status == "dropped") == gives_way


def test_the_best_of_all_points_is_the_finalist() -> None:
    levels = iter([800.0, 850.0, 3300.0, 900.0, 1200.0])
    stops = []

    class _Last(Given):
        quantum, episodes, stretches, episode = 1000, 2, (3, 3, 1, 1, 1), 1000

        def train(self, racing: Any, stop: int, episodes: int | None = None) -> None:
            (each,) = racing
            self.spent["train"] += stop - each.trained
            self.spent["judge"] = self.spent.get("judge", 0) + 2 * 1000
            each.trained = stop
            each.points.append((stop, [next(levels)]))
            stops.append(stop)

    track_ = _Last({"afresh": Curve("afresh", 30_000, 800.0, 5.0)})
    track_.episode = 1000
    winner = entry("afresh", (30_000, [700.0]))
    assert finish(track_, winner, []) == (winner, stops[2])
    lengths = np.diff([30_000, *stops])
    assert lengths[:2].min() > 2 * lengths[2:].max()
    assert track_.left - track_.reserve.steps >= 0


@pytest.mark.parametrize(
    ("level", "episode", "tried"),
    [
        (760.0, 100, True),  # no better than the agent before
        (1500.0, 100, False),
        (760.0, 1000, False),  # there is no time on a short budget
    ],
)
def test_who_stays_flat_leaves_the_rest_to_what_begins_from_the_bottom(level: float, episode: int, tried: bool) -> None:
    class _Rest(Given):
        quantum, episodes, stretches = 1000, 2, (3, 3, 1, 1, 1)

        def train(self, racing: Any, stop: int, episodes: int | None = None) -> None:
            (each,) = racing
            self.spent["train"] += stop - each.trained
            each.trained = stop
            each.points.append((stop, [3000.0 if each is late else level]))

    track_ = _Rest({})
    track_.episode = episode
    winner, late = entry("transplant", (16_000, [1400.0])), entry("afresh")
    late.out("not tried: transplant is on its way without it")
    best, _ = finish(track_, winner, [], [late])
    assert best is (late if tried else winner)
    assert bool(late.points) == tried
    assert winner.trained > 16_000
    # What was trained remains in the running.
    assert winner.rank.status == ("dropped" if tried else "winner")


@pytest.mark.parametrize(("length", "full"), [(150, False), (600, True)])
def test_what_short_episodes_leave_of_the_reserve_is_trained_with(length: int, full: bool) -> None:
    track_ = Given({})
    track_.budget, track_.episode = 1_000_000, 1000
    winner = entry("afresh", (30_000, [700.0, 800.0]))
    assert kept(track_, winner) == track_.reserve.steps  # nothing is known of its episodes
    winner.facts = {"judged": 2 * length}
    assert kept(track_, winner) == (track_.reserve.steps if full else 24_000)
    track_.budget = 50_000
    del track_.reserve
    assert kept(track_, winner) <= track_.reserve.steps


def test_what_is_tried_after_all_is_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it needs is gathered, and paid for, before it is known for how many steps it is trained."""
    track_ = Bottom({"afresh": Curve("afresh", 20_000, 100.0, 5.0)})
    asked: list[str] = []
    monkeypatch.setattr(track_, "ready", lambda racing: asked.extend(e.name for e in racing), raising=False)
    flat = entry("continue", (20_000, [750.0]))
    late = entry("afresh")
    assert _from_the_bottom(track_, flat, late) is late
    assert asked == ["afresh"]
    assert flat.rank.status == "dropped"
