"""Running an agent for whole episodes in several environments in lockstep, one policy call for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from unstuck.branching.lockstep import Row, advance
from unstuck.robots import together
from unstuck.snapshots import reset_exactly
from unstuck.tasks import guarded
from unstuck.tasks.atari import LIFE_LOST, TRAINED_REWARD
from unstuck.tasks.guarded import Place, name_of

if TYPE_CHECKING:
    from unstuck.numpy_policy import Policy

EnvFactory = Callable[[], gym.Env]


def time_limit(env: gym.Env) -> int | None:
    """Steps after which the task truncates an episode; None where it is not registered with a limit."""
    return env.spec.max_episode_steps if env.spec else None


EACH_SEED = 1_000
"""Seeds of episodes kept for each seed of training."""


def first_of(begin: int, seed: int) -> int:
    """Seed of the first of the episodes that belong to a seed of training, of those that begin at `begin`: the same for
    all that are compared with this seed, and others for each."""
    return begin + EACH_SEED * (seed % 1000)


LIMIT_HINT = "give it a time limit, e.g. --env-kwargs '{\"max_episode_steps\": 1000}'"


@dataclass(eq=False)
class Trace(Row):
    """One episode as it is run. Lists of length T, `observations` of length T + 1."""

    seed: int = 0
    number: int = 0
    """Of the episode, from 0."""
    keep: bool = True
    """Whether everything below is kept."""
    keep_as: Callable[[Any], Any] | None = None
    """What is kept of an observation, if not all of it."""
    snapshot: Callable[[gym.Env], Any] | None = None
    """Called on the environment at the start and after each step."""
    observations: list[Any] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    snapshots: list[Any] = field(default_factory=list)
    reward_parts: dict[str, list[float]] = field(default_factory=dict)
    """Numbers that `info` names `reward_...`; only those that each step tells."""
    learnt: list[tuple[float, bool]] = field(default_factory=list)
    """Of each step what the agent's own training made of it, where a task says so (`unstuck.tasks.atari.Games`): the
    reward, and whether an episode ended there though this one goes on."""

    def __post_init__(self) -> None:
        self.informed = self.keep
        self._keep_state()

    def place(self) -> Place:
        return Place(name_of(self.env), self.seed, self.number, len(self) + 1)

    def took(self, action: Any, observation: Any, info: dict[str, Any]) -> None:
        self.observation = observation
        if self.keep:
            self._keep_parts(info)
            if TRAINED_REWARD in info:
                self.learnt.append((float(info[TRAINED_REWARD]), bool(info.get(LIFE_LOST))))
            self.actions.append(action)
        self._keep_state()

    def _keep_state(self) -> None:
        if self.keep:
            self.observations.append(self.keep_as(self.observation) if self.keep_as else self.observation)
        if self.snapshot is not None:
            self.snapshots.append(self.snapshot(self.env))

    def _keep_parts(self, info: dict[str, Any]) -> None:
        """What the task's `info` says of the parts of its reward. A part that some step leaves out is dropped."""
        begun = len(self) > 1
        if begun and not self.reward_parts:
            return
        told = {k: float(v) for k, v in info.items() if _is_part(k, v)}
        names = self.reward_parts.keys() & told.keys() if begun else told.keys()
        if len(names) < len(self.reward_parts) or not begun:
            self.reward_parts = {name: self.reward_parts.get(name, []) for name in sorted(names)}
        for name in names:
            self.reward_parts[name].append(told[name])

    def forget(self) -> None:
        """Give back the memory, once everything has been written: the next trace comes only some steps later."""
        for part in (self.observations, self.actions, self.snapshots, self.learnt):
            part.clear()
        self.reward_parts.clear()


def run_episodes(
    envs: Sequence[gym.Env],
    actor: Policy,
    seeds: Sequence[int],
    *,
    deterministic: bool | Sequence[bool],
    snapshot: Callable[[gym.Env], Any] | None = None,
    keep: bool = True,
    keep_as: Callable[[Any], Any] | None = None,
    on_step: Callable[[int], None] | None = None,
    go_on: Callable[[], bool] | None = None,
    max_length: int | None = None,
    first: int = 0,
) -> Iterator[Trace]:
    """Yield a finished episode for each seed, in the order in which they end.

    An episode depends only on its seed: the environment is reset with it and the policy's noise is drawn from it.

    Args:
        deterministic: whether the most likely action is taken, else a sample; of all episodes, or of each.
        snapshot: called on the environment before each step and after the last, if given.
        keep: whether observations and actions are kept (False saves memory where only returns matter).
        keep_as: what is kept of an observation, if not all of it.
        on_step: called with the number of environment steps just taken.
        go_on: asked before an episode is begun; False stops beginning new ones.
        max_length: steps after which an episode is cut, for tasks without a time limit.
        first: number of the first episode, for what is told of an environment that misbehaves.
    """
    modes = [deterministic] * len(seeds) if isinstance(deterministic, bool) else deterministic
    waiting = enumerate(zip(seeds, modes, strict=True), first)
    free = list(envs)
    active: list[Trace] = []
    side_by_side = together(envs)
    while True:
        while free and (go_on is None or go_on()) and (following := next(waiting, None)) is not None:
            number, (seed, most_likely) = following
            env = free.pop(0)
            begin = functools.partial(reset_exactly, env, int(seed))
            observation, _ = guarded.reset(env, begin, Place(name_of(env), int(seed), number, what="reset"))
            rng = np.random.default_rng([int(seed), 1])
            active.append(
                Trace(
                    env,
                    observation,
                    rng,
                    most_likely,
                    max_length,
                    seed=int(seed),
                    number=number,
                    keep=keep,
                    keep_as=keep_as,
                    snapshot=snapshot,
                )
            )
        if not active:
            return
        advance(active, actor, together=side_by_side)
        if on_step:
            on_step(len(active))
        for trace in [t for t in active if t.over]:
            active.remove(trace)
            free.append(trace.env)
            yield trace


def _is_part(name: Any, value: Any) -> bool:
    return (
        isinstance(name, str) and name.startswith("reward_") and len(name) <= 40 and name.isidentifier()
        and name != TRAINED_REWARD
        and isinstance(value, int | float | np.number) and bool(np.isfinite(value))
    )  # fmt: skip
