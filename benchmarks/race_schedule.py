"""The schedule of races, simulated on learning curves that were recorded: what it would hand over, against plain
halving and against giving everything to plain PPO.

    python -m benchmarks.race_schedule docs/results docs/ablations          # curves.jsonl of `unstuck bench`
    python -m benchmarks.race_schedule --evaluated FOLDER                   # cur-TASK-NAME-SEED.json

Curves of a benchmark are means of episodes in training, with other methods in the place of treatments. Files of a
folder hold evaluations of treatments beside them: {"key": task, "name": competitor, "rows": [[steps, mean return,
episodes, ...]], "evals": [[steps, mean, ..., [returns]]]}. The decisions are those of `unstuck.race` itself; only
training and episodes are read off the curves, with noise as they show it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from unstuck.config import RaceConfig, RunConfig
from unstuck.guide.plan import Plan
from unstuck.paired import gain
from unstuck.race.competitors import TREATMENTS, TRUNK, Competitor, Treatment, competitor
from unstuck.race.contest import contest
from unstuck.race.engine import STATES_SHARE
from unstuck.race.entry import Entry
from unstuck.race.finals import MOST_PAIRS, affordable, standing
from unstuck.race.finish import finish
from unstuck.race.schedule import plan_rungs
from unstuck.race.track import Track
from unstuck.results import Rank

QUANTUM, COLLECTED = 2048, 8_000
Array = np.ndarray


@dataclass(frozen=True)
class Recorded:
    """One competitor's curve."""

    name: str
    steps: Array
    returns: Array
    """(L,) mean returns of episodes in training."""
    at: Array
    levels: Array
    """(E,) evaluations, and when."""
    scatter: float
    """Standard deviation of an episode's return."""

    def level(self, step: float) -> float:
        return float(np.interp(step, self.at, self.levels))


class Replay(Track):
    """A race whose training and episodes are read off curves."""

    def __init__(self, arms: dict[str, Recorded], budget: int, episode: int, rng: np.random.Generator):
        self.arms, self.budget, self.episode, self.rng = arms, budget, episode, rng
        self.config, self.seed, self.quantum = RaceConfig(), 0, QUANTUM
        self.run: Any = SimpleNamespace(config=RunConfig())
        self.spent = {"train": 0, "states": int(STATES_SHARE * budget), "judge": 0}
        self._lay_out()
        self.entries = [Entry(_entered(name), Plan(), None, rank=Rank(name=name)) for name in arms]
        trunk = arms[TRUNK]
        self.__dict__["before"] = (trunk.level(0), trunk.scatter / np.sqrt(6))

    def show(self, title: str = "") -> None:
        pass

    def given(self, mode: str) -> dict[int, float]:
        trunk = self.arms[TRUNK]
        return dict(enumerate(trunk.level(0) + trunk.scatter * np.array([-1.0, 1.0])))

    def train(self, racing: Sequence[Entry], stop: int, episodes: int | None = None) -> None:
        count = self.episodes if episodes is None else episodes
        for entry in racing:
            if entry.trained < stop:
                self.spent["train"] += stop - entry.trained
                self.spent["judge"] += count * self.episode
                entry.trained = stop
                entry.points.append((stop, self._play(entry.name, stop, count)))

    def _play(self, name: str, stop: int, count: int) -> list[float]:
        arm = self.arms[name]
        return self.rng.normal(arm.level(stop), arm.scatter, count).tolist()

    def training_curve(self, entry: Entry) -> tuple[Array, Array, Array]:
        arm = self.arms[entry.name]
        seen = arm.steps <= entry.trained
        return arm.steps[seen], arm.returns[seen], np.ones(int(seen.sum()))

    def _test(self, winner: Entry, finalist: int) -> dict[str, list[float]]:
        trunk = self.entries[0]
        room = self.left - self.reserve.other
        pairs = affordable(room, self.episode, 1 if winner is trunk else 2, 6, MOST_PAIRS)
        returns = {"finalist": self._play(winner.name, finalist, pairs), "original": self._play(TRUNK, 0, pairs)}
        if winner is not trunk:
            returns["trunk"] = self._play(TRUNK, trunk.trained, pairs)
        return returns

    def worth(self) -> float:
        """The level of what is handed over; other modes and noise have no part in it."""
        winner, finalist = finish(self, *contest(self, self.entries).run())
        returns, level = self._test(winner, finalist), self.config.level
        over = gain(returns["finalist"], returns["original"], level)
        over_trunk = gain(returns["finalist"], returns["trunk"], level) if "trunk" in returns else None
        handed = standing(returns, over, over_trunk, winner.name)[0][0]
        if handed == "finalist":
            return self.arms[winner.name].level(finalist)
        trained = finalist if winner.name == TRUNK else self.entries[0].trained
        return self.arms[TRUNK].level(trained if handed == "trunk" else 0)


def halved(arms: dict[str, Recorded], budget: int, episode: int, rng: np.random.Generator) -> float:
    """Plain successive halving by the level alone, no test: the level of the winner."""
    rungs = plan_rungs(budget, QUANTUM, episode, len(arms), share=0.5, shortest=min(8000, budget // 16))
    racing, left, before = list(arms)[: rungs.entered], budget, 0
    for number, survivors in enumerate(rungs.survivors):
        stop = rungs.stop(number)
        left -= len(racing) * (stop - before + rungs.episodes * episode)
        seen = {a: rng.normal(arms[a].level(stop), arms[a].scatter / np.sqrt(rungs.episodes)) for a in racing}
        racing, before = sorted(racing, key=lambda a: -seen[a])[:survivors], stop
    return arms[racing[0]].level(before + max(0, left))


def _entered(name: str) -> Competitor:
    known = all(part in TREATMENTS for part in name.split("+"))
    return competitor(name) if known else Competitor(name, (Treatment(name, "a method of the benchmark"),))


def of_benchmark(folder: Path) -> dict[tuple[str, int], dict[str, Recorded]]:
    """(task, seed) → competitors, PPO first."""
    found: dict[tuple[str, int], dict[str, Recorded]] = defaultdict(dict)
    for line in (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines():
        held = json.loads(line)
        steps, returns = np.array(held["steps"], dtype=float), np.array(held["returns"])
        if len(steps) < 3:
            continue
        steps = steps - (steps[0] - 2048 if held["method"] != "ppo" else 0)  # what it was charged before training
        smooth = np.convolve(np.pad(returns, 2, mode="edge"), np.ones(5) / 5, mode="valid")
        scatter = float(np.std(np.diff(returns)))
        name = TRUNK if held["method"] == "ppo" else held["method"]
        found[held["task"], held["seed"]][name] = Recorded(name, steps, returns, steps, smooth, scatter)
    return {k: {TRUNK: v[TRUNK], **v} for k, v in found.items() if TRUNK in v and len(v) > 1}


def of_folder(folder: Path) -> dict[tuple[str, int], dict[str, Recorded]]:
    """The same, of evaluations of treatments."""
    names = {
        "co:": TRUNK, "tr:w0,b64": "transplant+small-batches", "co:b64": "small-batches",
        "sp:w0,b64": "transplant+shrink-and-perturb",
    }  # fmt: skip
    found: dict[str, dict[str, Recorded]] = defaultdict(dict)
    for path in sorted(folder.glob("cur-*-100k-*-1.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["name"] not in names:
            continue
        rows = np.array([r[:2] for r in held["rows"] if r[1] is not None], dtype=float).reshape(-1, 2)
        evals, name = held["evals"], names[held["name"]]
        scatter = float(np.mean([np.std(e[3]) for e in evals]))
        at, levels = [e[0] for e in evals], [e[1] for e in evals]
        found[held["key"]][name] = Recorded(name, rows[:, 0], rows[:, 1], np.array(at), np.array(levels), scatter)
    begun = {"hop": 731.0, "hc": 482.0, "trpohc": 1771.0}
    whole = {}
    for key, arms in found.items():
        start = {n: 0.0 if _entered(n).late else begun[key] for n in arms}
        full = {
            n: Recorded(n, a.steps, a.returns, np.r_[0, a.at], np.r_[start[n], a.levels], a.scatter)
            for n, a in arms.items()
        }
        whole[key, 1] = {n: full[n] for n in names.values() if n in full}
    return whole


def simulate(recorded: dict[tuple[str, int], dict[str, Recorded]], budget: int, episode: int, draws: int) -> None:
    """Print a table: for each task the mean return of what is handed over."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for (task, _), arms in recorded.items():
        rng = np.random.default_rng(0)
        raced = [Replay(arms, budget - COLLECTED, episode, rng).worth() for _ in range(draws)]
        plain = [halved(arms, budget, episode, rng) for _ in range(draws)]
        trunk, best = arms[TRUNK].level(budget), max(a.level(budget) for a in arms.values())
        rows[task].append([arms[TRUNK].level(0), trunk, float(np.mean(plain)), float(np.mean(raced)), best])
    heads = ("task", "before", "all to the trunk", "plain halving", "race", "best of all")
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for task, found in rows.items():
        print(f"| {task} | " + " | ".join(f"{v:.4g}" for v in np.mean(found, axis=0)) + " |")
    sums = np.array([np.mean(found, axis=0) for found in rows.values()])
    gap = np.maximum(sums.max(axis=1) - sums.min(axis=1), 1e-9)
    shares = ((sums - sums[:, :1]) / gap[:, None]).mean(axis=0)
    print("| mean, of the largest difference | " + " | ".join(f"{v:+.2f}" for v in shares) + " |")


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.race_schedule", description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--evaluated", type=Path)
    parser.add_argument("--budget", type=int, default=100_000)
    parser.add_argument(
        "--episode", type=int, default=0, help="steps of an episode; by default 200, or 1000 --evaluated"
    )
    parser.add_argument("--draws", type=int, default=50)
    given = parser.parse_args(args)
    for folder in given.folders:
        print(f"\n{folder}\n")
        simulate(of_benchmark(folder), given.budget, given.episode or 200, given.draws)
    if given.evaluated:
        simulate(of_folder(given.evaluated), given.budget, given.episode or 1000, given.draws)


if __name__ == "__main__":
    main(sys.argv[1:])
