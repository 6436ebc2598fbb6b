"""What is left of an agent's own training: the learning curve in the files that SB3 and RL Zoo write beside it.

Read as data only: `.npz` without pickles, `.csv` and `.jsonl` as text, TensorBoard's events by its own reader, if it is
installed; files of others, so that sizes are bounded first.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unstuck.curves import CURVE, CurvePoint

MAX_BYTES = 64 * 2**20
"""Larger files, or arrays that unpack to more, are left alone."""
MAX_FILES = 64
MOST_STEPS = 1e15
"""More than any training takes."""
MAX_EVENTS = 16
RETURNS = ("eval/mean_reward", "rollout/ep_rew_mean")
"""What SB3 logs returns as: of evaluations, and of training."""
EPISODES = 100
"""Over so many training episodes a monitor's returns are averaged, as SB3's own `ep_rew_mean` is."""


@dataclass(frozen=True)
class LearningCurve:
    """Returns over an agent's training."""

    steps: tuple[int, ...]
    """Environment steps of training, rising."""
    returns: tuple[float, ...]
    """Mean return per episode at each of them."""
    source: str
    """`evaluations.npz`: of evaluation episodes. `monitor.csv`: of training episodes, exploration included. Or
    `curve.jsonl` (of Unstuck), `progress.csv` (of SB3's logger), `TensorBoard events`."""

    def thinned(self, points: int) -> LearningCurve:
        """At most so many points, evenly spread, the first and the last among them."""
        if len(self.steps) <= points:
            return self
        at = np.unique(np.linspace(0, len(self.steps) - 1, points).round().astype(int))
        return LearningCurve(tuple(self.steps[i] for i in at), tuple(self.returns[i] for i in at), self.source)


def learning_curve(agent: Path) -> LearningCurve | None:
    """The curve beside an agent's zip, or in its folder; None where there is none that can be read. Evaluations come
    before monitors: they are without exploration, and of episodes that all count the same."""
    folder = agent if agent.is_dir() else agent.parent
    for curve in (
        _evaluations(folder / "evaluations.npz"),
        _own(folder / CURVE),
        _logger(folder / "progress.csv"),
        _monitors(folder),
        _events(folder),
    ):
        if curve is not None and len(curve.steps) >= 2:
            return curve
    return None


def events_unread(agent: Path) -> bool:
    """Whether TensorBoard events lie beside the agent, but the package that reads them is not installed."""
    folder = agent if agent.is_dir() else agent.parent
    return bool(_event_files(folder)) and importlib.util.find_spec("tensorboard") is None


def _evaluations(path: Path) -> LearningCurve | None:
    """SB3's EvalCallback: `timesteps` (N,), `results` (N, episodes)."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        with zipfile.ZipFile(path) as archive:
            if sum(i.file_size for i in archive.infolist()) > MAX_BYTES:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            steps, results = np.asarray(arrays["timesteps"]), np.asarray(arrays["results"], dtype=np.float64)
    except Exception:  # a damaged file of another program: zipfile, zlib and numpy raise many kinds
        return None
    if steps.ndim != 1 or results.ndim < 2 or len(steps) != len(results) or not results.size:
        return None
    return _curve(steps, results.reshape(len(results), -1).mean(axis=1), "evaluations.npz")


def _text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        return path.read_text("utf-8", "replace")
    except OSError:
        return None


def _own(path: Path) -> LearningCurve | None:
    """What Unstuck's learner writes: an object on each line."""
    points = []
    for line in (_text(path) or "").splitlines():
        try:
            point = CurvePoint.of(line)
        except ValueError:
            continue
        if point.return_mean is not None:
            points.append((float(point.steps), float(point.return_mean)))
    return _of_points(points, CURVE)


def _logger(path: Path) -> LearningCurve | None:
    """SB3's logger with the format `csv`: a column for each quantity."""
    try:
        rows = list(csv.DictReader((_text(path) or "").splitlines()))
    except csv.Error:
        return None
    for column in RETURNS:
        points = []
        for row in rows:
            try:
                points.append((float(row["time/total_timesteps"]), float(row[column])))
            except (KeyError, ValueError, TypeError, OverflowError):
                continue
        if len(points) > 1:
            return _of_points(points, "progress.csv")
    return None


def _event_files(folder: Path) -> list[Path]:
    try:
        found = sorted({*folder.glob("events.out.tfevents.*"), *folder.glob("*/events.out.tfevents.*")})
        return [p for p in found if p.is_file() and p.stat().st_size <= MAX_BYTES][-MAX_EVENTS:]
    except OSError:
        return []


def _events(folder: Path) -> LearningCurve | None:
    """Scalars of TensorBoard: of the last training, where there are several."""
    files = _event_files(folder)
    if not files or importlib.util.find_spec("tensorboard") is None:
        return None
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    for tag in RETURNS:
        for file in reversed(files):
            try:
                events = EventAccumulator(str(file), size_guidance={SCALARS: 10_000}).Reload()
                points = [(float(e.step), float(e.value)) for e in events.Scalars(tag)]
            except Exception:  # a damaged file of another program: its reader raises many kinds
                continue
            if len(points) > 1:
                return _of_points(points, "TensorBoard events")
    return None


def _of_points(points: list[tuple[float, float]], source: str) -> LearningCurve | None:
    if len(points) < 2:
        return None
    steps, returns = (np.array(column) for column in zip(*sorted(points), strict=True))
    return _curve(steps, returns, source)


def _monitors(folder: Path) -> LearningCurve | None:
    """SB3's Monitor: a file for each environment, with a line `return, length, seconds since its start` for each
    episode. The episodes of all of them in the order in which they ended."""
    try:
        paths = sorted(p for p in folder.glob("*monitor.csv") if p.is_file())[:MAX_FILES]
        if sum(p.stat().st_size for p in paths) > MAX_BYTES:
            return None
        episodes = sorted(episode for path in paths for episode in _episodes(path))
    except (OSError, csv.Error):
        return None
    if len(episodes) < 2:
        return None
    _, returns, lengths = (np.array(column) for column in zip(*episodes, strict=True))
    steps = np.cumsum(lengths)
    width = min(EPISODES, max(1, len(returns) // 4))
    means = np.convolve(returns, np.ones(width) / width, mode="valid")
    # Windows that do not overlap: each episode counts once, and points tell of different episodes.
    return _curve(steps[width - 1 :: width], means[::width], "monitor.csv")


def _episodes(path: Path) -> Iterator[tuple[float, float, int]]:
    """(end in seconds, return, length) of each episode; lines that are none are skipped."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        head = file.readline()
        try:
            start = float(json.loads(head.removeprefix("#")).get("t_start", 0.0)) if head.startswith("#") else 0.0
        except (ValueError, AttributeError, TypeError, RecursionError):
            start = 0.0
        for row in csv.DictReader(file):
            try:
                yield start + float(row["t"]), float(row["r"]), int(float(row["l"]))
            except (KeyError, ValueError, TypeError, OverflowError):
                continue


def _curve(steps: np.ndarray, returns: np.ndarray, source: str) -> LearningCurve | None:
    steps, returns = np.asarray(steps, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    good = np.isfinite(returns) & (steps > 0) & (steps < MOST_STEPS)
    steps, returns = steps[good].astype(np.int64), returns[good]
    if len(steps) < 2 or not bool((np.diff(steps) >= 0).all()):
        return None
    return LearningCurve(tuple(steps.tolist()), tuple(returns.tolist()), source)
