"""Do all of it, or some parts, and write docs/faults.md. What was stopped goes on where it stood.

python -m benchmarks.faults                                  # an hour or so on two cores
python -m benchmarks.faults --only kills --count 20
python -m benchmarks.faults --page                           # only the page, from what was done
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.faults.log import Log, Row
from benchmarks.faults.parts import PARTS

ROOT = Path(__file__).parents[2]
PAGE = """# Faults on purpose

What `make faults` did to runs, and what came of it. The runs are small ones on toy tasks: one with two arms, two
seeds and two rounds, a race, and for starts, disks and damages one with one seed. *Held* means that the folder ended as
that of a run which nothing disturbed, in every file (weights, scores, advice, guidance, curves, verdict, ladder) but
for times of day; or that the fault was told with a way out, which was then tried and led there. Kills come at random
moments of a whole run, or of stages drawn at random, however short they are. Each case was tried on the code of its
day. A part that is missing has not been run. The cases, one a line, are in [faults.jsonl](faults.jsonl).

Of mutated files *held* are those that were read or refused cleanly the first time. Each of the others was mended and
then tried again: none is left.

| what | tried | held | remarks | date |
|---|---:|---:|---|---|
"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--count", type=int, help="of each part; kills are shared by the two kinds of run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--anew", action="store_true", help="forget what was done of these parts before")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "faults", help="where the runs are")
    args = parser.parse_args(argv)
    log = Log(args.out / "faults.jsonl")
    if args.anew:
        log.forget(args.only)
    os.environ["UNSTUCK_STATE_DIR"] = str(args.folder.resolve() / "state")  # not the user's own
    for name in [] if args.page else args.only:
        part = PARTS[name]
        for _ in part.run(log, args.folder.resolve(), args.count or part.usual, args.seed):
            for row in part.rows(log.cases(name)):
                print(f"{row.what}: {row.held} of {row.tried}; {row.remarks}", flush=True)
            write_page(log, args.out / "faults.md")
    write_page(log, args.out / "faults.md")


def write_page(log: Log, path: Path) -> None:
    """The table of everything in the log."""
    lines = []
    for part in PARTS.values():
        if cases := log.cases(part.name):
            lines += [_line(row, cases[-1]["date"]) for row in part.rows(cases)]
    path.write_text(PAGE + "".join(lines), encoding="utf-8")


def _line(row: Row, day: str) -> str:
    remarks = " ".join(row.remarks.split()).replace("|", "\\|")
    return f"| {row.what} | {row.tried} | {row.held} | {remarks} | {day} |\n"


if __name__ == "__main__":
    main()
