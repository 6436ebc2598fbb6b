"""Agents from pixels are taken in as they see their task, games and grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO

pytest.importorskip("ale_py")

from pixel_cases import BREAKOUT, PONG, SMALL, small, taken, trained
from unstuck.agents import find_env_id, zoo_env_kwargs
from unstuck.algorithms import policy_of
from unstuck.cli import main
from unstuck.config import TaskConfig
from unstuck.errors import AgentError
from unstuck.guidance import Action, Advice, Condition, Guidance
from unstuck.guide.plan import Plan
from unstuck.snapshots import check_exact
from unstuck.stages.report.deploy import lines
from unstuck.tasks import describer_for, make_env
from unstuck.tasks.beside import SEEN, Beside, seen, seen_space


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


def test_a_large_replay_buffer_is_told_of(tmp_path: Path) -> None:
    model = small(algorithm=DQN)
    model.buffer_size = 100_000
    model.save(tmp_path / "dqn.zip")
    assert any("buffer of 100,000 transitions takes 5.3 GB" in note for note in taken(tmp_path / "dqn.zip", PONG).notes)
    small(algorithm=DQN).save(tmp_path / "dqn.zip")
    assert not any("replay buffer" in note for note in taken(tmp_path / "dqn.zip", PONG).notes)


def test_a_game_is_described_with_what_the_agent_does_not_see(capsys: pytest.CaptureFixture[str]) -> None:
    main(["describe", "FreewayNoFrameskip-v4", "--states", "1"])
    shown = capsys.readouterr().out
    assert "Notes: Positions are centres in pixels" in shown
    assert "which it does not see" in shown
