"""Figures as SVG text that goes into the page: it takes the page's font and, for axes, its text colour."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from unstuck.results import CONTROL, MODES, Scores
from unstuck.stages.report.data import Curve
from unstuck.stages.report.words import arm_name
from unstuck.stats import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn for axes and text, then replaced by the page's own text colour, which is dark or light.
_INK = "#010203"
_FAINT = "#040506"
# Okabe and Ito's palette: told apart by colour-blind readers, and readable on white and on near-black.
COLOURS = {"before": "#8a8a8a", "ppo": "#d57a00", "unstuck": "#0d84c4"}
_OTHERS = ("#009e73", "#cc79a7", "#a6761d")
_MARKS = {"before": "s", "ppo": "D"}


def colour(arm: str, arms: Sequence[str] = ()) -> str:
    if arm in COLOURS:
        return COLOURS[arm]
    others = [a for a in arms if a not in COLOURS]
    return _OTHERS[others.index(arm) % len(_OTHERS)] if arm in others else _OTHERS[0]


def scores_figure(scores: Scores) -> str:
    """Mean with interval for each arm and mode; small dots are seeds (for the agent before: episodes)."""
    rows = ["before", *scores.arms]
    fig, axes = _figure(height=0.9 + 0.42 * len(rows) * len(MODES), panels=len(MODES))
    for ax, mode in zip(axes, MODES, strict=True):
        for i, arm in enumerate(rows):
            value = scores.interval_before(mode) if arm == "before" else scores.interval(arm, mode)
            dots = scores.before.of(mode) if arm == "before" else scores.arms[arm].per_seed(mode)
            _dot_with_interval(ax, i, value, dots, colour(arm, rows), _MARKS.get(arm, "o"))
        ax.set_yticks(range(len(rows)), [("Before" if a == "before" else arm_name(a, scores.algorithm)) for a in rows])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_title(mode, loc="left", fontsize=10, color=_INK)
        ax.grid(axis="x", color=_FAINT, linewidth=0.5)
    axes[-1].set_xlabel("return per episode (higher is better)")
    return _svg(fig, "scores", _scores_title(scores))


def _scores_title(scores: Scores) -> str:
    mode = MODES[0]
    means = [
        ("Before", scores.interval_before(mode)),
        *((arm_name(a, scores.algorithm), scores.interval(a, mode)) for a in scores.arms),
    ]
    return f"Return per episode, {mode}: " + "; ".join(f"{name} {found.mean:.3g}" for name, found in means)


def _dot_with_interval(ax: Axes, y: float, value: Interval, dots: Sequence[float], shade: str, mark: str) -> None:
    if len(dots) > 1:
        # A fixed spread, so that equal dots stay apart and the figure is the same each time.
        spread = 0.24 + 0.06 * (np.arange(len(dots)) % 2)
        ax.plot(dots, y + spread, "o", color=shade, markersize=3, alpha=0.55, markeredgewidth=0)
    if value.low is not None and value.high is not None:
        ax.plot([value.low, value.high], [y, y], color=shade, linewidth=2.5, solid_capstyle="butt")
    ax.plot([value.mean], [y], mark, color=shade, markersize=7)


def curves_figure(
    curves: Sequence[Curve], key: str, label: str, name: str, before: float | None = None, share: bool = False
) -> str:
    """Median over seeds (thick) and each seed (thin) of one quantity against the environment steps charged; '' where
    no run has recorded it. A `share` is drawn from 0 to 100 %."""
    arms = sorted({c.arm for c in curves}, key=lambda a: (a != CONTROL, a))
    names = {c.arm: arm_name(c.arm, c.facts.algorithm) for c in curves}
    ends = []
    fig, (ax,) = _figure(height=2.9)
    drawn = False
    for arm in arms:
        series = [s for c in curves if c.arm == arm and (s := c.series(key))[0]]
        if not series:
            continue
        drawn, shade = True, colour(arm, arms)
        dash = "--" if arm == CONTROL else "-"
        for x, y in series:
            ax.plot(x, y, dash, color=shade, linewidth=0.8, alpha=0.45, marker=_lone(x), markersize=3)
        grid, middle = median_curve(series)
        ax.plot(grid, middle, dash, color=shade, linewidth=2.4, label=names[arm], marker=_lone(grid), markersize=6)
        if len(middle):
            ends.append(f"{names[arm]} from {middle[0]:.3g} to {middle[-1]:.3g}")
        if series[0][0][0] > 0 and (start := min(c.begin for c in curves if c.arm == arm)) > 0:
            ax.axvline(start, color=shade, linewidth=0.8, linestyle=":")
    if not drawn:
        return ""
    title = f"{label[0].upper()}{label[1:]} over environment steps: {'; '.join(ends)}"
    if before is not None:
        ax.axhline(before, color=COLOURS["before"], linewidth=1, linestyle=(0, (1, 2)), label="Before")
    ax.set_xlim(left=0)
    if share:
        from matplotlib.ticker import PercentFormatter

        ax.set_ylim(0, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("environment steps charged")
    ax.set_ylabel(label)
    ax.grid(axis="y", color=_FAINT, linewidth=0.5)
    ax.xaxis.set_major_formatter(_thousands())
    legend = ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0)
    for text in legend.get_texts():
        text.set_color(_INK)
    return _svg(fig, name, title)


def _lone(x: Sequence[float] | np.ndarray) -> str:
    """The mark of a line of a single point, which would not be seen without one."""
    return "o" if len(x) == 1 else ""


def median_curve(series: Sequence[tuple[list[float], list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Median over the runs that have points on both sides, wherever these are at least half of them, so that one run
    with few points does not take the line away; by linear interpolation between a run's own points."""
    grid = np.unique(np.concatenate([x for x, _ in series]))
    each = np.array([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in series])
    inside = np.isfinite(each).sum(axis=0) >= max(1, len(series) / 2)
    return grid[inside], np.nanmedian(each[:, inside], axis=0)


def _thousands():
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x else "0")


def _figure(height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    fig = Figure(figsize=(4.7, height), layout="constrained")
    axes = list(np.atleast_1d(fig.subplots(panels, 1, sharex=True)))
    for ax in axes:
        ax.patch.set_alpha(0)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for spine in ax.spines.values():
            spine.set_color(_INK)
            spine.set_alpha(0.6)
        ax.tick_params(colors=_INK, labelsize=9)
        for text in (ax.xaxis.label, ax.yaxis.label):
            text.set_color(_INK)
            text.set_fontsize(9)
        ax.set_axisbelow(True)
    fig.patch.set_alpha(0)
    return fig, axes


def _svg(fig: Figure, name: str, title: str) -> str:
    """The figure as an <svg> element: ids told apart by `name` and the same each time, nothing from outside; to those
    who do not see it, an image of this title."""
    import matplotlib

    out = io.StringIO()
    # Names come from files of others: they are text, whatever signs are in them.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "text.parse_math": False}):
        fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(?<=\bid=")|(?<=xlink:href="#)|(?<=url\(#)', f"{name}-", text)
    # The size is left to the page; the view box keeps the proportions.
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<svg\b", f'<svg role="img" aria-labelledby="{name}-title"', text, count=1)
    titled = f'<title id="{name}-title">{escape(title)}</title>'
    text = re.sub(r"<svg\b[^>]*>", lambda match: match[0] + titled, text, count=1)
    text = text.replace(_FAINT, "var(--rule)").replace(_INK, "currentColor")
    return text.strip()
