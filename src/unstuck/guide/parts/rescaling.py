"""Inputs of one scale: what can only be small is brought to the range from -1 to 1; what the agent does stays the same.

How, and why it helps: `unstuck.agents.rescaling`.
"""

from __future__ import annotations

from typing import Any

from unstuck.guide.base import Context, Part, PartSettings


class RescalingSettings(PartSettings):
    """Inputs that can only be small."""

    rescale: bool = False
    """Scale inputs that can only be small, such as MountainCar's velocity, to the range from -1 to 1, with weights that
    undo it: the agent does as before, and can learn from them."""


class Rescaling(Part):
    """Makes the agent anew before training begins."""

    name = "rescaling"
    Settings = RescalingSettings
    explained = False
    settings: RescalingSettings

    def __init__(self, settings: RescalingSettings, context: Context):
        super().__init__(settings, context)
        self._notes: list[str] = []

    def agent(self, agent: Any) -> Any:
        made = self.context.source.rescaled(agent)
        self._notes = list(made.notes[len(agent.notes) :])
        return made

    def notes(self) -> list[str]:
        return self._notes
