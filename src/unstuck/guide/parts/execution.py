"""Execution of suggestions: the paper's substitution of the action at critical states.

What is substituted while experience is collected is stored as the action taken. Evaluation stays unguided by
construction: neither `predict` nor the update passes through here. How the log-probability of a substituted action is
stored is a setting, because the paper does not say.

A learner with a replay buffer learns from whatever was done, so suggestions that are executed fill the buffer with
demonstrations. There they are executed in whole episodes of some environments, ever fewer of them, so that what the
policy does by itself is seen, too (as in jump-start reinforcement learning, Uchendu et al. 2023; half of the samples
being prior data is what Ball et al. 2023, arXiv 2302.02948, found best). It goes by environments and not by episodes,
because episodes that go well may be a tenth as long as those of an agent that hovers until time is up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from unstuck.branching.acting import Holding
from unstuck.guide.advisor import Advisor
from unstuck.guide.base import Context, Part, PartSettings


class ExecutionSettings(PartSettings):
    """Execution of suggested actions."""

    execute: bool = False
    """Execute the suggested action instead of the policy's."""
    execute_share: float = Field(default=1.0, gt=0, le=1)
    """With execute: the share of the environments in whose episodes it is done; in the others the policy does as it
    would."""
    execute_fade: float = Field(default=0.0, ge=0, le=1)
    """With execute: the share of training over which that share falls to zero. 0: it stays."""
    log_prob: Literal["suggestion", "own", "mixed"] = "suggestion"
    """With execute, what PPO stores. suggestion: the suggested action and its log-prob. own: the policy's own action
    and log-prob, though the suggestion was executed. mixed: the suggested action with the own action's log-prob."""

    @property
    def on(self) -> bool:
        return self.execute


class Execution(Part):
    """Takes the action of the first advice that applies, and holds it for as many steps as the advice says. Whether it
    does so is decided when an episode begins: always in the first environments, by chance where their share is no
    whole number of environments."""

    name = "execution"
    Settings = ExecutionSettings
    acts = True
    settings: ExecutionSettings

    def __init__(self, settings: ExecutionSettings, context: Context):
        super().__init__(settings, context)
        assert context.guidance is not None
        names = context.source.describer.card.variable_names
        self._advisor = Advisor(context.guidance, names, context.selection, context.action_space)
        self.variables = self._advisor.action_variables if self._advisor.acting else frozenset()
        self._holding = Holding(self._advisor.holds, context.n_envs)
        self._rng = np.random.default_rng([context.seed, 11])
        self._guided = np.ones(context.n_envs, dtype=bool)
        self._partly = settings.execute_share < 1 or settings.execute_fade > 0
        self._now = 0
        self.seen = self.hits = 0

    @property
    def share(self) -> float:
        """Of the environments in whose episodes, if they begin now, suggestions are executed."""
        fade = self.settings.execute_fade
        left = max(0.0, 1.0 - self._now / (fade * self.context.total)) if fade else 1.0
        return self.settings.execute_share * left

    def see(self, values: np.ndarray, begun: np.ndarray) -> None:
        found = self._advisor.first(values)
        self.seen += len(found)
        self.hits += int(np.count_nonzero(found >= 0))
        if self._partly and (share := self.share) < 1.0:
            # As many numbers at each step, whatever begins.
            drawn = np.arange(len(found)) + self._rng.random(len(found)) < share * len(found)
            self._guided = np.where(begun, drawn, self._guided)
            found = np.where(self._guided, found, -1)
        self._now += len(found)
        self._holding.next(found, begun)

    @property
    def acting(self) -> np.ndarray:
        return self._holding.now >= 0

    def act(self, own: np.ndarray) -> np.ndarray:
        return self._advisor.substituted(self._holding.now, own)

    def line(self) -> dict[str, Any]:
        line = {"hit_rate": self.hits / max(1, self.seen)}
        if self._partly:
            line["executed"] = self.share
        self.seen = self.hits = 0
        return line

    def state(self) -> dict[str, Any]:
        return {"now": self._now, "rng": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._now = state.get("now", 0)
        if "rng" in state:
            self._rng.bit_generator.state = state["rng"]
