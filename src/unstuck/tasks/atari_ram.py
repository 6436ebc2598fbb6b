"""The RAM of an Atari game beside the pixels that an agent sees (`unstuck.tasks.beside`).

The console knows the objects of its games, which `unstuck.tasks.atari_games` reads from it.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from unstuck.tasks.atari import LIFE_LOST
from unstuck.tasks.beside import RAM, SEEN, Beside

BYTES = 128


class WithRam(gym.Wrapper):
    """What the environment shows, and the RAM of its emulator."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = Beside({SEEN: env.observation_space, RAM: spaces.Box(0, 255, (2, BYTES), np.uint8)})
        self._ram = np.zeros(BYTES, np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._ram = self._now()
        return {SEEN: obs, RAM: np.stack([self._ram, self._ram])}, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        before, self._ram = self._ram, self._now()
        if info.get(LIFE_LOST):  # the next life has begun, with another ball
            before = self._ram
        return {SEEN: obs, RAM: np.stack([before, self._ram])}, reward, terminated, truncated, info

    def _now(self) -> np.ndarray:
        return np.array(self.env.unwrapped.ale.getRAM(), np.uint8)  # type: ignore[attr-defined]


def with_ram(env: Any) -> Any:
    """The environment with its RAM beside the observation, where it is a game whose objects are known, seen in pixels;
    else the environment itself."""
    from unstuck.tasks.atari_games import known

    space = env.observation_space
    pixels = isinstance(space, spaces.Box) and len(space.shape) >= 2 and space.shape != (2, BYTES)
    emulated = type(env.unwrapped).__module__.startswith("ale_py")
    return WithRam(env) if emulated and pixels and known(env) else env
