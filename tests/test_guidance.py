"""Guidance files: what is written is read back; what is wrong is named."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from unstuck.errors import GuidanceError
from unstuck.guidance import (
    TREATMENTS,
    Action,
    Advice,
    AnyOf,
    Condition,
    Evidence,
    Guidance,
    Near,
    ProgressMeasure,
    Term,
    Than,
    Treatment,
    Verdict,
    load_guidance,
    problems,
    save_guidance,
)
from unstuck.tasks.card import ActionSpec, TaskCard, Variable

CARD = TaskCard(
    env_id="Toy-v0", goal="", reward="", termination="",
    variables=(Variable(name="position"), Variable(name="speed")),
    action=ActionSpec(kind="discrete", names=("left", "right")),
)  # fmt: skip
BOX = CARD.model_copy(
    update={"action": ActionSpec(kind="continuous", names=("hip", "knee"), low=(-1.0, -1.0), high=(1.0, 1.0))}
)

words = st.text(max_size=30)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
condition = st.builds(
    Condition, variable=st.sampled_from(["position", "speed"]), abs=st.booleans(),
    op=st.sampled_from(["<", ">", "=="]), value=finite,
    than=st.none() | st.builds(Than, variable=st.just("speed"), abs=st.booleans(), times=finite),
)  # fmt: skip
when = st.lists(st.one_of(condition, st.builds(AnyOf, any=st.tuples(condition))), max_size=3).map(tuple)
action = st.one_of(
    st.builds(Action, index=st.integers(0, 1)),
    st.builds(Action, values=st.tuples(finite), delta=st.booleans()),
)
piece = st.builds(
    Advice, id=st.uuids().map(lambda u: u.hex), kind=st.just("state"), why=words,
    evidence=st.builds(Evidence, episode=st.integers(0, 9), step=st.integers(0, 999)),
    when=st.none() | when, action=st.none() | action, reward=st.none() | st.floats(-1, 1),
    near=st.none() | st.builds(Near, point=st.dictionaries(st.sampled_from(["position"]), finite), radius=st.just(0.2)),
)  # fmt: skip
term = st.builds(
    Term, variable=st.just("speed"), weight=st.floats(-1e4, 1e4, width=32), cap=st.floats(0.1, 10), when=when, why=words
)
whole = st.builds(
    Guidance, env_id=st.just("Toy-v0"), diagnosis=words, advice=st.lists(piece, max_size=4).map(tuple),
    reward_terms=st.lists(term, max_size=2).map(tuple),
    progress=st.none() | st.builds(ProgressMeasure, terms=st.tuples(term)),
    treatments=st.lists(st.builds(Treatment, name=st.sampled_from(TREATMENTS), reason=words), max_size=2).map(tuple),
)  # fmt: skip


@pytest.mark.parametrize(("weight", "cap"), [(1e300, 1e300), (-1e7, 1.0), (1.0, 1e9)])
def test_terms_that_would_drown_all_rewards_are_refused(weight, cap):
    with pytest.raises(ValueError, match="more than 1,000,000"):
        Term(variable="speed", weight=weight, cap=cap)


@given(guidance=whole)
@settings(max_examples=60, deadline=None)
def test_a_saved_file_reads_back_as_it_was(guidance, tmp_path_factory):
    path = tmp_path_factory.mktemp("g") / "guidance.json"
    save_guidance(guidance, path)
    assert load_guidance(path) == guidance
    assert not path.with_suffix(".partial").exists()


def write(tmp_path, change):
    data = {
        "env_id": "Toy-v0", "diagnosis": "d",
        "advice": [{"id": "r1", "kind": "rule", "why": "w", "action": {"index": 1},
                    "when": [{"variable": "speed", "op": "<", "value": 0}]}],
        "reward_terms": [{"variable": "position", "weight": 1, "cap": 1}],
    }  # fmt: skip
    change(data)
    path = tmp_path / "guidance.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda d: d["advice"][0].update(reward=2), "advice[0].reward"),
        (lambda d: d["advice"][0].update(reward=math.nan), "advice[0].reward"),
        (lambda d: d["advice"][0].update(colour="red"), "advice[0].colour"),
        (lambda d: d["advice"][0]["when"][0].update(variable="sped"), "Did you mean speed"),
        (lambda d: d["advice"][0]["action"].update(index=2), "index 2 is out of bounds"),
        (lambda d: d["advice"][0].update(action={"values": [0.1]}), "give `index`"),
        (lambda d: d["advice"][0].pop("when"), "a rule needs a condition"),
        (lambda d: d["advice"].append(dict(d["advice"][0])), "unique"),
        (lambda d: d["reward_terms"][0].update(cap=0), "reward_terms[0].cap"),
        (lambda d: d["reward_terms"][0].update(above=1, below=0), "not both"),
        (lambda d: d["reward_terms"][0].update(variable="height"), "reward_terms[0]: there is no variable 'height'"),
        (lambda d: d.update(format=99), "format 99"),
        (lambda d: d.pop("diagnosis"), "diagnosis"),
    ],
)
def test_an_edited_file_that_is_wrong_names_the_field(tmp_path, change, names):
    path = write(tmp_path, change)
    with pytest.raises(GuidanceError) as caught:
        load_guidance(path, CARD)
    assert names in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_untouched_file_passes(tmp_path):
    assert load_guidance(write(tmp_path, lambda d: None), CARD).advice[0].action == Action(index=1)


def test_what_is_no_json_is_said_to_be_so(tmp_path):
    path = tmp_path / "guidance.json"
    path.write_text("{'advice': ")
    with pytest.raises(GuidanceError, match="not valid JSON"):
        load_guidance(path)
    with pytest.raises(GuidanceError, match="cannot read"):
        load_guidance(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (Action(values=(0.5, 1.5)), "value 1.5 for knee is out of bounds [-1, 1]"),
        (Action(values=(0.5, 2.5), delta=True), "delta 2.5 for knee is out of bounds [-2, 2]"),
        (Action(values=(0.5,)), "expected 2 values (hip, knee), got 1"),
        (Action(index=0), "give `values`"),
    ],
)
def test_continuous_actions_must_fit(action, says):
    g = Guidance(env_id="T", diagnosis="", advice=(Advice(id="a", kind="rule", why="", when=(), action=action),))
    assert says in problems(g, BOX)[0]
    fine = Action(values=(1.0, -1.9), delta=True)
    kept = g.model_copy(update={"advice": (g.advice[0].model_copy(update={"action": fine}),)})
    assert problems(kept, BOX) == []


def test_harmful_and_disabled_advice_is_not_active():
    def one(name, status, enabled=True):
        return Advice(id=name, kind="rule", why="", when=(), verdict=Verdict(status=status), enabled=enabled)

    g = Guidance(
        env_id="T", diagnosis="",
        advice=(one("a", "helpful"), one("b", "harmful"), one("c", "unresolved"), one("d", "helpful", False)),
    )  # fmt: skip
    assert [a.id for a in g.active] == ["a", "c"]


def test_an_action_is_of_one_kind():
    with pytest.raises(ValidationError):
        Action(index=1, values=(0.0,))
    with pytest.raises(ValidationError):
        Action()
