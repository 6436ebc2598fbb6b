"""Episodes stream to disk: memory does not grow with how many there are, and nothing of them changes."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console
from stable_baselines3 import PPO

from unstuck.agents import Actor, build_policy, load_agent
from unstuck.config import AgentConfig, CollectConfig, RunConfig, TaskConfig
from unstuck.diagnosis.panel import FILE, Panel
from unstuck.episodes import Episode, StoredSnapshots, load_episode, save_episode
from unstuck.errors import RunError
from unstuck.progress import Progress
from unstuck.rollout import run_episodes
from unstuck.run import Run
from unstuck.stages.collect import _room, collect
from unstuck.tasks.beside import bytes_of

WIDTH, STEPS, EPISODES = 4_000, 40, 60


class Wide(gym.Env):
    """Large observations of random numbers; episodes of different lengths end out of order."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (WIDTH,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = STEPS - 7 * int(self.np_random.integers(0, 5))
        return self.np_random.random(WIDTH), {}

    def step(self, action):
        self.left -= 1
        return self.np_random.random(WIDTH), float(action), self.left <= 0, False, {}


class Games(gym.Env):
    """Games of 30 to 70 steps without a time limit, of which each step costs 1, and the end 100."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 30 + int(self.np_random.integers(0, 41))
        return np.zeros(1), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1), -1.0 if self.left else -101.0, self.left <= 0, False, {}


gym.register("CollectWide-v0", Wide, max_episode_steps=STEPS)
gym.register("CollectGames-v0", Games)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "wide.zip"
    env = gym.make("CollectWide-v0")
    PPO("MlpPolicy", env, seed=0, n_steps=16, batch_size=16, policy_kwargs={"net_arch": [4]}).save(path)
    return path


def make_run(folder: Path, agent: Path, episodes: int, max_steps: int = 100_000) -> Run:
    config = RunConfig(
        task=TaskConfig(env="CollectWide-v0"),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=episodes, max_steps=max_steps),
    )
    return Run.create(folder, config, {"agent": agent})


def test_memory_does_not_grow_with_the_number_of_episodes(tmp_path: Path, agent: Path) -> None:
    collect(make_run(tmp_path / "warm", agent, 2))
    run = make_run(tmp_path / "run", agent, EPISODES)
    tracemalloc.start()
    episodes = collect(run)
    held = sum(1 for e in episodes for _ in range(len(e) + 1)) * WIDTH * 8
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(episodes) == EPISODES
    # Eight episodes under way, and some copies of one.
    assert peak < 0.3 * held


@pytest.mark.parametrize("max_steps", [110, 150, 170, 240])
def test_what_is_cut_has_no_return_and_leaves_the_other_mode_an_episode(tmp_path: Path, max_steps: int) -> None:
    path = tmp_path / "games.zip"
    PPO("MlpPolicy", gym.make("CollectGames-v0"), seed=0, n_steps=16, batch_size=16).save(path)
    config = RunConfig(
        task=TaskConfig(env="CollectGames-v0"),
        agent=AgentConfig(agent=str(path)),
        collect=CollectConfig(episodes=12, max_steps=max_steps),
    )
    run = Run.create(tmp_path / "run", config, {"agent": path})
    said = io.StringIO()
    episodes = list(collect(run, Progress(Console(file=said, width=500))))
    cut = [e for e in episodes if not e.whole]
    assert all(e.ending == "cut" and e.total_reward > -100 for e in cut)
    assert ("Raise it" in said.getvalue()) == bool(cut)
    facts = run.record("collect").facts
    assert facts["sampled"]
    assert bool(facts["deterministic"]) == (max_steps > 110)
    held = {False: facts["sampled"], True: facts["deterministic"]}
    for mode, returns in held.items():
        assert returns == [e.total_reward for e in episodes if e.whole and e.deterministic == mode]
        assert all(r < -100 for r in returns)
    # Cut games would look like better ones.
    panel = Panel.from_json((run.root / FILE).read_text())
    assert panel.sampled == pytest.approx(np.mean(facts["sampled"]))
    assert panel.deterministic == (pytest.approx(np.mean(held[True])) if held[True] else None)


@pytest.mark.parametrize("max_steps", [100_000, 300])
def test_episodes_keep_their_order(tmp_path: Path, agent: Path, max_steps: int) -> None:
    """By seed, the deterministic ones first, though others end before them; also where the step limit stops early."""
    run = make_run(tmp_path / "run", agent, 20, max_steps)
    episodes = list(collect(run))
    modes = [e.deterministic for e in episodes]
    deterministic = modes.count(True)
    assert modes == sorted(modes, reverse=True)
    assert [e.index for e in episodes] == list(range(len(episodes)))
    assert [e.seed for e in episodes] == [*range(deterministic), *range(10, 10 + len(episodes) - deterministic)]
    assert len(episodes) == 20 if max_steps > 300 else 2 <= len(episodes) < 20
    assert len({len(e) for e in episodes}) > 1
    facts = run.record("collect").facts
    assert facts["deterministic"] == [round(e.total_reward, 3) for e in episodes if e.deterministic]
    assert facts["sampled"] == [round(e.total_reward, 3) for e in episodes if not e.deterministic]


def test_an_episode_is_the_same_alone(tmp_path: Path, agent: Path) -> None:
    stored = collect(make_run(tmp_path / "run", agent, 20))[13]
    loaded, env = load_agent(agent), gym.make("CollectWide-v0")
    actor = Actor(build_policy(loaded, env.observation_space, env.action_space), None, env.action_space)
    (trace,) = run_episodes([env], actor, [stored.seed], deterministic=False)
    assert np.array_equal(stored.observations, trace.observations)
    assert np.array_equal(stored.actions, trace.actions)
    assert np.array_equal(stored.rewards, trace.rewards)


def test_fewer_long_episodes_of_images_at_once() -> None:
    image = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert _room(bytes_of(image), 27_000) == 1
    assert _room(bytes_of(image), 1_000) == 4
    assert _room(bytes_of(gym.spaces.Dict({"a": image, "b": gym.spaces.Discrete(3)})), 1_000) == 4
    assert _room(bytes_of(gym.spaces.Box(-1, 1, (376,))), 1_000) > 8


# ------------------------------------------------------------------------------------------------ snapshots


def episode(snapshots) -> Episode:
    return Episode(
        index=0, seed=1, deterministic=True, observations=np.zeros((4, 2)), actions=np.zeros(3, np.int64),
        rewards=np.ones(3), terminated=True, truncated=False, snapshots=snapshots,
    )  # fmt: skip


def test_snapshots_are_read_when_they_are_needed(tmp_path: Path) -> None:
    path, rows = tmp_path / "episode-0000.npz", np.random.default_rng(0).random((4, 9))
    save_episode(episode(rows), path)
    loaded = load_episode(path)
    assert isinstance(loaded.snapshots, StoredSnapshots)
    assert "held" not in vars(loaded.snapshots)
    assert len(loaded.snapshots) == 4
    for step in range(4):
        assert np.array_equal(loaded.snapshots[step], rows[step])
    save_episode(loaded, tmp_path / "again.npz")
    assert np.array_equal(load_episode(tmp_path / "again.npz").snapshots.held, rows)
    save_episode(episode(None), path)
    assert load_episode(path).snapshots is None


def test_snapshots_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "episode-0000.npz"
    save_episode(episode(np.zeros((4, 9))), path)
    loaded = load_episode(path)
    path.unlink()
    with pytest.raises(RunError, match="collect again"):
        loaded.snapshots[0]
