"""Measure all sections, or some, and write docs/speed.json, docs/speed.md and the plot.

python -m benchmarks.speed                       # everything
python -m benchmarks.speed --only guidance       # one section, the others as they were
python -m benchmarks.speed --quick --out /tmp/x  # a look whether it runs; its numbers mean nothing
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.page import PLOT, page
from benchmarks.speed.sections import SECTIONS

DOCS = Path(__file__).parents[2] / "docs"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--repeats", type=int, help="of each section; by default its own number")
    parser.add_argument("--quick", action="store_true", help="one repeat of little, to see that it runs")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the page")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    stored = args.out / "speed.json"
    data: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for name in args.only:
        measured = _measured(name, args)
        if measured is not None:
            data[name] = measured
        # After each section: what an interrupted run has measured is kept.
        stored.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        (args.out / "speed.md").write_text(page(data), encoding="utf-8")
    if "guidance" in data:
        from benchmarks.speed import guiding

        guiding.plot(data["guidance"]["rows"], args.out / PLOT)
    print(f"{args.out / 'speed.md'}")


def _measured(name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    from benchmarks.speed import machine

    section, begun = SECTIONS[name], time.perf_counter()
    print(f"{section.title} ...", flush=True)
    rows = section.measure(args.repeats, args.quick)
    if rows is None:
        print("  is not there", flush=True)
        return None
    for row in rows:
        low, high = row.get("spread") or (row["ratio"], row["ratio"])
        print(f"  {row['what']}: {row['baseline']:.4g} -> {row['ours']:.4g} {row['unit']}, "
              f"ratio {row['ratio']:.3g} [{low:.3g}, {high:.3g}]", flush=True)  # fmt: skip
    seconds = time.perf_counter() - begun
    only = "" if set(args.only) == set(SECTIONS) else f" --only {' '.join(args.only)}"
    more = (" --quick" if args.quick else "") + (f" --repeats {args.repeats}" if args.repeats else "")
    return {
        "rows": rows, "repeats": args.repeats or (1 if args.quick else section.repeats), "quick": args.quick,
        "command": "python -m benchmarks.speed" + only + more, "machine": machine.facts(), "seconds": seconds,
    }  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
