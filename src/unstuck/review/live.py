"""What happens in the run folder just now: stages, the ladder of a race, and who works on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unstuck.curves import last_point
from unstuck.errors import RunError
from unstuck.files import in_use
from unstuck.results import LADDER, Ladder, Rank, StageKey
from unstuck.run import Run
from unstuck.stages.report import words
from unstuck.stages.report.panel import rank_row

STAGES = ("collect", "explain", "verify", "train", "evaluate")
_WRONG = (RecursionError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
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
            ladder = Ladder.read(path)
            yield {
                "seed": path.parent.name,
                "title": ladder.title or "the winner is trained",
                "spent": f"{ladder.spent.total:,}",
                "budget": f"{ladder.budget:,}",
                "usd": words.money(ladder.usd) if ladder.usd else "",
                "rows": [_row(rank) for rank in ladder.ranks],
            }


def _row(rank: Rank) -> dict[str, Any]:
    """As in the report, where a race has ended; here it may go on."""
    under_way = {"word": "racing" if rank.trained else "waiting"} if rank.status == "racing" else {}
    return rank_row(rank, "") | under_way


def _under_way(root: Path) -> Iterator[dict[str, Any]]:
    """The last point of each learning curve that is still being written."""
    for folder in sorted(root.glob("train/*/*.draft")):
        with contextlib.suppress(*_WRONG):
            point = last_point(folder)
            if point is None:
                continue
            yield {
                "name": f"{words.arm_name(folder.parent.name)}, seed {folder.name.removesuffix('.draft')}",
                "trained": f"{int(point.trained):,}",
                "level": "" if point.return_mean is None else words.number(float(point.return_mean)),
            }
