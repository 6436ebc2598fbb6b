"""Pairs of branches in lockstep: one policy call for each vector step of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np

from unstuck.episodes import Episode
from unstuck.guidance import Action, Advice
from unstuck.matching import Matcher, Terms
from unstuck.rollout import stack
from unstuck.snapshots import BranchPool, reset_exactly
from unstuck.workspace import Workspace


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
    env: int
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


class Brancher:
    """Runs pairs of branches and counts every environment step, replayed ones included."""

    def __init__(self, space: Workspace, n: int, measure: Terms | None = None) -> None:
        """`n` environments; `measure` is evaluated at every state that a branch reaches."""
        self._space, self._measure = space, measure
        self._pool = BranchPool(space.make_env, n, space.snapshotter, cache=max(64, 2 * n))
        self._episode = lru_cache(maxsize=16)(lambda index: space.episodes[index])

    @property
    def steps(self) -> int:
        return self._pool.steps

    def close(self) -> None:
        self._pool.close()

    def bound(self, starts: Sequence[Start], horizon: int) -> int:
        """The most environment steps that these pairs can take."""
        return self.placing(starts) + 2 * len(starts) * horizon

    def placing(self, starts: Sequence[Start]) -> int:
        """The most environment steps that getting to the starts can take."""
        saver = self._space.snapshotter
        there = [(s.episode, s.step) for s in starts if s.episode is not None]
        if saver.name == "replay":
            return sum(2 * step for _, step in there)
        # States that can be saved are replayed once, then copied.
        return sum(step for index, step in set(there) if not (saver.storable and self._stored(index)))

    def _stored(self, index: int) -> bool:
        return self._episode(index).snapshots is not None

    def run(self, starts: Sequence[Start], horizon: int, execution: Execution) -> list[Pair]:
        """One pair for each start, each branch up to `horizon` steps or the end of its episode.

        Both branches of a pair draw the same random numbers, for the policy and for the environment; the policy
        samples its actions and draws at every step, whether its action is executed or not.
        """
        size = max(1, len(self._pool.envs) // 2)
        pairs: list[Pair] = []
        for first in range(0, len(starts), size):
            running = [
                self._begin(2 * i + k, start, k == 0, execution)
                for i, start in enumerate(starts[first : first + size])
                for k in (0, 1)
            ]
            self._lockstep(running, horizon, execution)
            branches = [r.branch for r in running]
            pairs += zip(branches[::2], branches[1::2], strict=True)
        return pairs

    def _begin(self, env: int, start: Start, advised: bool, execution: Execution) -> _Running:
        if start.episode is None:
            observation, _ = reset_exactly(self._pool.envs[env], start.noise)
        else:
            episode: Episode = self._episode(start.episode)
            self._pool.place(env, episode, start.step, start.noise)
            observation = episode.observation(start.step)
        running = _Running(env, Branch(), observation, np.random.default_rng([start.noise, 1]), advised)
        if advised:
            execution.begin(running)
        return running

    def _lockstep(self, running: list[_Running], horizon: int, execution: Execution) -> None:
        values = self._values(running, execution)
        for _ in range(horizon):
            own = self._space.actor.act(stack([r.observation for r in running]), False, [r.rng for r in running])
            chosen = execution.choose(running, values)
            for row, (r, action) in enumerate(zip(running, chosen, strict=True)):
                self._step(r, own[row], action)
            values = self._values(running, execution)
            if self._measure is not None and values is not None:
                for r, x in zip(running, self._measure(values), strict=True):
                    r.branch.progress.append(float(x))
            going = np.array([r.branch.ending == "horizon" for r in running])
            running = [r for r in running if r.branch.ending == "horizon"]
            if not running:
                return
            values = values[going] if values is not None else None

    def _step(self, running: _Running, own: np.ndarray, action: Action | None) -> None:
        branch, taken = running.branch, own
        if action is not None:
            taken = executed(action, own, self._space.actor.action_space)
            branch.advised += 1
            branch.changed += not np.array_equal(taken, own)
        running.observation, reward, terminated, truncated, _ = self._pool.step(running.env, taken)
        branch.rewards.append(reward)
        if terminated or truncated:
            branch.ending = "terminated" if terminated else "truncated"

    def _values(self, running: Sequence[_Running], execution: Execution) -> np.ndarray | None:
        """The task's variables (N, V), where somebody looks at them."""
        if self._measure is None and execution.matcher is None:
            return None
        return self._space.describer.variables(stack([r.observation for r in running]))
