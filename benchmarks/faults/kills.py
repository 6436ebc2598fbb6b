"""kill -9 at random moments of random stages, then the same command again, until it ends by itself."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.faults.jobs import STAGES, Job, difference, kill, litter, moment, results, start
from benchmarks.faults.log import Case, Row, shown

MOST_KILLS = 12
"""Of one run: then it may end."""
OPEN_LONG = 3.0
"""Seconds at the beginning of a command, and of its report, within which a kill comes there."""
LIMIT = 900.0
ORDER = ("opening", "collect", "explain", "verify", "train", "second round", "evaluate", "report")
ALONE = 2 / 3
"""Share of kills that end the command's own process alone: its workers have to notice."""


def one(job: Job, folder: Path, rng: random.Random, wanted: int) -> Case:
    """One run to its end through random kills, `wanted` of them at the most. All stages are aimed at alike, however
    short they are; a stage that was killed is begun again, so the same one can be hit several times."""
    root, killed = folder / f"{job.kind}-killed", []
    shutil.rmtree(root, ignore_errors=True)
    long = _long(job)
    aims = sorted(rng.choices(list(long), k=min(wanted, MOST_KILLS)), key=list(long).index)
    while True:
        process, more = start(job.command(root)), len(killed) < len(aims)
        after, said = LIMIT, ""
        if more:
            _reach(process, root, aims[len(killed)])
            after = rng.uniform(0.0, long[aims[len(killed)]])
        try:
            said = process.communicate(timeout=after)[1]
        except subprocess.TimeoutExpired:
            whole = rng.random() >= ALONE
            kill(process, whole=whole)
            killed.append({"after": round(after, 2), "whole": whole, "in": moment(root) if more else "for ever"})
            if more:
                continue
            said = f"no end within {LIMIT:.0f} s"
        break
    wrong = difference(results(root), job.expected)
    if process.returncode or wrong:
        # Kept for whoever looks for the cause.
        shutil.copytree(root, folder / f"{job.kind}-wrong-{int(time.time())}", symlinks=True)
    return {
        "kind": job.kind, "kills": killed, "wrong": wrong[:20], "left": litter(root),
        "exit": process.returncode, "said": said[-2000:] if process.returncode else "",
    }  # fmt: skip


def _long(job: Job) -> dict[str, float]:
    """The parts of a run in their order, with about the seconds that each takes."""
    stages = json.loads((job.root / "manifest.json").read_bytes())["stages"]
    ends = {name: datetime.fromisoformat(entry["finished"]) for name, entry in stages.items()}
    found = {"opening": OPEN_LONG}
    for name in STAGES:
        found[name] = max(0.05, *(entry["seconds"] for n, entry in stages.items() if n.partition("/")[0] == name))
    found["train"] = max(found["train"], 0.9 * (ends["evaluate"] - ends["verify"]).total_seconds())
    later = [json.loads(path.read_bytes())["stages"] for path in job.root.glob("rounds/*/*/2/manifest.json")]
    if later:
        # It is a part of training, and comes after the rest of it.
        found["second round"] = max(sum(entry["seconds"] for entry in held.values()) for held in later)
    order = {name: i for i, name in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda part: order[part[0]])) | {"report": OPEN_LONG}


def _reach(process: subprocess.Popen[str], root: Path, aim: str) -> None:
    """Wait until a run is in some part, or past it, or at its end."""
    given_up = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < given_up:
        with contextlib.suppress(OSError):  # folders that went away while they were looked at
            place = moment(root)
            if ORDER.index("train" if place == "race" else place) >= ORDER.index(aim):
                return
        time.sleep(0.005)


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
