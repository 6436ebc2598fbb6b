"""The parts: cases one after the other, and the rows that come of them."""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults import kills
from benchmarks.faults.jobs import KINDS, Job, difference, finish, kill, litter, results, start, undisturbed
from benchmarks.faults.log import Case, Log, Row, shown


class Part(NamedTuple):
    """What is tried, and how often."""

    name: str
    usual: int
    """How many, if nothing else is asked for."""
    run: Callable[[Log, Path, int, int], Iterator[None]]
    """(log, folder, how many, seed): goes on with what the log has; a step for each case."""
    rows: Callable[[list[Case]], Iterator[Row]]


def _kills(log: Log, folder: Path, count: int, seed: int) -> Iterator[None]:
    while True:
        cases = log.cases("kills")
        done = {kind: sum(len(c["kills"]) for c in cases if c["kind"] == kind) for kind in KINDS}
        kind = min(KINDS, key=lambda k: done[k])
        share = count // len(KINDS) + (kind == KINDS[0]) * (count % len(KINDS))
        if done[kind] >= share:
            return
        rng = random.Random(f"{seed} kills {len(cases)}")
        log.add("kills", kills.one(undisturbed(folder, kind), folder, rng, share - done[kind]))
        yield


def _starts(log: Log, folder: Path, count: int, seed: int) -> Iterator[None]:
    if sum(case["tried"] for case in log.cases("starts")) >= count:
        return
    job, root = undisturbed(folder, "small"), folder / "started"
    shutil.rmtree(root, ignore_errors=True)
    processes = [start(job.command(root)) for _ in range(count)]
    ends = [(p.communicate()[1], p.returncode) for p in processes]
    did = sum(code == 0 for _, code in ends)
    told = sum(code == 2 and "in use by process" in said for said, code in ends)
    others = [f"exit {code}: {said[-300:]}" for said, code in ends if code not in (0, 2) or (code == 2 and not told)]
    wrong = difference(results(root), job.expected)
    log.add("starts", {"tried": count, "did": did, "told": told, "others": others, "wrong": wrong})
    yield


def _start_rows(cases: list[Case]) -> Iterator[Row]:
    for case in cases:
        fine = case["did"] + case["told"] if not case["wrong"] else 0
        remarks = (
            f"{case['did']} did it or found it done, {case['told']} were told which process works there; "
            f"results as undisturbed: {'no' if case['wrong'] else 'yes'}{''.join('; ' + o for o in case['others'])}"
        )
        yield Row("simultaneous starts on a new folder", case["tried"], fine, remarks)


def _disks(log: Log, folder: Path, count: int, seed: int) -> Iterator[None]:
    """A disk that is full at some moment, then has room: a tmpfs of a given size (needs to be root)."""
    job, place = undisturbed(folder, "small"), folder / "disk"
    # A disk gives whole blocks to every file.
    needed = sum(-(-p.stat().st_size // 4096) * 4096 for p in job.root.rglob("*") if p.is_file())
    for i in range(len(log.cases("disks")), count):
        size = max(4096 * 8, int(needed * (i + 1) / (count + 1)))
        place.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return
        try:
            code, said = finish(job.command(place / "run"))
            told = code == 2 and "No space left" in said
            subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)
            again, then = finish(job.command(place / "run"))
            wrong = difference(results(place / "run"), job.expected) + litter(place / "run")
        finally:
            subprocess.run(["umount", str(place)], check=False)
        case = {"size": size, "needed": needed, "exit": code, "told": told, "again": again, "wrong": wrong}
        log.add("disks", case | {"said": "" if told else said[-1500:], "then": then[-1500:] if again else ""})
        yield


def _disk_rows(cases: list[Case]) -> Iterator[Row]:
    if not cases:
        yield Row("full disk, then room", 0, 0, "no disk of a given size can be made here (needs to be root)")
        return
    held = [case for case in cases if (case["told"] or not case["exit"]) and not case["again"] and not case["wrong"]]
    ends = Counter("told" if c["told"] else "had room" if not c["exit"] else f"exit {c['exit']}" for c in cases)
    sizes = [case["size"] / 1024 for case in cases]
    yield Row(
        "full disk, then room", len(cases), len(held),
        f"a tmpfs of {min(sizes):.0f} to {max(sizes):.0f} KiB, where {cases[0]['needed'] / 1024:.0f} are needed: "
        f"{shown(ends)}; then the same command with room",
    )  # fmt: skip


def _damages(log: Log, folder: Path, count: int, seed: int) -> Iterator[None]:
    """A random file of a run is deleted, cut, emptied, flipped or replaced; then the command again. Of a finished small
    run, and of a race that was killed on its way, in turn."""
    for i in range(len(log.cases("damages")), count):
        kind = ("small", "race")[i % 2]
        job, root, rng = undisturbed(folder, kind), folder / "damaged", random.Random(f"{seed} damages {i}")
        whole = job.root if kind == "small" else _half_way(job, folder)
        files = sorted(str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file() and p.name != ".lock")
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(whole, root)
        name, how = rng.choice(files), rng.choice(sorted(HOW))
        HOW[how](root / name, rng)
        code, said = finish(job.command(root))
        wrong = difference(results(root), job.expected, more=True)
        if not code:
            end = "for ever" if wrong else "repaired"
        elif code == 2 and Path(name).name in said:
            # What is told must be a way out: an edited or damaged file of the user's is deleted and made again.
            _delete(root / name)
            code, said = finish(job.command(root))
            wrong = difference(results(root), job.expected, more=True)
            end = "for ever" if code or wrong else "told, and repaired once the file was deleted"
        else:
            end = "for ever"
        case = {"kind": kind, "file": name, "how": how, "end": end, "wrong": wrong[:20]}
        log.add("damages", case | {"exit": code, "said": said[-1500:] if end == "for ever" else ""})
        yield


def _half_way(job: Job, folder: Path) -> Path:
    """The folder of a race that was killed when its first contest was over."""
    root = folder / f"{job.kind}-half"
    if not root.exists():
        begun = folder / f"{job.kind}-begun"
        shutil.rmtree(begun, ignore_errors=True)
        process = start(job.command(begun))
        while process.poll() is None and len(list(begun.glob("race/*/*/*/*/cell.json"))) < 3:
            time.sleep(0.05)
        kill(process, whole=True)
        begun.rename(root)
    return root


def _damage_rows(cases: list[Case]) -> Iterator[Row]:
    ends = Counter(
        case["end"] if case["end"] != "for ever" else f"{case['file']} {case['how']}: exit {case['exit']}, stays wrong"
        for case in cases
    )
    held = sum(case["end"] != "for ever" for case in cases)
    files = len({(case["kind"], case["file"]) for case in cases})
    yield Row(
        "damaged files", len(cases), held, f"{files} files of a finished run and of a race on its way: {shown(ends)}"
    )


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[rng.randrange(len(content))] ^= 1 + rng.randrange(255)
    path.write_bytes(bytes(content))


def _folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


HOW: dict[str, Callable[[Path, random.Random], object]] = {
    "deleted": lambda path, rng: path.unlink(),
    "cut": lambda path, rng: path.write_bytes(path.read_bytes()[: rng.randrange(1 + path.stat().st_size)]),
    "emptied": lambda path, rng: path.write_bytes(b""),
    "one byte changed": _flip,
    "with its folder deleted": lambda path, rng: (
        shutil.rmtree(path.parent) if path.parent.name != "damaged" else path.unlink()
    ),
    "replaced by noise": lambda path, rng: path.write_bytes(rng.randbytes(1000)),
    "a folder in its place": _folder,
}


def _environments(log: Log, folder: Path, count: int, seed: int) -> Iterator[None]:
    """The cases of tests/test_faulty_environments.py."""
    if log.cases("environments"):
        return
    words = ["-m", "pytest", "-o", "addopts=", "tests/test_faulty_environments.py", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env={**os.environ})
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed)", done.stdout)}
    log.add("environments", {"passed": counts.get("passed", 0), "failed": counts.get("failed", 0)})
    yield


def _environment_rows(cases: list[Case]) -> Iterator[Row]:
    for case in cases:
        remarks = "each told with environment, seed, episode and step; one in order is let be"
        yield Row("misbehaving environments", case["passed"] + case["failed"], case["passed"], remarks)


CHUNK = 2_000


def _fuzz(log: Log, folder: Path, count: int, seed: int) -> Iterator[None]:
    """Honest files, mutated, and what reads them: see tests/fuzzing.py and tests/fuzz_readers.py."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    warnings.simplefilter("ignore")
    from fuzz_readers import readers
    from fuzzing import fuzz

    done = sum(case["cases"] for case in log.cases("fuzz"))
    with tempfile.TemporaryDirectory() as place:
        kinds = readers(Path(place))
        logging.disable(logging.WARNING)
        for begin in range(done, count, CHUNK):
            cases, cpu = min(CHUNK, count - begin), time.process_time()
            found = [f"{f.reader}, case {f.number}: {f.what}" for f in fuzz(kinds, cases, seed, begin)]
            spent = round(time.process_time() - cpu, 1)
            log.add("fuzz", {"cases": cases, "kinds": len(kinds), "seconds": spent, "faults": found})
            yield


def _fuzz_rows(cases: list[Case]) -> Iterator[Row]:
    count, faults = sum(c["cases"] for c in cases), [f for c in cases for f in c["faults"]]
    remarks = (
        f"of {cases[-1]['kinds']} kinds, from honest ones: read, or refused with an error that says why; "
        f"{sum(c['seconds'] for c in cases) / 60:.0f} minutes of processor time"
    )
    if kinds := Counter(fault.partition(",")[0] for fault in faults):
        remarks += f"; else: {shown(kinds)}"
    yield Row("mutated files and replies", count, count - len(faults), remarks)


PARTS = {
    part.name: part
    for part in (
        Part("kills", 100, _kills, kills.rows),
        Part("starts", 20, _starts, _start_rows),
        Part("disks", 10, _disks, _disk_rows),
        Part("damages", 40, _damages, _damage_rows),
        Part("environments", 60, _environments, _environment_rows),
        Part("fuzz", 100_000, _fuzz, _fuzz_rows),
    )
}
