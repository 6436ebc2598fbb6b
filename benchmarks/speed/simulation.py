"""Steps of the simulator alone: 16 environments, random actions fixed beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.speed import machine
from benchmarks.speed.rows import Row, faster, rate, side_by_side

TASKS = (
    "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "LunarLander-v3", "MountainCar-v0",
)  # fmt: skip
N_ENVS = 16


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """Steps per second of what `make_vec_env` can give, beside SB3's DummyVecEnv."""
    rows = []
    seconds = 0.1 if quick else 0.7
    for env_id in TASKS[:1] if quick else TASKS:
        arms: dict[Any, Any] = {"dummy": lambda env_id=env_id: speed(_dummy(env_id), seconds)}
        default, cases = _cases(env_id)
        for case in cases:
            arms[case] = lambda env_id=env_id, case=case: speed(ours(env_id, case[1], case[0]), seconds)
        found = side_by_side(arms, repeats)
        limit = 1 / machine.raw_step(env_id) if "-v5" in env_id else None
        for backend, n in cases:
            what = f"{env_id}, {backend}, {n} thread{'s' * (n > 1)}"
            note = "" if backend == default else "not used by default"
            rows.append(faster(what, "steps/s", found["dummy"], found[backend, n], limit and limit * n, note=note))
    return rows


def _cases(env_id: str) -> tuple[str, list[tuple[Any, int]]]:
    """The backend that is used by default, and backends with numbers of threads."""
    from unstuck.vecenvs import choose

    env = _make(env_id)
    default = choose(env, env_id, None, "auto").backend
    backends = {default} | ({"mujoco"} if hasattr(env.unwrapped, "model") else set())
    env.close()
    return default, [(b, n) for b in sorted(backends) for n in ([1] if b == "gymnasium" else [1, 2][: machine.cores()])]


def _make(env_id: str) -> Any:
    from unstuck.tasks import make_env

    return make_env(env_id)


def _dummy(env_id: str) -> Any:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda: Monitor(_make(env_id)) for _ in range(N_ENVS)])


def ours(env_id: str, threads: int, backend: Any = "auto") -> Any:
    """What training uses, 16 environments of it."""
    from unstuck.vecenvs import make_vec_env

    return make_vec_env(lambda: _make(env_id), env_id, None, N_ENVS, backend, threads, seed=0)


def speed(venv: Any, seconds: float) -> float:
    """Environment steps per second with random actions; closes the environments."""
    space = venv.action_space
    space.seed(0)
    actions = [np.array([space.sample() for _ in range(N_ENVS)]) for _ in range(32)]
    venv.seed(0)
    venv.reset()

    def some() -> int:
        for a in actions:
            venv.step(a)
        return len(actions) * N_ENVS

    found = rate(some, seconds)
    venv.close()
    return found
