"""Which language model to ask, and how much it may cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

RECORDED = "recorded"


class LLMConfig(BaseModel):
    """Settings of the language model. Keys are never settings: they come from the environment only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(
        default="",
        description="Model to ask: 'openai:NAME', 'anthropic:NAME', 'google:NAME' or any other name that "
        "pydantic-ai knows; with a base URL, the name the server knows it by; 'recorded' replays recorded "
        "replies and touches no network; empty for no language model.",
    )
    base_url: str | None = Field(
        default=None,
        description="Address of an OpenAI-compatible server (Ollama, vLLM, llama.cpp, a proxy), such as "
        "http://localhost:11434/v1. A model named 'openai:NAME' is sent OPENAI_API_KEY; a bare NAME is sent "
        "UNSTUCK_LLM_API_KEY; the key may be missing in both cases.",
    )
    max_cost_usd: float | None = Field(
        default=5.0, ge=0, description="Most that one run may spend, in US dollars, restarts included."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Most tokens that one run may use, in and out together."
    )
    max_calls: int = Field(default=50, ge=0, description="Most calls that one run may make.")
    temperature: float | None = Field(
        default=None, ge=0, description="Sampling temperature; left to the provider when not given."
    )
    timeout_s: float = Field(
        default=300.0, gt=0, description="Seconds to wait for one reply, the provider's own retries included."
    )
    retries: int = Field(default=1, ge=0, le=5, description="How often an invalid reply is sent back with the reason.")
    max_output_tokens: int = Field(default=16_000, ge=1, description="Longest reply, in tokens.")

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
        """The model's name without the provider: `openai:gpt-4o` → `gpt-4o`; with a base URL only `openai:` and
        `openai-chat:` count as providers, since local names have colons of their own (`llama3.2:1b`)."""
        provider, colon, name = self.model.partition(":")
        known = not self.base_url or provider in ("openai", "openai-chat")
        return name if colon and known else self.model
