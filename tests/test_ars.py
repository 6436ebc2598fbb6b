"""Agents of ARS are read as actor-critic policies with the same actions, so that PPO can go on with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from grid_cases import collected
from unstuck.agents import load_agent, save_agent, to_ppo
from unstuck.algorithms import continued_by, policy_of
from unstuck.algorithms.ars import STD, SURE
from unstuck.diagnosis import diagnose_run
from unstuck.errors import AgentError
from unstuck.explainers.llm.policy_facts import settings_words
from unstuck.testing import CORRIDOR
from unstuck.treatments import afresh, transplant
from unstuck.treatments.fresh import deepened
from unstuck.treatments.states import States
from unstuck.workspace import Workspace

ARS = pytest.importorskip("sb3_contrib").ARS

BOX = spaces.Box(-2, 2, (5,), dtype=np.float64)
TWO = spaces.Box(np.array([-1.0, -3.0], np.float32), np.array([2.0, 3.0], np.float32))
THREE = spaces.Discrete(3)
TANH = {"net_arch": [7], "activation_fn": torch.nn.Tanh}
CASES: dict[str, tuple[str, spaces.Space, spaces.Space, dict[str, Any]]] = {
    "linear": ("LinearPolicy", BOX, TWO, {}),
    "linear, with a bias": ("LinearPolicy", BOX, TWO, {"with_bias": True}),
    "linear, behind a tanh": ("LinearPolicy", BOX, TWO, {"squash_output": True}),
    "network": ("MlpPolicy", BOX, TWO, {}),
    "network without biases": ("MlpPolicy", BOX, TWO, TANH | {"with_bias": False}),
    "network that is clipped": ("MlpPolicy", BOX, TWO, TANH | {"squash_output": False}),
    "choice": ("MlpPolicy", BOX, THREE, {}),
    "linear choice": ("LinearPolicy", BOX, THREE, {}),
    "choice by index": ("MlpPolicy", spaces.Discrete(6), THREE, TANH),
}


class OneStep(gym.Env):
    """Random observations."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, True, False, {}


def make(case: str, path: Path) -> Any:
    policy, observations, actions, kwargs = CASES[case]
    model = ARS(policy, OneStep(observations, actions), seed=1, zero_policy=False, policy_kwargs=dict(kwargs))
    model.learn(40)
    model.save(path)
    return model


def seen(space: spaces.Space, n: int = 300) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(n)])


@pytest.mark.parametrize("case", CASES)
def test_it_acts_as_in_its_library_and_ppo_goes_on_from_there(case: str, tmp_path: Path) -> None:
    model = make(case, tmp_path / "agent.zip")
    agent = load_agent(tmp_path / "agent.zip")
    assert (agent.algorithm, continued_by(agent)) == ("ARS", "PPO")
    assert "acts alike in both modes" in " ".join(agent.notes)
    _, observations, actions, _ = CASES[case]
    obs = seen(observations)
    policy, theirs = policy_of(agent, observations, actions), model.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(policy.act(obs), theirs, atol=1e-5)
    rngs = [np.random.default_rng(i) for i in range(len(obs))]
    np.testing.assert_array_equal(policy.act(obs, False, rngs), policy.act(obs))
    assert (policy.plain() is None) == ("tanh" in case or (case.startswith("network") and "clipped" not in case))
    if (plain := policy.plain()) is not None:
        np.testing.assert_array_equal(plain.act(obs, False), policy.act(obs))
    assert not policy.signals(obs)["value"].any()

    venv = DummyVecEnv([lambda: OneStep(observations, actions)])
    learner = to_ppo(agent, venv, n_steps=64, batch_size=32, n_epochs=2, ent_coef=0.0, seed=0)
    saved = save_agent(learner, tmp_path / "same.zip")
    np.testing.assert_allclose(PPO.load(saved).predict(obs, deterministic=True)[0], theirs, atol=1e-5)
    learner.learn(128)
    after = PPO.load(save_agent(learner, tmp_path / "after.zip"))
    assert after.predict(obs)[0].shape == theirs.shape
    assert after.policy.predict_values(after.policy.obs_to_tensor(obs)[0]).abs().max() > 0  # its critic has learnt


def test_its_noise_is_a_share_of_the_range(tmp_path: Path) -> None:
    """Its own policy has none. Behind a tanh the share is that of actions near the middle."""
    half = (TWO.high - TWO.low) / 2
    make("linear", tmp_path / "a.zip")
    signals = policy_of(load_agent(tmp_path / "a.zip"), BOX, TWO).signals(seen(BOX))
    np.testing.assert_allclose(signals["action_std"], np.tile(STD * half, (300, 1)), rtol=1e-5)

    make("network without biases", tmp_path / "b.zip")
    signals = policy_of(load_agent(tmp_path / "b.zip"), BOX, TWO).signals(seen(BOX))
    middle = 1 - ((signals["action_mean"] - TWO.low) / half - 1) ** 2  # the slope of the tanh there
    np.testing.assert_allclose(np.sqrt(np.mean((signals["action_std"] / half / middle) ** 2)), STD, rtol=0.1)


@pytest.mark.parametrize("case", ["choice", "linear choice", "choice by index"])
def test_a_sample_is_mostly_the_likeliest_action(case: str, tmp_path: Path) -> None:
    make(case, tmp_path / "agent.zip")
    observations = CASES[case][1]
    policy = policy_of(load_agent(tmp_path / "agent.zip"), observations, THREE)
    probabilities = np.sort(policy.signals(seen(observations))["action_prob"], axis=1)
    lead = np.log(probabilities[:, -1] / probabilities[:, -2]).mean()
    assert lead == pytest.approx(SURE, rel=0.2)


def test_a_linear_one_is_begun_again_with_hidden_layers(tmp_path: Path) -> None:
    make("linear", tmp_path / "agent.zip")
    agent = load_agent(tmp_path / "agent.zip")
    assert agent.policy_kwargs["net_arch"]["pi"] == []
    obs = np.random.default_rng(0).uniform(-2, 2, (2000, 5))
    policy = policy_of(agent, BOX, TWO)
    done = policy.act(obs)
    rewards, ends, cut = np.zeros(2000), np.array([1999]), np.array([False])
    states = States(obs, done, done, None, rewards, ends, cut, obs[-1:])
    fitted, fit = transplant(agent, states, BOX, TWO, 0)
    assert fit.faithful
    for new in (fitted, afresh(agent, states, BOX, TWO, 0)):
        assert new.policy_kwargs["net_arch"]["pi"] == [64, 64]
        assert "mlp_extractor.policy_net.2.weight" in new.state_dict
        policy_of(new, BOX, TWO).act(obs[:3])
    make("network", tmp_path / "deep.zip")
    deep = load_agent(tmp_path / "deep.zip")
    assert deepened(deep) is deep


def test_a_diagnosis_does_not_speak_of_what_was_added(tmp_path: Path) -> None:
    ARS("LinearPolicy", CORRIDOR).save(tmp_path / "a.zip")
    panel = diagnose_run(Workspace(collected(tmp_path / "run", CORRIDOR, tmp_path / "a.zip")))
    added = [f for f in panel.findings if f.name in ("explained-variance", "entropy", "deterministic-against-sampled")]
    assert len(added) == 3
    assert all(f.status == "unknown" and "has no critic and no noise" in f.meaning for f in added)
    assert panel.finding("same-action").status != "unknown"
    assert "critic" not in panel.summary
    assert "no critic and no noise" in settings_words(load_agent(tmp_path / "a.zip"))[-1]


def test_what_cannot_be_completed_is_refused(tmp_path: Path) -> None:
    endless = spaces.Box(-np.inf, np.inf, (2,))
    model = ARS("LinearPolicy", OneStep(BOX, TWO), policy_kwargs={"squash_output": True})
    model.action_space = endless
    model.save(tmp_path / "a.zip")
    with pytest.raises(AgentError, match="has no bounds"):
        load_agent(tmp_path / "a.zip")
    model.action_space = None
    model.save(tmp_path / "b.zip")
    with pytest.raises(AgentError, match="neither Box nor Discrete"):
        load_agent(tmp_path / "b.zip")


@pytest.mark.parametrize(
    "weights",
    [
        {"action_net.0.weight": torch.zeros(3)},
        {"action_net.x.weight": torch.zeros(2, 5)},
        {"action_net.0.weight": torch.zeros(4, 5), "action_net.2.weight": torch.zeros(2, 3)},
        {"q_net.0.weight": torch.zeros(2, 5)},
    ],
)
def test_weights_of_something_else_are_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    model = make("linear choice", tmp_path / "a.zip")
    model.policy.state_dict = lambda: weights
    model.save(tmp_path / "b.zip")
    with pytest.raises(AgentError, match="ARS"):
        load_agent(tmp_path / "b.zip")
