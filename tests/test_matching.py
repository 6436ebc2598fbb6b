"""Matching: vectorised conditions, terms, neighbourhoods and tables say what a plain loop says."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.errors import GuidanceError
from unstuck.guidance import Advice, AnyOf, Condition, Evidence, Guidance, Near, Term
from unstuck.matching import Conditions, Matcher, Terms

NAMES = ("x", "y", "z")
OPS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}

numbers = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
conditions = st.builds(
    Condition, variable=st.sampled_from(NAMES), abs=st.booleans(), op=st.sampled_from(list(OPS)), value=numbers
)
clauses = st.one_of(conditions, st.builds(AnyOf, any=st.lists(conditions, min_size=1, max_size=3).map(tuple)))
whens = st.lists(clauses, max_size=4).map(tuple)
rows = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6).map(np.array)


def holds(condition, row):
    x = row[NAMES.index(condition.variable)]
    return OPS[condition.op](abs(x) if condition.abs else x, condition.value)


def all_hold(when, row):
    return all(any(holds(c, row) for c in (k.any if isinstance(k, AnyOf) else (k,))) for k in when)


@given(st.lists(whens, max_size=5), rows)
@settings(max_examples=200, deadline=None)
def test_conditions_agree_with_a_plain_loop(many, values):
    expected = [[all_hold(when, row) for when in many] for row in values]
    assert Conditions(many, NAMES)(values).tolist() == np.array(expected, dtype=bool).reshape(len(values), -1).tolist()


terms = st.builds(
    lambda side, bound, **rest: Term(**rest, **({side: bound} if side else {})),
    side=st.sampled_from(["above", "below", ""]), bound=numbers, variable=st.sampled_from(NAMES), abs=st.booleans(),
    weight=numbers, cap=st.sampled_from([0.5, 1.0, 10.0]), when=whens,
)  # fmt: skip


def worth(term, row):
    if not all_hold(term.when, row):
        return 0.0
    x = row[NAMES.index(term.variable)]
    x = abs(x) if term.abs else x
    if term.above is not None:
        return term.weight * min(max(0.0, x - term.above), term.cap)
    if term.below is not None:
        return term.weight * min(max(0.0, term.below - x), term.cap)
    return term.weight * max(-term.cap, min(term.cap, x))


@given(st.lists(terms, min_size=1, max_size=4), rows)
@settings(max_examples=200, deadline=None)
def test_terms_follow_their_formula(many, values):
    expected = [sum(worth(t, row) for t in many) for row in values]
    np.testing.assert_allclose(Terms(many, NAMES)(values), expected)


def advice(name, **more):
    return Advice(id=name, kind="rule" if "when" in more else "state", why="", **more)


def guidance(*pieces):
    return Guidance(env_id="T", diagnosis="", advice=pieces, scales={"x": (0, 10), "y": (-1, 1), "z": (0, 2)})


def first(pieces, values, **options):
    g = guidance(*pieces)
    return Matcher(g.advice, g, NAMES, **options).first(np.array(values, dtype=float)).tolist()


def test_the_first_that_applies_shadows_later_ones():
    low = advice("a", when=(Condition(variable="x", op="<", value=5),))
    always = advice("b", when=())
    assert first([low, always], [[1, 0, 0], [7, 0, 0]]) == [0, 1]
    assert first([always, low], [[1, 0, 0], [7, 0, 0]]) == [0, 0]


def test_no_advice_matches_nothing():
    assert first([], [[0, 0, 0]]) == [-1]


def test_neighbourhood_ignores_variables_it_does_not_name():
    near = advice("a", near=Near(point={"x": 5.0}, radius=0.2))
    assert first([near], [[5.9, 99, 99], [6.1, 0, 0]]) == [0, -1]


def test_table_matches_the_cell_of_the_critical_state_only():
    spot = advice("a", evidence=Evidence(episode=0, step=3, state={"x": 5.1, "y": 0.0, "z": 1.0}))
    assert first([spot], [[5.2, 0.01, 1.01], [5.9, 0.0, 1.0], [5.1, 0.5, 1.0]], bins=20) == [0, -1, -1]


def test_near_uses_the_evidence_whatever_condition_the_advice_has():
    piece = advice(
        "a", when=(Condition(variable="x", op=">", value=100),),
        evidence=Evidence(episode=0, step=0, state={"x": 5, "y": 0, "z": 1}),
    )  # fmt: skip
    assert first([piece], [[5, 0, 1]]) == [-1]
    assert first([piece], [[5, 0, 1]], applies="near", radius=0.1) == [0]


def test_evidence_without_a_state_cannot_be_matched():
    with pytest.raises(GuidanceError, match="does not say the state"):
        first([advice("a", evidence=Evidence(episode=0, step=0))], [[0, 0, 0]])
