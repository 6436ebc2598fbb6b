"""Watching an agent: its episodes as a GIF or a video, with step, reward and return written on the frames."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unstuck import tasks
from unstuck.agents import check_fits, load_agent
from unstuck.algorithms import policy_of
from unstuck.config import TaskConfig
from unstuck.errors import TaskError, UnstuckError
from unstuck.rendering import aim_camera, backends, headless, pixels
from unstuck.rollout import Trace, run_episodes, time_limit
from unstuck.snapshots import reset_exactly

BAR = 24
"""Height of the strip below each frame that holds the text, in pixels."""
NARROW = 300
"""Width of a picture, in pixels, below which a step's reward is not written."""
LONGEST = 10_000
"""Steps after which an episode is cut where the task sets no time limit."""


@dataclass(frozen=True)
class Watched:
    """What was written, and what it shows."""

    path: Path
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    frames: int


def watch(
    agent: Path,
    task: TaskConfig,
    out: Path,
    *,
    deterministic: bool = True,
    episodes: int = 1,
    seed: int = 0,
    vecnormalize: Path | None = None,
    trust: bool = False,
    max_frames: int = 240,
    width: int = 400,
) -> Watched:
    """Play episodes and write what they look like.

    Args:
        out: .gif, or .mp4 where imageio with ffmpeg is installed.
        seed: of the first episode; the others follow.
        max_frames: frames in all; of longer episodes only every k-th step is drawn.
        width: of a frame, in pixels; smaller pictures are enlarged to about that.

    Raises:
        AgentError, TaskError: the agent or the task cannot be loaded, they do not fit, or the task cannot be drawn.
        UnstuckError: the file cannot be written, or its kind needs what is not installed.
    """
    save = _writer(out)
    traces = _play(agent, task, range(seed, seed + episodes), deterministic, vecnormalize, trust)
    steps = sum(len(t) for t in traces)
    every = max(1, -(-steps // max_frames))
    frames, seconds = _draw(task, traces, every, width)
    _write(save, out, frames, seconds)
    return _watched(out, traces, len(frames))


def watch_beside(
    before: Side,
    after: Side,
    task: TaskConfig,
    out: Path,
    *,
    deterministic: bool = True,
    episodes: int = 1,
    seed: int = 0,
    max_frames: int = 240,
    width: int = 400,
) -> tuple[Watched, Watched]:
    """Play episodes of two agents from the same seeds and write them side by side; who is done first waits.

    Args:
        width: of one of the two pictures.

    Raises:
        As `watch`.
    """
    save = _writer(out)
    seeds = range(seed, seed + episodes)
    sides = (before, after)
    played = [_play(s.agent, task, seeds, deterministic, s.vecnormalize, s.trust) for s in sides]
    steps = sum(max(len(a), len(b)) for a, b in zip(*played, strict=True))
    every = max(1, -(-steps // max_frames))
    frames: list[Any] = []
    seconds = 0.1
    for pair in zip(*played, strict=True):
        drawn = [_draw(task, [t], every, width, s.label) for t, s in zip(pair, sides, strict=True)]
        seconds = drawn[0][1]
        (left, _), (right, _) = drawn
        longest = max(len(left), len(right))
        frames += [_beside(left[min(i, len(left) - 1)], right[min(i, len(right) - 1)]) for i in range(longest)]
    _write(save, out, frames, seconds)
    return _watched(out, played[0], len(frames)), _watched(out, played[1], len(frames))


@dataclass(frozen=True)
class Side:
    """One of two agents that are watched side by side."""

    label: str
    agent: Path
    vecnormalize: Path | None = None
    trust: bool = False


def _beside(left: Any, right: Any) -> Any:
    from PIL import Image

    gap = 6
    whole = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), (24, 24, 24))
    whole.paste(left, (0, 0))
    whole.paste(right, (left.width + gap, 0))
    return whole


def _write(save: Any, out: Path, frames: Sequence[Any], seconds: float) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save(out, frames, seconds)
    except OSError as error:
        raise UnstuckError(f"cannot write {out}: {error.strerror or error}; name another file with --out") from error


def _watched(out: Path, traces: Sequence[Trace], frames: int) -> Watched:
    return Watched(out, tuple(t.total_reward for t in traces), tuple(len(t) for t in traces), frames)


def _play(
    path: Path, task: TaskConfig, seeds: range, deterministic: bool, vecnormalize: Path | None, trust: bool
) -> list[Trace]:
    """The episodes in order, undrawn: how long they are decides which steps to draw."""
    agent = load_agent(path, vecnormalize=vecnormalize, trust=trust)
    env = tasks.make_env(task.env, task.env_kwargs, task.import_module)
    try:
        check_fits(agent, env.observation_space, env.action_space, task.env)
        actor = policy_of(agent, env.observation_space, env.action_space)
        longest = None if time_limit(env) else LONGEST
        return list(
            run_episodes([env], actor, seeds, deterministic=deterministic, max_length=longest, keep_as=_nothing)
        )
    finally:
        env.close()


def _nothing(observation: Any) -> None:
    """Of observations: pictures are drawn when it is known which."""


def _draw(
    task: TaskConfig, traces: Sequence[Trace], every: int, width: int, label: str = ""
) -> tuple[list[Any], float]:
    """Pictures of every k-th step and of the last of each episode, and the seconds for which to show each."""
    problem = ""
    for backend in backends():
        try:
            with headless(backend):
                env = tasks.make_env(task.env, task.env_kwargs, task.import_module, render_mode="rgb_array")
                try:
                    fps = float(env.metadata.get("render_fps") or 30)
                    many = len(traces) > 1
                    labels = [f"{label}  " * bool(label) + f"episode {i + 1}  " * many for i in range(len(traces))]
                    pairs = zip(traces, labels, strict=True)
                    frames = [f for trace, name in pairs for f in _episode(env, trace, every, width, name)]
                    return frames, float(np.clip(every / fps, 0.03, 0.15))
                finally:
                    # Some renderers raise when they are closed, after they have drawn.
                    with contextlib.suppress(Exception):
                        env.close()
        except TaskError:
            raise
        except Exception as error:
            text = (str(error).strip().splitlines() or [""])[0]
            problem = problem or f"{type(error).__name__}: {text}"[:200]
    raise TaskError(f"{task.env} cannot be drawn here: {problem}")


def _episode(env: Any, trace: Trace, every: int, width: int, label: str) -> Iterator[Any]:
    """The episode once more, by its actions."""
    reset_exactly(env, trace.seed)
    total = 0.0
    for step in range(len(trace) + 1):
        reward = trace.rewards[step - 1] if step else 0.0
        total += reward
        if step:
            env.step(trace.actions[step - 1])
        if step % every == 0 or step == len(trace):
            aim_camera(env)
            yield _captioned(pixels(env), *caption(label, step, reward, total, width), width)


def caption(label: str, step: int, reward: float, total: float, width: int) -> tuple[str, int]:
    """What is written below a picture, and in which size of font: as much as there is room for."""
    if width >= NARROW:
        return f"{label}step {step}   reward {reward:.3g}   return {total:.4g}", 13
    return f"{label.rstrip()} step {step}  return {total:.4g}".strip(), 11


def _captioned(picture: np.ndarray, text: str, font_size: int, width: int) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture[..., :3])
    size = width, max(1, round(image.height * width / image.width))
    # Pixels of small pictures stay sharp.
    enlarge = image.width * 2 <= width
    image = image.resize(size, Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS)
    whole = Image.new("RGB", (size[0], size[1] + BAR), (24, 24, 24))
    whole.paste(image, (0, 0))
    font = ImageFont.load_default(size=font_size)
    ImageDraw.Draw(whole).text((6, size[1] + 4), text, fill=(240, 240, 240), font=font)
    return whole


def _writer(out: Path) -> Any:
    """The function that writes files of this kind."""
    kind = out.suffix.lower()
    if kind == ".gif":
        return _write_gif
    if kind == ".mp4":
        try:
            import imageio.v2  # noqa: F401
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise UnstuckError(
                'writing .mp4 needs imageio with ffmpeg: pip install "imageio[ffmpeg]"; or name a .gif with --out'
            ) from error
        return _write_mp4
    raise UnstuckError(f"{out}: write .gif or .mp4, not {kind or 'a file without a suffix'}")


def _write_gif(out: Path, frames: Sequence[Any], seconds: float) -> None:
    drawn = [frame.quantize(96) for frame in frames]
    # The last frame stays a second, so that the end can be read.
    durations = [round(1000 * seconds)] * (len(drawn) - 1) + [1000]
    drawn[0].save(out, "GIF", save_all=True, append_images=drawn[1:], duration=durations, loop=0, optimize=False)


def _write_mp4(out: Path, frames: Sequence[Any], seconds: float) -> None:
    import imageio.v2 as imageio

    writer: Any = imageio.get_writer(out, fps=round(1 / seconds), macro_block_size=2)
    with writer:
        for frame in frames:
            writer.append_data(np.asarray(frame))
