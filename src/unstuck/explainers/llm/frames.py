"""Pictures that go with a prompt: a few frames around each of the most critical steps, side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from unstuck.config import TaskConfig
from unstuck.episodes import EpisodeSet
from unstuck.errors import RunError
from unstuck.explainers.llm.selection import five, ranges_of
from unstuck.llm import Recordings
from unstuck.llm.requests import Digest
from unstuck.rendering import draw_steps
from unstuck.run import Run, digest, read_json, write_json
from unstuck.views import View, peaks

FRAMES = 5
"""Frames of one picture."""
HEIGHT = 192
"""Of one frame, in pixels: five of them are about as wide as what services look at without making it smaller."""
SPAN = 0.04
"""From one frame to the next, as a share of the episode; at least one step, at most `MOST_SPAN`."""
MOST_SPAN = 10
FILE = "frames.json"


class Pictures(BaseModel):
    """What goes with a prompt."""

    mark: str = ""
    captions: tuple[str, ...] = ()
    digests: tuple[Digest, ...] = ()
    problem: str = ""
    """Why there are none, in a line."""


@dataclass(frozen=True)
class Window:
    """Steps of one episode that one picture shows."""

    title: str
    episode: int
    steps: tuple[int, ...]


def pictures_of(run: Run, views: Sequence[View], episodes: EpisodeSet, recordings: Recordings, count: int) -> Pictures:
    """Up to `count` pictures of the collected episodes, drawn once and kept beside the recordings."""
    if not count:
        return Pictures()
    chosen = windows(views, count)
    mark = digest(run.record("collect").fingerprint, [(w.episode, w.steps) for w in chosen], HEIGHT)
    path = run.root / "collect" / FILE
    held = _held(path)
    if held is not None and held.mark == _mark(mark, held) and len(held.digests) == len(held.captions) <= len(chosen):
        return held
    found = _drawn(run.config.task, chosen, episodes, recordings)
    found = found.model_copy(update={"mark": _mark(mark, found)})
    if not found.problem:
        write_json(path, found.model_dump(mode="json"))
    return found


def _mark(asked: str, found: Pictures) -> str:
    """Of what was to be drawn and of what the file says came of it, so that a changed file is noticed."""
    return digest(asked, found.captions, found.digests)


def _held(path: Path) -> Pictures | None:
    """What was drawn before; None where there is nothing, or nothing that this could have written."""
    try:
        return Pictures.model_validate(read_json(path)) if path.exists() else None
    except (ValidationError, RunError):
        return None


def windows(views: Sequence[View], count: int) -> list[Window]:
    """The steps to be shown: of the best, the worst and middling episodes in turn, first around the step where most
    seems decided, then the end, then around further such steps."""
    states = np.concatenate([v.states[:-1] for v in views])
    shown = five(views, ranges_of(states))
    shown = [shown[0], *shown[:0:-1]]  # best, worst, then those between
    each = [_of_episode(title, view, 1 + count // len(shown)) for title, view in shown]
    rounds = [w[i] for i in range(max(map(len, each))) for w in each if i < len(w)]
    return rounds[:count]


def _of_episode(title: str, view: View, most: int) -> list[Window]:
    length = len(view)
    span = int(np.clip(SPAN * length, 1, MOST_SPAN))
    reach = span * (FRAMES // 2)
    centres = peaks(view.tension(), most, span * FRAMES)
    # Where nothing stands out, as in an episode without a critic, moments spread over it.
    centres += [int(t) for t in np.linspace(reach, length - reach, most + 1)[:-1]][: most - len(centres)]
    centres.insert(min(1, len(centres)), max(0, length - reach))
    found: list[Window] = []
    for centre in centres:
        begin = int(np.clip(centre - reach, 0, max(0, length - 2 * reach)))
        steps = tuple(t for t in range(begin, begin + span * FRAMES, span) if t <= length)
        if all(abs(steps[0] - w.steps[0]) >= span for w in found):
            found.append(Window(title, view.index, steps))
    return found


def _drawn(task: TaskConfig, chosen: Sequence[Window], episodes: EpisodeSet, recordings: Recordings) -> Pictures:
    wanted = {str(i): (w.episode, w.steps) for i, w in enumerate(chosen)}
    drawn = draw_steps(task, episodes, wanted)
    if drawn.problem or not drawn.pictures:
        return Pictures(problem=drawn.problem or "nothing was drawn")
    captions, digests = [], []
    for i, window in enumerate(chosen):
        frames = drawn.pictures.get(str(i))
        if not frames:
            continue
        digests.append(recordings.save_picture(strip([pixels for _, pixels in frames])))
        steps = ", ".join(str(step) for step, _ in frames)
        captions.append(f"{window.title}: episode {window.episode}, at steps {steps}, left to right")
    return Pictures(captions=tuple(captions), digests=tuple(digests))


def strip(frames: Sequence[np.ndarray]) -> bytes:
    """Frames (H, W, 3) uint8 side by side as a PNG in few colours."""
    from PIL import Image

    scaled = []
    for pixels in frames:
        image = Image.fromarray(pixels[..., :3])
        scaled.append(image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT)))
    gap = 4
    whole = Image.new("RGB", (sum(i.width for i in scaled) + gap * (len(scaled) - 1), HEIGHT), "white")
    x = 0
    for image in scaled:
        whole.paste(image, (x, 0))
        x += image.width + gap
    out = io.BytesIO()
    whole.quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()
