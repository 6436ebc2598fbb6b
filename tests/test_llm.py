"""The language model layer, with a scripted model at the pydantic-ai boundary. No test can reach a network."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import models
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from unstuck.errors import BudgetError, LLMError, NoRecordingError
from unstuck.llm import (
    Coach,
    LLMConfig,
    Recordings,
    Request,
    Usage,
    estimate_cost,
    estimate_tokens,
    key_for,
)
from unstuck.llm.recordings import record
from unstuck.llm.replies import read_reply

MODEL = "openai:gpt-4o-mini"
PROMPT = "Say which number it is, as {…}."


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: float = Field(ge=0, le=10, allow_inf_nan=False)
    words: list[str] = []


VALID = '{"number": 3, "words": ["a"]}'


@pytest.fixture(autouse=True)
def _no_real_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with models.override_allow_model_requests(False):
        yield


class Script:
    """Replies with one text after the other, and keeps what it was asked."""

    def __init__(self, *replies: str, tokens: tuple[int, int] = (100, 10)) -> None:
        self.replies, self.tokens = list(replies), tokens
        self.asked: list[list[str]] = []

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turns = [p.content for m in messages for p in m.parts]  # type: ignore[union-attr]
        self.asked.append([str(t) for t in turns])
        if not self.replies:
            raise AssertionError("the model was called once too often")
        usage = RequestUsage(input_tokens=self.tokens[0], output_tokens=self.tokens[1])
        return ModelResponse([TextPart(self.replies.pop(0))], usage=usage)


def coach(folder: Path, script: Script | None = None, **settings: Any) -> Coach:
    config = LLMConfig(**{"model": MODEL, **settings})
    return Coach(config, Recordings(folder), model=FunctionModel(script or Script()))


def small(thing: Thing) -> list[str]:
    return [] if thing.number < 5 else [f"number: {thing.number:g} is not below 5"]


def keep_words(raw: Any) -> tuple[Thing | None, list[str]]:
    return Thing(number=0, words=raw["words"]), [f"number {raw['number']} was dropped"]


def test_valid_reply_is_recorded_with_all_that_was_asked_and_spent(tmp_path: Path) -> None:
    script = Script(VALID)
    answer = coach(tmp_path, script, temperature=0.5).ask(PROMPT, Thing)
    assert answer.value == Thing(number=3, words=["a"])
    assert script.asked == [[PROMPT]]
    [recording] = Recordings(tmp_path).all()
    assert answer.keys == (recording.key,) == (key_for(PROMPT),)
    assert (recording.reply, recording.model, recording.provenance) == (VALID, MODEL, "api")
    assert (recording.tokens_in, recording.tokens_out) == (100, 10)
    assert recording.cost_usd == pytest.approx(100 * 0.15e-6 + 10 * 0.6e-6)
    assert recording.settings == {"max_tokens": 16_000, "temperature": 0.5}
    assert answer.usage == Usage(1, 0, 100, 10, recording.cost_usd, recording.cost_usd)
    assert Recordings(tmp_path).pending() == []
    assert not list(tmp_path.rglob("*.partial"))


def test_reply_is_on_disk_before_it_is_parsed(tmp_path: Path) -> None:
    seen = []

    def look(thing: Thing) -> list[str]:
        seen.append(len(list(tmp_path.glob("*.json"))))
        return []

    coach(tmp_path, Script(VALID)).ask(PROMPT, Thing, check=look)
    assert seen == [1]


def test_invalid_reply_is_sent_back_with_the_reason(tmp_path: Path) -> None:
    script = Script('{"number": 99}', '{"number": 7}', VALID)
    answer = coach(tmp_path, script, retries=2).ask(PROMPT, Thing, check=small)
    assert answer.value.number == 3
    assert [len(turns) for turns in script.asked] == [1, 3, 5]
    assert "number: Input should be less than or equal to 10 (you gave 99)" in script.asked[1][2]
    assert "number: 7 is not below 5" in script.asked[2][4]
    assert len(set(answer.keys)) == len(Recordings(tmp_path).all()) == 3
    assert answer.usage.calls == 3
    assert answer.usage.tokens_in == 300


def test_what_stays_invalid_is_salvaged_and_counted(tmp_path: Path) -> None:
    script = Script('{"number": 99, "words": ["first"]}', '{"number": -1, "words": ["second"]}')
    answer = coach(tmp_path, script).ask(PROMPT, Thing, salvage=keep_words)
    assert answer.value.words == ["second"]
    assert answer.dropped == ("number -1 was dropped",)


def test_salvage_falls_back_to_an_earlier_reply_and_is_checked(tmp_path: Path) -> None:
    script = Script('{"number": 99, "words": ["first"]}', "Sorry, I cannot do that.")
    answer = coach(tmp_path, script).ask(PROMPT, Thing, salvage=keep_words)
    assert answer.value.words == ["first"]
    with pytest.raises(LLMError, match="less than or equal to 10"):
        coach(tmp_path / "b", Script('{"number": 99}'), retries=0).ask(
            PROMPT, Thing, check=small, salvage=lambda raw: (Thing(number=8), [])
        )


def test_nothing_usable_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(LLMError, match="no JSON object") as caught:
        coach(tmp_path, Script("No.", "No!")).ask(PROMPT, Thing, salvage=keep_words)
    assert key_for(PROMPT) in str(caught.value)
    assert len(Recordings(tmp_path).all()) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no JSON object"),
        ("number: 3", "no JSON object"),
        ('{"number": NaN}', "NaN is not a number"),
        ('{"number": -Infinity}', "Infinity is not a number"),
        ('{"number": 1e999}', "too large"),
        ('{"number": 3, "number": 4}', "given twice"),
        ('{"number": 3, "extra": {"number": 3}', "not complete"),
        ('{"words": []}', "number: Field required"),
        ('{"number": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ("[3]", "no JSON object"),
    ],
)
def test_bad_replies_are_refused_in_words(text: str, problem: str) -> None:
    reading = read_reply(text, Thing)
    assert reading.value is None
    assert problem in "\n".join(reading.problems)


@pytest.mark.parametrize(
    "text",
    [
        VALID,
        f"```json\n{VALID}\n```",
        f'First I look at {{x > 0}} and {{"variable": "x"}}.\n\n```\n{VALID}\n```\nIs "that" fine?',
        f"  \ufeff{VALID} {{}}",
    ],
)
def test_prose_and_fences_around_the_object_do_not_matter(text: str) -> None:
    assert read_reply(text, Thing).value == Thing(number=3, words=["a"])


def test_braces_in_strings_do_not_end_the_object() -> None:
    assert read_reply('{"number": 1, "words": ["}", "\\"}{"]}', Thing).value == Thing(number=1, words=["}", '"}{'])


def test_a_number_that_is_none_leaves_the_rest_to_be_salvaged() -> None:
    reading = read_reply('{"number": NaN, "words": ["a"]}', Thing)
    assert reading.raw["words"] == ["a"]
    with pytest.raises(ValueError):
        Thing.model_validate(reading.raw)


def test_a_reply_that_was_cut_off_is_said_to_be() -> None:
    assert "cut off" in read_reply('{"number": 3, "wor', Thing, cut_off=True).problems[0]


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    reading = read_reply(text, Thing)
    assert (reading.value is None) == bool(reading.problems)


def test_rerun_replays_without_calling_the_model(tmp_path: Path) -> None:
    first = coach(tmp_path, Script('{"number": 99}', VALID)).ask(PROMPT, Thing)
    again = coach(tmp_path, Script(), max_calls=0).ask(PROMPT, Thing)  # an empty script fails if it is called
    assert again.value == first.value
    assert again.keys == first.keys
    assert (again.usage.calls, again.usage.replayed, again.usage.spent_usd) == (0, 2, 0.0)
    assert again.usage.cost_usd == first.usage.cost_usd


def test_rerun_needs_no_key(tmp_path: Path) -> None:
    coach(tmp_path, Script(VALID)).ask(PROMPT, Thing)
    assert Coach(LLMConfig(model=MODEL), Recordings(tmp_path)).ask(PROMPT, Thing).value.number == 3


def test_missing_key_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(LLMError, match="OPENAI_API_KEY"):
        Coach(LLMConfig(model=MODEL), Recordings(tmp_path)).ask(PROMPT, Thing)
    assert Recordings(tmp_path).all() == []


@pytest.mark.parametrize(
    ("model", "said"),
    [("", "no language model"), ("gpt-4o", "provider:name"), ("nonesuch:model", "Unknown model")],
)
def test_unknown_models_get_a_clear_error(tmp_path: Path, model: str, said: str) -> None:
    with pytest.raises(LLMError, match=said):
        Coach(LLMConfig(model=model), Recordings(tmp_path)).ask(PROMPT, Thing)


def test_missing_provider_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*how: Any) -> None:
        raise ImportError("no such package")

    monkeypatch.setattr("unstuck.llm.models.infer_model", missing)
    with pytest.raises(LLMError, match=r"pip install 'unstuck\[anthropic\]'"):
        Coach(LLMConfig(model="anthropic:claude-sonnet-4-5"), Recordings(tmp_path)).ask(PROMPT, Thing)


def test_replaying_does_not_load_pydantic_ai(tmp_path: Path) -> None:
    Recordings(tmp_path).save(
        record(Request.of("p"), '{"number": 3}', model="m", provenance="relayed", created="2025-01-02")
    )
    program = (
        "import sys; from pydantic import create_model; from unstuck.llm import Coach, LLMConfig, Recordings\n"
        "coach = Coach(LLMConfig(model='recorded'), Recordings(sys.argv[1]))\n"
        "print(coach.ask('p', create_model('M', number=(int, ...))).value.number, 'pydantic_ai' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr) == ("3 False", "")


def test_another_sample_is_another_exchange(tmp_path: Path) -> None:
    it = coach(tmp_path, Script(VALID, '{"number": 4}'))
    assert [it.ask(PROMPT, Thing, sample=i).value.number for i in (0, 1)] == [3, 4]


def test_a_live_model_is_not_answered_by_another_models_recording(tmp_path: Path) -> None:
    coach(tmp_path, Script('{"number": 1}')).ask(PROMPT, Thing)
    other = coach(tmp_path, Script('{"number": 2}'), model="openai:gpt-4o").ask(PROMPT, Thing)
    assert other.value.number == 2
    assert coach(tmp_path).ask(PROMPT, Thing).value.number == 1
    assert len(Recordings(tmp_path).all()) == 2


def test_recorded_mode_takes_any_models_reply_from_any_folder(tmp_path: Path) -> None:
    request = Request.of(PROMPT)
    shipped = Recordings(tmp_path / "shipped")
    shipped.save(record(request, VALID, model="m", provenance="relayed", created="2025-01-02"))
    shipped.save(record(request, "{}", model="n", provenance="relayed", created="2025-01-03"))
    both = Recordings([tmp_path / "run", tmp_path / "shipped"])
    answer = Coach(LLMConfig(model="recorded"), both).ask(PROMPT, Thing)
    assert answer.value.number == 3
    assert answer.models == ("m",)
    assert not (tmp_path / "run").exists()


def test_recorded_mode_without_a_recording_says_which_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(NoRecordingError) as caught:
        Coach(LLMConfig(model="recorded"), Recordings([tmp_path / "a", tmp_path / "b"])).ask(PROMPT, Thing)
    for part in (key_for(PROMPT), str(tmp_path / "a"), str(tmp_path / "b"), "--export", "import", PROMPT):
        assert part in str(caught.value)
    assert Recordings(tmp_path / "a").pending() == [Request.of(PROMPT)]


def test_recorded_mode_without_the_second_turn_uses_what_is_valid_of_the_first(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    reply = '{"number": 99, "words": ["a"]}'
    recordings.save(record(Request.of(PROMPT), reply, model="m", provenance="relayed", created="2025-01-02"))
    it = Coach(LLMConfig(model="recorded"), recordings)
    assert it.ask(PROMPT, Thing, salvage=keep_words).value.words == ["a"]
    with pytest.raises(NoRecordingError, match="less than or equal to 10"):
        it.ask(PROMPT, Thing)
    [pending] = recordings.pending()
    assert [m.role for m in pending.messages] == ["user", "assistant", "user"]


def test_key_depends_on_the_conversation_and_the_sample_only() -> None:
    request = Request.of("p")
    assert key_for("p") == key_for(request.messages) == request.key
    later = request.then("reply", "again")
    assert len({request.key, key_for("p", 1), key_for("q"), later.key}) == 4
    assert key_for("p") == "8bc7b34c44ae0f1b5d1a", "the key of a stored recording must never change"


def test_damaged_recordings_name_the_file(tmp_path: Path) -> None:
    coach(tmp_path, Script(VALID)).ask(PROMPT, Thing)
    [path] = tmp_path.glob("*.json")
    good = path.read_text()
    data = json.loads(good)
    for text, said in [
        (good[:50], "damaged"),
        ("[]", "damaged"),
        (good.replace("Say which", "Tell me which"), "does not belong"),
        (json.dumps({**data, "sample": -1}), "sample"),
        (json.dumps({**data, "format": 99}), "update"),
    ]:
        path.write_text(text)
        with pytest.raises(LLMError, match=said) as caught:
            coach(tmp_path).ask(PROMPT, Thing)
        assert str(path) in str(caught.value)


def test_a_recording_is_never_overwritten_with_another_reply(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    first = record(Request.of(PROMPT), "one", model="m", provenance="relayed", created="2025-01-02")
    recordings.save(first)
    recordings.save(first)
    with pytest.raises(LLMError, match="never overwritten"):
        recordings.save(first.model_copy(update={"reply": "two"}))
    assert recordings.find(Request.of(PROMPT)) == first


def test_unwritable_folder_is_found_out_before_money_is_spent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    script = Script(VALID)
    with pytest.raises(LLMError, match="cannot write"):
        coach(tmp_path / "file" / "recordings", script).ask(PROMPT, Thing)
    assert script.asked == []


@pytest.mark.parametrize(
    ("caps", "flag"),
    [
        ({"max_calls": 1}, "--llm.max-calls"),
        ({"max_tokens": 1110, "max_output_tokens": 1000}, "--llm.max-tokens"),
        ({"max_cost_usd": 0.00061, "max_output_tokens": 1000}, "--llm.max-cost-usd"),
    ],
)
def test_budget_stops_before_the_call_and_outlives_a_restart(tmp_path: Path, caps: dict[str, Any], flag: str) -> None:
    coach(tmp_path, Script(VALID), **caps).ask(PROMPT, Thing)
    script = Script(VALID)
    restarted = coach(tmp_path, script, **caps)
    with pytest.raises(BudgetError) as caught:
        restarted.ask("another prompt", Thing)
    assert script.asked == []
    assert flag in str(caught.value)
    assert "1 call, 110 tokens, $0.0000" in str(caught.value)
    assert restarted.ask(PROMPT, Thing).value.number == 3


def test_budget_that_ends_between_the_turns_keeps_what_is_valid(tmp_path: Path) -> None:
    script = Script('{"number": 99, "words": ["a"]}')
    assert coach(tmp_path, script, max_calls=1).ask(PROMPT, Thing, salvage=keep_words).value.words == ["a"]
    with pytest.raises(BudgetError, match="no usable reply"):
        coach(tmp_path, Script(), max_calls=1).ask(PROMPT, Thing)


def test_relayed_replies_do_not_count_as_spent(tmp_path: Path) -> None:
    Recordings(tmp_path).save(
        record(Request.of("x"), VALID, model=MODEL, provenance="relayed", created="2025-01-02", cost_usd=9.0)
    )
    assert coach(tmp_path).budget.spent().calls == 0


def test_unknown_price_is_said_and_the_other_caps_hold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    it = coach(tmp_path, Script(VALID), model="openai:some-local-model", max_calls=1)
    answer = it.ask(PROMPT, Thing)
    assert answer.usage.cost_usd is None
    assert "price of openai:some-local-model is not known" in caplog.text
    with pytest.raises(BudgetError, match="without 1 of unknown price"):
        it.ask("another", Thing)


def test_failed_calls_count(tmp_path: Path) -> None:
    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise TimeoutError("too slow")

    it = Coach(LLMConfig(model=MODEL, max_calls=1), Recordings(tmp_path), model=FunctionModel(fail))
    with pytest.raises(LLMError, match="TimeoutError"):
        it.ask(PROMPT, Thing)
    with pytest.raises(BudgetError):
        it.ask(PROMPT, Thing)
    assert Recordings(tmp_path).pending() == [Request.of(PROMPT)]


def test_keys_are_not_shown_in_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "very-secret-value")

    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise RuntimeError("refused: very-secret-value and sk-abcdef123456")

    it = Coach(LLMConfig(model=MODEL), Recordings(tmp_path), model=FunctionModel(fail))
    with pytest.raises(LLMError) as caught:
        it.ask(PROMPT, Thing)
    assert "secret" not in str(caught.value)
    assert "abcdef" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> float:
        return coach(tmp_path, Script(VALID)).ask(PROMPT, Thing).value.number

    assert asyncio.run(notebook()) == 3


def test_estimates() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("The cart moves left.") == 5
    assert estimate_tokens("-0.12345") == 5
    assert estimate_cost(MODEL, 1_000_000, 1_000_000) == pytest.approx(0.75)
    assert estimate_cost("anthropic:claude-sonnet-4-5", 1000, 0) == pytest.approx(0.003)
    assert estimate_cost("llama3.2:1b", 1000, 1000, "http://localhost:11434/v1") is None
    assert estimate_cost(MODEL, 1_000_000, 0, "http://localhost:1/v1") == pytest.approx(0.15)


def test_usage_adds_up_and_unknown_cost_stays_unknown() -> None:
    a, b = Usage(1, 0, 10, 5, 0.5, 0.5), Usage(0, 1, 1, 1, 0.25, 0.0)
    assert a + b == Usage(1, 1, 11, 6, 0.75, 0.5)
    assert (a + Usage(cost_usd=None)).cost_usd is None
