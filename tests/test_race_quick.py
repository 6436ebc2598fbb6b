"""When SAC is tried, and how it is judged: by what is known of the agent, and by what could be shown."""

from __future__ import annotations

import numpy as np
import pytest

from race_cases import Bottom, Given, entry
from unstuck.race.contest import Contest
from unstuck.race.entering import Outlook
from unstuck.race.schedule import Curve, Rungs


@pytest.mark.parametrize(
    ("near", "noise", "goes_on"), [(True, 5.0, "guidance"), (True, 30.0, "afresh"), (False, 5.0, "afresh")]
)
def test_near_a_good_agent_what_is_surely_better_goes_on(near: bool, noise: float, goes_on: str) -> None:
    assert _near_a_good_agent(near, noise, missing=2_000.0, late="afresh") == goes_on


@pytest.mark.parametrize(("missing", "goes_on"), [(0.0, "guidance"), (60.0, "guidance"), (300.0, "sac")])
def test_what_is_quick_is_tried_where_that_is_little(missing: float, goes_on: str) -> None:
    """40 more are much of 60, and little of 300."""
    assert _near_a_good_agent(True, 5.0, missing=missing, late="sac") == goes_on


def _near_a_good_agent(near: bool, noise: float, *, missing: float, late: str) -> str:
    track_ = Bottom(
        {
            "continue": Curve("continue", 16_000, 750.0, 5.0, 0.0, 0.001),
            "guidance": Curve("guidance", 16_000, 790.0, noise, 0.0, 0.001),
            "afresh": Curve("afresh", 25_000, 300.0, 5.0, 0.05, 0.001),
            "sac": Curve("sac", 12_000, 700.0, 5.0),
        }
    )
    track_.spent = {"train": 20_000}
    track_.training_curve = lambda one: (np.zeros(1), np.zeros(1), np.ones(1))  # type: ignore[method-assign]
    track_.learns = lambda one: True  # type: ignore[method-assign]
    early = [entry(name, (16_000, [track_.curves[name].level])) for name in ("continue", "guidance")]
    rungs = Rungs(entered=2, first=16_000, episodes=2)
    return Contest(track_, early, [entry(late)], rungs, Outlook(near=near, missing=missing)).run().winner.name


def test_where_no_gain_could_be_shown_all_is_left_to_the_trunk() -> None:
    """As RL Zoo's TRPO agent of LunarLander: after 10,000 steps the treated one returned 272 in five episodes and the
    trunk 150 in two; after 100,000 the trunk has 250, and the other 180."""
    track_ = Bottom({"continue": Curve("continue", 10_000, 150.0, 50.0), "thaw": Curve("thaw", 10_000, 272.0, 5.0)})
    trunk, other, waiting, late = (entry(name) for name in ("continue", "thaw", "small-batches", "afresh"))
    rungs = Rungs(entered=2, first=10_000, episodes=2)
    outlook = Outlook(trunk_first=True, unshown="returns vary")
    found = Contest(track_, [trunk, other], [late], rungs, outlook, waiting=[waiting]).run()
    assert found.winner is trunk
    assert not found.rivals
    assert not found.untried, "nor is anything tried later on"
    assert not trunk.trained, "it has all, so it needs no look"
    assert all(e.rank.note == "not tried: returns vary" for e in (other, waiting, late))


@pytest.mark.parametrize(
    ("shown", "plain", "rise", "level", "goes_on"),
    [
        (True, 710.0, 0.0, 740.0, "sac"),
        (True, 710.0, 0.0, 100.0, "continue"),
        (True, 710.0, 3.0, 740.0, "continue"),  # it surely gains in training
        (True, 900.0, 0.0, 740.0, "continue"),
        (False, 710.0, 0.0, 740.0, "continue"),
    ],
)
def test_what_is_quick_is_tried_where_to_be_as_good_as_a_good_agent_would_show(
    shown: bool, plain: float, rise: float, level: float, goes_on: str
) -> None:
    """As A2C's agents of LunarLanderContinuous, that return 24 give or take 138; and SAC comes to 250. But RICE's
    second Hopper, 2137 give or take 535, comes to 3500 by plain PPO, and SAC to 1300 with one seed of three."""
    track_ = Bottom({"continue": Curve("continue", 25_000, plain, 30.0), "sac": Curve("sac", 12_000, level, 20.0)})
    track_.training_curve = lambda one: (np.zeros(1), np.zeros(1), np.ones(1))  # type: ignore[method-assign]
    track_.rise = lambda one, stop: rise  # type: ignore[method-assign]
    track_.learns = lambda one: True  # type: ignore[method-assign]
    trunk, other, late, slow = (entry(name) for name in ("continue", "thaw", "sac", "afresh"))
    trunk.points, late.points = [(25_000, [plain])], [(12_000, [level])]
    outlook = Outlook(near=True, missing=190.0, unshown="returns vary", whole_shown=shown)
    found = Contest(track_, [trunk, other], [late, slow], Rungs(2, 10_000, 2), outlook).run()
    assert found.winner.name == goes_on
    assert ("sac" in track_.steps) == (shown and plain < 760 and not rise)
    assert not found.untried
    assert other.rank.note == slow.rank.note == "not tried: returns vary"


@pytest.mark.parametrize(("learns", "goes_on"), [(True, "sac"), (False, "continue")])
def test_near_a_good_agent_what_is_quick_must_surely_learn(learns: bool, goes_on: str) -> None:
    """BipedalWalkerHardcore: what SAC gains there in 24,000 steps is chance, and was drawn out over 500,000."""
    track_ = Bottom({"continue": Curve("continue", 16_000, 700.0, 5.0), "sac": Curve("sac", 12_000, 500.0, 5.0)})
    track_.training_curve = lambda one: (np.zeros(1), np.full(1, -100.0), np.ones(1))  # type: ignore[method-assign]
    track_.learns = lambda one: learns  # type: ignore[method-assign]
    trunk, sac = entry("continue", (16_000, [700.0])), entry("sac", (12_000, [500.0]))
    contest = Contest(track_, [trunk], [sac], Rungs(1, 16_000, 2), Outlook(near=True, missing=190.0))
    assert contest.trials.try_late(trunk, [sac]).name == goes_on


@pytest.mark.parametrize(("late", "learns"), [(900.0, True), (120.0, False)])
def test_whose_returns_rise_by_many_times_their_noise_learns(late: float, learns: bool) -> None:
    track_ = Given({})
    steps = np.arange(1_000.0, 12_000.0, 1_000.0)
    means = np.linspace(0.0, late, len(steps)) + 100.0 * np.cos(steps)
    track_.training_curve = lambda one: (steps, means, np.ones(len(steps)))  # type: ignore[method-assign]
    assert track_.learns(entry("sac")) == learns


@pytest.mark.parametrize(
    ("missing", "level", "goes_on"),
    [(4_000.0, 1_250.0, "sac"), (4_000.0, 200.0, "continue"), (300.0, 1_250.0, "continue"), (0.0, 1_250.0, "continue")],
)
def test_far_from_a_good_agent_what_is_quick_is_tried_where_plain_ppo_gets_on(
    missing: float, level: float, goes_on: str
) -> None:
    """As an A2C agent of BipedalWalker, which returns 22: plain PPO comes to 86 in 10,000 steps, and to 60 in the end,
    SAC to 284. Of an unknown task it cannot be said whether 1,200 is much."""
    track_ = Bottom({"continue": Curve("continue", 16_000, 1_200.0, 5.0), "sac": Curve("sac", 12_000, level, 20.0)})
    track_.training_curve = lambda one: (np.zeros(1), np.zeros(1), np.ones(1))  # type: ignore[method-assign]
    trunk, other, late, slow = (entry(name) for name in ("continue", "thaw", "sac", "afresh"))
    trunk.points, late.points = [(16_000, [1_200.0])], [(12_000, [level])]
    outlook = Outlook(trunk_first=True, missing=missing)
    found = Contest(track_, [trunk, other], [late, slow], Rungs(2, 16_000, 2), outlook).run()
    assert found.winner.name == goes_on
    assert ("sac" in track_.steps) == (missing == 4_000.0)
    assert other.rank.note == slow.rank.note == "not tried: continue gets on without it"


@pytest.mark.parametrize(
    ("outlook", "long", "goes_on"),
    [
        (Outlook(missing=4_000.0), False, "sac"),
        (Outlook(missing=4_000.0), True, "continue"),  # over so many steps everything would come to be good
        (Outlook(missing=4_000.0, near=True), False, "continue"),
        (Outlook(), False, "continue"),
    ],
)
def test_far_from_a_good_agent_what_is_quick_is_drawn_out_in_a_straight_line(
    outlook: Outlook, long: bool, goes_on: str
) -> None:
    """In 12,000 of 60,000 steps it came from -100 to 100: 425 along steps^0.6, and 900 straight on."""
    track_ = Bottom({"continue": Curve("continue", 16_000, 800.0, 5.0), "sac": Curve("sac", 12_000, 100.0, 5.0)})
    track_.episode = 100 if long else 1000
    track_.training_curve = lambda one: (np.zeros(1), np.full(1, -100.0), np.ones(1))  # type: ignore[method-assign]
    trunk, sac = entry("continue", (16_000, [800.0])), entry("sac", (12_000, [100.0]))
    found = Contest(track_, [trunk], [sac], Rungs(1, 16_000, 2), outlook).trials.try_late(trunk, [sac])
    assert found.name == goes_on


@pytest.mark.parametrize(("level", "goes_on"), [(0.0, "continue"), (0.3, "sac")])
def test_where_nobody_returns_anything_what_is_quick_must_gain_something(level: float, goes_on: str) -> None:
    """As on DoorKey, where rewards are rare: SAC returned as little as the agent, and was trained for the rest of the
    budget, while the coach's rules lead through the door."""
    track_ = Bottom({"continue": Curve("continue", 6_000, 0.0, 0.0), "sac": Curve("sac", 12_000, level, 0.0)})
    track_.before = (0.0, 0.0)  # type: ignore[misc, assignment]
    track_.training_curve = lambda one: (np.arange(2.0), np.zeros(2), np.ones(2))  # type: ignore[method-assign]
    trunk, late = entry("continue", (6_000, [0.0])), entry("sac")
    found = Contest(track_, [trunk], [late], Rungs(1, 6_000, 2)).trials.try_late(trunk, [late])
    assert found.name == goes_on
    assert "sac" in track_.steps
