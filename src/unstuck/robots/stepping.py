"""Stepping many environments of one MuJoCo task at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any, NamedTuple

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.wrappers import TimeLimit

from unstuck.robots.families import family_of


class Stepped(NamedTuple):
    """What a step of N environments gives, time limits included."""

    obs: np.ndarray
    """(N, D) float64."""
    rewards: np.ndarray
    """(N,) float64."""
    terminated: np.ndarray
    """(N,) bool."""
    truncated: np.ndarray
    """(N,) bool."""
    infos: list[dict[str, Any]]


class Together:
    """Environments of one task that are stepped at once, any of them at a time.

    They may be reset, saved and restored between steps, in whatever way: all that is kept here is where their
    simulators are. An environment whose simulator was exchanged, or whose settings are no longer those of the others,
    is stepped by its own `step`.

    Args:
        envs: of the same make, as `gymnasium.make` gives them, for which `refused` gives None.
        threads: that simulate; results do not depend on it.
    """

    def __init__(self, envs: Sequence[gym.Env], threads: int = 1):
        self.envs = tuple(envs)
        cores: list[Any] = [env.unwrapped for env in envs]
        found = family_of(type(cores[0]))
        assert found is not None
        self._family = found[0]
        self.cores = cores
        self._models, self._data = [c.model for c in cores], [c.data for c in cores]
        self._controls = [d.ctrl for d in self._data]
        self._index = {id(env): i for i, env in enumerate(envs)}
        self._alien = [_layout(m) != _layout(self._models[0]) for m in self._models]
        self._limits = [_time_limit(env) for env in envs]
        self._views: dict[str, tuple[list[np.ndarray], tuple[int, ...]]] = {}
        self._settings = attrgetter("frame_skip", *self._family.settings)
        self._threads = ThreadPoolExecutor(threads - 1, "unstuck-mujoco") if threads > 1 else None
        self._shares = threads

    def step(self, actions: np.ndarray, rows: Sequence[int] | None = None, *, infos: bool = True) -> Stepped:
        """One step of the environments of these rows (default: all), in their order.

        Args:
            actions: (len(rows), nu), in the dtype in which the environments are to get them.
            infos: False where nobody looks at them; then they are empty.

        Raises:
            ValueError: the actions are of another shape.
        """
        rows = range(len(self.envs)) if rows is None else rows
        actions = np.ascontiguousarray(actions)
        if actions.shape != (len(rows), self._models[0].nu):
            raise ValueError(f"Action dimension mismatch. Expected {(self._models[0].nu,)}, found {actions.shape[1:]}")
        alike = self._alike(rows)
        return self._step(rows, actions, infos) if all(alike) else self._step_some_alone(rows, actions, alike)

    def rows_of(self, envs: Sequence[gym.Env]) -> list[int]:
        """Where these environments are in `envs`."""
        return [self._index[id(env)] for env in envs]

    def view(self, name: str) -> tuple[list[np.ndarray], tuple[int, ...]]:
        """A field of each environment's `MjData` (or `MjModel.body_mass`), flat, in the simulator's own memory; and its
        shape."""
        if name not in self._views:
            fields = [getattr(x, name) for x in (self._models if name == "body_mass" else self._data)]
            self._views[name] = [field.reshape(-1) for field in fields], fields[0].shape
        return self._views[name]

    def close(self) -> None:
        """End the threads; the environments stay open."""
        if self._threads is not None:
            self._threads.shutdown()

    def _step(self, rows: Sequence[int], actions: np.ndarray, told: bool = True) -> Stepped:
        family = self._family
        before = family.before(_Fields(self, rows, actions, None)) if family.before is not None else None
        self._simulate(rows, actions)
        out = family.formula(_Fields(self, rows, actions, before))
        infos = _each_info(out.info) if told else []
        return Stepped(out.obs, out.rewards, out.terminated, self._count(rows), infos or [{} for _ in rows])

    def _count(self, rows: Sequence[int]) -> np.ndarray:
        """What the wrappers for time limits do with a step."""
        over = np.zeros(len(rows), dtype=bool)
        for k, i in enumerate(rows):
            limit = self._limits[i]
            if limit is not None:
                limit._elapsed_steps += 1
                over[k] = limit._elapsed_steps >= limit._max_episode_steps
        return over

    def _simulate(self, rows: Sequence[int], actions: np.ndarray) -> None:
        frames, helpers = self.cores[rows[0]].frame_skip, min(self._shares, len(rows)) - 1
        if self._threads is None or not helpers:
            for i, action in zip(rows, actions, strict=True):
                self._simulate_one(i, action, frames)
            return
        # Each thread takes the next environment that waits: one that starts late, or meets more contacts, takes fewer.
        waiting = deque(zip(rows, actions, strict=True))
        others = [self._threads.submit(self._simulate_next, waiting, frames) for _ in range(helpers)]
        try:
            self._simulate_next(waiting, frames)
        finally:
            for other in others:
                if not other.cancel():
                    other.result()

    def _simulate_next(self, waiting: deque[tuple[int, np.ndarray]], frames: int) -> None:
        """One environment after the other, until none waits."""
        while True:
            try:
                i, action = waiting.popleft()
            except IndexError:
                return
            self._simulate_one(i, action, frames)

    def _simulate_one(self, i: int, action: np.ndarray, frames: int) -> None:
        model, data = self._models[i], self._data[i]
        self._controls[i][:] = action
        mujoco.mj_step(model, data, nstep=frames)  # lets other threads run meanwhile
        mujoco.mj_rnePostConstraint(model, data)

    def _alike(self, rows: Sequence[int]) -> list[bool]:
        """Whether an environment has the simulator that it had, and the settings of the first."""
        settings, timestep = self._settings(self.cores[rows[0]]), self._models[rows[0]].opt.timestep
        return [
            not self._alien[i] and (own := self.cores[i]).data is self._data[i]
            and own.model is (model := self._models[i])
            and self._settings(own) == settings and model.opt.timestep == timestep
            for i in rows
        ]  # fmt: skip

    def _step_some_alone(self, rows: Sequence[int], actions: np.ndarray, alike: Sequence[bool]) -> Stepped:
        together = (
            self._step([i for i, a in zip(rows, alike, strict=True) if a], actions[np.array(alike)])
            if any(alike) else None
        )  # fmt: skip
        results: list[Any] = []
        k = 0
        for i, action, same in zip(rows, actions, alike, strict=True):
            if same:
                assert together is not None
                results.append(tuple(part[k] for part in together))
                k += 1
            else:
                results.append(self.envs[i].step(action))
        obs, rewards, terminated, truncated, infos = zip(*results, strict=True)
        return Stepped(
            np.stack(obs), np.array(rewards), np.array(terminated, dtype=bool), np.array(truncated, dtype=bool),
            list(infos),
        )  # fmt: skip


class _Fields:
    """`formulas.Fields` of some of the environments, read as far as somebody asks."""

    def __init__(self, all_: Together, rows: Sequence[int], actions: np.ndarray, before: Any):
        self._all, self._rows, self.actions, self.before = all_, rows, actions, before
        self.env: Any = all_.cores[rows[0]]
        self._read: dict[str, np.ndarray] = {}

    def __call__(self, name: str) -> np.ndarray:
        found = self._read.get(name)
        if found is None:
            views, shape = self._all.view(name)
            found = np.concatenate([views[i] for i in self._rows]).reshape(len(self._rows), *shape)
            self._read[name] = found
        return found

    def masses(self) -> np.ndarray:
        return self("body_mass")

    def starts(self, k: int) -> np.ndarray:
        return np.array([self._all.cores[i].init_qpos[k] for i in self._rows])


def _layout(model: Any) -> tuple[Any, ...]:
    """What must be alike where several simulators are read as one array."""
    return model.nq, model.nv, model.nu, model.nbody, model.nsite, model.ntendon, model.names


def _time_limit(env: gym.Env) -> Any:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            return env
        env = env.env
    return None


def _each_info(told: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Name → (N, ...) values, as a dictionary for each environment, of numbers and arrays."""
    columns = [column.tolist() if column.ndim == 1 else list(column) for column in told.values()]
    return [dict(zip(told, row, strict=True)) for row in zip(*columns, strict=True)]
