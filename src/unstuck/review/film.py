"""Critical states as short films: pictures of the steps around each in one strip, which the page moves under a slider.
A person decides what moves and when; nothing plays by itself."""

from __future__ import annotations

import io
from dataclasses import dataclass

from unstuck.config import TaskConfig
from unstuck.episodes import EpisodeSet
from unstuck.rendering import draw_steps

EVERY, SIDE = 4, 5
"""Steps between two pictures, and pictures on either side of the critical state."""
WIDTH, QUALITY = 280, 75


@dataclass(frozen=True)
class Film:
    """Pictures side by side, each `WIDTH` wide."""

    steps: tuple[int, ...] = ()
    strip: bytes = b""
    """A WebP."""
    problem: str = ""
    """Why there is none."""


def wanted_steps(step: int) -> tuple[int, ...]:
    return tuple(step + EVERY * i for i in range(-SIDE, SIDE + 1))


def film(task: TaskConfig, episodes: EpisodeSet, episode: int, step: int) -> Film:
    """The film around a step of a collected episode. Never raises: whether a task can be drawn hangs on the machine."""
    from PIL import Image

    drawn = draw_steps(task, episodes, {"": (episode, wanted_steps(step))})
    shown = drawn.pictures.get("", [])
    if not shown:
        return Film(problem=drawn.problem or "its episode was not collected here")
    images = [Image.fromarray(picture[..., :3]) for _, picture in shown]
    size = WIDTH, max(1, round(images[0].height * WIDTH / images[0].width))
    how = Image.Resampling.NEAREST if images[0].width * 2 <= WIDTH else Image.Resampling.LANCZOS
    whole = Image.new("RGB", (size[0] * len(images), size[1]))
    for i, image in enumerate(images):
        whole.paste(image.resize(size, how), (i * size[0], 0))
    out = io.BytesIO()
    whole.save(out, "WEBP", quality=QUALITY, method=4)
    return Film(tuple(at for at, _ in shown), out.getvalue())
