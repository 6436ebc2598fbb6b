"""The RAM of an Atari game beside the pixels that an agent sees.

An agent from pixels knows no objects, and a coach cannot give conditions over pixels. The console's RAM knows them. So
environments of games whose objects are known (`unstuck.tasks.atari_games`) give both: the describer reads the RAM, and
everything that acts or learns is given the agent's part alone (`seen`, `seen_space`). What is trained so plays from
pixels, anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SEEN, RAM = "seen", "ram"
"""Keys of such an observation: what the agent sees, and what only describers read."""
BYTES = 128


class Beside(spaces.Dict):
    """Observations of which the agent sees the part `SEEN`. `RAM` is (2, 128): before the last step and after it, both
    the same at an episode's start."""


def seen_space(space: spaces.Space) -> spaces.Space:
    """The part of an observation space that the agent sees: all of it, but for `Beside`."""
    return space[SEEN] if isinstance(space, Beside) else space


def seen(obs: Any) -> Any:
    """The part of an observation, or of a batch of them, that the agent sees."""
    return obs[SEEN] if isinstance(obs, Mapping) and obs.keys() == {SEEN, RAM} else obs


def described(obs: Any) -> Any:
    """What describers read of an observation: without the pixels, where they read the RAM."""
    return {RAM: obs[RAM]} if isinstance(obs, Mapping) and obs.keys() == {SEEN, RAM} else obs


def bytes_of(space: spaces.Space) -> int:
    """Of one observation."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return sum(np.dtype(p.dtype or np.int64).itemsize * int(np.prod(p.shape or ())) for p in parts)


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
