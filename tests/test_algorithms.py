"""Agents of every algorithm are read, act as they did in their library, say what they think, and are saved."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise

from unstuck.agents import load_agent, save_agent
from unstuck.algorithms import algorithm, algorithm_of, names, policy_of
from unstuck.algorithms.sb3 import attribute
from unstuck.errors import AgentError, UntrustedError

sb3_contrib = pytest.importorskip("sb3_contrib")
TQC, QRDQN, TRPO, CrossQ = sb3_contrib.TQC, sb3_contrib.QRDQN, sb3_contrib.TRPO, sb3_contrib.CrossQ

BOX = spaces.Box(-1, 1, (5,), dtype=np.float64)
TWO = spaces.Box(np.array([-1.0, -3.0], np.float32), np.array([2.0, 3.0], np.float32))
THREE = spaces.Discrete(3)
SMALL = {"net_arch": [12, 9]}


class FakeEnv(gym.Env):
    """Random observations; one step long."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, True, False, {}


CASES = {
    "ppo": (PPO, "MlpPolicy", BOX, TWO, {"n_steps": 4, "batch_size": 4}),
    "a2c": (A2C, "MlpPolicy", BOX, THREE, {}),
    "trpo": (TRPO, "MlpPolicy", BOX, TWO, {"n_steps": 4, "batch_size": 4}),
    "sac": (SAC, "MlpPolicy", BOX, TWO, {"policy_kwargs": SMALL, "ent_coef": "auto_0.3"}),
    "sac, no learnt entropy": (SAC, "MlpPolicy", BOX, TWO, {"policy_kwargs": {"n_critics": 3}, "ent_coef": 0.2}),
    "sac, gSDE": (SAC, "MlpPolicy", BOX, TWO, {"policy_kwargs": {"log_std_init": -1.0}, "use_sde": True}),
    "sac, images": (SAC, "CnnPolicy", spaces.Box(0, 255, (3, 40, 40), np.uint8), TWO, {}),
    "td3": (TD3, "MlpPolicy", BOX, TWO, {"policy_kwargs": SMALL}),
    "ddpg": (DDPG, "MlpPolicy", BOX, TWO, {}),
    "dqn": (DQN, "MlpPolicy", BOX, THREE, {"policy_kwargs": SMALL, "exploration_final_eps": 0.2}),
    "dqn, states": (DQN, "MlpPolicy", spaces.Discrete(6), THREE, {}),
    "dqn, dict": (DQN, "MultiInputPolicy", spaces.Dict({"a": BOX, "b": BOX}), THREE, {}),
    "tqc": (TQC, "MlpPolicy", BOX, TWO, {"policy_kwargs": {"n_quantiles": 7, "net_arch": [8]}}),
    "crossq": (CrossQ, "MlpPolicy", BOX, TWO, {"policy_kwargs": {"net_arch": [12, 9]}}),
    "crossq, gSDE": (CrossQ, "MlpPolicy", BOX, TWO, {"use_sde": True, "ent_coef": 0.1}),
    "qrdqn": (QRDQN, "MlpPolicy", BOX, THREE, {"policy_kwargs": {"n_quantiles": 6}}),
}
CRITICS_OF_ACTIONS = [name for name in CASES if CASES[name][0] not in (PPO, A2C, TRPO)]


def make(case: str, path: Path):
    kind, policy, observations, actions, kwargs = CASES[case]
    if kind not in (PPO, A2C, TRPO):
        kwargs = {"buffer_size": 50, "learning_starts": 4, "batch_size": 4, **kwargs}
    model = kind(policy, FakeEnv(observations, actions), seed=1, **copy.deepcopy(kwargs))  # SB3 changes policy_kwargs
    model.learn(8)
    model.save(path)
    return model


def sample(space: spaces.Space, n: int):
    space.seed(0)
    rows = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([row[key] for row in rows]) for key in space.spaces}
    return np.stack(rows)


def critic(model, obs, actions) -> np.ndarray:
    """(N,) Q(s, a), by the library's own networks."""
    with torch.no_grad():
        tensor, _ = model.policy.obs_to_tensor(obs)
        if isinstance(model, QRDQN):
            return model.quantile_net(tensor).mean(dim=1).numpy()[np.arange(len(actions)), actions]
        if isinstance(model, DQN):
            return model.q_net(tensor).numpy()[np.arange(len(actions)), actions]
        out = model.critic(tensor, torch.as_tensor(model.policy.scale_action(actions), dtype=torch.float32))
        if isinstance(model, TQC):
            return out.mean(dim=(1, 2)).numpy()
        return torch.cat(out, dim=1).min(dim=1).values.numpy()


@pytest.mark.parametrize("case", CASES)
def test_an_agent_acts_and_thinks_as_in_its_library(case: str, tmp_path: Path) -> None:
    model = make(case, tmp_path / "agent.zip")
    agent = load_agent(tmp_path / "agent.zip")
    assert agent.algorithm == type(model).__name__
    assert not agent.notes
    space = CASES[case][2]
    policy, obs = policy_of(agent, space, CASES[case][3]), sample(space, 6)
    mine, theirs = policy.act(obs), model.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(mine, theirs, atol=1e-5)
    signals = policy.signals(obs, mine)
    assert all(len(s) == 6 and s.dtype == np.float64 for s in signals.values())
    if case not in CRITICS_OF_ACTIONS:
        assert "q" not in signals
        return
    np.testing.assert_allclose(signals["q"], critic(model, obs, theirs), atol=1e-5)
    np.testing.assert_allclose(signals["value"], signals["q"], atol=1e-5)  # these are the most likely actions
    others = sample(CASES[case][3], 6)
    np.testing.assert_allclose(policy.signals(obs, others)["q"], critic(model, obs, others), atol=1e-5)


@pytest.mark.parametrize("case", CRITICS_OF_ACTIONS)
def test_results_do_not_depend_on_the_batch_and_numpy_gives_the_same(case: str, tmp_path: Path) -> None:
    make(case, tmp_path / "agent.zip")
    space = CASES[case][2]
    policy, obs = policy_of(load_agent(tmp_path / "agent.zip"), space, CASES[case][3]), sample(space, 40)
    rows = [{k: v[i : i + 1] for k, v in obs.items()} if isinstance(obs, dict) else obs[i : i + 1] for i in range(40)]
    for deterministic in (True, False):
        rngs = [[np.random.default_rng([3, i]) for i in range(40)] for _ in range(3)]
        together = policy.act(obs, deterministic, rngs[0])
        if "images" not in case:
            alone = [policy.act(row, deterministic, [rng])[0] for row, rng in zip(rows, rngs[1], strict=True)]
            np.testing.assert_array_equal(together, alone)
        if (plain := policy.plain()) is not None:
            in_numpy = plain.act(obs, deterministic, rngs[2])
            assert (in_numpy.dtype, in_numpy.shape) == (together.dtype, together.shape)
            assert in_numpy.tobytes() == together.tobytes()
    assert (policy.plain() is None) == any(word in case for word in ("gSDE", "images", "dict", "crossq"))


def test_dqn_explores_as_often_as_it_last_did(tmp_path: Path) -> None:
    make("dqn", tmp_path / "agent.zip")
    policy = policy_of(load_agent(tmp_path / "agent.zip"), BOX, THREE)
    obs = np.repeat(sample(BOX, 1), 20_000, axis=0)
    taken = np.bincount(policy.act(obs, False), minlength=3) / len(obs)
    expected = policy.signals(obs[:1])["action_prob"][0]
    assert sorted(expected) == pytest.approx([0.2 / 3, 0.2 / 3, 0.8 + 0.2 / 3])
    np.testing.assert_allclose(taken, expected, atol=0.012)


@pytest.mark.parametrize("case", ["sac", "sac, gSDE", "tqc", "crossq", "crossq, gSDE"])
def test_gaussians_behind_a_tanh_are_sampled_as_in_the_library(case: str, tmp_path: Path) -> None:
    model = make(case, tmp_path / "agent.zip")
    policy, obs = policy_of(load_agent(tmp_path / "agent.zip"), BOX, TWO), np.repeat(sample(BOX, 1), 5000, axis=0)
    if model.use_sde:
        model.actor.reset_noise(len(obs))
    theirs, mine = model.predict(obs, deterministic=False)[0], policy.act(obs, False)
    np.testing.assert_allclose(mine.mean(axis=0), theirs.mean(axis=0), atol=0.08)
    np.testing.assert_allclose(mine.std(axis=0), theirs.std(axis=0), rtol=0.06)
    assert all(TWO.contains(a) for a in mine[:100])


def test_td3_explores_with_the_noise_in_its_file(tmp_path: Path) -> None:
    noise = NormalActionNoise(np.zeros(2), 0.25 * np.ones(2))
    TD3("MlpPolicy", FakeEnv(BOX, TWO), buffer_size=10, action_noise=noise, seed=0).save(tmp_path / "a.zip")
    agent = load_agent(tmp_path / "a.zip")
    assert agent.hyperparameters["action_noise"] == pytest.approx(0.25)
    policy, obs = policy_of(agent, BOX, TWO), np.repeat(sample(BOX, 1), 4000, axis=0)
    half = 0.5 * (TWO.high - TWO.low)
    np.testing.assert_allclose(policy.act(obs, False).std(axis=0), 0.25 * half, rtol=0.05)


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("a2c", "trpo")])
def test_a_saved_agent_is_of_the_same_class_and_needs_no_unstuck(case: str, tmp_path: Path) -> None:
    model = make(case, tmp_path / "agent.zip")
    kind = type(model)
    made = type(kind.__name__, (kind,), {"__module__": "unstuck.special"})  # as a trainer of ours would be
    model.__class__ = made
    saved = save_agent(model, tmp_path / "again")
    archive = zipfile.ZipFile(saved)
    assert not any(b"unstuck" in archive.read(name) for name in archive.namelist())
    model.__class__ = kind
    again, obs = kind.load(saved, env=FakeEnv(*CASES[case][2:4])), sample(CASES[case][2], 5)
    expected = model.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(again.predict(obs, deterministic=True)[0], expected, atol=1e-6)
    assert again.num_timesteps == model.num_timesteps
    for name in algorithm(kind.__name__).optimisers():  # type: ignore[attr-defined]
        old, new = attribute(model, name), attribute(again, name)
        if old is None:
            continue
        old, new = old.state_dict()["state"], new.state_dict()["state"]
        assert all(torch.equal(old[k]["exp_avg"], new[k]["exp_avg"]) for k in old)
    if getattr(model, "ent_coef_optimizer", None) is not None:
        assert torch.equal(again.log_ent_coef, model.log_ent_coef)
        assert float(load_agent(saved).tensors["log_ent_coef"]) == pytest.approx(model.log_ent_coef.item())
    again.learn(4, reset_num_timesteps=False)


def test_hyperparameters_are_read_as_numbers(tmp_path: Path) -> None:
    SAC("MlpPolicy", FakeEnv(BOX, TWO), buffer_size=20, train_freq=8, gradient_steps=3, tau=0.02).save(tmp_path / "a")
    DQN("MlpPolicy", FakeEnv(BOX, THREE), buffer_size=20, train_freq=(2, "episode")).save(tmp_path / "b")
    stored = load_agent(tmp_path / "a.zip").hyperparameters
    assert {"train_freq": 8, "gradient_steps": 3, "tau": 0.02, "ent_coef": "auto"}.items() <= stored.items()
    assert stored["target_entropy"] == -2.0
    assert load_agent(tmp_path / "b.zip").hyperparameters["train_freq"] == "episode"


def test_every_name_has_its_algorithm() -> None:
    assert {"PPO", "A2C", "TRPO", "SAC", "TD3", "DDPG", "DQN", "TQC", "QRDQN", "CrossQ", "ARS"} <= set(names())
    assert all(algorithm(name).name == name for name in names())
    with pytest.raises(AgentError, match="no algorithm is called 'REINFORCE'"):
        algorithm("REINFORCE")


class SteadyPolicy(SAC.policy_aliases["MlpPolicy"]):
    """A custom policy class, importable from this module."""


def test_a_custom_policy_of_sac_loads_only_with_trust(tmp_path: Path) -> None:
    SAC(SteadyPolicy, FakeEnv(BOX, TWO), buffer_size=10).save(tmp_path / "a.zip")
    with pytest.raises(UntrustedError, match="SteadyPolicy"):
        load_agent(tmp_path / "a.zip")
    agent = load_agent(tmp_path / "a.zip", trust=True)
    assert algorithm_of(agent).name == "SAC"
    policy_of(agent, BOX, TWO).act(sample(BOX, 2))


def test_without_sb3_contrib_its_agents_say_what_they_need(tmp_path: Path) -> None:
    make("tqc", tmp_path / "a.zip")
    code = """
import sys
sys.modules["sb3_contrib"] = None
from unstuck.agents import load_agent
from unstuck.algorithms import policy_of
agent = load_agent(sys.argv[1])
try:
    policy_of(agent, agent.observation_space, agent.action_space)
except Exception as error:
    print(type(error).__name__, error)
"""
    source = str(Path(__file__).resolve().parents[1] / "src")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.zip")], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    assert "AgentError agents of TQC need sb3-contrib" in done.stdout, done.stderr
