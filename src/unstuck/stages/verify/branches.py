"""Branches of the simulator in lockstep: one policy call for each vector step of all of them.

Imports no torch: processes that run branches start with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from unstuck.guidance import Action, Advice
from unstuck.matching import Matcher, Terms
from unstuck.numpy_policy import Policy
from unstuck.rollout import stack


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


@dataclass
class _Running:
    env: Any
    """What the caller's `step` knows the environment by."""
    branch: Branch
    observation: Any
    rng: np.random.Generator
    advised: bool
    held: int = -1
    """Index of the advice that is being held, -1 for none."""
    left: int = 0
    """For how many more steps."""


class Execution:
    """Says at each step which advice is executed.

    With a matcher, the first advice that applies, held for its `hold` steps once it is taken. Without one, the
    first advice from the start of the branch on for its `hold` steps, then never again.
    """

    def __init__(self, advice: Sequence[Advice], matcher: Matcher | None) -> None:
        self.advice = tuple(advice)
        self.matcher = matcher

    def begin(self, running: _Running) -> None:
        if self.matcher is None:
            running.held, running.left = 0, self.advice[0].hold

    def choose(self, rows: Sequence[_Running], values: np.ndarray | None) -> list[Action | None]:
        """The action to execute in each row, None for the policy's own; values (N, V) are those of the states."""
        if self.matcher is not None and values is not None:
            for running, first in zip(rows, self.matcher.first(values), strict=True):
                if running.advised and not running.left and first >= 0:
                    running.held, running.left = int(first), self.advice[first].hold
        chosen: list[Action | None] = []
        for running in rows:
            taken = running.advised and running.left > 0
            chosen.append(self.advice[running.held].action if taken else None)
            running.left -= taken
        return chosen


def executed(action: Action, own: np.ndarray, space: gym.Space) -> np.ndarray:
    """The action as it is executed: an index, or values in place of or (delta) on top of the policy's own action
    (*action_shape), clipped to the bounds."""
    if action.index is not None:
        return np.asarray(action.index, dtype=own.dtype)
    values = np.asarray(action.values, dtype=np.float64).reshape(own.shape)
    wanted = own + values if action.delta else values
    return np.clip(wanted, space.low, space.high).astype(own.dtype)  # type: ignore[attr-defined]


Step = Callable[[Any, Any], tuple[Any, float, bool, bool, dict[str, Any]]]
"""Steps an environment (`_Running.env`) with an action, as Gymnasium does."""


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

    def begin(self, env: Any, observation: Any, noise: int, advised: bool, execution: Execution) -> _Running:
        """A branch from the state that the environment is in. The policy samples its actions, and draws at every
        step, whether its action is executed or not."""
        running = _Running(env, Branch(), observation, np.random.default_rng([noise, 1]), advised)
        if advised:
            execution.begin(running)
        return running

    def run(self, running: list[_Running], horizon: int, execution: Execution) -> None:
        """Up to `horizon` steps of each, or to the end of its episode."""
        values = self._values(running, execution)
        for _ in range(horizon):
            own = self.policy.act(stack([r.observation for r in running]), False, [r.rng for r in running])
            chosen = execution.choose(running, values)
            for r, policys, action in zip(running, own, chosen, strict=True):
                self._step(r, policys, action)
            values = self._values(running, execution)
            if self.measure is not None and values is not None:
                for r, x in zip(running, self.measure(values), strict=True):
                    r.branch.progress.append(float(x))
            going = np.array([r.branch.ending == "horizon" for r in running])
            if going.all():
                continue
            running = [r for r in running if r.branch.ending == "horizon"]
            if not running:
                return
            values = values[going] if values is not None else None

    def _step(self, running: _Running, own: np.ndarray, action: Action | None) -> None:
        branch, taken = running.branch, own
        if action is not None:
            taken = executed(action, own, self.action_space)
            branch.advised += 1
            branch.changed += not np.array_equal(taken, own)
        running.observation, reward, terminated, truncated, _ = self.step(running.env, taken)
        branch.rewards.append(float(reward))
        if terminated or truncated:
            branch.ending = "terminated" if terminated else "truncated"

    def _values(self, running: Sequence[_Running], execution: Execution) -> np.ndarray | None:
        """The task's variables (N, V), where somebody looks at them."""
        if self.measure is None and execution.matcher is None:
            return None
        return self.variables(stack([r.observation for r in running]))
