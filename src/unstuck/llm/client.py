"""Asking a live model: the only module that imports pydantic-ai, and only once a call is really made."""

from __future__ import annotations

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from pydantic_ai import exceptions as failures
from pydantic_ai.direct import model_request_sync
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from unstuck.errors import LLMError
from unstuck.llm.budget import Budget, estimate_cost
from unstuck.llm.config import LLMConfig
from unstuck.llm.recordings import LIVE, Recording, Recordings, Request, record

COMPATIBLE_KEY = "UNSTUCK_LLM_API_KEY"
"""Environment variable with the key for an OpenAI-compatible server. OpenAI's own key is not sent to others."""
_EXTRAS = ("anthropic", "google")
"""Providers with an extra of their own in this package."""


def build_model(config: LLMConfig) -> Model:
    """The pydantic-ai model of a configuration; no request is made.

    Raises:
        LLMError: if the model is not known, its provider is not installed, or its key is missing.
    """
    try:
        return _compatible_model(config) if config.base_url else infer_model(config.model)
    except ImportError as error:
        provider = config.model.partition(":")[0]
        extra = next((e for e in _EXTRAS if provider.startswith(e)), "all-llms")
        raise LLMError(
            f"{config.model}: the client for {provider} is not installed. Install it: pip install 'unstuck[{extra}]'"
        ) from error
    except Exception as error:
        message = _redacted(str(error)).rstrip(".?")
        if names := sorted(set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:API_KEY|TOKEN|BASE_URL)\b", message))):
            what = "key" if any(n.endswith(("_KEY", "_TOKEN")) for n in names) else "address"
            raise LLMError(
                f"{config.model}: the {what} is missing. Set the environment variable {' or '.join(names)}; "
                "or use --llm.model recorded, which needs none."
            ) from None
        hint = ". Name a model as provider:name, such as openai:gpt-4o" if "Unknown model" in message else ""
        raise LLMError(f"{config.model}: {message}{hint}.") from None


def _compatible_model(config: LLMConfig) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    url = config.base_url or ""
    if config.bare_model != config.model:
        return OpenAIChatModel(config.bare_model, provider=OpenAIProvider(base_url=url))
    key = os.environ.get(COMPATIBLE_KEY) or None
    provider = OpenAICompatibleProvider("compatible", base_url=url, api_key=key)
    # Local servers know the older name of the limit; some ignore the newer one and write without end.
    profile = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False)
    return OpenAIChatModel(config.bare_model, provider=provider, profile=profile)


class RecordingModel(WrapperModel):
    """A model around another, for one exchange: refuses a call that may pass the budget, and records the reply
    before anybody reads it."""

    def __init__(
        self, wrapped: Model, config: LLMConfig, recordings: Recordings, budget: Budget, asked: Request
    ) -> None:
        super().__init__(wrapped)
        self.config, self.recordings, self.budget = config, recordings, budget
        # Not read off the messages: pydantic-ai may alter special tokens in them on their way to some models.
        self.asked = asked
        self.recording: Recording | None = None

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        self.budget.check(self.asked)
        # Written before money is spent: shows that the folder can be, and remains to be exported if the call fails.
        self.recordings.save_pending(self.asked, self.config.model)
        started = time.monotonic()
        try:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        except BaseException as error:  # a cancelled call may be billed as well
            rejected = isinstance(error, failures.ModelHTTPError)
            self.budget.charge_failed(self.asked, may_be_billed=not rejected)
            raise
        latency_s = time.monotonic() - started
        self.recording = _recording(self.asked, response, self.config, model_settings, latency_s)
        self.recordings.save(self.recording)
        return response


def ask_live(model: Model, config: LLMConfig, recordings: Recordings, budget: Budget, request: Request) -> Recording:
    """Send a conversation to the model; its recorded reply.

    Raises:
        BudgetError: if the call could pass a cap; it is not made then.
        LLMError: if the service cannot be reached, refuses, or takes too long.
    """
    recorder = RecordingModel(model, config, recordings, budget, request)
    history: list[ModelMessage] = [
        ModelRequest.user_text_prompt(m.content) if m.role == "user" else ModelResponse([TextPart(m.content)])
        for m in request.messages
    ]
    try:
        _outside_any_loop(recorder, history, _settings(config))
    except LLMError:
        raise
    except Exception as error:
        _explain(error, config)
    if recorder.recording is None:
        raise LLMError(f"{config.model} gave no reply")
    return recorder.recording


def _outside_any_loop(model: Model, history: list[ModelMessage], settings: ModelSettings) -> None:
    """Run the request, in a thread of its own where this one is busy with an event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        model_request_sync(model, history, model_settings=settings)
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(model_request_sync, model, history, model_settings=settings).result()


def _settings(config: LLMConfig) -> ModelSettings:
    settings = ModelSettings(
        max_tokens=config.max_output_tokens, timeout=config.timeout_s, request_timeout=config.timeout_s
    )
    if config.temperature is not None:
        settings["temperature"] = config.temperature
    return settings


def _recording(
    request: Request, response: ModelResponse, config: LLMConfig, settings: ModelSettings | None, latency_s: float
) -> Recording:
    usage = response.usage
    known = usage.has_values()
    kept: dict[str, Any] = {k: v for k, v in (settings or {}).items() if k in ("max_tokens", "temperature")}
    if config.base_url:
        kept["base_url"] = _without_credentials(config.base_url)
    return record(
        request,
        response.text or "",
        model=config.model,
        provenance=LIVE,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        replied_by=response.model_name or "",
        settings=kept,
        tokens_in=usage.input_tokens if known else None,
        tokens_out=usage.output_tokens if known else None,
        cost_usd=_cost(response, config) if known else None,
        latency_s=round(latency_s, 3),
        finish_reason=response.finish_reason,
    )


def _cost(response: ModelResponse, config: LLMConfig) -> float | None:
    """By what the service reported (cached prompts are cheaper); else by the list price of the configured model."""
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError, AssertionError):
        usage = response.usage
        return estimate_cost(config.model, usage.input_tokens, usage.output_tokens, config.base_url)


def _explain(error: Exception, config: LLMConfig) -> NoReturn:
    """Say what a failed request means and what to do. The service's own words are quoted without any key."""
    where = f"{config.model} at {_without_credentials(config.base_url)}" if config.base_url else config.model
    said = _redacted(str(error))
    # Services may echo a key in their refusal; the original must not hang on ours then, to be printed with it.
    cause = error if said == str(error) else None
    raise LLMError(f"{where}: {_advice(error, config)} ({said[:500]})") from cause


def _advice(error: Exception, config: LLMConfig) -> str:
    match error:
        case failures.ModelTimeoutError() | failures.ModelRequestTimeout():
            return f"no reply within {config.timeout_s:g} s; try again, or raise timeout_s (--llm.timeout-s)"
        case failures.ModelConnectionError():
            return "cannot be reached; is the server running, and the address (base_url) and network right?"
        case failures.ModelAuthenticationError():
            key = COMPATIBLE_KEY if config.base_url and config.bare_model == config.model else _key_name(config)
            return f"the service refused the key; check the environment variable {key}"
        case failures.ModelNotFoundError():
            return "the service does not know this model; check its name (and the address)"
        case failures.ModelContextWindowExceededError():
            return "the prompt is too long for this model; give it fewer or shorter episodes"
        case failures.ModelQuotaExceededError():
            return "the account's quota or credit is used up"
        case failures.ModelRateLimitError():
            return "too many requests; wait a while and run again, what was replied is kept"
        case failures.ModelServerError() | failures.ModelUnavailableError():
            return "the service failed; run again later, what was replied is kept"
        case failures.ModelRequestRejectedError():
            return "the service rejected the request"
        case failures.ContentFilterError():
            return "the service's content filter withheld the reply"
    return f"the request failed: {type(error).__name__}"


def _key_name(config: LLMConfig) -> str:
    return f"{config.model.partition(':')[0].partition('-')[0].upper()}_API_KEY"


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _redacted(text: str) -> str:
    secrets = [v for k, v in os.environ.items() if k.endswith(("_API_KEY", "_TOKEN", "_SECRET")) and len(v) >= 6]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"\bsk-[\w*-]{6,}", "sk-***", text)
