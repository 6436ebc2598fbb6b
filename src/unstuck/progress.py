"""Progress bars on a terminal, plain lines elsewhere, nothing when used as a library and not asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Bar(Protocol):
    def advance(self, n: float = 1) -> None: ...

    def note(self, text: str) -> None: ...


class _Silent:
    def advance(self, n: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Rich:
    def __init__(self, bars, task_id):
        self._bars, self._id = bars, task_id

    def advance(self, n: float = 1) -> None:
        self._bars.advance(self._id, n)

    def note(self, text: str) -> None:
        self._bars.update(self._id, note=text)


class Progress:
    """Where stages say how far they are."""

    def __init__(self, console=None):
        self._console = console

    @classmethod
    def silent(cls) -> Progress:
        return cls(None)

    @contextlib.contextmanager
    def task(self, name: str, total: float | None) -> Iterator[Bar]:
        """A bar of `total` units for the length of the block; None where the total is not known."""
        if self._console is None:
            yield _Silent()
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        with RichProgress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        ) as bars:
            yield _Rich(bars, bars.add_task(name, total=total, note=""))

    def say(self, text: str) -> None:
        """One line for the user."""
        if self._console is not None:
            self._console.print(text, highlight=False)
