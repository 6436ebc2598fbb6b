"""Observations of which the agent sees one part, and describers read the other.

An agent from pixels knows no objects, and a coach cannot give conditions over pixels. The simulator knows them. So
environments whose state is known beside what they show give both: the describer reads the state, and everything that
acts or learns is given the agent's part alone (`seen`, `seen_space`). What is trained so plays from pixels, anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

SEEN = "seen"
"""Key of what the agent sees."""
RAM, GRID = "ram", "grid"
"""Keys of what only describers read: the RAM of an Atari game, the symbols of a MiniGrid."""


class Beside(spaces.Dict):
    """Such observations: `SEEN`, and one of `RAM`, (2, 128): before the last step and after it, both the same at the
    start of an episode and of a life; and `GRID`, (columns, rows, 3)."""


def _told(obs: Any) -> str:
    """The key of what only describers read; '' where an observation has no such part."""
    if not isinstance(obs, Mapping) or len(obs) != 2 or SEEN not in obs:
        return ""
    return next((key for key in (RAM, GRID) if key in obs), "")


def seen_space(space: spaces.Space) -> spaces.Space:
    """The part of an observation space that the agent sees: all of it, but for `Beside`."""
    return space[SEEN] if isinstance(space, Beside) else space


def seen(obs: Any) -> Any:
    """The part of an observation, or of a batch of them, that the agent sees."""
    return obs[SEEN] if _told(obs) else obs


def described(obs: Any) -> Any:
    """What describers read of an observation: without the pixels, where the state lies beside them."""
    key = _told(obs)
    return {key: obs[key]} if key else obs


def bytes_of(space: spaces.Space) -> int:
    """Of one observation."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return sum(np.dtype(p.dtype or np.int64).itemsize * int(np.prod(p.shape or ())) for p in parts)
