"""Many environments at once: EnvPool against DummyVecEnv on the same task, and the choice between them."""

import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from unstuck.agents import load_agent
from unstuck.config import AgentConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.errors import TaskError
from unstuck.pipeline import open_run
from unstuck.stages.train import train
from unstuck.tasks import make_env
from unstuck.vecenvs import EQUAL_TASKS, SPARSE_TASKS, choose, make_vec_env
from unstuck.vecenvs.choice import missed_speed, thread_count
from unstuck.vecenvs.lean import LeanVecEnv
from unstuck.vecenvs.pool import EnvPoolVecEnv
from unstuck.vecenvs.proof import TOLERANCE, compare, make_pool, quick_deviation, random_actions

envpool = pytest.importorskip("envpool")

TASKS = ["Hopper-v5", "CartPole-v1", "LunarLander-v3", "FrozenLake-v1"]


def made(env_id, n=4, backend="envpool", threads=1, seed=0, **kwargs):
    return make_vec_env(lambda: make_env(env_id, kwargs), env_id, kwargs, n, backend, threads, seed)


def dummy(env_id, n=4, seed=0, **kwargs):
    venv = DummyVecEnv([lambda: Monitor(make_env(env_id, kwargs))] * n)
    venv.seed(seed)
    return venv


def rolled(venv, steps, seed=0):
    """Observations, rewards, dones and infos of random actions."""
    rng, space = np.random.default_rng(seed), venv.action_space
    rows = [(venv.reset(), None, None, None)]
    for _ in range(steps):
        if hasattr(space, "n"):
            actions = rng.integers(space.n, size=venv.num_envs)
        else:
            actions = rng.uniform(space.low, space.high, (venv.num_envs, *space.shape)).astype(np.float32)
        rows.append(venv.step(actions))
    return rows


@pytest.mark.parametrize("env_id", TASKS)
def test_spaces_shapes_and_dtypes_are_those_of_dummy_vec_env(env_id):
    ours, theirs = made(env_id), dummy(env_id)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    for (o, r, d, i), (o2, r2, d2, i2) in zip(rolled(ours, 3), rolled(theirs, 3), strict=True):
        assert (o.shape, o.dtype) == (o2.shape, o2.dtype)
        if r is not None:
            assert (r.shape, r.dtype, d.shape, d.dtype) == (r2.shape, r2.dtype, d2.shape, d2.dtype)
            assert len(i) == len(i2)
            assert all(type(a["TimeLimit.truncated"]) is type(b["TimeLimit.truncated"]) for a, b in zip(i, i2))  # noqa: B905
    assert len(ours.reset_infos) == 4


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_episodes_end_and_begin_without_losing_or_adding_a_step(env_id):
    venv, n = made(env_id), 4
    returns, lengths, episodes = np.zeros(n), np.zeros(n, dtype=int), 0
    before = None
    for obs, rewards, dones, infos in rolled(venv, 150):
        if rewards is not None:
            returns += rewards
            lengths += 1
            for i in np.flatnonzero(dones):
                assert infos[i]["episode"]["l"] == lengths[i]
                assert infos[i]["episode"]["r"] == pytest.approx(returns[i], rel=1e-4)
                assert infos[i]["episode"]["t"] >= 0
                last = infos[i]["terminal_observation"]
                assert last.shape == obs[i].shape
                # The last observation follows the one before; the one returned is of a new episode.
                assert not np.allclose(last, obs[i])
                assert np.abs(last - before[i]).max() < np.inf
                returns[i], lengths[i] = 0, 0
                episodes += 1
            assert all(("terminal_observation" in info) == bool(d) for info, d in zip(infos, dones, strict=True))
        before = obs
    assert episodes >= n


def test_terminal_observations_are_where_the_task_ends():
    low = [
        info["terminal_observation"]
        for _, _, dones, infos in rolled(made("CartPole-v1"), 200)[1:]
        for info, d in zip(infos, dones, strict=True)
        if d
    ]
    assert all(abs(o[0]) > 2.4 or abs(o[2]) > 12 * np.pi / 180 for o in low)
    starts = [o for o, _, dones, _ in rolled(made("CartPole-v1"), 200)[1:] for o in o[dones]]
    assert np.abs(starts).max() <= 0.05


def test_at_the_time_limit_an_episode_is_truncated():
    for rows in (rolled(made("MountainCar-v0"), 401), rolled(dummy("MountainCar-v0"), 401)):
        ends = [t for t, (_, _, d, _) in enumerate(rows) if d is not None and d.all()]
        assert ends == [200, 400]
        assert all(info["TimeLimit.truncated"] for info in rows[200][3])
        assert all(info["episode"]["r"] == -200 for info in rows[200][3])


def test_a_task_that_ends_at_its_very_last_step_is_not_truncated():
    """EnvPool alone could not tell: its own limit and the task's ending come as one."""
    rng = np.random.default_rng(0)
    ends = {True: 0, False: 0}
    venv = made("CartPole-v1", n=16, max_episode_steps=14)
    venv.reset()
    for _ in range(300):
        _, _, dones, infos = venv.step(rng.integers(2, size=16))
        for i in np.flatnonzero(dones):
            if infos[i]["episode"]["l"] == 14:
                last = infos[i]["terminal_observation"]
                fallen = abs(last[0]) > 2.4 or abs(last[2]) > 12 * np.pi / 180
                assert infos[i]["TimeLimit.truncated"] == (not fallen)
                ends[bool(fallen)] += 1
            else:
                assert infos[i]["episode"]["l"] < 14
    assert min(ends.values()) > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_trajectories(threads):
    first, again, other = (
        rolled(made("Hopper-v5", threads=t, seed=s), 60) for t, s in ((1, 5), (threads, 5), (threads, 6))
    )
    for (o, r, d, _), (o2, r2, d2, _) in zip(first, again, strict=True):
        assert np.array_equal(o, o2)
        assert r is None or (np.array_equal(r, r2) and np.array_equal(d, d2))
    assert any(d is not None and d.any() for _, _, d, _ in first)
    assert not np.array_equal(first[0][0], other[0][0])


def test_environments_differ_and_keep_their_places():
    """Environment i alone, seeded with seed + i, goes the way that it goes among others."""
    together = rolled(made("HalfCheetah-v5", n=3, seed=10), 5)
    assert len(np.unique(together[0][0][:, 0])) == 3
    alone = made("HalfCheetah-v5", n=1, seed=12)
    assert np.array_equal(alone.reset()[0], together[0][0][2])


def test_a_reset_without_a_seed_begins_new_episodes():
    venv = made("Hopper-v5")
    first = venv.reset()
    assert not np.array_equal(first, venv.reset())
    venv.seed(0)
    assert np.array_equal(first, venv.reset())


def test_vecnormalize_and_ppo_run_on_top():
    venv = VecNormalize(made("Hopper-v5"))
    model = PPO("MlpPolicy", venv, n_steps=64, batch_size=64, n_epochs=1, seed=1, device="cpu")
    model.learn(256)
    assert len(model.ep_info_buffer) > 0
    assert np.isfinite(venv.obs_rms.mean).all()
    assert venv.obs_rms.count > 250


def test_infos_can_be_written_to():
    rows = rolled(made("Hopper-v5"), 2)
    rows[1][3][0]["mine"] = 1
    assert not any("mine" in info for info in [*rows[1][3][1:], *rows[2][3]])


def test_what_can_be_asked_of_the_environments():
    venv = made("Hopper-v5")
    assert venv.env_is_wrapped(Monitor) == [True] * 4
    assert venv.get_attr("spec")[0].id == "Hopper-v5"
    assert venv.get_attr("render_mode") == [None] * 4
    assert not venv.has_attr("sim")
    assert venv.backend == f"envpool {envpool.__version__}"
    venv.set_options({"x": 1})
    for impossible in (
        venv.reset,
        venv.render,
        venv.get_images,
        lambda: venv.env_method("jump"),
        lambda: venv.set_attr("x", 1),
    ):
        with pytest.raises(TaskError, match="EnvPool"):
            impossible()
    venv.close()


@pytest.mark.parametrize(
    "env_id",
    [
        "Hopper-v5",
        "HalfCheetah-v5",
        "Walker2d-v5",
        "Swimmer-v5",
        "Reacher-v4",
        "CartPole-v1",
        "MountainCar-v0",
        "Acrobot-v1",
        "Pendulum-v1",
    ],
)
def test_the_dynamics_are_gymnasiums(env_id):
    envs = [make_env(env_id) for _ in range(4)]
    pool = make_pool(env_id, num_envs=4, num_threads=1, seed=4)
    found = compare(pool, envs, 20, random_actions(envs[0].action_space, 4, 0.7, seed=9))
    assert found.endings == 0
    assert found.at(20) < 1e-5


def test_the_goal_is_reached_at_the_same_step():
    envs = [make_env("MountainCar-v0") for _ in range(4)]
    pool = make_pool("MountainCar-v0", num_envs=4, num_threads=1, seed=4)
    found = compare(pool, envs, 200, lambda _t, obs: np.where(obs[:, 1] > 0, 2, 0).astype(np.int32))
    assert (found.ended, found.endings) == (4, 0)


def test_other_dynamics_would_be_noticed():
    envs = [make_env("Hopper-v5", {"ctrl_cost_weight": 0.01}) for _ in range(2)]
    pool = make_pool("Hopper-v5", num_envs=2, num_threads=1, seed=4)
    assert compare(pool, envs, 10, random_actions(envs[0].action_space, 2)).at(10) > TOLERANCE
    heavier = make_env("Hopper-v5")
    heavier.unwrapped.model.body_mass[2] *= 1.01
    pool = make_pool("Hopper-v5", num_envs=1, num_threads=1, seed=4)
    assert compare(pool, [heavier], 10, random_actions(heavier.action_space, 1)).at(10) > TOLERANCE


@pytest.mark.parametrize("env_id", sorted(SPARSE_TASKS))
def test_sparse_tasks_pay_as_ours_do(env_id):
    """Where the robot stands is not observed, so the threshold itself is tested on EnvPool's own outputs."""
    sparse = SPARSE_TASKS[env_id]
    venv, dense = made(env_id, seed=3), made(sparse.base, seed=3)
    env = make_env(env_id)
    assert venv.observation_space == env.observation_space
    assert sparse.forward_from_x == type(env.unwrapped).forward_from_x
    rng = np.random.default_rng(0)
    venv.reset(), dense.reset()
    reward = venv._reward
    for _ in range(30):
        actions = rng.uniform(-1, 1, (4, *env.action_space.shape)).astype(np.float32)
        obs, paid, _, _ = venv.step(actions)
        obs2, full, _, _ = dense.step(actions)
        assert np.array_equal(obs, obs2)
        assert not np.allclose(paid, full)  # near the start nothing is paid for speed
    outputs = {"x_velocity": np.array([2.0, 2.0]), "x_position": np.array([0.1, 9.0])}
    assert reward(np.array([3.0, 3.0]), outputs).tolist() == [1.0, 3.0]


def test_sparse_rewards_against_the_simulator():
    env = make_env("SparseHopper-v5")
    venv = made("SparseHopper-v5", n=1, seed=2)
    obs = venv.reset()
    env.reset()
    env.unwrapped.set_state(np.concatenate([[0.0], obs[0, :5]]), obs[0, 5:])
    for _ in range(8):
        obs, rewards, _, _ = venv.step(np.full((1, 3), 0.3, dtype=np.float32))
        own, reward, *_ = env.step(np.full(3, 0.3, dtype=np.float32))
        assert obs[0] == pytest.approx(own, abs=1e-4)
        assert rewards[0] == pytest.approx(reward, abs=1e-4)


@pytest.mark.parametrize("env_id", ["Ant-v5", "Humanoid-v5", "BipedalWalker-v3", "Taxi-v4", "UnstuckPong-v0"])
def test_auto_never_takes_a_task_that_is_not_proved(env_id):
    env = SimpleNamespace(spec=None, unwrapped=None)
    assert env_id not in EQUAL_TASKS
    assert choose(env, env_id, None, "auto").backend == "gymnasium"
    with pytest.raises(TaskError, match=f"EnvPool cannot simulate {env_id}: .* gymnasium"):
        choose(env, env_id, None, "envpool")


def test_keyword_arguments_wrappers_and_other_tasks_of_the_name_go_to_gymnasium():
    kwargs = {"gravity": -5.0}
    env = make_env("LunarLander-v3", kwargs)
    choice = choose(env, "LunarLander-v3", kwargs, "auto")
    assert (choice.backend, "gravity" in choice.why) == ("gymnasium", True)
    wrapped = gym.wrappers.RescaleAction(make_env("Hopper-v5"), -1, 1)
    assert "RescaleAction" in choose(wrapped, "Hopper-v5", None, "auto").why
    env = make_env("Hopper-v5")
    assert choose(env, "Walker2d-v5", None, "auto").backend != "envpool"
    assert choose(env, "Hopper-v5", None, "auto").backend == "envpool"
    assert choose(env, "Hopper-v5", {"max_episode_steps": 50}, "auto").backend == "envpool"
    assert choose(env, "Hopper-v5", None, "gymnasium").backend == "gymnasium"


def test_a_task_registered_anew_under_a_known_id_goes_to_gymnasium():
    held = gym.registry["CartPole-v1"]
    try:
        with pytest.warns(UserWarning, match="Overriding"):
            gym.register("CartPole-v1", held.entry_point, max_episode_steps=500, kwargs={"sutton_barto_reward": True})
        assert "sutton_barto_reward" in choose(make_env("CartPole-v1"), "CartPole-v1", None, "auto").why
    finally:
        gym.registry["CartPole-v1"] = held


def test_a_simulator_that_differs_in_the_versions_at_hand_is_not_used(monkeypatch):
    monkeypatch.setattr("unstuck.vecenvs.proof.quick_deviation", lambda env_id: 0.3)
    assert "differs" in choose(make_env("Hopper-v5"), "Hopper-v5", None, "auto").why
    monkeypatch.setattr("unstuck.vecenvs.proof.quick_deviation", lambda env_id: float("nan"))
    assert choose(make_env("Hopper-v5"), "Hopper-v5", None, "auto").backend == "mujoco"
    monkeypatch.setitem(__import__("unstuck.vecenvs.choice", fromlist=["TESTED"]).TESTED, "envpool", "0.0")
    assert choose(make_env("LunarLander-v3"), "LunarLander-v3", None, "auto").backend == "gymnasium"


def test_without_envpool_auto_goes_the_slower_way_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    env = make_env("Hopper-v5")
    assert choose(env, "Hopper-v5", None, "auto").backend == "mujoco"
    assert made("Hopper-v5", backend="auto").backend.startswith("mujoco")
    assert made("CartPole-v1", backend="auto").backend.startswith("gymnasium")
    assert 'pip install "unstuck[envpool]"' in missed_speed("Hopper-v5", None, "auto")
    assert missed_speed("Ant-v5", None, "auto") is None
    assert missed_speed("Hopper-v5", {"gravity": 1}, "auto") is None
    with pytest.raises(TaskError, match=r'pip install "unstuck\[envpool\]"'):
        choose(env, "Hopper-v5", None, "envpool")


def test_with_envpool_nothing_is_said():
    assert missed_speed("Hopper-v5", None, "auto") is None


@pytest.mark.parametrize(
    ("n_envs", "threads", "message"),
    [(0, 0, "at least one environment"), (-2, 0, "n-envs is -2"), (2, -1, "threads is -1"), (2, 3, "only 2 env")],
)
@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
def test_wrong_numbers_are_refused(n_envs, threads, message, backend):
    with pytest.raises(TaskError, match=message):
        made("CartPole-v1", n=n_envs, threads=threads, backend=backend)


def test_a_backend_that_there_is_not_is_refused():
    with pytest.raises(TaskError, match="there are auto, envpool, mujoco and gymnasium"):
        made("CartPole-v1", backend="brax")
    with pytest.raises(ValueError, match="backend"):
        TrainConfig(backend="brax")


def test_threads_by_default_are_at_most_the_environments():
    assert thread_count(1, 0) == 1
    assert thread_count(8, 3) == 3


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1", "FrozenLake-v1"])
def test_in_gymnasium_all_is_as_dummy_vec_env_has_it(env_id):
    ours, theirs = made(env_id, backend="gymnasium", seed=3), dummy(env_id, seed=3)
    assert isinstance(ours, LeanVecEnv)
    for (o, r, d, infos), (o2, r2, d2, infos2) in zip(rolled(ours, 120), rolled(theirs, 120), strict=True):
        assert np.array_equal(o, o2)
        if r is None:
            continue
        assert np.array_equal(r, r2)
        assert np.array_equal(d, d2)
        for a, b in zip(infos, infos2, strict=True):
            assert a.keys() == b.keys()
            if "episode" in a:
                assert (a["episode"]["r"], a["episode"]["l"]) == (b["episode"]["r"], b["episode"]["l"])
                assert np.array_equal(a["terminal_observation"], b["terminal_observation"])
            held = {"episode", "terminal_observation"}
            assert {k: v for k, v in a.items() if k not in held} == {k: v for k, v in b.items() if k not in held}


def test_the_quick_comparison_is_small_where_it_should_be():
    assert quick_deviation("Pendulum-v1") < 1e-6


def test_actions_of_a_wrong_shape_are_refused():
    venv = EnvPoolVecEnv("CartPole-v1", 2, *spaces_of("CartPole-v1"), max_episode_steps=500)
    venv.reset()
    with pytest.raises(ValueError, match="reshape"):
        venv.step(np.zeros((3,), dtype=int))


def spaces_of(env_id):
    env = make_env(env_id)
    return env.observation_space, env.action_space


def test_training_says_what_simulated_and_depends_on_it_but_not_on_threads(tmp_path):
    PPO("MlpPolicy", make_env("CartPole-v1"), n_steps=64, device="cpu", seed=0).save(tmp_path / "agent.zip")
    small = {"steps": 256, "n_envs": 4, "n_steps": 32, "batch_size": 64, "n_epochs": 1, "seeds": (1,), "jobs": 1}

    def run(name, **settings):
        config = RunConfig(
            task=TaskConfig(env="CartPole-v1"),
            agent=AgentConfig(agent=str(tmp_path / "agent.zip")),
            train=TrainConfig(method="ppo", **small, **settings),
        )
        opened = open_run(config, tmp_path / name)
        agents = train(opened)["ppo"]
        return opened.record("train/ppo/1"), load_agent(agents[0])

    one, a = run("one", threads=1)
    two, b = run("two", threads=2)
    other, _ = run("other", backend="gymnasium")
    assert one.facts["backend"] == f"envpool {envpool.__version__}"
    assert other.facts["backend"] == f"gymnasium {gym.__version__}"
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert all((a.state_dict[k] == b.state_dict[k]).all() for k in a.state_dict)
