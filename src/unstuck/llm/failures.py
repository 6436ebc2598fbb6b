"""What a failed request means, and what to do: the service's own words, without any key, after ours."""

from __future__ import annotations

import os
import re
from typing import NoReturn

from pydantic_ai import exceptions as failures

from unstuck.errors import LLMError
from unstuck.llm.addresses import without_credentials
from unstuck.llm.config import LLMConfig

COMPATIBLE_KEY = "UNSTUCK_LLM_API_KEY"
"""Environment variable with the key for an OpenAI-compatible server. OpenAI's own key is not sent to others."""
_TOO_LONG = re.compile(r"context.{0,20}(length|window|size)|maximum.{0,20}tokens|too (long|many tokens)", re.IGNORECASE)
_OF_PICTURES = re.compile(r"image|picture|vision|multimodal|modalit", re.IGNORECASE)
_TOO_LONG_HELP = (
    "the prompt is too long for this model: lower --explain.prompt-tokens (and --llm.max-output-tokens, which is taken "
    "off the same window), or name a model with a longer context"
)


def explain(error: Exception, config: LLMConfig, note: str = "", *, came: bool = False) -> NoReturn:
    """Raise what the failure means as an LLMError. `note` is what else is known of it, a sentence."""
    where = f"{config.model} at {without_credentials(config.base_url)}" if config.base_url else config.model
    said = redacted(" ".join(_printable(str(error)).split()))
    # Services may echo a key in their refusal; the original must not hang on ours then, to be printed with it.
    cause = error if said == str(error) else None
    more = f" {note}" if note else ""
    raise LLMError(f"{where}: {advice(error, config, came)} ({said[:500]}).{more}") from cause


def advice(error: Exception, config: LLMConfig, came: bool = False) -> str:
    """What it means, and what to do. `came`: whether something of a reply came."""
    if (status := getattr(error, "status_code", 0)) == 413:
        return _TOO_LONG_HELP
    if status == 408:
        return "the service waited too long for the request; run again"
    if "Error code: 3" in str(error):
        return "the service answers at another address; give that one (base_url, --llm.base-url)"
    match error:
        case failures.ModelTimeoutError() | failures.ModelRequestTimeout():
            return (
                f"no reply within {config.timeout_s:g} s; run again, or raise timeout_s (--llm.timeout-s). The call "
                "may be billed, and counts with the most that it may cost"
            )
        case failures.ModelConnectionError() if came:
            return "the connection broke in the middle of the reply, which may be billed; run again"
        case failures.ModelConnectionError():
            return "cannot be reached; is the server running, and the address (base_url) and network right?"
        case failures.ModelAuthenticationError():
            key = COMPATIBLE_KEY if config.base_url and config.bare_model == config.model else key_name(config)
            return f"the service refused the key; check the environment variable {key}"
        case failures.ModelNotFoundError():
            return "the service does not know this model; check its name with --llm.model (and --llm.base-url)"
        case failures.ModelContextWindowExceededError():
            return _TOO_LONG_HELP
        case failures.ModelQuotaExceededError():
            return "the account's quota or credit is used up; top it up, or name another model with --llm.model"
        case failures.ModelRateLimitError():
            return "too many requests; wait a while and run again, what was replied is kept"
        case failures.ModelServerError() | failures.ModelUnavailableError():
            return "the service failed; run again later, what was replied is kept"
        case failures.ModelRequestRejectedError():
            if _TOO_LONG.search(str(error)):
                return _TOO_LONG_HELP
            if config.frames and _OF_PICTURES.search(str(error)):
                return (
                    "the service does not take the pictures; leave them out (--llm.frames 0), or name a model that "
                    "sees with --llm.model"
                )
            return "the service rejected the request; name another model with --llm.model, or leave out the setting"
        case failures.ContentFilterError():
            return "the service's content filter withheld the reply; name another model with --llm.model"
        case failures.UnexpectedModelBehavior():
            return "the service sent what is no reply; run again, or name another model with --llm.model"
    return f"the request failed: {type(error).__name__}; run again"


def is_passing(error: Exception) -> bool:
    """Whether it may go away by itself: too many requests, a service that is down for the moment."""
    if isinstance(error, failures.ModelQuotaExceededError | failures.ModelTimeoutError):
        return False
    kinds = (failures.ModelRateLimitError, failures.ModelServerError, failures.ModelUnavailableError)
    return isinstance(error, kinds)


def key_name(config: LLMConfig) -> str:
    return f"{config.model.partition(':')[0].partition('-')[0].upper()}_API_KEY"


def redacted(text: str) -> str:
    """Without the keys that this process knows, and what looks like one."""
    secrets = [v for k, v in os.environ.items() if k.endswith(("_API_KEY", "_TOKEN", "_SECRET")) and len(v) >= 6]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"\bsk-[\w*-]{6,}", "sk-***", text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
