"""Novelty bonus: random network distillation (Burda et al. 2019), reward for states that a predictor does not know yet.

It is one reward with the task's own: there is one critic. The bonus depends on what was seen before, so it is asked for
at each step, in order. The networks: `unstuck.guide.novelty`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from unstuck.guide.base import Context, Part, PartSettings, Steps, Times


class NoveltySettings(PartSettings):
    """Reward for novelty."""

    rnd: float = Field(default=0.0, ge=0)
    """Coefficient of the novelty bonus (random network distillation)."""


class NoveltyPart(Part):
    """Adds the coefficient times the bonus of the state that each step leads to, an episode's last one included."""

    name = "novelty"
    Settings = NoveltySettings
    explained = False
    needs = frozenset({"each_step", "observations"})
    rewards = True
    settings: NoveltySettings

    def __init__(self, settings: NoveltySettings, context: Context):
        from unstuck.guide.novelty import Bonus

        super().__init__(settings, context)
        self.bonus = Bonus(context.source.spaces[0], context.n_envs, context.gamma, context.seed)
        self._total, self._count = 0.0, 0

    def reward(self, steps: Steps, now: Times) -> np.ndarray:
        bonus = self.bonus.of(steps.next_obs)
        self._total += float(bonus.sum())
        self._count += len(bonus)
        return self.settings.rnd * bonus

    def line(self) -> dict[str, Any]:
        line = {"novelty": self._total / max(1, self._count)}
        self._total, self._count = 0.0, 0
        return line

    def state(self) -> dict[str, Any]:
        return self.bonus.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.bonus.restore(dict(state))
