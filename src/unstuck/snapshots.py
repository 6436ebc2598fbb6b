"""Exact save and restore of one environment, so that advice can be tried from any step of an episode.

No strategy is trusted by its name: `snapshotter_for` runs `check_exact` on it first, and falls back to
replaying the actions of the episode. The strategies themselves are in `unstuck.simulators`.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from unstuck.emulators import AleCopySnapshotter, AleSnapshotter
from unstuck.episodes import Episode
from unstuck.errors import TaskError
from unstuck.simulators import (
    DeepcopySnapshotter,
    MujocoSnapshotter,
    ReplayPoint,
    ReplaySnapshotter,
    Snapshotter,
    as_action,
    replay,
    reseed,
    reset_exactly,
)
from unstuck.tasks import guarded
from unstuck.tasks.guarded import Place, name_of

__all__ = [
    "BranchCheck", "BranchPool", "EnvFactory", "ExactReport", "Snapshotter", "check_exact", "reseed", "reset_exactly",
    "restore_episode_step", "snapshotter_for", "stored",
]  # fmt: skip

EnvFactory = Callable[[], gym.Env]


# ----------------------------------------------------------------------------------------------- checking


@dataclass(frozen=True)
class BranchCheck:
    """What came of one branch: `compared` results were equal bit by bit, or `difference` names the first
    that was not."""

    step: int
    compared: int
    difference: str = ""


@dataclass(frozen=True)
class ExactReport:
    """Whether restored environments continue as the original did, and what saving and restoring cost."""

    strategy: str
    seed: int
    steps: int
    """Length of the reference run; it goes on into the next episode where the first is shorter than asked."""
    episode_steps: int
    """Length of its first episode."""
    deterministic: bool
    """Whether the same seed and actions gave the same run twice: what replay rests on."""
    branches: tuple[BranchCheck, ...]
    step_seconds: float
    save_seconds: float
    restore_seconds: float
    """Mean wall-clock time of one step, save and restore (for replay: of replaying to the branches)."""

    @property
    def exact(self) -> bool:
        return self.deterministic and not any(branch.difference for branch in self.branches)


Result = tuple[Any, float, bool, bool]


def _run(env: gym.Env, actions: Sequence[Any], seed: int, begun: int = 0) -> list[Result]:
    """Take the actions, resetting without a seed after an episode's end (the reset observation is a result).

    Args:
        seed: with which the run began, and
        begun: the steps of its first episode so far; both for what is told of an environment that misbehaves.
    """
    results: list[Result] = []
    name = name_of(env)
    episode, begun = 0, -begun
    for number, action in enumerate(actions):
        place = Place(name, seed, episode, number - begun + 1)
        obs, reward, terminated, truncated, _ = guarded.step(env, action, place)
        results.append((_copied(obs), reward, terminated, truncated))
        if terminated or truncated:
            episode, begun = episode + 1, number + 1
            place = Place(name, seed, episode, what="reset")
            obs, _ = guarded.reset(env, lambda: reset_exactly(env), place)
            results.append((_copied(obs), 0.0, False, False))
    return results


def _copied(obs: Any) -> Any:
    return {k: _copied(v) for k, v in obs.items()} if isinstance(obs, dict) else np.array(obs)


def _difference(a: list[Result], b: list[Result]) -> tuple[int, str]:
    """How many results agree bit by bit, and what the first that does not differs in ('' if all agree)."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        for what, left, right in zip(("observation", "reward", "terminated", "truncated"), x, y, strict=True):
            if not _same_bits(left, right):
                return i, f"{what} {i + 1} steps after the branch: {left} before, {right} restored"
    return min(len(a), len(b)), "" if len(a) == len(b) else "one run has more episode ends than the other"


def _same_bits(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same_bits(a[k], b[k]) for k in a)
    left, right = np.asarray(a), np.asarray(b)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def check_exact(
    env_factory: EnvFactory,
    *,
    seed: int = 0,
    at: Sequence[float] = (0.0, 0.5, 1.0),
    steps: int = 1010,
    snapshotter: Snapshotter | None = None,
) -> ExactReport:
    """Branch a run of random actions and compare each branch with the original, bit by bit.

    Args:
        at: where to branch, as fractions of the first episode; 1.0 is the last state before its end.
        steps: how long the run is. It goes over the end of the episode into the next one, so that the time
            limit and the random numbers of the next reset are compared as well.
        snapshotter: the strategy to check; by default the one that `snapshotter_for` picks.

    Each branch is restored into another environment that has been used for something else before.
    """
    saver = snapshotter or snapshotter_for(env_factory, seed=seed)
    env, other = env_factory(), env_factory()
    env.action_space.seed(seed)
    actions = [env.action_space.sample() for _ in range(steps)]
    reset_exactly(env, seed)
    began = time.perf_counter()
    reference = _run(env, actions, seed)
    step_seconds = (time.perf_counter() - began) / steps
    length = next((i + 1 for i, result in enumerate(reference) if result[2] or result[3]), steps)
    branch_steps = sorted({min(int(fraction * length), length - 1) for fraction in at})
    states, again, save_seconds = _run_and_save(env, actions, branch_steps, saver, seed)
    checks, restore_seconds = [], 0.0
    for step, state in zip(branch_steps, states, strict=True):
        reset_exactly(other, seed + 1)
        _run(other, actions[:3], seed + 1)
        began = time.perf_counter()
        saver.restore(other, state)
        restore_seconds += time.perf_counter() - began
        checks.append(BranchCheck(step, *_difference(reference[step:], _run(other, actions[step:], seed, step))))
    env.close()
    other.close()
    return ExactReport(
        saver.name, seed, steps, length, not _difference(reference, again)[1], tuple(checks), step_seconds,
        save_seconds / len(states), restore_seconds / len(states),
    )  # fmt: skip


def _run_and_save(
    env: gym.Env, actions: Sequence[Any], at: Sequence[int], saver: Snapshotter, seed: int
) -> tuple[list[Any], list[Result], float]:
    """The run once more, with a state saved at each of the steps: states, results, seconds spent on saving."""
    states, results, seconds, done = [], [], 0.0, 0
    reset_exactly(env, seed)
    for step in at:
        results += _run(env, actions[done:step], seed, done)
        done = step
        began = time.perf_counter()
        replayed = ReplayPoint(seed, np.asarray(actions[:step]))
        states.append(replayed if saver.name == "replay" else saver.save(env))
        seconds += time.perf_counter() - began
    return states, results + _run(env, actions[done:], seed, done), seconds


# ---------------------------------------------------------------------------------------------- selection


def snapshotter_for(env_factory: EnvFactory, *, seed: int = 0) -> Snapshotter:
    """The cheapest strategy that `check_exact` finds exact on this environment, else replay."""
    env = env_factory()
    candidates: list[Snapshotter] = [DeepcopySnapshotter()]
    if hasattr(env.unwrapped, "clone_state") and hasattr(env.unwrapped, "ale"):
        candidates[:0] = [AleSnapshotter(), AleCopySnapshotter()]
    elif type(getattr(env.unwrapped, "data", None)).__module__.startswith("mujoco"):
        candidates.insert(0, MujocoSnapshotter())
    env.close()
    for candidate in candidates:
        # A proof that cannot be carried out (an attribute that does not copy) is a proof that failed.
        with contextlib.suppress(Exception):
            if check_exact(env_factory, seed=seed, steps=100, snapshotter=candidate).exact:
                return candidate
    return ReplaySnapshotter()


def restore_episode_step(env: gym.Env, episode: Episode, step: int, snapshotter: Snapshotter) -> int:
    """Put the environment into s_step of an episode: from the stored snapshot, or else by replay.

    Returns:
        the number of environment steps that it cost: 0, or `step` for a replay.

    Raises:
        ValueError: if the episode has no such step.
        RunError: if the stored snapshot is of another environment.
        TaskError: if the replay arrives elsewhere than the episode did.
    """
    if not 0 <= step <= len(episode):
        raise ValueError(f"step {step} is outside the episode of {len(episode)} steps")
    if episode.snapshots is not None and stored(episode, snapshotter):
        snapshotter.restore(env, episode.snapshots[step])
        return 0
    check_arrival(replay(env, ReplayPoint(episode.seed, episode.actions[:step])), episode, step)
    return step


def stored(episode: Episode, snapshotter: Snapshotter) -> bool:
    """Whether the states of the episode are kept with it and may be restored here: an emulator's only where this user
    has saved them on this machine."""
    if not snapshotter.storable or episode.snapshots is None:
        return False
    return not isinstance(snapshotter, AleSnapshotter) or snapshotter.restores(episode.snapshots[0])


def check_arrival(obs: Any, episode: Episode, step: int) -> None:
    expected = episode.observation(step)
    pairs = [(obs[k], expected[k]) for k in expected] if isinstance(expected, dict) else [(obs, expected)]
    # Stored observations may have been rounded to the dtype of the space, hence the tolerance.
    if not all(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True) for a, b in pairs):
        raise TaskError(
            f"replaying episode {episode.index} (seed {episode.seed}) to step {step} arrives at another state: the "
            "environment is not a function of its seed and actions, or it has changed; collect the episodes again"
        )


class BranchPool:
    """Environments that are put, again and again, into steps of episodes to try something from there.

    States that had to be replayed are kept (the last `cache` of them) where the strategy can save, so that
    many branches from one step pay for one replay, and a later step of the same episode only for the rest.
    """

    def __init__(self, env_factory: EnvFactory, n: int, snapshotter: Snapshotter, cache: int = 64) -> None:
        self.envs = [env_factory() for _ in range(n)]
        self.snapshotter = snapshotter
        self.steps = 0
        """Environment steps so far, replays included."""
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._limit = cache

    def place(self, i: int, episode: Episode, step: int, noise_seed: int | None = None) -> int:
        """Put environment i into s_step of the episode; with `noise_seed`, with other random numbers from there.

        Returns and raises as `restore_episode_step`; the observation is `episode.observation(step)`.
        """
        env, saver = self.envs[i], self.snapshotter
        if saver.name == "replay" or stored(episode, saver):
            cost = restore_episode_step(env, episode, step, saver)
        else:
            cost = self._place_kept(env, episode, step)
        self.steps += cost
        if noise_seed is not None:
            reseed(env, noise_seed)
        return cost

    def _place_kept(self, env: gym.Env, episode: Episode, step: int) -> int:
        actions = np.ascontiguousarray(episode.actions)
        name = f"{episode.seed}/{hashlib.blake2b(actions.tobytes(), digest_size=16).hexdigest()}"
        start = max((s for n, s in self._kept if n == name and s <= step), default=None)
        if start is None:
            cost = restore_episode_step(env, episode, step, self.snapshotter)
        else:
            self._kept.move_to_end((name, start))
            self.snapshotter.restore(env, self._kept[name, start])
            for action in actions[start:step]:
                env.step(as_action(env, action))
            cost = step - start
        if start != step:
            self._kept[name, step] = self.snapshotter.save(env)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return cost

    def step(self, i: int, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step environment i: observation, reward, terminated, truncated, info."""
        self.steps += 1
        return guarded.step(self.envs[i], as_action(self.envs[i], action), Place(name_of(self.envs[i])))

    def close(self) -> None:
        for env in self.envs:
            env.close()
