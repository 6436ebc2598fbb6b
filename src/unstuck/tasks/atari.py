"""Atari games of the ALE: the observations that agents are trained on, and Pong as its objects.

`make` is what `unstuck.tasks.make_env` uses for `ALE/...` and `...NoFrameskip-v4`. Keyword argument `observation`:

- `sb3` (default for `...NoFrameskip-v4`): what Stable-Baselines3's `make_atari_env` with `VecFrameStack(4)` shows a
  policy, so what RL Zoo's Atari agents see: `AtariWrapper` (no-op starts, every 4th frame as the maximum of the last
  two, 84 x 84 grey), the last four frames, oldest first, (4, 84, 84) uint8. Rewards are the game's own, not clipped,
  and an episode is a game, not a life: agents are judged by what the game pays (`Games`). `frame_stack` and the
  arguments of `AtariWrapper` are keyword arguments here.
- `raw` (default for `ALE/...`): the emulator's frames as Gymnasium gives them.

Where a game's objects are known, `make_env` puts its RAM beside the pixels (`unstuck.tasks.atari_ram`).

Frames are skipped and actions made sticky here and not in the emulator, by the same rule: the emulator's saved state
leaves out which action it repeats, so that with its own sticky actions no snapshot is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from unstuck.errors import TaskError, did_you_mean

OBSERVATIONS = ("sb3", "raw")
FRAME_SKIP = 4
WRAPPED = {
    "noop_max": 30, "frame_skip": FRAME_SKIP, "screen_size": 84, "terminal_on_life_loss": True, "clip_reward": True,
    "action_repeat_probability": 0.0,
}  # fmt: skip
"""Keyword arguments of `AtariWrapper`, with its defaults."""
FRAMES, FRAME_STACK = "frame_stack", 4
TRAINED_REWARD, LIFE_LOST = "reward_as_trained", "life_lost"
"""Keys in the infos of `Games`: the reward as `AtariWrapper` clips it, and whether it would have ended the episode."""

# Bytes of Pong's RAM, checked against rendered frames (tests/test_tasks_pong.py): position on the screen of the
# top left corner = byte - offset; speeds in pixels per frame as signed bytes, the horizontal one with its sign turned.
RAM_ENEMY_SCORE, RAM_PLAYER_SCORE = 13, 14
RAM_BALL_X, RAM_ENEMY_Y, RAM_PLAYER_Y, RAM_BALL_Y = 49, 50, 51, 54
RAM_BALL_DY, RAM_BALL_MINUS_DX = 56, 58

FIELD_TOP, FIELD_BOTTOM = 34.0, 193.0
"""First and last row of the field, between the white walls."""
CENTRE_X, CENTRE_Y = 79.5, 113.5
OBJECTS = (
    "ball_in_play", "ball_x", "ball_y", "ball_dx", "ball_dy", "player_y", "enemy_y", "player_score", "enemy_score",
)  # fmt: skip
SHIFT = np.array([0.0, CENTRE_X, CENTRE_Y, 0.0, 0.0, CENTRE_Y, CENTRE_Y, 0.0, 0.0])
SCALE = np.array([1.0, 80.0, 80.0, 4.0, 4.0, 80.0, 80.0, 21.0, 21.0])
"""An observation of UnstuckPong is (objects - SHIFT) / SCALE, all within about [-1.2, 1.2]."""


def make(env_id: str, env_kwargs: Mapping[str, Any], **rendering: Any) -> Any:
    """Make an Atari environment; see the module's text for `observation`.

    Raises:
        TaskError: if `observation` is unknown.
    """
    import ale_py

    gym.register_envs(ale_py)  # importing it has registered its ids
    _quiet()
    kwargs = dict(env_kwargs)
    if env_id.startswith("Unstuck"):
        return gym.make(env_id, **rendering, **kwargs)
    default = "sb3" if pixels_by_default(env_id) else "raw"
    observation = kwargs.pop("observation", default)
    if observation not in OBSERVATIONS:
        raise TaskError(
            f"{env_id} has no observation {observation!r}.{did_you_mean(str(observation), OBSERVATIONS)} "
            f"There are: {', '.join(OBSERVATIONS)}"
        )
    wrapped = {name: kwargs.pop(name) for name in (*WRAPPED, FRAMES) if observation == "sb3" and name in kwargs}
    limit = kwargs.pop("max_episode_steps", None) if observation == "sb3" else None
    given = {**gym.spec(env_id).kwargs, **kwargs}
    skip, sticky = given.get("frameskip", FRAME_SKIP), given.get("repeat_action_probability", 0.0)
    if not isinstance(skip, int):
        raise TaskError(f"{env_id}: frameskip must be a whole number, not {skip!r}")
    core = gym.make(env_id, **rendering, **{**kwargs, "frameskip": 1, "repeat_action_probability": 0.0})
    if observation == "raw":
        return StickySkip(core, skip, sticky)
    games = _as_in_sb3(StickySkip(core, skip, sticky), wrapped)
    # In steps of the agent; around the emulator it would count frames.
    return games if limit is None else gym.wrappers.TimeLimit(games, int(limit))


def pixels_by_default(env_id: str) -> bool:
    """Whether an id is made as Stable-Baselines3's agents see it, unless `observation` says otherwise."""
    return "NoFrameskip" in env_id


def takes_frames(env_id: str, env_kwargs: Mapping[str, Any]) -> bool:
    """Whether `make` itself stacks frames for these arguments, and not a wrapper around what it makes."""
    default = "sb3" if pixels_by_default(env_id) else "raw"
    return (pixels_by_default(env_id) or env_id.startswith("ALE/")) and env_kwargs.get("observation", default) == "sb3"


def seen_as(env_id: str, shape: tuple[int, ...] | None) -> dict[str, Any]:
    """Keyword arguments with which `make` shows observations of this shape (channels first, as in agents' files);
    {} where it does so anyway, or where nothing here does."""
    shape = tuple(shape or ())
    sb3: dict[str, Any] = {} if pixels_by_default(env_id) else {"observation": "sb3"}
    if shape == (128,):
        return {"observation": "raw", "obs_type": "ram"} if pixels_by_default(env_id) else {"obs_type": "ram"}
    if shape in ((3, 210, 160), (210, 160, 3)):
        return {"observation": "raw"} if pixels_by_default(env_id) else {}
    if len(shape) != 3 or shape[1] != shape[2] or shape[0] > 64:
        return {}
    more = {FRAMES: shape[0]} if shape[0] != FRAME_STACK else {}
    return sb3 | more | ({"screen_size": shape[1]} if shape[1] != WRAPPED["screen_size"] else {})


def frames_in_a_step(env: Any) -> int:
    """How many frames of the emulator a step of an environment made here is."""
    count = 1
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, StickySkip) or type(layer).__name__ == "MaxAndSkipEnv":
            count *= int(layer._skip)  # type: ignore[attr-defined]
        layer = layer.env
    return count


def clips(env: Any) -> bool:
    """Whether a learner is given clipped rewards."""
    while isinstance(env, gym.Wrapper):
        if type(env).__name__ == "ClipRewardEnv":
            return True
        env = env.env
    return False


def notes_on(env_id: str, env_kwargs: Mapping[str, Any]) -> list[str]:
    """What a user should know of how a game is shown and paid, in words."""
    if not takes_frames(env_id, env_kwargs):
        return []
    told = [
        "an episode is a whole game and its return the game's own score, whatever rewards were clipped to and lives "
        "ended in training; training goes on as the agent was trained"
    ]
    skip = env_kwargs.get("frameskip", 1 if pixels_by_default(env_id) else FRAME_SKIP)
    wrapped = env_kwargs.get("frame_skip", FRAME_SKIP)
    if skip != 1 and wrapped != 1:
        told.append(
            f"{env_id} holds each action for {skip} frames and AtariWrapper for {wrapped} of these, {skip * wrapped} "
            "in all, as Stable-Baselines3's make_atari_env has it; if the agent was trained otherwise: "
            """--env-kwargs '{"frameskip": 1}'"""
        )
    from unstuck.tasks.atari_games import known_by_id

    if not known_by_id(env_id) and env_kwargs.get("objects", True):
        told.append(
            f"the objects of {env_id} are not known by name: a coach is told the brightness of the screen in 4 x 4 "
            "patches, on which few rules can be built; a model that takes pictures sees more with --llm.frames 5"
        )
    return told


def _quiet() -> None:
    """Without the emulator's banner for each environment made."""
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def _as_in_sb3(env: Any, wrapped: Mapping[str, Any]) -> Any:
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    arguments = {**WRAPPED, **wrapped}
    frames = arguments.pop(FRAMES, FRAME_STACK)
    paid = _Paid(env)
    return Games(AtariWrapper(paid, **arguments), paid, frames)


class _Paid(gym.Wrapper):
    """Adds up what games pay, below everything that clips it or swallows a step's reward."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.total = 0.0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.total += float(reward)
        return obs, float(reward), terminated, truncated, info


class Games(gym.Wrapper):
    """Whole games of an agent that was trained behind `AtariWrapper` and `VecFrameStack`, with the game's own rewards.

    Where `AtariWrapper` ends an episode because a life is lost, the vector environment would reset it: it then takes a
    no-op step, presses fire where the game has that button, and begins with an empty stack of frames. Agents rely on
    that (a Breakout agent never learns to serve), so it is done here, within the step that lost the life. Its info says
    `life_lost`, and `reward_as_trained` is the clipped reward, for a learner that goes on as the agent was trained
    (`unstuck.vecenvs`).

    Observation: Box(0, 255, (frames, size, size), uint8), oldest frame first, black before a life's first.
    """

    def __init__(self, env: Any, paid: _Paid, frames: int) -> None:
        super().__init__(env)
        self._paid, self._told = paid, 0.0
        height, width, _ = env.observation_space.shape
        self.observation_space = gym.spaces.Box(0, 255, (frames, height, width), np.uint8)
        self._frames = np.zeros((frames, height, width), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        lives: Any = self._lives()
        if lives is not None:
            lives.was_real_done = True  # whatever the state of the game before: this is a new one
        # What the no-op start pays counts for the first step, as it does for a Monitor below AtariWrapper.
        self._told = self._paid.total
        obs, info = self.env.reset(seed=seed, options=options)
        return self._begin(obs), info

    def _lives(self) -> Any:
        """SB3's wrapper that ends episodes with a life, if it is there."""
        layer: Any = self.env
        while isinstance(layer, gym.Wrapper):
            if type(layer).__name__ == "EpisodicLifeEnv":
                return layer
            layer = layer.env
        return None

    def _begin(self, obs: np.ndarray) -> np.ndarray:
        self._frames = np.zeros_like(self._frames)
        return self._push(obs)

    def _push(self, obs: np.ndarray) -> np.ndarray:
        self._frames = np.concatenate([self._frames[1:], obs[None, ..., 0]])
        return self._frames.copy()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, clipped, terminated, truncated, info = self.env.step(action)
        lives = self._lives()
        lost = bool(terminated) and lives is not None and not lives.was_real_done
        if lost:
            frame = lives.env.unwrapped.ale.getEpisodeFrameNumber()
            again, _ = self.env.reset()
            # The no-op step may have ended the game; then AtariWrapper has begun the next one.
            terminated = lives.env.unwrapped.ale.getEpisodeFrameNumber() < frame
            seen = self._push(obs) if terminated else self._begin(again)
        else:
            seen = self._push(obs)
        paid, self._told = self._paid.total - self._told, self._paid.total
        told = {**info, TRAINED_REWARD: float(clipped), LIFE_LOST: lost and not terminated}
        return seen, paid, bool(terminated), bool(truncated), told


class StickySkip(gym.Wrapper):
    """Each action for `skip` frames; in each frame, with probability `sticky`, the action of the frame before instead.

    Source of the rule: Machado et al., Revisiting the Arcade Learning Environment (JAIR 2018), section 5.3.
    """

    def __init__(self, env: gym.Env, skip: int, sticky: float) -> None:
        super().__init__(env)
        self._skip, self._sticky, self._last = skip, float(sticky), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._last = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self._skip):
            if not self._sticky or self.env.unwrapped.np_random.random() >= self._sticky:
                self._last = int(action)
            obs, reward, terminated, truncated, info = self.env.step(self._last)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class ObjectPong(gym.Wrapper):
    """Pong that shows its objects in place of pixels. See `object_pong`."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-2.0, 2.0, (len(OBJECTS),), np.float32)
        # Of the six actions of the cartridge these differ; the other three are the same with the fire button.
        self._actions = tuple(env.unwrapped.get_action_meanings().index(m) for m in ("NOOP", "RIGHT", "LEFT"))  # type: ignore[attr-defined]
        self.action_space = gym.spaces.Discrete(len(self._actions))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return observation_of(obs), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(self._actions[int(action)])
        return observation_of(obs), float(reward), terminated, truncated, info


def object_pong(
    render_mode: Literal["human", "rgb_array"] | None = None,
    frameskip: int = FRAME_SKIP,
    repeat_action_probability: float = 0.25,
    mode: int | None = None,
    difficulty: int | None = None,
) -> ObjectPong:
    """`UnstuckPong-v0`: Pong for agents that see its objects, read from the RAM.

    Observation: Box(9,) float32, the `OBJECTS` scaled as `SHIFT` and `SCALE` say (centres of ball and paddles in
    pixels of the 210 x 160 screen, y grows downwards; speeds in pixels per frame). Actions: Discrete(3) stay, up,
    down. Reward +1 and -1 for points; the game ends at 21. Actions are sticky as the ALE recommends: with
    `repeat_action_probability` a frame repeats the action of the one before; with 0, the same actions always give the
    same game.
    """
    from ale_py.env import AtariEnv

    _quiet()
    core: Any = AtariEnv(
        game="pong", obs_type="ram", frameskip=1, mode=mode, difficulty=difficulty,
        repeat_action_probability=0.0, full_action_space=False, render_mode=render_mode,
    )  # fmt: skip
    return ObjectPong(StickySkip(core, frameskip, repeat_action_probability))


def objects(ram: np.ndarray) -> np.ndarray:
    """Pong's RAM (128,) uint8 → the `OBJECTS` (9,) float64; see `objects_of`."""
    return objects_of(np.asarray(ram, np.float64)[None])[0]


def objects_of(ram: np.ndarray) -> np.ndarray:
    """Pong's RAM (N, 128) float64 → the `OBJECTS` (N, 9) float64, in pixels; the ball at the centre of the field and at
    rest while none is in play."""
    # A paddle may hang over the border; beyond that, where the cartridge hides it, its byte means nothing.
    player = np.clip(ram[:, RAM_PLAYER_Y] - 6.5, 26.0, 201.0)
    enemy = np.clip(ram[:, RAM_ENEMY_Y] - 7.5, 26.0, 201.0)
    in_play = (ram[:, RAM_BALL_Y] > 0) & (ram[:, RAM_BALL_X] >= 49)
    ball = [
        np.where(in_play, value, other)
        for value, other in (
            (ram[:, RAM_BALL_X] - 48.5, CENTRE_X), (ram[:, RAM_BALL_Y] - 12.5, CENTRE_Y),
            (-_signed(ram[:, RAM_BALL_MINUS_DX]), 0.0), (_signed(ram[:, RAM_BALL_DY]), 0.0),
        )
    ]  # fmt: skip
    return np.column_stack([in_play, *ball, player, enemy, ram[:, RAM_PLAYER_SCORE], ram[:, RAM_ENEMY_SCORE]])


def observation_of(ram: np.ndarray) -> np.ndarray:
    """RAM (128,) → an observation of UnstuckPong, (9,) float32."""
    return ((objects(ram) - SHIFT) / SCALE).astype(np.float32)


def _signed(byte: np.ndarray) -> np.ndarray:
    return np.mod(byte + 128.0, 256.0) - 128.0
