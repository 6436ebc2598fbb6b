"""Small plots as SVG: sizes in a view box, colours by classes of the style sheet, and a title for those who do not see
them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from unstuck.review.seen import Window, runs_of
from unstuck.stages.report.words import minus, number

WIDTH, HEIGHT, EDGE = 240, 76, 6


def window_plot(window: Window, step: int, unit: str = "", thresholds: Sequence[float] = ()) -> str:
    """A variable around a critical state: its own episode, median and quartiles of all, thresholds that the advice
    names. The line of class `cursor` can be moved: `data-from` is the first step, `data-width` that of a step."""
    every = np.concatenate([window.own, window.low, window.high, np.asarray(thresholds, dtype=float)])
    bottom, top = float(np.nanmin(every)), float(np.nanmax(every))
    if top - bottom < 1e-9:
        bottom, top = bottom - 0.5, top + 0.5
    each = (WIDTH - 2 * EDGE) / max(1, len(window.steps) - 1)

    def x(i: int) -> float:
        return EDGE + each * i

    def y(value: float) -> float:
        return EDGE + (HEIGHT - 2 * EDGE) * (top - value) / (top - bottom)

    def path(values: np.ndarray, order: Sequence[int]) -> str:
        return "L".join(f"{x(i):.1f} {y(values[i]):.1f}" for i in order)

    forth = range(len(window.steps))
    at = window.steps.index(step)
    unit = f" {unit}" if unit else ""
    here, usual = float(window.own[at]), float(window.middle[at])
    title = (
        f"{window.name}, steps {window.steps[0]} to {window.steps[-1]}: {number(here)}{unit} at step {step}, "
        f"the median of the episodes {number(usual)}{unit}"
    )
    lines = "".join(
        f'<line class="threshold" x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>' for t in thresholds
    )
    band = f"M{path(window.high, forth)}L{path(window.low, list(reversed(forth)))}Z"
    body = (
        f'<path class="band" d="{band}"/>{lines}<path class="middle" d="M{path(window.middle, forth)}"/>'
        f'<path class="own" d="M{path(window.own, forth)}"/>'
        f'<line class="cursor" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="0" y2="{HEIGHT}" data-from="{window.steps[0]}" '
        f'data-width="{each:.4f}" data-edge="{EDGE}"/>'
        f'<circle class="here" cx="{x(at):.1f}" cy="{y(here):.1f}" r="3"/>'
    )
    return _svg("window", minus(title), WIDTH, HEIGHT, body)


def ends_of(window: Window) -> tuple[str, str]:
    """The lowest and the highest value in the plot, in words."""
    every = np.concatenate([window.own, window.low, window.high])
    return minus(number(float(every.min()))), minus(number(float(every.max())))


def holds_plot(holds: dict[int, np.ndarray]) -> str:
    """Where a condition holds: a row for each episode, from its begin to its end, on one scale of steps."""
    longest, thick, gap = max(len(h) for h in holds.values()), 5, 2
    height = len(holds) * (thick + gap)
    rows = []
    for row, each in enumerate(holds.values()):
        top, width = row * (thick + gap), WIDTH * len(each) / longest
        rows.append(f'<rect class="row" x="0" y="{top}" width="{width:.1f}" height="{thick}"/>')
        parts = "".join(
            f"M{a * width:.1f} {top}H{b * width:.1f}V{top + thick}H{a * width:.1f}Z" for a, b in runs_of(each)
        )
        rows.append(f'<path class="holds" d="{parts}"/>' if parts else "")
    shares = ", ".join(f"{100 * h.mean():.0f} %" for h in holds.values())
    return _svg("where", f"Where it holds, a row for each episode: {shares} of its steps", WIDTH, height, "".join(rows))


def interval_plot(gain: float, low: float, high: float) -> str:
    """A gain with its interval, and where zero is."""
    bottom, top = min(low, 0.0), max(high, 0.0)
    span = (top - bottom) or 1.0

    def x(value: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * (value - bottom) / span

    body = (
        f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="18"/>'
        f'<line class="reach" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="9" y2="9"/>'
        f'<circle class="gain" cx="{x(gain):.1f}" cy="9" r="4"/>'
    )
    title = minus(f"Gain {number(gain)}, interval from {number(low)} to {number(high)}; the upright line is zero")
    return _svg("interval", title, WIDTH, 18, body)


def _svg(kind: str, title: str, width: int, height: int, body: str) -> str:
    return (
        f'<svg class="plot {kind}" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
