"""What guidance costs in speed: plain SB3 PPO beside Unstuck's learner on the same VecEnv, side by side in one run.

    python benchmarks/overhead.py            # prints ratios, writes docs/overhead.md

Arms take turns within each repeat, so that a noisy machine slows all of them alike; a ratio is of two neighbours in
time. Guidance off is the same learner without guidance; guided arms carry 100 pieces of advice with conditions on
four variables each, as reward terms (the default on continuous tasks), imitated, or executed.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from unstuck.config import AgentConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.guidance import Action, Advice, Condition, Guidance, Term
from unstuck.learner import Learner
from unstuck.modulate.plan import Plan
from unstuck.pipeline import open_run
from unstuck.tasks import describer_for
from unstuck.workspace import Workspace

ENV, PIECES = "Hopper-v5", 100
SETTINGS = TrainConfig(n_envs=16, n_steps=128, batch_size=256, n_epochs=10)


def conditions(names: tuple[str, ...], rng: np.random.Generator) -> tuple[Condition, ...]:
    """Two variables beyond a bound that they seldom pass, as rules have it that are meant for some states only."""
    signs = {str(v): int(rng.choice([-1, 1])) for v in rng.choice(names, 2, replace=False)}
    return tuple(
        Condition(variable=v, op=">" if sign > 0 else "<", value=sign * float(rng.uniform(0.5, 2.0)))
        for v, sign in signs.items()
    )


def guidance(rng: np.random.Generator) -> Guidance:
    names = describer_for(ENV).card.variable_names
    advice = tuple(
        Advice(
            id=f"r{i}",
            kind="rule",
            why="",
            when=conditions(names, rng),
            # Changes nothing, so that all arms meet the same states: longer or shorter episodes cost time too.
            action=Action(values=(0.0, 0.0, 0.0), delta=True),
        )
        for i in range(PIECES)
    )
    terms = tuple(
        Term(variable=str(rng.choice(names)), above=0.0, weight=0.01, cap=1.0, when=conditions(names, rng))
        for _ in range(PIECES)
    )
    return Guidance(env_id=ENV, diagnosis="", advice=advice, reward_terms=terms)


def plain(steps: int) -> float:
    """Seconds that plain SB3 takes."""
    venv = DummyVecEnv([lambda: Monitor(gym.make(ENV)) for _ in range(SETTINGS.n_envs)])
    model = PPO("MlpPolicy", venv, n_steps=128, batch_size=256, n_epochs=10, seed=0, device="cpu")
    begun = time.perf_counter()
    model.learn(steps)
    return time.perf_counter() - begun


def ours(space: Workspace, plan: Plan, rules: Guidance | None, steps: int) -> tuple[float, float]:
    """Seconds that the learner takes, and the share of states in which advice applied."""
    with tempfile.TemporaryDirectory() as folder:
        learner = Learner(space, SETTINGS, plan, rules, 0, steps, Path(folder))
        begun = time.perf_counter()
        learner.model.learn(steps)
        seconds = time.perf_counter() - begun
        return seconds, learner.guide.take_counts()[0] if learner.guide else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16_384)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/overhead.md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        agent = Path(folder) / "agent.zip"
        PPO("MlpPolicy", gym.make(ENV), seed=0, device="cpu").save(agent)
        config = RunConfig(task=TaskConfig(env=ENV), agent=AgentConfig(agent=str(agent)))
        space = Workspace(open_run(config, Path(folder) / "run"))
        rules = guidance(np.random.default_rng(0))
        arms: dict[str, Any] = {
            "guidance off": lambda: ours(space, Plan(), None, args.steps),
            "100 reward terms": lambda: ours(space, Plan(terms=True), rules, args.steps),
            "100 rules imitated": lambda: ours(space, Plan(imitate=0.3), rules, args.steps),
            "100 rules executed": lambda: ours(space, Plan(execute=True), rules, args.steps),
        }
        plain(2_048)  # Warm up before anything counts.
        ratios: dict[str, list[float]] = {name: [] for name in arms}
        hits: dict[str, float] = {}
        speeds: list[float] = []
        for repeat in range(args.repeats):
            for name, arm in arms.items():
                before = plain(args.steps)
                seconds, hits[name] = arm()
                after = plain(args.steps)
                speeds += [args.steps / before, args.steps / after]
                ratios[name].append(seconds / ((before + after) / 2) - 1)
                print(f"repeat {repeat + 1} {name:<20} {ratios[name][-1]:+.1%}", flush=True)
    write(args, ratios, hits, speeds)


def write(args: Any, ratios: dict[str, list[float]], hits: dict[str, float], speeds: list[float]) -> None:
    lines = [
        "# What guidance costs in speed",
        "",
        f"Extra wall-clock time of a training run on {ENV} over plain SB3 PPO with the same VecEnv (16 environments",
        f"in a DummyVecEnv), {args.steps:,} environment steps, {args.repeats} repeats; each run is compared with a",
        "plain run just before and one just after it.",
        "",
        "| arm | median | lowest | highest | states with advice |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {np.median(r):+.1%} | {min(r):+.1%} | {max(r):+.1%} | {hits[name]:.0%} |"
            for name, r in ratios.items()
        ),
        "",
        f"Plain SB3 PPO ran at {np.median(speeds):,.0f} steps per second (median; from {min(speeds):,.0f} to",
        f"{max(speeds):,.0f}). Made by `python benchmarks/overhead.py --steps {args.steps} --repeats {args.repeats}`",
        f"with Python {platform.python_version()}, stable-baselines3 {stable_baselines3.__version__},",
        f"torch {torch.__version__},",
        f"gymnasium {gym.__version__}, one torch thread, seed 0.",
        "",
        "The default mode on this task is reward terms. Differences of a few percent are within the scatter of the",
        "machine, as the row without guidance shows.",
        "",
    ]
    args.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
