"""Treatments: what an agent does is kept where it should be, and what stuck it is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from unstuck import tasks, testing
from unstuck.agents import Actor, Agent, build_policy, load_agent
from unstuck.errors import RunError
from unstuck.treatments import afresh, quieter, shrink_and_perturb, thaw, transplant
from unstuck.treatments.states import States, discounted, joined, softened, visit
from unstuck.vecenvs import make_vec_env


def spaces_of(env_id: str) -> tuple[spaces.Space, spaces.Space]:
    env = tasks.make_env(env_id)
    found = env.observation_space, env.action_space
    env.close()
    return found


def actor_of(agent: Agent, env_id: str) -> Actor:
    return Actor(build_policy(agent, *spaces_of(env_id)), agent.normalization, spaces_of(env_id)[1])


def states_of(agent: Agent, env_id: str, steps: int = 2000) -> States:
    venv = make_vec_env(lambda: tasks.make_env(env_id), env_id, None, 8, "gymnasium")
    try:
        return visit(actor_of(agent, env_id), venv, steps, seed=3)
    finally:
        venv.close()


@pytest.fixture(scope="module")
def saturated(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    """Means far beyond the bounds, behind saturated layers: it pushes the way it goes."""
    path = tmp_path_factory.mktemp("agent") / "push.zip"
    agent = load_agent(testing.save_stuck_agent(path, testing.PUSH))
    weights = dict(agent.state_dict)
    first = torch.zeros_like(weights["mlp_extractor.policy_net.0.weight"])
    first[:, 1] = 400.0
    weights["mlp_extractor.policy_net.0.weight"] = first
    weights["mlp_extractor.policy_net.2.weight"] = 5 * torch.eye(64)
    weights["action_net.weight"] = torch.full((1, 64), 0.5)
    weights["action_net.bias"] = torch.zeros(1)
    return replace(agent, state_dict=weights)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    """Discrete actions; always left, with next to no entropy."""
    path = tmp_path_factory.mktemp("agent") / "corridor.zip"
    return load_agent(testing.save_stuck_agent(path, testing.CORRIDOR, bias=6.0, normalize=True))


def test_states_know_where_episodes_end(left: Agent) -> None:
    states = states_of(left, testing.CORRIDOR)
    assert len(states) == 2000
    assert states.probabilities is not None
    assert states.probabilities.shape == (2000, 2)
    # Only the time limit (60) or the end of the data ends a piece, and pieces lie one after the other.
    assert not states.terminated.any()
    assert states.ends[-1] == 1999
    assert (np.diff(states.ends) <= 60).all()
    assert (states.modes == 0).all()


def test_states_are_kept_in_a_file_and_joined(left: Agent, tmp_path: object) -> None:
    states = states_of(left, testing.CORRIDOR, 400)
    states.save(tmp_path / "states.npz")  # type: ignore[operator]
    again = States.load(tmp_path / "states.npz")  # type: ignore[operator]
    np.testing.assert_array_equal(again.observations, states.observations)
    both = joined([again, states])
    assert len(both) == 800
    assert both.ends[-1] == 799
    np.testing.assert_allclose(
        discounted(both, 0.9, np.zeros(len(both.ends)))[400:], discounted(states, 0.9, np.zeros(len(states.ends)))
    )


@pytest.mark.parametrize("broken", [{"ends": np.array([3, 1])}, {"ends": np.array([1, 9])}, {"actions": np.zeros(3)}])
def test_states_whose_parts_do_not_fit_are_refused(broken: dict[str, np.ndarray], tmp_path: Path) -> None:
    parts = {
        "observations": np.zeros((4, 1)), "modes": np.zeros(4), "actions": np.zeros(4), "rewards": np.zeros(4),
        "ends": np.array([1, 3]), "terminated": np.array([True, False]), "last": np.zeros((2, 1)),
    }  # fmt: skip
    path = tmp_path / "states.npz"
    named = {f"{name}/" if name in ("observations", "last") else name: part for name, part in parts.items()}
    np.savez(path, **named)  # type: ignore[arg-type]
    assert len(States.load(path)) == 4
    np.savez(path, **{**named, **broken})  # type: ignore[arg-type]
    with pytest.raises(RunError, match="do not fit together"):
        States.load(path)


def test_discounted_returns_by_hand() -> None:
    states = States(
        np.zeros((4, 1)), np.zeros(4), np.zeros(4), None, np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 3]),
        np.array([True, False]), np.zeros((2, 1)),
    )  # fmt: skip
    np.testing.assert_allclose(discounted(states, 0.5, np.array([100.0, 8.0])), [2.0, 2.0, 7.0, 8.0])


def test_transplant_keeps_what_the_agent_does_and_opens_it(saturated: Agent) -> None:
    states = states_of(saturated, testing.PUSH)
    new, fit = transplant(saturated, states, *spaces_of(testing.PUSH), seed=1, passes=60)
    before, after = (actor_of(a, testing.PUSH).signals(states.observations) for a in (saturated, new))
    assert np.abs(before["action_mean"]).mean() > 5  # of bounds of ±1
    assert np.abs(after["action_mean"]).mean() < 1.2
    assert fit.actor < 0.1
    np.testing.assert_allclose(after["action_std"], 0.3, rtol=1e-5)
    same = np.sign(before["action_mean"]) == np.sign(after["action_mean"])
    assert same.mean() > 0.9
    assert fit.explained > 0.5
    assert fit.faithful
    # The critic is in the task's own reward.
    returns = discounted(states, 0.99, np.zeros(len(states.ends)))
    assert np.corrcoef(after["value"], returns)[0, 1] > 0.3


def test_a_transplant_that_is_another_agent_says_so(saturated: Agent) -> None:
    states = states_of(saturated, testing.PUSH)
    noise = np.random.default_rng(0).choice([-1.0, 1.0], size=states.modes.shape)
    fit = transplant(saturated, replace(states, modes=noise), *spaces_of(testing.PUSH), seed=1, passes=20)[1]
    assert fit.agreement < 0.5
    assert not fit.faithful


def test_transplant_gives_gradients_again(saturated: Agent) -> None:
    states = states_of(saturated, testing.PUSH, 400)
    new, _ = transplant(saturated, states, *spaces_of(testing.PUSH), seed=1, passes=20)

    def first_gradient(agent: Agent) -> float:
        policy = build_policy(agent, *spaces_of(testing.PUSH))
        policy.get_distribution(policy.obs_to_tensor(states.observations)[0]).distribution.mean.sum().backward()
        return float(policy.mlp_extractor.policy_net[0].weight.grad.abs().mean())

    assert first_gradient(new) > 100 * first_gradient(saturated)


def test_transplant_is_the_same_for_the_same_seed(saturated: Agent) -> None:
    states = states_of(saturated, testing.PUSH, 400)
    one, two, other = (
        transplant(saturated, states, *spaces_of(testing.PUSH), seed=s, passes=2)[0].state_dict for s in (1, 1, 2)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["action_net.weight"], other["action_net.weight"])


def test_transplant_of_discrete_actions_has_a_floor_of_entropy(left: Agent) -> None:
    states = states_of(left, testing.CORRIDOR)
    new, fit = transplant(left, states, *spaces_of(testing.CORRIDOR), seed=1, passes=20)
    probs = actor_of(new, testing.CORRIDOR).signals(states.observations)["action_prob"]
    assert (probs.argmax(axis=1) == 0).all()
    entropy = -(probs * np.log(probs)).sum(axis=1).mean() / np.log(2)
    assert entropy == pytest.approx(0.3, abs=0.05)
    assert fit.actor < 0.02
    assert fit.agreement == 1.0
    assert new.normalization is left.normalization


def test_softening_leaves_what_is_soft_enough() -> None:
    probs = np.array([[0.5, 0.5], [0.7, 0.3]])
    np.testing.assert_allclose(softened(probs, 0.3), probs)


def test_shrink_and_perturb_is_between_old_and_new(saturated: Agent) -> None:
    mixed = shrink_and_perturb(saturated, *spaces_of(testing.PUSH), seed=1, keep=0.5)
    fresh = shrink_and_perturb(saturated, *spaces_of(testing.PUSH), seed=1, keep=0.0)
    name = "mlp_extractor.policy_net.0.weight"
    torch.testing.assert_close(mixed.state_dict[name], (saturated.state_dict[name] + fresh.state_dict[name]) / 2)
    kept = mixed.state_dict["value_net.weight"]
    assert torch.equal(kept, saturated.state_dict["value_net.weight"])


def test_afresh_has_nothing_of_the_agent_but_its_statistics(left: Agent, saturated: Agent) -> None:
    new = afresh(left, None, *spaces_of(testing.CORRIDOR), seed=1)
    assert new.normalization is left.normalization
    name = "mlp_extractor.policy_net.0.weight"
    assert not torch.isclose(new.state_dict[name], left.state_dict[name]).any()
    states = states_of(saturated, testing.PUSH, 400)
    without = afresh(saturated, states, *spaces_of(testing.PUSH), seed=1)
    assert without.normalization is not None
    np.testing.assert_allclose(without.normalization.obs_mean, states.observations.mean(axis=0), rtol=1e-5)


def test_thaw_raises_noise_and_touches_no_other_weight(left: Agent, saturated: Agent) -> None:
    states = states_of(left, testing.CORRIDOR)
    warm = thaw(left, spaces_of(testing.CORRIDOR)[1], 0.3, states.probabilities)
    probs = actor_of(warm, testing.CORRIDOR).signals(states.observations)["action_prob"]
    assert -(probs * np.log(probs)).sum(axis=1).mean() / np.log(2) == pytest.approx(0.3, abs=0.01)
    changed = [k for k in warm.state_dict if not torch.equal(warm.state_dict[k], left.state_dict[k])]
    assert sorted(changed) == ["action_net.bias", "action_net.weight"]
    # A Gaussian whose noise is high enough stays the same object, saturated or not.
    assert thaw(saturated, spaces_of(testing.PUSH)[1], 0.3) is saturated
    weights = {**saturated.state_dict, "log_std": torch.tensor([-6.0])}
    cold = thaw(replace(saturated, state_dict=weights), spaces_of(testing.PUSH)[1], 0.3)
    assert float(cold.state_dict["log_std"].exp()) == pytest.approx(0.3)


def test_global_random_numbers_stay_as_they_were(saturated: Agent) -> None:
    states = states_of(saturated, testing.PUSH, 160)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    transplant(saturated, states, *spaces_of(testing.PUSH), seed=1, passes=1)
    shrink_and_perturb(saturated, *spaces_of(testing.PUSH), seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_noise_is_turned_down_and_what_is_most_likely_stays(left: Agent, saturated: Agent) -> None:
    space = spaces_of(testing.PUSH)[1]
    calm = quieter(saturated, space, 0.1)
    assert calm is not None
    assert torch.allclose(calm.state_dict["log_std"].exp(), 0.1 * saturated.state_dict["log_std"].exp())
    others = [n for n in calm.state_dict if n != "log_std"]
    assert all(torch.equal(calm.state_dict[n], saturated.state_dict[n]) for n in others)
    warm = thaw(left, spaces_of(testing.CORRIDOR)[1], 0.3, states_of(left, testing.CORRIDOR).probabilities)
    cold = quieter(warm, spaces_of(testing.CORRIDOR)[1], 0.1)
    assert cold is not None
    obs = states_of(left, testing.CORRIDOR, 200).observations
    before, after = (actor_of(a, testing.CORRIDOR).signals(obs)["action_prob"] for a in (warm, cold))
    assert np.array_equal(before.argmax(axis=1), after.argmax(axis=1))
    assert after.max(axis=1).mean() > before.max(axis=1).mean()
    # A policy without a number of its own for noise is left as it is.
    nothing = {n: w for n, w in saturated.state_dict.items() if n != "log_std"}
    assert quieter(replace(saturated, state_dict=nothing), space, 0.1) is None
