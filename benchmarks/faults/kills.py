"""kill -9 at random moments, then the same command again, until it ends by itself."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults.jobs import Job, difference, kill, litter, moment, results, start
from benchmarks.faults.log import Case, Row, shown

MOST_KILLS = 12
"""Of one run: then it may end."""
LATEST = 0.8
"""Share of the undisturbed run's time within which a kill comes."""
ALONE = 2 / 3
"""Share of kills that end the command's own process alone: its workers have to notice."""


def one(job: Job, folder: Path, rng: random.Random, wanted: int) -> Case:
    """One run to its end through random kills, `wanted` of them at the most."""
    root, killed = folder / f"{job.kind}-killed", []
    shutil.rmtree(root, ignore_errors=True)
    while True:
        process, more = start(job.command(root)), len(killed) < min(wanted, MOST_KILLS)
        after = rng.uniform(0.3, LATEST * job.seconds)
        try:
            said = process.communicate(timeout=after if more else 900)[1]
        except subprocess.TimeoutExpired:
            whole = rng.random() >= ALONE
            kill(process, whole=whole)
            killed.append({"after": round(after, 2), "whole": whole, "in": moment(root) if more else "for ever"})
            if more:
                continue
            said = "no end within 900 s"
        break
    wrong = difference(results(root), job.expected)
    if process.returncode or wrong:
        # Kept for whoever looks for the cause.
        shutil.copytree(root, folder / f"{job.kind}-wrong-{int(time.time())}", symlinks=True)
    return {
        "kind": job.kind, "kills": killed, "wrong": wrong[:20], "left": litter(root),
        "exit": process.returncode, "said": said[-2000:] if process.returncode else "",
    }  # fmt: skip


def rows(cases: list[Case]) -> Iterator[Row]:
    """A row for each kind of run."""
    for kind in sorted({case["kind"] for case in cases}, reverse=True):
        mine = [case for case in cases if case["kind"] == kind]
        bad = [case for case in mine if case["exit"] or case["wrong"] or case["left"]]
        places: Counter[str] = Counter(k["in"] for case in mine for k in case["kills"])
        kills = sum(places.values())
        whole = sum(k["whole"] for case in mine for k in case["kills"])
        remarks = (
            f"{len(mine)} runs to their end, {len(bad)} other than undisturbed; killed in {shown(places)}; "
            f"{kills - whole} times the process alone, {whole} with its workers"
        )
        yield Row(f"kill -9, {kind}", kills, kills - sum(len(case["kills"]) for case in bad), remarks + _told(bad))


def _told(bad: list[dict[str, Any]]) -> str:
    return "".join(f"; {case['said'][-160:] or case['wrong'] or case['left']}" for case in bad)
