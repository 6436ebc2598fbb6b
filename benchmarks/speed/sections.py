"""The sections of the page: what each says, what it aims at, and whether that was met."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.speed.rows import Row
from benchmarks.speed.training import OF_LIMIT


class Verdict(NamedTuple):
    """What is aimed at, whether it was met, and if not, why not, where that follows from the numbers."""

    text: str
    met: bool
    why: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the measurements. `home` has `measure(repeats) -> rows`, and may take `quick`."""

    title: str
    text: str
    heads: tuple[str, str, str, str]
    """Of the columns: the baseline, ours, the ratio, the limit."""
    judge: Callable[[list[Row]], list[Verdict]]
    home: str
    repeats: int
    percent: bool = False
    """Whether the ratio is a share."""

    def measure(self, repeats: int | None, quick: bool) -> list[Row] | None:
        """The rows, or None where the module is not there."""
        if importlib.util.find_spec(self.home) is None:
            return None
        measure = importlib.import_module(self.home).measure
        takes_quick = "quick" in measure.__code__.co_varnames[: measure.__code__.co_argcount]
        return measure(repeats or (1 if quick else self.repeats), **({"quick": quick} if takes_quick else {}))


def _no_target(rows: list[Row]) -> list[Verdict]:
    return []


def _training(rows: list[Row]) -> list[Verdict]:
    faster = [
        Verdict(
            f"{r['what']}: at least {r['target']:g} times SB3", r["ratio"] >= r["target"],
            _short_of(r, r["target"] * r["baseline"]),
        )
        for r in rows
    ]  # fmt: skip
    near = [
        Verdict(
            f"{r['what']}: at least {OF_LIMIT:.0%} of the limit", r["ours"] >= OF_LIMIT * r["limit"],
            _short_of(r, OF_LIMIT * r["limit"]),
        )
        for r in rows
        if r["limit"]
    ]  # fmt: skip
    return faster + near


def _short_of(row: Row, aim: float) -> str:
    """Why a training is not as fast as that."""
    if "simulating" not in row:
        return ""
    simulating = row["simulating"]
    told = f"{simulating:.0%} of the time is simulation"
    left = (row["ours"] / aim - simulating) / (1 - simulating)
    if left <= 0:
        return f"{told}, so that it would not be even if acting and updating took no time"
    return f"{told}, so that acting and updating would have to be done in {left:.0%} of the time that they take"


UNLIKELY = 10_000
"""Pieces of advice that no coach gives."""


def _guidance(rows: list[Row]) -> list[Verdict]:
    aimed = [r for r in rows if r["target"]]
    return [
        Verdict(f"{r['what']}: at most {r['target']:.0%} of the steps per second", r["ratio"] <= r["target"], _dear(r))
        for r in aimed
    ]


def _dear(row: Row) -> str:
    """Why guidance costs so much."""
    if row.get("number", 0) >= UNLIKELY:
        return "so many pieces do not occur (see above)"
    if "alone" not in row:
        return ""
    share = row["alone"] / (row["baseline"] + row["alone"])
    return f"the calls by themselves take {row['alone']:.0f} µs, which would be {share:.1%} (see above)"


def _verification(rows: list[Row]) -> list[Verdict]:
    found = []
    for row in rows:
        if row["unit"].startswith("branches/s"):
            found.append(Verdict(f"{row['what']}: at least 5 times as fast", row["ratio"] >= 5))
        else:
            # Both in the same unit of time: a step of simulation, and restoring.
            cheap = row["ours"] < 5 * row["baseline"]
            found.append(Verdict(f"{row['what']}: less than 5 steps of simulation", cheap))
    return found


def _evaluation(rows: list[Row]) -> list[Verdict]:
    return [Verdict(f"{r['what']}: less than {r['target']:.0%} of training", r["ratio"] < r["target"]) for r in rows]


def _memory(rows: list[Row]) -> list[Verdict]:
    return [
        Verdict(
            f"{r['what']}: less than {r['limit']:,} MiB", r["ours"] < r["limit"],
            f"{r['baseline']:,.0f} MiB of it are there before the first episode",
        )
        for r in rows
    ]  # fmt: skip


def _startup(rows: list[Row]) -> list[Verdict]:
    return [Verdict(f"{r['what']}: within {r['target']:g} s", r["ours"] <= r["target"]) for r in rows]


SECTIONS = {
    "simulation": Section(
        "Simulation",
        "Steps per second of the environments alone, 16 at once, with random actions: what training uses by default, "
        "and for MuJoCo's tasks both EnvPool and Gymnasium's environments stepped together (`mujoco`), beside SB3's "
        "DummyVecEnv of Gymnasium environments. The last column is raw simulation: `mj_step` of the installed MuJoCo "
        "and nothing else, called from Python, times the threads, by the mean of its times: steps with contacts take "
        "longer. EnvPool brings a MuJoCo of its own and may be faster than that.",
        ("DummyVecEnv", "ours", "ratio", "MuJoCo alone"), _no_target, "benchmarks.speed.simulation", 5,
    ),
    "training": Section(
        "Training",
        "Environment steps per second of PPO from end to end: simulate, act, update. SB3's PPO has 8 environments in a "
        "DummyVecEnv, ours 16 through `unstuck.learner.Learner` with its defaults; both collect 2,048 steps for each "
        "update and make 10 passes over them in minibatches of 256, with networks of 2 x 64, computed on one thread in "
        "both; where a single run has all cores, ours simulates on all of them. What ours writes beside it (curve, "
        "checkpoints: hundredths of a second in a whole training) is left out, as SB3 writes nothing. The limit is "
        "what all cores would reach if they did nothing but the simulation (the faster of raw `mj_step` and EnvPool "
        "alone) and the matrix products of the networks, at the rate below. SB3 spends much of its time in `mj_step`, "
        "too, which nobody can make faster: that bounds the ratio. In a single run, threads wait for the slowest of "
        "them in each vector step, and one core acts and updates while the other waits: with two threads for its "
        "matrix products, too small to share, the update took longer.",
        ("SB3", "ours", "ratio", "limit"), _training, "benchmarks.speed.training", 10,
    ),
    "replay": Section(
        "Gradient steps of SAC",
        "Gradient steps per second on one thread, of Stable-Baselines3's SAC and of ours (`unstuck.sac`), which takes "
        "the same random numbers and comes to the same weights but for rounding. Layers of a race's SAC have 64 units.",
        ("SB3", "ours", "ratio", "limit"), _no_target, "benchmarks.speed.replaying", 3,
    ),
    "guidance": Section(
        "Guidance",
        "What guidance adds to a vector step of 16 environments (Hopper-v5), measured inside of a real training, and "
        "which share of the steps per second that costs. Executed pieces cover matching and substitution; the loss of "
        "imitation comes on top where it is used. `without` is the time of a vector step in all without guidance, its "
        "share of the update included. Most of what execution costs is a fixed number of numpy calls for a vector "
        "step, whatever the number of pieces: it is a smaller share where simulation takes longer, as of Ant and "
        "Humanoid, or where more environments share a vector step. For 100 pieces its parts are given, and what the "
        "same calls take by themselves, one after the other over the same observations. In training each comes after "
        "16 steps of simulation, which leave neither its code nor its data in the core's caches. To take less it would "
        "have to be compiled code of our own, in place of numpy's.",
        ("without", "guidance adds", "share lost", "limit"), _guidance, "benchmarks.speed.guiding", 3, True,
    ),
    "verification": Section(
        "Verification",
        "Branches of the simulator per second, many at once beside one at a time, and what restoring a state costs, in "
        "steps of simulation.",
        ("one at a time", "ours", "ratio", "limit"), _verification, "benchmarks.speed.verification", 3,
    ),
    "evaluation": Section(
        "Evaluation",
        "Seconds of evaluating beside those of training, both stages as they come, in a task whose episodes all last "
        "for 1,000 steps. One seed, on one core: its late checkpoints and the agent before, greedy and sampled, and "
        "the last test, as many steps however long training was, so that the share falls with the budget. By default "
        "a race hands over one agent, which is scored beside PPO continued and the agent before. The limit is "
        "`mj_step` for these steps and nothing else, on the cores that are used.",
        ("training", "evaluation", "share", "limit"), _evaluation, "benchmarks.speed.evaluating", 3, True,
    ),
    "memory": Section(
        "Memory",
        "The largest resident size of a process that collects episodes with snapshots. `before` is its size with the "
        "agent and the simulator loaded and no episode; the limit is what it may take. Agents of Atari games see four "
        "frames of 84 x 84; a network for raw frames is large itself.",
        ("before", "peak", "ratio", "limit"), _memory, "benchmarks.speed.memory", 1,
    ),
    "startup": Section(
        "Start-up",
        "Seconds from a command to its end, beside a Python that does nothing, which is the limit.",
        ("bare Python", "ours", "ratio", "limit"), _startup, "benchmarks.speed.startup", 7,
    ),
}  # fmt: skip
