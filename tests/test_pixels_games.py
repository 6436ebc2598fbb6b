"""Games from pixels as Stable-Baselines3 makes them, their states, and their RAM, which only describers read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

pytest.importorskip("ale_py")

from pixel_cases import BREAKOUT, PONG, small
from unstuck.agents import load_agent
from unstuck.algorithms import policy_of
from unstuck.config import AgentConfig, CollectConfig, RunConfig, TaskConfig
from unstuck.diagnosis.critic import learnt_returns
from unstuck.diagnosis.evidence import rollout_of
from unstuck.emulators import AleSnapshotter
from unstuck.episodes import Episode, as_snapshots, load_episode, save_episode
from unstuck.errors import RunError
from unstuck.explainers.llm.summary import signal_words
from unstuck.keys import STATE_VARIABLE
from unstuck.pipeline import open_run
from unstuck.simulators import ReplaySnapshotter
from unstuck.snapshots import check_exact, restore_episode_step, snapshotter_for
from unstuck.stages.collect import collect
from unstuck.tasks import describer_for, make_env
from unstuck.tasks.atari import LIFE_LOST, TRAINED_REWARD
from unstuck.tasks.atari_games import GAMES
from unstuck.tasks.beside import RAM, SEEN, Beside, seen, seen_space
from unstuck.testing import CORRIDOR
from unstuck.treatments.states import of_episodes
from unstuck.vecenvs import make_vec_env
from unstuck.views import reward_scale, view_of
from unstuck.workspace import Workspace

IDS = {"breakout": BREAKOUT, "freeway": "FreewayNoFrameskip-v4", "boxing": "BoxingNoFrameskip-v4",
       "space_invaders": "SpaceInvadersNoFrameskip-v4"}  # fmt: skip


def test_games_are_those_of_stable_baselines() -> None:
    """Frame by frame, over the ends of lives and of a game; rewards and ends as they were trained, and the score."""
    theirs = VecTransposeImage(VecFrameStack(make_atari_env(BREAKOUT, 1, seed=3), 4))
    ours = make_env(BREAKOUT, {"objects": False})
    expected, (obs, _) = theirs.reset(), ours.reset(seed=3)
    rng, score, lost, games = np.random.default_rng(0), 0.0, 0, 0
    for _ in range(600):
        np.testing.assert_array_equal(obs, expected[0])
        action = int(rng.integers(4))
        expected, rewards, dones, infos = theirs.step(np.array([action]))
        obs, reward, terminated, truncated, info = ours.step(action)
        score += reward
        lost += info[LIFE_LOST]
        assert info[TRAINED_REWARD] == rewards[0]
        assert (terminated or info[LIFE_LOST]) == dones[0]
        assert not truncated
        if terminated:
            assert infos[0]["episode"]["r"] == score
            games, score = games + 1, 0.0
            obs, _ = ours.reset()
        if games == 2:
            break
    assert games == 2
    assert lost == 8, "five lives a game"


def test_a_reset_begins_a_new_game_wherever_the_last_one_stood() -> None:
    env = make_env(BREAKOUT, {"objects": False})
    first, _ = env.reset(seed=5)
    for _ in range(30):
        env.step(2)
    again, _ = env.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    assert (again[:3] == 0).all(), "black before the first frame"


def test_snapshots_are_exact_over_the_end_of_a_life() -> None:
    report = check_exact(lambda: make_env(BREAKOUT), seed=0, steps=80, snapshotter=AleSnapshotter())
    assert report.exact, report


class EmulatorAlone(AleSnapshotter):
    """A plausible but wrong strategy: nothing of what wrappers keep."""

    def restore(self, env: Any, state: np.ndarray) -> None:
        around = self.save(env)
        super().restore(env, state)
        emulator = env.unwrapped.clone_state(include_rng=True)
        super().restore(env, around)
        env.unwrapped.restore_state(emulator)


@pytest.mark.parametrize(("env_id", "kwargs"), [(PONG, {}), ("ALE/Pong-v5", {})])
def test_branches_from_stored_states_are_those_of_a_replay(tmp_path: Path, env_id: str, kwargs: dict[str, Any]) -> None:
    env, other = make_env(env_id, kwargs), make_env(env_id, kwargs)
    saver = snapshotter_for(lambda: make_env(env_id, kwargs))
    assert isinstance(saver, AleSnapshotter)
    rng, observations, states = np.random.default_rng(0), [env.reset(seed=7)[0]], []
    actions = rng.integers(6, size=60)
    for action in actions:
        states.append(saver.save(env))
        observations.append(env.step(action)[0])
    states.append(saver.save(env))
    save_episode(
        Episode(
            0, 7, False, {k: np.array([o[k] for o in observations]) for k in (SEEN, RAM)}, actions, np.zeros(60),
            terminated=False, truncated=False, snapshots=as_snapshots(states),
        ),
        tmp_path / "episode.npz",
    )  # fmt: skip
    episode = load_episode(tmp_path / "episode.npz")
    assert (tmp_path / "episode.npz").stat().st_size < 61 * 8_000
    further = rng.integers(6, size=40)
    other.reset(seed=8)
    for step in (0, 33, 60):
        assert restore_episode_step(env, episode, step, ReplaySnapshotter()) == step
        expected = [env.step(action)[:4] for action in further]
        for _ in range(5):
            other.step(2)  # used for something else before
        assert restore_episode_step(other, episode, step, saver) == 0
        for (obs, *rest), action in zip(expected, further, strict=True):
            again, *same = other.step(action)[:4]
            assert same == rest
            np.testing.assert_array_equal(again[SEEN], obs[SEEN])
            np.testing.assert_array_equal(again[RAM], obs[RAM])


def test_the_check_finds_forgotten_frames() -> None:
    assert not check_exact(lambda: make_env(PONG), steps=60, snapshotter=EmulatorAlone()).exact


def test_a_damaged_state_of_the_emulator_is_refused() -> None:
    env = make_env(PONG)
    env.reset(seed=0)
    state = AleSnapshotter().save(env)
    changed = state.copy()
    changed[5_000] ^= 1
    other = make_env(PONG, {"frame_stack": 2})
    for where, broken in ((env, state[:5]), (env, changed), (other, state)):
        with pytest.raises(RunError, match="collect the episodes again"):
            AleSnapshotter().restore(where, broken)


def test_states_of_the_emulator_that_others_saved_are_reached_by_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, saver = make_env("UnstuckPong-v0"), AleSnapshotter()
    observations, states = [env.reset(seed=3)[0]], [saver.save(env)]
    for _ in range(4):
        observations.append(env.step(1)[0])
        states.append(saver.save(env))
    episode = Episode(
        0, 3, True, np.array(observations), np.ones(4, np.int64), np.zeros(4), terminated=False, truncated=False,
        snapshots=as_snapshots(states),
    )  # fmt: skip
    assert restore_episode_step(env, episode, 4, saver) == 0
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    assert restore_episode_step(env, episode, 4, saver) == 4


def test_a_learner_gets_what_the_agent_was_trained_on_and_monitor_the_score() -> None:
    venv = make_vec_env(lambda: make_env(BREAKOUT), BREAKOUT, n_envs=1, seed=3)
    theirs = make_atari_env(BREAKOUT, 1, seed=3)
    venv.reset(), theirs.reset()
    rng, scores = np.random.default_rng(0), []
    for _ in range(300):
        action = rng.integers(4, size=1)
        _, rewards, dones, infos = venv.step(action)
        _, expected, ends, told = theirs.step(action)
        assert (rewards[0], dones[0]) == (expected[0], ends[0])
        if dones[0]:
            assert infos[0]["terminal_observation"][SEEN].shape == (4, 84, 84)
            assert ("episode" in infos[0]) == ("episode" in told[0])
            scores += [infos[0]["episode"]["r"], told[0]["episode"]["r"]] if "episode" in infos[0] else []
    assert len(scores) >= 2
    assert scores[::2] == scores[1::2]
    venv.close()


# --------------------------------------------------------------------------------------------------- RAM


@pytest.mark.parametrize("game", ["pong", *sorted(GAMES)])
def test_the_ram_beside_pixels_says_what_the_ram_alone_says(game: str) -> None:
    env = make_env(IDS.get(game, PONG))
    alone = describer_for(make_env(IDS.get(game, PONG), {"observation": "raw", "obs_type": "ram"}))
    describer = describer_for(env)
    assert isinstance(env.observation_space, Beside)
    assert "does not see" in describer.card.notes
    env.reset(seed=0)
    for i in range(12):
        obs = env.step(i % env.action_space.n)[0]
    ram = env.unwrapped.ale.getRAM()
    np.testing.assert_array_equal(obs[RAM][1], ram)
    values = dict(zip(describer.card.variable_names, describer.variables({k: v[None] for k, v in obs.items()})[0],
                      strict=True))  # fmt: skip
    expected = dict(zip(alone.card.variable_names, alone.variables(ram[None])[0], strict=True))
    assert expected == {name: values[name] for name in expected}
    assert np.isfinite(list(values.values())).all()


def test_changes_are_those_of_a_step_and_nothing_at_the_start_of_a_life() -> None:
    env = make_env(BREAKOUT)
    describer = describer_for(env)
    at = [describer.card.variable_names.index(name) for name in ("ball_x", "ball_x_change")]
    obs, _ = env.reset(seed=0)
    seen_x = []
    for _ in range(20):
        seen_x.append(describer.variables({k: v[None] for k, v in obs.items()})[0][at])
        obs = env.step(0)[0]
    xs, changes = np.array(seen_x).T
    assert changes[0] == 0
    np.testing.assert_array_equal(np.diff(xs), changes[1:])
    assert changes.any()
    served, rng = [], np.random.default_rng(0)
    while len(served) < 8:
        obs, _, terminated, _, info = env.step(int(rng.integers(4)))
        if info[LIFE_LOST]:
            served.append(describer.variables({k: v[None] for k, v in obs.items()})[0][at[1]])
        if terminated:
            env.reset()
    assert not any(served), "another ball has not moved yet"


@pytest.mark.parametrize("skip", [1, 2])
def test_a_ball_of_breakout_lands_where_it_is_said_to(skip: int) -> None:
    env = make_env(BREAKOUT, {"frameskip": skip})
    describer = describer_for(env)
    column = {name: i for i, name in enumerate(describer.card.variable_names)}
    obs, _ = env.reset(seed=1)
    said, errors = [], []
    for _ in range(500):
        row = describer.variables({k: v[None] for k, v in obs.items()})[0]
        if row[column["ball_dy"]] > 0 and 110 < row[column["ball_y"]] < 150:
            said.append(row[column["landing_x"]])
        elif said and row[column["ball_y"]] > 175:
            errors.append(abs(said[-1] - row[column["ball_x"]]))
            said = []
        obs, _, terminated, _, _ = env.step(2 if row[column["landing_offset"]] > 2 else 3 if said else 0)
        if terminated:
            obs, _ = env.reset()
    assert len(errors) >= 5
    assert np.median(errors) < 12, errors


def test_an_agent_is_given_the_pixels_alone(pong: Path) -> None:
    env = make_env(PONG)
    obs, _ = env.reset(seed=0)
    batch = {k: v[None] for k, v in obs.items()}
    policy = policy_of(load_agent(pong), env.observation_space, env.action_space)
    assert seen_space(env.observation_space) == spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert seen(batch) is batch[SEEN]
    np.testing.assert_array_equal(policy.signals(batch)["value"], policy.signals(batch[SEEN])["value"])
    model = PPO.load(pong, device="cpu")
    assert policy.act(batch)[0] == model.predict(batch[SEEN], deterministic=True)[0][0]


def test_of_a_game_that_is_not_known_the_newest_frame_is_told() -> None:
    """Black frames before the first would make each game begin in the dark."""
    env = make_env("QbertNoFrameskip-v4")
    describer, (obs, _) = describer_for(env), env.reset(seed=0)
    said = describer.variables(obs[None])[0]
    assert said.mean() == pytest.approx(obs[-1].mean())
    assert said[0] == pytest.approx(obs[-1, :21, :21].mean())


def test_other_games_and_other_environments_have_no_ram() -> None:
    assert isinstance(make_env("QbertNoFrameskip-v4").observation_space, spaces.Box)
    assert isinstance(make_env(PONG, {"objects": False}).observation_space, spaces.Box)
    assert isinstance(make_env(CORRIDOR).observation_space, spaces.Box)


def test_what_is_said_of_the_critic_goes_by_what_the_agent_learnt(tmp_path: Path) -> None:
    """Its critic knows clipped rewards and lives: surprises, the panel, transplants and the prompt are about these,
    returns about the game."""
    small(BREAKOUT).save(tmp_path / "agent.zip")
    config = RunConfig(
        agent=AgentConfig(agent=str(tmp_path / "agent.zip")), task=TaskConfig(env=BREAKOUT),
        collect=CollectConfig(episodes=2, max_steps=800),
    )  # fmt: skip
    run = open_run(config, tmp_path / "run")
    episodes = list(collect(run))
    space = Workspace(run)
    # The score as if only rows of 4 and 7 points had been hit.
    dear = [replace(e, rewards=4 * e.rewards, learnt_rewards=e.as_learnt()[0]) for e in episodes]
    for e, d in zip(episodes, dear, strict=True):
        lives = space.describer.variables(e.observations)[:, space.describer.card.variable_names.index("lives")]
        rewards, ends = d.as_learnt()
        np.testing.assert_array_equal(rewards, np.sign(d.rewards))
        np.testing.assert_array_equal(np.flatnonzero(ends), np.flatnonzero(np.diff(lives) < 0))
        lost = np.flatnonzero(ends)[0]
        value, surprise = e.signals["value"], e.signals["td_error"]
        assert surprise[lost] == pytest.approx(rewards[lost] - value[lost], abs=1e-5)
        assert surprise[0] == pytest.approx(rewards[0] + 0.99 * value[1] - value[0], abs=1e-5)
        to_go = learnt_returns(rollout_of(d, 0.99), 0.99)
        assert to_go[lost] == rewards[lost]
    assert sum(e.learnt_ends.sum() for e in episodes) == 8, "the fifth life ends the game"
    states = of_episodes(dear, space.actor)
    assert len(states.ends) == 10
    assert states.terminated.all()
    assert set(states.rewards) == {0.0, 1.0}
    views = [view_of(d, space.describer) for d in dear]
    assert "clipped to -1, 0 and 1 up to the loss of a life" in signal_words(views)
    assert reward_scale(views) == 1.0
    save_episode(dear[0], tmp_path / "episode.npz")
    again = load_episode(tmp_path / "episode.npz")
    np.testing.assert_array_equal(again.learnt_ends, dear[0].learnt_ends)
    np.testing.assert_array_equal(again.learnt_rewards, dear[0].learnt_rewards)
