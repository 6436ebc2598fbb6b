"""Which agent to use, and how what was tried compares."""

from __future__ import annotations

from dataclasses import asdict

from unstuck.results.keys import Mode, Result
from unstuck.results.races import RaceVerdict
from unstuck.results.scores import LastTest
from unstuck.stats import Interval


class Spread(Result):
    """A mean with its 95 % interval; without bounds where one value leaves them unknown."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int

    @classmethod
    def of(cls, interval: Interval) -> Spread:
        return cls(**asdict(interval))

    @property
    def interval(self) -> Interval:
        return Interval(self.mean, self.low, self.high, self.n)


class RunVerdict(Result):
    """Which agent to use after a run, and how what was tried compares: RUN/verdict.json."""

    chosen: str
    """Whose agent RUN/agent.zip is: an arm, or `before` where none is better than the agent as it was given."""
    seed: int | None = None
    trained: int = 0
    """Environment steps that the chosen policy was trained for."""
    mode: Mode = "deterministic"
    """How agents act in all numbers below."""
    subject: str
    """The arm that `differences` are of: the guided one, or the winner of a race."""
    returns: dict[str, Spread]
    """Mean return of each arm over its seeds; of `before` over episodes."""
    differences: dict[str, Spread]
    """Return of the subject less that of each other: `before`, `ppo`..."""
    statistics: bool = False
    """Whether RUN/agent.vecnormalize.pkl belongs to the agent."""
    why: str
    """How it was chosen, in a sentence."""
    race: RaceVerdict | None = None
    """The race that chose it, if one did."""
    test: LastTest | None = None
    """The test that the best of what was trained passed or not, where there was no race."""
