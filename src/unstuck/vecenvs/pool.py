"""EnvPool behind Stable-Baselines3's interface: what `DummyVecEnv` of `Monitor`-wrapped environments gives, faster.

Three things differ inside EnvPool, and are made equal here:

- It returns the terminal observation with `done`, and spends the next call on resetting. Environments that ended are
  reset at once, in one more call for all of them, so that no action is swallowed and no step miscounted.
- It cannot tell a time limit from an ending at the very last step. Its own limit is put out of reach, and steps are
  counted here.
- Its seeds are fixed when it is made. `seed` takes effect at the next `reset`, which makes it anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from unstuck.errors import TaskError
from unstuck.vecenvs.proof import make_pool

_NEVER = 2**31 - 1
"""A time limit that no episode reaches."""

Reward = Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray]
"""(n_envs,) EnvPool's rewards and its other outputs by name, each (n_envs, ...) → (n_envs,) the task's rewards."""


class EnvPoolVecEnv(VecEnv):
    """`n_envs` environments of one task, stepped in C++ by `threads` threads, in a fixed order.

    Rewards are float32, as in `DummyVecEnv`; `infos` hold what Stable-Baselines3 reads (`terminal_observation`,
    `TimeLimit.truncated`, Monitor's `episode`), each in a dict of its own, but not the simulator's own entries.
    """

    def __init__(
        self,
        pool_id: str,
        n_envs: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        max_episode_steps: int | None,
        threads: int = 1,
        reward: Reward | None = None,
        spec: Any = None,
    ):
        """
        Args:
            pool_id: EnvPool's id of the task.
            observation_space, action_space: Gymnasium's, Box or Discrete; what EnvPool gives is cast to them.
            reward: recomputes the reward of each step.
            spec: Gymnasium's spec of the task, for who asks with `get_attr("spec")`.
        """
        self._pool_id, self._threads, self._limit, self._spec = pool_id, threads, max_episode_steps, spec
        self._reward = reward
        super().__init__(n_envs, observation_space, action_space)
        self._pool: Any = None
        self._ids = np.arange(n_envs, dtype=np.int32)
        self._actions: np.ndarray = np.zeros(0)
        self._lengths = np.zeros(n_envs, dtype=np.int64)
        self._returns = np.zeros(n_envs)
        self._began = time.time()
        self._cuts: np.ndarray | None = None
        self._dtype = observation_space.dtype

    @property
    def backend(self) -> str:
        """Name and version of what simulates."""
        import envpool

        return f"envpool {envpool.__version__}"

    def _make(self, seed: int) -> None:
        # EnvPool takes a C int; environment i is seeded with seed + i.
        seed = int(seed) % (2**31 - self.num_envs)
        self._pool = make_pool(
            self._pool_id, num_envs=self.num_envs, num_threads=self._threads, seed=seed, max_episode_steps=_NEVER
        )
        names = list(self._pool._state_keys)
        self._names = {name.removeprefix("info:"): i for i, name in enumerate(names)}
        self._obs, self._rew, self._done = (self._position(names, key) for key in ("obs", "reward", "done"))
        dtype, shape = self._pool.spec._action_spec[-1][:2]
        self._action_dtype, self._action_shape = dtype, (self.num_envs, *(n for n in shape if n != -1))

    def _position(self, names: Sequence[str], key: str) -> int:
        if names.count(key) != 1:
            raise TaskError(f"EnvPool's {self._pool_id} has several observations ({', '.join(names)}); not supported.")
        return names.index(key)

    def reset(self) -> np.ndarray:
        if self._seeds[0] is not None or self._pool is None:
            self._make(int(np.random.randint(2**31)) if self._seeds[0] is None else self._seeds[0])
        if any(self._options):
            raise TaskError('EnvPool takes no reset options; train with backend="gymnasium".')
        self._reset_seeds()
        self._reset_options()
        self._lengths[:], self._returns[:] = 0, 0.0
        return self._fresh(self._ids).astype(self._dtype, copy=False)

    def _fresh(self, ids: np.ndarray) -> np.ndarray:
        """Reset these environments; their first observations (len(ids), ...)."""
        self._pool._reset(ids)
        values = self._pool._recv()
        obs = values[self._obs]
        if len(ids) > 1:
            # As asked for, whatever the order in which threads were ready.
            at = np.empty(self.num_envs, dtype=np.intp)
            at[values[self._names["env_id"]]] = np.arange(len(ids))
            obs = obs[at[ids]]
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = np.ascontiguousarray(actions, dtype=self._action_dtype).reshape(self._action_shape)
        self._pool._send([self._ids, self._ids, self._actions])

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        values = self._pool._recv()
        obs = values[self._obs].astype(self._dtype, copy=False)
        rewards, terminated = values[self._rew], values[self._done]
        if self._reward is not None:
            rewards = self._reward(rewards, _Named(self._names, values))
        self._returns += rewards
        self._lengths += 1
        dones = terminated if self._limit is None else terminated | (self._lengths >= self._limit)
        if self._cuts is not None:
            dones = dones | (self._lengths >= self._cuts)
        # A dict each: wrappers write into them.
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        if dones.any():
            obs = self._end(np.flatnonzero(dones), obs, terminated, infos)
        return obs, rewards.astype(np.float32, copy=False), dones, infos

    def _end(self, ended: np.ndarray, obs: np.ndarray, terminated: np.ndarray, infos: list[dict[str, Any]]) -> Any:
        last = obs[ended]
        seconds = round(time.time() - self._began, 6)
        for k, i in enumerate(ended):
            infos[i]["TimeLimit.truncated"] = not terminated[i]
            infos[i]["terminal_observation"] = last[k]
            if terminated[i] or self._lengths[i] == self._limit:
                # As Monitor: what was cut is no return of the task.
                infos[i]["episode"] = {"r": round(float(self._returns[i]), 6), "l": int(self._lengths[i]), "t": seconds}
        self._returns[ended], self._lengths[ended] = 0.0, 0
        if not obs.flags.writeable:
            obs = obs.copy()
        obs[ended] = self._fresh(ended.astype(np.int32))
        return obs

    def cut_episodes(self, steps: np.ndarray) -> None:
        """Truncate the episodes of environment i after steps[i], (n_envs,), as a time limit does; what the task itself
        ends earlier stays as it is. Their returns are not reported."""
        self._cuts = np.asarray(steps)

    def close(self) -> None:
        self._pool = None

    def get_images(self) -> Sequence[np.ndarray | None]:
        raise TaskError(f'{self._pool_id} cannot be drawn through EnvPool; make it with backend="gymnasium".')

    def render(self, mode: str | None = None) -> np.ndarray | None:
        self.get_images()
        return None

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """`render_mode` (None) and `spec`; there are no Python environments to ask for more.

        Raises:
            AttributeError: for any other attribute.
        """
        known = {"render_mode": None, "spec": self._spec}
        if attr_name not in known:
            raise AttributeError(f"EnvPool's environments have no attribute {attr_name!r}, only {', '.join(known)}")
        return [known[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise TaskError(f'EnvPool cannot set {attr_name!r} of an environment; make it with backend="gymnasium".')

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise TaskError(f'EnvPool cannot call {method_name!r} of an environment; make it with backend="gymnasium".')

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """True for `Monitor`, whose `episode` entries are in the infos."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]


class _Named(Mapping[str, np.ndarray]):
    """EnvPool's outputs by name, without copying or building a dict at each step."""

    def __init__(self, positions: Mapping[str, int], values: Sequence[np.ndarray]):
        self._positions, self._values = positions, values

    def __getitem__(self, name: str) -> np.ndarray:
        return self._values[self._positions[name]]

    def __iter__(self) -> Any:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)
