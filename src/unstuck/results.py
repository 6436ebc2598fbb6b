"""What stages leave in files, typed: the stage that writes one and everybody who reads it share its model.

    train/ARM/SEED/info.json      TrainFacts, which the manifest's entry of the stage holds too
    evaluate/scores.json          Scores
    score/ARM/SEED/scores.json    AgentScores, in a benchmark; score/scores.json, Returns of the agent before
    verdict.json                  RunVerdict: the agent to use (agent.zip beside it), and how it compares

The names of stages are built and taken apart by `StageKey` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

import numpy as np
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    computed_field,
    field_validator,
)

from unstuck.errors import RunError
from unstuck.files import stays_inside
from unstuck.guidance import validation_message
from unstuck.run import Run, read_json, write_json
from unstuck.stats import Interval, difference_interval, mean_interval

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


class _Result(BaseModel):
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


# ------------------------------------------------------------------------------------------------------- training


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


class MeanReturns(_Result):
    """Mean return by mode, None where there were no episodes."""

    deterministic: float | None = None
    sampled: float | None = None

    def of(self, mode: str) -> float | None:
        return cast("float | None", getattr(self, mode))


class RoundFacts(_Result):
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


class TrainFacts(_Result):
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


# ---------------------------------------------------------------------------------------------------------- races


class Gain(_Result):
    """Mean difference of returns in paired episodes, and its one-sided lower bound; None with fewer than two pairs."""

    mean: float
    low: float | None = None
    pairs: int


class Rank(_Result):
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


class Ladder(_Result):
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


class RaceVerdict(_Result):
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
    other: dict[str, tuple[float, ...]] = {}
    """Returns in the other mode, not paired: of what is handed over, and of what it must not be worse than."""
    returns: dict[str, tuple[float, ...]] = {}
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


# ---------------------------------------------------------------------------------------------------------- scores


Return = Annotated[float, Field(ge=-1e100, le=1e100)]
"""A return whose square is still a number."""


class Returns(_Result):
    """Returns of episodes, by mode; the same seeds in both."""

    deterministic: tuple[Return, ...] = Field(min_length=1)
    sampled: tuple[Return, ...] = Field(min_length=1)

    def of(self, mode: str) -> tuple[float, ...]:
        """(episodes,)."""
        return cast("tuple[float, ...]", getattr(self, mode))


class CheckpointScores(Returns):
    """Of one late checkpoint."""

    trained: int = Field(validation_alias=AliasChoices("trained", "steps"))
    """Environment steps that it was trained for."""


class AgentScores(_Result):
    """Of one trained agent: one arm and seed."""

    checkpoints: tuple[CheckpointScores, ...] = Field(min_length=1)
    env_steps: int | None = None
    """That scoring it took, and (below) what decides its numbers; in a benchmark only."""
    versions: dict[str, str] | None = None

    def score(self, mode: str) -> float:
        """Mean return over all episodes of all late checkpoints."""
        return float(np.mean(np.concatenate([c.of(mode) for c in self.checkpoints])))


class ArmScores(_Result):
    """Of one arm, by seed."""

    charged: Charges = Charges()
    """Of one training run; the mean where they differ."""
    seeds: dict[int, AgentScores] = Field(min_length=1)

    def per_seed(self, mode: str) -> tuple[float, ...]:
        """(seeds,) the score of each seed."""
        return tuple(agent.score(mode) for agent in self.seeds.values())


class LastTest(_Result):
    """The last test of what one training made: fresh episodes, by which nothing was chosen, paired with the agent's
    before. What is not shown to be better is not handed over."""

    arm: str
    seed: int
    trained: int
    """Of the policy that was tested."""
    mode: Mode
    """In which the episodes of the test were played."""
    level: float
    """One minus the confidence of the lower bound."""
    seeds: tuple[int, ...]
    """Of the paired episodes."""
    returns: tuple[Return, ...]
    before: tuple[Return, ...]
    over_before: Gain
    worse: bool = False
    """Whether it is worse than the agent before in the other mode, by the episodes that were scored."""

    @property
    def passed(self) -> bool:
        low = self.over_before.low
        return low is not None and low > 0 and not self.worse


class Scores(_Result):
    """All scores of a run. An arm's interval is over its seeds; that of the agent before, over episodes."""

    env_id: str
    algorithm: str = "PPO"
    """What trained the arms."""
    before: Returns
    arms: dict[str, ArmScores] = {}
    test: LastTest | None = None
    """Of the best of all that was trained; None where nothing returns more than the agent before, a race had a test of
    its own, or the scores are of a version that had none."""

    @field_validator("arms")
    @classmethod
    def _control_first(cls, arms: dict[str, ArmScores]) -> dict[str, ArmScores]:
        return {name: arms[name] for name in sorted(arms, key=lambda a: (a != CONTROL, a))}

    @property
    def guided(self) -> list[str]:
        """All arms but the control."""
        return [arm for arm in self.arms if arm != CONTROL]

    def interval_before(self, mode: str) -> Interval:
        """Student's t over episodes, 95 %."""
        return mean_interval(self.before.of(mode))

    def interval(self, arm: str, mode: str) -> Interval:
        """Student's t over seeds, 95 %."""
        return mean_interval(self.arms[arm].per_seed(mode))

    def difference(self, arm: str, mode: str) -> Interval | None:
        """Arm minus control, Welch's interval, 95 %; None where there is no control."""
        if CONTROL not in self.arms:
            return None
        return difference_interval(self.arms[arm].per_seed(mode), self.arms[CONTROL].per_seed(mode))

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def summary(self) -> dict[str, Any]:
        """For people who open the file; nothing is read from it."""

        def by_mode(intervals: Iterable[Interval | None]) -> dict[str, Any]:
            return {m: asdict(i) for m, i in zip(MODES, intervals, strict=True) if i is not None}

        arms: dict[str, Any] = {a: by_mode(self.interval(a, m) for m in MODES) for a in self.arms}
        for name, modes in arms.items():
            for mode, interval in modes.items():
                interval["per_seed"] = list(self.arms[name].per_seed(mode))
        return {
            "before": by_mode(self.interval_before(m) for m in MODES),
            "arms": arms,
            "difference": {a: by_mode(self.difference(a, m) for m in MODES) for a in self.guided if CONTROL in arms},
        }


# --------------------------------------------------------------------------------------------------------- verdict


class Spread(_Result):
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


class RunVerdict(_Result):
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
