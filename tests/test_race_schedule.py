"""The pure decisions of a race: how rungs are laid out, who is heading where, what terms are worth at a look."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.guidance import Term
from unstuck.race.schedule import Curve, Rungs, climbs, forecast, leapt, plan_rungs, rank, slope_of
from unstuck.race.screen import screen, words
from unstuck.views import View


def test_losers_take_no_more_than_their_share() -> None:
    for budget in (20_000, 100_000, 500_000):
        for episode in (50, 1000):
            rungs = plan_rungs(budget, 2048, episode, 8, share=0.3, shortest=min(8000, budget // 16))
            assert rungs.wasted(episode) <= 0.3 * budget
            if rungs.entered > 1:
                assert rungs.survivors[-1] == 1
                assert rungs.first % 2048 == 0
    assert plan_rungs(500_000, 2048, 1000, 8, share=0.3, shortest=8000).entered > 3
    assert plan_rungs(100_000, 2048, 1000, 8, share=0.3, shortest=6250).entered >= 2


def test_a_first_rung_is_no_longer_than_it_need_be() -> None:
    rungs = plan_rungs(500_000, 2048, 1000, 2, share=0.3, shortest=16_000)
    assert 16_000 <= rungs.first <= 32_000


def test_steps_of_losers_are_counted_by_hand() -> None:
    rungs = Rungs(entered=4, first=1000, episodes=2)
    assert rungs.survivors == (2, 1)
    # Two end after the first rung (1000 steps and two episodes of 10), one after the second.
    assert rungs.wasted(10) == 2 * 1020 + 2040


def test_what_climbs_from_the_bottom_is_not_dropped_for_being_there() -> None:
    stuck = Curve("continue", 20_000, 750.0, 10.0, 0.0001, 0.01)
    climbing = Curve("afresh", 20_000, 200.0, 10.0, 0.01, 0.001)
    assert [c.name for c, _ in rank([stuck, climbing], 300_000)] == ["afresh", "continue"]
    # Close to the end of the budget there is no time left to overtake.
    assert [c.name for c, _ in rank([stuck, climbing], 25_000)] == ["continue", "afresh"]


def test_forecasts_go_by_slopes_that_stand_out_of_their_noise() -> None:
    assert forecast(Curve("a", 1000, 5.0, 1.0, 0.01, 0.02), 10_000) == 5.0
    assert forecast(Curve("a", 1000, 5.0, 1.0, -0.01, 0.001), 10_000) == 5.0
    assert forecast(Curve("a", 1000, 5.0, 1.0), 10_000) == 5.0
    # R = 3 + 2·t^0.6 is met exactly where nothing is shrunk.
    t, total = 1000.0, 9000.0
    curve = Curve("a", int(t), 3 + 2 * t**0.6, 1.0, 2 * 0.6 * t**-0.4, 1e-9)
    assert forecast(curve, int(total)) == pytest.approx(3 + 2 * total**0.6)


def test_terms_are_looked_at_by_the_ranks_of_episodes() -> None:
    def view(i: int, x: float, total: float) -> View:
        return View(i, True, "truncated", np.full((3, 1), float(x)), np.zeros(2), np.array([total, 0.0]))

    seen = [view(i, x, total) for i, (x, total) in enumerate([(1, 5), (2, 7), (3, 8), (4, 100)])]
    term = Term(variable="x", weight=0.1, cap=10.0)
    assert screen([term], seen, ["x"]) == pytest.approx(1.0)
    assert screen([term.model_copy(update={"weight": -0.1})], seen, ["x"]) == pytest.approx(-1.0)
    assert "do not prefer" in words([term.model_copy(update={"weight": -0.1})], seen, ["x"])
    assert screen([], seen, ["x"]) is None
    assert screen([term], seen[:3], ["x"]) is None
    assert words([term], [view(i, i, 5.0) for i in range(4)], ["x"]) == ""  # all are worth the same


def test_only_what_surely_rises_is_left_to_plain_ppo() -> None:
    assert climbs(Curve("continue", 20_000, 760.0, 10.0, 0.02, 0.005), 750.0, 5.0, 100_000)
    assert not climbs(Curve("continue", 20_000, 760.0, 10.0, 0.02, 0.015), 750.0, 5.0, 100_000)  # noise
    assert not climbs(Curve("continue", 20_000, 760.0, 10.0, 0.001, 0.0001), 750.0, 5.0, 100_000)  # to nowhere
    assert not climbs(Curve("continue", 20_000, 500.0, 10.0, 0.02, 0.005), 750.0, 5.0, 100_000)  # from a fall
    assert not climbs(Curve("continue", 20_000, 900.0, 10.0), 750.0, 5.0, 100_000)  # nothing is known


def test_what_has_surely_come_to_much_more_needs_no_slope() -> None:
    assert leapt(Curve("continue", 6_000, 3400.0, 100.0), 1100.0, 10.0)
    assert not leapt(Curve("continue", 6_000, 1356.0, 10.0), 1181.0, 20.0)  # a few lucky episodes
    assert not leapt(Curve("continue", 6_000, 3400.0, 1200.0), 1100.0, 10.0)  # one of two
    assert not leapt(Curve("continue", 6_000, 3400.0, float("inf")), 1100.0, 10.0)  # a single one
    assert leapt(Curve("continue", 6_000, -150.0, 10.0), -1400.0, 30.0)
    assert not leapt(Curve("continue", 6_000, -110.0, 1.0), -200.0, 0.0)


def test_slopes_of_noisy_lines() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(50.0)
    slope, noise = slope_of(x.tolist(), (3 + 0.5 * x + rng.normal(0, 0.1, 50)).tolist(), [1.0] * 50)
    assert slope == pytest.approx(0.5, abs=4 * noise)
    assert noise == pytest.approx(0.1 / np.sqrt(50 * x.var()), rel=0.3)
    assert slope_of([1.0, 2.0], [1.0, 2.0], [1.0, 1.0]) == (0.0, float("inf"))
