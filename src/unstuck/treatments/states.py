"""States that an agent visits, with what it does there and what it earns: what treatments are fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from unstuck.algorithms.base import Policy
from unstuck.episodes import Episode, returns_to_go
from unstuck.errors import RunError
from unstuck.files import check_arrays
from unstuck.tasks.beside import seen
from unstuck.transitions import Transitions, rows_of
from unstuck.treatments.noise import scale_for_entropy

NOISES = (0.0, 0.1, 0.3, 0.5)
"""Action noise in quarters of the environments: standard deviation, as a share of half the range (Box), or
probability of a random action (Discrete). So a fitted network also knows what to do beside the beaten track."""
ROWS = 4096
"""States given to a network at once, at most."""
BYTES_AT_ONCE = 8 * 2**20
"""Of their observations."""


MOST_BYTES = 8 * 2**30
"""Of the arrays in a file."""


@dataclass(frozen=True)
class States:
    """N states in pieces of episodes, one piece after the other, each in the order of time."""

    observations: Any
    """(N, *obs_shape) raw, or a dict of such."""
    modes: np.ndarray
    """(N, *action_shape) the agent's most likely action there, clipped to the bounds."""
    actions: np.ndarray
    """(N, *action_shape) what was done there, with whatever noise."""
    probabilities: np.ndarray | None
    """(N, n) of the agent's actions, where they are discrete; else None."""
    rewards: np.ndarray
    """(N,) of the step from there, as a learner is paid: the task's own, but clipped where the agent's were."""
    ends: np.ndarray
    """(K,) index of the last state of each piece."""
    terminated: np.ndarray
    """(K,) bool: for a learner the episode ends there, by the task itself or with a life; else it was cut."""
    last: Any
    """(K, *obs_shape) what came after each piece, or a dict of such."""

    def __len__(self) -> int:
        return len(self.rewards)

    def __add__(self, other: States) -> States:
        probabilities = None
        if self.probabilities is not None and other.probabilities is not None:
            probabilities = np.concatenate([self.probabilities, other.probabilities])
        return States(
            _join([self.observations, other.observations]), np.concatenate([self.modes, other.modes]),
            np.concatenate([self.actions, other.actions]), probabilities,
            np.concatenate([self.rewards, other.rewards]), np.concatenate([self.ends, other.ends + len(self)]),
            np.concatenate([self.terminated, other.terminated]), _join([self.last, other.last]),
        )  # fmt: skip

    def at(self, index: Any) -> Any:
        """Observations at an index or slice."""
        return rows_of(self.observations, index)

    def transitions(self) -> Transitions:
        """The same as steps of which each knows what came after it."""
        after = np.arange(1, len(self) + 1)
        after[self.ends] = len(self) + np.arange(len(self.ends))
        terminated, cut = np.zeros(len(self), bool), np.zeros(len(self), bool)
        terminated[self.ends], cut[self.ends] = self.terminated, ~self.terminated
        known = _join([self.observations, self.last])
        return Transitions(self.observations, rows_of(known, after), self.actions, self.rewards, terminated, cut)

    def save(self, path: Path) -> None:
        """Write as a plain .npz, without pickles."""
        parts: dict[str, np.ndarray] = {
            "modes": self.modes, "actions": self.actions, "rewards": self.rewards, "ends": self.ends,
            "terminated": self.terminated,
        }  # fmt: skip
        if self.probabilities is not None:
            parts["probabilities"] = self.probabilities
        for name, value in (("observations", self.observations), ("last", self.last)):
            for key, part in value.items() if isinstance(value, dict) else [("", value)]:
                parts[f"{name}/{key}"] = part
        np.savez(path, **parts)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> States:
        """Raises:
        RunError: the file is damaged, or no such file.
        """
        try:
            check_arrays(path, MOST_BYTES)
            with np.load(path, allow_pickle=False) as file:
                return cls._of({name: file[name] for name in file.files})
        except Exception as error:  # zipfile, zlib and numpy raise many kinds
            raise RunError(f"{path} cannot be read ({error}); delete it, and it is made again") from error

    @classmethod
    def _of(cls, held: dict[str, Any]) -> States:
        if not all(isinstance(part, np.ndarray) and part.dtype.kind in "biuf" for part in held.values()):
            raise ValueError("it holds something that is no array of numbers")
        both: dict[str, Any] = {}
        for name in ("observations", "last"):
            found = {k.split("/", 1)[1]: v for k, v in held.items() if k.startswith(f"{name}/")}
            both[name] = found.get("", found)
        count, ends = len(held["rewards"]), held["ends"]
        alike = len(held["modes"]) == len(held["actions"]) == count and len(held["terminated"]) == len(ends)
        if not alike or not len(ends) or ends[0] < 0 or ends[-1] != count - 1 or np.any(np.diff(ends) < 1):
            raise ValueError("its parts do not fit together")
        return cls(
            both["observations"], held["modes"], held["actions"], held.get("probabilities"), held["rewards"],
            held["ends"], held["terminated"], both["last"],
        )  # fmt: skip


def of_episodes(episodes: Iterable[Episode], actor: Policy) -> States:
    """The states of collected episodes: they have been paid for already.

    Raises:
        ValueError: there are none.
    """
    found = []
    for episode in episodes:
        held = seen(episode.observations)
        observations = rows_of(held, slice(0, len(episode)))
        modes, probabilities = _choices(actor, observations, len(episode))
        rewards, over = episode.as_learnt()
        ends = np.union1d(np.flatnonzero(over), len(episode) - 1)
        last = rows_of(held, ends + 1)
        found.append(States(observations, modes, episode.actions, probabilities, rewards, ends, over[ends], last))
    if not found:
        raise ValueError("there are no episodes")
    return joined(found)


def joined(parts: Sequence[States]) -> States:
    """All of these, in their order."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def visit(actor: Policy, venv: VecEnv, steps: int, seed: int, noises: Sequence[float] = NOISES) -> States:
    """Let the agent act for `steps` environment steps (rounded down to whole steps of all environments), each share
    of the environments with another of the noises.

    Args:
        venv: of raw observations, reset automatically; it is seeded here.
        seed: of the environments and the noise.
    """
    space, count = venv.action_space, venv.num_envs
    rng = np.random.default_rng([seed, 77])
    noise = np.asarray(noises)[np.arange(count) * len(noises) // count]
    venv.seed(seed)
    obs: Any = seen(venv.reset())
    visited, taken, rewards, lasts = [], [], [], []
    for step in range(max(1, steps // count)):
        modes = actor.act(obs, deterministic=True)
        actions = _noisy(modes, noise, space, rng)
        new, reward, dones, infos = venv.step(actions)
        visited.append(obs)
        taken.append(actions)
        rewards.append(np.asarray(reward, dtype=np.float64))
        for env in np.flatnonzero(dones).tolist():
            cut = bool(infos[env].get("TimeLimit.truncated"))
            lasts.append((env, step, not cut, seen(infos[env]["terminal_observation"])))
        obs = seen(new)
    ended = {(env, step) for env, step, _, _ in lasts}
    final = len(visited) - 1
    lasts += [(e, final, False, rows_of(obs, e)) for e in range(count) if (e, final) not in ended]
    lasts.sort(key=lambda entry: entry[:2])
    observations = _by_env(visited)
    modes, probabilities = _choices(actor, observations, len(visited) * count)
    return States(
        observations, modes, _by_env(taken), probabilities, np.stack(rewards, axis=1).reshape(-1),
        np.array([env * len(visited) + step for env, step, _, _ in lasts]), np.array([t for _, _, t, _ in lasts]),
        _stack([last for _, _, _, last in lasts]),
    )  # fmt: skip


def discounted(states: States, gamma: float, beyond: np.ndarray) -> np.ndarray:
    """(N,) discounted returns to the end of each piece; `beyond` (K,) is the value of what comes after those that the
    task did not end."""
    after = np.where(states.terminated, 0.0, beyond).tolist()
    pieces = np.split(states.rewards, states.ends[:-1] + 1)
    return np.concatenate([returns_to_go(r, v, gamma) for r, v in zip(pieces, after, strict=True)])


def softened(probabilities: np.ndarray, share: float) -> np.ndarray:
    """(N, n) probabilities with a mean entropy of at least `share` of ln n: sharper ones by a common temperature, so
    that the most likely action stays the same."""
    logits = np.log(np.maximum(probabilities, 1e-8))
    scaled = logits * scale_for_entropy(logits, share * float(np.log(probabilities.shape[1])))
    soft = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return soft / soft.sum(axis=1, keepdims=True)


def rows_for(observations: Any) -> int:
    """How many of these observations a network is given at once: convolutions need many times an image's memory."""
    parts = observations.values() if isinstance(observations, dict) else [observations]
    width = sum(part.nbytes // max(1, len(part)) for part in parts)
    return max(64, min(ROWS, BYTES_AT_ONCE // max(1, width)))


def _choices(actor: Policy, observations: Any, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    discrete = isinstance(actor.action_space, spaces.Discrete)
    some = rows_for(observations)
    parts = [rows_of(observations, slice(i, i + some)) for i in range(0, count, some)]
    modes = np.concatenate([actor.act(part, deterministic=True) for part in parts])
    return modes, np.concatenate([actor.signals(p)["action_prob"] for p in parts]) if discrete else None


def _noisy(modes: np.ndarray, noises: np.ndarray, space: Any, rng: np.random.Generator) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        random = rng.random(len(modes)) < noises
        return np.where(random, space.start + rng.integers(space.n, size=len(modes)), modes)
    if not isinstance(space, spaces.Box):
        return modes
    half = np.where(np.isfinite(space.high - space.low), (space.high - space.low) / 2, 1.0)
    noise = noises.reshape(-1, *[1] * len(space.shape)) * half * rng.standard_normal(modes.shape)
    return np.clip(modes + noise, space.low, space.high).astype(space.dtype)


def _by_env(steps: Sequence[Any]) -> Any:
    """T batches (E, ...) → (E · T, ...), each environment's in a row."""
    if isinstance(steps[0], dict):
        return {k: _by_env([step[k] for step in steps]) for k in steps[0]}
    stacked = np.stack(steps, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def _stack(single: Sequence[Any]) -> Any:
    if isinstance(single[0], dict):
        return {k: np.stack([s[k] for s in single]) for k in single[0]}
    return np.stack(single)


def _join(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    return np.concatenate(parts)
