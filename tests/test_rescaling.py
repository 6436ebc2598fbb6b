"""Inputs that can only be small are rescaled: the agent does the same, and its file runs without Unstuck."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import VecNormalize

from unstuck.agents import load_agent, to_vecnormalize
from unstuck.agents.rescaling import rescaled
from unstuck.algorithms import policy_of
from unstuck.tasks import make_env
from unstuck.treatments import afresh

TASKS = {DQN: "MountainCar-v0", PPO: "MountainCar-v0", SAC: "MountainCarContinuous-v0", TD3: "MountainCarContinuous-v0"}


@pytest.fixture(scope="module", params=TASKS, ids=lambda kind: kind.__name__)
def one(request, tmp_path_factory):
    env = make_env(TASKS[request.param])
    model = request.param("MlpPolicy", env, seed=0, device="cpu")
    path = tmp_path_factory.mktemp("agent") / "agent.zip"
    model.save(path)
    return load_agent(path), env


def states(env) -> np.ndarray:
    low, high = env.observation_space.low, env.observation_space.high
    return np.random.default_rng(0).uniform(low, high, (50, len(low))).astype(np.float32)


def test_it_does_the_same_and_sees_more(one):
    agent, env = one
    new = rescaled(agent, env.observation_space)
    before, after = (policy_of(a, env.observation_space, env.action_space) for a in (agent, new))
    np.testing.assert_allclose(before.act(states(env)), after.act(states(env)), atol=1e-5)
    for name, value in before.signals(states(env)).items():
        np.testing.assert_allclose(after.signals(states(env))[name], value, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(new.normalization.obs_var), [1.0, 0.07], rtol=1e-5)
    changed = [k for k, v in agent.state_dict.items() if not torch.equal(v, new.state_dict[k])]
    assert changed
    assert all(k.endswith((".0.weight", ".0.bias")) for k in changed)
    assert rescaled(new, env.observation_space) is new, "once"


def test_its_statistics_are_those_of_the_library(one):
    agent, env = one
    held = rescaled(agent, env.observation_space).normalization
    venv: VecNormalize = to_vecnormalize(held, env.observation_space, env.action_space)
    scaled = venv.normalize_obs(states(env))
    assert np.abs(scaled[:, 1]).max() <= 1.0 + 1e-5
    np.testing.assert_allclose(scaled[:, 0], states(env)[:, 0], rtol=1e-5)


def test_what_is_wide_or_unbounded_is_left_alone(one):
    agent, _ = one
    wide = spaces.Box(np.float32([-1.2, -np.inf]), np.float32([0.6, np.inf]))
    assert rescaled(agent, wide) is agent


def test_training_afresh_begins_with_it_where_a_buffer_is_replayed(one):
    agent, env = one
    new = afresh(agent, None, env.observation_space, env.action_space, seed=0)
    assert (new.normalization is None) == (agent.algorithm == "PPO")
