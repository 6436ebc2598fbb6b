"""The server of the review page: one run, one person, this machine only.

- It listens on 127.0.0.1. Every address begins with a secret that is in the address printed at the start; everything
  else is 404. So no other page can read it or make it do something, with or without cookies: there are none.
- The Host of a request must be the very address listened on, so a name that somebody points here does not help.
- What changes something is JSON by POST, from this page's own origin, of bounded size.
- The page may load nothing from elsewhere and be shown in no frame.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unstuck.errors import GuidanceError, RunError, UnstuckError
from unstuck.guidance import Advice, Guidance, Term, strict_json
from unstuck.review import page
from unstuck.review.board import Board, Task
from unstuck.review.decide import Desk, StaleError, parsed, problems, revision, target
from unstuck.run import Run
from unstuck.stages.report import words

MOST_BYTES = 1 << 20
"""Of what is sent to the server."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets through requests of the page's own origin that know the secret, and puts the headers on all answers."""

    def __init__(self, app: ASGIApp, host: str, secret: str):
        self.app, self.host, self.prefix = app, host, f"/{secret}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                held = [(k, v) for k, v in message.get("headers", []) if k != b"server"]
                message["headers"] = held + [(k.encode(), v.encode()) for k, v in HEADERS.items()]
            await send(message)

        if scope["type"] != "http":
            return
        if refused := self._refused(scope):
            await PlainTextResponse(*refused)(scope, receive, answer)
            return
        inner = dict(scope)
        inner["path"] = "/" + scope["path"][len(self.prefix) :]
        inner["raw_path"] = None
        await self.app(inner, receive, answer)

    def _refused(self, scope: Scope) -> tuple[str, int] | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        if headers.get(b"host") != [self.host.encode()]:
            return "This server is asked by its own address only.", 421
        path = scope["path"].encode("utf-8", "surrogateescape")
        wanted = self.prefix.encode()
        if not hmac.compare_digest(path[: len(wanted)], wanted):
            return "Nothing is here. Use the whole address that `unstuck review` printed.", 404
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return "No such method.", 405
        origin = headers.get(b"origin", [])
        if origin and origin != [f"http://{self.host}".encode()]:
            return "Not for other origins.", 403
        site = headers.get(b"sec-fetch-site", [b"none"])[0]
        # The address may be opened from a page, such as a terminal in a browser.
        opened = scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == [b"navigate"]
        if site not in (b"same-origin", b"none") and not opened:
            return "Not for other origins.", 403
        if scope["method"] == "POST" and site == b"none" and not origin:
            return "Not for other origins.", 403
        if scope["method"] == "POST" and headers.get(b"content-type", [b""])[0].split(b";")[0] != b"application/json":
            return "Send JSON.", 415
        return None


Work = Callable[[dict[str, Any]], dict[str, Any]]


class Review:
    """What the addresses do. All of it happens in one thread: a folder is held by a thread, and so is a renderer."""

    def __init__(self, task: Task):
        self.task = task
        self.desk = Desk(task.run, task.card, task.lengths)
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="review")

    def board(self) -> Board:
        return Board(self.task, live=True)

    async def in_turn(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *args)

    # ------------------------------------------------------------------------------------------------- looking

    async def show(self, request: Request) -> Response:
        return HTMLResponse(await self.in_turn(lambda: page.page(self.board())))

    async def live(self, request: Request) -> Response:
        def now() -> dict[str, Any]:
            run = Run(self.task.run.root)
            html = page.live_part(run)
            mark = hashlib.sha256(html.encode()).hexdigest()[:16]
            return {"html": html, "mark": mark, "revision": revision(target(run))}

        return JSONResponse(await self.in_turn(now))

    async def film(self, request: Request) -> Response:
        where = request.path_params
        if where["step"] > self.task.lengths.get(where["episode"], -1):
            return PlainTextResponse("There is no such step.", 404)
        film = await self.in_turn(self.task.film, where["episode"], where["step"])
        if film.problem:
            return PlainTextResponse(f"Not drawn: {film.problem}", 404)
        return Response(film.strip, media_type="image/webp")

    # ------------------------------------------------------------------------------------------------ deciding

    def check(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What is wrong with a piece that is being written, or what it says."""
        try:
            piece = parsed(asked["kind"], asked["value"])
        except GuidanceError as error:
            return {"problems": str(error).splitlines(), "words": ""}
        if found := problems(piece, self.task.card, self.task.lengths):
            return {"problems": found, "words": ""}
        board = self.board()
        return {"problems": [], "words": _in_words(board, piece)}

    def decide(self, asked: dict[str, Any]) -> dict[str, Any]:
        decision = asked["decision"]
        changed = self.desk.decide(asked["revision"], asked["kind"], asked["key"], decision)
        return self._piece(changed, asked, f"{asked['key']}: {decision or 'not decided'}")

    def overrule(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._piece(self.desk.overrule(asked["revision"], asked["key"]), asked, f"{asked['key']} is used")

    def restore(self, asked: dict[str, Any]) -> dict[str, Any]:
        changed = self.desk.restore(asked["revision"], asked["kind"], asked["key"])
        return self._piece(changed, asked, f"{asked['key']} is as it was")

    def remove(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.desk.remove(asked["revision"], asked["kind"], asked["key"])
        return self._whole(f"{asked['key']} is removed")

    def rest(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.desk.accept_rest(asked["revision"])
        return self._whole("The rest is accepted")

    def save(self, asked: dict[str, Any]) -> dict[str, Any]:
        key = asked.get("key")
        first = bool(asked.get("first"))
        changed = self.desk.save(asked["revision"], asked["kind"], key, asked["value"], first=first)
        if key is None:
            return self._whole("Added")
        return self._piece(changed, asked, f"{key}: saved")

    def _piece(self, changed: Guidance, asked: dict[str, Any], told: str) -> dict[str, Any]:
        board = self.board()
        html = page.piece(board, asked["kind"], asked["key"])
        told = f"{'Term ' if asked['kind'] == 'term' else ''}{told}. {board.path.name} is written."
        return {"revision": board.revision, "piece": html, "summary": page.summary(board), "told": told}

    def _whole(self, told: str) -> dict[str, Any]:
        board = self.board()
        told = f"{told}. {board.path.name} is written."
        return {"revision": board.revision, "summary": page.summary(board), "reload": True, "told": told}

    def answering(self, work: Work) -> Callable[[Request], Any]:
        """An address that takes JSON and does `work` with it."""

        async def endpoint(request: Request) -> Response:
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    return _wrong("That is too large.", 413)
            try:
                asked = strict_json(body)
                if not isinstance(asked, dict):
                    return _wrong("Send an object.", 400)
                return JSONResponse(await self.in_turn(work, asked))
            except StaleError as error:
                return _wrong(str(error), 409)
            except RunError as error:
                return _wrong(str(error), 423)
            except UnstuckError as error:
                return _wrong(str(error), 422)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                return _wrong(f"That is not what this address takes: {type(error).__name__}.", 400)

        return endpoint


def _in_words(board: Board, piece: Advice | Term) -> str:
    """What a piece says, and how often it would hold."""
    if isinstance(piece, Term):
        worth, told = board.task.seen.worth(piece), f"{board.words.term(piece)}."
        if worth:
            often, paid = words.percent(worth.fires), words.number(worth.per_episode)
            told += f" It holds in {often} of the collected steps, and is worth {paid} in an episode."
        return words.minus(told)
    assert board.guidance is not None
    holds = board.task.seen.holds(piece, board.guidance)
    count = sum(len(h) for h in holds.values()) if holds else 0
    share = ""
    if holds and count:
        often = words.percent(sum(int(h.sum()) for h in holds.values()) / count)
        share = f" It applies in {often} of the collected steps."
    action = board.words.action(piece.action, piece.hold) if piece.action else "no action"
    where = f"where {board.words.when(piece.when)}" if piece.when is not None else "at that state"
    return words.minus(f"{action[:1].upper()}{action[1:]}, {where}.{share}")


def _wrong(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)


def make_app(task: Task, host: str, secret: str) -> ASGIApp:
    """The whole server.

    Args:
        host: `127.0.0.1:PORT`, what requests must name as their Host.
        secret: the first part of every address.
    """
    review = Review(task)
    works = (
        review.check, review.decide, review.overrule, review.restore, review.remove, review.rest, review.save,
    )  # fmt: skip

    async def style(request: Request) -> Response:
        return Response(page.style(), media_type="text/css")

    async def script(request: Request) -> Response:
        return Response(page.script(), media_type="text/javascript")

    routes = [
        Route("/", review.show),
        Route("/review.css", style),
        Route("/review.js", script),
        Route("/live", review.live),
        Route("/film/{episode:int}/{step:int}", review.film),
        *(Route(f"/{work.__name__}", review.answering(work), methods=["POST"]) for work in works),
    ]
    return Guard(Starlette(routes=routes), host, secret)
