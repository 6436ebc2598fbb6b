"""Everything that is sent to a service goes through here: entered in the ledger first, and the response on disk before
anybody parses it. A process of its own sends it (`courier.py`), so that a reply outlives the program that waits."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from unstuck.errors import LLMError
from unstuck.llm.addresses import without_credentials
from unstuck.llm.bodies import Body, read_body
from unstuck.llm.budget import Budget
from unstuck.llm.ledger import Call, State
from unstuck.llm.raw import RawStore
from unstuck.llm.requests import Request

_COURIER = Path(__file__).with_name("courier.py")
_UNSENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError")
"""After these nothing has been asked, so nothing is billed."""
_OF_TRANSFER = ("content-encoding", "content-length", "transfer-encoding", "connection")
_TURN_S = 0.02
"""Between two looks whether the courier is back."""


@dataclass
class Exchange:
    """One question on its way: what was sent for it, and what came back."""

    asked: Request
    budget: Budget
    raw: RawStore
    calls: list[Call] = field(default_factory=list)
    """Each time that it was sent."""
    sent: dict[str, Any] = field(default_factory=dict)
    """The last request's body."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    """What the last response says, as far as it can be read."""
    complete: bool = False
    stopped: LLMError | None = None
    """Why nothing was sent: what a client library would hide in an error of its own."""

    def begin(self, url: str, body: bytes) -> Call:
        try:
            call = self.budget.begin(self.asked)
            self.raw.begin(call.id, url, body)
        except LLMError as error:
            self.stopped = error
            raise
        self.calls.append(call)
        self.sent = _object(body)
        self.status, self.headers, self.body, self.complete = None, {}, None, False
        return call

    def end(self, call: Call, state: State, note: str = "") -> None:
        self.budget.end(call, state, self.body if state == "replied" else None, note)

    def take(self, call: Call) -> bytes:
        """Read what the courier left, and enter it.

        Raises:
            httpx2.TransportError: what went wrong on the way.
        """
        meta, data = self.raw.meta(call.id) or {}, self.raw.body(call.id) or b""
        failed = meta.get("failed") or {}
        self.status, self.headers = meta.get("status"), httpx2.Headers(meta.get("headers") or {})
        self.complete, self.body = bool(meta.get("complete")), read_body(data)
        if self.status is None or not self.complete:
            name = str(failed.get("type", "RemoteProtocolError"))
            self.end(call, "refused" if name in _UNSENT else "lost", name)
            raise _error(name, str(failed.get("message", "the process that sent the request ended without an answer")))
        self.end(call, "replied" if self.status < 300 else "refused", f"status {self.status}")
        return data


def _error(name: str, message: str) -> Exception:
    kind = getattr(httpx2, name, httpx2.RemoteProtocolError)
    known = isinstance(kind, type) and issubclass(kind, httpx2.TransportError)
    return kind(message) if known else httpx2.RemoteProtocolError(f"{name}: {message}")


class KeepingClient(httpx2.AsyncClient):
    """An HTTP client that keeps what it sends and receives for the exchange that is set."""

    def __init__(self, limit_s: float = 600.0, **options: Any) -> None:
        """`limit_s`: seconds after which a courier gives up, though nobody may wait for it any more."""
        # Calls are rare and may come from different event loops, between which connections cannot be shared.
        super().__init__(limits=httpx2.Limits(max_keepalive_connections=0), follow_redirects=False, **options)
        self.exchange: Exchange | None = None
        self.limit_s = limit_s

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        exchange = self.exchange
        if exchange is None or request.method != "POST":
            return await super().send(request, stream=stream, **options)
        content = await request.aread()
        call = exchange.begin(without_credentials(str(request.url)), content)
        job = {
            "folder": str(exchange.raw.folder.resolve()), "call": call.id, "method": request.method,
            "url": str(request.url), "headers": _headers(request),
            "body": base64.b64encode(content).decode(), "limit_s": self.limit_s,
            "timeout": _timeout(request.extensions.get("timeout")),
        }  # fmt: skip
        try:
            with exchange.raw.locked(call.id) as descriptors:
                process = _courier(job, descriptors)
            while process.poll() is None:
                await asyncio.sleep(_TURN_S)
        except BaseException as error:  # not waited for any longer; the courier goes on, and `recovery` finds its reply
            exchange.end(call, "lost", f"not waited for ({type(error).__name__})")
            raise
        data = exchange.take(call)
        headers = {k: v for k, v in exchange.headers.items() if k.lower() not in _OF_TRANSFER}
        return httpx2.Response(exchange.status or 0, headers=headers, content=data, request=request)


def _courier(job: dict[str, Any], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """A process of its own that sends the request, and goes on if nobody waits for it any longer."""
    # -P: the courier's own folder must not be searched for modules.
    process = subprocess.Popen(
        [sys.executable, "-P", str(_COURIER)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=descriptors,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.close()
    return process


def _headers(request: httpx2.Request) -> list[list[str]]:
    """Of the request; asking for a body that is not packed, so that what is stored is what was said."""
    kept = [[name, value] for name, value in request.headers.items() if name.lower() != "accept-encoding"]
    return [*kept, ["accept-encoding", "identity"]]


def _timeout(told: Any) -> dict[str, float | None]:
    return (
        {k: told.get(k) for k in ("connect", "read", "write", "pool")} if isinstance(told, dict) else {"timeout": 600.0}
    )


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
