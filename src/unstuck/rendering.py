"""Drawing an environment where there is no screen, and collected episodes in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unstuck import tasks
from unstuck.config import TaskConfig
from unstuck.episodes import Episode, EpisodeSet
from unstuck.simulators import MujocoSnapshotter, ReplaySnapshotter, as_action
from unstuck.snapshots import restore_episode_step


@dataclass(frozen=True)
class Drawn:
    """Name → (step, picture (H, W, 3) uint8) in the order of steps; `problem` says in a line why there are none."""

    pictures: dict[str, list[tuple[int, np.ndarray]]] = field(default_factory=dict)
    problem: str = ""


def draw_steps(task: TaskConfig, episodes: EpisodeSet, wanted: Mapping[str, tuple[int, Sequence[int]]]) -> Drawn:
    """Collected episodes drawn at some of their steps, from the simulator put back into them.

    Never raises: whether a task can be drawn hangs on drivers and displays.

    Args:
        wanted: name → (episode, steps). What is outside the episodes is left out.
    """
    if not wanted or not len(episodes):
        return Drawn()
    problem = ""
    for backend in backends():
        try:
            with headless(backend):
                return Drawn(_draw(task, episodes, wanted))
        except Exception as error:
            problem = problem or _reason(error)
    return Drawn(problem=problem)


def _reason(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def _draw(
    task: TaskConfig, episodes: EpisodeSet, wanted: Mapping[str, tuple[int, Sequence[int]]]
) -> dict[str, list[tuple[int, np.ndarray]]]:
    env = tasks.make_env(task.env, task.env_kwargs, task.import_module, render_mode="rgb_array")
    found: dict[str, list[tuple[int, np.ndarray]]] = {}
    try:
        env.reset(seed=0)
        for name, (index, steps) in wanted.items():
            try:
                episode = episodes[index]
            except KeyError:
                continue  # the guidance was edited, or the episodes were collected again
            if inside := sorted({s for s in steps if 0 <= s <= len(episode)}):
                found[name] = list(_episode(env, episode, inside))
    finally:
        # Some renderers raise when they are closed, after they have drawn.
        with contextlib.suppress(Exception):
            env.close()
    return found


def _episode(env: Any, episode: Episode, steps: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Pictures at these steps, in order: each from its stored state, or all by one replay. An emulator's state (bytes)
    has no screen: it draws as it steps."""
    stored, at = episode.snapshots is not None and episode.snapshots[0].dtype != np.uint8, -1
    for step in steps:
        if stored:
            restore_episode_step(env, episode, step, MujocoSnapshotter())
        elif at < 0:
            restore_episode_step(env, episode, step, ReplaySnapshotter())
        else:
            for action in episode.actions[at:step]:
                env.step(as_action(env, action))
        at = step
        aim_camera(env)
        yield step, pixels(env)


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
