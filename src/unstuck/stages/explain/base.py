"""What an explainer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from unstuck.episodes import EpisodeSet
from unstuck.guidance import Guidance
from unstuck.tasks.card import Describer


@dataclass(frozen=True)
class Explanation:
    """Guidance, and what it took."""

    guidance: Guidance
    env_steps: int = 0
    """Environment steps taken to find it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the run's manifest: tokens, cost, keys of recordings and the like; JSON-able."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What else is kept in the stage's folder, by file name."""


class Explainer(Protocol):
    """Names critical states of episodes, and what to do there."""

    def explain(self, episodes: EpisodeSet, describer: Describer) -> Explanation: ...
