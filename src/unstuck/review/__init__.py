"""The review: a person goes through the advice before it trains, in a page of this machine or a file to keep.

    board.py      all that the page shows, as plain values
    seen.py       what the collected episodes show of a piece of advice
    film.py       critical states as short films
    plots.py      the variables around them
    decide.py     what a person decides, done to guidance.json
    live.py       what happens in the run folder just now
    page.py       the page and its parts as HTML
    app.py        the server

`docs/review.md` says how it is used, docs/security.md whom it answers.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from unstuck.errors import RunError, UnstuckError
from unstuck.files import write_whole
from unstuck.run import Run

__all__ = ["export", "serve"]

HOST = "127.0.0.1"


def export(run: Run, path: Path) -> Path:
    """Write the page as one HTML file that loads nothing; in it nothing can be decided.

    Raises:
        RunError: it cannot be written.
    """
    from unstuck.review.board import Board, open_task
    from unstuck.review.page import page_to_keep

    text = page_to_keep(Board(open_task(run), live=False))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def serve(run: Run, *, port: int = 0, ready: Callable[[str], None] = print) -> None:
    """Serve the page on this machine until it is interrupted.

    Args:
        port: 0 takes a free one.
        ready: told the address once it can be opened; it holds the secret.

    Raises:
        UnstuckError: the extra `review` is not installed, or the port is taken.
    """
    try:
        import uvicorn

        from unstuck.review.app import make_app
    except ImportError as error:
        raise UnstuckError(
            'the review page needs a small server: pip install "unstuck[review]"; '
            "or write the page to a file with --export FILE.html"
        ) from error
    from unstuck.review.board import open_task

    task = open_task(run)
    with _listening(port) as listener:
        host = f"{HOST}:{listener.getsockname()[1]}"
        secret = secrets.token_urlsafe(24)
        app = make_app(task, host, secret)
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, ws="none", lifespan="off",
            limit_concurrency=32, timeout_keep_alive=5, timeout_graceful_shutdown=1,
        )  # fmt: skip
        ready(f"http://{host}/{secret}/")
        uvicorn.Server(settings).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise UnstuckError(f"cannot listen on {HOST}:{port}: {reason}; choose another --port, or none") from error
    listener.listen(16)
    return listener
