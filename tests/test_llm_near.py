"""A recorded reply also answers a prompt that another machine wrote with another last digit, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from unstuck.errors import NoRecordingError
from unstuck.llm import Coach, LLMConfig, Recordings, Request
from unstuck.llm.near import differing
from unstuck.llm.recordings import record

TABLE = "\n".join(f"{t} | 0.{t:03} -1.5 | 2 (0.9{t % 10})" for t in range(100, 150))
PROMPT = f"- update-kl: 0.0213 nats (note).\n{TABLE}\n7 episodes."


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (("0.0213", "0.0213"), 0),
        (("0.0213", "0.0214"), 1),
        (("0.0213", "0.022"), 1),
        (("0.0213", "0.2"), None),
        (("0.0213", "0.0314"), None),
        (("(note)", "(ok)"), None),
        (("7 episodes", "8 episodes"), None),
        (("100 |", "101 |"), None),
        (("-1.5", "-1.6"), None),  # everywhere: more than rounding does
    ],
)
def test_what_counts_as_rounding(change: tuple[str, str], count: int | None) -> None:
    assert differing(PROMPT, PROMPT.replace(*change)) == count
    assert differing(PROMPT.replace(*change), PROMPT) == count


def test_short_texts_have_to_be_the_same() -> None:
    assert differing("a prompt, number 1.50", "a prompt, number 1.51") is None


def test_the_reply_is_found_said_and_gone_on_from(tmp_path: Path) -> None:
    from pydantic import BaseModel

    class Thing(BaseModel):
        number: float

    theirs = Recordings(tmp_path / "theirs")
    asked = Request.of(PROMPT.replace("0.0213", "0.0214"))
    theirs.save(record(asked, '{"number": "none"}', model="m", provenance="by hand", created="2026-01-01"))
    told: list[str] = []
    coach = Coach(LLMConfig(model="recorded"), Recordings([tmp_path / "mine", tmp_path / "theirs"]), say=told.append)
    with pytest.raises(NoRecordingError):  # the second turn, of which there is no reply yet
        coach.ask(PROMPT, Thing, check=lambda value: [], salvage=lambda raw: (None, []))
    assert any("rounding" in words for words in told)
    (waiting,) = coach.recordings.pending()
    assert waiting.messages[0] == asked.messages[0]
    assert len(waiting.messages) == 3
    assert coach.recordings.find(Request.of(PROMPT, sample=1)) is None
    assert coach.recordings.find(Request.of(PROMPT), "openai:gpt-4o") is None
