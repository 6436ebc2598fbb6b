"""Frames of critical states: drawn from the state of the evidence, small, and never a reason to fail."""

from __future__ import annotations

import base64
import io
import os

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image, ImageFont

from test_report import add_episodes, make_run
from unstuck.config import TaskConfig
from unstuck.episodes import Episode, EpisodeSet
from unstuck.guidance import Advice, Evidence
from unstuck.simulators import MujocoSnapshotter
from unstuck.stages.report.frames import LIMIT, WIDTH, png_url, render_frames
from unstuck.watching import caption

CAR = TaskConfig(env="MountainCar-v0")


def at(step: int, episode: int = 0) -> Advice:
    return Advice(id=f"{episode}-{step}", kind="state", why="", evidence=Evidence(episode=episode, step=step))


def pixels(url: str) -> np.ndarray:
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("run"))
    add_episodes(run)
    return EpisodeSet(run.root / "collect")


def test_the_frame_shows_the_state_of_the_evidence(episodes):
    frames = render_frames(CAR, episodes, [at(0), at(55)])
    assert not frames.problem
    env = gym.make("MountainCar-v0", render_mode="rgb_array")
    for step in (0, 55):
        env.reset(seed=0)
        env.unwrapped.state = episodes[0].observations[step]
        drawn, expected = pixels(frames.urls[f"0-{step}"]), pixels(png_url(env.render()))
        assert np.abs(drawn - expected).mean() < 0.05
    env.close()
    assert np.abs(pixels(frames.urls["0-0"]) - pixels(frames.urls["0-55"])).mean() > 0.2


def test_frames_are_few_and_small(episodes):
    frames = render_frames(CAR, episodes, [at(s) for s in range(LIMIT + 3)])
    assert len(frames.urls) == LIMIT
    assert all(pixels(u).shape[1] == WIDTH for u in frames.urls.values())


def test_evidence_that_is_gone_has_no_frame(episodes):
    frames = render_frames(CAR, episodes, [at(5), at(5, episode=9), at(61)])
    assert (list(frames.urls), frames.problem) == (["0-5"], "")


def test_a_task_that_cannot_be_made_says_why(episodes):
    frames = render_frames(TaskConfig(env="NoSuchTask-v0"), episodes, [at(5)])
    assert not frames.urls
    assert "NoSuchTask" in frames.problem


def test_the_environment_variables_are_left_as_they_were(episodes):
    before = dict(os.environ)
    render_frames(CAR, episodes, [at(1)])
    assert dict(os.environ) == before


def test_mujoco_from_stored_snapshots(tmp_path):
    pytest.importorskip("mujoco")
    env, saver = gym.make("Hopper-v5"), MujocoSnapshotter()
    obs, _ = env.reset(seed=0)
    seen, states, actions = [obs], [saver.save(env)], np.zeros((40, 3))
    for action in actions:
        seen.append(env.step(action)[0])
        states.append(saver.save(env))
    env.close()
    found = EpisodeSet(tmp_path)
    found.add(Episode(0, 0, True, np.stack(seen), actions, np.ones(40), False, False, {}, np.stack(states)))
    frames = render_frames(TaskConfig(env="Hopper-v5"), found, [at(1), at(40)])
    if frames.problem:
        pytest.skip(f"no drawing with MuJoCo here: {frames.problem}")
    assert np.abs(pixels(frames.urls["0-1"]) - pixels(frames.urls["0-40"])).mean() > 0.5


def test_steps_of_one_episode_are_drawn_in_one_replay(episodes, monkeypatch):
    """A window costs one way through its episode, and each picture is that of its own step."""
    from unstuck import rendering

    restored = []
    real = rendering.restore_episode_step
    monkeypatch.setattr(
        rendering, "restore_episode_step", lambda env, e, step, how: restored.append(step) or real(env, e, step, how)
    )
    drawn = rendering.draw_steps(CAR, episodes, {"window": (0, (40, 20, 30, 99)), "gone": (7, (1,))})
    assert [step for step, _ in drawn.pictures["window"]] == [20, 30, 40]
    assert restored == [20]
    assert list(drawn.pictures) == ["window"]
    alone = rendering.draw_steps(CAR, episodes, {"one": (0, (40,))}).pictures["one"][0][1]
    assert np.array_equal(drawn.pictures["window"][-1][1], alone)


@pytest.mark.parametrize("width", [180, 300, 400])
@pytest.mark.parametrize("label", ["before  ", "after  "])
def test_what_is_written_below_a_picture_is_not_cut(width, label):
    text, size = caption(label, 10_000, -123.0, -1_234.0, width)
    assert text.endswith("return -1234")
    assert ImageFont.load_default(size=size).getlength(text) <= width
