"""What happens in the run folder just now: stages, the ladder of a race, and who works on it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unstuck.errors import RunError
from unstuck.files import in_use
from unstuck.results import Rank, StageKey
from unstuck.run import Run, read_json
from unstuck.stages.report import words
from unstuck.stages.report.panel import rank_row

STAGES = ("collect", "explain", "verify", "train", "evaluate")
LADDER = "ladder.json"
MOST_LINES = 4_000
"""Bytes from the end of a learning curve that are read."""
_WRONG = (ValidationError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What files of another form raise: then the page does without them."""


def live(run: Run) -> dict[str, Any]:
    """Values of the template: `busy` (who works on the folder, or ''), `stages` (name → done), `ladders`, `under_way`
    (training runs that are not done)."""
    done = {StageKey.parse(name).stage for name in run.manifest.stages}
    return {
        "busy": in_use(run.root),
        "stages": {stage: stage in done for stage in STAGES},
        "ladders": list(_ladders(run.root)),
        "under_way": list(_under_way(run.root)),
    }


def _ladders(root: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(root.glob(f"race/*/*/{LADDER}")):
        with contextlib.suppress(RunError, *_WRONG):
            data = read_json(path)
            spent = sum(int(steps) for steps in data["spent"].values())
            yield {
                "seed": path.parent.name,
                "title": str(data.get("title") or "the winner is trained"),
                "spent": f"{spent:,}",
                "budget": f"{int(data['budget']):,}",
                "usd": words.money(data.get("usd")) if data.get("usd") else "",
                "rows": [rank_row(Rank.model_validate(rank), "") for rank in data["ranks"]],
            }


def _under_way(root: Path) -> Iterator[dict[str, Any]]:
    """The last point of each learning curve that is still being written."""
    for path in sorted(root.glob("train/*/*.draft/curve.jsonl")):
        with contextlib.suppress(OSError, IndexError, RecursionError, *_WRONG):
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - MOST_LINES))
                last = json.loads(file.read().splitlines()[-1])
            found = last.get("return_mean")
            yield {
                "name": f"{words.arm_name(path.parent.parent.name)}, seed {path.parent.name.removesuffix('.draft')}",
                "trained": f"{int(last['trained']):,}",
                "level": "" if found is None else words.number(float(found)),
            }
