"""Prompts: golden texts, the token budget, determinism, and what must be in them.

UNSTUCK_WRITE_GOLDEN=1 writes the golden texts anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explain_cases import AGENT, CART, KNOWN, LAMP, cart_views, lamp_views, wide_card
from unstuck.errors import LLMError
from unstuck.explainers.llm.facts import Wanted, fixed, number
from unstuck.explainers.llm.prompt import build_prompt
from unstuck.explainers.llm.reply import Reply, ReplyReader
from unstuck.explainers.llm.selection import by_change, evenly, five, ranges_of, three
from unstuck.explainers.llm.summary import critic_words, trend_ranking
from unstuck.llm import estimate_tokens
from unstuck.llm.replies import read_reply
from unstuck.tasks.card import ActionSpec, TaskCard, Variable
from unstuck.views import View, peaks

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("name", "views", "card"), [("discrete", lamp_views(), LAMP), ("continuous", cart_views(), CART)]
)
def test_golden_prompt(name, views, card, version):
    """Version 1 must not change by a letter: recorded replies answer it."""
    text = build_prompt(views, card, AGENT if version == 1 else KNOWN, 6_000, version)
    path = GOLDEN / (f"explain_{name}.txt" if version == 1 else f"explain_{name}_{version}.txt")
    if os.environ.get("UNSTUCK_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("version", "shown"), [(1, 3), (2, 2)])
@pytest.mark.parametrize("budget", [4_500, 6_000, 12_000])
def test_budget_holds_on_long_episodes_of_17_variables_and_is_used(budget, version, shown):
    text = build_prompt(cart_views(1000, 17, 6), wide_card(17), AGENT, budget, version)
    assert estimate_tokens(text) <= budget
    assert estimate_tokens(text) > 0.8 * budget
    assert text.count("\n## ") == shown  # version 2 leaves out those that go like one shown


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
    shown = [v for _, v in three(views)]
    assert {v.deterministic for v in shown} == {True, False}
    assert shown[0].index == 3  # the only one that reaches the lamp
    only_sampled = [v for v in views if not v.deterministic]
    assert [title for title, _ in three(only_sampled)] == ["BEST EPISODE", "WORST EPISODE"]
    assert [title for title, _ in three(views[:1])] == ["EPISODE"]


def test_rows_are_dense_around_surprises_and_at_the_end():
    view = cart_views(1000)[0]
    td = np.zeros(len(view))
    td[400] = -50.0
    steps = evenly(replace(view, td_error=td, value=np.zeros(len(view))), 30)
    assert {398, 399, 400, 401, 402} <= set(steps)
    assert {0, 997, 998, 999} <= set(steps)
    assert len(steps) <= 30


def test_flat_critic_gives_even_rows():
    view = cart_views(1000)[0]
    rng = np.random.default_rng(0)
    flat = replace(view, value=np.full(1000, -86.0), td_error=rng.normal(-0.14, 0.01, 1000))
    gaps = np.diff(evenly(flat, 40)[:-4])
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


HEATER = TaskCard(
    env_id="Heater-v0", goal="", reward="", termination="",
    variables=tuple(Variable(name=n) for n in ("temperature", "target", "drift", "error")),
    action=ActionSpec(kind="discrete", names=("off", "on")),
)  # fmt: skip
POWER = ActionSpec(kind="continuous", names=("power",), low=(0.0,), high=(1.0,))


@pytest.mark.parametrize("terms", [True, False])
@pytest.mark.parametrize(("views", "card"), [(lamp_views(), LAMP), (cart_views(), CART)])
def test_the_example_in_a_prompt_is_a_valid_reply(views, card, terms):
    text = build_prompt(views, card, replace(AGENT, wanted=Wanted(terms=terms)), 12_000)
    example = text[text.rindex("```json") :]
    heater = HEATER if card is LAMP else HEATER.model_copy(update={"action": POWER})
    states = np.zeros((21, 4))
    length = {"states": states, "rewards": np.zeros(20), "actions": np.zeros(20)}
    reader = ReplyReader([View(index=1, deterministic=True, ending="truncated", **length)], heater)
    reading = read_reply(example, Reply, reader.check)
    assert reading.problems == ()
    guidance = reader.guidance(reading.value)
    assert bool(guidance.reward_terms) == (terms or card is CART)
    assert [t.name for t in guidance.treatments][1] == "guidance"
    assert not guidance.provenance.dropped


def test_only_what_will_be_read_is_asked_for():
    def asked(views, card, **wanted):
        return build_prompt(views, card, replace(AGENT, wanted=Wanted(**wanted)), 12_000).split("# ANSWER")[1]

    plain, full = (asked(lamp_views(), LAMP, terms=t, state_reward=t) for t in (False, True))
    assert '"reward_terms"' not in plain
    assert '"reward":' not in plain
    assert "The value of a term is" in plain
    assert '"reward_terms"' in full
    assert '"reward":' in full
    assert full.count("The value of a term is") == 1
    assert '"reward_terms"' in build_prompt(cart_views(), CART, AGENT, 12_000)


def shifted(view, by, **changes):
    return replace(view, states=view.states + by, **changes)


def test_episodes_between_best_and_worst_go_unlike_those_shown():
    view = cart_views(100, 2, 1)[0]
    many = [shifted(view, i // 2, index=i, rewards=view.rewards + i) for i in range(12)]
    ranges = ranges_of(np.concatenate([v.states for v in many]))
    shown = [v.index for _, v in five(many, ranges)]
    assert shown[0] == 11
    assert shown[-1] == 0
    assert len(shown) == 5
    assert len({i // 2 for i in shown}) == 5
    assert [t for t, _ in five(many, ranges)][2].startswith("MIDDLING EPISODE, ")


def test_a_mode_that_is_missing_comes_first():
    view = cart_views(100, 2, 1)[0]
    many = [shifted(view, i, index=i, rewards=view.rewards + i, deterministic=i != 5) for i in range(6)]
    many.append(shifted(view, 9, index=6, rewards=view.rewards + 9))
    assert 5 in [v.index for _, v in five(many, ranges_of(np.concatenate([v.states for v in many])))]


def test_rows_that_look_like_the_one_before_are_left_out():
    view = cart_views(1000)[0]
    states = view.states.copy()
    states[500:] = states[500]
    still = replace(view, states=states, actions=np.zeros(1000), td_error=np.zeros(1000), value=np.zeros(1000))
    steps = by_change(still, 60, ranges_of(states))
    assert sum(500 < t < 990 for t in steps) <= 1
    assert {998, 999} <= set(steps)
    assert sum(t <= 500 for t in steps) > 30


def test_a_critic_of_actions_shows_what_it_thinks_of_the_one_taken():
    views = [replace(v, q=v.value - 0.75) for v in lamp_views()]
    with_q, without = build_prompt(views, LAMP, AGENT, 6000), build_prompt(lamp_views(), LAMP, AGENT, 6000)
    assert "| reward V(s) Q(s,a) TD" in with_q
    assert "rates actions" in with_q
    assert "Q(s,a)" not in without
    assert "| reward V(s) TD" in without
    row = next(line for line in with_q.splitlines() if line.startswith("0 | "))
    v, q = map(float, row.split("|")[-1].split()[1:3])
    assert v - q == pytest.approx(0.75, abs=0.051)
