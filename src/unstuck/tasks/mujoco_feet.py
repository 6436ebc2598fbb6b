"""Feet of Ant and Humanoid, from the inertias and contact forces that their observations end with.

Those parts lag one substep behind the positions, as MuJoCo computes them before it moves: about a centimetre where a
foot moves fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.tasks.builder import Function, flag, observation_size, var
from unstuck.tasks.card import Variable

_CINERT, _CVEL, _CFRC = 10, 6, 6


@dataclass(frozen=True)
class Tail:
    """Where the parts after positions and velocities begin in an observation; None for a part that is not there."""

    inertia: int | None
    force: int | None
    skip: int
    """Bodies left out at the front: the world, in version 5."""

    def body(self, start: int, width: int, body: int) -> slice:
        first = start + width * (body - self.skip)
        return slice(first, first + width)


def tail_of(env: Any, begin: int) -> Tail:
    """The layout of what follows position `begin` in a Humanoid's or Ant's observation."""
    core = env.unwrapped
    bodies, size = core.model.nbody, observation_size(env) - begin
    for skip, actuated in ((1, core.model.nv - 6), (0, core.model.nv)):
        n = bodies - skip
        if size == n * (_CINERT + _CVEL + _CFRC) + actuated:
            return Tail(begin, begin + n * (_CINERT + _CVEL) + actuated, skip)
        if size == n * _CFRC:
            return Tail(None, begin, skip)
    return Tail(None, None, 0)


def contacts(env: Any, begin: int, feet: Sequence[tuple[str, str, int]]) -> list[tuple[Variable, Function]]:
    """A flag for each foot, given as (name of the variable, what foot, body): whether anything presses on it."""
    tail = tail_of(env, begin)
    if tail.force is None:
        return []

    def touches(body: int) -> Function:
        part = tail.body(tail.force or 0, _CFRC, body)
        return lambda o: (np.abs(o[:, part]).max(axis=1) > 1e-6).astype(np.float64)

    return [(flag(name, f"1 if the {foot} touches the ground"), touches(body)) for name, foot, body in feet]


def heights(
    env: Any, begin: int, z: int, quaternion: int, feet: Sequence[tuple[str, str, int]]
) -> list[tuple[Variable, Function]]:
    """Height of the centre of each foot's mass over the floor.

    The inertia of a body holds mass · (offset from the robot's centre of mass); the difference of two offsets and the
    known place of the torso give the height.

    Args:
        z, quaternion: columns of the torso's height and of its orientation.
    """
    tail = tail_of(env, begin)
    if tail.inertia is None:
        return []
    core: Any = env.unwrapped
    torso = 1
    inside = np.array(core.model.body_ipos[torso])

    def offset(body: int) -> Callable[[np.ndarray], np.ndarray]:
        first = tail.body(tail.inertia or 0, _CINERT, body).start
        return lambda o: o[:, first + 8] / np.where(o[:, first + 9] > 0, o[:, first + 9], 1.0)

    def height(body: int) -> Function:
        foot, own = offset(body), offset(torso)
        return lambda o: o[:, z] + _upwards(o[:, quaternion : quaternion + 4], inside) + foot(o) - own(o)

    return [
        (var(name, f"height of the middle of the {foot} over the floor", "m"), height(body))
        for name, foot, body in feet
    ]


def _upwards(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The vertical part of a vector after a rotation: the third row of the rotation matrix of (w, x, y, z) (N, 4)."""
    w, x, y, z = quaternion.T / np.linalg.norm(quaternion, axis=1).clip(1e-12)
    return 2 * (x * z - w * y) * vector[0] + 2 * (y * z + w * x) * vector[1] + (1 - 2 * (x * x + y * y)) * vector[2]
