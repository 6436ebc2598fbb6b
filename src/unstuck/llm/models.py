"""Which live model a configuration names, and how it is reached."""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.models import Model, infer_model
from pydantic_ai.providers import infer_provider, infer_provider_class

from unstuck.errors import LLMError
from unstuck.llm.config import PROTOCOLS, LLMConfig
from unstuck.llm.failures import COMPATIBLE_KEY, redacted
from unstuck.llm.http import KeepingClient

_EXTRAS = ("anthropic", "google")
"""Providers with an extra of their own in this package."""


@dataclass
class Live:
    """A model that can be asked, and the client through which its requests go; None where it has one of its own."""

    model: Model
    http: KeepingClient | None = None
    plain: bool = field(default=False)
    """Whether the service turned structured output down, so that it is asked for in words only."""
    tried_v1: bool = False


def build_model(config: LLMConfig) -> Live:
    """The pydantic-ai model of a configuration; no request is made.

    Raises:
        LLMError: if the model is not known, its provider is not installed, or its key is missing.
    """
    http = KeepingClient(limit_s=max(600.0, 2 * config.timeout_s))
    try:
        model = _at_address(config, http) if config.base_url else _by_name(config, http)
    except LLMError:
        raise
    except ImportError as error:
        provider = config.model.partition(":")[0]
        extra = next((e for e in _EXTRAS if provider.startswith(e)), "all-llms")
        raise LLMError(
            f"{config.model}: the client for {provider} is not installed. Install it: pip install 'unstuck[{extra}]'"
        ) from error
    except Exception as error:
        message = redacted(str(error)).rstrip(".?")
        if names := sorted(set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:API_KEY|TOKEN|BASE_URL)\b", message))):
            what = "key" if any(n.endswith(("_KEY", "_TOKEN")) for n in names) else "address"
            raise LLMError(
                f"{config.model}: the {what} is missing. Set the environment variable {' or '.join(names)}; "
                "or use --llm.model recorded, which needs none."
            ) from None
        hint = ". Name a model as provider:name, such as openai:gpt-4o" if "Unknown model" in message else ""
        raise LLMError(f"{config.model}: {message}{hint}.") from None
    return Live(model, http if _goes_through(model, http) else None)


def _by_name(config: LLMConfig, http: KeepingClient) -> Model:
    def provider(name: str) -> Any:
        if name.startswith("gateway/"):
            return infer_provider(name)
        kind: Any = infer_provider_class(name)
        takes = "http_client" in inspect.signature(kind.__init__).parameters
        return kind(http_client=http) if takes else kind()

    name, colon, _ = config.model.partition(":")
    if not colon or not (name.startswith("gateway/") or _is_provider(name)):
        return infer_model(config.model)  # says what is wrong with it
    return infer_model(config.model, provider)


def _goes_through(model: Model, http: KeepingClient) -> bool:
    """Whether the model's requests are sent by our client; the clients of some services are of another kind."""
    client = getattr(model, "client", None)
    return getattr(client, "_client", None) is http


def _at_address(config: LLMConfig, http: KeepingClient) -> Model:
    """A model at a server of the user's, by the protocol that the name's prefix says."""
    url, prefix = config.base_url or "", config.model.partition(":")[0] if ":" in config.model else ""
    if prefix and prefix not in PROTOCOLS and _is_provider(prefix):
        raise LLMError(
            f"{config.model}: models of {prefix} cannot be asked at an address of your own. With --llm.base-url name "
            "the model as the server knows it, or with one of the prefixes openai:, openai-responses:, anthropic:"
        )
    name = config.bare_model
    if prefix == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        root = url.rstrip("/").removesuffix("/v1")
        key = os.environ.get("ANTHROPIC_API_KEY") or "none"
        return AnthropicModel(name, provider=AnthropicProvider(api_key=key, base_url=root, http_client=http))
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    if prefix in ("openai", "openai-chat", "openai-responses"):
        kind = OpenAIResponsesModel if prefix == "openai-responses" else OpenAIChatModel
        return kind(name, provider=OpenAIProvider(base_url=url, http_client=http))
    own_key = os.environ.get(COMPATIBLE_KEY) or None
    provider = OpenAICompatibleProvider("compatible", base_url=url, api_key=own_key, http_client=http)
    # Local servers know the older name of the limit; some ignore the newer one and write without end.
    profile = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False)
    return OpenAIChatModel(name, provider=provider, profile=profile)


def _is_provider(name: str) -> bool:
    try:
        infer_provider_class(name)
    except ValueError:
        return False
    except ImportError:
        return True
    return True
