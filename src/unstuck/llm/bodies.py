"""The body of a service's response, read as leniently as it can be: what it says, what it took, why it ended.

Understood are OpenAI's chat completions and Responses, Anthropic's messages, Google's generateContent, and event
streams of the first three. A client library refuses a body that lacks a field; but it has been paid for, so what is
there is read. This is also how outputs of batch services are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json


@dataclass(frozen=True)
class Body:
    """What one response says."""

    text: str
    model: str = ""
    """The model's own name for itself."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    finish: str | None = None
    """`stop`, `length`, `content_filter`, `refusal` or `tool_call`; None where it does not say."""
    created: int | None = None
    """Seconds since 1970."""
    error: str = ""
    """What the service says went wrong, where the body is an error."""


_ENDS = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "completed": "stop", "eos": "stop",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length", "incomplete": "length",
    "model_context_window_exceeded": "length", "model_length": "length",
    "content_filter": "content_filter", "safety": "content_filter", "recitation": "content_filter",
    "blocklist": "content_filter", "prohibited_content": "content_filter",
    "refusal": "refusal", "tool_calls": "tool_call", "tool_use": "tool_call", "function_call": "tool_call",
}  # fmt: skip


def read_body(data: bytes | str) -> Body | None:
    """What the body says; None if it is nothing that a language model's service would send. Never raises."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = _from_events(text) or _as_far_as_it_goes(text)
    try:
        return _clean(read_value(value)) if isinstance(value, dict) else None
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RecursionError):
        return None


def _as_far_as_it_goes(text: str) -> Any:
    """JSON whose end is missing, because the connection broke."""
    try:
        return from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None


def read_value(value: Mapping[str, Any]) -> Body | None:
    """The same of a body that is parsed already."""
    if isinstance(value.get("response"), dict) and "choices" not in value and "output" not in value:
        value = value["response"]  # some proxies wrap it
    for key, reader in (("choices", _chat), ("output", _responses), ("content", _messages), ("candidates", _google)):
        if isinstance(value.get(key), list):
            return reader(value)
    problem = value.get("error")
    if problem:
        said = problem.get("message") if isinstance(problem, dict) else problem
        return Body("", error=str(said or problem)[:500])
    return None


def _chat(value: Mapping[str, Any]) -> Body:
    choices = [c for c in value["choices"] if isinstance(c, dict)]
    if not choices:
        return _body(value, "", None)
    choice = choices[0]
    message = _dict(choice.get("message") or choice.get("delta"))
    text, end = _parts(message.get("content")) or str(choice.get("text") or ""), choice.get("finish_reason")
    if not text and (call := _called(message.get("tool_calls"))):
        text, end = call, end or "tool_calls"
    if not text and message.get("refusal"):
        text, end = str(message["refusal"]), "refusal"
    return _body(value, text, end)


def _called(calls: Any) -> str:
    """The arguments of the first call, which hold the reply where a model was given its form as a tool."""
    for call in calls if isinstance(calls, list) else ():
        arguments = _dict(_dict(call).get("function")).get("arguments")
        if arguments:
            return arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ""


def _responses(value: Mapping[str, Any]) -> Body:
    texts, refusals, calls = [], [], []
    for item in value["output"]:
        if not isinstance(item, dict):
            continue
        if item.get("type") == "function_call" and item.get("arguments"):
            calls.append(str(item["arguments"]))
        for part in _list(item.get("content")) if item.get("type", "message") == "message" else ():
            if isinstance(part, dict):
                texts.append(str(part.get("text") or ""))
                refusals.append(str(part.get("refusal") or ""))
    text, end = "".join(texts), value.get("status")
    if end == "incomplete":
        end = _dict(value.get("incomplete_details")).get("reason") or end
    if not text and calls:
        text, end = calls[0], "tool_calls"
    if not text and any(refusals):
        text, end = "".join(refusals), "refusal"
    return _body(value, text, end)


def _messages(value: Mapping[str, Any]) -> Body:
    blocks = [b for b in value["content"] if isinstance(b, dict)]
    text = "".join(str(b.get("text") or "") for b in blocks if b.get("type", "text") == "text")
    if not text:
        text = next((json.dumps(b["input"]) for b in blocks if b.get("type") == "tool_use" and b.get("input")), "")
    return _body(value, text, value.get("stop_reason"))


def _google(value: Mapping[str, Any]) -> Body:
    candidates = [c for c in value["candidates"] if isinstance(c, dict)]
    if not candidates:
        return _body(value, "", "content_filter" if value.get("promptFeedback") else None)
    parts = _list(_dict(candidates[0].get("content")).get("parts"))
    text = "".join(str(p.get("text") or "") for p in parts if isinstance(p, dict) and not p.get("thought"))
    return _body(value, text, candidates[0].get("finishReason"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _parts(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(p.get("text") or "") if isinstance(p, dict) else str(p) for p in content)
    return content if isinstance(content, str) else ""


def _body(value: Mapping[str, Any], text: str, end: Any) -> Body:
    usage = value.get("usage") or value.get("usageMetadata")
    usage = usage if isinstance(usage, dict) else {}
    tokens_in = _count(usage, "prompt_tokens", "input_tokens", "promptTokenCount")
    cached = [_count(usage, k) or 0 for k in ("cache_read_input_tokens", "cache_creation_input_tokens")]
    created = value.get("created") or value.get("created_at")
    return Body(
        text,
        model=str(value.get("model") or value.get("modelVersion") or ""),
        tokens_in=None if tokens_in is None else tokens_in + sum(cached),
        tokens_out=_count(usage, "completion_tokens", "output_tokens", "candidatesTokenCount"),
        finish=_ENDS.get(str(end).lower(), str(end)) if end else None,
        created=int(created) if isinstance(created, int | float) and 0 < created < 1e11 else None,
    )


MOST_TOKENS = 10**8
"""What a service says beyond it is no count, and estimated instead."""


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
            return value
    return None


def _clean(body: Body | None) -> Body | None:
    """Without lone surrogates, which no file in UTF-8 can hold."""
    if body is None:
        return None
    return replace(body, text=_whole(body.text), model=_whole(body.model), error=_whole(body.error))


def _whole(text: str) -> str:
    """Pairs of surrogates become the sign that they stand for; lone ones the replacement sign."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --------------------------------------------------------------------------------------------- event streams


def _from_events(text: str) -> dict[str, Any] | None:
    """A stream of `data:` lines put together as the whole response that it stands for."""
    events = list(_events(text))
    if not events:
        return None
    for event in reversed(events):
        if isinstance(event.get("response"), dict) and event["response"].get("output"):
            return event["response"]  # type: ignore[no-any-return]
    if any("choices" in e for e in events):
        return _chat_of(events)
    return _other_of(events)


def _events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        name, colon, data = line.partition(":")
        if not colon or name.strip() != "data":
            continue
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _chat_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    text, end = [], None
    for event in events:
        whole |= {k: event[k] for k in ("model", "created", "usage") if event.get(k)}
        for choice in _list(event.get("choices")):
            if isinstance(choice, dict):
                text.append(_parts(_dict(choice.get("delta") or choice.get("message")).get("content")))
                end = choice.get("finish_reason") or end
    # A stream without an end was cut.
    return {**whole, "choices": [{"message": {"content": "".join(text)}, "finish_reason": end or "length"}]}


def _other_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Anthropic's messages, and Responses without their last event."""
    whole: dict[str, Any] = {}
    text: list[str] = []
    usage: dict[str, Any] = {}
    end = None
    for event in events:
        told = event.get("message")
        message: dict[str, Any] = told if isinstance(told, dict) else {}
        whole |= {k: message[k] for k in ("model",) if message.get(k)}
        usage |= {k: v for k, v in _dict(message.get("usage") or event.get("usage")).items() if v is not None}
        delta = event.get("delta")
        if isinstance(delta, dict):
            text.append(str(delta.get("text") or delta.get("partial_json") or ""))
            end = delta.get("stop_reason") or end
        elif isinstance(delta, str) and str(event.get("type", "")).endswith("output_text.delta"):
            text.append(delta)
        if event.get("type") == "error":
            return {"error": event.get("error")}
    content = [{"type": "text", "text": "".join(text)}]
    return {**whole, "usage": usage, "content": content, "stop_reason": end or "max_tokens"}
