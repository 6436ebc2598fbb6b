"""Atari games whose objects are known, as data: which byte of the console's RAM is what. Of other games only the name
and the actions are known.

For agents that see the RAM (`obs_type="ram"`, 128 bytes), and for those that see pixels, with the RAM beside them
(`unstuck.tasks.atari_ram`). The addresses are those that Anand et al., Unsupervised State
Representation Learning in Atari (NeurIPS 2019), published for their benchmark; offsets, directions and heights were
measured on frames, and tests/test_tasks_atari.py holds each against the pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unstuck.tasks.atari import FRAME_SKIP, clips, frames_in_a_step
from unstuck.tasks.beside import RAM as RAM_KEY
from unstuck.tasks.beside import Beside
from unstuck.tasks.builder import discrete, env_id, max_episode_steps
from unstuck.tasks.card import Describer, Obs, TaskCard, Variable
from unstuck.tasks.generic import generic

RAM = 128
Columns = Mapping[str, np.ndarray]
"""Name of a variable → its values (N,)."""


@dataclass(frozen=True)
class Byte:
    """A variable that one byte of the RAM holds: value = scale · byte + shift."""

    name: str
    address: int
    text: str
    shift: float = 0.0
    scale: float = 1.0
    unit: str = "px"
    low: float = 0.0
    high: float = 160.0
    signed: bool = False
    wraps: float = 0.0
    """Positions that leave the screen on one side come back on the other: modulo this, where it is not 0."""
    decimal: bool = False
    """Each half of the byte is a decimal digit, as games keep their scores."""
    hundreds: int | None = None
    """Address of the two digits above these."""

    def values(self, ram: np.ndarray) -> np.ndarray:
        """(N, 128) float64 → (N,)."""
        byte = ram[:, self.address]
        if self.decimal:
            byte = _digits(byte) + (0 if self.hundreds is None else 100 * _digits(ram[:, self.hundreds]))
        if self.signed:
            byte = np.where(byte > 127, byte - 256, byte)
        value = self.scale * byte + self.shift
        return np.mod(value, self.wraps) if self.wraps else value


def _digits(byte: np.ndarray) -> np.ndarray:
    return 10 * np.floor(byte / 16) + np.mod(byte, 16)


@dataclass(frozen=True)
class Derived:
    """A variable that follows from others."""

    name: str
    text: str
    function: Callable[[Columns], np.ndarray]
    unit: str = "px"
    low: float = -160.0
    high: float = 160.0
    moving: bool = False
    """It needs the changes of `Game.moving`, so the RAM of the step before."""


@dataclass(frozen=True)
class Game:
    """What a coach is told of one game."""

    goal: str
    reward: str
    termination: str
    notes: str
    bytes: tuple[Byte, ...]
    derived: tuple[Derived, ...] = ()
    moving: tuple[str, ...] = ()
    """Variables of which the change since the step before is told too, where the RAM of that step is known."""


_AXES = "Positions are centres in pixels of the 160 wide, 210 high screen; x grows to the right, y grows DOWN."
_LIVES = {"unit": "", "low": 0.0, "high": 5.0}
CHICKEN_X = 47.0
LANES = 10


PER_STEP = "frames in a step"
"""Key of a column that is given to derived variables and is none itself."""
TELEPORT = 40.0
"""A ball that moved farther than this was put elsewhere, so it has no speed."""


def _lane(c: Columns) -> np.ndarray:
    """0 on the lower pavement, 1 to 10 in the lanes from below, 11 on the upper one."""
    return np.clip(np.floor((184.0 - c["chicken_y"]) / 16.0) + 1, 0, LANES + 1)


def _above(c: Columns) -> np.ndarray:
    """Index of the lane above the chicken's; the highest one from there and from the upper pavement."""
    return np.clip(_lane(c).astype(int), 0, LANES - 1)


def _next_car(c: Columns) -> np.ndarray:
    cars, above = np.stack([c[f"car_{i}_x"] for i in range(1, LANES + 1)]), _above(c)
    return cars[above, np.arange(len(above))] - CHICKEN_X


def _next_car_comes(c: Columns) -> np.ndarray:
    """Cars of the lower five lanes drive right, the others left, and come back on the other side."""
    return np.mod(np.where(_above(c) < LANES / 2, -_next_car(c), _next_car(c)), 160.0)


_BREAKOUT_LEFT, _BREAKOUT_RIGHT, _BREAKOUT_BOTTOM = 9.0, 151.0, 187.0
"""Of the ball's centre: at the walls, and where it meets the paddle."""


def _landing_x(c: Columns) -> np.ndarray:
    """Where the ball will be when it comes down to the paddle, with bounces off the side walls; else the paddle."""
    falling = (c["ball_y"] > 11) & (c["ball_dy"] > 0) & (c["ball_y"] < _BREAKOUT_BOTTOM)
    fall = c[PER_STEP] * c["ball_dy"]
    steps = np.divide(_BREAKOUT_BOTTOM - c["ball_y"], fall, out=np.zeros(len(falling)), where=falling)
    span = _BREAKOUT_RIGHT - _BREAKOUT_LEFT
    phase = np.mod(c["ball_x"] + steps * c["ball_x_change"] - _BREAKOUT_LEFT, 2 * span)
    return np.where(falling, _BREAKOUT_LEFT + np.minimum(phase, 2 * span - phase), c["paddle_x"])


_GROUND = 195.0
"""Height at which bombs of Space Invaders are gone."""


def _bombs(c: Columns) -> tuple[np.ndarray, np.ndarray]:
    """(2, N) each: x of both bombs, and how far they are above the cannon; 160 of those that do not fall."""
    x, y = (np.stack([c[f"bomb_{i}_{axis}"] for i in (1, 2)]) for axis in "xy")
    falls = y < _GROUND
    return np.where(falls, x - c["player_x"], 160.0), np.where(falls, np.maximum(190.0 - y, 0.0), 160.0)


def _lowest(c: Columns, what: int) -> np.ndarray:
    bombs = _bombs(c)
    return bombs[what][bombs[1].argmin(axis=0), np.arange(len(c["player_x"]))]


def _flying(name: str, x: int, y: int, what: str) -> tuple[Byte, Byte]:
    return (
        Byte(f"{name}_x", x, what, -2.0, low=-2, high=260),
        Byte(f"{name}_y", y, f"the same; above {_GROUND:.0f} = there is none", 7.5, 2.0, low=7, high=520),
    )


GAMES: Mapping[str, Game] = {
    "breakout": Game(
        goal="Break the bricks at the top of the screen with the ball: move the paddle at the bottom below the ball "
        "each time it comes down. Fire serves a ball.",
        reward="For each brick 1, 4 or 7, the higher its row the more.",
        termination="Ends when all 5 balls are lost.",
        notes=f"{_AXES} Bricks lie at y = 57 to 92, the paddle at y = 190.5, 16 wide.",
        bytes=(
            Byte("ball_x", 99, "the ball; means nothing while none is in play", -48.5, low=-50, high=210),
            Byte("ball_y", 101, "the ball; 10.5 while none is in play", 10.5, low=10, high=266),
            Byte("ball_dy", 103, "positive = the ball comes down", unit="px/frame", low=-8, high=8, signed=True),
            Byte("paddle_x", 72, "the paddle", -39.5, low=0, high=160),
            Byte("score", 77, "points so far", unit="", low=0, high=999, decimal=True, hundreds=76),
            Byte("lives", 57, "balls left, the one in play included", **_LIVES),  # type: ignore[arg-type]
        ),
        derived=(
            Derived("ball_in_play", "1 while a ball is on the field; else fire", lambda c: c["ball_y"] > 11, "0 or 1",
                    0, 1),
            Derived("ball_offset", "ball_x - paddle_x: positive = the ball is to the right of the paddle's middle, so "
                    "go right; 0 while no ball is in play; within 8 = a hit",
                    lambda c: np.where(c["ball_y"] > 11, c["ball_x"] - c["paddle_x"], 0.0), low=-210, high=210),
            Derived("landing_x", "about where a ball that comes down will meet the paddle, with bounces off the side "
                    "walls; paddle_x while none comes down", _landing_x, low=0, high=160, moving=True),
            Derived("landing_offset", "landing_x - paddle_x: positive = go right; within 8 = a hit",
                    lambda c: _landing_x(c) - c["paddle_x"], moving=True),
        ),
        moving=("ball_x",),
    ),
    "freeway": Game(
        goal="Bring the chicken from the lower pavement over ten lanes of cars to the upper one, again and again.",
        reward="+1 for each crossing; a car that hits the chicken throws it back, without a penalty.",
        termination="Ends after about two minutes, however many crossings there were.",
        notes=f"{_AXES} The chicken stays at x = {CHICKEN_X:g} and only goes up and down. Lanes are numbered from "
        "below, each 16 high. A car is 8 wide, the chicken 7: they meet where their x differ by less than 8. Cars of "
        "lanes 1 to 5 drive right, those of 6 to 10 left, at 0.2, 0.25, 0.33, 0.5 and 1 px/frame, fastest in the "
        "middle.",
        bytes=(
            Byte("chicken_y", 14, "188 = on the lower pavement; up is less", 196.5, -1.0, low=0, high=200),
            *(Byte(f"car_{i}_x", 118 - i, f"the car of lane {i}", 160.5, -1.0, low=0, high=160, wraps=160.0)
              for i in range(1, LANES + 1)),
            Byte("crossings", 103, "crossings so far", unit="", low=0, high=99, decimal=True),
        ),
        derived=(
            Derived("lane", "where the chicken is: 0 = lower pavement, 1 to 10 = a lane, 11 = upper pavement",
                    _lane, "", 0, LANES + 1),
            Derived("next_car", "x of the car in the lane above the chicken's minus the chicken's x: within 8 = going "
                    "up runs into it", _next_car),
            Derived("next_car_comes", "how far that car has yet to drive until it is at the chicken's x: small = it is "
                    "about to be there, above 150 = it has just passed", _next_car_comes, low=0, high=160),
        ),
    ),
    "boxing": Game(
        goal="Box: hit the black boxer's head with a fist more often than it hits the agent's white boxer. A fist "
        "reaches an opponent at arm's length whose head is level with it.",
        reward="+1 or +2 for a hit, the nearer the more; -1 or -2 for one received.",
        termination="Ends after two minutes, or when one side has 100 points.",
        notes=_AXES,
        bytes=(
            Byte("player_x", 32, "the white boxer", 11.5, low=30, high=130),
            Byte("player_y", 34, "the white boxer", 61.0, low=55, high=160),
            Byte("enemy_x", 33, "the black boxer", 9.5, low=30, high=130),
            Byte("enemy_y", 35, "the black boxer", 60.0, low=55, high=160),
        ),
        derived=(
            Derived("enemy_right", "enemy_x - player_x: positive = the black boxer is to the right",
                    lambda c: c["enemy_x"] - c["player_x"]),
            Derived("enemy_below", "enemy_y - player_y: positive = the black boxer is further down",
                    lambda c: c["enemy_y"] - c["player_y"]),
            Derived("distance", "between the two boxers",
                    lambda c: np.hypot(c["enemy_x"] - c["player_x"], c["enemy_y"] - c["player_y"]), low=0, high=160),
        ),
    ),
    "space_invaders": Game(
        goal="Shoot all 36 invaders with the cannon at the bottom before they reach the ground; keep clear of their "
        "bombs.",
        reward="5 to 30 for an invader, the higher its row the more; 200 for the ship that crosses at the top.",
        termination="Ends when all 3 lives are lost, or the invaders reach the ground.",
        notes=f"{_AXES} The cannon is at y = 190. The invaders stand in 6 rows of 6, 16 px apart; they move together, "
        "turn at the sides and come down by a step, and get faster the fewer they are. Up to two bombs fall at a time, "
        "straight down; of the agent's own shots there is only one at a time.",
        bytes=(
            Byte("player_x", 28, "the cannon", 2.0, low=0, high=160),
            Byte("invaders_left_x", 26, "left edge of the block of invaders, where its leftmost column is or was",
                 -1.0, low=-2, high=160),
            Byte("invaders_top_y", 16, "top edge of the block of invaders, where its highest row is or was", 31.0, 2.0,
                 low=31, high=220),
            Byte("invaders", 17, "invaders left", unit="", low=0, high=36),
            Byte("lives", 73, "lives left", unit="", low=0, high=3),
            *_flying("bomb_1", 83, 81, "a bomb"),
            *_flying("bomb_2", 84, 82, "another bomb"),
            *_flying("shot", 87, 85, "the agent's own shot"),
        ),
        derived=(
            Derived("block_offset", "middle of the block of invaders minus player_x: positive = it is to the right",
                    lambda c: c["invaders_left_x"] + 43.5 - c["player_x"], low=-160, high=210),
            Derived("bomb_offset", "x of the lower of the bombs that fall minus player_x: within 5 = it will hit; 160 "
                    "while none falls", lambda c: _lowest(c, 0), high=260),
            Derived("bomb_above", "how far that bomb is above the cannon; 160 while none falls",
                    lambda c: _lowest(c, 1), low=0),
            Derived("may_fire", "1 while no shot of the agent's flies, so that fire shoots",
                    lambda c: c["shot_y"] > _GROUND, "0 or 1", 0, 1),
        ),
        moving=("invaders_left_x",),
    ),
}  # fmt: skip
"""The emulator's name of a game → what is known of it."""


@dataclass(frozen=True)
class RamDescriber:
    """A game's variables, read from its RAM."""

    card: TaskCard
    game: Game
    beside: bool = False
    """The RAM lies beside pixels, with that of the step before."""
    per_step: int = FRAME_SKIP
    """Frames of the emulator in a step."""

    def variables(self, obs: Obs) -> np.ndarray:
        """(N, 128) uint8, or with pixels as `Beside` says → (N, V) float64."""
        ram = rams(obs)
        columns = _columns(self.game, ram[:, -1])
        if self.beside:
            before = _columns(self.game, ram[:, 0])
            moved = {f"{name}_change": columns[name] - before[name] for name in self.game.moving}
            columns |= {name: np.where(np.abs(by) > TELEPORT, 0.0, by) for name, by in moved.items()}
        known = columns | {PER_STEP: np.full(len(ram), float(self.per_step))}
        derived = [np.asarray(d.function(known), dtype=np.float64) for d in _derived(self.game, self.beside)]
        return np.column_stack([*columns.values(), *derived])


def rams(obs: Obs) -> np.ndarray:
    """A batch of RAM, alone or beside pixels → (N, 1 or 2, 128) float64, the newest last."""
    ram = np.asarray(obs[RAM_KEY] if isinstance(obs, Mapping) else obs, dtype=np.float64)
    return ram.reshape(len(ram), -1, RAM)


def _columns(game: Game, ram: np.ndarray) -> dict[str, np.ndarray]:
    return {byte.name: byte.values(ram) for byte in game.bytes}


def _derived(game: Game, beside: bool) -> list[Derived]:
    return [d for d in game.derived if beside or not d.moving]


def known(env: Any) -> bool:
    """Whether the objects of this environment's game are known, whatever it shows."""
    name = getattr(env.unwrapped, "_game", "")
    return name == "pong" or name in GAMES


def known_by_id(env_id: str) -> bool:
    """The same of an id such as `ALE/SpaceInvaders-v5` or `SpaceInvadersNoFrameskip-v4`."""
    title = re.fullmatch(r"(?:ALE/)?([A-Za-z0-9]+?)(?:NoFrameskip|Deterministic)?-v\d+", env_id)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", title[1]).lower() if title else ""
    return name == "pong" or name in GAMES


def describer(env: Any) -> Describer | None:
    """The describer of a game: of Pong from pixels, objects or RAM; of others whose objects are known from their RAM,
    alone or beside pixels; of what is not known only its name and its actions."""
    name = getattr(env.unwrapped, "_game", "")
    if name == "pong":
        from unstuck.tasks.pong import pong

        return pong(env) or _nameless(env, name)
    game, beside = GAMES.get(name), isinstance(env.observation_space, Beside)
    if game is None or not (beside or env.observation_space.shape == (RAM,)):
        return _nameless(env, name)
    moving = [b for b in game.bytes if beside and b.name in game.moving]
    variables = [
        *(Variable(name=b.name, description=b.text, unit=b.unit, low=b.low, high=b.high)
          for b in game.bytes),
        *(Variable(name=f"{b.name}_change", description=f"how much {b.name} has changed since the step before",
                   unit="px/step", low=-160, high=160, derived=True) for b in moving),
        *(Variable(name=d.name, description=d.text, unit=d.unit, low=d.low, high=d.high, derived=True)
          for d in _derived(game, beside)),
    ]  # fmt: skip
    card = TaskCard(
        env_id=env_id(env), goal=game.goal, reward=game.reward, termination=game.termination,
        notes=game.notes + _steps(env) + (PIXELS if beside else ""),
        variables=tuple(variables), action=discrete(**_actions(env)), max_episode_steps=max_episode_steps(env),
    )  # fmt: skip
    return RamDescriber(card, game, beside, frames_in_a_step(env))


def _steps(env: Any) -> str:
    """How long a step is, and what the agent was paid."""
    count = frames_in_a_step(env)
    text = f" A step is {count} frames, for which an action is held." if count > 1 else " A step is one frame."
    return text + (" In training, rewards were clipped to -1, 0 and 1." if clips(env) else "")


def _nameless(env: Any, name: str) -> Describer | None:
    """A describer of a game whose objects are not known here."""
    if not name:
        return None
    plain = generic(env, discrete(**_actions(env)))
    card = plain.card.model_copy(update={
        "goal": f"Play the Atari 2600 game {name.replace('_', ' ').title()}: get as high a score as you can. Its "
        "objects are not known here by name",
        "reward": "What the game pays", "termination": "Ends when the game is over, which has its own rules",
        "notes": _steps(env).strip(),
    })  # fmt: skip
    shape: tuple[int, ...] = env.observation_space.shape or ()
    return replace(plain, card=card, newest=len(shape) == 3 and shape[0] < shape[2])


PIXELS = " The agent sees only small grey frames of the screen; all this is read from the RAM, which it does not see."


def _actions(env: Any) -> dict[str, str]:
    """The emulator's names of the actions, in words: UPRIGHTFIRE is up, right and fire."""
    names = env.unwrapped.get_action_meanings()
    return {name.lower(): _words(name) for name in names}


def _words(name: str) -> str:
    if name == "NOOP":
        return "no button"
    parts = [word.lower() for word in ("UP", "DOWN", "LEFT", "RIGHT", "FIRE") if word in name]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
