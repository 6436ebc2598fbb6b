"""Names and what all results share: modes, files, stages, what is charged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from unstuck.errors import RunError
from unstuck.guidance import validation_message
from unstuck.run import read_json, write_json

Mode = Literal["deterministic", "sampled"]
MODES: tuple[Mode, ...] = ("deterministic", "sampled")
"""How an agent acts when it is scored: its most likely actions, or actions drawn from its policy."""
CONTROL = "ppo"
"""The arm of the same algorithm continued without guidance."""
BEFORE = "before"
"""The agent as it was given, where arms are named."""
VERDICT, DEPLOYED, STATISTICS = "verdict.json", "agent.zip", "agent.vecnormalize.pkl"
"""At the top of the run folder: the verdict, the agent to use, and its observation statistics if it has any."""
RACE, LADDER = "race.json", "ladder.json"
"""What a race came to, in the folder of what it trained; and how it stands, in its own."""


@dataclass(frozen=True, order=True)
class StageKey:
    """The name of a stage: `collect`, or `train/ARM/SEED` for one training run. It is also the stage's folder."""

    stage: str
    arm: str = ""
    seed: int | None = None

    def __str__(self) -> str:
        return self.stage if not self.arm else f"{self.stage}/{self.arm}/{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the name; a stage that is no training run is known by its whole name.

        Raises:
            ValueError: if the seed is not a whole number.
        """
        parts = text.split("/")
        return cls(parts[0], parts[1], int(parts[2])) if len(parts) == 3 else cls(text)

    def to(self, stage: str) -> Self:
        """The stage of this kind for the same arm and seed."""
        return replace(self, stage=stage)


class Result(BaseModel):
    # Fields that a newer version adds are no reason to refuse a file.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises RunError if the file is missing or damaged, and says where."""
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise RunError(f"{path} is damaged:\n{validation_message(error)}") from error

    def write(self, path: Path) -> None:
        """Whole or not at all; fields that are None are left out."""
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """For JSON, without fields that are None."""
        return self.model_dump(mode="json", exclude_none=True)


class Charges(RootModel[dict[str, int]]):
    """Environment steps by the stage that took them: what an arm is charged for one training run."""

    model_config = ConfigDict(frozen=True)
    root: dict[str, int] = {}

    @property
    def total(self) -> int:
        return sum(self.root.values())

    @property
    def before_training(self) -> int:
        """All but training itself."""
        return self.total - self["train"]

    def __getitem__(self, stage: str) -> int:
        return self.root.get(stage, 0)

    def items(self) -> Iterator[tuple[str, int]]:
        """(stage, steps) of the stages that took any, in the order in which they were charged."""
        return ((stage, steps) for stage, steps in self.root.items() if steps)

    def __add__(self, other: Charges) -> Charges:
        return Charges({s: self[s] + other[s] for s in {**self.root, **other.root}})

    @classmethod
    def mean(cls, each: Sequence[Charges]) -> Charges:
        """Of several training runs; they differ only where later rounds do."""
        stages = dict.fromkeys(stage for charges in each for stage in charges.root)
        return cls({stage: round(sum(c[stage] for c in each) / len(each)) for stage in stages})
