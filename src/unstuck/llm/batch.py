"""Prompts out and replies in, as batch files: for batch services, machines without a network, and relays.

A batch file has one JSON object on each line. What goes out is what batch services take: OpenAI's for chat completions
or Responses, or Anthropic's. What comes back is the output of any of them as it comes, or the minimal
`{"custom_id": KEY, "reply": TEXT}`, with "model", "provenance" and "created" if you like.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from unstuck.errors import LLMError
from unstuck.llm.bodies import read_value
from unstuck.llm.config import LLMConfig
from unstuck.llm.pictures import data_url
from unstuck.llm.recordings import LIVE, Recording, Recordings, record
from unstuck.llm.requests import Message, Request

Style = Literal["chat", "responses", "anthropic"]
"""Which service's batch file."""
UNNAMED_MODEL = "MODEL"
"""Stands in a batch file where no model is configured; a service needs it replaced, a relay does not."""


def export_batch(
    requests: Iterable[Request],
    path: Path,
    recordings: Recordings,
    config: LLMConfig | None = None,
    style: Style = "chat",
) -> list[str]:
    """Write requests as batch JSONL, and note them down as pending so that their replies can be imported.

    Requests that occur twice are written once; pictures go with them as data URLs. Returns the keys, in order.

    Raises:
        LLMError: if a file cannot be written, or a picture is missing.
    """
    config = config or LLMConfig()
    model = "" if config.is_recorded else config.model
    unique = {request.key: request for request in requests}
    lines = []
    for key, request in unique.items():
        recordings.save_pending(request, model)
        line = _line(key, request, recordings, config, config.bare_model if model else UNNAMED_MODEL, style)
        lines.append(json.dumps(line, ensure_ascii=False))
    try:
        Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise LLMError(f"cannot write {path}: {error.strerror or error}") from error
    return list(unique)


def _content(message: Message, recordings: Recordings, style: Style) -> str | list[dict[str, Any]]:
    """Of one turn: its text, or its text and its pictures as the service wants them."""
    if not message.pictures:
        return message.content
    parts: list[dict[str, Any]] = [{"type": "input_text" if style == "responses" else "text", "text": message.content}]
    for png in (recordings.picture(digest) for digest in message.pictures):
        url = data_url(png)
        if style == "anthropic":
            source = {"type": "base64", "media_type": "image/png", "data": url.partition(",")[2]}
            parts.append({"type": "image", "source": source})
        elif style == "responses":
            parts.append({"type": "input_image", "image_url": url})
        else:
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _line(
    key: str, request: Request, recordings: Recordings, config: LLMConfig, model: str, style: Style
) -> dict[str, Any]:
    """One request as the service wants it."""
    messages = [{"role": m.role, "content": _content(m, recordings, style)} for m in request.messages]
    more = {} if config.temperature is None else {"temperature": config.temperature}
    if style == "anthropic":
        body = {"model": model, "max_tokens": config.max_output_tokens, "messages": messages, **more}
        return {"custom_id": key, "params": body}
    if style == "responses":
        body = {"model": model, "input": messages, "max_output_tokens": config.max_output_tokens, **more}
        return {"custom_id": key, "method": "POST", "url": "/v1/responses", "body": body}
    body = {"model": model, "messages": messages, "max_completion_tokens": config.max_output_tokens, **more}
    return {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}


@dataclass(frozen=True)
class ImportSummary:
    """What became of a file of replies."""

    stored: tuple[str, ...] = ()
    """Keys of the replies that were stored."""
    already: tuple[str, ...] = ()
    """Keys whose very reply was there already."""
    problems: tuple[str, ...] = ()
    """One sentence for each line that was not stored, with its number."""

    def words(self) -> str:
        counts = f"{len(self.stored)} stored, {len(self.already)} already there, {len(self.problems)} not stored"
        return "\n".join([counts, *self.problems])


@dataclass(frozen=True)
class _Reply:
    key: str
    text: str
    model: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    finish_reason: str | None = None
    created: str = ""
    provenance: str = ""


def import_batch(
    path: Path,
    recordings: Recordings,
    *,
    provenance: str = "batch import",
    model: str | None = None,
    created: str | None = None,
) -> ImportSummary:
    """Read replies from JSONL into the recordings, word for word. A faulty line is reported and holds up no other.

    Args:
        provenance: how the replies got here, in words, where their lines do not say it. Not `api`, which is for calls
            that the budget paid.
        model: who replied. Without it: the model string that the prompt was exported for, so that a live run with
            that model finds the reply; else what the reply itself says.
        created: ISO 8601 date of the replies; without it what the reply says, else today.

    Raises:
        LLMError: if the file cannot be read.
    """
    if provenance == "api":
        raise LLMError("provenance 'api' is for calls that this program made; say how the replies were got")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LLMError(f"cannot read {path}: {error}") from error
    if not any(line.strip() for line in lines):
        raise LLMError(
            f"{path} is empty. Each line is one reply: a batch service's output as it comes, or "
            '{"custom_id": KEY, "reply": TEXT}'
        )
    stored: list[str] = []
    already: list[str] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            recording = _to_recording(_parse(line), recordings, provenance, model, created)
            known = any(r.reply == recording.reply for r in recordings.of(recording.key, recording.model))
            if not known:
                recordings.save(recording)
            (already if known else stored).append(recording.key)
        except (LLMError, ValueError, RecursionError, OverflowError) as error:
            problems.append(f"{path}, line {number}: {error}")
    return ImportSummary(tuple(stored), tuple(already), tuple(problems))


def _to_recording(
    reply: _Reply, recordings: Recordings, provenance: str, model: str | None, created: str | None
) -> Recording:
    asked = recordings.asked(reply.key)
    if asked is None:
        raise LLMError(
            f"no prompt with the custom_id {reply.key!r} was exported from {recordings.folder}; "
            "import into the run that the prompts came from"
        )
    request, meant_for = asked
    return record(
        request,
        reply.text,
        model=model or meant_for or reply.model or "unknown",
        provenance=reply.provenance if reply.provenance not in ("", LIVE) else provenance,
        created=created or reply.created or datetime.now(UTC).date().isoformat(),
        replied_by=reply.model,
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
        finish_reason=reply.finish_reason,
    )


def _date(seconds: float | None) -> str:
    """When a service says that it replied, as ISO; '' where that is no time that there is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""
    except (ValueError, OverflowError, OSError, TypeError):
        return ""


def _parse(line: str) -> _Reply:
    """One line of any form that is understood.

    Raises:
        ValueError: if it is none, or says that the request failed.
    """
    data = json.loads(line)
    if not isinstance(data, dict) or not isinstance(data.get("custom_id"), str):
        raise ValueError("expected a JSON object with a text field custom_id")
    key = data["custom_id"]
    if isinstance(data.get("reply"), str):
        return _Reply(
            key, data["reply"], model=str(data.get("model") or ""), created=str(data.get("created") or ""),
            provenance=str(data.get("provenance") or ""),
        )  # fmt: skip
    body = read_value(_body_in(data, key))
    if body is None or body.error:
        raise ValueError(f"the request {key} failed: {body.error if body else 'its body is no reply'}")
    if not body.text:
        raise ValueError(f"the response to {key} has no text{f' ({body.finish})' if body.finish else ''}")
    return _Reply(
        key, body.text, model=body.model, tokens_in=body.tokens_in, tokens_out=body.tokens_out,
        finish_reason=body.finish,
        created=_date(body.created),
    )  # fmt: skip


def _body_in(data: dict[str, Any], key: str) -> dict[str, Any]:
    """The response's body: of OpenAI's outputs (chat completions and Responses), or of Anthropic's.

    Raises:
        ValueError: if the request failed, or there is none.
    """
    if data.get("error"):
        raise ValueError(f"the request {key} failed: {_short(data['error'])}")
    result = data.get("result")
    if isinstance(result, dict):
        if result.get("type") != "succeeded" or not isinstance(result.get("message"), dict):
            raise ValueError(f"the request {key} failed ({result.get('type')}): {_short(result.get('error'))}")
        return result["message"]  # type: ignore[no-any-return]
    response = data.get("response")
    if not isinstance(response, dict):
        raise ValueError(f"{key} has neither a reply nor a response")
    body = response.get("body", response)
    if response.get("status_code", 200) != 200 or not isinstance(body, dict):
        raise ValueError(f"the request {key} failed with status {response.get('status_code')}: {_short(body)}")
    return body


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "…"
