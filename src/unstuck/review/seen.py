"""What the collected episodes show of a piece of advice: where it holds, what is around it, what it would have paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unstuck.episodes import EpisodeSet
from unstuck.guidance import Advice, Guidance, Term
from unstuck.matching import Conditions, Matcher, Terms
from unstuck.tasks.card import Describer

AROUND = 40
"""Steps of the window on either side of a critical state."""
BINS = 200
"""Columns of the picture of where a rule holds."""


@dataclass(frozen=True)
class Window:
    """One variable around a critical state."""

    name: str
    steps: range
    own: np.ndarray
    """(len(steps),) of the state's own episode."""
    middle: np.ndarray
    """(len(steps),) median at the same step over all collected episodes that are still going on."""
    low: np.ndarray
    high: np.ndarray
    """(len(steps),) their quartiles."""

    @property
    def far(self) -> float:
        """How far the own episode lies from the median in this window, in widths of the quartiles."""
        width = float(np.mean(self.high - self.low))
        away = float(np.mean(np.abs(self.own - self.middle)))
        return away / width if width > 1e-9 else float(away > 1e-9)


@dataclass(frozen=True)
class Worth:
    """What a reward term would have paid on the collected episodes, before it fades."""

    fires: float
    """Share of the states after each step in which it is not zero."""
    per_step: float
    per_episode: float
    best: float
    worst: float
    """Per step in the episodes of highest and lowest return."""
    share: float | None
    """Of the mean return: |sum over an episode| / |mean return|; None where the return is zero."""


class Seen:
    """The collected episodes in named variables. Everything is None or empty where there are no episodes.

    Args:
        describer: of the task; None where its simulator is not installed here.
    """

    def __init__(self, describer: Describer | None, episodes: EpisodeSet):
        self.names = describer.card.variable_names if describer else ()
        self.values: dict[int, np.ndarray] = {}
        """Index of the episode → (T + 1, V)."""
        self.rewards: dict[int, np.ndarray] = {}
        if describer is not None:
            for episode in episodes:
                self.values[episode.index] = describer.variables(episode.observations)
                self.rewards[episode.index] = episode.rewards

    @cached_property
    def _states(self) -> np.ndarray:
        """(N, V) before each step: where an agent can act."""
        return np.concatenate([v[:-1] for v in self.values.values()])

    @property
    def mean_return(self) -> float | None:
        return float(np.mean([r.sum() for r in self.rewards.values()])) if self.rewards else None

    def holds(self, advice: Advice, guidance: Guidance) -> dict[int, np.ndarray] | None:
        """Index of the episode → (T,) bool: where the advice applies by its own condition, whatever stands before it;
        None where it cannot be said."""
        if not self.values:
            return None
        try:
            if advice.when is not None:
                condition = Conditions([advice.when], self.names)
                return {i: condition(v[:-1])[:, 0] for i, v in self.values.items()}
            matcher = Matcher([advice], guidance, self.names)
            return {i: matcher.first(v[:-1]) >= 0 for i, v in self.values.items()}
        except (KeyError, ValueError):  # advice for another version of the task, or without its state
            return None

    def worth(self, term: Term) -> Worth | None:
        """What the term pays at the states after each step; None where it cannot be said."""
        if not self.values:
            return None
        try:
            measure = Terms([term], self.names)
        except KeyError:
            return None
        paid = {i: measure.each(v[1:])[:, 0] for i, v in self.values.items()}
        order = sorted(paid, key=lambda i: float(self.rewards[i].sum()))
        every, total = np.concatenate(list(paid.values())), self.mean_return or 0.0
        per_episode = float(np.mean([p.sum() for p in paid.values()]))
        return Worth(
            fires=float(np.mean(every != 0)), per_step=float(every.mean()), per_episode=per_episode,
            best=float(paid[order[-1]].mean()), worst=float(paid[order[0]].mean()),
            share=abs(per_episode / total) if abs(total) > 1e-9 else None,
        )  # fmt: skip

    def windows(self, episode: int, step: int, names: Sequence[str] | None = None) -> list[Window]:
        """Of each variable (or of these) around a step; [] where the episode is not there."""
        own = self.values.get(episode)
        if own is None or not 0 <= step < len(own):
            return []
        steps = range(max(0, step - AROUND), min(len(own), step + AROUND + 1))
        stack = np.full((len(self.values), len(steps), own.shape[1]), np.nan)
        for row, values in enumerate(self.values.values()):
            part = values[steps.start : min(steps.stop, len(values))]
            stack[row, : len(part)] = part
        low, middle, high = np.nanpercentile(stack, (25, 50, 75), axis=0)
        here = own[steps.start : steps.stop]
        column = {name: i for i, name in enumerate(self.names)}
        return [
            Window(name, steps, here[:, c], middle[:, c], low[:, c], high[:, c])
            for name in (self.names if names is None else names)
            if (c := column.get(name)) is not None and np.isfinite(here[:, c]).all()
        ]


def runs_of(holds: np.ndarray, bins: int = BINS) -> list[tuple[float, float]]:
    """(T,) bool → where it holds, as (begin, end) shares of the length; of long episodes in `bins` columns, each of
    which counts if it holds anywhere in it."""
    count = min(bins, len(holds))
    parts = np.array([part.any() for part in np.array_split(holds, count)])
    edges = np.flatnonzero(np.diff(parts.astype(np.int8), prepend=0, append=0))
    return [(begin / count, end / count) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
