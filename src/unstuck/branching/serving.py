"""What a process does that runs branches.

The first one is a fresh interpreter without torch and without threads, which is what makes forking safe; the others are
forks of it. Where a state of the simulator can only be replayed, both branches of a pair (and all pairs that begin
there) share one replay: a fork has the exact state of any simulator, its C++ heap included. One fork doubles all the
environments of a process, so that its branches are still run side by side.

A process ends when its channel is closed, so that nothing outlives the command that started it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import PassiveEnvChecker

from unstuck.branching.branches import Attempt, Branch, Lockstep
from unstuck.errors import UnstuckError
from unstuck.matching import Terms
from unstuck.numpy_policy import NumpyPolicy
from unstuck.robots import together
from unstuck.simulators import MujocoSnapshotter, ReplayPoint, replay, reseed, reset_exactly
from unstuck.tasks import describer_for, guarded, make_env

if TYPE_CHECKING:
    from unstuck.robots.stepping import Together

SIDE_BY_SIDE = 16
"""Environments of one process, at most."""


@dataclass(frozen=True)
class Setup:
    """What the first process is told."""

    env_id: str
    env_kwargs: Mapping[str, Any]
    import_module: str | None
    card: str | None
    policy: NumpyPolicy
    measure: Terms | None


@dataclass(frozen=True)
class StartState:
    """A state of a collected episode, and the way to it."""

    episode: int
    step: int
    observation: Any
    """The raw observation there."""
    way: np.ndarray | ReplayPoint
    """The stored snapshot, or what is to be replayed."""


@dataclass(frozen=True)
class BranchJob:
    """One branch."""

    noise: int
    advised: bool
    place: StartState | None
    """Where it begins; None for a reset with `noise` as its seed."""


@dataclass(frozen=True)
class Done:
    """What came of the jobs, in their order."""

    branches: list[Branch]
    arrivals: list[tuple[int, int, Any]]
    """Episode, step and the observation at which a replay arrived, for each replay that was made."""


class World:
    """The environments of one process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._envs = [self._make()]
        describer = describer_for(self._envs[0], card=setup.card)
        space = self._envs[0].action_space
        self._discrete = isinstance(space, gym.spaces.Discrete)
        self._lockstep = Lockstep(setup.policy, space, describer.variables, setup.measure, self._step)
        self._snapshotter = MujocoSnapshotter()
        self._together: Together | None = None

    def _make(self) -> gym.Env:
        """Without Gymnasium's checker, which looks on only."""
        env = make_env(self._setup.env_id, self._setup.env_kwargs, self._setup.import_module)
        chain = [env]
        while isinstance(chain[-1], gym.Wrapper):
            inner = chain[-1].env
            if isinstance(inner, PassiveEnvChecker):
                inner = chain[-1].env = inner.env
            chain.append(inner)
        return env

    def _env(self, i: int) -> gym.Env:
        while len(self._envs) <= i:
            self._envs.append(self._make())
        return self._envs[i]

    def _side_by_side(self) -> Together | None:
        """All environments so far, to be stepped together where they can be."""
        if self._together is None or len(self._together.envs) < len(self._envs):
            self._together = together(self._envs)
        return self._together

    def _step(self, env: gym.Env, action: Any) -> Any:
        # The dtype is the space's already.
        return guarded.step(env, int(action) if self._discrete else action, guarded.Place(self._setup.env_id))

    def run(self, jobs: Sequence[BranchJob], horizon: int, attempt: Attempt) -> Done:
        """Run the branches, as many side by side as there are environments for. Each place is replayed once."""
        found: dict[int, Branch] = {}
        arrivals: list[tuple[int, int, Any]] = []
        for users in chunks(jobs):
            for i, user in enumerate(users):
                place = jobs[user[0]].place
                if place is not None and isinstance(place.way, ReplayPoint):
                    arrivals.append((place.episode, place.step, replay(self._env(i), place.way)))
            rounds = [
                [(i, user[k]) for i, user in enumerate(users) if k < len(user)]
                for k in range(max(len(user) for user in users))
            ]
            # All but the last go on from these states in a fork; the last uses them up.
            forks = [_in_fork(self._round, turn, jobs, horizon, attempt) for turn in rounds[:-1]]
            found |= self._round(rounds[-1], jobs, horizon, attempt)
            for fork in forks:
                found |= _answer_of(fork)
        return Done([found[k] for k in range(len(jobs))], arrivals)

    def _round(
        self, turn: Sequence[tuple[int, int]], jobs: Sequence[BranchJob], horizon: int, attempt: Attempt
    ) -> dict[int, Branch]:
        """One job in each environment: pairs of environment and job → branches by job."""
        running = []
        for i, k in turn:
            env, job = self._env(i), jobs[k]
            observation = self._begin(env, job)
            running.append(self._lockstep.begin(env, observation, job.noise, job.advised))
        self._lockstep.run(list(running), horizon, attempt, self._side_by_side())
        return {k: r.branch for (_, k), r in zip(turn, running, strict=True)}

    def _begin(self, env: gym.Env, job: BranchJob) -> Any:
        if job.place is None:
            return reset_exactly(env, job.noise)[0]
        if not isinstance(job.place.way, ReplayPoint):
            self._snapshotter.restore(env, job.place.way)
        reseed(env, job.noise)
        return job.place.observation


def chunks(jobs: Sequence[BranchJob]) -> Iterator[list[list[int]]]:
    """Jobs by the environment that they use, for as many environments as there may be. Those that begin in the same
    replayed state use the same one."""
    users: dict[Any, list[int]] = {}
    for k, job in enumerate(jobs):
        replayed = job.place is not None and isinstance(job.place.way, ReplayPoint)
        key = (job.place.episode, job.place.step) if replayed else k  # type: ignore[union-attr]
        users.setdefault(key, []).append(k)
    lists = list(users.values())
    for first in range(0, len(lists), SIDE_BY_SIDE):
        yield lists[first : first + SIDE_BY_SIDE]


def _in_fork(call: Any, *arguments: Any) -> Connection:
    """Call in a child: the connection from which `_answer_of` reads what it gives."""
    reads, writes = Pipe(duplex=False)
    if os.fork():
        writes.close()
        return reads
    try:
        reads.close()
        writes.send(_outcome(call, *arguments))
    finally:
        os._exit(0)


def _answer_of(reads: Connection) -> Any:
    with reads:
        value, error = reads.recv()  # EOFError where the child was ended
    if error is not None:
        raise error
    return value


def _outcome(call: Any, *arguments: Any) -> tuple[Any, Exception | None]:
    """The result, or what was raised instead."""
    try:
        return call(*arguments), None
    except UnstuckError as error:
        return None, error
    except Exception:
        return None, RuntimeError(traceback.format_exc())


def main(fds: Sequence[int]) -> NoReturn:
    """The first process: gets its `Setup` over the first channel and forks, so that there is one process for each
    channel. Each answers with None, or with why it cannot serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the command closes the channels.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    channels = [Connection(fd) for fd in fds]
    try:
        world, problem = _outcome(lambda: World(channels[0].recv()))
        # Collecting garbage would touch, and so copy, every page in every fork.
        gc.collect()
        gc.freeze()
        mine = channels[0]
        for channel in channels[1:]:
            if os.fork() == 0:
                mine = channel
                break
        for channel in channels:
            if channel is not mine:
                channel.close()
        mine.send(None if problem is None else str(problem))
        while problem is None:
            mine.send(_outcome(world.run, *mine.recv()))
        os._exit(0)
    except (EOFError, OSError):
        os._exit(0)  # nobody listens any more
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
