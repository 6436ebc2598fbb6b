"""The draft of a stage: the folder in which it writes until all of it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Draft:
    """The folder in which a stage writes, and what it will be entered with."""

    def __init__(self, name: str, folder: Path):
        self.name = name
        self.folder = folder
        self.env_steps = 0
        self.facts: dict[str, Any] = {}
        self.publish: list[tuple[str, str]] = []
        """(file in the stage's folder, name in the run folder to which it is copied)."""
        self.kept: dict[str, str] = {}
        """Filled in on commit: of the latter those that a person had edited → the name under which that is kept."""

    def kept_words(self) -> list[str]:
        """What the user is told of edited files that the stage replaced."""
        return [
            f"{name} had been edited; as it depends on what has changed, it was made anew, and the edited one is kept "
            f"as {kept}"
            for name, kept in self.kept.items()
        ]
