"""Acting: reproducible whatever the batch, with noise that a row owns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from unstuck.agents import Actor, Normalization
from unstuck.errors import AgentError

OBS = spaces.Box(-5, 5, (6,))
BOX = spaces.Box(np.array([-0.5, -2.0], np.float32), np.array([0.5, 1.0], np.float32))
ACTIONS = {
    "box": BOX,
    "discrete": spaces.Discrete(4),
    "multi": spaces.MultiDiscrete([3, 2]),
    "binary": spaces.MultiBinary(3),
}


def policy_for(action_space: spaces.Space, **kwargs) -> ActorCriticPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        policy = ActorCriticPolicy(OBS, action_space, lambda _: 1e-3, **kwargs)
        for parameter in policy.parameters():  # far from the near-uniform start
            torch.nn.init.normal_(parameter, std=0.4)
    return policy.eval()


def observations(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)) * 2


@pytest.mark.parametrize("name", ACTIONS)
def test_results_do_not_depend_on_the_batch(name: str) -> None:
    actor, obs = Actor(policy_for(ACTIONS[name]), None, ACTIONS[name]), observations(33)
    together, signals = actor.act(obs), actor.signals(obs)
    for i in range(33):
        np.testing.assert_array_equal(actor.act(obs[i : i + 1])[0], together[i])
        alone = actor.signals(obs[i : i + 1])
        assert all(np.array_equal(alone[key][0], signals[key][i]) for key in signals)


@pytest.mark.parametrize("name", ACTIONS)
def test_a_row_draws_from_its_own_generator_only(name: str) -> None:
    actor, obs = Actor(policy_for(ACTIONS[name]), None, ACTIONS[name]), observations(8)
    together = actor.act(obs, False, [np.random.default_rng(i) for i in range(8)])
    backwards = actor.act(obs[::-1], False, [np.random.default_rng(i) for i in reversed(range(8))])
    np.testing.assert_array_equal(backwards[::-1], together)
    for i in range(8):
        np.testing.assert_array_equal(actor.act(obs[i : i + 1], False, [np.random.default_rng(i)])[0], together[i])


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_of_the_space(name: str) -> None:
    space = ACTIONS[name]
    actor = Actor(policy_for(space), None, space)
    for deterministic in (True, False):
        actions = actor.act(observations(50), deterministic)
        assert actions.shape == (50, *(space.shape or ()))
        assert actions.dtype == space.dtype
        assert all(space.contains(a if space.shape else int(a)) for a in actions)


def test_discrete_samples_follow_the_probabilities() -> None:
    space = spaces.Discrete(4)
    actor, obs = Actor(policy_for(space), None, space), np.repeat(observations(1), 20_000, axis=0)
    rngs = [np.random.default_rng(0)] * len(obs)
    counts = np.bincount(actor.act(obs, False, rngs), minlength=4) / len(obs)
    np.testing.assert_allclose(counts, actor.signals(obs[:1])["action_prob"][0], atol=0.015)


def test_gaussian_samples_follow_mean_and_std() -> None:
    wide = spaces.Box(-1e3, 1e3, (2,))
    actor, obs = Actor(policy_for(wide), None, wide), np.repeat(observations(1), 20_000, axis=0)
    actions, signals = actor.act(obs, False), actor.signals(obs[:1])
    np.testing.assert_allclose(actions.mean(0), signals["action_mean"][0], atol=0.05)
    np.testing.assert_allclose(actions.std(0), signals["action_std"][0], rtol=0.03)


def test_signals_are_those_of_sb3() -> None:
    policy = policy_for(BOX)
    actor, obs = Actor(policy, None, BOX), observations(5)
    with torch.no_grad():
        tensor = torch.as_tensor(obs, dtype=torch.float32)
        inner, values = policy.get_distribution(tensor).distribution, policy.predict_values(tensor)
    signals = actor.signals(obs)
    assert signals.keys() == {"value", "action_mean", "action_std"}
    np.testing.assert_allclose(signals["action_mean"], inner.mean, atol=1e-5)
    np.testing.assert_allclose(signals["action_std"], inner.stddev, atol=1e-5)
    np.testing.assert_allclose(signals["value"], values.reshape(-1), atol=1e-5)


@pytest.mark.parametrize("squash", [False, True])
def test_state_dependent_noise(squash: bool) -> None:
    policy = policy_for(BOX, use_sde=True, squash_output=squash)
    actor, obs = Actor(policy, None, BOX), np.repeat(observations(1), 5000, axis=0)
    np.testing.assert_allclose(actor.act(obs[:3]), policy.predict(obs[:3], deterministic=True)[0], atol=1e-5)
    sampled = actor.act(obs, False)
    assert all(BOX.contains(action) for action in sampled)
    with torch.no_grad():
        tensor = torch.as_tensor(obs, dtype=torch.float32)
        policy.reset_noise(len(obs))
        theirs = policy.get_distribution(tensor).sample().numpy()
    theirs = policy.unscale_action(theirs) if squash else np.clip(theirs, BOX.low, BOX.high)
    np.testing.assert_allclose(sampled.mean(0), theirs.mean(0), atol=0.05)
    np.testing.assert_allclose(sampled.std(0), theirs.std(0), atol=0.05)


def test_observations_are_normalised() -> None:
    policy, obs = policy_for(BOX), observations(4)
    stats = Normalization(np.arange(6.0), np.arange(1.0, 7.0), clip_obs=1.0)
    expected = Actor(policy, None, BOX).act(np.clip((obs - stats.obs_mean) / np.sqrt(stats.obs_var), -1, 1))
    np.testing.assert_allclose(Actor(policy, stats, BOX).act(obs), expected, atol=1e-5)


def test_a_copy_is_taken() -> None:
    policy, obs = policy_for(BOX), observations(3)
    actor = Actor(policy, None, BOX)
    before = actor.act(obs)
    torch.nn.init.zeros_(policy.action_net.weight)
    np.testing.assert_array_equal(actor.act(obs), before)
    assert next(policy.parameters()).dtype == torch.float32


def test_generators_must_match_the_rows() -> None:
    with pytest.raises(ValueError, match="3 observations"):
        Actor(policy_for(BOX), None, BOX).act(observations(3), False, [np.random.default_rng(0)])


def test_an_unknown_distribution_is_told() -> None:
    policy = policy_for(BOX)
    policy.action_dist = object()  # type: ignore[assignment]
    with pytest.raises(AgentError, match="samples from"):
        Actor(policy, None, BOX)
