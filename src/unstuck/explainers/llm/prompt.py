"""The prompt: one self-contained text, rendered from the files in `prompts/` and fitted into a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from unstuck.errors import LLMError
from unstuck.explainers.llm.facts import AgentFacts, PromptData, as_fields, number
from unstuck.explainers.llm.summary import Summary
from unstuck.llm import estimate_tokens
from unstuck.tasks.card import TaskCard
from unstuck.views import View

FOLDER = Path(__file__).parent / "prompts"
VERSION = 2
"""The newest. Older ones stay as they are, to the letter: recorded replies answer them."""

LEVELS = ((160, 16, 24, 10_000), (60, 12, 16, 64), (40, 8, 10, 24), (16, 4, 6, 10), (8, 4, 3, 4))
"""Most and least rows of an episode, variables in them, variables described in full."""


@cache
def _environment() -> Environment:
    # Plain text for a model, not a page: escaping would only spoil `<` and quotes.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["num"] = number
    return environment


def render(data: PromptData, version: int = VERSION) -> str:
    """The text of the prompt."""
    return _environment().get_template(f"v{version}/prompt.j2").render(as_fields(data)).strip() + "\n"


def render_file(name: str, fields: Mapping[str, Any]) -> str:
    """Another text of the folder of prompts, filled in."""
    return _environment().get_template(name).render(fields).strip() + "\n"


def _levels() -> Iterator[tuple[int, int, int]]:
    """(rows of an episode, variables in them, variables described in full), from the richest to the barest."""
    for most, least, columns, described in LEVELS:
        rows = float(most)
        while rows >= least:
            yield int(rows), columns, described
            rows *= 0.88


def build_prompt(
    views: Sequence[View], card: TaskCard, agent: AgentFacts, max_tokens: int, version: int = VERSION
) -> str:
    """The richest prompt that fits the budget.

    Raises:
        LLMError: if even the barest does not fit; says how many tokens it takes.
    """
    summary = Summary(views, card, agent, version)
    text, tried = "", None
    for rows, columns, described in _levels():
        data = summary.data(rows, columns, described)
        if tried is not None and data == tried:
            continue
        tried, text = data, render(data, version)
        if estimate_tokens(text) <= max_tokens:
            return text
    raise LLMError(
        f"the prompt takes at least {estimate_tokens(text)} tokens by estimate, more than the budget of {max_tokens}; "
        "raise it with --explain.prompt-tokens"
    )
