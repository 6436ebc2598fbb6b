"""Pong: what is said of its objects must be what the screen shows."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

ale_py = pytest.importorskip("ale_py")

from unstuck.emulators import AleSnapshotter  # noqa: E402
from unstuck.errors import TaskError  # noqa: E402
from unstuck.snapshots import check_exact  # noqa: E402
from unstuck.tasks import describer_for, make_env  # noqa: E402
from unstuck.tasks.atari import StickySkip, objects  # noqa: E402

BALL, PLAYER, ENEMY = (236, 236, 236), (92, 186, 92), (213, 130, 74)


def centre(screen: np.ndarray, colour: tuple[int, int, int], columns: slice) -> tuple[float, float, int] | None:
    """(x, y, height) of what has this colour in the field, found pixel by pixel."""
    rows, cols = np.nonzero((screen[34:194, columns] == np.array(colour)).all(-1))
    if not len(rows):
        return None
    height = int(rows.max() - rows.min() + 1)
    return cols.mean() + columns.start, rows.mean() + 34, height


def emulator(env: Any) -> Any:
    return env.unwrapped.ale


def play(env: Any, steps: int, seed: int = 0) -> Any:
    """Yield (observation, RAM's objects, screen, action) of play that moves about at random."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    action = 0
    for i in range(steps):
        if i % 5 == 0:
            action = int(rng.integers(env.action_space.n))
        obs, _, terminated, truncated, _ = env.step(action)
        yield obs, objects(emulator(env).getRAM()), emulator(env).getScreenRGB(), action
        if terminated or truncated:
            return


def test_the_ram_is_where_the_screen_shows_the_objects() -> None:
    env = make_env("UnstuckPong-v0", {"frameskip": 1})
    seen = {"ball": 0, "player": 0, "enemy": 0}
    flickers = 0
    for _, (in_play, x, y, _, _, player, enemy, *_), screen, _ in play(env, 1500):
        ball = centre(screen, BALL, slice(0, 160))
        flickers += (ball is not None) != bool(in_play)
        if ball is not None and in_play and ball[2] == 4:
            assert abs(ball[0] - x) <= 0.5
            assert abs(ball[1] - y) <= 1
            seen["ball"] += 1
        for name, colour, columns, value in (
            ("player", PLAYER, slice(140, 144), player), ("enemy", ENEMY, slice(16, 20), enemy),
        ):  # fmt: skip
            paddle = centre(screen, colour, columns)
            if paddle is not None and paddle[2] == 16:
                assert abs(paddle[1] - value) <= 1, name
                seen[name] += 1
    assert min(seen.values()) > 200
    assert flickers < 15  # of 1500: a ball is drawn a frame late


def test_speeds_are_the_differences_of_positions() -> None:
    env = make_env("UnstuckPong-v0", {"frameskip": 1})
    states = np.array([state for _, state, _, _ in play(env, 1500)])
    both = (states[1:, 0] > 0) & (states[:-1, 0] > 0)
    moved = (states[1:, 1:3] - states[:-1, 1:3])[both]
    assert both.sum() > 500
    # Not in the frames of a bounce or of a serve.
    assert (moved == states[1:, 3:5][both]).all(axis=1).mean() > 0.93
    assert (moved[:, 0] > 0).any()
    assert (moved[:, 0] < 0).any()


def test_up_goes_up_and_down_goes_down() -> None:
    env = make_env("UnstuckPong-v0", {"repeat_action_probability": 0.0})
    describer = describer_for(env)
    assert describer.card.action.names == ("stay", "up", "down")
    at = describer.card.variable_names.index("player_y")
    for action, sign in ((1, -1), (2, 1)):
        first, _ = env.reset(seed=0)
        for _ in range(12):
            obs, *_ = env.step(action)
        before, after = describer.variables(np.array([first, obs]))[:, at]
        assert sign * (after - before) > 20


def test_scores_count_the_rewards() -> None:
    env = make_env("UnstuckPong-v0")
    describer = describer_for(env)
    # The card of the objects has no scores as variables, but its observation has.
    assert "player_score" not in describer.card.variable_names
    env.reset(seed=0)
    lost = 0.0
    for _ in range(300):
        obs, reward, *_ = env.step(1)
        lost -= reward
    assert lost > 0
    assert obs[-1] * 21 == pytest.approx(lost)


def landings(env_id: str, **kwargs: Any) -> list[float]:
    """How far the first forecast of each approach was from where the ball arrived."""
    env = make_env(env_id, kwargs)
    describer = describer_for(env)
    names = describer.card.variable_names
    at = {n: names.index(n) for n in ("approaching", "landing_y", "ball_x", "ball_y")}
    errors, forecast, last = [], None, np.zeros(len(names))
    for obs, *_ in play(env, 700):
        row = describer.variables(obs[None])[0]
        if row[at["approaching"]] and forecast is None and 60 < row[at["ball_x"]] < 110:
            forecast = row[at["landing_y"]]
        if not row[at["approaching"]]:
            if forecast is not None and last[at["ball_x"]] > 120:
                errors.append(abs(last[at["landing_y"]] - forecast))
            forecast = None
        last = row
    return errors


def test_the_forecast_of_the_landing_comes_true() -> None:
    errors = landings("UnstuckPong-v0")
    assert len(errors) > 5
    assert np.median(errors) < 4


@pytest.mark.parametrize(("env_id", "tolerance"), [("ALE/Pong-v5", 1.0), ("PongNoFrameskip-v4", 2.5)])
def test_objects_found_in_pixels_are_those_of_the_ram(env_id: str, tolerance: float) -> None:
    if env_id.startswith("PongNo"):
        pytest.importorskip("cv2")
    env = make_env(env_id, {"objects": False})
    describer = describer_for(env)
    frames, rams = zip(*[(obs, ram) for obs, ram, _, _ in play(env, 250)], strict=True)
    values, truth = describer.variables(np.array(frames)), np.array(rams)
    assert np.mean(values[:, 0] == truth[:, 0]) > 0.98
    both = (values[:, 0] > 0) & (truth[:, 0] > 0)
    assert both.sum() > 50
    assert np.percentile(np.abs(values - truth[:, [*range(7), *[0] * 5]])[both, 1:3], 95) <= tolerance
    assert np.percentile(np.abs(values[:, 5:7] - truth[:, 5:7]), 75) <= tolerance + 4


def test_a_stack_reads_the_same_channels_first_and_last() -> None:
    pytest.importorskip("cv2")
    env = make_env("PongNoFrameskip-v4", {"objects": False})
    describer = describer_for(env)
    frames = np.array([obs for obs, *_ in play(env, 60)])
    assert frames.shape == (60, 4, 84, 84)
    assert np.array_equal(describer.variables(frames), describer.variables(np.moveaxis(frames, 1, -1)))


def test_sticky_actions_repeat_as_often_as_they_should() -> None:
    from gymnasium import Env, spaces

    class Tape(Env):
        action_space, observation_space = spaces.Discrete(2), spaces.Discrete(2)

        def __init__(self) -> None:
            self.tape: list[int] = []

        def step(self, action: int) -> Any:
            self.tape.append(action)
            return 0, 1.0, False, False, {}

    tape = Tape()
    env = StickySkip(tape, skip=1, sticky=0.25)
    tape.np_random = np.random.default_rng(0)
    for i in range(4000):
        env.step(i % 2)
    wrong = np.mean(np.array(tape.tape) != np.arange(4000) % 2)
    # Wrong after an odd number of repeats: p / (1 + p).
    assert abs(wrong - 0.2) < 0.03
    assert StickySkip(Tape(), skip=4, sticky=0.0).step(1)[1] == 4.0


def test_sticky_actions_are_branched_exactly() -> None:
    at = tuple(i / 10 for i in range(10))
    report = check_exact(lambda: make_env("UnstuckPong-v0"), steps=60, at=at, snapshotter=AleSnapshotter())
    assert len(report.branches) == 10
    assert report.exact
    # The emulator's own are not, which is why it does not make them: this test says when that is over.
    theirs = partial(gym.make, "ALE/Pong-v5", obs_type="ram")
    assert not check_exact(theirs, steps=60, at=at, snapshotter=AleSnapshotter()).exact


def test_errors_say_what_to_do() -> None:
    with pytest.raises(TaskError, match="There are: sb3, raw"):
        make_env("ALE/Pong-v5", {"observation": "pixels"})
    with pytest.raises(TaskError, match="ale-py has no environment"):
        make_env("ALE/Pnog-v5")


def test_other_games_get_the_generic_describer() -> None:
    env = make_env("ALE/Qbert-v5")
    assert type(describer_for(env)).__name__ == "FlatDescriber"
