"""MuJoCo's environments stepped together: the same bits as each by its own `step`, or not at all."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from unstuck.robots import families, proof, together
from unstuck.robots.families import FAMILIES, Family
from unstuck.robots.proof import differs, not_together, refused, same
from unstuck.robots.stepping import Together
from unstuck.rollout import run_episodes
from unstuck.simulators import MujocoSnapshotter, reseed
from unstuck.tasks import make_env
from unstuck.vecenvs import choose, make_vec_env
from unstuck.vecenvs.lean import LeanVecEnv
from unstuck.vecenvs.robots import RobotVecEnv

ROBOTS = [
    *(f"{name}-v5" for name in ("Hopper", "Walker2d", "HalfCheetah", "Swimmer", "Reacher", "Pusher", "Ant")),
    "Humanoid-v5", "HumanoidStandup-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5",
    "SparseHopper-v5", "SparseHalfCheetah-v5",
]  # fmt: skip
OLDER = [
    f"{name}-v4"
    for name in ("Hopper", "Walker2d", "HalfCheetah", "Swimmer", "Reacher", "Ant", "Humanoid", "HumanoidStandup",
                 "InvertedPendulum", "InvertedDoublePendulum")
]  # fmt: skip
HOPPER = "gymnasium.envs.mujoco.hopper_v5.HopperEnv"


@pytest.fixture(autouse=True)
def forget():
    proof._compared.clear()
    yield
    proof._compared.clear()


def hopper(**kwargs):
    return make_env("Hopper-v5", kwargs)


def both(env_id, n=3, threads=1, **kwargs):
    """Stepped together and one by one, reset with the same seeds."""
    venvs = RobotVecEnv(lambda: make_env(env_id, kwargs), n, threads), LeanVecEnv(lambda: make_env(env_id, kwargs), n)
    for venv in venvs:
        venv.seed(5)
    return venvs


def assert_same_steps(ours, theirs, steps):
    """Returns how many episodes ended."""
    rng, space, ended = np.random.default_rng(0), ours.action_space, 0
    assert same(ours.reset(), theirs.reset())
    for _ in range(steps):
        actions = rng.uniform(1.2 * space.low, 1.2 * space.high, (ours.num_envs, *space.shape)).astype(np.float32)
        *arrays, infos = ours.step(actions)
        *arrays2, infos2 = theirs.step(actions)
        for a, b in zip(arrays, arrays2, strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for info, info2 in zip(infos, infos2, strict=True):
            if "episode" in info2:
                ended += 1
                assert abs(info["episode"].pop("t") - info2["episode"].pop("t")) < 60
            assert same(info, info2)
    assert same(tuple(ours.reset_infos), tuple(theirs.reset_infos))
    return ended


@pytest.mark.parametrize("env_id", ROBOTS)
def test_a_robot_goes_the_same_way_over_ends_of_episodes(env_id):
    assert assert_same_steps(*both(env_id, max_episode_steps=14), 45) >= 9


@pytest.mark.parametrize("env_id", OLDER)
def test_an_older_robot_does_too(env_id):
    assert differs(lambda: gym.make(env_id, max_episode_steps=14)) is None


def test_episodes_end_by_themselves_and_the_number_of_threads_does_not_matter():
    assert assert_same_steps(*both("Hopper-v5", n=5, threads=2), 150) > 5


def test_what_a_caller_cuts_is_cut_there_and_not_reported():
    ours, theirs = both("Hopper-v5")
    for venv in (ours, theirs):
        venv.cut_episodes(np.array([3, 9, 500]))
    ended = assert_same_steps(ours, theirs, 60)
    assert 0 < ended < 10


def test_episodes_longer_than_expected_keep_their_returns():
    ours, theirs = both("HalfCheetah-v5", n=1, max_episode_steps=300)
    assert assert_same_steps(ours, theirs, 301) == 1


def test_settings_are_those_of_the_environments():
    kwargs = {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.3, "terminate_when_unhealthy": False}
    kwargs |= {"exclude_current_positions_from_observation": False}
    assert_same_steps(*both("Walker2d-v5", **kwargs), 40)
    assert_same_steps(*both("Ant-v5", include_cfrc_ext_in_observation=False, contact_cost_weight=0.1), 10)


@pytest.mark.parametrize("name", ["_healthy_reward", "_ctrl_cost_weight", "frame_skip"])
def test_an_environment_with_settings_of_its_own_steps_alone(name):
    ours, theirs = both("Hopper-v5")
    for venv in (ours, theirs):
        core = venv.envs[1].unwrapped
        setattr(core, name, 2 * getattr(core, name))
    assert_same_steps(ours, theirs, 40)


def test_an_environment_with_another_simulator_steps_alone():
    ours, theirs = both("Hopper-v5")
    for venv in (ours, theirs):
        core = venv.envs[2].unwrapped
        core.data = mujoco.MjData(core.model)
        venv.envs[0].unwrapped.model.opt.timestep *= 0.5
        venv.envs[1].unwrapped.model.body_mass[2] *= 1.1
    assert_same_steps(ours, theirs, 40)


def test_saved_states_go_on_together_as_they_do_alone():
    envs, saver = [hopper() for _ in range(3)], MujocoSnapshotter()
    alone = hopper()
    for i, env in enumerate(envs):
        env.reset(seed=i)
    alone.reset(seed=9)
    group, rng = Together(envs), np.random.default_rng(0)
    for t in range(12):
        actions = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        state = saver.save(envs[2])
        found = group.step(actions, [0, 2])
        saver.restore(alone, state)
        assert proof.difference([part[1] for part in found], alone.step(actions[1])) is None
        assert same(saver.save(alone), saver.save(envs[2]))
        if t == 5:
            saver.restore(envs[0], state)
            reseed(envs[0], 3)


class Still:
    """Acts by its noise alone."""

    def act(self, observations, deterministic, rngs):
        return np.array([rng.uniform(-1, 1, 3) for rng in rngs], dtype=np.float32)


def test_whole_episodes_are_the_same_as_one_by_one(monkeypatch):
    def episodes():
        traces = run_episodes(
            [hopper() for _ in range(3)], Still(), range(7), deterministic=False, snapshot=MujocoSnapshotter().save
        )
        rows = [
            (t.seed, tuple(t.rewards), tuple(t.observations), tuple(t.snapshots), t.terminated, t.truncated)
            for t in traces
        ]
        return sorted(rows, key=lambda row: row[0])

    assert together([hopper(), hopper()]) is not None
    first = episodes()
    monkeypatch.setattr("unstuck.rollout.together", lambda envs: None)
    assert len(first) == 7
    assert same(tuple(first), tuple(episodes()))


# ------------------------------------------------------------------------------------------------ what is refused


class Elsewhere(HopperEnv):
    """Begins elsewhere, which no step depends on."""

    def reset_model(self):
        super().reset_model()
        self.set_state(self.init_qpos + self.np_random.uniform(0, 0.1), self.init_qvel)
        return self._get_obs()


class Paid(HopperEnv):
    def _get_rew(self, x_velocity, action):
        reward, parts = super()._get_rew(x_velocity, action)
        return reward + 1, parts


class Sturdy(HopperEnv):
    @property
    def is_healthy(self):
        return True


class Delayed(HopperEnv):
    def step(self, action):
        return super().step(0.5 * action)


class Noisy(HopperEnv):
    def _step_mujoco_simulation(self, ctrl, n_frames):
        super()._step_mujoco_simulation(ctrl + self.np_random.normal(), n_frames)


class Drawn(HopperEnv):
    def __getattribute__(self, name):
        return 3.0 if name == "_healthy_reward" else super().__getattribute__(name)


@pytest.fixture
def registered():
    ids = []

    def register(kind):
        gym.register(f"{kind.__name__}Hopper-v0", lambda **kwargs: kind(**kwargs), max_episode_steps=20)
        ids.append(f"{kind.__name__}Hopper-v0")
        return ids[-1]

    yield register
    for env_id in ids:
        del gym.registry[env_id]


def test_a_subclass_that_leaves_steps_alone_goes_together(registered):
    env_id = registered(Elsewhere)
    choice = choose(gym.make(env_id), env_id, None, "auto")
    assert (choice.backend, "EnvPool" in choice.why) == ("mujoco", True)
    ours, theirs = RobotVecEnv(lambda: gym.make(env_id), 3), LeanVecEnv(lambda: gym.make(env_id), 3)
    for venv in (ours, theirs):
        venv.seed(1)
    assert assert_same_steps(ours, theirs, 50) > 3


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Paid, "_get_rew"), (Sturdy, "is_healthy"), (Delayed, "step"), (Noisy, "_step_mujoco_simulation"),
     (Drawn, "__getattribute__")],
)  # fmt: skip
def test_a_subclass_with_a_part_of_a_step_of_its_own_does_not(kind, name, registered):
    env_id = registered(kind)
    env = gym.make(env_id)
    assert name in not_together(env)
    assert choose(env, env_id, None, "auto").backend == "gymnasium"
    assert make_vec_env(lambda: gym.make(env_id), env_id, None, 2).backend.startswith("gymnasium")
    assert together([gym.make(env_id), gym.make(env_id)]) is None


def test_wrappers_that_change_steps_and_functions_put_on_an_environment_are_refused():
    assert "RescaleAction" in refused(gym.wrappers.RescaleAction(hopper(), -1, 1))
    assert "two time limits" in refused(gym.wrappers.TimeLimit(hopper(), 10))
    env = hopper()
    env.unwrapped.do_simulation = lambda ctrl, frames: None
    assert "do_simulation" in refused(env)
    env = hopper()
    env.unwrapped._healthy_z_range = np.array([0.7, 2.0])
    assert "_healthy_z_range" in refused(env)
    assert "extends none" in refused(make_env("CartPole-v1"))
    assert together([make_env("CartPole-v1")] * 2) is None


def test_a_wrapper_that_changes_resets_alone_is_not():
    class Begins(gym.Wrapper):
        def reset(self, *, seed=None, options=None):
            return self.env.reset(seed=seed, options=options)

    assert refused(Begins(hopper())) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda out: out._replace(rewards=out.rewards + 1e-12), "the reward after 1 steps"),
        (lambda out: out._replace(obs=out.obs + 1e-12), "the observation after 1 steps"),
        (lambda out: out._replace(terminated=np.zeros_like(out.terminated)), "whether it ends after"),
        (lambda out: out._replace(info={**out.info, "more": out.rewards}), "the info after 1 steps"),
    ],
)
def test_a_formula_that_is_not_gymnasiums_is_found_out(change, told, monkeypatch):
    own = FAMILIES[HOPPER]
    other = Family(lambda s: change(own.formula(s)), own.settings, own.before)
    monkeypatch.setitem(families.FAMILIES, HOPPER, other)
    assert told in differs(hopper)
    choice = choose(hopper(terminate_when_unhealthy=True), "Hopper-v5", {"terminate_when_unhealthy": True}, "auto")
    assert (choice.backend, "is not the same" in choice.why) == ("gymnasium", True)


def test_ant_and_humanoid_go_together_and_what_is_insisted_on_is_told_if_it_cannot_be():
    for env_id in ("Ant-v5", "Humanoid-v5"):
        assert choose(make_env(env_id), env_id, None, "auto").backend == "mujoco"
    assert choose(hopper(), "Hopper-v5", None, "mujoco").backend == "mujoco"
    with pytest.raises(Exception, match="cannot be stepped together"):
        choose(make_env("CartPole-v1"), "CartPole-v1", None, "mujoco")


def test_actions_of_a_wrong_shape_are_refused():
    group = Together([hopper(), hopper()])
    for env in group.envs:
        env.reset(seed=0)
    with pytest.raises(ValueError, match="dimension mismatch"):
        group.step(np.zeros((2, 4), dtype=np.float32))
