"""Replies: what is valid, what is said of what is not, what is kept of a bad one, and the guidance that comes of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from explain_cases import CART, LAMP, cart_views, lamp_views
from unstuck.explainers.llm.reply import Reply, ReplyReader
from unstuck.guidance import AnyOf, Condition, problems
from unstuck.matching import Matcher

DISCRETE: dict[str, Any] = {
    "analysis": "It walks to and fro.",
    "diagnosis": "It never goes right for long.",
    "critical_states": [
        {"episode": 0, "step": 3, "why": "At the wall.", "action": 2, "hold": 5, "when": None, "reward": -0.5},
        {
            "episode": 3, "step": 5, "why": "Nearly there.", "action": 2, "reward": 1,
            "when": [{"variable": "gap", "op": "<", "value": 1.5}],
        },
    ],
    "rules": [
        {
            "when": [
                {"any": [
                    {"variable": "x", "op": "<", "value": 5}, {"variable": "vx", "abs": True, "op": ">=", "value": 1},
                ]}
            ],
            "action": 2, "why": "The lamp is on the right.",
        }
    ],
    "reward_terms": [
        {
            "variable": "gap", "abs": False, "above": None, "below": 4, "weight": 0.5, "cap": 4, "when": [],
            "why": "Nearer.",
        }
    ],
    "progress": {"terms": [{"variable": "gap", "weight": -1, "cap": 5}], "aggregate": "last", "why": "Distance."},
}  # fmt: skip
CONTINUOUS: dict[str, Any] = {
    "diagnosis": "It tips over.",
    "critical_states": [
        {"episode": 0, "step": 20, "why": "Tilting.", "action_delta": [0.5, -1.5], "hold": 8, "reward": -1},
        {"episode": 1, "step": 0, "why": "Start.", "action": [1.0, 2.0], "reward": 0.25},
    ],
}


def discrete(change=None) -> tuple[ReplyReader, dict[str, Any]]:
    raw = copy.deepcopy(DISCRETE)
    if change:
        change(raw)
    return ReplyReader(lamp_views(), LAMP), raw


def test_valid_discrete_reply_becomes_guidance_rules_first():
    reader, raw = discrete()
    reply = Reply.model_validate(raw)
    assert reader.check(reply) == []
    guidance = reader.guidance(reply, model="m", recordings=["k"])
    assert problems(guidance, LAMP) == []
    assert [a.id for a in guidance.advice] == ["r1", "s1", "s2"]
    rule, exact, conditional = guidance.advice
    assert isinstance(rule.when[0], AnyOf)
    assert rule.when[0].any[1] == Condition(variable="vx", abs=True, op=">=", value=1)
    assert (exact.when, exact.near, exact.hold, exact.reward) == (None, None, 5, -0.5)
    assert exact.evidence.state == pytest.approx({"x": 0.0, "vx": -0.4, "gap": 5.0})
    assert conditional.when == (Condition(variable="gap", op="<", value=1.5),)
    assert guidance.reward_scale == 1.0
    assert guidance.scales["x"] == (0.0, 5.0)
    assert guidance.diagnosis == raw["diagnosis"]
    assert guidance.summary == raw["analysis"]
    assert guidance.progress.terms[0].weight == -1
    assert guidance.provenance.recordings == ("k",)


def test_advice_without_a_condition_matches_at_its_own_state_only():
    reader, raw = discrete(lambda r: r.update(rules=[]))
    guidance = reader.guidance(Reply.model_validate(raw))
    matcher = Matcher(guidance.advice[:1], guidance, LAMP.variable_names)
    assert matcher.first(lamp_views()[0].states[[3]]).tolist() == [0]
    assert matcher.first(lamp_views()[3].states[[4]]).tolist() == [-1]


def test_valid_continuous_reply_deltas_and_absolute_actions():
    reader = ReplyReader(cart_views(), CART)
    reply = Reply.model_validate(CONTINUOUS)
    assert reader.check(reply) == []
    first, second = reader.guidance(reply).advice
    assert (first.action.values, first.action.delta) == ((0.5, -1.5), True)
    assert (second.action.values, second.action.delta) == ((1.0, 2.0), False)
    rewards = np.abs(np.concatenate([v.rewards for v in cart_views()]))
    assert reader.guidance(reply).reward_scale == pytest.approx(np.percentile(rewards, 95))


def state(**change):
    return lambda raw: raw["critical_states"][1].update(change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (state(step=310), "critical_states[1]: step 310 is outside episode 3, which has steps 0 to 5"),
        (state(step=6), "critical_states[1]: step 6 is outside episode 3, which has steps 0 to 5"),
        (state(step=-1), "critical_states[1]: step -1 is outside episode 3"),
        (state(episode=9), "critical_states[1]: there is no episode 9; the collected episodes are 0, 1, 2, 3"),
        (state(action=3), "critical_states[1].action: index 3 is out of bounds; actions are 0 to 2"),
        (state(action=-1), "critical_states[1].action: -1 is out of bounds"),
        (state(action=[0.5]), "critical_states[1].action: the task's actions are discrete"),
        (state(action=None, reward=None), "critical_states[1]: says neither what to do"),
        (state(action_delta=[1.0]), "critical_states[1]: give either action or action_delta"),
        (state(reward=1.2), "critical_states[1].reward: 1.2 is outside -1 to 1"),
        (state(hold=0), "critical_states[1].hold: 0 is outside 1 to 100"),
        (
            state(when=[{"variable": "gapp", "op": "<", "value": 1}]),
            "critical_states[1].when: there is no variable 'gapp'. Did you mean gap?",
        ),
        (lambda r: r["rules"][0].update(action=7), "rules[0].action: 7 is out of bounds; actions are 0 to 2"),
        (lambda r: r["reward_terms"][0].update(variable="y"), "reward_terms[0]: there is no variable 'y'."),
        (lambda r: r["reward_terms"][0].update(above=1), "reward_terms[0]: give `above` or `below`, not both"),
        (lambda r: r["reward_terms"][0].update(cap=0), "reward_terms[0].cap: "),
        (
            lambda r: r["progress"]["terms"][0].update(variable="Gap"),
            "progress.terms[0]: there is no variable 'Gap'. Did you mean gap?",
        ),
        (
            lambda r: r.update(critical_states=[], rules=[], reward_terms=[]),
            "critical_states: name at least one critical state",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_field(change, sentence):
    reader, raw = discrete(change)
    found = reader.check(Reply.model_validate(raw))
    assert any(p.startswith(sentence) for p in found), found


@pytest.mark.parametrize(
    "change",
    [
        state(reward="0.5"), state(step="5"), state(step=2.5), state(action=True), state(episode=True),
        state(reward=float("nan")), lambda r: r.pop("diagnosis"),
        lambda r: r["rules"][0]["when"][0]["any"][0].update(value="5"),
        lambda r: r["rules"][0]["when"][0]["any"][0].update(op="<>"),
        lambda r: r["progress"].update(aggregate="sum"),
    ],
)  # fmt: skip
def test_types_are_strict(change):
    _, raw = discrete(change)
    with pytest.raises(ValidationError):
        Reply.model_validate(raw)


def test_harmless_differences_are_let_pass():
    reader, raw = discrete()
    raw |= {"confidence": 0.9, "analysis": ["one", "two"], "progress": None, "reward_terms": None}
    raw["critical_states"][0] |= {"step": 3.0, "hold": None, "title": "wall"}
    raw["rules"][0]["when"] = [{"variable": "x", "abs": None, "op": "=", "value": 1}]
    reply = Reply.model_validate(raw)
    assert reader.check(reply) == []
    guidance = reader.guidance(reply)
    assert guidance.summary == "one\ntwo"
    assert guidance.advice[0].when[0].op == "=="
    assert guidance.advice[1].hold == 1


def test_salvage_keeps_the_valid_and_names_the_rest():
    reader, raw = discrete()
    raw["critical_states"].append({"episode": 0, "step": 999, "why": "?", "action": 1, "reward": 0})
    raw["rules"].insert(0, {"when": [{"variable": "z", "op": "<", "value": 1}], "action": 1, "why": ""})
    raw["reward_terms"].append({"variable": "x", "weight": "much", "cap": 1})
    raw["progress"]["terms"].append({"variable": "nowhere", "weight": 1, "cap": 1})
    reply, dropped = reader.salvage(raw)
    assert reader.check(reply) == []
    assert (len(reply.critical_states), len(reply.rules), len(reply.reward_terms), reply.progress) == (2, 1, 1, None)
    assert [d.split(":")[0] for d in dropped] == [
        "critical_states[2]", "rules[0].when", "reward_terms[1]", "progress.terms[1]",
    ]  # fmt: skip
    assert all(d.endswith("dropped") for d in dropped)
    assert reader.guidance(reply, dropped=dropped).provenance.dropped == tuple(dropped)


@pytest.mark.parametrize("raw", [None, [], "text", {}, {"critical_states": [{"episode": 0}]}, {"critical_states": 3}])
def test_nothing_to_salvage(raw):
    assert ReplyReader(lamp_views(), LAMP).salvage(raw)[0] is None


def test_rules_for_continuous_actions_are_left_out_and_it_is_said():
    reader = ReplyReader(cart_views(), CART)
    raw = CONTINUOUS | {"rules": [{"when": [], "action": 0}]}
    reply = Reply.model_validate(raw)
    assert reader.check(reply) == []
    guidance = reader.guidance(reply)
    assert [a.id for a in guidance.advice] == ["s1", "s2"]
    assert guidance.provenance.dropped == ("rules: this task's actions are continuous; 1 left out",)


def test_treatments_are_read_leniently_and_unknown_ones_dropped_by_name():
    reader, raw = discrete()
    raw["treatments"] = [
        {"name": "Shrink and perturb", "reason": "dormant units"}, "short_episodes", {"name": "pray"}, 7, "guidance",
        {"name": "guidance", "reason": "twice"},
    ]  # fmt: skip
    reading = reader.guidance(Reply.model_validate(raw))
    assert [(t.name, t.reason) for t in reading.treatments] == [
        ("shrink-and-perturb", "dormant units"), ("short-episodes", ""), ("guidance", ""),
    ]  # fmt: skip
    assert any("'pray'" in d for d in reading.provenance.dropped)


def test_two_variables_are_compared_in_any_plausible_spelling():
    reader, raw = discrete()
    spellings = [
        {"variable": "x", "op": "<", "than": {"variable": "gap", "times": 2}, "value": 1},
        {"variable": "x", "op": "<", "than": "gap"},
        {"variable": "x", "op": "<", "value": "gap"},
    ]
    for spelling in spellings:
        raw["rules"][0]["when"] = [spelling]
        reply = Reply.model_validate(raw)
        assert reader.check(reply) == []
        assert reader.guidance(reply).advice[0].when[0].than.variable == "gap"
    raw["rules"][0]["when"] = [{"variable": "x", "op": "<", "than": "gap2"}]
    assert "gap2" in reader.check(Reply.model_validate(raw))[0]
