"""Replies that are on disk as they came over the wire, but were never recorded: the process was killed as they arrived,
or a client library refused them. They are paid for, so they are used before anything is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable

from unstuck.llm.bodies import read_body
from unstuck.llm.budget import Budget
from unstuck.llm.raw import RawStore
from unstuck.llm.recordings import LIVE, Recording, Recordings, record
from unstuck.llm.replies import holds_object
from unstuck.llm.requests import Request

Say = Callable[[str], None]


def recover(request: Request, budget: Budget, recordings: Recordings, say: Say) -> Recording | None:
    """The newest unrecorded reply of the configured source to this request, recorded now; None where there is none.
    Where one is still on its way, it is waited for."""
    config, source = budget.config, budget.source
    calls = [c for c in budget.ledger.calls() if c.key == request.key and c.source == source]
    if not calls:
        return None
    held = {r.call for r in [*recordings.all(writable_only=True), *recordings.discarded()]}
    raw = RawStore(recordings.folder)
    for call in reversed(calls):
        if call.id not in held and raw.under_way(call.id):
            _wait(raw, call.id, config.timeout_s, say)
        data, meta = raw.body(call.id), raw.meta(call.id) or {}
        if call.id in held or data is None or meta.get("status", 200) >= 300:
            continue
        body = read_body(data)
        if body is None or body.error or not body.text:
            continue
        if not meta.get("complete") and not holds_object(body.text):
            continue
        settings: dict[str, object] = {"max_tokens": config.max_output_tokens}
        recording = record(
            request, body.text, model=config.model, provenance=LIVE, created=call.sent, replied_by=body.model,
            settings=settings | ({"base_url": config.base_url} if config.base_url else {}),
            tokens_in=body.tokens_in, tokens_out=body.tokens_out, finish_reason=body.finish, call=call.id,
            cost_usd=budget.cost(body.tokens_in or 0, body.tokens_out or 0) if body.tokens_in is not None else None,
            notes=("read from the body on disk: the program ended before it was recorded",),
        )  # fmt: skip
        recordings.replace(recording)
        budget.settle(call, recording)
        return recording
    return None


def _wait(raw: RawStore, call: str, longest_s: float, say: Say) -> None:
    say("the same question is on its way already, asked before this start or by another process: waiting for its reply")
    end = time.monotonic() + longest_s
    while raw.under_way(call) and time.monotonic() < end:
        time.sleep(0.1)
