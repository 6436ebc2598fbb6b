"""Heights of points of planar robots, computed from joint angles in the observation.

Foot contact is not observed in the MuJoCo walkers, but how high a foot is follows from height, pitch and
joint angles. The constants are read from the environment's own model once, so that a changed model counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Clearance:
    """Height of the lowest point of a capsule over the floor, in metres.

    At zero angles the limb is a chain of offsets (dx, dz) from the root over its joints to both ends of the
    capsule. Turning joint k by q_k about ±y turns all offsets from k on, so that with the running sums φ of
    the signed angles the height of an end is z + Σ cos φ_k dz_k - sin φ_k dx_k.
    """

    height_column: int
    """Of the root's height in the observation."""
    angle_columns: slice | np.ndarray
    signs: np.ndarray
    dx: np.ndarray
    dz: np.ndarray
    """(2, K): for each end, the offset from joint k to the next joint, the last one to the end itself."""
    base: float
    """Height of the first joint over the floor minus the root's height, minus the capsule's radius."""

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Observations (N, D) → (N,)."""
        turned = (obs[:, self.angle_columns] * self.signs).cumsum(axis=1)
        ends = np.cos(turned) @ self.dz.T - np.sin(turned) @ self.dx.T
        return obs[:, self.height_column] + self.base + np.minimum(ends[:, 0], ends[:, 1])


def clearance(core: Any, geom: str, skipped: int = 1, height_qpos: int = 1) -> Clearance:
    """For a capsule of a planar MuJoCo robot whose observation begins with qpos[skipped:].

    Args:
        core: the unwrapped environment.
        geom: name of the capsule.
        skipped: how many leading entries of qpos the observation leaves out.
        height_qpos: the entry of qpos that is the root's height.
    """
    import mujoco

    model = core.model
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    shape = model.geom(geom).id
    joints = _hinges_to(model, model.geom_bodyid[shape])
    anchors = data.xanchor[joints]
    along = data.geom_xmat[shape].reshape(3, 3)[:, 2] * model.geom_size[shape, 1]
    chains = [np.vstack([anchors, data.geom_xpos[shape] + end * along]) for end in (-1, 1)]
    offsets = np.array([np.diff(chain, axis=0) for chain in chains])
    return Clearance(
        height_column=height_qpos - skipped,
        angle_columns=_columns([int(model.jnt_qposadr[j]) - skipped for j in joints]),
        signs=data.xaxis[joints, 1].round(),
        dx=offsets[:, :, 0],
        dz=offsets[:, :, 2],
        base=float(anchors[0, 2] - data.qpos[height_qpos] - model.geom_size[shape, 0]),
    )


def _columns(numbers: list[int]) -> slice | np.ndarray:
    """To pick these columns of an array: neighbours as a slice, which takes no copy."""
    first, count = numbers[0], len(numbers)
    return slice(first, first + count) if numbers == [*range(first, first + count)] else np.array(numbers)


def _hinges_to(model: Any, body: int) -> list[int]:
    """The hinge joints from the root to a body."""
    import mujoco

    found: list[int] = []
    while body > 0:
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        hinges = [j for j in range(first, first + count) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE]
        found = hinges + found
        body = int(model.body_parentid[body])
    return found


def tilt_angles(quaternion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(N, 4) unit quaternions w, x, y, z → roll, pitch, yaw in rad, and `upright`: the vertical part of the
    body's own up axis, 1 = upright, 0 = on its side, -1 = upside down."""
    w, x, y, z = quaternion.T
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1, 1))
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, pitch, yaw, 1 - 2 * (x * x + y * y)
