"""Episodes of an agent: what happened, what the agent thought of it, and how to get back to any step.

An `Episode` holds raw observations (before any VecNormalize), so that everything said of a state holds
for the simulator and not for somebody's running statistics.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.errors import RunError
from unstuck.files import check_arrays

MOST_BYTES = 8 * 2**30
"""Of one episode, unpacked."""
FORMAT = 1
FAILING = 0.1
"""Share of episodes that the task may end where failing is not what ends them."""
Array = np.ndarray
ObsArray = Array | dict[str, Array]


@dataclass(frozen=True)
class PackedSnapshots:
    """Snapshots of different lengths: bytes, one after the other.

    Raises:
        ValueError: the ends are not those of consecutive pieces of the bytes.
    """

    data: Array
    """(N,) uint8."""
    ends: Array
    """(T+1,) int64, where each ends."""

    def __post_init__(self) -> None:
        whole = len(self.ends) > 0 and self.ends[0] >= 0 and self.ends[-1] == len(self.data)
        if self.data.dtype != np.uint8 or self.ends.dtype != np.int64 or not whole or np.any(np.diff(self.ends) < 0):
            raise ValueError("snapshots: the bytes do not divide as their ends say")

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, step: int) -> Array:
        """(S,) uint8."""
        return self.data[self.ends[step - 1] if step > 0 else 0 : self.ends[step]]


def as_snapshots(rows: Sequence[Array]) -> Array | PackedSnapshots:
    """What an episode holds of the vectors that a snapshotter saved."""
    if rows[0].dtype != np.uint8:
        return np.stack(rows)
    return PackedSnapshots(np.concatenate(rows), np.cumsum([len(row) for row in rows], dtype=np.int64))


@dataclass(frozen=True)
class StoredSnapshots:
    """The snapshots of a stored episode, read when the first is asked for. Most who read an episode never look at them,
    and they are most of its size."""

    path: Path
    rows: int

    @cached_property
    def held(self) -> Array | PackedSnapshots:
        """Raises RunError if the file is damaged or gone."""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                found = archive["snapshots"]
                if "snapshot_ends" in archive.files:
                    found = PackedSnapshots(found, archive["snapshot_ends"])
        except Exception as error:
            raise _unreadable(self.path, error) from error
        if len(found) != self.rows:
            raise _unreadable(self.path, f"expected {self.rows} snapshots, got {len(found)}")
        return found

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, step: int) -> Array:
        """(S,) of the snapshotter's. Raises RunError if the file is damaged or gone."""
        return self.held[step]


@dataclass(frozen=True)
class Episode:
    """One episode of T steps. Checked on construction.

    Raises:
        ValueError: if lengths disagree, a reward is not finite, or the episode is empty.
    """

    index: int
    seed: int
    """The seed of `env.reset` with which the episode began; with `actions` it reproduces the episode."""
    deterministic: bool
    """Whether the agent took its most likely action (True) or sampled (False)."""
    observations: ObsArray
    """(T+1, *obs_shape), or a dict of such arrays."""
    actions: Array
    """(T,) int64 for Discrete, (T, A) float for Box: as executed, clipped to the bounds."""
    rewards: Array
    """(T,) float64, the task's own."""
    terminated: bool
    truncated: bool
    signals: Mapping[str, Array] = field(default_factory=dict)
    """Of the agent, by name: `value` (T,) V(s_t); `td_error` (T,) r + γV(s_{t+1}) - V(s_t), in the reward's
    unit; `action_std` (T, A) and `action_mean` (T, A) for Box; `action_prob` (T, n) for Discrete. Where the critic is
    one of actions, V is max Q(s, a), or Q at the most likely action; `q` (T,) is Q(s_t, a_t), from which `td_error` is
    counted, and for Discrete `action_value` (T, n) is Q of each action."""
    snapshots: Array | PackedSnapshots | StoredSnapshots | None = None
    """Of T+1 full simulator states, where the simulator has cheap exact ones: (T+1, S) float64, or bytes; else None."""
    reward_parts: Mapping[str, Array] = field(default_factory=dict)
    """Parts of the reward that the task tells in `info`, such as `reward_forward`: (T,) float64 each."""
    learnt_rewards: Array | None = None
    """(T,) float64: as the agent's own training paid each step, where that is not `rewards` (games whose rewards were
    clipped). What its critic says is in their unit."""
    learnt_ends: Array | None = None
    """(T,) bool: steps with which the agent's own training ended an episode where this one goes on (a lost life)."""

    def __post_init__(self) -> None:
        t = len(self.rewards)
        if t == 0:
            raise ValueError("an episode needs at least one step")
        parts = self.observations if isinstance(self.observations, dict) else {"observations": self.observations}
        for name, part in parts.items():
            if len(part) != t + 1:
                raise ValueError(f"{name}: expected {t + 1} rows for {t} steps, got {len(part)}")
        if len(self.actions) != t:
            raise ValueError(f"actions: expected {t} rows, got {len(self.actions)}")
        if not np.all(np.isfinite(self.rewards)):
            raise ValueError("rewards must be finite")
        for name, signal in self.signals.items():
            if len(signal) != t:
                raise ValueError(f"signal {name}: expected {t} rows, got {len(signal)}")
        for name, part in self.reward_parts.items():
            if len(part) != t:
                raise ValueError(f"part of the reward {name}: expected {t} rows, got {len(part)}")
        for name, learnt in (("learnt rewards", self.learnt_rewards), ("learnt ends", self.learnt_ends)):
            if learnt is not None and np.shape(learnt) != (t,):
                raise ValueError(f"{name}: expected {t} rows, got {len(learnt)}")
        if self.snapshots is not None and len(self.snapshots) != t + 1:
            raise ValueError(f"snapshots: expected {t + 1} rows, got {len(self.snapshots)}")

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(np.sum(self.rewards))

    @property
    def ending(self) -> str:
        """'terminated', 'truncated' (time limit) or 'cut' (collection stopped)."""
        return "terminated" if self.terminated else "truncated" if self.truncated else "cut"

    @property
    def whole(self) -> bool:
        """Whether the task ended it, so that its return may be compared with others'."""
        return self.ending != "cut"

    def as_learnt(self) -> tuple[Array, Array]:
        """What a critic of the agent is about: (T,) rewards as its own training paid them, and (T,) bool where that
        ended an episode for good, a time limit not counted."""
        ends = np.zeros(len(self), bool) if self.learnt_ends is None else self.learnt_ends.astype(bool)
        ends[-1] |= self.terminated
        return np.asarray(self.rewards if self.learnt_rewards is None else self.learnt_rewards, np.float64), ends

    def observation(self, step: int) -> Any:
        """The raw observation s_step (0 ≤ step ≤ T) without a batch axis."""
        if isinstance(self.observations, dict):
            return {k: v[step] for k, v in self.observations.items()}
        return self.observations[step]


def returns_to_go(rewards: Array, last: float, gamma: float, ends: Array | None = None) -> Array:
    """(T,) discounted sums of what is still to come.

    Args:
        rewards: (T,).
        last: what follows the last step.
        gamma: the discount.
        ends: (T,) bool, steps that nothing follows; None for none.
    """
    found, following = np.empty(len(rewards)), last
    for t in range(len(rewards) - 1, -1, -1):
        if ends is not None and ends[t]:
            following = 0.0
        following = float(rewards[t]) + gamma * following
        found[t] = following
    return found


def failing(episodes: Iterable[Episode]) -> bool:
    """Whether the task itself ended more than a few of these episodes. What begins with nothing then sees the first
    steps of episodes only, and the agent has seen more."""
    ended = [e.terminated for e in episodes]
    return sum(ended) > FAILING * len(ended)


def save_episode(episode: Episode, path: Path) -> None:
    """Write one episode as a compressed .npz without pickles."""
    arrays: dict[str, Array] = {"actions": episode.actions, "rewards": episode.rewards}
    if isinstance(episode.observations, dict):
        arrays |= {f"observations/{k}": v for k, v in episode.observations.items()}
    else:
        arrays["observations"] = episode.observations
    arrays |= {f"signals/{k}": v for k, v in episode.signals.items()}
    arrays |= {f"reward_parts/{k}": v for k, v in episode.reward_parts.items()}
    learnt = {"learnt_rewards": episode.learnt_rewards, "learnt_ends": episode.learnt_ends}
    arrays |= {k: v for k, v in learnt.items() if v is not None}
    snapshots = episode.snapshots
    if isinstance(snapshots, StoredSnapshots):
        snapshots = snapshots.held
    if isinstance(snapshots, PackedSnapshots):
        arrays |= {"snapshots": snapshots.data, "snapshot_ends": snapshots.ends}
    elif snapshots is not None:
        arrays["snapshots"] = snapshots
    meta = {
        "format": FORMAT, "index": episode.index, "seed": episode.seed, "deterministic": episode.deterministic,
        "terminated": episode.terminated, "truncated": episode.truncated,
    }  # fmt: skip
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_episode(path: Path) -> Episode:
    """Read what `save_episode` wrote; snapshots only once they are asked for.

    Raises:
        RunError: if the file is damaged or of a newer format.
    """
    try:
        check_arrays(path, MOST_BYTES)
        with np.load(path, allow_pickle=False) as archive:
            data = {k: archive[k] for k in archive.files if not k.startswith("snapshot")}
            stored = "snapshots" in archive.files
        meta = json.loads(data.pop("meta").tobytes())
        if meta.pop("format") > FORMAT:
            raise RunError(f"{path} was written by a newer Unstuck; update Unstuck to read it")
        nested = {k.split("/", 1)[1]: v for k, v in data.items() if k.startswith("observations/")}
        return Episode(
            observations=nested or data["observations"],
            actions=data["actions"],
            rewards=data["rewards"],
            signals={k.split("/", 1)[1]: v for k, v in data.items() if k.startswith("signals/")},
            reward_parts={k.split("/", 1)[1]: v for k, v in data.items() if k.startswith("reward_parts/")},
            snapshots=StoredSnapshots(path, len(data["rewards"]) + 1) if stored else None,
            learnt_rewards=data.get("learnt_rewards"),
            learnt_ends=data.get("learnt_ends"),
            **meta,
        )
    except RunError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: object) -> RunError:
    return RunError(f"{path} is not a readable episode ({error}); collect again: --redo collect")


@dataclass(frozen=True)
class EpisodeSet:
    """Episodes in a folder, read one at a time so that many long ones do not fill the memory."""

    folder: Path

    @property
    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("episode-*.npz"))

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Episode]:
        return (load_episode(path) for path in self.paths)

    def __getitem__(self, index: int) -> Episode:
        path = self.folder / f"episode-{index:04d}.npz"
        if not path.exists():
            raise KeyError(index)
        return load_episode(path)

    def add(self, episode: Episode) -> None:
        save_episode(episode, self.folder / f"episode-{episode.index:04d}.npz")
