"""Who enters a race, and in which order, by the signs that are given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from unstuck.config import TREATMENTS as NAMES
from unstuck.config import RaceConfig, TrainConfig
from unstuck.errors import RunError
from unstuck.guide.plan import Plan
from unstuck.race.competitors import TREATMENTS, competitor
from unstuck.race.entering import Signs, entries, named


def test_names_are_composed_and_wrong_ones_refused() -> None:
    both = competitor("transplant+guidance")
    assert both.needs_states
    assert both.guided
    assert both.plan(Plan(terms=True)).terms
    assert not competitor("transplant").plan(Plan(terms=True)).terms
    assert competitor("guidance@2").opinion == 1
    for wrong in ("transplnt", "afresh@2", "guidance@0", "guidance@x", "guidance@", "continue+", ""):
        with pytest.raises(ValidationError, match="there is no treatment"):
            RaceConfig(treatments=("continue", wrong))
    with pytest.raises(ValidationError, match="named twice"):
        RaceConfig(treatments=("afresh", "afresh"))
    assert set(TREATMENTS) == set(NAMES)
    with pytest.raises(RunError, match="needs guidance number 1"):
        named(["guidance"], 0)
    assert [c.name for c in named(["transplant", "afresh"], 0)] == ["continue", "transplant", "afresh"]


def names(**signs: Any) -> list[str]:
    return [c.name for c in entries(Signs(**{"verdict": "stuck", "guidances": 1, "budget": 100_000, **signs}))]


def test_plain_ppo_is_in_every_race_and_the_panel_says_who_else_is() -> None:
    stuck = names(asked=("guidance", "afresh"))
    assert stuck[:2] == ["continue", "guidance"]
    assert "small-batches" in stuck
    clipped = names(asked=("transplant", "guidance"), clipped=True, agent_steps=10**8)
    assert clipped[:2] == ["continue", "transplant+small-batches+guidance"]
    assert "afresh" not in clipped  # a thousandth of what the agent was trained for
    assert "guidance" not in clipped  # terms cannot act on a clipped policy
    frozen = names(asked=("thaw", "guidance"), guidances=2)
    assert frozen[:2] == ["continue", "thaw+guidance"]
    assert "thaw+guidance@2" in frozen
    assert not any("guidance" in name for name in names(guidances=0))


@pytest.mark.parametrize("verdict", ["already good", "on its way"])
def test_who_is_well_is_not_operated_on(verdict: str) -> None:
    assert names(verdict=verdict, asked=("continue", "transplant"), clipped=True) == ["continue", "guidance"]
    assert names(verdict=verdict, guidances=0) == ["continue"]


def test_who_learns_by_replay_is_guided_or_begins_afresh() -> None:
    assert names(on_policy=False) == ["continue", "guidance", "afresh"]
    far = {"on_policy": False, "replays": True}
    assert names(**far) == ["continue", "sac", "guidance", "afresh"]
    assert names(**far, terms=True, distance=0.2)[:3] == ["continue", "sac", "sac+guidance"]
    assert names(**far, distance=0.6) == ["continue", "guidance", "sac"], "what it has learnt is worth keeping"
    assert names(**far, agent_steps=10**8) == ["continue", "sac", "guidance"]


def test_what_begins_from_the_bottom_and_in_which_order() -> None:
    def late(**signs: Any) -> list[str]:
        return [name for name in names(**signs) if competitor(name).late]

    kept = "transplant+shrink-and-perturb"
    assert late(agent_steps=50_000) == ["afresh+guidance", kept]
    assert late(agent_steps=100_000) == [kept, "afresh+guidance"]
    assert late(agent_steps=50_000, wished=("continue", "shrink-and-perturb"))[0] == kept
    # On a short budget there is no time to begin with nothing, whatever the coach would try.
    assert late(agent_steps=100_000, wished=("guidance", "afresh"))[0] == kept
    assert late(agent_steps=100_000, wished=("guidance", "afresh"), long=True)[0] == "afresh+guidance"
    # Guided from the first step it learns faster, so it comes first where there is time.
    assert late(agent_steps=100_000, long=True) == ["afresh+guidance", kept]
    assert late(agent_steps=100_000, long=True, guidances=0) == [kept, "afresh"]
    assert late(agent_steps=100_000, asked=("short-episodes",), guidances=0) == [kept, "afresh+short-episodes"]
    assert late(agent_steps=10**8, long=True) == [kept]  # a thousandth of what the agent was trained for


@pytest.mark.parametrize(
    ("signs", "far"),
    [
        ({}, True),
        ({"distance": 0.6}, False),
        ({"distance": None}, False),  # nobody knows what a good agent returns
        ({"verdict": "cannot tell"}, False),
        ({"long": False}, False),
        ({"agent_steps": 10**8}, False),
    ],
)
def test_who_is_far_from_a_good_agent(signs: dict[str, Any], far: bool) -> None:
    usual = {"verdict": "stuck", "distance": 0.06, "long": True, "budget": 500_000, "agent_steps": 1_000_000}
    held = Signs(**{**usual, **signs})
    assert held.far == held.bottom_first == far
    # A coach who can show it what to do is heard first, where it learns by replay.
    assert not replace(held, on_policy=False, guidances=1).bottom_first
    assert replace(held, on_policy=False).bottom_first == replace(held, guidances=1).bottom_first == far


def test_what_a_bad_agent_has_learnt_is_worth_little() -> None:
    far = {"guidances": 0, "distance": 0.06, "long": True, "agent_steps": 100_000}
    assert names(**far)[-2:] == ["afresh", "transplant+shrink-and-perturb"]
    assert names(**{**far, "distance": 0.6})[-2:] == ["transplant+shrink-and-perturb", "afresh"]


def test_small_batches_are_a_treatment_of_their_own() -> None:
    config = TrainConfig()
    assert competitor("transplant").train(config).batch_size == competitor("continue").train(config).batch_size == 256
    for name in ("small-batches", "transplant+small-batches", "afresh"):
        assert competitor(name).train(config).batch_size == 64
