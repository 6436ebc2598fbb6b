"""How a race stands, and what it came to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.results.keys import Charges, Mode, Result


class Gain(Result):
    """Mean difference of returns in paired episodes, and its one-sided lower bound; None with fewer than two pairs."""

    mean: float
    low: float | None = None
    pairs: int


class Rank(Result):
    """A competitor's place in a race."""

    name: str
    reason: str = ""
    """Why it may help."""
    trained: int = 0
    """Environment steps."""
    level: float | None = None
    """Mean return of its last evaluation episodes."""
    forecast: float | None = None
    """The return that it was heading for, by its learning curve."""
    status: Literal["racing", "dropped", "winner"] = "racing"
    note: str = ""
    """Why it was dropped."""

    def words(self) -> str:
        """`-119 after 20,480 steps, heading for -110`, and why it is out; why it may help, while it was not trained."""
        if not self.trained:
            return self.reason.partition(";")[0] or self.status
        level = "not evaluated" if self.level is None else f"{self.level:.4g}"
        text = f"{level} after {self.trained:,} steps"
        if self.status == "dropped":
            return f"{text}; dropped, {self.note}"
        heading = f", heading for {self.forecast:.4g}" if self.forecast is not None and self.status == "racing" else ""
        return f"{text}{heading}{'; the winner' if self.status == 'winner' else ''}"


class Ladder(Result):
    """How a race stands: RUN/race/ARM/SEED/ladder.json, written anew after each rung."""

    title: str = ""
    seed: int = 0
    spent: Charges = Charges()
    """Environment steps of the race itself so far."""
    budget: int = 0
    """What the race may take, without what collecting and the coach took before it."""
    usd: float | None = None
    """What the coach has cost."""
    ranks: tuple[Rank, ...] = ()
    """Who is ahead first; the dropped ones last."""

    def lines(self) -> list[str]:
        """For people: a head, a line for each that was trained or waits, and one for all that were never tried and
        share the reason."""
        money = f", ${self.usd:.4f} for the coach" if self.usd else ""
        head = f"race, seed {self.seed}: {self.title}; {self.spent.total:,} of {self.budget:,} steps{money}"
        told: list[str] = []
        left_out: dict[str, list[str]] = {}
        for rank in self.ranks:
            if rank.status == "dropped" and not rank.trained:
                left_out.setdefault(rank.note, []).append(rank.name)
            else:
                told.append(f"  {len(told) + 1}. {rank.name}: {rank.words()}")
        return [head, *told, *(f"  {', '.join(names)}: {note}" for note, names in left_out.items())]


class RaceVerdict(Result):
    """What a race hands over in the end, and why: RUN/train/ARM/SEED/race.json, and part of RUN/verdict.json."""

    handed: Literal["finalist", "trunk", "original"]
    """The winner of the race; plain PPO (`trainer`) as far as it was trained; or the agent as it was given."""
    trainer: str = "PPO"
    """The algorithm of the trunk."""
    name: str
    """The competitor that was handed over, or `original`."""
    finalist: str
    """The competitor that was tested."""
    why: str
    """In a sentence."""
    mode: Mode
    """In which the agent was compared, and should be run."""
    level: float
    """One minus the confidence of the lower bounds."""
    noise: float = 1.0
    """Share of its noise with which it is handed over: of the standard deviation, or the temperature of actions."""
    other: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Returns in the other mode, not paired: of what is handed over, and of what it must not be worse than."""
    returns: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Of the test's paired episodes: finalist, trunk, original."""
    seeds: tuple[int, ...] = ()
    over_original: Gain | None = None
    over_trunk: Gain | None = None
    """None where the finalist is the trunk itself."""
    ladder: tuple[Rank, ...] = ()
    charged: Charges = Charges()
    budget: int = 0
    seed: int = 0

    @property
    def height(self) -> float:
        """By which several seeds are told apart: the gain over the agent before that was shown."""
        if self.handed == "original" or self.over_original is None:
            return 0.0
        low = self.over_original.low
        return low if low is not None and self.handed == "finalist" else min(self.over_original.mean, 0.0)
