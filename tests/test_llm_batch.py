"""Batch files: prompts out, replies in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from unstuck.errors import LLMError, NoRecordingError
from unstuck.llm import Coach, LLMConfig, Recordings, Request, export_batch, import_batch, key_for

PROMPT = "Say which number it is."


class Thing(BaseModel):
    number: int


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return path


def result(key: str, text: str, **body: Any) -> dict[str, Any]:
    """A line of a batch service's output file."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    body = {"model": "gpt-4o-2024-08-06", "created": 1735819200, "choices": [choice], "usage": usage, **body}
    return {"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None}


def test_export_is_what_batch_services_take(tmp_path: Path) -> None:
    config = LLMConfig(model="openai:gpt-4o", temperature=0.0, max_output_tokens=500)
    requests = [Request.of(PROMPT), Request.of(PROMPT, sample=1), Request.of(PROMPT)]
    keys = export_batch(requests, tmp_path / "out.jsonl", Recordings(tmp_path / "r"), config)
    assert keys == [key_for(PROMPT), key_for(PROMPT, 1)]
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert first == {
        "custom_id": keys[0],
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_completion_tokens": 500,
            "temperature": 0.0,
        },
    }
    assert second["custom_id"] == keys[1]


def test_round_trip_answers_both_recorded_and_the_live_model_it_was_exported_for(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path / "r")
    config = LLMConfig(model="openai:gpt-4o")
    [key] = export_batch([Request.of(PROMPT)], tmp_path / "out.jsonl", recordings, config)
    text = ' Ünedited…\r\n```json\n{"number": 5}\n``` '
    summary = import_batch(write_lines(tmp_path / "in.jsonl", result(key, text)), recordings)
    assert summary.stored == (key,)
    assert not summary.problems
    [recording] = recordings.all()
    assert recording.reply == text
    assert (recording.tokens_in, recording.tokens_out) == (7, 3)
    assert (recording.model, recording.replied_by) == ("openai:gpt-4o", "gpt-4o-2024-08-06")
    assert recording.created == "2025-01-02T12:00:00+00:00"
    assert recordings.pending() == []
    for model in ("recorded", "openai:gpt-4o"):
        coach = Coach(LLMConfig(model=model, max_calls=0), recordings)
        assert coach.ask(PROMPT, Thing).value.number == 5


def test_minimal_form_with_given_model_provenance_and_date(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path / "r")
    [key] = export_batch([Request.of(PROMPT)], tmp_path / "out.jsonl", recordings)
    path = write_lines(tmp_path / "in.jsonl", {"custom_id": key, "reply": '{"number": 1}'})
    import_batch(path, recordings, provenance="relayed", model="a-model", created="2025-06-01")
    [recording] = recordings.all()
    assert (recording.model, recording.provenance, recording.created) == ("a-model", "relayed", "2025-06-01")
    assert not recording.is_live
    again = import_batch(path, recordings, provenance="relayed", model="a-model", created="2025-07-01")
    assert (again.stored, again.already) == ((), (key,))
    assert recordings.all() == [recording]
    second = import_batch(path, recordings, provenance="relayed", model="another-model")
    assert second.stored == (key,), "its conversation is known from the first recording"


def test_faulty_lines_are_reported_and_hold_up_no_other(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path / "r")
    prompts = [f"prompt {i}" for i in range(4)]
    a, b, c, d = export_batch([Request.of(p) for p in prompts], tmp_path / "out.jsonl", recordings)
    path = write_lines(
        tmp_path / "in.jsonl",
        "{not json",
        {"reply": "without an id"},
        result("0" * 20, "nobody asked"),
        {"custom_id": "../../etc/passwd", "reply": "a path"},
        {"custom_id": a, "response": None, "error": {"code": "batch_expired", "message": "too late"}},
        {"custom_id": b, "response": {"status_code": 429, "body": {"error": "slow down"}}, "error": None},
        {"custom_id": c, "response": {"status_code": 200, "body": {"choices": []}}},
        "",
        {"custom_id": d, "reply": "fine"},
        {"custom_id": d, "reply": "different"},
    )
    summary = import_batch(path, recordings, model="m")
    assert summary.stored == (d,)
    said = summary.problems
    wanted = ["not json", "custom_id", "0000", "passwd", "batch_expired", "429", "no text", "never overwritten"]
    wanted[0] = "line 1"
    assert len(said) == len(wanted)
    for sentence, word in zip(said, wanted, strict=True):
        assert word in sentence
    assert "line 10" in said[-1]
    assert [r.reply for r in recordings.all()] == ["fine"]
    assert len(recordings.pending()) == 3
    assert summary.words().startswith("1 stored, 0 already there, 8 not stored")


def test_an_invalid_first_reply_can_be_sent_back_by_batch_too(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path / "r")
    coach = Coach(LLMConfig(model="recorded"), recordings)
    for reply in ('{"number": "many"}', '{"number": 2}'):
        with pytest.raises(NoRecordingError):
            coach.ask(PROMPT, Thing)
        [key] = export_batch(recordings.pending(), tmp_path / "out.jsonl", recordings, coach.config)
        import_batch(write_lines(tmp_path / "in.jsonl", {"custom_id": key, "reply": reply}), recordings)
    answer = coach.ask(PROMPT, Thing)
    assert answer.value.number == 2
    assert len(answer.keys) == 2
    assert answer.usage.replayed == 2


def test_replies_from_elsewhere_cannot_pass_for_paid_calls(tmp_path: Path) -> None:
    with pytest.raises(LLMError, match="provenance"):
        import_batch(write_lines(tmp_path / "in.jsonl"), Recordings(tmp_path), provenance="api")


def test_missing_file_and_damaged_pending_prompt_are_named(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path / "r")
    with pytest.raises(LLMError, match=r"none\.jsonl"):
        import_batch(tmp_path / "none.jsonl", recordings)
    recordings.save_pending(Request.of(PROMPT))
    [path] = (tmp_path / "r" / "pending").glob("*.json")
    path.write_text(path.read_text().replace("number", "letter"))
    with pytest.raises(LLMError, match="not the key") as caught:
        recordings.pending()
    assert str(path) in str(caught.value)
