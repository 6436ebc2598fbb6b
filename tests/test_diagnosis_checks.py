"""Each measurement: it sees exactly its fault, and is silent on what is healthy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from diagnosis_cases import OBS, evidence, layer, rollout
from unstuck.agents.history import LearningCurve
from unstuck.agents.normalization import Normalization
from unstuck.diagnosis import critic, endings, examine, exploration, inputs, network, settings, shadow, standing
from unstuck.diagnosis.evidence import StateSample
from unstuck.diagnosis.references import Reference, reference_for
from unstuck.diagnosis.shadow import ShadowUpdate

RNG = np.random.default_rng(0)


def rollouts(count=8, **more):
    rng = np.random.default_rng(1)
    return [rollout(rng, deterministic=i % 2 == 0, length=50 + 5 * i, **more) for i in range(count)]


def with_signals(held, **signals):
    """The rollouts with other signals: name → function of the length."""
    return [replace(r, signals={**r.signals, **{k: f(len(r)) for k, f in signals.items()}}) for r in held]


HEALTHY = [evidence(), evidence(box=False)]


@pytest.mark.parametrize("healthy", HEALTHY, ids=["continuous", "discrete"])
def test_a_healthy_agent_has_no_fault(healthy):
    held = replace(
        healthy,
        layers=tuple(layer(np.tanh(RNG.normal(0, 0.7, (300, 32))), critic=critic) for critic in (False, True)),
        shadow=ShadowUpdate(0.01, 0.1, 2048),
    )  # fmt: skip
    panel = examine(held)
    assert [f.name for f in panel.findings if f.status in ("fault", "note")] == []
    assert panel.verdict == "cannot tell"


# ------------------------------------------------------------------------------------------------ exploration


def test_entropy_that_has_died_and_entropy_that_never_fell():
    low = with_signals(rollouts(box=False), action_prob=lambda n: np.tile([1 - 2e-4, 1e-4, 1e-4], (n, 1)))
    found = exploration.entropy(evidence(low, box=False))
    assert (found.status, found.side, found.treatments[0]) == ("fault", "below", "thaw")
    flat = with_signals(rollouts(box=False), action_prob=lambda n: np.full((n, 3), 1 / 3))
    found = exploration.entropy(evidence(flat, box=False))
    assert (found.status, found.side) == ("note", "above")
    assert found.value == pytest.approx(1.0)
    assert exploration.entropy(evidence()) is None


def test_noise_that_has_vanished():
    held = with_signals(rollouts(), action_std=lambda n: np.full((n, 2), 0.01))
    found = exploration.noise(evidence(held))
    assert found.status == "fault"
    assert found.value == pytest.approx(0.005)  # of half the range, 2
    assert exploration.noise(evidence()).status == "ok"
    assert exploration.noise(evidence(box=False)) is None


def test_bang_bang_means_whose_noise_is_clipped_away():
    held = with_signals(rollouts(), action_mean=lambda n: np.tile([20.0, -12.0], (n, 1)))
    found = exploration.beyond_bounds(evidence(held))
    assert (found.status, found.value, found.treatments[0]) == ("fault", 1.0, "transplant")
    assert "10 times the bound" in found.meaning
    left = exploration.noise_left(evidence(held))
    assert left.status == "fault"
    assert left.value == pytest.approx(0.0, abs=1e-6)
    # A policy behind a tanh cannot be beyond its bounds.
    assert exploration.beyond_bounds(evidence(held, on_policy=False)) is None


def test_actions_of_a_squashed_policy_at_the_bounds():
    held = with_signals(rollouts(), action_mean=lambda n: np.tile([1.999, -1.999], (n, 1)))
    assert exploration.at_bounds(evidence(held, on_policy=False)).status == "note"
    assert exploration.at_bounds(evidence(on_policy=False)).status == "ok"
    assert exploration.at_bounds(evidence(held)) is None


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.5), (0.9, 0.3), (3.0, 1.0), (-1.2, 2.0), (0.0, 1e-13)])
def test_the_deviation_of_a_clipped_gaussian_is_that_of_samples(mean, std):
    drawn = np.clip(np.random.default_rng(0).normal(mean, std, 400_000), -1, 1)
    assert exploration.clipped_std(np.array([mean]), np.array([std]))[0] == pytest.approx(drawn.std(), abs=3e-3)


def test_the_same_action_everywhere():
    fixed = [replace(r, actions=np.zeros(len(r), dtype=int)) for r in rollouts(box=False)]
    found = exploration.same_action(evidence(fixed, box=False, action_names=("stay", "up", "down")))
    assert found.aside in ("(Action 0 is “stay”.)", "(Action 1 is “up”.)", "(Action 2 is “down”.)")
    assert (found.status, found.value) == ("fault", 1.0)
    held = [replace(r, actions=np.tile([0.3, -0.1], (len(r), 1))) for r in rollouts()]
    assert exploration.same_action(evidence(held)).status == "fault"
    assert all(exploration.same_action(e).status == "ok" for e in HEALTHY)


def test_modes_that_differ_are_said_either_way():
    better = [replace(r, rewards=r.rewards + (9.0 if r.deterministic else 0.0)) for r in rollouts()]
    worse = [replace(r, rewards=r.rewards + (0.0 if r.deterministic else 5.0)) for r in rollouts()]
    a, b = exploration.modes(evidence(better)), exploration.modes(evidence(worse))
    assert (a.status, b.status) == ("note", "note")
    assert a.value > 0 > b.value
    assert "loops" in b.meaning
    assert exploration.modes(evidence()).status == "ok"


# ---------------------------------------------------------------------------------------------------- network


def test_saturated_units():
    stuck = np.sign(RNG.normal(size=(1, 32))) * np.ones((300, 32))
    found = network.saturated_units(evidence(layers=(layer(stuck),)))
    assert (found.status, found.value) == ("fault", 1.0)
    # Units that switch between their ends answer to states.
    busy = np.sign(RNG.normal(size=(300, 32)))
    busy[: 300 // 5] *= 0.5
    assert network.saturated_units(evidence(layers=(layer(busy),))).status == "ok"
    assert network.saturated_units(evidence(layers=(layer(np.abs(stuck), kind="ReLU"),))) is None


def test_dormant_units():
    half = np.maximum(RNG.normal(size=(300, 32)), 0)
    half[:, :20] = 0.0
    found = network.dormant_units(evidence(layers=(layer(half, kind="ReLU"),)))
    assert (found.status, found.value) == ("fault", pytest.approx(20 / 32))
    alive = np.maximum(RNG.normal(size=(300, 32)), 0)
    assert network.dormant_units(evidence(layers=(layer(alive, kind="ReLU"),))).status == "ok"
    dead = network.dormant_units(evidence(layers=(layer(np.zeros((300, 32)), kind="ReLU"),)))
    assert dead.aside == "All 32 are: neither signal nor gradient passes this layer."
    assert dead.aside not in dead.as_text()
    assert not found.aside


def test_units_that_are_silent_in_a_fresh_network_too_are_not_lost():
    # As in the last layer of a CNN that sees frames of one game, which look alike.
    half = np.maximum(RNG.normal(size=(300, 32)), 0)
    half[:, :16] = 0.0
    begun = replace(layer(half, kind="ReLU"), fresh=half.astype(np.float32))
    found = network.dormant_units(evidence(layers=(begun,)))
    assert (found.status, found.value) == ("ok", 0.5)
    assert "as in a fresh network" in found.meaning
    worse = half.copy()
    worse[:, 16:24] = 0.0
    lost = replace(begun, outputs=worse.astype(np.float32))
    assert network.dormant_units(evidence(layers=(begun, lost))).status == "fault"


def test_features_of_low_rank():
    line = np.tanh(RNG.normal(size=(300, 1)) @ RNG.normal(0, 0.1, (1, 32)))
    found = network.feature_rank(evidence(layers=(layer(line),)))
    assert (found.status, found.side) == ("fault", "below")
    assert network.feature_rank(evidence(layers=(layer(np.tanh(RNG.normal(size=(300, 32)))),))).status == "ok"
    blind = replace(layer(np.ones((300, 32))), fresh=np.ones((300, 32), np.float32))
    assert "the same in all states" in network.feature_rank(evidence(layers=(blind,))).meaning


def test_effective_rank_counts_equal_directions():
    assert network.effective_rank(np.eye(8)) == pytest.approx(8.0)
    assert network.effective_rank(np.ones((50, 8))) == pytest.approx(1.0)
    assert network.effective_rank(np.zeros((50, 8))) == 1.0


# ----------------------------------------------------------------------------------------------------- critic


def test_a_critic_that_knows_nothing_and_one_whose_scale_is_wrong():
    rng = np.random.default_rng(3)
    noisy = with_signals(rollouts(), value=lambda n: rng.normal(0, 100, n))
    found = critic.explained_variance(evidence(noisy))
    assert (found.status, found.side) == ("fault", "below")
    assert "worse than predicting" in found.meaning
    scaled = [replace(r, signals={**r.signals, "value": 10 * r.signals["value"]}) for r in rollouts()]
    found = critic.explained_variance(evidence(scaled))
    assert found.status == "fault"
    assert "only its scale is wrong: times 0.09" in found.meaning
    assert critic.explained_variance(evidence()).status == "ok"
    constant = with_signals(rollouts(), value=lambda n: np.full(n, 3.0))
    assert critic.explained_variance(evidence(constant)).status == "note"


def test_what_follows_a_time_limit_is_the_critics_word():
    r = replace(rollouts(2)[0], rewards=np.array([1.0, 1.0]), last_value=10.0)
    assert critic.learnt_returns(r, 0.5).tolist() == [1 + 0.5 * 6, 6.0]


def test_a_critic_over_actions_that_promises_too_much():
    high = [replace(r, signals={**r.signals, "value": 3 * r.signals["value"]}) for r in rollouts()]
    assert critic.overestimation(evidence(high, on_policy=False)).status == "fault"
    assert critic.overestimation(evidence(on_policy=False)).status == "ok"
    assert critic.overestimation(evidence(high)) is None


# ----------------------------------------------------------------------------------------------------- inputs


def test_returns_that_are_all_the_same():
    flat = [replace(r, rewards=np.full(60, -1.0)) for r in rollouts()]
    found = inputs.reward_signal(evidence(flat))
    assert (found.status, found.treatments[0]) == ("fault", "guidance")
    assert "every step paid -1" in found.meaning
    assert inputs.reward_signal(evidence()).status == "ok"


@pytest.mark.parametrize(("factor", "side"), [(1e4, "above"), (1e-5, "below")])
def test_rewards_of_an_odd_size(factor, side):
    held = [replace(r, rewards=factor * r.rewards) for r in rollouts()]
    found = inputs.reward_size(evidence(held))
    assert (found.status, found.side) == ("note", side)
    assert inputs.reward_size(evidence(held, normalized_rewards=True)) is None
    assert inputs.reward_size(evidence()).status == "ok"


def test_large_observations_without_statistics():
    states = RNG.normal(0, 1, (200, 4)) * [1.0, 1.0, 1.0, 500.0]
    found = inputs.observation_size(evidence(states=states.astype(np.float32)))
    assert (found.name, found.status) == ("raw-observations", "fault")
    assert "component 3" in found.meaning
    assert inputs.observation_size(evidence()).status == "ok"
    images = np.zeros((20, 8, 8, 1), dtype=np.uint8)
    box = spaces.Box(0, 255, (8, 8, 1), np.uint8)
    assert inputs.observation_size(evidence(states=images, observation_space=box)) is None


def test_statistics_that_do_not_fit():
    def scaled_by(std):
        return Normalization(
            obs_mean=np.zeros(OBS.shape), obs_var=np.full(OBS.shape, std**2), norm_obs=True, count=1e4, clip_obs=10.0,
            epsilon=1e-8, norm_reward=False, clip_reward=10.0, ret_var=1.0, ret_mean=0.0, gamma=0.99,
        )  # fmt: skip

    found = inputs.observation_size(evidence(normalization=scaled_by(0.05)))
    assert (found.name, found.status) == ("observation-statistics", "fault")
    assert inputs.observation_size(evidence(normalization=scaled_by(1.0))).status == "ok"


# ---------------------------------------------------------------------------------------------------- endings


def test_episodes_that_only_the_time_limit_ends():
    endless = [replace(r, terminated=False) for r in rollouts()]
    found = endings.time_limit_only(evidence(endless, time_limit=90), good=False)
    assert (found.status, found.treatments) == ("note", ("short-episodes",))
    assert endings.time_limit_only(evidence(endless), good=True).status == "ok"
    assert endings.time_limit_only(evidence(), good=False).status == "ok"


def test_a_true_end_that_always_comes_at_the_same_step():
    rng = np.random.default_rng(2)
    hidden = [rollout(rng, deterministic=i < 4, length=40) for i in range(8)]
    found = endings.same_step(evidence(hidden))
    assert (found.status, found.value) == ("fault", 40)
    assert endings.same_step(evidence()).status == "ok"
    # The same episode again and again (a task without chance) ends at the same step, and nothing is wrong.
    assert endings.same_step(evidence([hidden[0]] * 8)).status == "ok"


# ------------------------------------------------------------------------------------------ update and settings


def test_updates_that_do_nothing_or_too_much():
    assert shadow.update_size(evidence(shadow=ShadowUpdate(0.0, 0.0, 2048))).status == "fault"
    found = shadow.update_size(evidence(shadow=ShadowUpdate(5.0, 0.9, 2048)))
    assert (found.status, found.side) == ("note", "above")
    assert shadow.update_clipped(evidence(shadow=ShadowUpdate(5.0, 0.9, 2048))).status == "note"
    assert shadow.update_size(evidence(shadow=ShadowUpdate(0.01, 0.1, 2048))).status == "ok"
    assert shadow.update_size(evidence(shadow_note="observations are images")).status == "unknown"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.05),
        ("gamma", 0.5),
        ("clip_range", 0.9),
        ("ent_coef", 1.0),
        ("n_epochs", 200),
        ("n_steps", 4),
    ],
)
def test_settings_out_of_the_common_range(name, value):
    held = evidence()
    odd = {**held.hyperparameters, name: value, "n_envs": 1 if name == "n_steps" else 8}
    found = settings.settings(evidence(hyperparameters=odd))
    assert found.status == "note"
    assert name in found.meaning
    assert settings.settings(held).status == "ok"


def test_settings_that_are_unknown_or_another_algorithms_are_not_judged():
    odd = {"learning_rate": None, "clip_range": 0.9, "vf_coef": 0.0, "gamma": 0.99}
    assert settings.out_of_range("TRPO", odd) == []
    assert settings.out_of_range("A2C", {"learning_rate": 0.0}) == []
    assert settings.out_of_range("SAC", {"tau": 0.005, "batch_size": 256, "learning_rate": 7e-4}, on_policy=False) == []


# --------------------------------------------------------------------------------------------------- standing

GOOD = Reference(target=100.0, random=0.0, source="a test")


def curve(returns, source="monitor.csv"):
    return LearningCurve(tuple(range(10_000, 10_000 * (len(returns) + 1), 10_000)), tuple(returns), source)


def returning(value, **more):
    rng = np.random.default_rng(4)
    held = [replace(r, rewards=np.full(len(r), value / len(r)) + rng.normal(0, 1e-3, len(r))) for r in rollouts()]
    return evidence(held, reference=GOOD, **more)


def test_a_flat_a_rising_a_falling_and_a_noisy_curve():
    rng = np.random.default_rng(5)
    up = np.linspace(0, 30, 60)
    flat = np.concatenate([up[:20], np.full(40, 10.0)]) + rng.normal(0, 0.5, 60)
    cases = {"fault": flat, "ok": up + rng.normal(0, 0.5, 60), "unknown": rng.normal(30, 60, 60)}
    for status, returns in cases.items():
        assert standing.progress(returning(30, curve=curve(returns))).status == status
    falling = np.concatenate([up, np.linspace(30, 5, 40)]) + rng.normal(0, 0.5, 100)
    found = standing.progress(returning(5, curve=curve(falling)))
    assert found.status == "fault"
    assert "It gets worse; it was best" in found.meaning
    assert standing.progress(returning(30)).status == "unknown"
    assert standing.progress(returning(30, curve=curve([1.0, 2.0, 3.0]))).status == "unknown"


def test_correlated_points_count_as_fewer():
    rng = np.random.default_rng(6)
    x = np.arange(200.0)
    noise = rng.normal(size=200)
    walk = np.zeros(200)
    for i in range(1, 200):
        walk[i] = 0.9 * walk[i - 1] + noise[i]
    loose, tight = standing.slope(x, walk), standing.slope(x, noise * walk.std())
    assert loose.high - loose.low > 2 * (tight.high - tight.low)


def test_verdicts():
    rng = np.random.default_rng(7)
    up = curve(np.linspace(0, 30, 60) + rng.normal(0, 0.5, 60))
    flat = curve(np.full(60, 30.0) + rng.normal(0, 0.5, 60))
    assert examine(returning(30, curve=up)).verdict == "on its way"
    assert examine(returning(30, curve=up)).treatments[0] == "continue"
    stuck = examine(returning(30, curve=flat))
    assert stuck.verdict == "stuck"
    assert "Its learning curve is flat." in stuck.summary
    good = examine(returning(98, curve=flat))
    assert (good.verdict, good.treatments) == ("already good", ("continue",))
    assert not good.faults
    assert good.summary.startswith("Already good. It returns 98")
    bang = with_signals(rollouts(), action_mean=lambda n: np.tile([20.0, -12.0], (n, 1)))
    unknown = examine(evidence(bang))
    assert unknown.verdict == "stuck"
    assert unknown.treatments[0] == "transplant"


def test_few_good_episodes_are_weighed_against_the_evaluations_in_training():
    before = curve([40.0] * 30, source="evaluations.npz")
    rng = np.random.default_rng(8)
    lucky = [replace(r, rewards=np.full(len(r), rng.normal(98, 60) / len(r))) for r in rollouts()]
    assert examine(evidence(lucky, reference=GOOD, curve=before)).verdict != "already good"
    # Episodes that hardly differ leave no doubt, whatever was before.
    assert examine(returning(98, curve=before)).verdict == "already good"


def test_a_task_that_is_not_the_one_of_training():
    was_better = curve([90.0, 91.0, 90.5, 89.0, 90.0] * 4, source="evaluations.npz")
    found = standing.as_in_training(returning(30, curve=was_better))
    assert found.status == "note"
    assert "may not be the one" in found.meaning
    assert standing.as_in_training(returning(90, curve=was_better)).status == "ok"
    assert standing.as_in_training(returning(30)) is None
    # What it returned on another task says nothing of how far it is from a good one here.
    here = [standing.distance(returning(30, curve=held)).value for held in (was_better, None)]
    assert here[0] == here[1]
    assert standing.distance(returning(85, curve=was_better)).value > standing.distance(returning(85)).value


def test_references_go_by_the_task_and_the_algorithm():
    assert reference_for("HalfCheetah-v3", solved=4800.0).target == 5819.1
    assert reference_for("HalfCheetah-v5", on_policy=False, solved=4800.0).target == 12089.9
    hardcore = reference_for("BipedalWalkerHardcore-v3", solved=300.0)
    assert (hardcore.target, hardcore.best) == (235.2, None)  # no on-policy agent solves it
    assert reference_for("CartPole-v1", solved=475.0).share(25.0) == 0.0
    assert reference_for("Mine-v0") is None
    assert reference_for("Mine-v0", solved=7.0).target == 7.0
    assert reference_for("SparseHopper-v5").target > 500  # of the agent that ships


# ----------------------------------------------------------------------------------------------------- evidence


def test_states_are_sampled_evenly_and_within_bounds():
    sample = StateSample(total=1000, states=100)
    for begin in range(0, 1000, 37):
        sample.add(np.arange(begin, min(begin + 37, 1000))[:, None])
    rows = sample.states()[:, 0]
    assert len(rows) == 100
    assert set(np.diff(rows)) == {10}
    small = StateSample(total=10, states=100, size=16)
    small.add({"a": np.zeros((10, 1)), "b": np.ones((10, 1), dtype=np.float32)})
    assert {k: len(v) for k, v in small.states().items()} == {"a": 1, "b": 1}
