"""Agents of every layout load with the same outputs as in SB3, and save to files that need no Unstuck."""

from __future__ import annotations

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
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from unstuck.agents import (
    Actor,
    Agent,
    Normalization,
    build_policy,
    check_fits,
    find_env_id,
    load_agent,
    save_agent,
    to_ppo,
)
from unstuck.agents._weights import modernize
from unstuck.errors import AgentError, RunError

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("UNSTUCK_SHARED", ROOT.parent / "shared"))
RICE = SHARED / "agents" / "rice"
needs_rice = pytest.mark.skipif(not RICE.is_dir(), reason="the published agents are not here")


class FakeEnv(gym.Env):
    """Random observations of any space; one step long."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, True, False, {}


BOX = spaces.Box(-1, 1, (5,), dtype=np.float64)
IMAGE = spaces.Box(0, 255, (40, 44, 3), dtype=np.uint8)
DICT = spaces.Dict({"at": BOX, "seen": spaces.Box(-1, 1, (3,))})
TWO = spaces.Box(np.array([-1.0, -3.0], np.float32), np.array([2.0, 3.0], np.float32))
CASES = {
    "plain": (PPO, "MlpPolicy", BOX, TWO, {}, {}),
    "arch": (
        PPO, "MlpPolicy", BOX, TWO,
        {"net_arch": {"pi": [7], "vf": [9, 8]}, "activation_fn": torch.nn.ELU, "ortho_init": False}, {},
    ),
    "list arch": (PPO, "MlpPolicy", BOX, spaces.Discrete(3), {"net_arch": [6, 6]}, {}),
    "empty arch": (PPO, "MlpPolicy", BOX, spaces.Discrete(3), {"net_arch": []}, {}),
    "states": (PPO, "MlpPolicy", spaces.Discrete(6), spaces.Discrete(3), {}, {}),
    "multi": (PPO, "MlpPolicy", BOX, spaces.MultiDiscrete([2, 4]), {}, {}),
    "binary": (PPO, "MlpPolicy", BOX, spaces.MultiBinary(3), {}, {}),
    "sde": (PPO, "MlpPolicy", BOX, TWO, {"log_std_init": -1.0, "full_std": False}, {"use_sde": True}),
    "squashed sde": (PPO, "MlpPolicy", BOX, TWO, {"squash_output": True}, {"use_sde": True}),
    "dict": (PPO, "MultiInputPolicy", DICT, TWO, {"share_features_extractor": False}, {}),
    "image": (PPO, "CnnPolicy", IMAGE, spaces.Discrete(4), {"features_extractor_kwargs": {"features_dim": 12}}, {}),
    "a2c": (A2C, "MlpPolicy", BOX, spaces.Discrete(3), {"activation_fn": torch.nn.ReLU}, {}),
}  # fmt: skip


def make(case: str, path: Path):
    kind, policy, observations, actions, policy_kwargs, kwargs = CASES[case]
    sizes = {"batch_size": 4} if kind is PPO else {}
    env = FakeEnv(observations, actions)
    model = kind(policy, env, n_steps=4, seed=1, policy_kwargs=policy_kwargs, **sizes, **kwargs)
    model.save(path)
    return model, env


def sample(space: spaces.Space, n: int):
    space.seed(0)
    rows = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([row[key] for row in rows]) for key in space.spaces}
    return np.stack(rows)


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_sb3(case: str, tmp_path: Path) -> None:
    model, env = make(case, tmp_path / "agent.zip")
    agent = load_agent(tmp_path / "agent")
    assert agent.algorithm == type(model).__name__
    assert agent.policy_class_name == CASES[case][1]
    assert not agent.notes
    check_fits(agent, env.observation_space, env.action_space, "Fake-v0")
    policy = build_policy(agent, env.observation_space, env.action_space)
    assert not policy.training
    obs = sample(env.observation_space, 6)
    actor = Actor(policy, None, env.action_space)
    np.testing.assert_allclose(actor.act(obs), model.predict(obs, deterministic=True)[0], atol=1e-5)
    with torch.no_grad():
        values = model.policy.predict_values(model.policy.obs_to_tensor(obs)[0]).numpy().reshape(-1)
    np.testing.assert_allclose(actor.values(obs), values, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_and_saves(case: str, tmp_path: Path) -> None:
    _, env = make(case, tmp_path / "agent.zip")
    agent = load_agent(tmp_path / "agent.zip")
    vec = DummyVecEnv([lambda: env])
    model = to_ppo(agent, vec, n_steps=4, batch_size=4, n_epochs=1, ent_coef=0.0, seed=0)
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    assert all(torch.equal(before[k], agent.state_dict[k]) for k in before)
    assert isinstance(model.policy.optimizer, torch.optim.Adam)
    assert model.policy.optimizer.param_groups[0]["eps"] == 1e-5
    assert model.gamma == agent.hyperparameters["gamma"]
    model.learn(8)
    save_agent(model, tmp_path / "better")
    again = load_agent(tmp_path / "better.zip")
    assert all(torch.equal(v, again.state_dict[k]) for k, v in model.policy.state_dict().items())
    assert any(not torch.equal(v, again.state_dict[k]) for k, v in before.items())
    plain = PPO.load(tmp_path / "better")
    obs = sample(env.observation_space, 5)
    expected = model.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(plain.predict(obs, deterministic=True)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "own", "used"), [(A2C, 1.0, 0.95), (A2C, 0.9, 0.9), (PPO, 1.0, 1.0), (PPO, 0.98, 0.98)]
)
def test_no_whole_returns_from_a2c_over_the_rollouts_of_ppo(algorithm, own, used, tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    algorithm("MlpPolicy", env, gae_lambda=own, n_steps=8).save(tmp_path / "agent.zip")
    model = to_ppo(
        load_agent(tmp_path / "agent.zip"), DummyVecEnv([lambda: env]), n_steps=8, batch_size=8, n_epochs=1,
        ent_coef=0.0, seed=0,
    )  # fmt: skip
    assert model.gae_lambda == used


def test_hyperparameters_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, gamma=0.9, seed=2**32 - 1, clip_range=0.3).save(path)
    agent = load_agent(path)
    wanted = {
        "gamma": 0.9,
        "n_steps": 8,
        "seed": 2**32 - 1,  # RL Zoo draws them from all that numpy takes
        "clip_range": 0.3,
        "learning_rate": 3e-4,
        "use_sde": False,
    }
    assert wanted.items() <= agent.hyperparameters.items()
    assert agent.digest == load_agent(path).digest
    assert agent.sb3_version
    assert agent.observation_space is not None
    assert agent.observation_space.shape == (4,)


def test_a_schedule_of_code_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, learning_rate=lambda left: left * 1e-3).save(path)
    agent = load_agent(path)
    assert agent.hyperparameters["learning_rate"] is None
    assert any("learning_rate" in note for note in agent.notes)


def test_building_leaves_the_random_state_alone(tmp_path: Path) -> None:
    _, env = make("plain", tmp_path / "agent.zip")
    agent = load_agent(tmp_path / "agent.zip")
    torch.manual_seed(3)
    build_policy(agent, env.observation_space, env.action_space)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


# Weights of older versions


def test_shared_layers_are_copied_into_both_heads() -> None:
    torch.manual_seed(0)
    shared, pi, vf = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2), torch.nn.Linear(4, 5)
    old = {
        f"mlp_extractor.{net}.0.{kind}": getattr(layer, kind).detach()
        for net, layer in (("shared_net", shared), ("policy_net", pi), ("value_net", vf))
        for kind in ("weight", "bias")
    }
    new, kwargs, notes = modernize(old, {"net_arch": [4, {"pi": [2], "vf": [5]}]})
    assert kwargs["net_arch"] == {"pi": [4, 2], "vf": [4, 5]}
    assert torch.equal(new["mlp_extractor.value_net.0.weight"], shared.weight)
    assert torch.equal(new["mlp_extractor.policy_net.2.weight"], pi.weight)
    assert notes


def test_features_extractors_stored_once(tmp_path: Path) -> None:
    model, _ = make("image", tmp_path / "agent.zip")
    state = model.policy.state_dict()
    old = {k: v for k, v in state.items() if not k.startswith(("pi_", "vf_"))}
    assert len(old) < len(state)
    assert modernize(old, {})[0].keys() == state.keys()


# Fitting


def fake_agent(path: Path, n_obs: int = 11, n_act: int = 2, stored: bool = True) -> Agent:
    env = FakeEnv(spaces.Box(-9, 9, (n_obs,)), spaces.Box(-1, 1, (n_act,)))
    PPO("MlpPolicy", env, n_steps=4, batch_size=4).save(path)
    agent = load_agent(path)
    if stored:
        return agent
    return Agent(**{**vars(agent), "observation_space": None, "action_space": None})


@pytest.mark.parametrize("stored", [True, False])
def test_misfits_are_told(tmp_path: Path, stored: bool) -> None:
    agent, good = fake_agent(tmp_path / "a.zip", stored=stored), spaces.Box(-1, 1, (2,))
    check_fits(agent, spaces.Box(-np.inf, np.inf, (11,), np.float64), good, "Some-v5")
    with pytest.raises(AgentError, match="sees 11 numbers, Some-v5 gives 10"):
        check_fits(agent, spaces.Box(-1, 1, (10,)), good, "Some-v5")
    with pytest.raises(AgentError, match=r"Some-v5 (takes|needs)"):
        check_fits(agent, spaces.Box(-1, 1, (11,)), spaces.Discrete(3), "Some-v5")


def test_another_version_that_fits_is_named(tmp_path: Path) -> None:
    box = spaces.Box(-1, 1, (2,))
    for version, size in ((1, 11), (2, 10)):
        obs = spaces.Box(-1, 1, (size,))
        gym.register(f"UnstuckVersions-v{version}", entry_point=lambda obs=obs: FakeEnv(obs, box))
    try:
        with pytest.raises(AgentError, match=r"UnstuckVersions-v1 gives 11 numbers .*--env UnstuckVersions-v1"):
            check_fits(fake_agent(tmp_path / "a.zip"), spaces.Box(-1, 1, (10,)), box, "UnstuckVersions-v2")
    finally:
        for version in (1, 2):
            gym.registry.pop(f"UnstuckVersions-v{version}")


def test_weights_that_do_not_fit_are_refused_on_building(tmp_path: Path) -> None:
    agent = fake_agent(tmp_path / "a.zip")
    with pytest.raises(AgentError, match="weights do not fit"):
        build_policy(agent, spaces.Box(-1, 1, (10,)), spaces.Box(-1, 1, (2,)))


def test_statistics_of_another_environment(tmp_path: Path) -> None:
    agent = fake_agent(tmp_path / "a.zip")
    wrong = Agent(**{**vars(agent), "normalization": Normalization(np.zeros(7), np.ones(7))})
    with pytest.raises(AgentError, match="statistics"):
        check_fits(wrong, spaces.Box(-1, 1, (11,)), spaces.Box(-1, 1, (2,)), "Some-v5")


# Statistics


@pytest.mark.parametrize("space", [BOX, DICT], ids=["box", "dict"])
def test_statistics_normalise_as_vecnormalize_does(tmp_path: Path, space: spaces.Space) -> None:
    keys = ["seen"] if isinstance(space, spaces.Dict) else None
    vec = VecNormalize(DummyVecEnv([lambda: FakeEnv(space, TWO)]), norm_obs_keys=keys, clip_obs=1.2, gamma=0.9)
    vec.reset()
    for _ in range(20):
        vec.step(np.zeros((1, 2), np.float32))
    vec.save(str(tmp_path / "a.vecnormalize.pkl"))
    make("dict" if keys else "plain", tmp_path / "a.zip")
    found = load_agent(tmp_path / "a.zip").normalization
    assert found is not None
    obs = sample(space, 4)
    expected, got = vec.normalize_obs(obs), found.apply(obs)
    for key in expected if isinstance(expected, dict) else [...]:
        np.testing.assert_array_equal(got[key], expected[key])
        assert got[key].dtype == expected[key].dtype
    assert found.gamma == 0.9
    assert found.ret_var == pytest.approx(float(vec.ret_rms.var))


def test_statistics_change_the_digest(tmp_path: Path) -> None:
    make("plain", tmp_path / "a.zip")
    bare = load_agent(tmp_path / "a.zip").digest
    VecNormalize(DummyVecEnv([lambda: FakeEnv(BOX, TWO)])).save(str(tmp_path / "vecnormalize.pkl"))
    assert load_agent(tmp_path / "a.zip").digest != bare


@pytest.mark.parametrize("norm_obs", [True, False])
def test_saved_statistics_load_in_sb3(tmp_path: Path, norm_obs: bool) -> None:
    model, _ = make("plain", tmp_path / "a.zip")
    mean, var = np.arange(5.0), np.arange(1.0, 6.0)
    given = Normalization(mean if norm_obs else None, var if norm_obs else None, norm_obs=norm_obs, ret_var=4.0)
    save_agent(model, tmp_path / "b.zip", given)
    vec = VecNormalize.load(str(tmp_path / "b.vecnormalize.pkl"), DummyVecEnv([lambda: FakeEnv(BOX, TWO)]))
    assert not vec.training
    obs = sample(BOX, 3)
    np.testing.assert_array_equal(vec.normalize_obs(obs), given.apply(obs))
    again = load_agent(tmp_path / "b.zip").normalization
    assert again is not None
    assert (again.norm_obs, again.ret_var, again.count) == (norm_obs, 4.0, given.count if norm_obs else 1e4)


def test_stale_statistics_do_not_outlive_the_agent(tmp_path: Path) -> None:
    model, _ = make("plain", tmp_path / "a.zip")
    save_agent(model, tmp_path / "b.zip", Normalization(np.zeros(5), np.ones(5)))
    save_agent(model, tmp_path / "b.zip")
    assert load_agent(tmp_path / "b.zip").normalization is None


def test_statistics_must_be_sound() -> None:
    with pytest.raises(ValueError, match="shape"):
        Normalization(np.zeros(3), np.ones(4))
    with pytest.raises(ValueError, match="finite"):
        Normalization(np.array([np.nan]), np.ones(1))


# Saving


class SpecialPPO(PPO):
    """Stands for a trainer of Unstuck: what it carries must not reach the file."""


SpecialPPO.__module__ = "unstuck.special"


def test_saved_agents_need_no_unstuck(tmp_path: Path) -> None:
    model = SpecialPPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, learning_rate=lambda _: 1e-3)
    model.guidance = Normalization(np.zeros(4), np.ones(4))
    model.learn(8)
    path = save_agent(model, tmp_path / "deep" / "agent.zip", Normalization(np.zeros(4), np.ones(4)))
    contents = [zipfile.ZipFile(path).read(n) for n in zipfile.ZipFile(path).namelist()]
    assert not any(b"unstuck" in part for part in [*contents, path.with_suffix(".vecnormalize.pkl").read_bytes()])
    code = """
import sys
sys.modules["unstuck"] = None
import gymnasium, numpy as np
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
env = VecNormalize.load(sys.argv[2], DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
model = PPO.load(sys.argv[1], env=env)
assert model.num_timesteps == 8, model.num_timesteps
model.learn(8, reset_num_timesteps=False)
print(PPO.load(sys.argv[1]).predict(np.ones((1, 4)), deterministic=True)[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(path.with_suffix(".vecnormalize.pkl"))],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(model.predict(np.ones((1, 4)), deterministic=True)[0])


def test_saving_keeps_the_optimisers_state(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0).learn(8)
    saved = PPO.load(save_agent(model, tmp_path / "a.zip"))
    old, new = model.policy.optimizer.state_dict()["state"], saved.policy.optimizer.state_dict()["state"]
    assert all(torch.equal(old[k]["exp_avg"], new[k]["exp_avg"]) for k in old)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    model, _ = make("plain", tmp_path / "a.zip")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write"):
        save_agent(model, tmp_path / "file" / "b.zip")


# Finding


def zoo(root: Path, env: str = "CartPole-v1", config: str = "", best: bool = True) -> Path:
    """A folder as RL Baselines3 Zoo writes it."""
    folder = root / "logs" / "ppo" / f"{env}_1"
    (folder / env).mkdir(parents=True)
    for name in [f"{env}.zip", *(["best_model.zip"] if best else [])]:
        make("plain", folder / name)
    head = "!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ppo\n"
    (folder / env / "args.yml").write_text(head + f"  - - env\n    - {env}\n  - - seed\n    - 7\n")
    (folder / env / "config.yml").write_text(head + config)
    return folder


def test_an_rl_zoo_folder(tmp_path: Path) -> None:
    folder = zoo(tmp_path, config="  - - frame_stack\n    - 4\n  - - normalize\n    - true\n")
    agent = load_agent(folder)
    assert agent.path.name == "CartPole-v1.zip"
    assert any("best_model.zip" in note for note in agent.notes)
    assert any("frame_stack: 4" in note for note in agent.notes)
    assert any("without its statistics" in note for note in agent.notes)
    VecNormalize(DummyVecEnv([lambda: FakeEnv(BOX, TWO)])).save(str(folder / "CartPole-v1" / "vecnormalize.pkl"))
    agent = load_agent(folder)
    assert agent.normalization is not None
    assert not any("without its statistics" in note for note in agent.notes)
    assert load_agent(folder / "best_model").normalization is not None


def test_environment_ids_of_rl_zoo(tmp_path: Path) -> None:
    folder = zoo(tmp_path)
    assert find_env_id(folder) == find_env_id(folder / "best_model.zip") == "CartPole-v1"
    (folder / "CartPole-v1" / "args.yml").unlink()
    assert find_env_id(folder) == "CartPole-v1"
    assert find_env_id(tmp_path / "ppo-LunarLander-v3.zip") == "LunarLander-v3"
    assert find_env_id(tmp_path / "agent.zip") is None


def test_an_environment_id_is_not_code(tmp_path: Path) -> None:
    folder = zoo(tmp_path)
    (folder / "CartPole-v1" / "args.yml").write_text("- - - env\n    - ../../x; rm -rf\n")
    assert find_env_id(folder) == "CartPole-v1"


def test_several_agents_and_no_telling_which(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(AgentError, match=r"one\.zip, two\.zip"):
        load_agent(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"holds no \.zip"):
        load_agent(tmp_path)
    (tmp_path / "hopper.zip").write_bytes(b"")
    with pytest.raises(AgentError, match=r"Did you mean hopper\.zip"):
        load_agent(tmp_path / "hoper.zip")
    with pytest.raises(AgentError, match="cannot be read"):
        load_agent(make_plain(tmp_path), vecnormalize=tmp_path / "none.pkl")


def make_plain(folder: Path) -> Path:
    make("plain", folder / "plain.zip")
    return folder / "plain.zip"


# Agents that others published


@needs_rice
@pytest.mark.parametrize("path", sorted(RICE.glob("*.zip")), ids=lambda p: p.stem)
def test_published_agents_load(path: Path) -> None:
    agent = load_agent(path)
    assert (agent.algorithm, agent.sb3_version) == ("PPO", "1.7.0")
    assert agent.observation_space is not None
    assert agent.action_space is not None
    assert (agent.normalization is not None) == path.name.startswith("halfcheetah")
    policy = build_policy(agent, agent.observation_space, agent.action_space)
    actor = Actor(policy, agent.normalization, agent.action_space)
    action = actor.act(np.zeros((2, *agent.observation_space.shape)))
    assert len(action) == 2
    assert np.array_equal(action[0], action[1])


@needs_rice
def test_a_published_agent_scores_what_it_should() -> None:
    pytest.importorskip("mujoco")
    agent, env = load_agent(RICE / "hopper-sub_optimal.zip"), gym.make("Hopper-v5")
    check_fits(agent, env.observation_space, env.action_space, "Hopper-v5")
    policy = build_policy(agent, env.observation_space, env.action_space)
    actor, returns = Actor(policy, agent.normalization, env.action_space), []
    for seed in range(6):
        obs, _ = env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(actor.act(obs[None])[0])
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    assert np.mean(returns) == pytest.approx(741, abs=60)


@needs_rice
def test_a_published_agent_of_an_older_environment() -> None:
    pytest.importorskip("mujoco")
    agent, env = load_agent(RICE / "reacher-sub_optimal.zip"), gym.make("Reacher-v5")
    with pytest.raises(AgentError, match="sees 11 numbers, Reacher-v5 gives 10"):
        check_fits(agent, env.observation_space, env.action_space, "Reacher-v5")
