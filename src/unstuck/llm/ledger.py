"""The ledger: every call that was sent, whatever became of it, over restarts and over processes.

`ledger.jsonl` in the folder of recordings is only ever appended to, under a lock: a line before a call is sent, with
the most that it may take, and one when it is known what it took. A call of which only the first line is there is out,
or was interrupted: it may be billed, so it counts with the most. The caps are checked under the same lock in which the
first line is written, so that two processes cannot both take the last call.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from unstuck.errors import LLMError

State = Literal["out", "replied", "refused", "lost"]
"""out: no end is known (under way, or interrupted). replied: answered. refused: the service turned it down unread, so
it costs nothing. lost: no answer came (a timeout, a broken connection); it may be billed all the same."""
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}", re.ASCII)
LOCK_S = 60.0
"""Longest wait for the lock; it is held for milliseconds."""


@dataclass(frozen=True)
class Call:
    """One call, as the ledger has it."""

    id: str
    key: str
    """Of the conversation that was sent."""
    model: str
    source: str
    """The model string, with the address of its server where one is configured."""
    sent: str
    """ISO 8601."""
    tokens: int
    """In and out: what it took, or may take at most."""
    cost_usd: float | None
    state: State = "out"
    note: str = ""


class Ledger:
    """The calls of one folder of recordings.

    Raises:
        LLMError: from each method, if the folder cannot be written, or another process holds the lock for a minute.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"

    def calls(self) -> list[Call]:
        """All of them, in the order in which they were sent."""
        found: dict[str, Call] = {}
        for line in self._lines():
            name = str(line.get("call", ""))
            if not _NAME.fullmatch(name):
                continue  # it is a part of paths
            try:
                tokens, cost = _tokens(line["tokens"]), _money(line["cost_usd"])
                if line.get("event") == "sent":
                    found[name] = Call(
                        name, str(line["key"]), str(line["model"]), str(line.get("source") or line["model"]),
                        str(line["at"]), tokens, cost,
                    )  # fmt: skip
                elif name in found and line.get("event") in get_args(State):
                    found[name] = replace(
                        found[name], state=line["event"], tokens=tokens, cost_usd=cost, note=str(line.get("note", "")),
                    )  # fmt: skip
            except (KeyError, TypeError, ValueError, OverflowError):
                continue  # a line of a newer version
        return list(found.values())

    def begin(self, key: str, model: str, source: str, worst: Callable[[list[Call]], tuple[int, float | None]]) -> Call:
        """Enter a call that is about to be sent.

        Args:
            worst: from the calls so far to the tokens and dollars that it may take; raises where that passes a cap.
        """
        with self._locked():
            tokens, cost = worst(self.calls())
            call = Call(uuid.uuid4().hex[:12], key, model, source, _now(), tokens, cost)
            self._append({
                "call": call.id, "event": "sent", "at": call.sent, "key": key, "model": model, "source": source,
                "tokens": tokens, "cost_usd": cost, "pid": os.getpid(),
            })  # fmt: skip
        return call

    def end(self, call: Call, state: State, tokens: int, cost_usd: float | None, note: str = "") -> None:
        """Enter what became of a call; said again, the last word counts."""
        with self._locked():
            self._append({
                "call": call.id, "event": state, "at": _now(), "tokens": tokens, "cost_usd": cost_usd, "note": note
            })  # fmt: skip

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock"), timeout=LOCK_S):
                yield
        except Timeout as error:
            raise LLMError(f"another process has held {self.path} for a minute; end it, and run again") from error
        except OSError as error:
            raise LLMError(f"cannot write {self.path}: {error.strerror or error}. Make the folder writable.") from error

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=True) + "\n"
        with self.path.open("ab+") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    text = "\n" + text  # the line before was cut by a kill
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise LLMError(f"cannot read {self.path}: {error.strerror or error}") from error
        for line in content.split(b"\n"):
            try:
                value = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                continue  # cut by a kill while it was written: what it would have said had not begun
            if isinstance(value, dict):
                yield value


def _tokens(value: Any) -> int:
    tokens = int(value)
    if tokens < 0:
        raise ValueError("fewer than no tokens")
    return tokens


def _money(value: Any) -> float | None:
    """Less than nothing, or no number, would lift the caps of whoever goes on with the folder."""
    cost = None if value is None else float(value)
    if cost is not None and not 0 <= cost < float("inf"):
        raise ValueError("no cost")
    return cost


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
