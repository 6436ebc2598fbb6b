"""Pong in named variables: from the objects of UnstuckPong, from the RAM, alone or beside pixels, or found by colour in
an agent's pixels.

Pixels that are understood: the screen in colour, (210, 160, 3); and 84 x 84 grey frames made from the whole screen,
one or a stack, channels first or last, oldest first, as the wrappers of Stable-Baselines3 and Gymnasium make them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.tasks.atari import (
    CENTRE_X,
    CENTRE_Y,
    FIELD_BOTTOM,
    FIELD_TOP,
    FRAME_SKIP,
    OBJECTS,
    SCALE,
    SHIFT,
    frames_in_a_step,
    objects_of,
)
from unstuck.tasks.atari_games import PIXELS, rams
from unstuck.tasks.beside import Beside
from unstuck.tasks.builder import discrete, env_id, flag, max_episode_steps, var
from unstuck.tasks.card import ActionSpec, Obs, TaskCard, Variable

PLAYER_X = 138.0
"""Where the centre of the ball is when it touches the agent's paddle."""
_TOP, _BOTTOM = FIELD_TOP + 1.5, FIELD_BOTTOM - 1.5  # of the ball's centre, which is 4 rows high
_HALF = 8.0  # of a paddle, in rows

_INEXACT = (
    " Found by colour in the agent's pixels; in small grey frames, which blend the last two frames of the game, within "
    "about 2 pixels, and a paddle that moves fast within about half of what it moves in a frame."
)

Look = Callable[[Any], np.ndarray]
"""Observations (N, *obs_shape) → the columns of `_SEEN` (N, 7), in pixels."""
_SEEN = OBJECTS[:7]


@dataclass(frozen=True)
class PongDescriber:
    """Objects of the game, then what follows from them."""

    card: TaskCard
    look: Look
    per_step: int = FRAME_SKIP
    """Frames of the emulator in a step."""

    def variables(self, obs: Obs) -> np.ndarray:
        """(N, *obs_shape) → (N, V) float64."""
        seen = self.look(obs if isinstance(obs, Mapping) else np.asarray(obs))
        return np.column_stack([seen, _derived(seen, self.per_step)])


def pong(env: Any) -> PongDescriber | None:
    """A describer of any Pong whose observation is understood, else None."""
    shape = env.observation_space.shape
    if isinstance(env.observation_space, Beside):
        look = _look_beside
    elif env.observation_space.dtype == np.float32 and shape == (len(OBJECTS),):
        look = _look_objects
    elif shape == (128,):
        look = _look_ram
    elif shape == (210, 160, 3):
        look = _look_colour
    elif shape in ((84, 84), (1, 84, 84), (84, 84, 1), (4, 84, 84), (84, 84, 4)):
        look = _look_grey
    else:
        return None
    card = TaskCard(
        env_id=env_id(env),
        goal="Play Pong on the right (green paddle) against the computer on the left: hit the ball with the paddle so "
        "that the other one misses it, and miss none.",
        reward="+1 when the other side misses the ball, -1 when this side misses it, else 0.",
        termination="Ends when one side has 21 points.",
        variables=(*_variables(still=look is _look_colour, given=look in _KNOWING), *_derived_variables()),
        action=_actions(env),
        max_episode_steps=max_episode_steps(env),
        notes="Positions are centres in pixels of the 160 wide, 210 high screen; x grows to the right, y grows DOWN, "
        f"the field reaches from y = {FIELD_TOP:.0f} to {FIELD_BOTTOM:.0f}; paddles are 16 high, the ball 4. The "
        "farther from its middle a paddle hits the ball, the steeper and faster the ball goes back."
        + ("" if look in (_look_objects, _look_ram) else PIXELS if look is _look_beside else _INEXACT),
    )  # fmt: skip
    return PongDescriber(card, look, frames_in_a_step(env))


def _variables(still: bool, given: bool) -> list[Variable]:
    """`still`: the observation is one frame and shows no speed. `given`: it holds the objects."""
    speed = "; one frame shows no speed, so always 0" if still else ""
    found = [
        flag("ball_in_play", "1 while a ball is on the field; else ball_x and ball_y are the centre of the field"),
        var("ball_x", "0 = left; the other paddle is at 17.5, the agent's at 141.5", "px", 0, 160),
        var("ball_y", "0 = top of the screen", "px", 26, 202),
        var("ball_dx", f"positive = towards the agent's paddle{speed}", "px/frame", -8, 8),
        var("ball_dy", f"positive = down{speed}", "px/frame", -8, 8),
        var("player_y", "the agent's paddle", "px", 26, 201),
        var("enemy_y", "the other paddle", "px", 26, 201),
    ]
    return found if given else [v.model_copy(update={"derived": True}) for v in found]


def _derived_variables() -> list[Variable]:
    late = "; 0 unless approaching"
    texts = [
        flag("approaching", "1 if the ball flies towards the agent's paddle and has not passed it"),
        var("ball_offset", "ball_y - player_y: positive = the ball is below the middle of the paddle, so go down; 0 "
            "while no ball is in play", "px", -180, 180),
        var("landing_y", "where the ball will reach the agent's paddle, with bounces off the walls; the centre of the "
            "field unless approaching", "px", 26, 202),
        var("landing_offset", f"landing_y - player_y: positive = go down; within 8 = a hit{late}", "px", -180, 180),
        var("steps_to_paddle", f"steps until the ball reaches the agent's paddle{late}", "steps", 0, 300),
    ]  # fmt: skip
    return [v.model_copy(update={"derived": True}) for v in texts]


_MEANINGS = {
    "NOOP": ("stay", "no button"), "FIRE": ("fire", "as stay"),
    "RIGHT": ("up", "moves the paddle up, y falls"), "LEFT": ("down", "moves the paddle down, y grows"),
    "RIGHTFIRE": ("up_fire", "as up"), "LEFTFIRE": ("down_fire", "as down"),
}  # fmt: skip


def _actions(env: Any) -> ActionSpec:
    meanings = env.unwrapped.get_action_meanings()
    if env.action_space.n == 3:
        meanings = ["NOOP", "RIGHT", "LEFT"]
    texts = {_MEANINGS.get(m, (m.lower(), ""))[0]: _MEANINGS.get(m, ("", ""))[1] for m in meanings}
    return discrete(**texts)


def _derived(seen: np.ndarray, per_step: int) -> np.ndarray:
    """(N, 7) → (N, 5)."""
    in_play, x, y, dx, dy, player, _ = seen.T
    approaching = (in_play > 0) & (dx > 0.2) & (x < PLAYER_X)
    frames = np.divide(PLAYER_X - x, dx, out=np.zeros_like(x), where=approaching)
    landing = np.where(approaching, _bounce(y + dy * frames), CENTRE_Y)
    return np.column_stack([
        approaching, np.where(in_play > 0, y - player, 0.0), landing,
        np.where(approaching, landing - player, 0.0), np.minimum(frames / per_step, 300),
    ])  # fmt: skip


def _bounce(y: np.ndarray) -> np.ndarray:
    """A height without walls → the height between them: a triangle wave."""
    span = _BOTTOM - _TOP
    phase = np.mod(y - _TOP, 2 * span)
    return _TOP + np.minimum(phase, 2 * span - phase)


# ------------------------------------------------------------------------------------------------ looking


def _look_objects(obs: np.ndarray) -> np.ndarray:
    # float32 of the observation gives 92.49999; halves are exact.
    return np.round(2 * (obs.astype(np.float64) * SCALE + SHIFT)[:, : len(_SEEN)]) / 2


def _look_beside(obs: Any) -> np.ndarray:
    return objects_of(rams(obs)[:, -1])[:, : len(_SEEN)]


def _look_ram(obs: np.ndarray) -> np.ndarray:
    return objects_of(np.asarray(obs, np.float64))[:, : len(_SEEN)]


def _in_chunks(frames: np.ndarray, find: Look) -> np.ndarray:
    """Frames are large: 64 at a time."""
    return np.concatenate([find(frames[i : i + 64]) for i in range(0, len(frames), 64)])


def _look_colour(obs: np.ndarray) -> np.ndarray:
    """(N, 210, 160, 3)."""
    found = _in_chunks(obs, _find_colour)
    still = np.zeros((len(found), 2))
    return np.column_stack([found[:, :3], still, found[:, 3:]])


def _look_grey(obs: np.ndarray) -> np.ndarray:
    """(N, 84, 84) or a stack of such, channels first or last."""
    stack = obs[:, None] if obs.ndim == 3 else obs if obs.shape[-1] == 84 else np.moveaxis(obs, -1, 1)
    now = _in_chunks(stack[:, -1], _find_grey)
    speed = np.zeros((len(now), 2))
    if stack.shape[1] > 1:
        before = _in_chunks(stack[:, -2], _find_grey)
        both = (now[:, 0] > 0) & (before[:, 0] > 0)
        speed[both] = np.clip((now - before)[both, 1:3] / FRAME_SKIP, -8, 8)
    return np.column_stack([now[:, :3], speed, now[:, 3:]])


_KNOWING = (_look_objects, _look_ram, _look_beside)
"""What need not find objects."""


_BALL, _PLAYER, _ENEMY = (236, 236, 236), (92, 186, 92), (213, 130, 74)


def _find_colour(frames: np.ndarray) -> np.ndarray:
    """(N, 210, 160, 3) → (N, 5): ball in play, x, y, player y, enemy y."""
    field = frames[:, int(FIELD_TOP) : int(FIELD_BOTTOM) + 1]
    rows, columns = np.arange(field.shape[1]) + FIELD_TOP, np.arange(field.shape[2], dtype=np.float64)
    ball = (field == np.array(_BALL, np.uint8)).all(-1).astype(np.float64)
    paddles = [
        (field[:, :, x] == np.array(colour, np.uint8)).all(-1).astype(np.float64)
        for x, colour in ((141, _PLAYER), (17, _ENEMY))
    ]
    return _measure(ball, paddles, rows, columns, row_height=1.0, least=0.5)


# Grey levels by OpenCV's weights (0.299, 0.587, 0.114): field 87, paddles 147 and 148, ball 236. A row of the small
# frame covers 2.5 rows of the screen, a column 1.9; rows 14 to 76 lie within the field. Where a frame is the maximum
# of two colour frames and the agent's paddle moves, the maximum of its colour and the field's is a grey of 163.
_ROWS = slice(14, 77)
_FIELD_GREY, _PADDLE_GREY, _BALL_GREY = 87.0, 147.0, 236.0
_PADDLE_COLUMNS = {8: 148.0, 9: 148.0, 10: 148.0, 73: 163.0, 74: 163.0, 75: 163.0}
"""Column → the brightest grey that is still a paddle."""


def _find_grey(frames: np.ndarray) -> np.ndarray:
    """(N, 84, 84) → (N, 5), as `_find_colour`."""
    field = frames[:, _ROWS].astype(np.float64)
    rows = (np.arange(_ROWS.start, _ROWS.stop) + 0.5) * 2.5 - 0.5
    columns = (np.arange(84) + 0.5) * 160 / 84 - 0.5
    ground = np.full(84, _FIELD_GREY + 6)  # some more than the field, for the rounding of the resize
    ground[list(_PADDLE_COLUMNS)] = np.array(list(_PADDLE_COLUMNS.values())) + 8
    ball = np.clip(field - ground, 0, None) / (_BALL_GREY - _FIELD_GREY)
    # Before the first frames of an episode a stack is black, and the attract screen has other colours.
    paddles = [np.clip((field[:, :, x] - _FIELD_GREY) / (_PADDLE_GREY - _FIELD_GREY), 0, 1) for x in (74, 9)]
    return _measure(ball, paddles, rows, columns, row_height=2.5, least=0.25)


def _measure(
    ball: np.ndarray, paddles: Sequence[np.ndarray], rows: np.ndarray, columns: np.ndarray, row_height: float,
    least: float,
) -> np.ndarray:  # fmt: skip
    """Weights of the ball (N, R, C) and of both paddles (N, R) → (N, 5)."""
    weight = ball.sum(axis=(1, 2))
    seen = weight > least
    safe = np.where(seen, weight, 1.0)
    x = np.where(seen, (ball.sum(axis=1) @ columns) / safe, CENTRE_X)
    y = np.where(seen, (ball.sum(axis=2) @ rows) / safe, CENTRE_Y)
    return np.column_stack([seen, x, y, *(_paddle(p, rows, row_height) for p in paddles)])


def _paddle(weight: np.ndarray, rows: np.ndarray, row_height: float) -> np.ndarray:
    """Cover of each row by the paddle (N, R) → its centre (N,), also where it hangs over the border of the field."""
    cover = weight.sum(axis=1)
    height = cover * row_height
    centre = (weight @ rows) / np.where(cover > 0, cover, 1.0)
    top, bottom = rows[0] - row_height / 2, rows[-1] + row_height / 2
    centre = np.where(weight[:, 0] > 0.5, top + height - _HALF, centre)
    centre = np.where(weight[:, -1] > 0.5, bottom - height + _HALF, centre)
    # The cartridge hides the paddle of the computer above the field when it waits there.
    return np.clip(np.where(height < 0.5, FIELD_TOP - _HALF, centre), 26.0, 201.0)
