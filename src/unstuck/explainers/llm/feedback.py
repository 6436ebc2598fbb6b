"""Asking the coach again, with what came of its guidance: the conversation goes on with one more turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unstuck.errors import LLMError
from unstuck.explainers.llm.explainer import wanted
from unstuck.explainers.llm.form import reply_schema
from unstuck.explainers.llm.prompt import render_file
from unstuck.explainers.llm.recordings import recordings_of
from unstuck.explainers.llm.reply import Reply, ReplyReader
from unstuck.guidance import Guidance
from unstuck.llm import Answer, Coach, Recordings, Request
from unstuck.views import views_of
from unstuck.workspace import Workspace

TEMPLATE = "feedback/1.j2"
MOST_CURVE, MOST_VARIABLES = 10, 40


@dataclass(frozen=True)
class Tried:
    """One competitor, as it was trained and judged."""

    name: str
    what: str
    """What was done to the agent, in words."""
    returns: str
    """Of the judged episodes, in words."""
    mean: float
    length: float
    """Mean steps of the judged episodes."""
    curve: str = ""
    """Returns in training, in words."""
    parts: str = ""
    """Parts of the reward, in words."""
    hit_rate: float | None = None
    """Share of the training steps in which guidance applied."""


@dataclass(frozen=True)
class TermFacts:
    """What one reward term did."""

    words: str
    paid: float
    """Per episode, at full weight."""
    share: float
    """Of the steps in which it is not zero."""
    correlation: float | None
    """Rank correlation of what it pays with the true return, over episodes."""
    of: int
    """So many episodes."""


@dataclass(frozen=True)
class RuleFacts:
    """Where one rule applied."""

    words: str
    held: float
    """Share of the steps in which it was the first that applied."""
    followed: float | None
    """Share of these in which the agent acted so."""


@dataclass(frozen=True)
class Guided:
    """What one guidance did."""

    title: str
    by: str
    """Names of the competitors that were trained under it."""
    terms: tuple[TermFacts, ...] = ()
    rules: tuple[RuleFacts, ...] = ()


@dataclass(frozen=True)
class OutcomeFacts:
    """What there is to tell."""

    steps: int
    """Environment steps for which each was trained."""
    episodes: int
    """By which each was judged."""
    mode: str
    """In which: deterministic or sampled."""
    before: float
    """Mean return of the agent before."""
    tried: tuple[Tried, ...]
    guided: tuple[Guided, ...]
    variables: tuple[str, ...]
    """A line for each variable: its mean, by competitor."""

    def words(self) -> str:
        """The text of the next turn."""
        return render_file(TEMPLATE, vars(self))


def follow_up(recordings: Recordings, guidance: Guidance, text: str) -> Request | None:
    """The conversation from which the guidance came, with one more turn; None where there is none, as of guidance that
    a person wrote."""
    keys = guidance.provenance.recordings
    last = recordings.reply_to(keys[-1], guidance.provenance.model) if keys else None
    return None if last is None else last.request.then(last.reply, text)


def ask_again(
    space: Workspace,
    guidance: Guidance,
    outcome: OutcomeFacts,
    *,
    say: Callable[[str], None] = lambda _: None,
    model: Any = None,
) -> tuple[Guidance, Answer[Reply]]:
    """New guidance from the model that gave this one, told what came of it.

    Raises:
        NoRecordingError: in recorded mode, if there is no reply yet; the question is noted down as pending.
        BudgetError, LLMError: as `Coach.ask` does; or there is no exchange to go on from.
    """
    recordings = recordings_of(space.run)
    request = follow_up(recordings, guidance, outcome.words())
    if request is None:
        raise LLMError("the guidance comes from no recorded exchange, so nobody can be asked again")
    llm, card = space.config.llm, space.describer.card
    name = guidance.provenance.model if guidance.provenance.model in llm.every_model else llm.model
    coach = Coach(llm.of(name), recordings, model=model, say=say)
    reader = ReplyReader(views_of(space.episodes, space.describer), card)
    schema = reply_schema(card, wanted(space))
    answer = coach.ask(request, Reply, check=reader.check, salvage=reader.salvage, schema=schema)
    found = reader.guidance(
        answer.value, model=", ".join(answer.models), recordings=answer.keys, dropped=answer.dropped
    )
    return found, answer


def curve_words(points: Sequence[tuple[int, float]], number: Callable[[float], str]) -> str:
    """`2048: 310; 4096: 342`, thinned to a few points."""
    step = max(1, -(-len(points) // MOST_CURVE))
    shown = list(points)[::-1][::step][::-1]
    return "; ".join(f"{steps}: {number(value)}" for steps, value in shown)
