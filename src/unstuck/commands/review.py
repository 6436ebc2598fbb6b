"""`unstuck review`: a person goes through the advice of a run before it trains."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from unstuck.commands.arguments import OfRun, parse


@dataclass
class ReviewArgs(OfRun):
    """Go through the advice of a run before it trains, on a page of this machine: see each critical state, what the
    simulator found and how often it holds; accept, edit, reject, or write your own. What is decided is guidance.json
    (advice.json before `verify`)."""

    port: int = 0
    """Port on 127.0.0.1; 0 takes a free one."""
    browser: bool = True
    """Open it in the browser, where there is a terminal."""
    export: Path | None = None
    """Write the page as one HTML file instead, to read and to send; it needs no network and no server."""


def review(command: str, args: list[str]) -> None:
    """`unstuck review`."""
    from unstuck.review import export, serve

    parsed = parse(ReviewArgs, command, args)
    run = parsed.open()
    if parsed.export is not None:
        print(export(run, parsed.export))
        return

    def ready(address: str) -> None:
        print(f"{address}\nThe address holds a secret: whoever has it can decide. Ctrl-C ends the server.", flush=True)
        if parsed.browser and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(address)

    serve(run, port=parsed.port, ready=ready)
