"""Whom the server of the review page answers: the guard in front of it, asked as other pages and machines would.

`reached` is the marker: what is refused never gets to the page.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from unstuck.review.app import Guard

HOST, SECRET = "127.0.0.1:5123", "s3cret-of-this-start"
OWN = {"origin": f"http://{HOST}", "content-type": "application/json", "sec-fetch-site": "same-origin"}


def ask(
    path: str = f"/{SECRET}/", method: str = "GET", headers: Any = (), kind: str = "http"
) -> tuple[int, dict[str, str], list[str]]:
    """(status, headers of the answer, paths that got through)."""
    reached: list[str] = []
    sent: list[dict[str, Any]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"server", b"x")]})
        await send({"type": "http.response.body", "body": b"the page"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if not any(name == "host" for name, _ in pairs):
        pairs.append(("host", HOST))
    scope = {
        "type": kind, "method": method, "path": path, "raw_path": path.encode("utf-8", "surrogateescape"),
        "headers": [(n.encode(), v.encode()) for n, v in pairs], "query_string": b"", "root_path": "",
    }  # fmt: skip
    asyncio.run(Guard(page, HOST, SECRET)(scope, receive, send))
    if not sent:
        return 0, {}, reached
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, reached


def test_its_own_page_gets_through() -> None:
    for method, headers in (("GET", {}), ("POST", OWN), ("POST", OWN | {"content-type": "application/json; a=b"})):
        status, _, reached = ask(method=method, headers=headers)
        assert (status, reached) == (200, ["/"])


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost:5123", "127.0.0.1", "127.0.0.1:5124", "127.0.0.1:5123.evil.example", "[::1]:5123",
     "127.0.0.1:5123@evil.example", "", "127.0.0.1:5123 ", "2130706433:5123", "evil.example:5123"],
)  # fmt: skip
def test_names_that_somebody_points_here_do_not_help(host: str) -> None:
    """DNS rebinding: a page of another name whose address became this machine's."""
    for headers in ({"host": host}, {"host": host, **OWN}, [("host", HOST), ("host", host)], [("host", host)] * 2):
        status, _, reached = ask(headers=headers)
        assert (status, reached) == (421, [])


@pytest.mark.parametrize(
    "path",
    ["/", "", "/review.js", "/s3cret", f"/{SECRET}", f"/{SECRET}x/", f"//{SECRET}/", f"/{SECRET.upper()}/",
     f"/x/../{SECRET}/", f"/%73{SECRET[1:]}/", f"/{SECRET[:-1]}/", f"/{SECRET}\x00/", f"\\{SECRET}\\", "/\udcff/"],
    ids=ascii,
)  # fmt: skip
def test_who_does_not_know_the_secret_sees_nothing(path: str) -> None:
    status, _, reached = ask(path, headers={"sec-fetch-site": "same-origin"})
    assert (status, reached) == (404, [])


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "PROPFIND"])
def test_methods_that_nothing_needs_are_refused(method: str) -> None:
    asked = {"origin": f"http://{HOST}", "access-control-request-method": "POST"}
    status, headers, reached = ask(method=method, headers=asked)
    assert (status, reached) == (405, [])
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:5124", "https://127.0.0.1:5123", "http://127.0.0.1:5123.evil.example",
     "http://127.0.0.1", "http://localhost:5123", "http://127.0.0.1:5123/", "file://", "chrome-extension://x"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_origins_are_refused_even_with_the_secret(origin: str, method: str) -> None:
    for headers in ({**OWN, "origin": origin}, [*OWN.items(), ("origin", origin)]):
        status, answer, reached = ask(method=method, headers=headers)
        assert (status, reached) == (403, [])
        assert not [name for name in answer if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site", "content-type": "application/json"},
     {"sec-fetch-site": "same-site", "content-type": "application/json"},
     {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "content-type": "application/json"},
     {"content-type": "application/json"}, {}],
)  # fmt: skip
def test_nothing_is_changed_without_an_origin(headers: dict[str, str]) -> None:
    """Forms and redirections of other pages may leave it out."""
    status, _, reached = ask(method="POST", headers=headers)
    assert (status, reached) == (403, [])


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonx",
             "text/plain;application/json", "APPLICATION/XML"],
)  # fmt: skip
def test_what_forms_can_send_changes_nothing(kind: str) -> None:
    status, _, reached = ask(method="POST", headers=OWN | {"content-type": kind})
    assert (status, reached) == (415, [])


def test_websockets_get_no_answer() -> None:
    assert ask(kind="websocket") == (0, {}, [])


@pytest.mark.parametrize("case", [{}, {"path": "/"}, {"headers": {"host": "evil"}}, {"method": "PUT"}], ids=str)
def test_every_answer_lets_nothing_in_and_says_nothing_of_itself(case: dict[str, Any]) -> None:
    _, headers, _ = ask(**case)
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"  # the secret is in the address
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


LADDERS: list[Any] = [
    {"spent": {"train": 1e999}, "budget": 5, "ranks": []}, {"spent": {"train": 5}, "budget": 1e999, "ranks": []},
    {"spent": [5], "budget": 5, "ranks": []}, {"spent": {"a": None}, "budget": 5, "ranks": []}, [], None, 3, "x",
    {"spent": {}, "budget": 10**400, "ranks": [{"name": "<script>"}]}, {"spent": {}, "budget": 5, "ranks": [[]]},
    {"spent": {}, "budget": 5, "ranks": {"a": 1}, "usd": "x"}, {"spent": {}, "budget": 5, "ranks": [], "usd": [1]},
]  # fmt: skip


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda v: str(v)[:40])
def test_a_ladder_that_is_none_does_not_take_the_page_down(tmp_path: Path, ladder: Any) -> None:
    from unstuck.config import RunConfig, TaskConfig
    from unstuck.review.live import live
    from unstuck.run import Run

    (tmp_path / "a.zip").write_bytes(b"agent")
    run = Run.create(tmp_path / "run", RunConfig(task=TaskConfig(env="CartPole-v1")), {"agent": tmp_path / "a.zip"})
    folder, curve = run.root / "race" / "race" / "1", run.root / "train" / "ppo" / "1.draft" / "curve.jsonl"
    for place in (folder, curve.parent):
        place.mkdir(parents=True)
    (folder / "ladder.json").write_text(json.dumps(ladder))
    for text in (json.dumps(ladder), "[" * 100_000, '{"trained": 1e999}', '{"trained": 5, "return_mean": "x"}', "\xff"):
        curve.write_bytes(text.encode("latin-1"))
        found = live(run)
        assert found["busy"] == ""
        assert len(found["ladders"]) <= 1
