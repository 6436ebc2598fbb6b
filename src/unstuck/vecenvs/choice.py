"""Choosing what simulates: EnvPool only where it is proved equal, MuJoCo's environments together, else Gymnasium."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from unstuck.errors import TaskError
from unstuck.robots import apart
from unstuck.vecenvs.atari import as_trained
from unstuck.vecenvs.tasks import BY_DISTRIBUTION, DIFFERENT_TASKS, EQUAL_TASKS, SPARSE_TASKS, TESTED
from unstuck.workers import free_cores

if TYPE_CHECKING:
    import gymnasium as gym
    import numpy as np
    from stable_baselines3.common.vec_env import VecEnv

    from unstuck.vecenvs.pool import Reward

Backend = Literal["auto", "envpool", "mujoco", "gymnasium"]

_HARMLESS = {"PassiveEnvChecker", "OrderEnforcing", "TimeLimit"}
"""Wrappers that gymnasium.make adds to every environment."""
_OWN_KWARGS: dict[str, dict[str, Any]] = {
    "FrozenLake-v1": {"map_name": "4x4"},
    "FrozenLake8x8-v1": {"map_name": "8x8"},
    "LunarLanderContinuous-v3": {"continuous": True},
    "CliffWalkingSlippery-v1": {"is_slippery": True},
}
"""What Gymnasium itself registers these ids with."""
_OTHERWISE = "Use --train.backend auto or gymnasium."
_NOT_INSTALLED = 'EnvPool is not installed: pip install "unstuck[envpool]"'


@dataclass(frozen=True)
class Choice:
    """What simulates a task, and why not EnvPool."""

    backend: Literal["envpool", "mujoco", "gymnasium"]
    why: str = ""
    """Why nothing faster is used, a clause without a full stop."""


def make_vec_env(
    env_factory: Callable[[], gym.Env],
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    n_envs: int = 1,
    backend: Backend = "auto",
    threads: int = 0,
    seed: int | None = None,
) -> VecEnv:
    """`n_envs` environments of one task, reset automatically, with Monitor's statistics in the infos. Rewards and ends
    of Atari games are as agents behind `AtariWrapper` learn them (`unstuck.vecenvs.atari`).

    Args:
        env_factory: makes one environment as Gymnasium has it: tells the spaces, and is what backends gymnasium and
            mujoco run.
        env_kwargs: what the factory gives to `gymnasium.make`.
        threads: that EnvPool and MuJoCo step with; 0: one in a worker process, else up to the number of cores.
            Results do not depend on it.
        seed: environment i is seeded with seed + i at the first reset.

    Raises:
        TaskError: if the numbers are wrong; or with backend envpool, if EnvPool is not installed, or its task is not
            proved to be Gymnasium's; or with backend mujoco, if the environments cannot be stepped together.
    """
    threads = thread_count(n_envs, threads)
    _check(n_envs >= 1, f"--train.n-envs is {n_envs}; at least one environment is needed")
    env = env_factory()
    try:
        choice = choose(env, env_id, env_kwargs, backend)
        if choice.backend == "envpool":
            venv = _pool(env, env_id, n_envs, threads)
        else:
            venv = _robots(env_factory, n_envs, threads) if choice.backend == "mujoco" else _lean(env_factory, n_envs)
    finally:
        env.close()
    if seed is not None:
        venv.seed(seed)
    return as_trained(venv)


def thread_count(n_envs: int, threads: int) -> int:
    """Threads to step with, for what the user set.

    Raises:
        TaskError: if it is negative, or there are more threads than environments.
    """
    _check(threads >= 0, f"--train.threads is {threads}; 0 chooses, 1 or more is a number of threads")
    _check(
        threads <= max(1, n_envs),
        f"--train.threads is {threads}, but there are only {n_envs} environments (--train.n-envs) to share among them",
    )
    if threads:
        return threads
    return min(free_cores(), max(1, n_envs))


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TaskError(otherwise + ".")


def installed() -> bool:
    """Whether EnvPool can be imported, as far as can be told without importing it."""
    return importlib.util.find_spec("envpool") is not None


def missed_speed(env_id: str, env_kwargs: Mapping[str, Any] | None, backend: Backend) -> str | None:
    """A line for the user when the task trains more slowly only because EnvPool is not installed."""
    if backend == "auto" and not _kwargs_refused(env_kwargs) and _known(env_id) and not installed():
        return f"training without EnvPool, the slower way: {_NOT_INSTALLED}"
    return None


def _known(env_id: str) -> bool:
    return env_id in EQUAL_TASKS or env_id in SPARSE_TASKS


def choose(env: gym.Env, env_id: str, env_kwargs: Mapping[str, Any] | None, backend: Backend) -> Choice:
    """What simulates the task of which `env` is an example, as `gymnasium.make` or a user's code made it.

    Raises:
        TaskError: with backend envpool or mujoco, where it cannot be used.
    """
    if backend == "gymnasium":
        return Choice("gymnasium", "Gymnasium was asked for")
    _check(
        backend in ("auto", "envpool", "mujoco"),
        f"--train.backend is {backend!r}; there are auto, envpool, mujoco and gymnasium",
    )
    why = "MuJoCo was asked for"
    if backend != "mujoco":
        refused = _refused(env, env_id, env_kwargs)
        if refused is None:
            return Choice("envpool")
        if backend == "envpool":
            raise TaskError(f"EnvPool cannot simulate {env_id}: {refused}. {_OTHERWISE}")
        why = f"EnvPool: {refused}"
    if (alone := apart(env)) is None:
        return Choice("mujoco", why)
    if backend == "mujoco":
        raise TaskError(f"environments of {env_id} cannot be stepped together: {alone}. {_OTHERWISE}")
    return Choice("gymnasium", f"{why}; stepping together: {alone}")


def _refused(env: gym.Env, env_id: str, env_kwargs: Mapping[str, Any] | None) -> str | None:
    """Why EnvPool cannot take Gymnasium's place, or None."""
    if env_id in DIFFERENT_TASKS:
        return f"its task differs from Gymnasium's ({DIFFERENT_TASKS[env_id]})"
    if not _known(env_id):
        return "it has no task of this id that was proved to be Gymnasium's own"
    if refused := _kwargs_refused(env_kwargs) or _changed(env, env_id):
        return refused
    try:
        import envpool  # noqa: F401
    except ImportError as error:
        return _NOT_INSTALLED if not installed() else f"importing it failed ({error})"
    return _differs_here(env_id)


def _kwargs_refused(env_kwargs: Mapping[str, Any] | None) -> str | None:
    """A time limit is ours to count; what else changes a task was not compared."""
    others = sorted(set(env_kwargs or {}) - {"max_episode_steps"})
    return f"it was compared without keyword arguments, and {', '.join(others)} may change the task" if others else None


def _changed(env: Any, env_id: str) -> str | None:
    """Whether the environment is another than Gymnasium registers under the id: wrapped, or registered anew."""
    layer = env
    while layer is not env.unwrapped:
        if type(layer).__name__ not in _HARMLESS or not type(layer).__module__.startswith("gymnasium.wrappers"):
            return f"the environment is wrapped in {type(layer).__name__}"
        layer = layer.env
    ours = "unstuck.tasks.sparse" if env_id in SPARSE_TASKS else "gymnasium.envs."
    spec = env.spec
    if spec is None or spec.id != env_id or not type(env.unwrapped).__module__.startswith(ours):
        return f"the environment is {type(env.unwrapped).__module__}.{type(env.unwrapped).__name__}, not Gymnasium's"
    if others := {
        k: v for k, v in spec.kwargs.items() if k != "render_mode" and _OWN_KWARGS.get(env_id, {}).get(k) != v
    }:
        return f"the id was registered with arguments of its own ({', '.join(others)})"
    return None


def _differs_here(env_id: str) -> str | None:
    """A short comparison with the versions installed here, each time: whatever was measured elsewhere, another task's
    dynamics are never used."""
    if env_id in BY_DISTRIBUTION:
        found = {name: importlib.metadata.version(name) for name in TESTED}
        if found == TESTED:
            return None
        listed = " and ".join(f"{name} {version}" for name, version in TESTED.items())
        return f"it was proved equal with {listed} only, and there are {' and '.join(found.values())}"
    from unstuck.vecenvs.proof import TOLERANCE, quick_deviation

    apart = quick_deviation(SPARSE_TASKS[env_id].base if env_id in SPARSE_TASKS else env_id)
    if apart <= TOLERANCE:
        return None
    return f"with the versions installed here its task differs from Gymnasium's (by {apart:.1g} within a few steps)"


def _lean(env_factory: Callable[[], gym.Env], n_envs: int) -> VecEnv:
    from unstuck.vecenvs.lean import LeanVecEnv

    return LeanVecEnv(env_factory, n_envs)


def _robots(env_factory: Callable[[], gym.Env], n_envs: int, threads: int) -> VecEnv:
    from unstuck.vecenvs.robots import RobotVecEnv

    return RobotVecEnv(env_factory, n_envs, threads)


def _pool(env: gym.Env, env_id: str, n_envs: int, threads: int) -> VecEnv:
    from unstuck.vecenvs.pool import EnvPoolVecEnv

    sparse = SPARSE_TASKS.get(env_id)
    return EnvPoolVecEnv(
        sparse.base if sparse else env_id,
        n_envs,
        env.observation_space,
        env.action_space,
        max_episode_steps=env.spec.max_episode_steps if env.spec else None,
        threads=threads,
        reward=_beyond(sparse.forward_from_x) if sparse else None,
        spec=env.spec,
    )


def _beyond(x: float) -> Reward:
    """The robot's reward without the part for speed (its weight is 1) where it has not come farther than `x`."""

    def reward(rewards: np.ndarray, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return rewards - outputs["x_velocity"] * (outputs["x_position"] <= x)

    return reward
