"""The spending cap: estimates, usage, and a check before each call."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from unstuck.errors import BudgetError
from unstuck.llm.addresses import source_of
from unstuck.llm.bodies import Body
from unstuck.llm.config import LLMConfig
from unstuck.llm.ledger import Call, Ledger, State
from unstuck.llm.pictures import TOKENS as PICTURE_TOKENS
from unstuck.llm.recordings import Recording, Recordings
from unstuck.llm.requests import Request

log = logging.getLogger(__name__)

_PIECES = re.compile(r"(?P<word>[A-Za-z]+)|(?P<digits>[0-9]+)|(?P<lines>\s*\n\s*)|(?P<space>\s+)|(?P<other>.)")


def estimate_tokens(text: str) -> int:
    """Number of tokens that a text will take, without any model's tokenizer.

    A heuristic for byte-pair encodings as they are common today: a word is one token for each 6 letters begun,
    digits one for each 3 begun, a line break one, a single space none (it joins the word behind it), any other
    sign one. It leans high, so that a cap checked against it holds: characters / 4, which is usual for prose,
    is far too low for columns of numbers.
    """
    total = 0
    for match in _PIECES.finditer(text):
        length = match.end() - match.start()
        match match.lastgroup:
            case "word":
                total += -(-length // 6)
            case "digits":
                total += -(-length // 3)
            case "space":
                total += length > 1
            case _:
                total += 1
    return total


def estimate_request(request: Request) -> int:
    """Number of tokens of a whole conversation, its pictures included."""
    return estimate_tokens(request.text) + PICTURE_TOKENS * len(request.pictures)


def estimate_cost(model: str, tokens_in: int, tokens_out: int, base_url: str | None = None) -> float | None:
    """Price in US dollars by the list that genai-prices carries; None where it does not know the model.

    Discounts (cached prompts, batches) are not taken off. `model` is a model string such as `openai:gpt-4o`.
    With a `base_url` the service is recognised by its address, else by the model string's provider.
    """
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    provider, colon, name = model.partition(":")
    usage = Tokens(input_tokens=tokens_in, output_tokens=tokens_out)
    if base_url:
        with suppress(LookupError, ValueError):
            return float(calc_price(usage, name if colon else model, provider_api_url=base_url).total_price)
    if colon:
        with suppress(LookupError, ValueError):
            listed = _PRICE_LIST_NAMES.get(provider, provider)
            return float(calc_price(usage, name, provider_id=listed).total_price)
    return None


_PRICE_LIST_NAMES = {
    "openai-chat": "openai", "openai-responses": "openai", "google-gla": "google", "google-vertex": "google",
    "google-cloud": "google", "bedrock": "aws", "azure-responses": "azure",
}  # fmt: skip
"""Providers whose name in a model string differs from the one in the price list."""


@dataclass(frozen=True)
class Usage:
    """What some exchanges took. Tokens and `cost_usd` are of all of them, whenever they were made."""

    calls: int = 0
    """Requests made just now."""
    replayed: int = 0
    """Exchanges that were read from recordings."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = 0.0
    """US dollars; None if the cost of any exchange is not known."""
    spent_usd: float | None = 0.0
    """The part of it that was spent just now."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.replayed + other.replayed,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            _sum(self.cost_usd, other.cost_usd),
            _sum(self.spent_usd, other.spent_usd),
        )

    @classmethod
    def of(cls, recording: Recording, *, replayed: bool) -> Usage:
        """Of one exchange; tokens that the service did not report are estimated."""
        tokens_in, tokens_out = _tokens(recording)
        spent = 0.0 if replayed else recording.cost_usd
        return cls(int(not replayed), int(replayed), tokens_in, tokens_out, recording.cost_usd, spent)


@dataclass(frozen=True)
class Spending:
    """What a run has spent so far. `cost_usd` leaves out the `unpriced` calls, whose price is not known."""

    calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    @classmethod
    def of(cls, recordings: Iterable[Recording]) -> Spending:
        found = list(recordings)
        prices = [r.cost_usd for r in found if r.cost_usd is not None]
        return cls(len(found), sum(sum(_tokens(r)) for r in found), sum(prices), len(found) - len(prices))

    def __add__(self, other: Spending) -> Spending:
        return Spending(
            self.calls + other.calls, self.tokens + other.tokens,
            self.cost_usd + other.cost_usd, self.unpriced + other.unpriced,
        )  # fmt: skip

    def words(self) -> str:
        calls = f"{self.calls} call{'' if self.calls == 1 else 's'}"
        unknown = f" (without {self.unpriced} of unknown price)" if self.unpriced else ""
        return f"{calls}, {self.tokens:,} tokens, ${self.cost_usd:.4f}{unknown}"


class Budget:
    """The caps of one run, held against the ledger: every call that was sent counts, whatever became of it, over
    restarts and over processes.

    pydantic-ai's own usage limits see one agent run, and notice tokens and money after they are spent; here a call
    is refused beforehand if its worst case (the estimated prompt, the longest reply) would pass a cap.
    """

    def __init__(self, config: LLMConfig, recordings: Recordings) -> None:
        self.config = config
        self.recordings = recordings
        self.ledger = Ledger(recordings.folder)
        self._warned = False

    @property
    def source(self) -> str:
        """Who answers: the model string, and the server where one is configured."""
        return source_of(self.config.model, self.config.base_url)

    def spent(self) -> Spending:
        return self._spent(self.ledger.calls())

    def _spent(self, calls: list[Call]) -> Spending:
        # Recordings from before there was a ledger were paid as well.
        entered = {c.id for c in calls}
        older = Spending.of(r for r in self.recordings.live() if r.call not in entered)
        costs = [c.cost_usd for c in calls if c.cost_usd is not None]
        return older + Spending(len(calls), sum(c.tokens for c in calls), sum(costs), len(calls) - len(costs))

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """US dollars by the stated prices, else by the price list; None where neither knows."""
        config = self.config
        stated = config.prices.cost(tokens_in, tokens_out)
        return stated if stated is not None else estimate_cost(config.model, tokens_in, tokens_out, config.base_url)

    def worst_case(self, request: Request) -> Spending:
        """What one call may take at most, by estimate."""
        tokens_in, tokens_out = estimate_request(request), self.config.max_output_tokens
        cost = self.cost(tokens_in, tokens_out)
        return Spending(1, tokens_in + tokens_out, cost or 0.0, int(cost is None))

    def check(self, request: Request) -> None:
        """Refuse a call that may pass a cap.

        Raises:
            BudgetError: says what was spent, what the call may take, which cap stands against it, and its flag.
        """
        self._check(self.worst_case(request), self.ledger.calls())

    def begin(self, request: Request) -> Call:
        """Enter a call that is about to be sent, if no cap stands against it.

        Raises:
            BudgetError: as `check` does.
            LLMError: if the ledger cannot be written.
        """
        call = self.worst_case(request)

        def worst(calls: list[Call]) -> tuple[int, float | None]:
            self._check(call, calls)
            return call.tokens, None if call.unpriced else call.cost_usd

        return self.ledger.begin(request.key, self.config.model, self.source, worst)

    def end(self, call: Call, state: State, body: Body | None = None, note: str = "") -> None:
        """Enter what became of it. What a reply does not tell is estimated, never zero; a call that may have been
        answered all the same (a timeout) goes on counting with its worst case."""
        if state == "refused":
            self.ledger.end(call, state, 0, 0.0, note)
        elif body is None:
            self.ledger.end(call, state, call.tokens, call.cost_usd, note)
        else:
            asked = call.tokens - self.config.max_output_tokens
            tokens_in = asked if body.tokens_in is None else body.tokens_in
            tokens_out = estimate_tokens(body.text) if body.tokens_out is None else body.tokens_out
            self.ledger.end(call, state, tokens_in + tokens_out, self.cost(tokens_in, tokens_out), note)

    def settle(self, call: Call, recording: Recording) -> None:
        """Enter what a reply took, as it is recorded."""
        self.ledger.end(call, "replied", sum(_tokens(recording)), recording.cost_usd, recording.finish_reason or "")

    def _check(self, call: Spending, calls: list[Call]) -> None:
        caps, spent = self.config, self._spent(calls)
        if call.unpriced and caps.max_cost_usd is not None:
            raise BudgetError(
                f"there is a cap in money (${caps.max_cost_usd:g}), but the price of {caps.model} is not known, so the "
                "cap could not hold and nothing was asked. State the prices, in US dollars for a million tokens: "
                "--llm.prices.input 0.5 --llm.prices.output 1.5 (0 for a model of your own), or in a settings file "
                "under [llm.prices]; or take the cap off (--llm.max-cost-usd None) and rely on --llm.max-calls and "
                "--llm.max-tokens"
            )
        after = spent + call
        broken = [
            f"at most {cap} ({flag})"
            for value, limit, cap, flag in (
                (after.calls, caps.max_calls, f"{caps.max_calls} calls", "max_calls, --llm.max-calls"),
                (after.tokens, caps.max_tokens, f"{caps.max_tokens or 0:,} tokens", "max_tokens, --llm.max-tokens"),
                (after.cost_usd, caps.cost_cap, f"${caps.cost_cap:g}", "max_cost_usd, --llm.max-cost-usd"),
            )
            if limit is not None and value > limit
        ]
        if broken:
            raise BudgetError(
                f"the next call could pass the spending cap, so it was not made. The cap: {'; '.join(broken)}. "
                f"Spent so far: {spent.words()}. The next call: up to {call.words()}. "
                "Raise the cap to go on; replies that are already there are not paid for again."
            )
        if call.unpriced and not self._warned:
            self._warned = True
            log.warning(
                "The price of %s is not known, so no cap in money can hold; the caps on calls (%d) and tokens "
                "(%s) do.", caps.model, caps.max_calls, caps.max_tokens or "none: see --llm.max-tokens",
            )  # fmt: skip


def _tokens(recording: Recording) -> tuple[int, int]:
    """(in, out), estimated where the service did not say."""
    tokens_in, tokens_out = recording.tokens_in, recording.tokens_out
    return (
        estimate_request(recording.request) if tokens_in is None else tokens_in,
        estimate_tokens(recording.reply) if tokens_out is None else tokens_out,
    )


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
