"""Who trains on in a race, and who gives way, by curves that are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from race_cases import Bottom, Given, entry
from unstuck.config import RaceConfig
from unstuck.race import contest as contests
from unstuck.race import layout
from unstuck.race.contest import Contest
from unstuck.race.entering import Outlook
from unstuck.race.schedule import Curve, Rungs


def test_a_lucky_return_is_no_reason_to_try_nothing_else() -> None:
    curves = {
        "continue": Curve("continue", 16_000, 700.0, 5.0),
        "guidance": Curve("guidance", 32_000, 2080.0, 200.0, 0.0001, 0.002),
        "afresh": Curve("afresh", 25_000, 200.0, 5.0, 0.1, 0.001),
    }
    trunk, lucky, late = (entry(name, (16_000, [curves[name].level])) for name in curves)
    late.points.clear()
    rungs = Rungs(entered=2, first=16_000, episodes=2)

    def goes_on() -> str:
        track_ = Bottom(curves)
        return Contest(track_, [trunk, lucky], [late], rungs).trials.try_late(lucky, [late]).name

    assert goes_on() == "afresh"
    curves["guidance"] = Curve("guidance", 32_000, 2080.0, 200.0, 0.02, 0.002)  # its training says so too
    assert goes_on() == "guidance"


@pytest.mark.parametrize(
    ("slope", "episode", "goes_on"), [(0.02, 100, "afresh"), (0.05, 100, "continue"), (0.02, 1000, "continue")]
)
def test_a_rise_that_may_be_noise_outbids_nobody_on_a_long_budget(slope: float, episode: int, goes_on: str) -> None:
    """As on a Walker2d: 16,000 steps of plain PPO, 390 after 350, drawn out to 1403."""
    curves = {
        "continue": Curve("continue", 8_000, 760.0, 5.0, slope, 0.015),
        "afresh": Curve("afresh", 25_000, 400.0, 5.0, 0.01, 0.002),
    }
    trunk, late = entry("continue", (8_000, [760.0])), entry("afresh")
    track_ = Bottom(curves)
    track_.episode = episode
    rungs = Rungs(entered=1, first=8_000, episodes=2)
    assert Contest(track_, [trunk], [late], rungs, Outlook(bottom_first=True)).decide()[0].name == goes_on


@pytest.mark.parametrize(
    ("level", "stuck", "goes_on"), [(3400.0, False, "continue"), (1000.0, False, "afresh"), (3400.0, True, "afresh")]
)
def test_what_plain_training_lifts_at_once_is_left_to_it(level: float, stuck: bool, goes_on: str) -> None:
    """As RL Zoo's SAC agent of Hopper: 1100 before, 3400 after 6,000 steps, which show no slope."""
    curves = {"continue": Curve("continue", 8_000, level, 100.0), "afresh": Curve("afresh", 25_000, 900.0, 5.0, 1, 0.1)}
    trunk, late = entry("continue", (8_000, [level])), entry("afresh")
    rungs = Rungs(entered=1, first=8_000, episodes=2)
    contest = Contest(Bottom(curves), [trunk], [late], rungs, Outlook(trunk_first=not stuck, bottom_first=True))
    assert contest.decide()[0].name == goes_on


@pytest.mark.parametrize(
    ("level", "goes_on", "looks"), [(3400.0, "continue", [3_000]), (760.0, "afresh", [3_000, 7_000])]
)
def test_a_glimpse_of_what_learns_by_replay(level: float, goes_on: str, looks: list[int]) -> None:
    """As RL Zoo's SAC agent of Hopper: 3400 after 6,000 steps, 1100 after 12,000."""
    curves = {"continue": Curve("continue", 3_000, level, 100.0), "afresh": Curve("afresh", 25_000, 900.0, 5.0, 1, 0.1)}
    stops = []

    class _Looked(Bottom):
        def train(self, racing: Any, stop: int, episodes: int | None = None) -> None:
            stops.extend([stop] if racing[0].name == "continue" else [])
            super().train(racing, stop)

    trunk, late = entry("continue", (3_000, [level])), entry("afresh")
    rungs = Rungs(entered=1, first=8_000, episodes=2)
    contest = Contest(_Looked(curves), [trunk], [late], rungs, Outlook(bottom_first=True), look=3_000)
    assert contest.decide()[0].name == goes_on
    assert stops == looks


@pytest.mark.parametrize(
    ("trunk_slope", "level", "goes_on"),
    [
        (0.0, 720.0, "transplant"),
        (0.0, 400.0, "continue"),
        (0.02, 720.0, "continue"),
        (0.003, 720.0, "transplant"),  # its rise may be noise
    ],
)
def test_a_flat_trunk_leaves_the_way_to_what_is_not_clearly_below(
    trunk_slope: float, level: float, goes_on: str
) -> None:
    trunk, other = entry("continue", (12_000, [760.0])), entry("transplant", (12_000, [level]))
    track_ = Given(
        {
            "continue": Curve("continue", 12_000, 760.0, 5.0, trunk_slope, 0.002),
            "transplant": Curve("transplant", 12_000, level, 5.0),
        }
    )
    rungs = Rungs(entered=2, first=12_000, episodes=2)
    assert Contest(track_, [trunk, other], [], rungs).treated(trunk).name == goes_on


def test_plain_ppo_that_won_a_rung_can_be_followed_by_the_best_of_the_others() -> None:
    curves = {
        "continue": Curve("continue", 16_000, 900.0, 5.0, 0.05, 0.002),
        "transplant": Curve("transplant", 16_000, 740.0, 5.0),
        "guidance": Curve("guidance", 16_000, 500.0, 5.0),
    }
    trunk, *others = early = [entry(name, (16_000, [curve.level])) for name, curve in curves.items()]

    class _Rung(Given):
        def train(self, racing: Any, stop: int, episodes: int | None = None) -> None:
            pass

    rungs = Rungs(entered=3, first=16_000, episodes=2)
    winner, rivals, _ = Contest(_Rung(curves), early, [], rungs).run()
    assert winner is trunk
    assert rivals == others[:1]


def test_what_begins_from_the_bottom_is_left_the_steps_that_it_needs() -> None:
    track_ = Bottom({})
    track_.budget, track_.quantum, track_.episode = 500_000, 2048, 1000
    track_.config = RaceConfig()
    both = layout.lay_out(track_, 5, late=True)
    assert (both.entered, both.first) == (2, 16_384)
    assert layout.lay_out(track_, 5, late=True, few=3).entered == 3
    assert layout.lay_out(track_, 5, late=False).entered > 3
    for budget in (20_000, 40_000, 100_000):  # always room for plain PPO and another, or for none that begin below
        track_.budget = budget
        for episode in (50, 200, 1000):
            track_.episode = episode
            few = contests.contest(track_, [entry("continue"), entry("transplant"), entry("afresh")])
            assert len(few.early) == 2 or not few.late


@pytest.mark.parametrize(("long", "guided", "tried"), [(True, True, 2), (False, True, 0), (False, False, 1)])
def test_on_a_short_budget_either_a_guided_one_or_one_from_the_bottom_is_tried(
    long: bool, guided: bool, tried: int
) -> None:
    track_ = Bottom({})
    track_.budget = 100_000
    track_.episode = 100 if long else 1000
    entered = [entry(n) for n in ("continue", "guidance" if guided else "transplant", "afresh", "shrink-and-perturb")]
    assert len(contests.contest(track_, entered).late) == tried


@pytest.mark.parametrize(
    ("first", "second", "goes_on", "trained"),
    [
        # Below, and on its way above: it goes on, whatever the other one might do.
        ((200.0, 0.05), (900.0, 0.0), "afresh", ["afresh"]),
        ((200.0, 0.0), (300.0, 0.05), "shrink-and-perturb", ["afresh", "shrink-and-perturb"]),
        ((200.0, 0.0), (300.0, 0.0), "continue", ["afresh", "shrink-and-perturb"]),
    ],
)
def test_what_begins_from_the_bottom_is_tried_one_after_the_other(
    first: tuple[float, float], second: tuple[float, float], goes_on: str, trained: list[str]
) -> None:
    track_ = Bottom(
        {
            "continue": Curve("continue", 16_000, 750.0, 5.0, 0.0, 0.001),
            "afresh": Curve("afresh", 25_000, first[0], 5.0, first[1], 0.001),
            "shrink-and-perturb": Curve("shrink-and-perturb", 25_000, second[0], 5.0, second[1], 0.001),
        }
    )
    trunk, *late = (entry(name) for name in track_.curves)
    rungs = Rungs(entered=1, first=16_000, episodes=2)
    found = Contest(track_, [trunk], late, rungs).trials.try_late(trunk, late)
    assert found.name == goes_on
    assert list(track_.steps) == trained
    assert [e.name for e in (trunk, *late) if e.rank.status == "dropped"] == [
        name for name in track_.curves if name != goes_on
    ]


@pytest.mark.parametrize(("near", "spent", "tried"), [(False, 40_000, True), (True, 40_000, False), (True, 0, True)])
def test_from_an_agent_that_is_halfway_the_bottom_must_have_time(near: bool, spent: int, tried: bool) -> None:
    """It has far to go to be where that is; what it is tried for is at most half of what is left."""
    level = {"continue": 750.0, "afresh": 700.0}
    track_ = Bottom({name: Curve(name, 16_000, at, 5.0, 0.0, 0.001) for name, at in level.items()})
    track_.spent = {"train": spent}
    trunk, late = entry("continue", (16_000, [750.0])), entry("afresh")
    contest = Contest(track_, [trunk], [late], Rungs(1, 16_000, 2), outlook=Outlook(near=near))
    assert contest.trials.try_late(trunk, [late]) is trunk
    assert ("afresh" in track_.steps) == tried
    assert tried or "no room" in late.rank.note


@pytest.mark.parametrize("slope", [0.05, 0.0])
def test_far_from_a_good_agent_the_bottom_comes_first(slope: float) -> None:
    track_ = Bottom(
        {
            "continue": Curve("continue", 16_000, 750.0, 5.0, 0.0, 0.001),
            "transplant": Curve("transplant", 16_000, 760.0, 5.0, 0.0, 0.001),
            "afresh": Curve("afresh", 25_000, 300.0, 5.0, slope, 0.001),
        }
    )
    _, other, late = early = [entry(name, (16_000, [c.level])) for name, c in track_.curves.items()]
    late.points.clear()
    rungs = Rungs(entered=2, first=20_000, episodes=2)
    found = Contest(track_, early[:2], [late], rungs, Outlook(bottom_first=True)).run()
    if slope:
        assert found.winner is late
        assert track_.steps == {"continue": 7_000, "afresh": 25_000}  # a look at the trunk, and nobody else
        assert other.rank.status == "dropped"
    else:
        assert found.winner is other  # given up, so those that go on from the agent race after all
        assert track_.steps["transplant"] == 20_000


@pytest.mark.parametrize(("near", "entered"), [(True, 4), (False, 2)])
def test_near_a_good_agent_more_is_tried_that_goes_on_from_it(near: bool, entered: int) -> None:
    track_ = Bottom({})
    track_.budget, track_.episode, track_.config = 500_000, 1000, RaceConfig()
    names_ = ("continue", "guidance", "small-batches", "short-episodes", "afresh")
    found = contests.contest(track_, [entry(n) for n in names_], outlook=Outlook(near=near))
    assert len(found.early) == entered
    assert [e.name for e in found.late] == ["afresh"]


@pytest.mark.parametrize(
    ("budget", "slope", "trained"),
    [
        (250_000, 0.0, 62_500),  # as long as what begins from the bottom would have
        (250_000, 0.05, 16_000),  # it is on its way
        (500_000, 0.0, 16_000),  # there is time enough for what begins from the bottom
        (100_000, 0.0, 16_000),
    ],
)
def test_on_a_middling_budget_the_best_is_given_time_before_the_bottom_is_tried(
    budget: int, slope: float, trained: int
) -> None:
    name = "transplant"
    track_ = Bottom(
        {
            "continue": Curve("continue", 16_000, 750.0, 5.0, 0.0, 0.001),
            name: Curve(name, 16_000, 760.0, 5.0, slope, 0.001),
            "afresh": Curve("afresh", 25_000, 300.0, 5.0, 0.05, 0.001),
        }
    )
    track_.budget, track_.episode, track_.quantum = budget, 1_000, 100
    _, base, late = early = [entry(n, (16_000, [c.level])) for n, c in track_.curves.items()]
    late.points.clear()
    rungs = Rungs(entered=2, first=16_000, episodes=2)
    Contest(track_, early[:2], [late], rungs).decide()
    assert track_.steps.get(base.name, base.trained) == trained


@pytest.mark.parametrize(
    ("first", "fallen", "near", "level", "goes_on"),
    [
        ("transplant+guidance", 500.0, True, 800.0, "transplant"),
        ("transplant+guidance", 500.0, True, 700.0, "continue"),
        ("transplant+guidance", 755.0, True, 800.0, None),  # it did not fall
        ("thaw", 500.0, True, 800.0, None),
        ("transplant+guidance", 500.0, False, 800.0, None),  # what begins from the bottom has less far to go
    ],
)
def test_near_a_good_agent_treatments_are_tried_without_a_guidance_that_does_not_suit(
    first: str, fallen: float, near: bool, level: float, goes_on: str | None
) -> None:
    """As on a Swimmer under reward terms by chance: 200 after 212, where the transplant alone came to 350."""
    track_ = Bottom(
        {
            "continue": Curve("continue", 16_000, 750.0, 5.0, 0.0, 0.001),
            first: Curve(first, 16_000, fallen, 5.0, 0.0, 0.001),
            "afresh": Curve("afresh", 25_000, 100.0, 5.0, 0.0, 0.001),
            "transplant+guidance@2": Curve("transplant+guidance@2", 16_000, 900.0, 5.0, 0.0, 0.001),
            "transplant": Curve("transplant", 16_000, level, 5.0, 0.0, 0.001),
        }
    )
    trunk, other, late, *waiting = (entry(n, (16_000, [c.level])) for n, c in track_.curves.items())
    for one in (late, *waiting):
        one.points.clear()
    rungs = Rungs(entered=2, first=16_000, episodes=2)
    contest = Contest(track_, [trunk, other], [late], rungs, waiting=waiting, outlook=Outlook(near=near))
    winner = contest.run().winner.name
    assert ("transplant" in track_.steps) == (goes_on is not None)
    assert goes_on in (None, winner)
    assert waiting[0].name not in track_.steps  # another opinion is not what is asked for


@pytest.mark.parametrize(
    ("budget", "missing", "level", "noise", "rise", "late", "alone"),
    [
        (500_000, 200.0, 900.0, 20.0, 0.0, 700.0, True),
        (500_000, 200.0, 900.0, 200.0, 0.0, 700.0, False),  # that may be chance
        (500_000, 200.0, 500.0, 20.0, 3.0, 850.0, True),  # a bad point of a training that gets on
        (500_000, 200.0, 500.0, 20.0, 1.0, 850.0, False),
        (500_000, 900.0, 900.0, 20.0, 3.0, 850.0, False),  # surely better, and by little
        (150_000, 200.0, 900.0, 20.0, 0.0, 700.0, False),  # a quarter is hardly more than a rung
    ],
)
def test_near_a_good_agent_plain_ppo_is_given_time_before_others_race(
    budget: int, missing: float, level: float, noise: float, rise: float, late: float, alone: bool
) -> None:
    """RL Zoo's TRPO agent of LunarLander: after 18,432 steps plain PPO returns 59 in three episodes, and was dropped;
    after 125,000 its episodes in training return 240, the agent's 155."""
    curves = {"continue": Curve("continue", 25_000, level, noise, 0.0, 0.001)}
    track_ = Bottom({**curves, "guidance": Curve("guidance", 16_000, 950.0, 5.0, 0.0, 0.001)})
    track_.budget = budget
    track_.rise = lambda one, stop: rise  # type: ignore[method-assign]
    track_.of_late = lambda one, stop: late  # type: ignore[method-assign]
    trunk, other = entry("continue", (25_000, [level])), entry("guidance", (16_000, [950.0]))
    outlook = Outlook(near=True, missing=missing, patient=True)
    asked: list[tuple[str, int]] = []
    train = track_.train
    track_.train = lambda racing, stop, episodes=None: (  # type: ignore[method-assign]
        asked.extend((e.name, stop) for e in racing),
        train(racing, stop, episodes),
    )
    found = Contest(track_, [trunk, other], [], Rungs(2, 16_000, 2), outlook).run()
    first = 125_000 if budget == 500_000 else 16_000
    assert asked[0] == ("continue", first), "a quarter of the budget, where that is long"
    assert (found.winner is trunk) == alone
    assert ("guidance" in track_.steps) == (not alone)


def test_the_last_fifth_of_a_training_is_what_it_returns_of_late() -> None:
    track_ = Given({})
    curve = np.array([10_000.0, 70_000.0, 85_000.0, 95_000.0, 110_000.0]), np.arange(5.0), np.array([1, 1, 1, 3, 1.0])
    track_.training_curve = lambda one: curve  # type: ignore[method-assign]
    assert track_.of_late(entry("continue"), 100_000) == 2.75
    assert np.isnan(track_.of_late(entry("continue"), 60_000))
