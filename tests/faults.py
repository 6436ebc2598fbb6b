"""A campaign of faults: a server on this machine that speaks three protocols and misbehaves in many ways.

`FAULTS` says what goes wrong and what must come of it; `check` lets one happen and says everything that is not as it
must be: a value or an LLMError that names a next step, each call in the ledger and none past the cap, every body that
was sent whole on disk to the last byte, no key in any file.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from unstuck.errors import LLMError
from unstuck.llm import Coach, LLMConfig, Recordings

Protocol = Literal["chat", "responses", "messages"]
PROTOCOLS: tuple[Protocol, ...] = ("chat", "responses", "messages")
MODELS = {"chat": "openai:gpt-4o-mini", "responses": "openai-responses:gpt-4o-mini", "messages": "anthropic:claude-x"}
KEY = "a-test-key-12345"
GOOD = '{"number": 7}'
MAX_CALLS = 6
NEXT_STEP = re.compile(r"--llm[.-]|--explain|unstuck |environment variable|run again|base_url|[Ss]ame command")


class Thing(BaseModel):
    number: int


@dataclass(frozen=True)
class Sent:
    """What the server does with one request."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    drop_after: int | None = None
    """Bytes after which the connection is closed."""
    delay_s: float = 0.0
    chunked: bool = False


Answer = Callable[[Protocol, int, dict[str, Any]], Sent]
"""(protocol, how many requests came before, the request) → what is sent."""


@dataclass(frozen=True)
class Fault:
    name: str
    does: Answer
    value: bool
    """Whether a value must come of it all the same; else an error."""
    said: str = ""
    """What the error must match."""
    only: tuple[Protocol, ...] = PROTOCOLS
    slow: bool = False
    settings: tuple[tuple[str, Any], ...] = ()


# ------------------------------------------------------------------------------------------------ what is sent


def whole(protocol: Protocol, text: Any, *, end: str | None = None, **more: Any) -> dict[str, Any]:
    """A response as the service gives it."""
    if protocol == "chat":
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": end or "stop", "logprobs": None}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        base = {"id": "c1", "object": "chat.completion", "created": 1735819200, "model": "m", "choices": [choice]}
    elif protocol == "responses":
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
        usage = {
            "input_tokens": 100, "output_tokens": 10, "total_tokens": 110,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
        }  # fmt: skip
        base = {
            "id": "r1", "object": "response", "created_at": 1735819200, "model": "m", "output": [item],
            "status": "completed", "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None,
        }  # fmt: skip
        if end:
            base |= {"status": "incomplete", "incomplete_details": {"reason": end}}
    else:
        base = {
            "id": "a1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": text}], "stop_reason": end or "end_turn", "stop_sequence": None,
        }  # fmt: skip
        usage = {"input_tokens": 100, "output_tokens": 10}
    return {**base, "usage": usage, **more}


def ok(value: Any, **more: Any) -> Sent:
    return Sent(json.dumps(value).encode(), **more)


def text(reply: str) -> Answer:
    return lambda protocol, n, asked: ok(whole(protocol, reply))


def without(*names: str) -> Answer:
    def answer(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
        return ok({k: v for k, v in whole(protocol, GOOD).items() if k not in names})

    return answer


def empty_parts(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    name = {"chat": "choices", "responses": "output", "messages": "content"}[protocol]
    return ok({**whole(protocol, ""), name: []})


def refusal(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    words = "I will not help with that."
    value = whole(protocol, words)
    if protocol == "chat":
        value["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": words}
    elif protocol == "responses":
        value["output"][0]["content"] = [{"type": "refusal", "refusal": words}]
    else:
        value["stop_reason"] = "refusal"
    return ok(value)


def filtered(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    return ok(whole(protocol, "", end={"messages": "refusal"}.get(protocol, "content_filter")))


def cut(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    end = {"chat": "length", "responses": "max_output_tokens", "messages": "max_tokens"}[protocol]
    return ok(whole(protocol, '{"num', end=end))


def called(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    """The model calls a tool that nobody gave it, with the reply as arguments."""
    value = whole(protocol, "")
    if protocol == "chat":
        call = {"id": "t1", "type": "function", "function": {"name": "reply", "arguments": GOOD}}
        value["choices"][0] |= {
            "message": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"
        }  # fmt: skip
    elif protocol == "responses":
        call = {"type": "function_call", "id": "f1", "call_id": "f1", "name": "reply", "arguments": GOOD}
        value["output"] = [{**call, "status": "completed"}]
    else:
        value |= {
            "content": [{"type": "tool_use", "id": "t1", "name": "reply", "input": {"number": 7}}],
            "stop_reason": "tool_use",
        }  # fmt: skip
    return ok(value)


def stream(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    """An event stream where none was asked for."""
    events: list[dict[str, Any]]
    if protocol == "chat":
        events = [{"model": "m", "choices": [{"index": 0, "delta": {"content": c}}]} for c in ('{"num', 'ber": 7}')]
        events.append({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    elif protocol == "responses":
        events = [{"type": "response.output_text.delta", "delta": GOOD}]
        events.append({"type": "response.completed", "response": whole(protocol, GOOD)})
    else:
        usage = {"input_tokens": 100, "output_tokens": 1}
        events = [
            {"type": "message_start", "message": {"model": "m", "content": [], "usage": usage}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": GOOD}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 10}},
        ]
    lines = "".join(f"event: {e.get('type', 'x')}\ndata: {json.dumps(e)}\n\n" for e in events)
    return Sent(f"{lines}data: [DONE]\n\n".encode(), headers=(("Content-Type", "text/event-stream"),))


def refused(status: int, message: str = "no", kind: str = "error", **headers: str) -> Answer:
    def answer(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
        body = {"type": "error", "error": {"message": message, "type": kind, "code": kind}}
        return ok(body, status=status, headers=tuple((k.replace("_", "-"), v) for k, v in headers.items()))

    return answer


def at_first(first: Answer, times: int = 1) -> Answer:
    then = text(GOOD)
    return lambda protocol, n, asked: (first if n < times else then)(protocol, n, asked)


def no_schema(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    if any(k in asked for k in ("response_format", "output_config", "output_format")) or "format" in str(
        asked.get("text")
    ):
        return refused(400, "response_format of type json_schema is not supported")(protocol, n, asked)
    return text(GOOD)(protocol, n, asked)


def bytes_of(data: bytes, **more: Any) -> Answer:
    return lambda protocol, n, asked: Sent(data, **more)


def changed(how: Callable[[bytes], bytes], **more: Any) -> Answer:
    return lambda protocol, n, asked: Sent(how(json.dumps(whole(protocol, GOOD)).encode()), **more)


def null_text(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    return ok(whole(protocol, None))


def in_parts(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    value = whole(protocol, GOOD)
    value["choices"][0]["message"]["content"] = [
        {"type": "text", "text": '{"num'},
        {"type": "text", "text": 'ber": 7}'},
    ]
    return ok(value)


def twice(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    """Two replies where one was asked for."""
    value, name = whole(protocol, GOOD), {"chat": "choices", "responses": "output", "messages": "content"}[protocol]
    return ok({**value, name: value[name] * 2})


def reasoned(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    """What the model thought comes in front of its reply, with an object of its own."""
    value, thought = whole(protocol, GOOD), 'Perhaps {"number": 5}?'
    if protocol == "chat":
        value["choices"][0]["message"]["reasoning_content"] = thought
    elif protocol == "responses":
        item = {"type": "reasoning", "id": "t1", "summary": [{"type": "summary_text", "text": thought}]}
        value["output"].insert(0, item)
    else:
        value["content"].insert(0, {"type": "thinking", "thinking": thought, "signature": "s"})
    return ok(value)


def counted(usage: dict[str, Any]) -> Answer:
    return lambda protocol, n, asked: ok({**whole(protocol, GOOD), "usage": usage})


def busy_then_locked(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    return (refused(401, "bad key") if n else refused(500, "oops"))(protocol, n, asked)


def ended(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    return ok(whole(protocol, GOOD, end="banana"))


def older(protocol: Protocol, n: int, asked: dict[str, Any]) -> Sent:
    value = whole(protocol, "")
    value["choices"] = [{"text": GOOD, "index": 0, "finish_reason": "stop"}]
    return ok(value)


_PATIENT = (("patience_s", 10.0),)
_SHORT = (("patience_s", 0.3),)
_QUICK = (("timeout_s", 2.0),)

FAULTS: tuple[Fault, ...] = (
    # The words of the reply.
    Fault("a fenced block in prose", text(f"Let me think {{x > 0}}.\n```json\n{GOOD}\n```\nDone."), True),
    Fault("comments", text('{"number": 7 // seven\n/* so it is */}'), True),
    Fault("trailing commas", text('{"number": 7,}'), True),
    Fault("single quotes", text("{'number': 7}"), True),
    Fault("names without quotes", text("{number: 7}"), True),
    Fault("raw line breaks in texts", text('{"number": 7, "why": "a\nb"}'), True),
    Fault("a draft before the corrected object", text('{"number": 6}\nNo, rather:\n{"number": 7}'), True),
    Fault("a wrapper around the object", text('{"result": {"number": 7}}'), True),
    Fault("a missing last brace", text('{"number": 7, "more": {"a": 1}'), True),
    Fault("no object at all", text("It is seven."), False, "no JSON object"),
    Fault("an invalid reply, then a valid one", at_first(text('{"number": "many"}')), True),
    Fault("a number that is none, then a valid one", at_first(text('{"number": NaN}')), True),
    Fault("an empty text", text(""), False, "no JSON object"),
    Fault("150,000 escaped quotes", text('{"analysis": "' + '\\"' * 150_000), False, "not complete"),
    Fault("100,000 open brackets", text('{"number": ' + "[" * 100_000), False, "not complete"),
    Fault("escape sequences for the terminal", text("\x1b]0;owned\x07\x1b[2J no"), False, "no JSON object"),
    Fault("half of a surrogate pair", text('{"number": 7, "why": "\ud800"}'), True),
    Fault("half of a surrogate pair in an invalid reply", text("\udfff"), False, "no JSON object"),
    Fault("three megabytes of text", text("x" * 3_000_000 + GOOD), True, slow=True),
    Fault("a number as a word", text('{"number": "7"}'), True),
    Fault("a name twice in the reply", text('{"number": 6, "number": 7}'), False, "twice"),
    Fault("a zero byte in the reply", text('{"number": 7, "why": "\x00"}'), True),
    # The form of the response.
    Fault("no id", without("id"), True),
    Fault("no time", without("created", "created_at"), True),
    Fault("no model", without("model"), True),
    Fault("no usage", without("usage"), True),
    Fault("nothing but the text", without("id", "created", "created_at", "model", "usage", "object", "type"), True),
    Fault("usage of null", lambda p, n, a: ok({**whole(p, GOOD), "usage": None}), True),
    Fault("usage below zero", lambda p, n, a: ok({**whole(p, GOOD), "usage": {"prompt_tokens": -5}}), True),
    Fault("usage in words", counted({"prompt_tokens": "many", "input_tokens": "many", "output_tokens": []}), True),
    Fault("usage past all numbers", counted({"prompt_tokens": 10**30, "input_tokens": 10**30}), True),
    Fault("a time in words", lambda p, n, a: ok(whole(p, GOOD, created="today", created_at="today")), True),
    Fault("an end that nobody knows", ended, True),
    Fault("two replies in one", twice, True),
    Fault("thoughts in front of the reply", reasoned, True),
    Fault("a name twice in the body", changed(lambda b: b[:-1] + b', "id": null}'), True),
    Fault("fields that nobody knows", lambda p, n, a: ok(whole(p, GOOD, surprise=[1, {"a": None}])), True),
    Fault("no choices", empty_parts, False, "JSON object|no reply"),
    Fault("a text of null", null_text, False, "JSON object|no reply"),
    Fault("a text in parts", in_parts, True, only=("chat",)),
    Fault("the form of older completions", older, True, only=("chat",)),
    Fault("a refusal", refusal, False, "refused to answer"),
    Fault("a content filter", filtered, False, "content filter|refused"),
    Fault("a reply cut at its longest length", cut, False, "max-output-tokens"),
    Fault("a tool call in place of a reply", called, True),
    Fault("an event stream that nobody asked for", stream, True),
    Fault("no JSON schema mode", no_schema, True),
    Fault("an error with status 200", lambda p, n, a: ok({"error": {"message": "overloaded"}}), False),
    Fault("a page of HTML with status 200", bytes_of(b"<html><body>Sign in</body></html>"), False),
    Fault("an empty body", bytes_of(b""), False),
    Fault("a list in place of an object", bytes_of(b"[1, 2]"), False),
    Fault("a number in place of an object", bytes_of(b"7"), False),
    Fault("a byte order mark", changed(lambda b: b"\xef\xbb\xbf" + b), True),
    Fault("bytes that are no UTF-8", changed(lambda b: b[:-1] + b', "x": "\xff\xfe"}'), True),
    Fault("a wrong content type", changed(lambda b: b, headers=(("Content-Type", "text/plain"),)), True),
    Fault("gzip that was not asked for", changed(gzip.compress, headers=(("Content-Encoding", "gzip"),)), True),
    Fault("gzip that is none", changed(lambda b: b, headers=(("Content-Encoding", "gzip"),)), True),
    Fault("a body in chunks", changed(lambda b: b, chunked=True), True),
    # The connection.
    Fault("closed before an answer", bytes_of(b"", drop_after=0), False, "reached|failed"),
    Fault("closed in the middle of the body", changed(lambda b: b, drop_after=60), False, "connection broke"),
    Fault("closed after the text, before the end", changed(lambda b: b, drop_after=-3), True),
    Fault("no answer in time", changed(lambda b: b, delay_s=5), False, "timeout", settings=_QUICK, slow=True),
    Fault("headers, then silence", bytes_of(b"{", drop_after=-100), False, settings=_QUICK, slow=True),
    # Refusals of the service.
    Fault("401, with the key in its words", refused(401, f"bad key {KEY}", "authentication_error"), False, "KEY"),
    Fault("403", refused(403, "forbidden", "permission_error"), False, "KEY|refused"),
    Fault("404", refused(404, "no such model", "not_found_error"), False, "does not know"),
    Fault("402, no credit", refused(402, "pay", "insufficient_quota"), False, "credit|quota"),
    Fault("400", refused(400, "bad temperature", "invalid_request_error"), False, "rejected"),
    Fault(
        "400, the prompt is too long",
        refused(400, "This model's maximum context length is 4096 tokens", "context_length_exceeded"),
        False,
        "--explain.prompt-tokens",
    ),
    Fault("413", refused(413, "too large", "request_too_large"), False, "--explain.prompt-tokens"),
    Fault(
        "400, no pictures",
        refused(400, "this model does not support image input", "invalid_request_error"),
        False,
        "--llm.frames",
        settings=(("frames", 2),),
    ),
    Fault("409", refused(409, "conflict"), False),
    Fault("422", refused(422, "unprocessable"), False),
    Fault("429 once, without Retry-After", at_first(refused(429, "slow down")), True, settings=_PATIENT),
    Fault(
        "429 once, with Retry-After",
        at_first(refused(429, "slow", Retry_After="1")),
        True,
        settings=_PATIENT,
        slow=True,
    ),
    Fault("429 without end", refused(429, "slow down", "rate_limit_error"), False, "patience", settings=_SHORT),
    Fault("429 that says when, in an hour", refused(429, "slow", Retry_After="3600"), False, "run again"),
    Fault(
        "429 once, with a date to come back at",
        at_first(refused(429, "slow", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")),
        True,
        settings=_PATIENT,
    ),
    Fault("429 once, to come back soon", at_first(refused(429, "slow", Retry_After="soon")), True, settings=_PATIENT),
    Fault("429 that says not to come back", refused(429, "slow", x_should_retry="false"), False, "run again"),
    Fault("500, then a refused key", busy_then_locked, False, "KEY", settings=_PATIENT),
    Fault("500 once", at_first(refused(500, "oops", "api_error")), True, settings=_PATIENT),
    Fault("500 without end", refused(500, "oops"), False, "run again", settings=_SHORT),
    Fault("503 twice", at_first(refused(503, "down"), times=2), True, settings=_PATIENT),
    Fault("529, overloaded, once", at_first(refused(529, "busy", "overloaded_error")), True, settings=_PATIENT),
    Fault("408", refused(408, "too slow"), False, settings=_SHORT),
    Fault(
        "a redirection", bytes_of(b"", status=302, headers=(("Location", "http://127.0.0.1:9/"),)), False, "base-url"
    ),
    Fault("an error that is a page of HTML", bytes_of(b"<h1>502</h1>", status=502), False, settings=_SHORT),
    Fault("no content, status 204", bytes_of(b"", status=204), False),
    Fault("a status that nobody knows", bytes_of(b"{}", status=299), False),
    Fault(
        "busier than the cap on calls allows",
        refused(429, "slow", "rate_limit_error"),
        False,
        "cap",
        settings=(
            ("patience_s", 60.0),
            ("max_calls", 3),
        ),
    ),
)


# --------------------------------------------------------------------------------------------------- the server


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, protocol: Protocol, does: Answer) -> None:
        self.protocol, self.does = protocol, does
        self.seen: list[dict[str, Any]] = []
        self.paid: list[bytes] = []
        """Bodies of status 200 that were sent whole."""
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = len(self.server.seen)
        self.server.seen.append(asked)
        known = self.path.startswith("/v1/")
        answer = self.server.does if known else refused(404, "there is nothing here", "not_found_error")
        sent = answer(self.server.protocol, number, asked)
        time.sleep(sent.delay_s)
        data, self.close_connection = sent.body, True
        if sent.drop_after == 0:
            return
        self.send_response(sent.status)
        given = {k.lower() for k, _ in sent.headers}
        for name, value in sent.headers:
            self.send_header(name, value)
        if "content-type" not in given:
            self.send_header("Content-Type", "application/json")
        if sent.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(0, len(data), 50):
                part = data[i : i + 50]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(data) + (100 if sent.drop_after == -100 else 0)))
            self.end_headers()
            if sent.drop_after == -100:
                self.wfile.write(data)
                self.wfile.flush()
                time.sleep(5)
                return
            self.wfile.write(data if sent.drop_after is None else data[: sent.drop_after])
        if sent.drop_after is None and sent.status == 200:
            self.server.paid.append(
                gzip.decompress(data) if "content-encoding" in given and data[:2] == b"\x1f\x8b" else data
            )

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(protocol: Protocol, does: Answer) -> Iterator[Server]:
    server = Server(protocol, does)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


SCHEMA = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


def check(fault: Fault, protocol: Protocol, folder: Path) -> list[str]:
    """Let it happen; all that is not as it must be, a sentence each."""
    return happen(fault, protocol, folder)[1]


def happen(fault: Fault, protocol: Protocol, folder: Path) -> tuple[str, list[str]]:
    """The error that came of it, '' for a value; and what is not as it must be."""
    settings = {"model": MODELS[protocol], "max_calls": MAX_CALLS, "timeout_s": 20.0, **dict(fault.settings)}
    found, begun = [], time.monotonic()
    with serving(protocol, fault.does) as server:
        config = LLMConfig(base_url=server.url, **settings)
        value, error = None, None
        try:
            value = Coach(config, Recordings(folder)).ask("Which number?", Thing, schema=SCHEMA).value
        except LLMError as problem:
            error = str(problem)
        except Exception as problem:
            found.append(f"a traceback: {type(problem).__name__}: {problem}")
        if fault.value and (value is None or value.number != 7):
            found.append(f"no value, but {error!r}")
        if not fault.value and error is None:
            found.append(f"no error, but {value!r}")
        if error is not None and not fault.value:
            found += _of_error(error, fault)
        found += _of_disk(folder, server, config)
    if time.monotonic() - begun > 60:  # on a machine that is busy with other things
        found.append(f"it took {time.monotonic() - begun:.0f} s")
    return error or "", found


def _of_error(error: str, fault: Fault) -> list[str]:
    found = []
    if fault.said and not re.search(fault.said, error):
        found.append(f"the error does not match {fault.said!r}: {error}")
    if not NEXT_STEP.search(error):
        found.append(f"the error names no next step: {error}")
    if KEY in error:
        found.append("the error shows the key")
    return found


def _of_disk(folder: Path, server: Server, config: LLMConfig) -> list[str]:
    found = []
    calls = Coach(config, Recordings(folder)).budget.ledger.calls()
    if len(calls) != len(server.seen):
        found.append(f"{len(server.seen)} requests came, but the ledger has {len(calls)}")
    if len(server.seen) > config.max_calls:
        found.append(f"{len(server.seen)} requests came, past the cap of {config.max_calls}")
    if any(c.state == "out" for c in calls):
        found.append("a call is out for ever")
    if any(c.state == "replied" and not c.tokens for c in calls):
        found.append("a reply counts nothing")
    if config.model.startswith("openai") and any(c.state == "replied" and not c.cost_usd for c in calls):
        found.append("a reply of a known price costs nothing")
    stored = [path.read_bytes() for path in sorted((folder / "raw").glob("*.body"))]
    missing = [body for body in server.paid if body and body not in stored]
    if missing:
        found.append(f"{len(missing)} bodies that were sent whole are not on disk as they were sent")
    if any(
        KEY.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".body"
    ):
        found.append("a file holds the key")
    return found
