"""Pairs of branches: where they run, in which processes, and the environment steps that they take."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from unstuck.branching.branches import Attempt, Branch, Lockstep, Pair, Start
from unstuck.matching import Terms
from unstuck.numpy_policy import NumpyPolicy, numpy_policy
from unstuck.simulators import ReplayPoint
from unstuck.snapshots import BranchPool, check_arrival, reset_exactly, stored
from unstuck.workers import cores
from unstuck.workspace import Workspace

WORTH = 5_000
"""Environment steps from which on it pays to start processes that share the work."""


class Brancher:
    """Runs pairs of branches and counts every environment step, replayed ones included.

    The branches are the same, to the last bit, whether they run side by side in this process or are shared among
    others. That is done where snapshots are stored, if there is enough to do; and where states can only be replayed,
    because there all branches from one state then share one replay (see `serving`).
    """

    def __init__(
        self, space: Workspace, n: int, measure: Terms | None = None, *, expected: int = 0, jobs: int | None = None
    ) -> None:
        """Args:
        n: environments side by side in this process.
        measure: evaluated at every state that a branch reaches.
        expected: about how many environment steps there will be.
        jobs: processes at once, by default one for each core (or `train.jobs`); 0 keeps to this process.
        """
        self._space, self._measure, self._n = space, measure, n
        self._jobs = (space.config.train.jobs or cores()) if jobs is None else jobs
        self._episode = lru_cache(maxsize=16)(lambda index: space.episodes[index])
        self._taken = 0
        self._strategy = space.snapshotter.name
        self._started = self._start(expected)

    def _start(self, expected: int) -> Any:
        """`Servers`; None where they would be of no use."""
        shared = self._strategy == "mujoco" and self._jobs > 1 and expected >= WORTH
        if not self._jobs or not (shared or self._strategy == "replay") or not isinstance(self._policy, NumpyPolicy):
            return None
        from unstuck.branching.servers import Servers, can_fork
        from unstuck.branching.serving import Setup

        if not can_fork():
            return None
        task = self._space.config.task
        card = str(task.card) if task.card is not None else None
        setup = Setup(task.env, task.env_kwargs, task.import_module, card, self._policy, self._measure)
        return Servers(setup, self._jobs)

    @cached_property
    def _policy(self) -> Any:
        return numpy_policy(self._space.actor) or self._space.actor

    @cached_property
    def _pool(self) -> BranchPool:
        space = self._space
        return BranchPool(space.make_env, self._n, space.snapshotter, cache=max(64, 2 * self._n))

    @cached_property
    def _lockstep(self) -> Lockstep:
        space = self._space
        return Lockstep(
            self._policy, space.actor.action_space, space.describer.variables, self._measure, self._pool.step
        )

    @cached_property
    def servers(self) -> Any:
        """`Servers` that are ready, or None where all is done in this process."""
        if self._started is not None and (problem := self._started.problem()):
            logging.getLogger("unstuck.verify").info("branches run in one process: %s", problem)
            return None
        return self._started

    @property
    def steps(self) -> int:
        return self._taken + (self._pool.steps if "_pool" in vars(self) else 0)

    def close(self) -> None:
        if self._started is not None:
            self._started.close()
        if "_pool" in vars(self):
            self._pool.close()

    def bound(self, starts: Sequence[Start], horizon: int) -> int:
        """The most environment steps that these pairs can take."""
        return self.placing(starts) + 2 * len(starts) * horizon

    def placing(self, starts: Sequence[Start]) -> int:
        """The most environment steps that getting to the starts can take."""
        there = [(s.episode, s.step) for s in starts if s.episode is not None]
        if self._strategy == "replay" and self.servers is None:
            return sum(2 * step for _, step in there)
        # States that can be kept are replayed once.
        return sum(step for index, step in set(there) if not self._stored(index))

    def _stored(self, index: int) -> bool:
        return stored(self._episode(index), self._space.snapshotter)

    def run(self, starts: Sequence[Start], horizon: int, attempt: Attempt) -> list[Pair]:
        """One pair for each start, each branch up to `horizon` steps or the end of its episode.

        Both branches of a pair draw the same random numbers, for the policy and for the environment; the policy
        samples its actions and draws at every step, whether its action is executed or not.

        Raises:
            TaskError: if a replay arrives elsewhere than the episode did, or a process was lost.
        """
        if self.servers is None or not self._known(starts):
            branches = self._here(starts, horizon, attempt)
        else:
            branches = self._elsewhere(starts, horizon, attempt)
        return list(zip(branches[::2], branches[1::2], strict=True))

    def _known(self, starts: Sequence[Start]) -> bool:
        """Whether other processes can get to these states."""
        return self._strategy == "replay" or all(s.episode is None or self._stored(s.episode) for s in starts)

    def _elsewhere(self, starts: Sequence[Start], horizon: int, attempt: Attempt) -> list[Branch]:
        jobs = [job for s in starts for job in self.jobs_of(s)]
        done = self.servers.run(jobs, horizon, attempt)
        for index, step, observation in done.arrivals:
            check_arrival(observation, self._episode(index), step)
            self._taken += step
        self._taken += sum(len(b.rewards) for b in done.branches)
        return done.branches

    def jobs_of(self, start: Start) -> list[Any]:
        """Both branches of a pair, for another process."""
        from unstuck.branching.serving import BranchJob, StartState

        place = None
        if start.episode is not None:
            episode, step = self._episode(start.episode), start.step
            way: Any = ReplayPoint(episode.seed, episode.actions[:step])
            if self._strategy != "replay" and episode.snapshots is not None:
                way = episode.snapshots[step]
            place = StartState(start.episode, step, episode.observation(step), way)
        return [BranchJob(start.noise, advised, place) for advised in (True, False)]

    def _here(self, starts: Sequence[Start], horizon: int, attempt: Attempt) -> list[Branch]:
        size = max(1, self._n // 2)
        branches: list[Branch] = []
        for first in range(0, len(starts), size):
            running = []
            for i, start in enumerate(starts[first : first + size]):
                for k in (0, 1):
                    seen = self._placed(2 * i + k, start)
                    running.append(self._lockstep.begin(2 * i + k, seen, start.noise, k == 0))
            self._lockstep.run(list(running), horizon, attempt)
            branches += [r.branch for r in running]
        return branches

    def _placed(self, env: int, start: Start) -> Any:
        if start.episode is None:
            return reset_exactly(self._pool.envs[env], start.noise)[0]
        episode = self._episode(start.episode)
        self._pool.place(env, episode, start.step, start.noise)
        return episode.observation(start.step)
