"""What the machine is and can do: cores, versions, matrix products per second, the simulator without anything else."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from functools import cache
from typing import Any

import numpy as np

from unstuck.workers import cores

PACKAGES = ("numpy", "torch", "stable-baselines3", "gymnasium", "mujoco", "envpool")


def facts() -> dict[str, Any]:
    """Cores, processor, versions, and single-precision GFLOP/s of a core."""
    return {
        "cores": cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: v for name in PACKAGES if (v := _version(name))},
        "gflops": sgemm() / 1e9,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def sgemm(size: int = 512, seconds: float = 0.5) -> float:
    """Floating-point operations per second in the product of two square float32 matrices, on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - begun))
    torch.set_num_threads(threads)
    return best


@cache
def raw_step(env_id: str, steps: int = 500) -> float:
    """Seconds that `mj_step` of the installed MuJoCo takes for one environment step of random play, on one core.

    The mean, as steps with contacts take longer and count as often as they occur; of the quickest of three plays, as
    a machine that does something else as well only makes it longer.
    """
    return min(_raw_play(env_id, steps, seed) for seed in range(3))


def _raw_play(env_id: str, steps: int, seed: int) -> float:
    import gymnasium as gym
    import mujoco

    env = gym.make(env_id)
    core: Any = env.unwrapped
    spent = []

    def simulate(control: Any, frames: int) -> None:
        core.data.ctrl[:] = control
        begun = time.perf_counter()
        mujoco.mj_step(core.model, core.data, nstep=frames)
        spent.append(time.perf_counter() - begun)
        mujoco.mj_rnePostConstraint(core.model, core.data)

    core.do_simulation = simulate
    env.action_space.seed(seed)
    env.reset(seed=seed)
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.close()
    return float(np.mean(spent))


def update_flops(observed: int, acted: int, epochs: int, hidden: int = 64) -> float:
    """Floating-point operations that PPO needs for each environment step, for two networks with two hidden layers.

    A forward pass takes 2 for each weight, a backward pass twice as many; each state is seen once to act and `epochs`
    times to learn.
    """
    weights = 2 * (observed * hidden + hidden * hidden) + hidden * (acted + 1)
    return 2 * weights * (1 + 3 * epochs)
