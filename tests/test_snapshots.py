"""Restored environments must continue bit for bit, whatever the strategy."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from unstuck.episodes import Episode
from unstuck.errors import RunError, TaskError
from unstuck.simulators import DeepcopySnapshotter, MujocoSnapshotter, ReplaySnapshotter
from unstuck.snapshots import BranchPool, check_exact, reset_exactly, restore_episode_step, snapshotter_for
from unstuck.tasks import make_env

# How a task is restored, and for how many steps it is checked: past its time limit where that is affordable.
TASKS = {
    "CartPole-v1": ("deepcopy", 120),
    "MountainCar-v0": ("deepcopy", 210),
    "MountainCarContinuous-v0": ("deepcopy", 1010),
    "Acrobot-v1": ("deepcopy", 510),
    "Pendulum-v1": ("deepcopy", 210),
    "FrozenLake-v1": ("deepcopy", 110),
    "CliffWalking-v1": ("deepcopy", 110),
    "Taxi-v4": ("deepcopy", 210),
    "LunarLander-v3": ("replay", 300),
    "BipedalWalker-v3": ("replay", 150),
    "Hopper-v5": ("mujoco", 150),
    "Hopper-v4": ("mujoco", 150),
    "HalfCheetah-v5": ("mujoco", 1010),
    "Walker2d-v5": ("mujoco", 150),
    "Reacher-v4": ("mujoco", 60),
    "Reacher-v5": ("mujoco", 60),
    "InvertedPendulum-v5": ("mujoco", 60),
    "InvertedDoublePendulum-v5": ("mujoco", 60),
    "SparseHopper-v5": ("mujoco", 150),
    "Swimmer-v5": ("mujoco", 100),
    "Ant-v5": ("mujoco", 60),
    "Pusher-v5": ("mujoco", 110),
    "Humanoid-v4": ("mujoco", 40),
    "Humanoid-v5": ("mujoco", 40),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", TASKS)
def test_every_task_is_restored_exactly(env_id: str) -> None:
    factory = partial(make_env, env_id)
    strategy, steps = TASKS[env_id]
    snapshotter = snapshotter_for(factory)
    report = check_exact(factory, seed=3, steps=steps, snapshotter=snapshotter)
    assert report.deterministic
    assert [b.difference for b in report.branches if b.difference] == []
    assert len(report.branches) == min(3, report.episode_steps)
    assert snapshotter.name == strategy


class OnlyPositions:
    """A plausible but wrong strategy: positions and velocities, no solver state, no time limit."""

    name = "positions"
    storable = False

    def save(self, env: gym.Env) -> tuple[np.ndarray, np.ndarray]:
        return env.unwrapped.data.qpos.copy(), env.unwrapped.data.qvel.copy()

    def restore(self, env: gym.Env, state: tuple[np.ndarray, np.ndarray]) -> None:
        env.unwrapped.set_state(*state)


class NoLag(MujocoSnapshotter):
    """Forgets what lags behind the positions."""

    def restore(self, env: gym.Env, state: np.ndarray) -> None:
        import mujoco

        super().restore(env, state)
        mujoco.mj_forward(env.unwrapped.model, env.unwrapped.data)


def record(env: gym.Env, seed: int, steps: int, snapshotter=None) -> Episode:
    """An episode of random actions, with snapshots where the strategy gives flat ones."""
    env.action_space.seed(seed)
    observations, actions, rewards, snapshots = [env.reset(seed=seed)[0]], [], [], []
    terminated = truncated = False
    while len(actions) < steps and not (terminated or truncated):
        if snapshotter is not None:
            snapshots.append(snapshotter.save(env))
        actions.append(env.action_space.sample())
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        observations.append(obs)
        rewards.append(float(reward))
    if snapshotter is not None:
        snapshots.append(snapshotter.save(env))
    return Episode(
        index=0, seed=seed, deterministic=False, observations=np.array(observations), actions=np.array(actions),
        rewards=np.array(rewards), terminated=terminated, truncated=truncated,
        snapshots=np.array(snapshots) if snapshots else None,
    )  # fmt: skip


def test_the_check_finds_a_wrong_strategy() -> None:
    report = check_exact(partial(gym.make, "HalfCheetah-v5"), steps=1010, snapshotter=OnlyPositions())
    assert report.deterministic
    assert not report.exact
    assert any("truncated" in b.difference or "observation" in b.difference for b in report.branches)


@pytest.mark.filterwarnings("ignore")
def test_the_check_finds_a_derived_quantity_that_lags() -> None:
    report = check_exact(partial(gym.make, "Reacher-v4"), steps=60, snapshotter=NoLag())
    assert "reward" in "".join(b.difference for b in report.branches)


def test_the_time_limit_is_restored() -> None:
    factory = partial(gym.make, "Pendulum-v1", max_episode_steps=20)
    env = factory()
    snapshotter = snapshotter_for(factory)
    env.reset(seed=0)
    for _ in range(15):
        env.step(env.action_space.sample())
    state = snapshotter.save(env)
    other = factory()
    snapshotter.restore(other, state)
    flags = [other.step(other.action_space.sample())[3] for _ in range(5)]
    assert flags == [False, False, False, False, True]


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "BipedalWalker-v3"])
def test_box2d_worlds_are_never_copied(env_id: str) -> None:
    """Copying them either fails or gives an environment that was never reset."""
    env = gym.make(env_id)
    env.reset(seed=0)
    with pytest.raises(Exception):  # noqa: B017  (whatever the C++ binding raises)
        DeepcopySnapshotter().save(env)


def test_stored_snapshots_cost_nothing_and_match() -> None:
    factory = partial(gym.make, "Hopper-v5")
    episode = record(factory(), 4, 30, MujocoSnapshotter())
    env = factory()
    for step in (0, len(episode) // 2, len(episode) - 1):
        assert restore_episode_step(env, episode, step, MujocoSnapshotter()) == 0
        obs, reward, terminated, *_ = env.step(episode.actions[step])
        assert obs.tobytes() == episode.observations[step + 1].tobytes()
        assert reward == episode.rewards[step]
        assert terminated == (episode.terminated and step == len(episode) - 1)


def test_replay_costs_its_steps_and_notices_another_world() -> None:
    env = gym.make("LunarLander-v3")
    episode = record(env, 4, 60)
    assert restore_episode_step(env, episode, 40, ReplaySnapshotter()) == 40
    assert env.step(int(episode.actions[40]))[0].tobytes() == episode.observations[41].tobytes()
    with pytest.raises(TaskError, match="arrives at another state"):
        restore_episode_step(gym.make("LunarLander-v3", gravity=-5.0), episode, 40, ReplaySnapshotter())


@pytest.mark.parametrize(("reset", "same"), [(reset_exactly, True), (lambda e, seed: e.reset(seed=seed), False)])
def test_a_used_world_is_reset_without_a_trace(reset, same: bool) -> None:
    """A plain reset of BipedalWalker is not enough: its Box2D world remembers earlier episodes. Should the second
    case fail one day, `reset_exactly` is no longer needed."""
    env = gym.make("BipedalWalker-v3")
    env.action_space.seed(3)
    actions = [env.action_space.sample() for _ in range(600)]

    def play() -> list[bytes]:
        seen = []
        reset(env, 3)
        for action in actions:
            obs, _, terminated, *_ = env.step(action)
            seen.append(obs.tobytes())
            if terminated:
                env.reset()
        return seen[:40]

    assert (play() == play()) == same


def test_a_snapshot_of_another_environment_is_refused() -> None:
    env = gym.make("HalfCheetah-v5")
    env.reset(seed=0)
    state = MujocoSnapshotter().save(env)
    with pytest.raises(RunError, match="another environment"):
        MujocoSnapshotter().restore(gym.make("Hopper-v5"), state)


def test_a_step_outside_the_episode_is_refused() -> None:
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="outside the episode"):
        restore_episode_step(env, record(env, 0, 5), 6, DeepcopySnapshotter())


def test_the_pool_replays_once_and_then_branches() -> None:
    factory = partial(gym.make, "MountainCar-v0")
    episode = record(factory(), 1, 100)
    pool = BranchPool(factory, 2, DeepcopySnapshotter())
    assert [pool.place(0, episode, 50), pool.place(1, episode, 50), pool.place(0, episode, 60)] == [50, 0, 10]
    for i, step in ((0, 60), (1, 50)):
        obs, reward, terminated, truncated, _ = pool.step(i, episode.actions[step])
        assert obs.tobytes() == episode.observations[step + 1].tobytes()
        assert (reward, terminated, truncated) == (-1.0, False, False)
    assert pool.place(1, episode, 50) == 0
    assert pool.steps == 62


def test_the_pool_forgets_the_oldest_state() -> None:
    episode = record(gym.make("MountainCar-v0"), 1, 50)
    pool = BranchPool(partial(gym.make, "MountainCar-v0"), 1, DeepcopySnapshotter(), cache=1)
    assert [pool.place(0, episode, s) for s in (20, 30, 20)] == [20, 10, 20]


def test_a_pool_of_replays_pays_each_time() -> None:
    episode = record(gym.make("LunarLander-v3"), 1, 30)
    pool = BranchPool(partial(gym.make, "LunarLander-v3"), 1, ReplaySnapshotter())
    assert [pool.place(0, episode, 20), pool.place(0, episode, 20)] == [20, 20]


def test_noise_seeds_give_other_luck_and_the_same_again() -> None:
    factory = partial(gym.make, "FrozenLake-v1", map_name="8x8")
    episode = record(factory(), 5, 10)
    pool = BranchPool(factory, 1, DeepcopySnapshotter())

    def walk(noise_seed: int | None) -> list[int]:
        pool.place(0, episode, 3, noise_seed)
        return [int(pool.step(0, 1)[0]) for _ in range(6)]

    assert walk(None) == walk(None)
    assert walk(7) == walk(7)
    assert len({tuple(walk(s)) for s in range(8)}) > 1


class Counting(gym.Wrapper):
    """A user's wrapper with state of its own, in a container."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.seen: list[float] = []

    def reset(self, **kwargs):
        self.seen = []
        return super().reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        self.seen.append(float(reward))
        return obs, sum(self.seen), terminated, truncated, info


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5", "LunarLander-v3"])
def test_a_wrapper_with_a_history_is_restored_too(env_id: str) -> None:
    report = check_exact(lambda: Counting(gym.make(env_id)), steps=60)
    assert report.exact
    # Numbers alone do not hold the wrapper's list, so the flat snapshot must have been turned down.
    assert report.strategy == ("replay" if env_id == "LunarLander-v3" else "deepcopy")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1", "Taxi-v4"])
def test_rendering_does_not_stand_in_the_way(env_id: str) -> None:
    env = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    env.render()
    state = DeepcopySnapshotter().save(env)
    before = [env.step(1)[0] for _ in range(2)]
    DeepcopySnapshotter().restore(env, state)
    assert np.array_equal([env.step(1)[0] for _ in range(2)], before)
    assert env.render().ndim == 3


def test_atari_is_restored_by_its_emulator() -> None:
    ale_py = pytest.importorskip("ale_py")
    gym.register_envs(ale_py)
    report = check_exact(partial(gym.make, "ALE/Pong-v5", obs_type="ram"), steps=200)
    assert (report.strategy, report.exact) == ("ale", True)
