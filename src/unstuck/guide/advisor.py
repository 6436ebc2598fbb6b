"""Guidance compiled: values of named variables in, suggestions and rewards out. Pure: the same values give the same
answers, in any order; it knows neither environments nor learners.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from unstuck.guide.data import PartSettings, Suggestions

if TYPE_CHECKING:
    from gymnasium import spaces

    from unstuck.guidance import Advice, Guidance, Term, Verdict


class Selection(PartSettings):
    """Which advice may touch training, and where it applies."""

    applies: Literal["as-given", "table", "near"] = "as-given"
    """Where advice applies: by its own condition, by the paper's look-up table, or near its critical state."""
    only_helpful: bool = False
    """Use only advice that verification found helpful."""
    unresolved: bool = False
    """Use also advice of which branches judged by true returns showed neither that it helps nor that it harms, though
    all of it together did not prove helpful. (Where all returns are the same they can show nothing; there it is used
    unless the progress measure speaks against it.)"""
    radius: float = Field(default=0.15, gt=0)
    """With applies near: how near, in variables scaled to [-1, 1] over the range that the collected episodes show."""
    bins: int = Field(default=20, ge=2)
    """With applies table: cells of the table along each variable."""
    verified: bool = Field(default=False, exclude=True)
    """Uses what verification found, drops what it found harmful, and is charged for its steps."""
    kinds: tuple[str, ...] = Field(default=("rule", "state"), exclude=True)
    """Kinds of advice that are used."""

    def advice(self, guidance: Guidance) -> tuple[Advice, ...]:
        """The advice that may touch training, in order."""
        doubted = self.verified and not self.unresolved and guidance.set_verdict.status != "helpful"
        return tuple(
            a
            for a in guidance.advice
            if a.enabled
            and a.kind in self.kinds
            and not (self.only_helpful and a.verdict.status != "helpful")
            and not (self.verified and a.verdict.status == "harmful")
            and not (doubted and in_doubt(a.verdict))
        )


def in_doubt(verdict: Verdict) -> bool:
    """Whether branches judged by true returns showed neither that it helps nor that it harms."""
    return verdict.status == "unresolved" and verdict.metric.startswith("return")


class Advisor:
    """What guidance says in given states.

    Args:
        guidance: that the plan draws from.
        names: of the variables, in the order of the columns of values.
        selection: which of the guidance counts, and where it applies.
        space: of the actions.
    """

    def __init__(self, guidance: Guidance, names: Sequence[str], selection: Selection, space: spaces.Space):
        self._guidance, self._names, self._space = guidance, tuple(names), space
        self._selection = selection
        self._advice = self._selection.advice(guidance)

    @cached_property
    def acting(self) -> tuple[Advice, ...]:
        """Advice that says what to do."""
        return tuple(a for a in self._advice if a.action is not None)

    @cached_property
    def rewarding(self) -> tuple[Advice, ...]:
        """Advice that says what being there is worth."""
        return tuple(a for a in self._advice if a.reward is not None)

    @property
    def terms(self) -> tuple[Term, ...]:
        return self._guidance.active_terms

    @cached_property
    def _matcher(self) -> Any:
        return self._compiled(self.acting)

    @cached_property
    def _reward_matcher(self) -> Any:
        return self._compiled(self.rewarding)

    @cached_property
    def _terms(self) -> Any:
        from unstuck.matching import Terms

        return Terms(self.terms, self._names)

    def _compiled(self, advice: Sequence[Advice]) -> Any:
        from unstuck.matching import Matcher

        chosen = self._selection
        return Matcher(
            advice, self._guidance, self._names, applies=chosen.applies, radius=chosen.radius, bins=chosen.bins
        )

    # ------------------------------------------------------------------------------------------ suggestions

    @property
    def action_variables(self) -> frozenset[str]:
        """The variables on which `first` depends."""
        return frozenset(self._matcher.variables)

    def first(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N,) index among `acting` of the first advice that applies, -1 where none does."""
        return self._matcher.first(values) if self.acting else np.full(len(values), -1, dtype=np.intp)

    @cached_property
    def holds(self) -> np.ndarray:
        """(A,) for how many steps each suggestion is held."""
        return np.array([a.hold for a in self.acting], dtype=np.intp)

    @cached_property
    def _suggested(self) -> Any:
        from unstuck.branching.acting import Suggestions

        return Suggestions([a.action for a in self.acting if a.action is not None], self._space)

    @property
    def has_deltas(self) -> bool:
        """Whether any suggestion is added to the policy's own action."""
        return bool(self._suggested.has_deltas)

    def actions(self, advice: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """The suggested actions, inside the bounds.

        Args:
            advice: (M,) indices among `acting`.
            own: (M, *action shape) the policy's own actions, to which deltas are added; needed if there are any.

        Returns:
            (M, *action shape), of the dtype of `own`, or of the action space.
        """
        if own is None:
            own = np.zeros((len(advice), *(self._space.shape or ())), self._space.dtype)
        return self._suggested.apply(advice, own)

    def substituted(self, advice: np.ndarray, own: np.ndarray) -> np.ndarray:
        """(N,) indices among `acting`, -1 for none, and (N, *action shape) the policy's own actions → with suggestions
        in their place; `own` itself where there are none."""
        return self._suggested.substituted(advice, own) if self.acting else own

    def suggestions(self, advice: np.ndarray, own: np.ndarray | None = None) -> Suggestions | None:
        """(N,) advice that applies, -1 for none, and (N, *action shape) the policy's own actions → what is suggested;
        None for nowhere."""
        where = advice >= 0
        if not where.any():
            return None
        return Suggestions(where, self.actions(advice[where], own[where] if own is not None else None))

    # ------------------------------------------------------------------------------------------ rewards

    @property
    def reward_variables(self) -> frozenset[str]:
        """The variables on which implicit rewards depend."""
        return frozenset(self._reward_matcher.variables) if self.rewarding else frozenset()

    @property
    def term_variables(self) -> frozenset[str]:
        return frozenset(self._terms.variables) if self.terms else frozenset()

    @cached_property
    def _reward_of(self) -> np.ndarray:
        # The last entry stands for "no advice", whose index is -1.
        return np.array([a.reward or 0.0 for a in self.rewarding] + [0.0]) * self._guidance.reward_scale

    def term_rewards(self, values: np.ndarray) -> np.ndarray:
        """(N, V) values → (N,) sum of the reward terms."""
        return self._terms(values)

    def state_rewards(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, V) values → (N,) implicit rewards in the task's own units, and (N,) bool where advice gives one."""
        hit = self._reward_matcher.first(values)
        return self._reward_of[hit], hit >= 0
