"""A competitor under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unstuck.guidance import Guidance
from unstuck.guide.plan import Plan
from unstuck.race.competitors import Competitor
from unstuck.results import Rank


@dataclass
class Entry:
    """A competitor under way."""

    competitor: Competitor
    plan: Plan
    guidance: Guidance | None
    trained: int = 0
    points: list[tuple[int, list[float]]] = field(default_factory=list)
    """(trained, evaluation returns) after each leg."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What its last leg said."""
    rank: Rank = field(default_factory=lambda: Rank(name=""))

    @property
    def name(self) -> str:
        return self.competitor.name

    @property
    def episode_length(self) -> float | None:
        """Mean steps of its latest evaluation episodes; None where there were none."""
        judged = self.facts.get("judged")
        return judged / len(self.points[-1][1]) if judged else None

    def out(self, note: str) -> None:
        """It is dropped, and why."""
        self.rank = self.rank.model_copy(update={"status": "dropped", "note": note})

    def back(self) -> None:
        """It was dropped, and goes on after all."""
        self.rank = self.rank.model_copy(update={"status": "racing", "note": ""})


def place(entry: Entry) -> tuple[bool, int, float]:
    """Sorts those that race in front of those that were dropped, and both by how far they came."""
    rank = entry.rank
    height = rank.forecast if rank.forecast is not None else rank.level
    return rank.status == "dropped", -rank.trained, -(height if height is not None else float("-inf"))
