"""Which episodes a prompt shows, and which of their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unstuck.explainers.llm.facts import BLOCKS
from unstuck.views import View, peaks, whole_of

ALIKE = 0.03
"""Episodes whose parts differ by less than this, as a mean over variables in units of their 5 to 95 % range, go
alike; so do steps."""

Ranges = np.ndarray
"""(V,) 5 to 95 % range of each variable, infinite for those that do not vary."""


@dataclass(frozen=True)
class Selection:
    """A way of choosing. `steps` takes an episode, the number of rows, and the ranges of the variables."""

    episodes: Callable[[Sequence[View], Ranges], list[tuple[str, View]]]
    steps: Callable[[View, int, Ranges], list[int]]
    share: float = 1.0
    """Rows of the episodes between best and worst, as a share of theirs."""


def ranges_of(states: np.ndarray) -> Ranges:
    """(N, V) → (V,)."""
    low, high = np.percentile(states, [5, 95], axis=0)
    width = high - low
    return np.where(width > 1e-9, width, np.inf)


# ------------------------------------------------------------------------------------------------- episodes


def _merit(v: View) -> tuple[float, float, int]:
    """By return; where returns are equal, by the highest V(s) reached."""
    return round(v.total_reward, 6), 0.0 if v.value is None else round(float(v.value.max()), 4), -v.index


def _ranked(views: Sequence[View]) -> list[View]:
    """The best first. What collecting cut is neither good nor bad: it is left out where two others are there."""
    whole = whole_of(views)
    return sorted(whole if len(whole) > 1 else views, key=_merit, reverse=True)


def three(views: Sequence[View]) -> list[tuple[str, View]]:
    """Best, median and worst episode, with one deterministic and one sampled among them where both exist; all of them
    if there are at most three."""
    order = _ranked(views)
    if len(order) == 1:
        return [("EPISODE", order[0])]
    if len(order) == 2:
        return [("BEST EPISODE", order[0]), ("WORST EPISODE", order[1])]
    best, worst, middle = order[0], order[-1], order[len(order) // 2]
    title = "MEDIAN EPISODE"
    if best.mode == worst.mode == middle.mode:
        others = [v for v in order if v.mode != best.mode]
        if others:
            middle, title = others[len(others) // 2], f"MEDIAN OF THE {others[0].mode.upper()} EPISODES"
    return [("BEST EPISODE", best), (title, middle), ("WORST EPISODE", worst)]


def five(views: Sequence[View], ranges: Ranges) -> list[tuple[str, View]]:
    """Best, worst and up to three between them, which are near the quartiles and go unlike those shown already; a mode
    that is missing among them comes first."""
    order = _ranked(views)
    if len(order) <= 2:
        return three(views)
    last = len(order) - 1
    best, worst = order[0], order[last]
    between: list[int] = []
    for target in (last / 2, last / 4, 3 * last / 4):
        shown = [best, worst, *(order[i] for i in between)]
        left = [i for i in range(1, last) if i not in between and not any(alike(order[i], v, ranges) for v in shown)]
        if len({v.mode for v in shown}) == 1:
            left = [i for i in left if order[i].mode != shown[0].mode] or left
        if left:
            between.append(min(left, key=lambda i: (abs(i - target), i)))
    if not between and best.mode == worst.mode:
        between = [i for i in range(1, last) if order[i].mode != best.mode][:1]
    middling = [(f"MIDDLING EPISODE, {_place(i + 1)} OF {len(order)}", order[i]) for i in sorted(between)]
    return [("BEST EPISODE", best), *middling, ("WORST EPISODE", worst)]


def _place(number: int) -> str:
    ending = "TH" if number % 100 in (11, 12, 13) else {1: "ST", 2: "ND", 3: "RD"}.get(number % 10, "TH")
    return f"{number}{ending}"


def alike(a: View, b: View, ranges: Ranges) -> bool:
    """Whether two episodes of about the same length go through the same states, part by part."""
    if abs(len(a) - len(b)) > 0.05 * max(len(a), len(b)):
        return False
    count = min(BLOCKS, len(a), len(b))
    parts = [np.stack([p.mean(axis=0) for p in np.array_split(v.states[:-1], count)]) for v in (a, b)]
    varying = np.isfinite(ranges)
    if not varying.any():
        return True
    return bool((np.abs(parts[0] - parts[1])[:, varying] / ranges[varying]).mean() < ALIKE)


# ---------------------------------------------------------------------------------------------------- steps


def evenly(view: View, rows: int) -> list[int]:
    """About `rows` steps of an episode: the last ones, windows of five steps around those where most seems decided
    (`View.tension`) for up to two thirds, and the rest evenly spread."""
    length = len(view)
    if length <= rows:
        return list(range(length))
    found = _decisive(view, rows)
    even = np.linspace(0, length - 1, max(2, rows - len(found))).round().astype(int)
    return sorted(found | {int(t) for t in even})


def by_change(view: View, rows: int, ranges: Ranges) -> list[int]:
    """As `evenly`, but the rest is spread over time and over the way through the variables alike, and of steps that
    look the same only the first is shown: where nothing changes, rows tell nothing."""
    length = len(view)
    scaled = view.states[:-1] / ranges
    if length <= rows:
        found, spread = {0, *range(max(0, length - 2), length)}, list(range(length))
    else:
        found = _decisive(view, rows)
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(scaled, axis=0)).mean(axis=1))])
        time = np.arange(length) / max(1, length - 1)
        both = time if way[-1] < 1e-12 else (time + way / way[-1]) / 2
        aims = np.linspace(0, 1, max(2, rows - len(found)))
        spread = np.clip(np.searchsorted(both, aims), 0, length - 1).tolist()
    return _without_repeats(view, scaled, found, spread)


def _without_repeats(view: View, scaled: np.ndarray, found: set[int], spread: Sequence[int]) -> list[int]:
    kept: list[int] = []
    for t in sorted(found | {int(t) for t in spread}):
        same = kept and t not in found and _same(view, scaled, kept[-1], t)
        if not same:
            kept.append(t)
    return kept


def _same(view: View, scaled: np.ndarray, a: int, b: int) -> bool:
    actions = view.actions
    acts = actions[a] == actions[b] if actions.ndim == 1 else np.allclose(actions[a], actions[b], atol=0.05)
    return bool(acts) and bool(np.abs(scaled[a] - scaled[b]).max() < ALIKE)


def _decisive(view: View, rows: int) -> set[int]:
    length = len(view)
    found = set(range(length - min(4, rows // 4), length))
    # Windows keep a distance, so that one turbulent stretch does not take them all.
    for centre in peaks(view.tension(), rows, max(5, length // 20)):
        window = {t for t in range(centre - 2, centre + 3) if 0 <= t < length}
        if len(found | window) > 2 * rows // 3:
            break
        found |= window
    return found


SELECTIONS = {
    1: Selection(lambda views, _: three(views), lambda view, rows, _: evenly(view, rows)),
    2: Selection(five, by_change, share=0.5),
}
"""By version of the prompt."""
