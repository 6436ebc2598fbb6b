"""Start-up: seconds from a command to its end, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
from benchmarks.speed.rows import Row, side_by_side

CASES = {"--help": 0.5, "describe CartPole-v1": 3.0, "describe Hopper-v5": 3.0}
"""Command → seconds that it may take."""


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """Seconds of each command, beside Python's own start."""
    commands = list(CASES)[: 1 if quick else None]
    arms = {
        c: lambda c=c: _seconds("import sys; from unstuck.cli import main; main(sys.argv[1:])", c) for c in commands
    }
    found = side_by_side({"python": lambda: _seconds("pass", ""), **arms}, repeats)
    bare = float(np.median(found["python"]))
    return [
        {
            "what": f"unstuck {command}", "unit": "s", "baseline": bare, "ours": float(np.median(found[command])),
            "ratio": float(np.median(found[command])) / bare,
            "spread": [min(found[command]) / bare, max(found[command]) / bare], "limit": bare,
            "target": CASES[command], "note": "",
        }
        for command in commands
    ]  # fmt: skip


def _seconds(code: str, words: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *words.split()], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun
