"""What went over the wire, to the letter: the request (without keys) and the body of the response, as it came.

`raw/CALL.json` is written before a call is sent, and again by the courier when its response is complete;
`raw/CALL.body` holds the bytes, written as they come, before anything looks at them. So a reply outlives a client
library that refuses it, and a program that is killed while it waits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unstuck.errors import LLMError


class RawStore:
    """The exchanges of one folder of recordings, by call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "raw"

    def begin(self, call: str, url: str, body: bytes) -> None:
        """Keep what is about to be sent.

        Raises:
            LLMError: if it cannot be written; nothing has been sent then.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(call, {"url": url, "request": _text_or_json(body)})
        except OSError as error:
            raise LLMError(f"cannot write {self.folder}: {error.strerror or error}. Make it writable.") from error

    @contextmanager
    def locked(self, call: str) -> Iterator[tuple[int, ...]]:
        """The descriptor of a file that is locked for as long as any process has it open; () where there are no such
        locks (Windows)."""
        try:
            import fcntl
        except ImportError:
            yield ()
            return
        with (self.folder / f"{call}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield (file.fileno(),)

    def under_way(self, call: str) -> bool:
        """Whether a process is at work on it: it holds the lock."""
        try:
            import fcntl

            with (self.folder / f"{call}.lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except (ImportError, OSError):
            return False
        return False

    def meta(self, call: str) -> dict[str, Any] | None:
        """url, request, and where a response came status, headers and whether it is complete; else `failed`."""
        try:
            value = json.loads((self.folder / f"{call}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def body(self, call: str) -> bytes | None:
        """What came of the response; None where nothing did."""
        try:
            return (self.folder / f"{call}.body").read_bytes() or None
        except OSError:
            return None

    def _write(self, call: str, data: dict[str, Any]) -> None:
        path = self.folder / f"{call}.json"
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=1, ensure_ascii=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)


def _text_or_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
