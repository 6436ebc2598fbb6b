"""Drawing an environment where there is no screen."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np


def backends() -> list[str | None]:
    """Ways to draw without a screen that MuJoCo may be told of; None leaves the choice to it."""
    if os.environ.get("MUJOCO_GL") or not sys.platform.startswith("linux"):
        return [None]
    return ["egl", "osmesa", None]


@contextlib.contextmanager
def headless(backend: str | None) -> Iterator[None]:
    """Environment variables for drawing without a screen, `backend` for MuJoCo; as they were afterwards."""
    wanted = {"MUJOCO_GL": backend, "SDL_VIDEODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    added = {k: v for k, v in wanted.items() if v is not None and k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def aim_camera(env: Any) -> None:
    """Bring body and camera positions up to the restored state; exact restoring leaves them as the simulator had
    them, a substep behind or (for cameras that follow a body) where the last picture was."""
    if not hasattr(env.unwrapped, "model"):
        return
    try:
        import mujoco
    except ImportError:
        return
    model, data = env.unwrapped.model, env.unwrapped.data
    if isinstance(model, mujoco.MjModel):
        # Gymnasium looks with a free camera that stays where the body once was; the model's own goes with it.
        follows = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
        renderer: Any = getattr(env.unwrapped, "mujoco_renderer", None)
        if follows >= 0 and getattr(renderer, "camera_id", None) == -1:
            renderer.camera_id = follows
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)


def pixels(env: Any) -> np.ndarray:
    """The environment as it is now, (H, W, 3) uint8.

    Raises:
        RuntimeError: if it was not made with render mode rgb_array.
    """
    picture = env.render()
    if isinstance(picture, list):
        picture = picture[-1] if picture else None
    if picture is None:
        raise RuntimeError("the environment has no render mode rgb_array")
    return np.asarray(picture, dtype=np.uint8)
