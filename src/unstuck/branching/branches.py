"""Branches of the simulator that try advice, side by side.

Imports no torch: processes that run branches start with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from unstuck.branching.acting import Holding, Suggestions
from unstuck.branching.lockstep import Row, Step, advance, stack
from unstuck.guidance import Advice
from unstuck.matching import Matcher, Terms
from unstuck.numpy_policy import Policy

if TYPE_CHECKING:
    from unstuck.robots.stepping import Together


@dataclass(frozen=True)
class Start:
    """Where a pair of branches begins, and the luck that both meet."""

    noise: int
    """Seed of the policy's and (from an episode's step) the environment's random numbers."""
    episode: int | None = None
    step: int = 0
    """s_step of the collected episode; without an episode, a reset with `noise` as its seed."""


@dataclass
class Branch:
    """What came of one branch of n steps."""

    rewards: list[float] = field(default_factory=list)
    """n rewards, the task's own."""
    progress: list[float] = field(default_factory=list)
    """n values of the progress measure, at the states after each step; the terminal state is one of them."""
    advised: int = 0
    """Steps at which an advised action was executed."""
    changed: int = 0
    """Those of them at which it differed from the policy's own action."""
    ending: str = "horizon"
    """'terminated', 'truncated' (time limit), or 'horizon'."""


Pair = tuple[Branch, Branch]
"""With the advice, without."""


@dataclass(eq=False)
class Running(Row):
    """A branch under way."""

    advised: bool = False
    """Whether the advice is tried in it."""
    branch: Branch = field(default_factory=Branch)

    def __post_init__(self) -> None:
        self.branch.rewards = self.rewards
        self.informed = False

    def took(self, action: Any, observation: Any, info: dict[str, Any]) -> None:
        self.observation = observation
        if self.over:
            self.branch.ending = "terminated" if self.terminated else "truncated"


class Attempt:
    """What is tried: with a matcher, the first advice that applies, held for its `hold` steps once it is taken.
    Without one, the first advice from the start of the branch on for its `hold` steps, then never again."""

    def __init__(self, advice: Sequence[Advice], matcher: Matcher | None) -> None:
        self.advice = tuple(advice)
        self.matcher = matcher

    def found(self, advised: np.ndarray, values: np.ndarray | None, begun: bool) -> np.ndarray:
        """(N,) the advice that applies in each row, -1 for none.

        Args:
            advised: (N,) bool, whether it is tried in the row.
            values: (N, V) of the states; only looked at with a matcher.
            begun: whether the branches have made a step.
        """
        if self.matcher is not None and values is not None:
            return np.where(advised, self.matcher.first(values), -1)
        return np.where(advised & (not begun), 0, -1)


@dataclass(frozen=True)
class Lockstep:
    """Runs branches side by side."""

    policy: Policy
    action_space: gym.Space
    variables: Callable[[Any], np.ndarray]
    """Observations (N, ...) → the task's variables (N, V)."""
    measure: Terms | None
    """Evaluated at every state that a branch reaches."""
    step: Step

    def begin(self, env: Any, observation: Any, noise: int, advised: bool) -> Running:
        """A branch from the state that the environment is in. The policy samples its actions, and draws at every
        step, whether its action is executed or not."""
        return Running(env, observation, np.random.default_rng([noise, 1]), advised=advised)

    def run(self, running: Sequence[Running], horizon: int, attempt: Attempt, together: Together | None = None) -> None:
        """Up to `horizon` steps of each, or to the end of its episode.

        Args:
            together: steps the environments of all of them, in place of `step`.
        """
        suggestions = Suggestions([a.action for a in attempt.advice if a.action is not None], self.action_space)
        holding = Holding([a.hold for a in attempt.advice], len(running))
        values = self._values(running, attempt)
        for t in range(horizon):
            which = holding.next(attempt.found(np.array([r.advised for r in running]), values, t > 0))

            def change(rows: Sequence[Running], own: np.ndarray, which: np.ndarray = which) -> np.ndarray:
                taken = suggestions.substituted(which, own)
                for k in np.flatnonzero(which >= 0).tolist():
                    rows[k].branch.advised += 1
                    rows[k].branch.changed += not np.array_equal(taken[k], own[k])
                return taken

            advance(running, self.policy, self.step, change, together)
            values = self._values(running, attempt)
            if self.measure is not None and values is not None:
                for r, x in zip(running, self.measure(values), strict=True):
                    r.branch.progress.append(float(x))
            going = np.array([not r.over for r in running])
            if not going.any():
                return
            if not going.all():
                running = [r for r in running if not r.over]
                holding.keep(going)
                values = values[going] if values is not None else None

    def _values(self, running: Sequence[Running], attempt: Attempt) -> np.ndarray | None:
        """The task's variables (N, V), where somebody looks at them."""
        if self.measure is None and attempt.matcher is None:
            return None
        return self.variables(stack([r.observation for r in running]))
