"""Pictures of critical states, small enough for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unstuck.config import TaskConfig
from unstuck.episodes import EpisodeSet
from unstuck.guidance import Advice
from unstuck.rendering import draw_steps

LIMIT = 12
WIDTH = 360


@dataclass(frozen=True)
class Frames:
    """Advice id → `data:` URL of a PNG; `problem` says in a line why there are none."""

    urls: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def render_frames(task: TaskConfig, episodes: EpisodeSet, advice: Sequence[Advice]) -> Frames:
    """A frame of the evidence of the first `LIMIT` pieces of advice that have one. Never raises: a report without
    pictures is still a report."""
    evidence = [(a.id, a.evidence) for a in advice if a.evidence is not None][:LIMIT]
    drawn = draw_steps(task, episodes, {name: (e.episode, (e.step,)) for name, e in evidence})
    return Frames({name: png_url(shown[0][1]) for name, shown in drawn.pictures.items()}, drawn.problem)


def png_url(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 → a PNG at most `WIDTH` pixels wide, in few colours, as a `data:` URL."""
    from PIL import Image

    image = Image.fromarray(pixels[..., :3])
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(128).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
