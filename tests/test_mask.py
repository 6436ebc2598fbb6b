"""Mask networks find the one step that matters; fidelity measures that they do; random controls keep size and shape."""

import json
import math

import numpy as np
import pytest

from grid_cases import LENGTH, MATTERS, ONE_STEP, collected
from unstuck.cli import main
from unstuck.errors import RunError
from unstuck.explainers import Explanation
from unstuck.explainers.scramble import scrambled
from unstuck.fidelity import Branching, guidance_score, measure, most_critical, random_score, value_drop
from unstuck.guidance import Action, Advice, Condition, Evidence, Guidance, Near, Term
from unstuck.masknet import MASK_FILE, Blinding, load_mask
from unstuck.matching import Terms
from unstuck.stages.explain import explain
from unstuck.testing import PUSH, save_stuck_agent
from unstuck.workspace import Workspace


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """Takes action 1 nearly always."""
    return save_stuck_agent(tmp_path_factory.mktemp("agent") / "one.zip", ONE_STEP, bias=-4.0)


@pytest.mark.parametrize("objective", ["rice", "statemask"])
def test_a_mask_network_keeps_the_one_step_that_matters(tmp_path, agent, objective):
    settings = {"explainer": objective, "mask_steps": 8_192, "mask_bonus": 0.1, "critical_states": 1}
    run = collected(tmp_path / "run", ONE_STEP, agent, explain=settings)
    guidance = explain(run)
    network = load_mask(run.root / "explain" / MASK_FILE, Workspace(run))
    importance = network.importance(Workspace(run).episodes[0].observations)[:LENGTH]
    others = np.delete(importance, MATTERS)
    assert importance.argmax() == MATTERS
    assert importance[MATTERS] > 0.7
    assert importance[MATTERS] > others.max() + 0.2
    assert [a.evidence.step for a in guidance.advice] == [MATTERS] * 4
    record = run.record("explain")
    assert record.env_steps == 8_192
    assert record.facts["explainer"] == objective
    assert 0.4 < record.facts["blinded"] < 1


def test_the_same_seed_trains_the_same_mask(tmp_path, agent):
    found = []
    for name in ("a", "b"):
        run = collected(tmp_path / name, ONE_STEP, agent, explain={"explainer": "rice", "mask_steps": 4096})
        explain(run)
        network = load_mask(run.root / "explain" / MASK_FILE, Workspace(run))
        found.append(network.importance(np.eye(LENGTH + 1, dtype=np.float32)))
    np.testing.assert_array_equal(found[0], found[1])


def test_the_multiplier_follows_the_violation():
    blinding = Blinding("statemask", tolerance=0.1, agent_return=100.0, agent_length=20.0)
    blinding.update([40.0, 60.0], mean_reward=0.0)
    tight = blinding.multiplier
    assert tight == pytest.approx(1 + 10 * 0.4)
    blinding.update([100.0], mean_reward=0.0)
    assert blinding.multiplier == pytest.approx(tight - 1.0)
    blinding.update([], mean_reward=4.0)  # 4 in each of 20 steps: 80
    assert blinding.multiplier == pytest.approx(tight - 1.0 + 10 * 0.1)
    kept, lost = blinding.rewards(np.array([1.0, 0.0]), np.zeros(2), np.array([0.0, 0.0]))
    assert kept > lost


# ---------------------------------------------------------------------------------------------- fidelity


def test_the_window_that_is_most_critical():
    assert most_critical(np.array([0, 0, 5, 1, 0.0]), 2) == 2
    assert most_critical(np.array([0, 0, 0, 1, 0, 0, 0.0]), 3) == 2  # a single step: in the middle of its window
    assert most_critical(np.array([1, 0, 0, 0, 1.0]), 1) == 0
    assert most_critical(np.zeros(4), 4) == 0


def test_fidelity_of_the_step_that_matters(tmp_path, agent):
    """d is 5 where the window has the step (half the random actions earn nothing), and 0 elsewhere."""
    space = Workspace(collected(tmp_path / "run", ONE_STEP, agent))
    branching = Branching(space.actor, space.make_env, space.snapshotter, repeats=40)
    episodes = list(space.episodes)
    right, wrong = np.eye(LENGTH)[MATTERS], np.eye(LENGTH)[1]
    found = measure({"right": lambda e: right, "wrong": lambda e: wrong}, episodes, branching, shares=(0.1, 0.3))
    cells = {(r.explainer, r.share): r for r in found.rows}
    branching.pool.close()
    assert cells["right", 0.1].change == pytest.approx(5.0, abs=1.2)
    assert cells["wrong", 0.1].change < 0.5
    ratio = cells["right", 0.1].change / found.largest
    assert cells["right", 0.1].score.mean == pytest.approx(math.log(ratio) - math.log(0.1))
    assert cells["right", 0.1].score.mean > cells["right", 0.3].score.mean  # the same change by a shorter window
    assert cells["right", 0.1].score.low <= cells["right", 0.1].score.mean <= cells["right", 0.1].score.high
    assert cells["wrong", 0.1].score.mean < cells["right", 0.1].score.mean - 1
    assert found.steps > 0


def test_episodes_of_which_an_explainer_says_nothing_are_left_out(tmp_path, agent):
    space = Workspace(collected(tmp_path / "run", ONE_STEP, agent))
    advice = Advice(id="a", kind="state", why="", evidence=Evidence(episode=2, step=MATTERS), action=Action(index=1))
    score = guidance_score(Guidance(env_id=ONE_STEP, diagnosis="", advice=(advice,)), space.describer)
    assert [score(e) is not None for e in space.episodes] == [False, False, True, False]
    assert score(space.episodes[2]).argmax() == MATTERS
    branching = Branching(space.actor, space.make_env, space.snapshotter, repeats=1)
    assert measure({"a": score, "chance": random_score(0)}, list(space.episodes), branching).episodes == 1
    with pytest.raises(RunError, match="no episode"):
        measure({"a": lambda e: None}, list(space.episodes), branching)
    branching.pool.close()
    assert value_drop(space.episodes[0]).shape == (LENGTH,)


def test_the_command_prints_a_table(tmp_path, agent, capsys):
    run = collected(tmp_path / "run", ONE_STEP, agent, explain={"explainer": "rice", "mask_steps": 2048})
    explain(run)
    main(["fidelity", str(run.root), "--max-episodes", "1", "--repeats", "1"])
    text = capsys.readouterr().out
    assert "rice" in text
    assert "value drop" in text
    assert "higher is better" in text
    main(["fidelity", str(run.root), "--max-episodes", "1", "--repeats", "1", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert {r["explainer"] for r in data["rows"]} == {"rice", "value drop", "random"}
    assert data["env_steps"] > 0


# ---------------------------------------------------------------------------------------------- controls


def said(guidance):
    return Explanation(guidance, facts={"tokens_in": 7})


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """Episodes on Push, its describer, and what a model might say of them."""
    folder = tmp_path_factory.mktemp("push")
    space = Workspace(collected(folder / "run", PUSH, save_stuck_agent(folder / "a.zip", PUSH)))
    names = space.describer.card.variable_names
    first = dict.fromkeys(names, 0.0)
    advice = (
        Advice(
            id="s", kind="state", why="", evidence=Evidence(episode=0, step=3, state=first),
            near=Near(point=first, radius=0.2), action=Action(values=(0.3,), delta=True), reward=-0.5,
        ),
        Advice(id="r", kind="rule", why="", when=(Condition(variable=names[1], op="<", value=0.0),),
               action=Action(values=(0.9,))),
    )  # fmt: skip
    terms = (Term(variable=names[1], above=0.0, weight=2.0, cap=1.0), Term(variable=names[1], weight=0.5, cap=2.0))
    guidance = Guidance(env_id=PUSH, diagnosis="it goes left", advice=advice, reward_terms=terms)
    return space, guidance


@pytest.mark.parametrize("what", ["random", "random-states", "random-actions", "random-terms"])
def test_only_the_named_part_is_drawn_at_random(pushed, what):
    space, guidance = pushed
    found = scrambled(said(guidance), what, 1, space.episodes, space.describer)
    new = found.guidance
    assert found.facts == {"tokens_in": 7}  # what was asked is charged
    states = [(a.evidence, a.near, a.when) for a in new.advice] != [
        (a.evidence, a.near, a.when) for a in guidance.advice
    ]
    actions = [a.action for a in new.advice] != [a.action for a in guidance.advice]
    assert states == (what in ("random", "random-states"))
    assert actions == (what in ("random", "random-actions"))
    assert (new.reward_terms != guidance.reward_terms) == (what == "random-terms")
    assert [(a.id, a.kind, a.reward, a.hold) for a in new.advice] == [
        (a.id, a.kind, a.reward, a.hold) for a in guidance.advice
    ]
    assert abs(new.advice[0].action.values[0]) == pytest.approx(0.3) or not actions  # a delta keeps its length
    again = scrambled(said(guidance), what, 1, space.episodes, space.describer)
    assert again.guidance == new
    other = scrambled(said(guidance), what, 2, space.episodes, space.describer)
    assert other.guidance != new


def test_random_terms_are_worth_as_much(pushed):
    space, guidance = pushed
    names = space.describer.card.variable_names
    values = np.concatenate([space.describer.variables(e.observations) for e in space.episodes])
    new = scrambled(said(guidance), "random-terms", 3, space.episodes, space.describer).guidance
    assert len(new.reward_terms) == 2
    for mine, theirs in zip(new.reward_terms, guidance.reward_terms, strict=True):
        worth = [float(np.abs(Terms([t], names)(values)).mean()) for t in (mine, theirs)]
        assert worth[1] < 1e-12 or worth[0] == pytest.approx(worth[1])
