"""Returns of what was trained, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from typing import Annotated, Any, cast

import numpy as np
from pydantic import AliasChoices, Field, computed_field, field_validator

from unstuck.results.keys import CONTROL, MODES, Charges, Mode, Result
from unstuck.results.races import Gain
from unstuck.stats import Interval, difference_interval, mean_interval

Return = Annotated[float, Field(ge=-1e100, le=1e100)]
"""A return whose square is still a number."""


class Returns(Result):
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


class AgentScores(Result):
    """Of one trained agent: one arm and seed."""

    checkpoints: tuple[CheckpointScores, ...] = Field(min_length=1)
    env_steps: int | None = None
    """That scoring it took, and (below) what decides its numbers; in a benchmark only."""
    versions: dict[str, str] | None = None

    def score(self, mode: str) -> float:
        """Mean return over all episodes of all late checkpoints."""
        return float(np.mean(np.concatenate([c.of(mode) for c in self.checkpoints])))


class ArmScores(Result):
    """Of one arm, by seed."""

    charged: Charges = Charges()
    """Of one training run; the mean where they differ."""
    seeds: dict[int, AgentScores] = Field(min_length=1)

    def per_seed(self, mode: str) -> tuple[float, ...]:
        """(seeds,) the score of each seed."""
        return tuple(agent.score(mode) for agent in self.seeds.values())


class LastTest(Result):
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


class Scores(Result):
    """All scores of a run. An arm's interval is over its seeds; that of the agent before, over episodes."""

    env_id: str
    algorithm: str = "PPO"
    """What trained the arms."""
    before: Returns
    arms: dict[str, ArmScores] = Field(default_factory=dict)
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
