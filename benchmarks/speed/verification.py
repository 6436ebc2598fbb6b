"""Verification: branch steps per second, placement included, against one branch at a time; and what restoring costs.

    python benchmarks/speed/verification.py [--hopper AGENT.zip] [--lander AGENT.zip]

One branch at a time is what a first version would do: one environment, restored (or replayed) for each branch, and the
policy called for one observation, once as SB3's `predict` and once as Unstuck's own `Actor`. Arms take turns in each
repeat. Start-up of the processes is measured by itself. Without agents, untrained ones are made; their Hopper falls, so
it is not ended when it does, or branches would be too short to tell.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PAIRS, HORIZON, EPISODES = 8, 100, 8
TASKS: dict[str, dict[str, Any]] = {"Hopper-v5": {"terminate_when_unhealthy": False}, "LunarLander-v3": {}}
RESTORED: tuple[tuple[str, dict[str, Any]], ...] = (("Hopper-v5", {}), ("ALE/Pong-v5", {}), ("UnstuckPong-v0", {}))


def measure(repeats: int = 3, quick: bool = False, agents: Mapping[str, Path] | None = None) -> list[dict[str, Any]]:
    """Rows of `what`, `unit`, `baseline`, `ours`, `ratio` and its `spread` over the repeats, `limit` and `note`.

    Speeds are in branches of `HORIZON` steps per second (a branch that ends early counts in proportion); the limit is
    what the cores would reach if they did nothing but `env.step`. Restoring is in steps of simulation.

    Args:
        agents: SB3 zips by environment, in place of untrained ones.
    """
    import torch

    torch.set_num_threads(1)
    rows = []
    for env, kwargs in list(TASKS.items())[: 1 if quick else None]:
        given = (agents or {}).get(env)
        with tempfile.TemporaryDirectory() as folder:
            rows += _branches(env, {} if given else kwargs, given, Path(folder), repeats)
    for env, kwargs in RESTORED[: 1 if quick else None]:
        if row := _restoring(env, kwargs, repeats):
            rows.append(row)
    return rows


@dataclass
class _Case:
    space: Any
    starts: list[Any]
    attempt: Any
    brancher: Any

    def together(self) -> int:
        pairs = self.brancher.run(self.starts, HORIZON, self.attempt)
        return sum(len(branch.rewards) for pair in pairs for branch in pair)

    def alone(self, act: Callable[[Any, np.random.Generator], Any], count: int) -> int:
        """The same, for some of the starts."""
        from unstuck.branching.acting import Suggestions
        from unstuck.snapshots import BranchPool

        pool = BranchPool(self.space.make_env, 1, self.space.snapshotter)
        advice, taken = self.attempt.advice[0], 0
        suggestion = Suggestions([advice.action], self.space.actor.action_space)
        for start in self.starts[:count]:
            episode = self.space.episodes[start.episode]
            for advised in (True, False):
                pool.place(0, episode, start.step, start.noise)
                observation, rng = episode.observation(start.step), np.random.default_rng([start.noise, 1])
                for t in range(HORIZON):
                    action = act(observation, rng)
                    if advised and t < advice.hold:
                        action = suggestion.apply(np.zeros(1, dtype=int), np.asarray(action)[None])[0]
                    observation, _, terminated, truncated, _ = pool.step(0, action)
                    taken += 1
                    if terminated or truncated:
                        break
        pool.close()
        return taken


def _case(env_id: str, kwargs: dict[str, Any], given: Path | None, folder: Path) -> _Case:
    from stable_baselines3 import PPO

    from unstuck.branching.branches import Attempt, Start
    from unstuck.config import AgentConfig, CollectConfig, RunConfig, TaskConfig
    from unstuck.guidance import Action, Advice, Evidence
    from unstuck.run import Run
    from unstuck.stages.collect import collect
    from unstuck.stages.verify.brancher import Brancher
    from unstuck.tasks import make_env
    from unstuck.workspace import Workspace

    agent = given or folder / "agent.zip"
    if given is None:
        PPO("MlpPolicy", make_env(env_id, kwargs), n_steps=8, batch_size=8, seed=0, device="cpu").save(agent)
    config = RunConfig(
        task=TaskConfig(env=env_id, env_kwargs=kwargs),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=EPISODES, max_steps=4_000),
    )
    run = Run.create(folder / "run", config, {"agent": agent})
    lengths = [len(e) for e in collect(run)]
    space = Workspace(run)
    card = space.describer.card.action
    action = Action(index=2) if card.kind == "discrete" else Action(values=(0.1,) * len(card.names), delta=True)
    advice = Advice(id="a", kind="state", why="", evidence=Evidence(episode=0, step=0), action=action, hold=5)
    rng = np.random.default_rng(0)
    chosen = [k % len(lengths) for k in range(PAIRS)]
    starts = [Start(k, index, int(rng.integers(0, max(1, lengths[index] - 50)))) for k, index in enumerate(chosen)]
    return _Case(space, starts, Attempt([advice], None), Brancher(space, 2 * PAIRS, None, expected=10**6))


def _branches(
    env_id: str, kwargs: dict[str, Any], given: Path | None, folder: Path, repeats: int
) -> list[dict[str, Any]]:
    from unstuck.agents import build_policy

    case = _case(env_id, kwargs, given, folder)
    begun = time.perf_counter()
    case.together()  # processes are started, environments made
    start_up = time.perf_counter() - begun
    env = case.space.make_env()
    policy, actor = build_policy(case.space.agent, env.observation_space, env.action_space), case.space.actor
    alone = {
        "SB3's predict": lambda obs, _: policy.predict(obs, deterministic=False)[0],
        "our own Actor": lambda obs, rng: actor.act(obs[None], False, [rng])[0],
    }
    speeds: dict[str, list[float]] = {name: [] for name in [*alone, "ours"]}
    simulation: list[float] = []
    for _ in range(repeats):
        for name, act in alone.items():
            speeds[name].append(_speed(lambda act=act: case.alone(act, max(1, PAIRS // 4))))
        speeds["ours"].append(_speed(case.together))
        simulation.append(_speed(lambda: _simulate(env)))
    case.brancher.close()
    limit = statistics.median(simulation) * (os.cpu_count() or 1) / HORIZON
    note = f"{PAIRS} pairs, first call {start_up:.1f} s" + (f", {kwargs}" if kwargs else "")
    units = {"SB3's predict": "branches/s", "our own Actor": "branches/s beside our Actor"}
    return [
        _row(f"{env_id}, beside one at a time with {name}", units[name], _per_branch(speeds[name]),
             _per_branch(speeds["ours"]), limit, note)
        for name in alone
    ]  # fmt: skip


def _per_branch(speeds: list[float]) -> list[float]:
    return [speed / HORIZON for speed in speeds]


def _simulate(env: Any, steps: int = 500) -> int:
    """Random steps and nothing else."""
    env.action_space.seed(0)
    env.reset(seed=0)
    actions = [env.action_space.sample() for _ in range(50)]
    for k in range(steps):
        _, _, terminated, truncated, _ = env.step(actions[k % 50])
        if terminated or truncated:
            env.reset()
    return steps


def _speed(call: Callable[[], int]) -> float:
    begun = time.perf_counter()
    return call() / (time.perf_counter() - begun)


def _row(
    what: str, unit: str, baseline: list[float], ours: list[float], limit: float | None, note: str = ""
) -> dict[str, Any]:
    ratios = sorted(o / b for o, b in zip(ours, baseline, strict=True))
    return {
        "what": what, "unit": unit, "baseline": statistics.median(baseline), "ours": statistics.median(ours),
        "ratio": statistics.median(ratios), "spread": [ratios[0], ratios[-1]], "limit": limit, "note": note,
    }  # fmt: skip


def _restoring(env_id: str, kwargs: dict[str, Any], repeats: int, times: int = 100) -> dict[str, Any] | None:
    """Microseconds of a step and of restoring with new random numbers; None where the simulator is not installed."""
    from unstuck.errors import TaskError
    from unstuck.snapshots import reseed, snapshotter_for
    from unstuck.tasks import make_env

    try:
        env = make_env(env_id, kwargs)
    except TaskError:
        return None
    snapshotter = snapshotter_for(lambda: make_env(env_id, kwargs))
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(10)]
    for action in actions:
        env.step(action)
    state = snapshotter.save(env)
    steps, restores = [], []
    for _ in range(repeats):
        spent = {"step": 0.0, "restore": 0.0}
        for _ in range(times // len(actions)):
            for what in ("restore", "step"):
                begun = time.perf_counter()
                for k, action in enumerate(actions):
                    if what == "step":
                        env.step(action)
                    else:
                        snapshotter.restore(env, state)
                        reseed(env, k)
                spent[what] += time.perf_counter() - begun
        steps.append(spent["step"] / times * 1e6)
        restores.append(spent["restore"] / times * 1e6)
    env.close()
    note = f"{statistics.median(restores):.0f} µs, a step {statistics.median(steps):.0f} µs ({snapshotter.name})"
    relative = [r / s for r, s in zip(restores, steps, strict=True)]
    return _row(f"restoring {env_id}", "steps of simulation", [1.0] * repeats, relative, None, note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hopper", type=Path, help="an SB3 zip for Hopper-v5")
    parser.add_argument("--lander", type=Path, help="an SB3 zip for LunarLander-v3")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    zips = {"Hopper-v5": options.hopper, "LunarLander-v3": options.lander}
    for row in measure(options.repeats, agents={env: path for env, path in zips.items() if path}):
        low, high = row["spread"]
        limit = f", limit {row['limit']:.1f}" if row["limit"] else ""
        print(
            f"{row['what']}: {row['baseline']:.2f} and {row['ours']:.2f} {row['unit']}, ratio {row['ratio']:.2f} "
            f"({low:.2f} to {high:.2f}){limit}; {row['note']}"
        )
