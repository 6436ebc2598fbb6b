"""Pictures of critical states, from the simulator put back into them."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unstuck import tasks
from unstuck.config import TaskConfig
from unstuck.episodes import EpisodeSet
from unstuck.guidance import Advice, Evidence
from unstuck.rendering import aim_camera, backends, headless, pixels
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
    for backend in backends():
        try:
            with headless(backend):
                return Frames(_render(task, episodes, wanted))
        except Exception as error:
            problem = problem or _reason(error)
    return Frames(problem=problem)


def _reason(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


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
            aim_camera(env)
            urls[name] = png_url(pixels(env))
    finally:
        # Some renderers raise when they are closed, after they have drawn.
        with contextlib.suppress(Exception):
            env.close()
    return urls


def png_url(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 → a PNG at most `WIDTH` pixels wide, in few colours, as a `data:` URL."""
    from PIL import Image

    image = Image.fromarray(pixels[..., :3])
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(128).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
