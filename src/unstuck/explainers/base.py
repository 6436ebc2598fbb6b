"""What an explainer is: one class, with its settings, in one file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from unstuck.guidance import Evidence, Guidance

if TYPE_CHECKING:
    from unstuck.config import ExplainConfig
    from unstuck.llm import Request
    from unstuck.tasks.card import TaskCard
    from unstuck.views import View
    from unstuck.workspace import Workspace


@dataclass(frozen=True)
class Explanation:
    """Guidance, and what it took."""

    guidance: Guidance
    env_steps: int = 0
    """Environment steps taken to find it; they are charged to the arms that use it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the run's manifest: tokens, cost, keys of recordings and the like; JSON-able."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What else is kept in the stage's folder, by file name."""
    opinions: tuple[Guidance, ...] = ()
    """Further explanations of the same episodes, where several were asked for; kept beside the first."""


class NoSettings(BaseModel):
    """Of an explainer that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Explainer(ABC):
    """Names critical states of a run's episodes and what to do there, in whatever way.

    The run is there as `space`: `space.episodes` and `space.describer` (observations to named variables), and where
    more is needed `space.actor`, `space.make_env`, `space.snapshotter`, `space.agent`.
    """

    Settings: ClassVar[type[BaseModel]] = NoSettings
    """Declared once. A user sets them under `explain`, those of other packages' explainers under `explain.options`.
    They are part of the stage's fingerprint, so that the stage is repeated when one changes."""
    label: ClassVar[str] = ""
    """Who speaks, as the report says it; '' for the name."""

    def __init__(self, name: str, space: Workspace, settings: Any, model: Any = None):
        """Args:
        name: under which it is registered; one class may have several names.
        settings: a `Settings`.
        model: a pydantic-ai model in place of the one configured; for explainers that ask one.
        """
        self.name, self.space, self.settings, self.model = name, space, settings, model
        self.say: Callable[[str], None] = lambda words: None
        """Tells the user something while it works."""

    def tell(self, say: Callable[[str], None]) -> None:
        """Let it tell the user what goes on."""
        self.say = say

    @classmethod
    def asks(cls, config: ExplainConfig) -> bool:
        """Whether it asks a language model."""
        return False

    @abstractmethod
    def explain(self) -> Explanation:
        """What it finds.

        Returns:
            guidance over the named variables of `space.describer`, whose `variables` turns observations (T + 1, ...) of
            an episode into (T + 1, V); evidence by index and step of `space.episodes`. And the environment steps taken.

        Raises:
            UnstuckError: one of its kinds, which reaches the user as it is; what to do is in its words.
        """

    def announce(self) -> str:
        """What it is about to do, beside the progress bar."""
        return self.name

    def depends(self) -> list[Any]:
        """What the explanation depends on beside the episodes and the settings: JSON-able values and paths of files."""
        return []

    def requests(self) -> list[Request]:
        """What it would ask a language model first, as far as that is known beforehand."""
        return []


def evidence_at(view: View, step: int, card: TaskCard) -> Evidence:
    """Where it was, with the values of the variables there (those that are finite)."""
    values = zip(card.variable_names, view.states[step], strict=True)
    state = {name: float(value) for name, value in values if math.isfinite(value)}
    return Evidence(episode=view.index, step=step, state=state)
