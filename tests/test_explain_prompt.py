"""Prompts: golden texts, the token budget, determinism, and what must be in them.

UNSTUCK_WRITE_GOLDEN=1 writes the golden texts anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explain_cases import AGENT, CART, LAMP, cart_views, lamp_views, wide_card
from unstuck.errors import LLMError
from unstuck.llm import estimate_tokens
from unstuck.stages.explain.facts import fixed, number
from unstuck.stages.explain.prompt import build_prompt
from unstuck.stages.explain.summary import chosen, critic_words, steps_to_show, trend_ranking
from unstuck.stages.explain.views import peaks

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("name", "views", "card"), [("discrete", lamp_views(), LAMP), ("continuous", cart_views(), CART)]
)
def test_golden_prompt(name, views, card):
    text = build_prompt(views, card, AGENT, 6_000)
    path = GOLDEN / f"explain_{name}.txt"
    if os.environ.get("UNSTUCK_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("budget", [3_000, 4_000, 12_000])
def test_budget_holds_on_long_episodes_of_17_variables_and_is_used(budget):
    text = build_prompt(cart_views(1000, 17, 6), wide_card(17), AGENT, budget)
    assert estimate_tokens(text) <= budget
    assert estimate_tokens(text) > 0.8 * budget
    assert text.count("\n## ") == 3


def test_an_impossible_budget_says_what_it_takes():
    with pytest.raises(LLMError, match=r"takes at least \d+ tokens .* budget of 300"):
        build_prompt(lamp_views(), LAMP, AGENT, 300)


def test_more_than_24_variables_are_cut_and_it_is_said():
    text = build_prompt(cart_views(200, 40, 2), wide_card(40), AGENT, 12_000)
    assert "Of 40 variables the tables show the 24 that vary most" in text
    header = next(line for line in text.splitlines() if line.startswith("step | "))
    assert header.count("joint") == 24
    assert "joint39: " in text or "joint39 [rad]: " in text


def test_hundreds_of_variables_still_fit():
    text = build_prompt(cart_views(200, 376, 2), wide_card(376), AGENT, 8_000)
    assert estimate_tokens(text) <= 8_000
    assert "not described here: " in text


def test_same_episodes_same_text_and_other_episodes_another():
    assert build_prompt(lamp_views(), LAMP, AGENT, 6_000) == build_prompt(lamp_views(), LAMP, AGENT, 6_000)
    assert build_prompt(lamp_views(), LAMP, AGENT, 6_000) != build_prompt(lamp_views()[:3], LAMP, AGENT, 6_000)


def test_statistics_come_before_episodes_and_modes_apart():
    text = build_prompt(lamp_views(), LAMP, AGENT, 6_000)
    order = ["# TASK", "# STATE VARIABLES", "# THE AGENT", "Deterministic", "Sampled", "## BEST", "# QUESTION"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.index('"analysis"') < text.index('"diagnosis"')
    assert '"rules"' in text
    assert '"rules"' not in build_prompt(cart_views(), CART, AGENT, 6_000)


def test_shown_episodes_cover_both_modes():
    views = lamp_views()
    shown = [v for _, v in chosen(views)]
    assert {v.deterministic for v in shown} == {True, False}
    assert shown[0].index == 3  # the only one that reaches the lamp
    only_sampled = [v for v in views if not v.deterministic]
    assert [title for title, _ in chosen(only_sampled)] == ["BEST EPISODE", "WORST EPISODE"]
    assert [title for title, _ in chosen(views[:1])] == ["EPISODE"]


def test_rows_are_dense_around_surprises_and_at_the_end():
    view = cart_views(1000)[0]
    td = np.zeros(len(view))
    td[400] = -50.0
    steps = steps_to_show(replace(view, td_error=td, value=np.zeros(len(view))), 30)
    assert {398, 399, 400, 401, 402} <= set(steps)
    assert {0, 997, 998, 999} <= set(steps)
    assert len(steps) <= 30


def test_flat_critic_gives_even_rows():
    view = cart_views(1000)[0]
    rng = np.random.default_rng(0)
    flat = replace(view, value=np.full(1000, -86.0), td_error=rng.normal(-0.14, 0.01, 1000))
    gaps = np.diff(steps_to_show(flat, 40)[:-4])
    assert gaps.max() - gaps.min() <= 1


def test_ranking_prefers_what_drifts_and_puts_constants_last():
    view = cart_views(400, 3, 1)[0]
    t = np.arange(401)
    states = np.column_stack([np.sin(t), t / 400, np.ones(401)])
    assert trend_ranking([replace(view, states=states)], np.array([False, False, True])) == [1, 0, 2]


def test_critic_that_is_right_explains_all():
    view = cart_views(50)[0]
    returns = np.zeros(50)
    following = 0.0
    for t in range(49, -1, -1):
        following = returns[t] = view.rewards[t] + 0.9 * following
    assert critic_words([replace(view, value=returns)], 0.9).endswith("V explains: 1.00")


def test_peaks_keep_their_distance():
    assert peaks(np.array([0, 5, 4, 0, 3, 0, 0, -1.0]), 5, 2) == [1, 4]
    assert peaks(np.zeros(4), 3, 2) == []


@pytest.mark.parametrize(
    ("x", "text"), [(0.0, "0"), (-0.0, "0"), (1234.5, "1234"), (0.01234, "0.0123"), (-3.14159, "-3.14")]
)
def test_numbers(x, text):
    assert number(x) == text


def test_no_negative_zero():
    assert fixed(-0.001, 2) == "0.00"
    assert fixed(-0.01, 2) == "-0.01"
