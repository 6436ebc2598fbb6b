"""Asking a live model. It, `models` and `failures` alone import pydantic-ai, and only once a call is really made."""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic_ai.direct import model_request_sync
from pydantic_ai.exceptions import ModelHTTPError, ModelNotFoundError, ModelRequestRejectedError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from unstuck.errors import LLMError
from unstuck.llm.bodies import Body
from unstuck.llm.budget import Budget, estimate_request, estimate_tokens
from unstuck.llm.config import LLMConfig
from unstuck.llm.failures import explain, is_passing, redacted
from unstuck.llm.http import Exchange
from unstuck.llm.models import Live, build_model
from unstuck.llm.raw import RawStore
from unstuck.llm.recordings import LIVE, Recording, Recordings, record
from unstuck.llm.replies import holds_object
from unstuck.llm.requests import Message, Request

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
HEARTBEAT_S = 30.0
TOOL = "reply"
_OF_FORM = re.compile(r"response_format|json_schema|schema|output_format|structured|tool", re.IGNORECASE)
Say = Callable[[str], None]


class Question:
    """One conversation that is being asked, with all that is needed for it."""

    def __init__(
        self,
        live: Live,
        config: LLMConfig,
        recordings: Recordings,
        budget: Budget,
        request: Request,
        schema: dict[str, Any] | None = None,
        say: Say | None = None,
    ) -> None:
        self.live, self.config, self.recordings, self.budget, self.request = live, config, recordings, budget, request
        self.schema, self.say = schema, say or (lambda words: None)
        self.exchange = Exchange(request, budget, RawStore(recordings.folder))
        self.settings = _settings(config)

    def ask(self) -> Recording:
        """Send it to the model, more than once where the service is too busy for the moment; the recorded reply.

        Raises:
            BudgetError: if a call could pass a cap; it is not made then.
            LLMError: if the service cannot be reached, refuses, or takes too long.
        """
        self._check_pictures()
        self.budget.check(self.request)
        # Written before money is spent: shows that the folder can be, and remains to be exported if the call fails.
        self.recordings.save_pending(self.request, self.config.model)
        waited, pause = 0.0, FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            try:
                with _heartbeat(self.say, self.config.model):
                    response = self._send()
                return self._kept(response, time.monotonic() - begun)
            except LLMError:
                raise
            except KeyboardInterrupt:
                self.say(self._interrupted())
                raise
            except Exception as error:
                if self.exchange.stopped is not None:
                    raise self.exchange.stopped from None
                if (kept := self._unread(error, time.monotonic() - begun)) is not None:
                    return kept
                if self._without_schema(error) or self._with_v1(error):
                    continue
                if self._no_reply():
                    raise self._what_came(error) from None
                seconds = self._pause(error, pause)
                if seconds is None or waited + seconds > self.config.patience_s:
                    came = self.exchange.status is not None and not self.exchange.complete
                    explain(error, self.config, self._note(waited), came=came)
                self.say(f"{self.config.model}: busy or failing ({_short(error)}); trying again in {seconds:.0f} s")
                time.sleep(seconds)
                waited, pause = waited + seconds, min(2 * pause, LONGEST_PAUSE_S)

    def _check_pictures(self) -> None:
        """Before anything is sent: whether the model sees, as far as that is known.

        Raises:
            LLMError: if it does not, or a picture is missing.
        """
        profile: Any = self.live.model.profile
        if self.request.pictures and not profile.get("supports_image_input", True):
            raise LLMError(
                f"{self.config.model} does not see pictures, so nothing was asked. Leave them out (--llm.frames 0), or "
                "name a model that sees with --llm.model"
            )
        for digest in self.request.pictures:
            self.recordings.picture(digest)

    def _turn(self, message: Message) -> ModelMessage:
        if message.role == "assistant":
            return ModelResponse([TextPart(message.content)])
        if not message.pictures:
            return ModelRequest.user_text_prompt(message.content)
        shown = [BinaryContent(self.recordings.picture(p), media_type="image/png") for p in message.pictures]
        return ModelRequest([UserPromptPart([message.content, *shown])])

    def _interrupted(self) -> str:
        """What becomes of the call that was under way."""
        if not self.exchange.calls or self.live.http is None:
            return "stopped before an answer came; a call that was under way may be billed, and counts"
        call = self.exchange.calls[-1]
        cost = "an unknown price" if call.cost_usd is None else f"${call.cost_usd:.3f}"
        return (
            f"stopped while {self.config.model} was answering. The request goes on in the background, and its reply is "
            f"kept when it comes: the same command picks it up. Until then it counts with the most that it may take "
            f"({call.tokens:,} tokens, {cost})"
        )

    def _with_v1(self, error: Exception) -> bool:
        """Whether to try the address with /v1, which servers of this kind answer at, where none was given."""
        url = self.config.base_url or ""
        if not isinstance(error, ModelNotFoundError) or self.live.tried_v1 or urlsplit(url).path.strip("/"):
            return False
        again = build_model(self.config.model_copy(update={"base_url": url.rstrip("/") + "/v1"}))
        self.live.model, self.live.http, self.live.tried_v1 = again.model, again.http, True
        self.say(f"{url} does not answer; trying {url.rstrip('/')}/v1")
        return True

    def _no_reply(self) -> bool:
        """Whether the service answered, in good order as it thinks, with something that says nothing."""
        exchange = self.exchange
        return exchange.complete and exchange.status is not None and exchange.status < 300

    def _what_came(self, error: Exception) -> LLMError:
        body = self.exchange.body
        said = f" It says: {redacted(body.error)[:300]}." if body is not None and body.error else ""
        return LLMError(
            f"{self.config.model}: the service answered with something that is no reply.{said} It is kept in "
            f"{self._raw_path()}, and counts as paid. Is the address right (base_url)? Else run again, or name another "
            f"model with --llm.model ({type(error).__name__})"
        )

    def _note(self, waited: float) -> str:
        calls = len(self.exchange.calls)
        if waited:
            return f"It was tried {calls} times over {waited:.0f} s; --llm.patience-s sets for how long."
        lost = self.exchange.calls and self.exchange.status is not None and not self.exchange.complete
        return f"What came of the reply is kept in {self._raw_path()}." if lost else ""

    def _raw_path(self) -> str:
        return str(self.exchange.raw.folder / f"{self.exchange.calls[-1].id}.body")

    def _pause(self, error: Exception, pause: float) -> float | None:
        """Seconds until it is worth trying again; None if it is not."""
        headers = self.exchange.headers
        if not is_passing(error) or headers.get("x-should-retry") == "false":
            return None
        try:
            told = float(headers.get("retry-after", ""))
        except ValueError:
            told = 0.0
        # Spread out, so that runs side by side do not all come back at once.
        return max(told, pause * random.uniform(0.75, 1.25))

    def _without_schema(self, error: Exception) -> bool:
        """Whether to ask once more in words only, as the service takes no schema."""
        asked = self.live.plain is False and self._mode() != "text"
        rejected = isinstance(error, ModelRequestRejectedError | ModelHTTPError)
        about = _OF_FORM.search(str(error))
        if asked and rejected and about and not isinstance(error, ModelNotFoundError) and not is_passing(error):
            self.live.plain = True
            return True
        return False

    # ------------------------------------------------------------------------------------------------- sending

    def _send(self) -> ModelResponse:
        """One try. Where the model's requests do not go through our client, it is entered in the ledger here."""
        history = [self._turn(m) for m in self.request.messages]
        http = self.live.http
        if http is not None:
            http.exchange = self.exchange
            try:
                return _outside_any_loop(self.live.model, history, self.settings, self._parameters())
            finally:
                http.exchange = None
        call = self.exchange.begin("", self.request.text.encode("utf-8", "replace"))
        try:
            response = _outside_any_loop(self.live.model, history, self.settings, self._parameters())
        except BaseException as error:  # a cancelled call may be billed as well
            self.exchange.end(call, "refused" if isinstance(error, ModelHTTPError) else "lost", type(error).__name__)
            raise
        self.exchange.body, self.exchange.complete = _body_of(response), True
        self.exchange.end(call, "replied")
        return response

    def _mode(self) -> str:
        if self.schema is None or self.live.plain:
            return "text"
        if self.config.structured != "auto":
            return self.config.structured
        # Of a model on a server of the user's nothing is known, unless its name says whose protocol it speaks.
        known = self.live.http is not None and not (
            self.config.base_url and self.config.bare_model == self.config.model
        )
        profile: Any = self.live.model.profile
        return "schema" if known and profile.get("supports_json_schema_output") else "text"

    def _parameters(self) -> ModelRequestParameters:
        mode = self._mode()
        if mode == "schema":
            form = OutputObjectDefinition(json_schema=self.schema or {}, name=TOOL, strict=False)
            return ModelRequestParameters(output_mode="native", output_object=form)
        if mode == "tool":
            tool = ToolDefinition(
                name=TOOL, description="The reply, in its form.", parameters_json_schema=self.schema or {},
                kind="output", strict=False,
            )  # fmt: skip
            return ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=True)
        return ModelRequestParameters()

    # ------------------------------------------------------------------------------------------------ recording

    def _kept(self, response: ModelResponse, latency_s: float) -> Recording:
        body = _body_of(response)
        seen = self.exchange.body
        if seen is not None:
            body = replace(
                body, text=body.text or seen.text, finish=seen.finish or body.finish,
                tokens_in=body.tokens_in if body.tokens_in is not None else seen.tokens_in,
                tokens_out=body.tokens_out if body.tokens_out is not None else seen.tokens_out,
            )  # fmt: skip
            if seen.finish == "refusal":
                body = replace(body, text=seen.text)
        usage = response.usage
        known = usage.input_tokens > 0 and (usage.output_tokens > 0 or not body.text)
        return self._record(body, latency_s, self._cost(response) if known else self._estimated(body), ())

    def _unread(self, error: Exception, latency_s: float) -> Recording | None:
        """The reply in a body that the client library could not read, where there is one."""
        exchange = self.exchange
        body, status = exchange.body, exchange.status
        if body is None or body.error or status is None or status >= 300 or not (body.text or body.finish):
            return None
        if not exchange.complete and not holds_object(body.text):
            return None
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        notes = (redacted(f"the client library could not read the response ({words[:200]})"),)
        return self._record(body, latency_s, self._estimated(body), notes)

    def _estimated(self, body: Body) -> float | None:
        """What it cost, with an estimate of what the service does not tell."""
        tokens_in = estimate_request(self.request) if body.tokens_in is None else body.tokens_in
        tokens_out = estimate_tokens(body.text) if body.tokens_out is None else body.tokens_out
        return self.budget.cost(tokens_in, tokens_out)

    def _cost(self, response: ModelResponse) -> float | None:
        """By the stated prices; else by what the service reported (cached prompts are cheaper), else by the list."""
        usage = response.usage
        if not self.config.prices.known:
            try:
                return float(response.cost().total_price)
            except (LookupError, ValueError, AssertionError):
                pass
        return self.budget.cost(usage.input_tokens, usage.output_tokens)

    def _record(self, body: Body, latency_s: float, cost: float | None, notes: tuple[str, ...]) -> Recording:
        call = self.exchange.calls[-1]
        recording = record(
            self.request, body.text, model=self.config.model, provenance=LIVE,
            created=datetime.now(UTC).isoformat(timespec="seconds"), replied_by=body.model,
            settings=self._sent_settings(), tokens_in=body.tokens_in, tokens_out=body.tokens_out, cost_usd=cost,
            latency_s=round(latency_s, 3), finish_reason=body.finish, call=call.id,
            notes=(*notes, *self._not_taken()),
        )  # fmt: skip
        self.recordings.replace(recording)
        self.budget.settle(call, recording)
        return recording

    def _sent_settings(self) -> dict[str, Any]:
        """The settings that were really sent."""
        missing = {name for name, _ in self._missing()}
        kept: dict[str, Any] = {"max_tokens": self.config.max_output_tokens}
        for name in ("temperature", "seed", "effort"):
            value = getattr(self.config, name)
            if value is not None and name not in missing:
                kept[name] = value
        if self.config.base_url:
            kept["base_url"] = self.config.base_url
        if (mode := self._mode()) != "text":
            kept["structured"] = mode
        return kept

    def _missing(self) -> Iterator[tuple[str, Any]]:
        """What is set and was not sent, as far as the request shows."""
        sent = self.exchange.sent
        words = str(sent.keys()) + str(sent.get("generationConfig", ""))
        for name, signs in (
            ("temperature", ("temperature",)), ("seed", ("seed",)),
            ("effort", ("reasoning", "thinking", "effort", "output_config")),
        ):  # fmt: skip
            value = getattr(self.config, name)
            if value is not None and sent and not any(sign in words for sign in signs):
                yield name, value

    def _not_taken(self) -> tuple[str, ...]:
        return tuple(
            f"{name} {value} is set, but {self.config.model} does not take it; it was not sent"
            for name, value in self._missing()
        )


def _body_of(response: ModelResponse) -> Body:
    text = response.text or ""
    if not text:
        calls = [p for p in response.parts if isinstance(p, ToolCallPart)]
        text = calls[0].args_as_json_str() if calls else ""
    usage = response.usage
    # No request takes nothing: a count of zero is one that could not be read, and estimated.
    return Body(
        text=text.encode("utf-8", "replace").decode(), model=response.model_name or "",
        tokens_in=usage.input_tokens or None, tokens_out=usage.output_tokens or (None if text else 0),
        finish=response.finish_reason,
    )  # fmt: skip


def _settings(config: LLMConfig) -> ModelSettings:
    settings = ModelSettings(
        max_tokens=config.max_output_tokens, timeout=config.timeout_s, request_timeout=config.timeout_s, max_retries=0
    )
    if config.temperature is not None:
        settings["temperature"] = config.temperature
    if config.seed is not None:
        settings["seed"] = config.seed
    if config.effort is not None:
        settings["thinking"] = False if config.effort == "none" else config.effort
    if config.headers:
        settings["extra_headers"] = dict(config.headers)
    return settings


def _outside_any_loop(
    model: Model, history: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
) -> ModelResponse:
    """Run the request, in a thread of its own where this one is busy with an event loop, as in a notebook."""

    def run() -> ModelResponse:
        return model_request_sync(model, history, model_settings=settings, model_request_parameters=parameters)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(run).result()


@contextmanager
def _heartbeat(say: Say, model: str) -> Iterator[None]:
    """A word every half minute while a reply is awaited."""
    done, begun = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            say(f"still waiting for {model}: {time.monotonic() - begun:.0f} s")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _short(error: Exception) -> str:
    return redacted(" ".join(str(error).split()))[:120]
