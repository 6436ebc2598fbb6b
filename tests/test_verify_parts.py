"""The parts of verification by themselves: starts, execution of advice, verdicts."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from unstuck.branching.acting import Holding, Suggestions
from unstuck.branching.branches import Attempt, Branch, Lockstep, Start
from unstuck.guidance import Action, Advice, Condition, Evidence, Guidance, ProgressMeasure, Term
from unstuck.guide.advisor import Advisor
from unstuck.guide.plan import Plan
from unstuck.matching import Matcher
from unstuck.stages.verify.judge import Trial, judge
from unstuck.stages.verify.starts import completed, starts_for
from unstuck.stages.verify.terms import check_terms
from unstuck.views import View, same_returns

NAMES = ("x", "y")
GUIDANCE = Guidance(env_id="Toy-v0", diagnosis="")
FURTHER = ProgressMeasure(terms=(Term(variable="x", weight=1, cap=10),))


def rule(name: str, index: int, value: float, hold: int = 1) -> Advice:
    when = (Condition(variable="x", op=">", value=value),)
    return Advice(id=name, kind="rule", why="", when=when, action=Action(index=index), hold=hold)


def view(index: int, x: list[float], rewards: list[float] | None = None) -> View:
    rewards = rewards or [0.0] * (len(x) - 1)
    states = np.column_stack([x, np.zeros(len(x))])
    return View(index, True, "cut", states, np.zeros(len(x) - 1), np.array(rewards), seed=100 + index)


# ------------------------------------------------------------------------------------------------- starts


def starts(seen: list[View], pairs: int, **more) -> list[tuple[int | None, int]]:
    advice = rule("r", 0, 0.5)
    matcher = Matcher([advice], GUIDANCE, NAMES)
    found = starts_for(advice, matcher, seen, pairs=pairs, **({"seed": 0, "early": False} | more))
    return [(s.episode, s.step) for s in found]


def test_rules_start_where_their_condition_begins_to_hold() -> None:
    seen = [view(0, [0, 1, 1, 0, 1, 0]), view(1, [1, 1, 0, 0]), view(2, [0, 0, 0]), view(3, [0, 0, 1])]
    # Episode 2 never matches, and the last state of episode 3 is its end: nothing can be done there.
    assert set(starts(seen, 3)) == {(0, 1), (1, 0), (0, 4)}
    assert set(starts(seen, 2)) == {(0, 1), (1, 0)}
    assert starts(seen, 3, early=True) == [(1, 0), (0, 1), (0, 4)]
    assert starts([seen[2]], 3) == []


def test_few_starts_are_used_again_with_other_luck() -> None:
    advice = rule("r", 0, 0.5)
    found = starts_for(advice, Matcher([advice], GUIDANCE, NAMES), [view(4, [0, 1, 0])], pairs=3, seed=0, early=False)
    assert [(s.episode, s.step) for s in found] == [(4, 1)] * 3
    assert len({s.noise for s in found}) == 3


def test_the_choice_among_many_episodes_is_drawn_with_the_seed() -> None:
    seen = [view(i, [0, 1, 0]) for i in range(30)]
    assert starts(seen, 8) == starts(seen, 8)
    assert starts(seen, 8) != starts(seen, 8, seed=1)
    assert len(set(starts(seen, 8))) == 8


def test_silent_is_when_all_returns_are_the_same() -> None:
    same = [view(0, [0, 0, 0], [-1, -1]), view(1, [0, 0], [-2])]
    assert same_returns(same)
    assert not same_returns([*same, view(2, [0, 0], [-2.001])])
    assert same_returns([*same, view(2, [0, 0], [-2.0000001])]), "a rounding of float32"
    large = [view(0, [0, 0], [1e12]), view(1, [0, 0], [1e12 + 1e-4])]
    assert same_returns(large)


def test_what_a_hand_written_file_leaves_out_is_filled_in() -> None:
    advice = Advice(id="a", kind="state", why="", evidence=Evidence(episode=1, step=1))
    given = Advice(id="b", kind="state", why="", evidence=Evidence(episode=1, step=1, state={"x": 9}))
    guidance = GUIDANCE.model_copy(update={"advice": (advice, given)})
    done = completed(guidance, [view(0, [-2, 0]), view(1, [0, 3, 1])], NAMES)
    assert done.advice[0].evidence.state == {"x": 3, "y": 0}
    assert done.advice[1].evidence.state == {"x": 9}
    assert done.scales == {"x": (-2, 3), "y": (-0.5, 0.5)}
    kept = completed(guidance.model_copy(update={"scales": {"x": (0, 1)}}), [view(0, [0, 1])], NAMES)
    assert kept.scales == {"x": (0, 1)}


# ---------------------------------------------------------------------------------------------- execution


class Wire:
    """Steps environments that are nothing but a list of the states to come."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def __call__(self, states: list[float], action: np.ndarray) -> tuple:
        self.taken.append(int(action))
        return np.array([states.pop(0), 0.0]), 1.0, not states, False, {}


class Nothing:
    """A policy that always takes action 0."""

    def act(self, obs, deterministic=False, rngs=None):
        return np.zeros(len(obs), dtype=np.int64)


def play(attempt: Attempt, xs: list[float], advised: bool = True) -> list[int | None]:
    """The advised actions in these states; None for the policy's own, which is 0."""
    wire = Wire()
    lockstep = Lockstep(Nothing(), gym.spaces.Discrete(10), lambda obs: obs, None, wire)
    running = lockstep.begin([*xs[1:], 0.0], np.array([xs[0], 0.0]), 0, advised)
    lockstep.run([running], 100, attempt)
    assert running.branch.ending == "terminated"
    assert running.branch.rewards == [1.0] * len(xs)
    assert running.branch.advised == running.branch.changed == sum(a > 0 for a in wire.taken)
    return [a or None for a in wire.taken]


def test_the_first_rule_that_applies_is_executed_and_held() -> None:
    advice = [rule("far", 7, 2.0, hold=2), rule("near", 5, 1.0)]
    attempt = Attempt(advice, Matcher(advice, GUIDANCE, NAMES))
    #                             near  far  held  none  far held  far
    assert play(attempt, [0, 1.5, 3, 0, 0, 3, 3, 3]) == [None, 5, 7, 7, None, 7, 7, 7]
    assert play(attempt, [3, 1.5, 1.5]) == [7, 7, 5]
    assert play(attempt, [3, 3], advised=False) == [None, None]


def test_a_critical_state_is_acted_on_once() -> None:
    advice = Advice(id="s", kind="state", why="", evidence=Evidence(episode=0, step=0), action=Action(index=3), hold=2)
    assert play(Attempt([advice], None), [0, 0, 0, 0]) == [3, 3, None, None]
    assert play(Attempt([advice], None), [0, 0], advised=False) == [None, None]


def test_actions_are_executed_within_the_bounds() -> None:
    box = gym.spaces.Box(-1, 1, (2,), np.float32)
    own = np.array([[0.5, -0.5]] * 3, dtype=np.float32)
    actions = Suggestions([Action(values=(0.25, -1), delta=True), Action(values=(0.25, -3))], box)
    taken = actions.substituted(np.array([0, 1, -1]), own)
    np.testing.assert_array_equal(taken, np.array([[0.75, -1], [0.25, -1], [0.5, -0.5]], dtype=np.float32))
    assert taken.dtype == np.float32
    assert actions.substituted(np.array([-1, -1, -1]), own) is own


def test_discrete_suggestions_count_from_the_spaces_start() -> None:
    """What is verified on such a task is what is trained there: one place applies suggestions."""
    space, own = gym.spaces.Discrete(3, start=5), np.array([5, 7], dtype=np.int64)
    assert Suggestions([Action(index=2)], space).substituted(np.array([-1, 0]), own).tolist() == [5, 7]
    advice = rule("r", 1, 0.0)
    plan = Plan(execute=True)
    advisor = Advisor(GUIDANCE.model_copy(update={"advice": (advice,)}), NAMES, plan.selection, space)
    lockstep_takes = Suggestions([advice.action], space).apply(np.array([0, 0]), own)
    np.testing.assert_array_equal(advisor.actions(np.array([0, 0]), own), lockstep_takes)
    assert lockstep_takes.tolist() == [6, 6]


@pytest.mark.parametrize("seed", range(5))
def test_training_holds_a_suggestion_as_branches_do(seed: int) -> None:
    """Row by row, `Holding` of many rows is what it is of one, over episodes that end at random."""
    rng = np.random.default_rng(seed)
    holds, rows = [1, 3, 5], 4
    together, alone = Holding(holds, rows), [Holding(holds, 1) for _ in range(rows)]
    for t in range(60):
        found, ended = rng.integers(-1, 3, rows), rng.random(rows) < 0.1
        expected = [
            h.next(f[None], over[None] if t % 2 else None)[0] for h, f, over in zip(alone, found, ended, strict=True)
        ]
        np.testing.assert_array_equal(together.next(found, ended if t % 2 else None), expected)


# ----------------------------------------------------------------------------------------------- verdicts


def trial(returns: list[tuple[float, float]], progress: list[tuple[list[float], list[float]]] | None = None, **more):
    progress = progress or [([], [])] * len(returns)
    pairs = [
        (Branch([w], p, advised=1, changed=1), Branch([o], q)) for (w, o), (p, q) in zip(returns, progress, strict=True)
    ]
    starts = tuple(Start(i, 0, 0) for i in range(len(pairs)))
    return Trial(starts, tuple(pairs), 7, **({"horizon": 100, "window": 20} | more))


def verdict(t: Trial, progress: ProgressMeasure | None = None, silent: bool = False, tests: int = 1):
    return judge(t, progress, silent=silent, tests=tests, level=0.1)


def test_gains_that_are_all_the_same() -> None:
    better = verdict(trial([(3, 1)] * 4))
    assert (better.status, better.gain, better.low, better.pairs, better.steps) == ("helpful", 2, 2, 4, 7)
    assert verdict(trial([(1, 3)] * 4)).status == "harmful"
    none = verdict(trial([(1, 1)] * 4))
    assert (none.status, none.gain, none.note) == ("unresolved", 0, "it made no difference in any pair")


def test_rounding_is_no_gain() -> None:
    assert verdict(trial([(0.1 + 0.2, 0.3)] * 4)).gain == 0
    assert verdict(trial([(1e6 + 1e-5, 1e6)] * 4)).status == "unresolved"


def test_more_tests_need_more_evidence() -> None:
    t = trial([(2, 1), (3, 1), (1.2, 1), (2, 1)])
    assert verdict(t).status == "helpful"
    assert verdict(t, tests=20).status == "unresolved"


def test_return_comes_before_progress() -> None:
    back = [([0.0, -5.0], [0.0, 1.0])] * 4
    assert verdict(trial([(2, 1)] * 4, back), FURTHER, silent=True).status == "helpful"
    # Where the return says nothing, progress does, on every task.
    for silent in (True, False):
        found = verdict(trial([(1, 1)] * 4, back), FURTHER, silent=silent)
        assert (found.status, found.metric, found.gain) == ("harmful", "progress over 20 steps", -6)


def test_a_return_that_differs_by_chance() -> None:
    mixed, ahead = [(2, 1), (1, 2), (2, 1), (1, 2)], [([3.0], [1.0])] * 4
    on_silent = verdict(trial(mixed, ahead), FURTHER, silent=True)
    assert (on_silent.status, on_silent.metric) == ("helpful", "progress over 20 steps")
    # Two tests were made, so that the interval is wider than where progress alone could decide.
    varied = [([3.0], [1.0]), ([2.0], [1.0])] * 2
    two, one = verdict(trial(mixed, varied), FURTHER, silent=True), verdict(trial([(1, 1)] * 4, varied), FURTHER)
    assert (two.gain, two.metric) == (one.gain, one.metric)
    assert two.low < one.low
    on_dense = verdict(trial(mixed, ahead), FURTHER)
    assert (on_dense.status, on_dense.metric) == ("unresolved", "return over 100 steps")


@pytest.mark.parametrize(
    ("aggregate", "gain"), [("last", 4 - 2), ("max", 4 - 3), ("mean", (1 + 4 + 4) / 3 - (3 + 1 + 2) / 3)]
)
def test_a_branch_that_ends_keeps_its_last_value(aggregate: str, gain: float) -> None:
    t = trial([(0, 0)] * 2, [([1.0, 4.0], [3.0, 1.0, 2.0])] * 2)
    assert t.progress(aggregate) == pytest.approx([gain] * 2)


def test_progress_is_judged_within_its_window_only() -> None:
    t = trial([(0, 0)] * 2, [([1.0, 2.0, 90.0], [0.0, 0.0, 0.0])] * 2, window=2)
    assert list(t.progress("last")) == [2, 2]
    assert t.progress("max") == pytest.approx([2, 2])
    assert t.progress("mean") == pytest.approx([1.5, 1.5])


def test_values_that_are_not_finite_are_no_verdict() -> None:
    found = verdict(trial([(np.inf, 1), (2, 1)]))
    assert (found.status, found.gain) == ("unresolved", None)
    assert "not finite" in found.note
    assert trial([(np.nan, 1)]).record(None)[0]["with"]["return"] is None


# --------------------------------------------------------------------------------------------------- terms


def test_terms_are_looked_at_after_each_step() -> None:
    seen = [view(0, [9, 0, 2], [0, 1]), view(1, [9, 0, 6], [0, 3])]
    (row,) = check_terms([Term(variable="x", above=0, weight=1, cap=100)], seen, NAMES)
    assert (row["fires"], row["mean"], row["best"], row["worst"]) == (0.5, 2, 3, 1)
    assert row["correlation"] == pytest.approx(1)


def test_no_steps_are_spent_on_actions_that_will_not_touch_training(tmp_path):
    """Continuous actions with reward terms, and no imitation: nothing is tried unless it is asked for."""
    from unstuck.config import (
        AgentConfig,
        CollectConfig,
        GuideConfig,
        RunConfig,
        TaskConfig,
        TrainConfig,
        VerifyConfig,
    )  # fmt: skip
    from unstuck.guidance import Action, Advice, Guidance, Term, save_guidance
    from unstuck.pipeline import open_run
    from unstuck.stages.collect import collect
    from unstuck.stages.verify import verify
    from unstuck.tasks import describer_for
    from unstuck.testing import PUSH, save_stuck_agent

    agent = save_stuck_agent(tmp_path / "push.zip", PUSH)
    config = RunConfig(
        task=TaskConfig(env=PUSH, import_module="unstuck.testing"),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=2),
        verify=VerifyConfig(pairs=2, episode_pairs=0),
        train=TrainConfig(guide=GuideConfig(imitate=0)),
    )
    run = open_run(config, tmp_path / "run")
    collect(run)
    speed = describer_for(PUSH).card.variable_names[1]
    push = Advice(id="r", kind="rule", why="", when=(), action=Action(values=(2.0,), delta=True))
    terms = (Term(variable=speed, weight=1, cap=1),)
    save_guidance(Guidance(env_id=PUSH, diagnosis="", advice=(push,), reward_terms=terms), run.advice_path)
    assert verify(run).advice[0].verdict.status == "untested"
    assert run.record("verify").env_steps == 0
    assert "reward terms enter training" in run.record("verify").facts["why_not"]
    asked = config.verify.model_copy(update={"what": "all"})
    run.configure(config.model_copy(update={"verify": asked}))
    assert verify(run).advice[0].verdict.status != "untested"
    assert run.record("verify").env_steps > 0
