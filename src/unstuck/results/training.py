"""What one training run did."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, cast

from pydantic import AfterValidator, ValidationError

from unstuck.errors import RunError
from unstuck.files import stays_inside
from unstuck.guidance import validation_message
from unstuck.results.keys import CONTROL, Charges, Result, StageKey
from unstuck.run import Run


def _inside(name: str) -> str:
    if not stays_inside(name):
        raise ValueError("leads out of the training run's folder")
    return name


class Checkpoint(NamedTuple):
    """A policy kept from the end of training; the last one is the agent itself."""

    trained: int
    """Environment steps that it was trained for."""
    file: Annotated[str, AfterValidator(_inside)]
    """In the folder of the training run."""


class MeanReturns(Result):
    """Mean return by mode, None where there were no episodes."""

    deterministic: float | None = None
    sampled: float | None = None

    def of(self, mode: str) -> float | None:
        return cast("float | None", getattr(self, mode))


class RoundFacts(Result):
    """What one of several rounds began with, was told, and took."""

    round: int
    before: MeanReturns = MeanReturns()
    """Of the round's collected episodes."""
    diagnosis: str = ""
    advice: int = 0
    """Pieces of advice that entered training, of `of`."""
    of: int = 0
    terms: int = 0
    """Reward terms that entered training."""
    charged: Charges = Charges()
    folder: str = ""
    """The round's run folder, from the run's own."""
    model: str | None = None
    """The language model that explained; the fields below are of that explanation."""
    calls: int | None = None
    replayed: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None


class TrainFacts(Result):
    """What one training run did: its info.json, and the facts of its stage."""

    arm: str
    seed: int
    charged: Charges = Charges()
    steps: int = 0
    """Environment steps trained."""
    budget: int | None = None
    """Environment steps that the arm was allowed in all."""
    checkpoints: tuple[Checkpoint, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was done to the agent before it was trained."""
    hit_rate: float | None = None
    """Share of steps in which advice applied; None without advice."""
    backend: str = ""
    engine: str = ""
    algorithm: str = "PPO"
    """What trained: the agent's own algorithm, or PPO where that learns on-policy."""
    rounds: tuple[RoundFacts, ...] = ()
    """Empty where there was only one."""

    @property
    def key(self) -> StageKey:
        return StageKey("train", self.arm, self.seed)

    def as_json(self) -> dict[str, Any]:
        return super().as_json() if self.rounds else {k: v for k, v in super().as_json().items() if k != "rounds"}


def trainings(run: Run) -> dict[StageKey, TrainFacts]:
    """The finished training runs of a run folder, control first, then by arm and seed.

    Raises:
        RunError: if the manifest's entry of one is damaged.
    """
    found = {}
    for name, record in run.manifest.stages.items():
        if not name.startswith("train/"):
            continue
        try:
            facts = TrainFacts.model_validate(record.facts)
        except ValidationError as error:
            raise RunError(f"{run.root}/manifest.json: {name} is damaged:\n{validation_message(error)}") from error
        found[StageKey.parse(name)] = facts
    return dict(sorted(found.items(), key=lambda item: (item[0].arm != CONTROL, item[0])))
