"""Every file that is opened, module that is imported, process and connection, watched; and a hostile text."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>'\"><a href=javascript:alert(1)>a</a>"
    "\x1b]0;x\x07$x_{\\g<0>\\1{{7*7}}{%x%}http://evil.example/x.png ![x](http://evil.example/y.png)"
)
_SEEN: list[tuple[str, str, str]] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _SEEN is None:
        return
    if event == "open" and isinstance(args[0], (str, bytes)):
        _SEEN.append((event, os.fsdecode(args[0]), str(args[1] or "")))
    elif event in ("import", "subprocess.Popen", "os.system", "os.exec", "socket.connect", "socket.getaddrinfo"):
        _SEEN.append((event, str(args[0]), str(args[1]) if len(args) > 1 else ""))


sys.addaudithook(_watch)


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[str, str, str]]]:
    global _SEEN
    _SEEN = seen = []
    try:
        yield seen
    finally:
        _SEEN = None


def harmless(seen: list[tuple[str, str, str]], root: Path, outside: Path) -> None:
    """Nothing planted was opened or imported, nothing written beside the run folder, nobody called."""
    for event, what, more in seen:
        assert event in ("open", "import"), (event, what, more)
        assert str(outside) not in what, (event, what)
        assert "evil" not in what.partition(str(root))[0], (event, what)
        if event == "open" and set(more) & set("wax+"):
            assert what.startswith((str(root), "/dev/")), f"{what} was opened to be written ({more})"
