"""Training end to end: SB3's PPO with 8 environments in a DummyVecEnv, and `unstuck.learner.Learner` as it comes.

Whoever trains is a process of its own, which has trained a little before the first clock starts, and waits while the
other's turn is. Both compute networks on one thread, whatever else the machine does: more threads for networks as
small as these wait for each other, and on a busy machine they wait for all that runs there. Each process also says for
which share of the time it had its core; where that is little, somebody else had it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed import machine, simulation
from benchmarks.speed.rows import Row, faster, side_by_side

TASKS = {
    "Hopper-v5": (11, 3), "HalfCheetah-v5": (17, 6), "Walker2d-v5": (17, 6), "Ant-v5": (105, 8),
    "Humanoid-v5": (348, 17),
}  # fmt: skip
"""Numbers observed and actions, for the FLOPs of an update."""
ROLLOUT, BATCH, EPOCHS = 2048, 256, 10
_Training = tuple[Any, Callable[[], Any]]
"""The model, and what trains it."""
MOST, FEWER = ("Walker2d-v5",), 3
"""Of the repeats, other tasks than these have a third, so that all of it takes less than ten minutes."""
TARGETS = {1: 3.0, 2: 2.5}
"""How many times as fast as SB3, by the number of runs at once."""
HEAVY = {"Ant-v5": 2.0, "Humanoid-v5": 2.0}
"""The same where nearly all of the time is simulation, which nobody can do faster."""
OF_LIMIT = 0.75
"""Share of the limit that is aimed at."""


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """Environment steps per second in all, for one run and for one run on each of two cores."""
    steps = ROLLOUT if quick else 5 * ROLLOUT
    cases = [(env_id, runs) for env_id in TASKS for runs in ((1,) if machine.cores() < 2 else (1, 2))]
    return [_row(*case, steps, repeats) for case in cases[: 1 if quick else None]]


def _row(env_id: str, runs: int, steps: int, repeats: int) -> Row:
    repeats = repeats if env_id in MOST else max(1, repeats // FEWER)
    with contextlib.ExitStack() as stack:
        teams = {who: stack.enter_context(_Team(who, env_id, steps, runs)) for who in WHO}
        pairs = side_by_side({who: team.run for who, team in teams.items()}, repeats)
    rates = {who: [sum(told["rate"] for told in each) for each in found] for who, found in pairs.items()}
    least = min(told["had_core"] for found in pairs.values() for each in found for told in each)
    simulating, updating = (
        float(np.median([told[part] for each in pairs["ours"] for told in each])) for part in ("simulating", "updating")
    )
    names = {1: "a single run on all cores", 2: "two runs at once, a core each"}
    return faster(
        f"{env_id}, {names[runs]}", "steps/s", rates["sb3"], rates["ours"], limit(env_id),
        target=HEAVY.get(env_id, TARGETS[runs]), simulating=simulating,
        note=f"{repeats} repeat{'s' * (repeats > 1)}, {simulating:.0%} of the time simulation, {updating:.0%} update, "
        f"each process had its core for {least:.0%} or more",
    )  # fmt: skip


def limit(env_id: str) -> float:
    """Steps per second if all cores did nothing but simulate and multiply PPO's matrices, at full speed."""
    flops = machine.update_flops(*TASKS[env_id], EPOCHS)
    step = min(machine.raw_step(env_id), 1 / simulation.speed(simulation.ours(env_id, 1), 1.0))
    return machine.cores() / (step + flops / machine.sgemm())


class _Team:
    """As many processes as there are runs at once; they end with it."""

    def __init__(self, who: str, env_id: str, steps: int, runs: int):
        threads = machine.cores() if runs == 1 else 1
        self._command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.training", who, env_id, str(steps),
                         str(threads)]  # fmt: skip
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        pipes |= {"cwd": Path(__file__).parents[2], "env": os.environ | single}
        self._processes = [subprocess.Popen(self._command, **pipes) for _ in range(runs)]

    def __enter__(self) -> _Team:
        for process in self._processes:
            self._hear(process)
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._processes:
            process.communicate()  # its input ends, and so does it

    def _hear(self, process: Any) -> Any:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} failed; its error is above")
        return json.loads(line)

    def run(self) -> list[dict[str, float]]:
        """What each of the processes tells of its training, which they begin together."""
        for process in self._processes:
            process.stdin.write("go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        return [self._hear(process) for process in self._processes]


def _sb3(env_id: str, folder: Path) -> Callable[[int], _Training]:
    import gymnasium as gym
    from stable_baselines3 import PPO
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    def fresh() -> Any:
        venv = DummyVecEnv([lambda: Monitor(gym.make(env_id)) for _ in range(8)])
        return PPO("MlpPolicy", venv, n_steps=ROLLOUT // 8, batch_size=BATCH, n_epochs=EPOCHS, seed=0, device="cpu")

    def make(steps: int) -> _Training:
        model = fresh()
        return model, partial(model.learn, steps)

    return make


def _ours(env_id: str, folder: Path) -> Callable[[int], _Training]:
    from benchmarks.speed.rows import workspace

    from unstuck.config import TrainConfig
    from unstuck.guide.plan import Plan
    from unstuck.learner import Learner

    space = workspace(env_id, folder)
    threads = int(sys.argv[4])
    config = TrainConfig(
        n_envs=16, n_steps=ROLLOUT // 16, batch_size=BATCH, n_epochs=EPOCHS, critic_warmup=0, threads=threads
    )

    def make(steps: int) -> _Training:
        learner = Learner(space, config, Plan(), None, 0, steps, folder)
        return learner.model, partial(learner.trainer.learn, steps, lambda _: None)

    return make


WHO = {"sb3": _sb3, "ours": _ours}


def _work(who: str, env_id: str, steps: int, threads: int) -> None:
    from unstuck.workers import one_thread

    with one_thread(), tempfile.TemporaryDirectory() as name:
        make = WHO[who](env_id, Path(name))
        make(ROLLOUT)[1]()
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            model, learn = make(steps)
            spent = {"simulating": _timed(model.env, "step"), "updating": _timed(model, "train")}
            begun, waited = time.perf_counter(), _waited()
            learn()
            seconds = time.perf_counter() - begun
            told = {name: sum(times) / seconds for name, times in spent.items()}
            had_core = 1 - (_waited() - waited) / seconds
            print(json.dumps({"rate": steps / seconds, "had_core": had_core, **told}), flush=True)


def _timed(owner: Any, name: str) -> list[float]:
    """Seconds of each call of a method of this object, as they come."""
    times: list[float] = []
    own = getattr(owner, name)

    def call(*args: Any) -> Any:
        begun = time.perf_counter()
        found = own(*args)
        times.append(time.perf_counter() - begun)
        return found

    setattr(owner, name, call)
    return times


def _waited() -> float:
    """Seconds for which this process's main thread could have run and had no core, where the system tells; else 0."""
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
