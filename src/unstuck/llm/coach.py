"""The coach: one self-contained prompt in, one checked value out; recordings first, the live model after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from unstuck.errors import BudgetError, LLMError, NoRecordingError
from unstuck.llm.budget import Budget, Usage
from unstuck.llm.config import LLMConfig
from unstuck.llm.recordings import Recording, Recordings
from unstuck.llm.recovery import recover
from unstuck.llm.replies import Check, Reading, read_reply, retry_prompt
from unstuck.llm.requests import Request

if TYPE_CHECKING:
    from pydantic_ai.models import Model

    from unstuck.llm.models import Live

T = TypeVar("T", bound=BaseModel)
Salvage = Callable[[Any], tuple[T | None, list[str]]]
"""From a reply's JSON, valid or not: a value without the bad parts, or None; and a sentence on each part dropped."""
Say = Callable[[str], None]
FINAL = ("refusal", "content_filter")
"""Ends of a reply that sending it back does not change."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A checked value, and where it comes from."""

    value: T
    exchanges: tuple[Recording, ...]
    """The first question, then one for each time that the reply was sent back."""
    dropped: tuple[str, ...] = ()
    """What was not valid even after it was sent back, in words; empty if nothing was dropped."""
    usage: Usage = field(default_factory=Usage)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(r.key for r in self.exchanges)

    @property
    def models(self) -> tuple[str, ...]:
        """Who replied, each once."""
        return tuple(dict.fromkeys(r.model for r in self.exchanges))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not as it should have been on the way, in words, each once."""
        return tuple(dict.fromkeys(n for r in self.exchanges for n in r.notes))


@dataclass
class _Talk(Generic[T]):
    """A conversation so far."""

    exchanges: list[Recording] = field(default_factory=list)
    readings: list[Reading[T]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    stopped: LLMError | None = None
    """Why it was not gone on with."""

    @property
    def all_replayed(self) -> bool:
        return self.usage.calls == 0 and bool(self.exchanges)


class Coach:
    """Asks a language model, or its recordings.

    A recorded reply answers at no cost and without a key; pydantic-ai is imported and the model set up only when
    there is none. `model` puts any pydantic-ai model in place of the one that the configuration names; it needs a
    model string in the configuration all the same, for that is what recordings are kept under. `say` is told what a
    person who waits would want to know.

    Raises:
        LLMError: if no language model is configured.
    """

    def __init__(
        self, config: LLMConfig, recordings: Recordings, *, model: Model | None = None, say: Say | None = None
    ) -> None:
        if config.is_none:
            raise LLMError(
                "no language model is configured: name one, such as --llm.model openai:gpt-4o, "
                "or use --llm.model recorded to replay recorded replies"
            )
        self.config = config
        self.recordings = recordings
        self.budget = Budget(config, recordings)
        self._given, self._say = model, say or (lambda words: None)
        self._live: Live | None = None

    def ask(
        self,
        prompt: str | Request,
        output_type: type[T],
        *,
        sample: int = 0,
        check: Check[T] | None = None,
        salvage: Salvage[T] | None = None,
        schema: dict[str, Any] | None = None,
    ) -> Answer[T]:
        """Send a prompt, and read the JSON object in the reply as `output_type`.

        Args:
            prompt: says all that there is to say, the format of the reply included; or a whole conversation, that
                ends with what is asked now.
            sample: distinguishes several replies to the same prompt; a conversation has its own.
            check: the value's problems in words; empty if it is fine.
            salvage: see `Salvage`; tried, last reply first, once the reply has been sent back `retries` times.
            schema: JSON schema of the reply, for services that can be held to one.

        Raises:
            NoRecordingError: in recorded mode, if the prompt has no reply.
            BudgetError: if a call could pass a cap, and no reply so far can be used.
            LLMError: if the model cannot be asked, or no reply can be used; says why.
        """
        request = Request.of(prompt, sample) if isinstance(prompt, str) else prompt
        for fresh in (self.config.fresh, True):
            talk = self._converse(request, output_type, check, schema, fresh)
            found = _usable(talk, check, salvage)
            if found is not None:
                return found
            if fresh or self.config.is_recorded or not talk.all_replayed or isinstance(talk.stopped, BudgetError):
                break
            self._say(f"the recorded reply of {talk.exchanges[-1].model} cannot be used; asking again")
        raise _unusable(talk, self.config)

    def _converse(
        self, request: Request, output_type: type[T], check: Check[T] | None, schema: dict[str, Any] | None, fresh: bool
    ) -> _Talk[T]:
        talk: _Talk[T] = _Talk()
        for _ in range(self.config.retries + 1):
            try:
                recording, replayed = self._exchange(request, schema, fresh)
            except (NoRecordingError, BudgetError) as error:
                if not talk.exchanges:
                    raise
                talk.stopped = error  # what the first reply has that is valid can still be used
                return talk
            except LLMError as error:
                if not talk.exchanges or not any(r.raw is not None for r in talk.readings):
                    raise
                talk.stopped = error
                return talk
            talk.exchanges.append(recording)
            talk.usage += Usage.of(recording, replayed=replayed)
            reading = read_reply(recording.reply, output_type, check, finish=recording.finish_reason)
            talk.readings.append(reading)
            if reading.value is not None or recording.finish_reason in FINAL:
                return talk
            request = recording.request.then(recording.reply, retry_prompt(reading.problems))
        return talk

    def _exchange(self, request: Request, schema: dict[str, Any] | None, fresh: bool) -> tuple[Recording, bool]:
        """The reply to a conversation, and whether it was there already."""
        config = self.config
        if config.is_recorded:
            found = self.recordings.find(request)
        elif not fresh:
            found = self.recordings.find(request, config.model, config.base_url, config.max_output_tokens)
            found = found or recover(request, self.budget, self.recordings, self._say)
        else:
            found = None
        if found is not None:
            if found.key != request.key:
                self._say(
                    f"the recorded reply {found.key} answers a prompt that differs from this one by rounding only"
                )
            return found, True
        if config.is_recorded:
            raise self._no_recording(request)
        from unstuck.llm.client import Question
        from unstuck.llm.models import Live, build_model

        if self._live is None:
            self._live = Live(self._given) if self._given is not None else build_model(config)
        question = Question(self._live, config, self.recordings, self.budget, request, schema, self._say)
        return question.ask(), False

    def _no_recording(self, request: Request) -> NoRecordingError:
        try:
            self.recordings.save_pending(request)
        except LLMError as error:
            note = f" (It cannot be noted down for export: {error})"
        else:
            note = ""
        opening = " ".join(request.messages[0].content.split())[:80]
        turns = len(request.messages)
        which = f"turn {turns // 2 + 1} of the conversation" if turns > 1 else "the prompt"
        return NoRecordingError(
            f"there is no recorded reply for {which} that begins “{opening}…” (key {request.key}, "
            f"sample {request.sample}). Looked in: {', '.join(str(f) for f in self.recordings.folders)}. "
            "To get one: `unstuck prompt RUN --export prompts.jsonl`, have it answered, then "
            f"`unstuck recordings import RUN replies.jsonl`; or name a live model with --llm.model.{note}"
        )


def _usable(talk: _Talk[T], check: Check[T] | None, salvage: Salvage[T] | None) -> Answer[T] | None:
    """A whole reply, else what is valid of the last one of which anything is."""
    exchanges = tuple(talk.exchanges)
    if talk.readings[-1].value is not None:
        return Answer(talk.readings[-1].value, exchanges, (), talk.usage)
    for reading in reversed(talk.readings):
        value, dropped = salvage(reading.raw) if salvage and reading.raw is not None else (None, [])
        if value is not None and not (check and check(value)):
            return Answer(value, exchanges, tuple(dropped), talk.usage)
    return None


_HELP = {
    "length": "Allow a longer reply with --llm.max-output-tokens: that is another question, and asked anew.",
    "refusal": "Name another model with --llm.model, or ask again with --llm.fresh.",
    "content_filter": "Name another model with --llm.model, or ask again with --llm.fresh.",
    "tool_call": "Ask for the reply in words with --llm.structured text --llm.fresh.",
}


def _unusable(talk: _Talk[Any], config: LLMConfig) -> LLMError:
    last = talk.exchanges[-1]
    problems = "\n".join(f"- {p}" for p in talk.readings[-1].problems)
    keys = ", ".join(r.key for r in talk.exchanges)
    said = "\n".join(_next_steps(talk, last, config))
    message = f"{last.model} gave no usable reply (recordings {keys}):\n{problems}\n{said}"
    if talk.stopped is None:
        return LLMError(message)
    return type(talk.stopped)(f"{message}\nIt was not asked again: {talk.stopped}")


def _next_steps(talk: _Talk[Any], last: Recording, config: LLMConfig) -> Iterator[str]:
    yield from (n for n in [_HELP.get(last.finish_reason or "")] if n)
    if config.is_recorded:
        yield (
            f"Read it with `unstuck recordings show RUN {last.key}`, set it aside with "
            f"`unstuck recordings discard RUN {talk.exchanges[0].key}`, and import another, or name a live model."
        )
    else:
        yield f"The same command asks again. `unstuck recordings show RUN {last.key}` shows what was replied."
