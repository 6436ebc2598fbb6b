"""Which language model to ask, and how much it may cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from unstuck.llm.addresses import address_problem, has_credentials

RECORDED = "recorded"
DEFAULT_COST_USD = 5.0
"""The cap on money where none is set, as far as the price is known."""
Effort = Literal["none", "minimal", "low", "medium", "high"]


class Prices(BaseModel):
    """What a model costs, where no price list knows it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input: float | None = Field(default=None, ge=0, description="US dollars for a million tokens in.")
    output: float | None = Field(default=None, ge=0, description="US dollars for a million tokens out.")

    @property
    def known(self) -> bool:
        return self.input is not None and self.output is not None

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """In US dollars; None where a price is not stated."""
        if self.input is None or self.output is None:
            return None
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


class LLMConfig(BaseModel):
    """Settings of the language model. Keys are never settings: they come from the environment only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    model: str = Field(
        default="",
        description="Model to ask: 'openai:NAME', 'openai-responses:NAME', 'anthropic:NAME', 'google:NAME' or any "
        "other name that pydantic-ai knows; with a base URL, the name the server knows it by; 'recorded' replays "
        "recorded replies and touches no network; 'none', or empty, for no language model.",
    )
    models: tuple[str, ...] = Field(
        default=(), description="Further models: asked where the first one fails, or all of them (see ask)."
    )
    ask: Literal["fallback", "all"] = Field(
        default="fallback",
        description="fallback: the first of the models that gives a usable reply. all: each of them, for as many "
        "opinions.",
    )
    samples: int = Field(
        default=1, ge=1, le=64, description="How many independent replies to ask each model for, as many opinions."
    )
    opinions: Literal["apart", "merged"] = Field(
        default="apart",
        description="What becomes of several opinions. apart: the first is the explanation, and the others stand "
        "beside it. merged: one explanation of them all, advice in their order, reward terms at a share of their "
        "weight.",
    )
    frames: int = Field(
        default=0,
        ge=0,
        le=20,
        description="For models that see: how many pictures go with the prompt, each a few "
        "frames around a critical step; on tasks that can be drawn.",
    )
    fresh: bool = Field(
        default=False,
        exclude=True,
        description="Ask again, though there is a reply; the old one is set aside. Not kept with the run.",
    )
    base_url: str | None = Field(
        default=None,
        description="Address of an OpenAI-compatible server (Ollama, vLLM, llama.cpp, a proxy), such as "
        "http://localhost:11434/v1. A model named 'openai:NAME' is sent OPENAI_API_KEY; a bare NAME is sent "
        "UNSTUCK_LLM_API_KEY; the key may be missing in both cases. 'openai-responses:NAME' and 'anthropic:NAME' "
        "speak those protocols with the server.",
    )
    max_cost_usd: float | None = Field(
        default=None,
        ge=0,
        description="Most that one run may spend, in US dollars, restarts included. Not given: 5 where the price is "
        "known.",
    )
    prices: Prices = Field(default=Prices(), description="What the model costs, where no price list knows it.")
    max_tokens: int | None = Field(
        default=None, ge=1, description="Most tokens that one run may use, in and out together."
    )
    max_calls: int = Field(default=50, ge=0, description="Most calls that one run may make, failed ones included.")
    temperature: float | None = Field(
        default=None, ge=0, description="Sampling temperature; left to the provider when not given."
    )
    seed: int | None = Field(default=None, description="Seed of the sampling, where the provider takes one.")
    effort: Effort | None = Field(
        default=None, description="How much the model should think before it answers; left to the provider."
    )
    headers: dict[str, str] = Field(
        default={}, description="Further HTTP headers, in a settings file under [llm.headers]. Not for keys."
    )
    timeout_s: float = Field(default=300.0, gt=0, description="Seconds to wait for one reply.")
    patience_s: float = Field(
        default=180.0,
        ge=0,
        description="Seconds to go on trying where a service is too busy or fails for the moment, with growing pauses.",
    )
    retries: int = Field(default=1, ge=0, le=5, description="How often an invalid reply is sent back with the reason.")
    max_output_tokens: int = Field(default=16_000, ge=1, description="Longest reply, in tokens.")
    structured: Literal["auto", "schema", "tool", "text"] = Field(
        default="auto",
        description="How the form of the reply is asked for. schema: by the service's JSON schema mode. tool: as a "
        "tool's arguments. text: in words only. auto: what the model is known to support, else text.",
    )

    @field_validator("model")
    @classmethod
    def _none(cls, model: str) -> str:
        return "" if model == "none" else model

    @field_validator("base_url")
    @classmethod
    def _no_credentials(cls, url: str | None) -> str | None:
        if url is None or not url:
            return None
        if has_credentials(url):
            raise ValueError(
                "credentials do not belong in the address, which is written into files: set UNSTUCK_LLM_API_KEY (or "
                "OPENAI_API_KEY for a model named 'openai:NAME') in the environment instead"
            )
        if problem := address_problem(url):
            raise ValueError(problem)
        return url

    @field_validator("headers")
    @classmethod
    def _no_keys(cls, headers: dict[str, str]) -> dict[str, str]:
        words = ("authorization", "key", "token", "cookie", "secret")
        if bad := [name for name in headers if any(w in name.lower() for w in words)]:
            raise ValueError(f"{', '.join(bad)}: keys are not settings; they come from the environment only")
        if any(not part.isprintable() for pair in headers.items() for part in pair):
            raise ValueError("headers hold printable characters only")
        return headers

    @property
    def is_none(self) -> bool:
        """No language model is configured."""
        return not self.model

    @property
    def is_recorded(self) -> bool:
        """Only recorded replies may be used."""
        return self.model == RECORDED

    @property
    def bare_model(self) -> str:
        """The model's name without the provider: `openai:gpt-4o` → `gpt-4o`; with a base URL only those count as
        providers whose protocol the server may speak, since local names have colons of their own (`llama3.2:1b`)."""
        provider, colon, name = self.model.partition(":")
        return name if colon and (not self.base_url or provider in PROTOCOLS) else self.model

    @property
    def every_model(self) -> tuple[str, ...]:
        """The first and the further ones, each once."""
        return tuple(dict.fromkeys(m for m in (self.model, *self.models) if m))

    def of(self, model: str) -> LLMConfig:
        """The same settings for one of the models."""
        return self.model_copy(update={"model": model, "models": ()})

    @property
    def cost_cap(self) -> float:
        """What may be spent where the price is known."""
        return DEFAULT_COST_USD if self.max_cost_usd is None else self.max_cost_usd


PROTOCOLS = ("openai", "openai-chat", "openai-responses", "anthropic", "ollama")
"""Prefixes of a model's name that a base URL can be combined with."""
