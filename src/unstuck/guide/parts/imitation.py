"""Imitation of suggestions: a loss towards the suggested action, in states where advice applies.

Executing suggestions alone teaches little: the critic absorbs the forced action. Imitating them moves the policy
itself, discrete actions by cross-entropy, continuous ones by the squared distance of the mean action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from unstuck.guide.advisor import Advisor
from unstuck.guide.base import Context, Part, PartSettings, Suggestions

WHOLE_PULL = 0.1
"""Share of samples that advice must match for the loss to be the mean over them; where fewer match, it is less in
proportion, so that no single sample pulls more than ten times as hard as its share of the batch."""

MOST = 10.0
"""How much harder than the mean a rare suggestion may pull."""


class ImitationSettings(PartSettings):
    """Imitation of suggested actions."""

    imitate: float = Field(default=0.0, ge=0)
    """Coefficient of the loss towards suggestions, beside the policy's own. PPO: averaged over matched samples (of
    which at least a tenth of all are counted). With a replay buffer: over the batch."""
    imitate_fade: float = Field(default=0.0, ge=0, le=1)
    """With imitate: the share of training over which the coefficient falls to zero. 0: it stays."""

    imitate_balance: bool = False
    """With imitate, PPO, discrete actions: rare suggestions count as much as frequent ones, each suggested action with
    the same share of the loss."""
    imitate_memory: int = Field(default=0, ge=0, le=10_000_000)
    """With imitate, PPO, images and discrete actions: how many states are remembered with their suggestions, of all
    training so far; the loss is then over these, and not over the last rollout alone. Four frames take 28 kB."""

    @property
    def on(self) -> bool:
        return self.imitate > 0


def pulls(advised: np.ndarray, suggested: np.ndarray, balance: bool) -> np.ndarray:
    """How hard each sample of a rollout is pulled towards its suggestion: 1 where there is one, and 0 elsewhere.

    Balanced, the n actions that are suggested in the rollout have an n-th of the pull each, but no sample more than
    `MOST` times the mean: a policy that does nearly always what is nearly always right has else a small loss, though it
    is wrong whenever it matters (a paddle that stays, because most of the time it is to stay).

    Args:
        advised: (N,) bool.
        suggested: (N, ...) of which discrete actions are looked at where advised, if balanced.

    Returns:
        (N,) float32, with mean 1 where advised.
    """
    pull = advised.astype(np.float32)
    if not balance or not advised.any():
        return pull
    _, which, counts = np.unique(suggested[advised].reshape(-1), return_inverse=True, return_counts=True)
    each = np.minimum(len(which) / (len(counts) * counts), MOST)[which]
    pull[advised] = each / each.mean()
    return pull


class Imitation(Part):
    """Suggests, in each state, the action of the first advice that applies there."""

    name = "imitation"
    Settings = ImitationSettings
    settings: ImitationSettings

    def __init__(self, settings: ImitationSettings, context: Context):
        super().__init__(settings, context)
        assert context.guidance is not None
        names = context.source.describer.card.variable_names
        self._advisor = Advisor(context.guidance, names, context.selection, context.action_space)
        if self._advisor.acting:
            self.imitate = settings.imitate
            self.variables = self._advisor.action_variables
            self.wants_own = self._advisor.has_deltas
            self.balance = settings.imitate_balance and _is_discrete(context.action_space)
            self.memory = settings.imitate_memory
        self.seen = self.hits = 0

    def on_update(self, model: Any) -> None:
        if (fade := self.settings.imitate_fade) and self.imitate > 0:
            left = max(0.0, 1.0 - model.num_timesteps / (fade * self.context.total))
            self.imitate = self.settings.imitate * left

    def state(self) -> dict[str, Any]:
        return {"imitate": self.imitate}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.imitate = state.get("imitate", self.imitate)

    def target(self, values: np.ndarray, own: np.ndarray | None) -> Suggestions | None:
        found = self._advisor.first(values)
        self.seen += len(found)
        self.hits += int(np.count_nonzero(found >= 0))
        return self._advisor.suggestions(found, own)

    def line(self) -> dict[str, Any]:
        line = {"hit_rate": self.hits / max(1, self.seen)}
        self.seen = self.hits = 0
        return line


def _is_discrete(space: Any) -> bool:
    from gymnasium import spaces  # here: a command's help reads these settings, and needs no simulator

    return isinstance(space, spaces.Discrete)
