"""Pictures of critical states, from the simulator put back into them."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unstuck import tasks
from unstuck.config import TaskConfig
from unstuck.episodes import EpisodeSet
from unstuck.guidance import Advice, Evidence
from unstuck.simulators import MujocoSnapshotter, ReplaySnapshotter
from unstuck.snapshots import restore_episode_step

LIMIT = 12
WIDTH = 360


@dataclass(frozen=True)
class Frames:
    """Advice id → `data:` URL of a PNG; `problem` says in a line why there are none."""

    urls: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def render_frames(task: TaskConfig, episodes: EpisodeSet, advice: Sequence[Advice]) -> Frames:
    """A frame of the evidence of the first `LIMIT` pieces of advice that have one. Never raises: whether a task
    can be rendered hangs on drivers and displays, and a report without pictures is still a report."""
    wanted = [(a.id, a.evidence) for a in advice if a.evidence is not None][:LIMIT]
    if not wanted or not len(episodes):
        return Frames()
    problem = ""
    for backend in _backends():
        try:
            with _headless(backend):
                return Frames(_render(task, episodes, wanted))
        except Exception as error:
            problem = problem or _reason(error)
    return Frames(problem=problem)


def _reason(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def _backends() -> list[str | None]:
    """Ways to draw without a screen that MuJoCo may be told of; None leaves the choice to it."""
    if os.environ.get("MUJOCO_GL") or not sys.platform.startswith("linux"):
        return [None]
    return ["egl", "osmesa", None]


@contextlib.contextmanager
def _headless(backend: str | None) -> Iterator[None]:
    wanted = {"MUJOCO_GL": backend, "SDL_VIDEODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    added = {k: v for k, v in wanted.items() if v is not None and k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def _render(task: TaskConfig, episodes: EpisodeSet, wanted: Sequence[tuple[str, Evidence]]) -> dict[str, str]:
    env = tasks.make_env(task.env, task.env_kwargs, task.import_module, render_mode="rgb_array")
    urls: dict[str, str] = {}
    try:
        env.reset(seed=0)
        for name, evidence in wanted:
            try:
                episode = episodes[evidence.episode]
            except KeyError:
                continue  # the guidance was edited, or the episodes were collected again
            if evidence.step > len(episode):
                continue
            stored = episode.snapshots is not None
            restore_episode_step(env, episode, evidence.step, MujocoSnapshotter() if stored else ReplaySnapshotter())
            _aim_camera(env)
            urls[name] = png_url(_pixels(env))
    finally:
        # Some renderers raise when they are closed, after they have drawn.
        with contextlib.suppress(Exception):
            env.close()
    return urls


def _aim_camera(env: Any) -> None:
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


def _pixels(env: Any) -> np.ndarray:
    picture = env.render()
    if isinstance(picture, list):
        picture = picture[-1] if picture else None
    if picture is None:
        raise RuntimeError("the environment has no render mode rgb_array")
    return np.asarray(picture, dtype=np.uint8)


def png_url(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 → a PNG at most `WIDTH` pixels wide, in few colours, as a `data:` URL."""
    from PIL import Image

    image = Image.fromarray(pixels[..., :3])
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(128).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
