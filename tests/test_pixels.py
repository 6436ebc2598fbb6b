"""Agents that see pixels: games as Stable-Baselines3 makes them, and their RAM, which only describers read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

pytest.importorskip("ale_py")

from unstuck.agents import build_policy, find_env_id, load_agent, zoo_env_kwargs
from unstuck.algorithms import policy_of
from unstuck.config import AgentConfig, CollectConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.emulators import AleSnapshotter
from unstuck.episodes import Episode, as_snapshots, load_episode, save_episode
from unstuck.errors import AgentError, RunError, UnstuckError
from unstuck.guidance import Action, Advice, Condition, Guidance, Term
from unstuck.guide.on_policy import Lessons
from unstuck.guide.plan import Plan
from unstuck.intake import take_in
from unstuck.keys import STATE_VARIABLE
from unstuck.learner import Learner
from unstuck.pace import announcement, seconds_per_step
from unstuck.pipeline import open_run
from unstuck.preflight import check_device
from unstuck.race.legs import play
from unstuck.simulators import ReplaySnapshotter
from unstuck.snapshots import check_exact, restore_episode_step, snapshotter_for
from unstuck.stages.collect import collect
from unstuck.stages.report.deploy import lines
from unstuck.tasks import describer_for, make_env
from unstuck.tasks.atari import LIFE_LOST, TRAINED_REWARD
from unstuck.tasks.atari_games import GAMES
from unstuck.tasks.beside import RAM, SEEN, Beside, seen, seen_space
from unstuck.testing import CORRIDOR
from unstuck.treatments import States, afresh, quieter
from unstuck.vecenvs import make_vec_env
from unstuck.workspace import Workspace

PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"
IDS = {"breakout": BREAKOUT, "freeway": "FreewayNoFrameskip-v4", "boxing": "BoxingNoFrameskip-v4",
       "space_invaders": "SpaceInvadersNoFrameskip-v4"}  # fmt: skip
SMALL = {"features_extractor_kwargs": {"features_dim": 16}}


def small(env_id: str = PONG, frames: int = 4, algorithm: Any = PPO, **more: Any) -> Any:
    """An untrained agent as Stable-Baselines3 makes one for pixels."""
    env = VecFrameStack(make_atari_env(env_id, 1, seed=0), frames)
    sizes: dict[str, Any] = {"n_steps": 8} if algorithm is PPO else {"buffer_size": 10}
    return algorithm("CnnPolicy", env, policy_kwargs=SMALL, seed=0, device="cpu", **sizes, **more)


@pytest.fixture(scope="module")
def pong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pixels") / "pong.zip"
    small().save(path)
    return path


def zoo(folder: Path, agent: Path, env_id: str, config: str) -> Path:
    """A folder as RL Zoo leaves it."""
    home = folder / f"ppo-{env_id}_1"
    (home / env_id).mkdir(parents=True)
    (home / f"{env_id}.zip").write_bytes(agent.read_bytes())
    head = "!!python/object/apply:collections.OrderedDict\n"
    (home / env_id / "config.yml").write_text(head + config)
    (home / env_id / "args.yml").write_text(f"{head}- - - algo\n    - ppo\n  - - env\n    - {env_id}\n")
    return home


WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"
CONFIG = f"- - - env_wrapper\n    - - {WRAPPER}\n  - - frame_stack\n    - 4\n  - - policy\n    - CnnPolicy\n"


# ------------------------------------------------------------------------------------------------- games


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


def test_changes_are_those_of_a_step_and_nothing_at_the_start() -> None:
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


def test_other_games_and_other_environments_have_no_ram() -> None:
    assert isinstance(make_env("QbertNoFrameskip-v4").observation_space, spaces.Box)
    assert isinstance(make_env(PONG, {"objects": False}).observation_space, spaces.Box)
    assert isinstance(make_env(CORRIDOR).observation_space, spaces.Box)


# ------------------------------------------------------------------------------------------------ loading


def taken(agent: Path, env: str = "", **kwargs: Any) -> Any:
    return take_in(RunConfig(agent=AgentConfig(agent=str(agent)), task=TaskConfig(env=env, env_kwargs=kwargs)))


def test_a_folder_of_rl_zoo_says_it_all(tmp_path: Path, pong: Path) -> None:
    home = zoo(tmp_path, pong, PONG, CONFIG)
    assert find_env_id(home) == PONG
    intake = taken(home)
    assert (intake.config.task.env, intake.config.task.env_kwargs) == (PONG, {})
    assert any("whole game" in note for note in intake.notes)


def test_arguments_of_the_wrapper_are_kept(tmp_path: Path, pong: Path) -> None:
    config = CONFIG.replace(
        WRAPPER, f"{WRAPPER}:\n            terminal_on_life_loss: false\n            clip_reward: false"
    )
    home = zoo(tmp_path, pong, BREAKOUT, config.replace("- 4\n", "- 2\n"))
    kwargs = zoo_env_kwargs(home, BREAKOUT)
    assert kwargs == {"terminal_on_life_loss": False, "clip_reward": False, "frame_stack": 2}
    env = make_env(BREAKOUT, kwargs)
    assert env.observation_space[SEEN].shape == (2, 84, 84)
    assert "EpisodicLifeEnv" not in str(env)


@pytest.mark.parametrize(
    ("env_id", "frames", "expected"),
    [(PONG, 4, {}), (PONG, 2, {"frame_stack": 2}), ("ALE/Pong-v5", 4, {"observation": "sb3"})],
)
def test_a_zip_says_what_it_sees(tmp_path: Path, env_id: str, frames: int, expected: dict[str, Any]) -> None:
    small(frames=frames).save(tmp_path / "agent.zip")
    intake = taken(tmp_path / "agent.zip", env_id)
    assert intake.config.task.env_kwargs == expected
    assert any("16 in all" in note for note in intake.notes) == env_id.startswith("ALE")
    assert describer_for(make_env(env_id, expected)).card.variable_names[0] == "ball_in_play"


def test_what_does_not_fit_is_refused_with_words(tmp_path: Path, pong: Path) -> None:
    with pytest.raises(AgentError, match="array of 4 × 84 × 84"):
        taken(pong, "CartPole-v1")


def test_the_lines_that_play_an_agent_need_no_unstuck(pong: Path) -> None:
    imports, made, play = lines(pong, None, TaskConfig(env=PONG))
    assert "unstuck" not in imports + made + play.replace(str(pong), "")
    assert made == f'env = vec_env.VecFrameStack(env_util.make_atari_env("{PONG}"), 4)'
    kwargs = {"observation": "sb3", "frame_stack": 2, "noop_max": 5, "frameskip": 1}
    assert lines(pong, None, TaskConfig(env="ALE/Pong-v5", env_kwargs=kwargs))[1] == (
        'env = vec_env.VecFrameStack(env_util.make_atari_env("ALE/Pong-v5", wrapper_kwargs={"noop_max": 5}, '
        'env_kwargs={"frameskip": 1}), 2)'
    )


# --------------------------------------------------------------------------------------------------- grids

EMPTY, DOORKEY = "MiniGrid-Empty-5x5-v0", "MiniGrid-DoorKey-5x5-v0"


class AgentsPart(gym.ObservationWrapper):
    """What the agent sees of an environment that shows more."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = seen_space(env.observation_space)

    def observation(self, observation: Any) -> Any:
        return seen(observation)


@pytest.mark.parametrize("observation", ["image", "full"])
def test_a_grid_is_shown_as_the_agent_sees_it(tmp_path: Path, observation: str) -> None:
    pytest.importorskip("minigrid")
    env = make_env(EMPTY, {"observation": observation})
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu", policy_kwargs={"net_arch": [4]})
    model.save(tmp_path / "agent.zip")
    intake = taken(tmp_path / "agent.zip", EMPTY)
    assert intake.config.task.env_kwargs == {"observation": observation}
    obs, _ = env.reset(seed=0)
    policy = policy_of(intake.agent, env.observation_space, env.action_space)
    assert policy.act(obs[None])[0] == model.predict(obs, deterministic=True)[0]
    assert type(describer_for(env)).__name__ == "GridDescriber"


def test_a_grid_drawn_in_pixels_is_drawn_here_too(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    wrappers = ["minigrid.wrappers.RGBImgPartialObsWrapper", "minigrid.wrappers.ImgObsWrapper"]
    home = tmp_path / f"ppo-{EMPTY}_1"
    (home / EMPTY).mkdir(parents=True)
    text = "!!python/object/apply:collections.OrderedDict\n- - - env_wrapper\n    - - " + "\n      - ".join(wrappers)
    (home / EMPTY / "config.yml").write_text(text + "\n")
    kwargs = zoo_env_kwargs(home, EMPTY)
    assert kwargs == {"observation": "raw", "env_wrapper": wrappers}
    env = make_env(EMPTY, kwargs)
    assert isinstance(env.observation_space, Beside)
    assert seen_space(env.observation_space).shape == (56, 56, 3)
    assert describer_for(env).card.action.names[:3] == ("left", "right", "forward")


@pytest.mark.parametrize(("drawn", "symbols"), [("rgb", "image"), ("rgb-full", "full")])
def test_symbols_beside_a_grid_in_pixels_are_what_is_drawn(tmp_path: Path, drawn: str, symbols: str) -> None:
    pytest.importorskip("minigrid")
    env, other = (make_env(DOORKEY, {"observation": kind}) for kind in (drawn, symbols))
    describer, expected = describer_for(env), describer_for(other)
    assert describer.card.variable_names == expected.card.variable_names
    assert "drawn in pixels" in describer.card.notes
    obs, wanted = env.reset(seed=3)[0], other.reset(seed=3)[0]
    rng = np.random.default_rng(0)
    for _ in range(60):
        now = describer.variables({k: v[None] for k, v in obs.items()})
        np.testing.assert_array_equal(now, expected.variables(wanted[None]))
        action = int(rng.integers(6))
        obs, wanted = env.step(action)[0], other.step(action)[0]
    assert check_exact(lambda: make_env(DOORKEY, {"observation": drawn}), steps=60).exact
    model = PPO("CnnPolicy", AgentsPart(env), n_steps=8, batch_size=8, device="cpu", policy_kwargs=SMALL)
    model.save(tmp_path / "agent.zip")
    intake = taken(tmp_path / "agent.zip", DOORKEY)
    assert intake.config.task.env_kwargs == {"observation": drawn}
    policy = policy_of(intake.agent, env.observation_space, env.action_space)
    batch = {k: v[None] for k, v in obs.items()}
    assert policy.act(batch)[0] == model.predict(obs[SEEN], deterministic=True)[0]


# ----------------------------------------------------------------------------------------------- training

DOWN = Guidance(
    env_id=PONG,
    diagnosis="",
    advice=(
        Advice(id="r", kind="rule", why="", when=(Condition(variable="player_y", op="<", value=300.0),),
               action=Action(index=3)),
    ),
    reward_terms=(Term(variable="player_y", above=0.0, weight=0.01, cap=1.0),),
)  # fmt: skip


def trained(
    tmp_path: Path, agent: Path, plan: Plan, env_id: str = PONG, guidance: Guidance = DOWN, **settings: Any
) -> Any:
    config = RunConfig(
        agent=AgentConfig(agent=str(agent)), task=TaskConfig(env=env_id, env_kwargs={"max_episode_steps": 20}),
        collect=CollectConfig(episodes=2, max_steps=100),
    )  # fmt: skip
    run = open_run(config, tmp_path / "run")
    collect(run)
    sizes = {"n_envs": 2, "n_steps": 16, "batch_size": 32, "n_epochs": 2, "critic_warmup": 0}
    train = TrainConfig(**{**sizes, **settings})
    (tmp_path / "trained").mkdir()
    learner = Learner(Workspace(run), train, plan, guidance, 1, 64, tmp_path / "trained")
    return learner, learner.learn(0)


def test_ram_guides_what_learns_from_pixels(tmp_path: Path, pong: Path) -> None:
    learner, outcome = trained(tmp_path, pong, Plan(terms=True, imitate=1.0))
    assert outcome["hit_rate"] == 1.0
    line = (tmp_path / "trained" / "curve.jsonl").read_text().splitlines()[-1]
    assert '"imitation": null' not in line
    assert '"bonus_mean": 0.0,' not in line
    model = PPO.load(tmp_path / "trained" / "agent.zip", device="cpu")
    assert model.observation_space.shape == (4, 84, 84)
    assert model.rollout_buffer is None or model.rollout_buffer.observations.dtype == np.uint8
    assert learner.model.rollout_buffer.observations.dtype == np.uint8


def test_symbols_guide_what_learns_from_a_grid_in_pixels(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    env = AgentsPart(make_env(DOORKEY, {"observation": "rgb"}))
    model = PPO("CnnPolicy", env, seed=0, n_steps=8, batch_size=8, device="cpu", policy_kwargs=SMALL)
    model.save(tmp_path / "agent.zip")
    rule = Advice(
        id="r", kind="rule", why="", when=(Condition(variable="blocked_front", op=">=", value=0.0),),
        action=Action(index=0),
    )  # fmt: skip
    guidance = Guidance(env_id=DOORKEY, diagnosis="", advice=(rule,))
    outcome = trained(
        tmp_path, tmp_path / "agent.zip", Plan(imitate=1.0), DOORKEY, guidance=guidance, learning_rate=1e-3
    )[1]
    assert outcome["hit_rate"] == 1.0
    refined = PPO.load(tmp_path / "trained" / "agent.zip", device="cpu")
    assert refined.observation_space.shape == (3, 56, 56)
    seen_now = np.moveaxis(env.reset(seed=5)[0], -1, 0)[None]
    left = [m.policy.get_distribution(torch.as_tensor(seen_now)).distribution.probs[0, 0] for m in (model, refined)]
    assert left[1] > left[0]


def test_what_is_refined_plays_from_pixels_alone_what_was_measured(tmp_path: Path) -> None:
    """Loaded by Stable-Baselines3 into its own games, without Unstuck, it has the returns that are reported."""
    model = small(BREAKOUT)
    with torch.no_grad():
        model.policy.action_net.weight *= 3_000  # acts by what it sees
    model.save(tmp_path / "breakout.zip")
    trained(tmp_path, tmp_path / "breakout.zip", Plan(), BREAKOUT)
    zipped, seeds = tmp_path / "trained" / "agent.zip", (1, 2, 3)
    task = TaskConfig(env=BREAKOUT)
    space = SimpleNamespace(make_env=lambda: make_env(task.env, task.env_kwargs))
    measured, _ = play(space, load_agent(zipped), seeds, "deterministic")
    plain = PPO.load(zipped, device="cpu")
    found = [
        evaluate_policy(plain, VecFrameStack(make_atari_env(BREAKOUT, 1, seed=seed), 4), n_eval_episodes=1)[0]
        for seed in seeds
    ]
    assert found == measured
    assert len(set(measured)) > 1, "it plays otherwise from other starts"


def test_how_long_training_takes_is_said_of_convolutions_too(tmp_path: Path, pong: Path) -> None:
    task = TaskConfig(env=PONG)
    config = RunConfig(agent=AgentConfig(agent=str(pong)), task=task, train=TrainConfig(n_epochs=1, steps=100_000))
    run = open_run(config, tmp_path / "run")
    once = seconds_per_step(Workspace(run), run.config.train, 32)
    often = seconds_per_step(Workspace(run), run.config.train.model_copy(update={"n_epochs": 40}), 32)
    assert once is not None
    assert often is not None
    assert often > 3 * once > 0
    assert "; about" in announcement(run)


def test_the_noise_of_an_agent_from_pixels_can_be_turned_down(pong: Path) -> None:
    agent = load_agent(pong)
    states = np.random.default_rng(0).integers(0, 255, (6, 4, 84, 84), dtype=np.uint8)
    spaces = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), gym.spaces.Discrete(6)
    loud, quiet = (policy_of(a, *spaces) for a in (agent, quieter(agent, spaces[1], 0.01)))
    np.testing.assert_array_equal(loud.act(states), quiet.act(states))
    chosen = [p.signals(states)["action_prob"].max(axis=1) for p in (loud, quiet)]
    assert (chosen[1] > chosen[0] + 0.05).all()


def test_new_convolutions_answer_to_what_is_seen(pong: Path) -> None:
    env = make_env(PONG)
    frames = [env.reset(seed=0)[0][SEEN], *(env.step(i % 6)[0][SEEN] for i in range(99))]
    n = len(frames)
    states = States(np.array(frames), np.zeros(n, np.int64), np.full((n, 6), 1 / 6), np.zeros(n), np.array([n - 1]),
                    np.array([False]), np.array(frames[-1:]))  # fmt: skip
    agent, shown = load_agent(pong), torch.as_tensor(states.observations)
    spread = {}
    for name, given in (("as it comes", None), ("fitted", states)):
        new = afresh(agent, given, env.observation_space, env.action_space, seed=1)
        policy = build_policy(new, env.observation_space, env.action_space)
        with torch.no_grad():
            first = policy.features_extractor.cnn[0](shown.float() / 255)
            spread[name] = policy.extract_features(shown).std(dim=0).mean()
    np.testing.assert_allclose(first.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(first.std(dim=(0, 2, 3)), 1, atol=1e-3)
    assert spread["fitted"] > 3 * spread["as it comes"]


def test_convolutions_are_kept_as_they_are_quick_and_saved_as_they_are_usual(tmp_path: Path, pong: Path) -> None:
    learner, _ = trained(tmp_path, pong, Plan())
    weight = learner.model.policy.features_extractor.cnn[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    saved = PPO.load(tmp_path / "trained" / "agent.zip", device="cpu").policy.features_extractor.cnn[0].weight
    assert saved.is_contiguous()
    torch.testing.assert_close(saved, weight)


def test_what_was_suggested_in_earlier_rollouts_is_remembered(tmp_path: Path, pong: Path) -> None:
    learner, _ = trained(tmp_path, pong, Plan(imitate=1.0, imitate_memory=40))
    lessons = learner.trainer.attached.imitation.lessons
    assert len(lessons) == 40, "64 steps, of which 40 have room"
    obs, suggested = lessons.draw(500)
    assert obs.shape == (500, 4, 84, 84)
    assert obs.dtype == np.uint8
    assert set(suggested) == {3}
    assert '"imitation": null' not in (tmp_path / "trained" / "curve.jsonl").read_text().splitlines()[-1]


def test_each_state_is_as_likely_to_be_remembered() -> None:
    kept = []
    for seed in range(300):
        lessons = Lessons(5, spaces.Box(0, 255, (1,), np.uint8), spaces.Discrete(2), seed)
        for i in range(0, 20, 4):
            lessons.add(np.arange(i, i + 4, dtype=np.uint8)[:, None], np.zeros(4))
        assert len(lessons) == 5
        kept += lessons.draw(50)[0].ravel().tolist()
    shares = np.bincount(kept, minlength=20) / len(kept)
    np.testing.assert_allclose(shares, 1 / 20, atol=0.02)


def test_remembering_is_refused_where_nothing_would_remember(tmp_path: Path) -> None:
    PPO("MlpPolicy", make_env(CORRIDOR), n_steps=8, batch_size=8, device="cpu").save(tmp_path / "agent.zip")
    config = RunConfig(agent=AgentConfig(agent=str(tmp_path / "agent.zip")), task=TaskConfig(env=CORRIDOR))
    run = open_run(config, tmp_path / "run")
    guidance = DOWN.model_copy(update={"env_id": CORRIDOR, "advice": (), "reward_terms": ()})
    always = Advice(id="r", kind="rule", why="", when=(Condition(variable="obs_0", op="<", value=9.0),),
                    action=Action(index=1))  # fmt: skip
    guidance = guidance.model_copy(update={"advice": (always,)})
    with pytest.raises(AgentError, match="leave it out"):
        Learner(Workspace(run), TrainConfig(), Plan(imitate=1.0, imitate_memory=5), guidance, 1, 64, tmp_path)


def test_a_device_that_is_not_there_is_said_before_anything_runs() -> None:
    check_device("cpu")
    with pytest.raises(UnstuckError, match=r"--train\.device cuda:99: torch .* finds no such device"):
        check_device("cuda:99")


def test_a_large_replay_buffer_is_told_of(tmp_path: Path) -> None:
    model = small(algorithm=DQN)
    model.buffer_size = 100_000
    model.save(tmp_path / "dqn.zip")
    assert any("buffer of 100,000 transitions takes 5.3 GB" in note for note in taken(tmp_path / "dqn.zip", PONG).notes)
    small(algorithm=DQN).save(tmp_path / "dqn.zip")
    assert not any("replay buffer" in note for note in taken(tmp_path / "dqn.zip", PONG).notes)


def test_a_replay_buffer_keeps_pixels_and_the_variables_of_ram(tmp_path: Path) -> None:
    small(algorithm=DQN, learning_starts=4).save(tmp_path / "dqn.zip")
    learner, _ = trained(
        tmp_path, tmp_path / "dqn.zip", Plan(terms=True, imitate=1.0), replay={"n_envs": 2, "batch_size": 8}
    )
    buffer = learner.model.replay_buffer
    assert buffer.observations.dtype == np.uint8
    assert buffer.observations.shape[2:] == (4, 84, 84)
    at = learner.guide.source.describer.card.variable_names.index("player_y")
    assert (buffer.values[: buffer.pos, :, at] > 20).all()
