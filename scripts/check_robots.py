"""Compare whole episodes of Gymnasium's MuJoCo tasks, stepped together and each by itself; write docs/robots.md.

python scripts/check_robots.py

Exits with 1 if a task differs. A test compares shorter episodes each time (tests/test_robots.py).
"""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from pathlib import Path

from unstuck.robots.proof import differs
from unstuck.tasks import make_env

PAGE = Path(__file__).parents[1] / "docs" / "robots.md"
STEPS = 1100
"""Of each of two environments: more than an episode where nothing ends it earlier."""
NAMES = (
    "Hopper", "Walker2d", "HalfCheetah", "Swimmer", "Reacher", "Pusher", "InvertedPendulum", "InvertedDoublePendulum",
    "Ant", "Humanoid", "HumanoidStandup",
)  # fmt: skip
TASKS = (
    *(f"{name}-{version}" for name in NAMES for version in ("v5", "v4") if (name, version) != ("Pusher", "v4")),
    "SparseHopper-v5", "SparseWalker2d-v5", "SparseHalfCheetah-v5",
)  # fmt: skip
HEAD = """\
# MuJoCo's environments, stepped together

Written by `python scripts/check_robots.py`; do not edit. Measured with {versions}.

`MujocoEnv.step` spends part of its time in Python: reading the state, computing a reward, filling `info`, and the same
in wrappers. `unstuck.robots` steps the simulators of many environments, on one or several threads, and computes the
rest for all of them in numpy. The environments stay Gymnasium's own: they are made, reset (with their own random
numbers), saved and restored as ever, and one can be stepped by itself in between.

Results are equal **bit by bit**: observations, rewards, ends of episodes and their infos. So nothing that was recorded
with Gymnasium changes. It is used

- in training (`--train.backend auto`), where EnvPool is not installed, not proved equal ([envpool.md](envpool.md)) or
  does not know the arguments of the task; `--train.backend mujoco` insists on it;
- for collecting, evaluating and the branches of verification, always.

Where EnvPool's task is proved equal it is preferred in training: it is about as fast or faster, and agents that were
trained with it keep their trajectories (its random numbers are others than Gymnasium's).

## When it is used

- The task's class is one of those below, or extends one of them and defines none of the methods that a step calls. A
  subclass may have another model, other arguments, resets of its own; one with a reward or a `step` of its own is
  stepped by itself.
- No wrapper has a `step` of its own, but those that `gymnasium.make` adds.
- Settings of the task (weights, ranges) are numbers. An environment whose settings or simulator are changed later, so
  that they are no longer those of the others, is stepped by itself from then on.
- 40 steps of two environments are compared with their own `step`, bit by bit, once in each process and for each
  make of environments (some hundredths of a second). So another version of Gymnasium with another formula is found out.

## Whole episodes

Two environments of each task, {steps:,} random steps each, from half to one and a half times as large as the bounds,
over ends of episodes: observations, rewards, ends, cuts, infos and resets compared at each step.

| task | episodes that ended | bits |
|---|---:|---|
"""


def main() -> None:
    warnings.simplefilter("ignore")
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("gymnasium", "mujoco", "numpy"))
    lines, wrong = [], 0
    for env_id in TASKS:
        ends: list[None] = []
        what = differs(lambda env_id=env_id: make_env(env_id), STEPS, ended=lambda ends=ends: ends.append(None))  # type: ignore[misc]
        lines.append(f"| {env_id} | {len(ends)} | {'equal' if what is None else f'**differ**: {what}'} |")
        print(lines[-1], flush=True)
        wrong += what is not None
    PAGE.write_text(HEAD.format(versions=versions, steps=STEPS) + "\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
