"""What was tried so far, a line for each case, so that a campaign goes on where it was stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

Case = dict[str, Any]


class Row(NamedTuple):
    """One line of the table."""

    what: str
    tried: int
    held: int
    remarks: str


class Log:
    """The cases of all parts, in a file of JSON lines."""

    def __init__(self, path: Path):
        self.path = path

    def cases(self, part: str) -> list[Case]:
        """Those of a part, in the order in which they ended."""
        if not self.path.exists():
            return []
        lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["part"] == part]

    def add(self, part: str, case: Case) -> None:
        """Enter a case that has ended."""
        line = json.dumps({"part": part, "date": date.today().isoformat(), **case}, ensure_ascii=False)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def forget(self, parts: Sequence[str]) -> None:
        """Drop the cases of some parts."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in lines if json.loads(line)["part"] not in parts]
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def shown(counts: Counter[str]) -> str:
    """The counts in words, the most frequent first."""
    return ", ".join(f"{what} {n}" for what, n in counts.most_common())
