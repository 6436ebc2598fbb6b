"""Steps of the simulator alone: 16 environments, random actions fixed beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.speed import machine
from benchmarks.speed.rows import Row, faster, rate, side_by_side

TASKS = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "LunarLander-v3", "MountainCar-v0")
N_ENVS = 16


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """Steps per second of what `make_vec_env` gives, beside SB3's DummyVecEnv."""
    from unstuck.vecenvs import choose

    rows = []
    for env_id in TASKS[:1] if quick else TASKS:
        env = _make(env_id)
        choice = choose(env, env_id, None, "auto")
        env.close()
        arms: dict[str, Any] = {"dummy": lambda env_id=env_id: speed(_dummy(env_id), 0.1 if quick else 0.7)}
        threads = [1, 2][: machine.cores()] if choice.backend == "envpool" else [1]
        for n in threads:
            arms[str(n)] = lambda env_id=env_id, n=n: speed(ours(env_id, n), 0.1 if quick else 0.7)
        found = side_by_side(arms, repeats)
        limit = 1 / machine.raw_step(env_id) if "-v5" in env_id else None
        for n in threads:
            what = f"{env_id}, {choice.backend}, {n} thread{'s' * (n > 1)}"
            rows.append(
                faster(what, "steps/s", found["dummy"], found[str(n)], limit and limit * n, note=choice.why or "")
            )
    return rows


def _make(env_id: str) -> Any:
    from unstuck.tasks import make_env

    return make_env(env_id)


def _dummy(env_id: str) -> Any:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda: Monitor(_make(env_id)) for _ in range(N_ENVS)])


def ours(env_id: str, threads: int) -> Any:
    """What training uses, 16 environments of it."""
    from unstuck.vecenvs import make_vec_env

    return make_vec_env(lambda: _make(env_id), env_id, None, N_ENVS, "auto", threads, seed=0)


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
