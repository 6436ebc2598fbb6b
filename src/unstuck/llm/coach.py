"""The coach: one self-contained prompt in, one checked value out; recordings first, the live model after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from unstuck.errors import BudgetError, LLMError, NoRecordingError
from unstuck.llm.budget import Budget, Usage
from unstuck.llm.config import LLMConfig
from unstuck.llm.recordings import Recording, Recordings, Request
from unstuck.llm.replies import Check, Reading, read_reply, retry_prompt

if TYPE_CHECKING:
    from pydantic_ai.models import Model

T = TypeVar("T", bound=BaseModel)
Salvage = Callable[[Any], tuple[T | None, list[str]]]
"""From a reply's JSON, valid or not: a value without the bad parts, or None; and a sentence on each part dropped."""


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


class Coach:
    """Asks a language model, or its recordings.

    A recorded reply answers at no cost and without a key; pydantic-ai is imported and the model set up only when
    there is none. `model` puts any pydantic-ai model in place of the one that the configuration names; it needs a
    model string in the configuration all the same, for that is what recordings are kept under.

    Raises:
        LLMError: if no language model is configured.
    """

    def __init__(self, config: LLMConfig, recordings: Recordings, *, model: Model | None = None) -> None:
        if config.is_none:
            raise LLMError(
                "no language model is configured: name one, such as --llm.model openai:gpt-4o, "
                "or use --llm.model recorded to replay recorded replies"
            )
        self.config = config
        self.recordings = recordings
        self.budget = Budget(config, recordings)
        self._given = model

    @cached_property
    def _live(self) -> Model:
        from unstuck.llm.client import build_model

        return self._given if self._given is not None else build_model(self.config)

    def ask(
        self,
        prompt: str,
        output_type: type[T],
        *,
        sample: int = 0,
        check: Check[T] | None = None,
        salvage: Salvage[T] | None = None,
    ) -> Answer[T]:
        """Send a prompt, and read the JSON object in the reply as `output_type`.

        Args:
            prompt: says all that there is to say, the format of the reply included.
            sample: distinguishes several replies to the same prompt.
            check: the value's problems in words; empty if it is fine.
            salvage: see `Salvage`; tried, last reply first, once the reply has been sent back `retries` times.

        Raises:
            NoRecordingError: in recorded mode, if the prompt has no reply.
            BudgetError: if a call could pass a cap, and no reply so far can be used.
            LLMError: if the model cannot be asked, or no reply can be used; says why.
        """
        request = Request.of(prompt, sample)
        exchanges: list[Recording] = []
        readings: list[Reading[T]] = []
        usage = Usage()
        stopped: LLMError | None = None
        for _ in range(self.config.retries + 1):
            try:
                recording, replayed = self._exchange(request)
            except (NoRecordingError, BudgetError) as error:
                if not exchanges:
                    raise
                stopped = error  # what the first reply has that is valid can still be used
                break
            exchanges.append(recording)
            usage += Usage.of(recording, replayed=replayed)
            cut_off = recording.finish_reason == "length"
            reading = read_reply(recording.reply, output_type, check, cut_off=cut_off)
            if reading.value is not None:
                return Answer(reading.value, tuple(exchanges), (), usage)
            readings.append(reading)
            request = request.then(recording.reply, retry_prompt(reading.problems))
        for reading in reversed(readings):
            value, dropped = salvage(reading.raw) if salvage and reading.raw is not None else (None, [])
            if value is not None and not (check and check(value)):
                return Answer(value, tuple(exchanges), tuple(dropped), usage)
        raise _unusable(exchanges, readings[-1], stopped)

    def _exchange(self, request: Request) -> tuple[Recording, bool]:
        """The reply to a conversation, and whether it was there already."""
        found = self.recordings.find(request, None if self.config.is_recorded else self.config.model)
        if found is not None:
            return found, True
        if self.config.is_recorded:
            raise self._no_recording(request)
        from unstuck.llm.client import ask_live

        return ask_live(self._live, self.config, self.recordings, self.budget, request), False

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


def _unusable(exchanges: list[Recording], last: Reading[Any], stopped: LLMError | None) -> LLMError:
    problems = "\n".join(f"- {p}" for p in last.problems)
    keys = ", ".join(r.key for r in exchanges)
    message = f"{exchanges[-1].model} gave no usable reply (recordings {keys}):\n{problems}"
    if stopped is None:
        return LLMError(message)
    return type(stopped)(f"{message}\nIt was not asked again: {stopped}")
