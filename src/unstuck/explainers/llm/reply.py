"""What a language model replies, how it is checked against the task and the episodes, and how it becomes guidance.

The models here are lenient where that is harmless (unknown fields, null for a default, a list for a text), strict
where a guess could teach the agent something wrong: names, numbers, steps and bounds. Ranges are left to `check`, so
that a reply is sent back once with all that is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from unstuck.explainers.base import evidence_at
from unstuck.guidance import (
    TREATMENTS,
    Action,
    Advice,
    AnyOf,
    Condition,
    Guidance,
    ProgressMeasure,
    Provenance,
    Term,
    Than,
    Treatment,
    When,
    action_problems,
    scales_from,
    term_problems,
    validation_message,
    when_problems,
)
from unstuck.tasks.card import TaskCard
from unstuck.views import View, reward_scale


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        value = [f"{k}: {v}" for k, v in value.items()]
    return "\n".join(str(v) for v in value) if isinstance(value, list) else value


def _integer(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("give a whole number")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _default(value: Any) -> Callable[[Any], Any]:
    """null means the default."""
    return lambda given: value if given is None else given


def _name_alone(value: Any) -> Any:
    return {"variable": value} if isinstance(value, str) else value


_OPERATORS = {"=": "==", "≥": ">=", "≤": "<=", "=>": ">=", "=<": "<=", "≠": "!="}


def _operator(value: Any) -> Any:
    return _OPERATORS.get(value, value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(_integer)]
Flag = Annotated[bool, BeforeValidator(_default(False))]
Operator = Annotated[Literal["<", "<=", ">", ">=", "==", "!="], BeforeValidator(_operator)]


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ReplyThan(_Lenient):
    variable: str
    abs: Flag = False
    times: Annotated[Number, BeforeValidator(_default(1.0))] = 1.0


class ReplyCondition(_Lenient):
    variable: str
    abs: Flag = False
    op: Operator
    value: Number | None = None
    than: Annotated[ReplyThan | None, BeforeValidator(_name_alone)] = None

    @model_validator(mode="before")
    @classmethod
    def _compared(cls, data: Any) -> Any:
        """Another variable's name where the number belongs is a comparison with that variable."""
        if not isinstance(data, dict):
            return data
        if isinstance(name := data.get("value"), str) and name.isidentifier() and data.get("than") is None:
            data = {**data, "value": None, "than": name}
        if data.get("value") is None and data.get("than") is None:
            raise ValueError("compare with a number (value) or with another variable (than)")
        return data

    def condition(self) -> Condition:
        than = Than(**self.than.model_dump()) if self.than else None
        return Condition(variable=self.variable, abs=self.abs, op=self.op, value=self.value or 0.0, than=than)


class ReplyAnyOf(_Lenient):
    any: list[ReplyCondition] = Field(min_length=1)


def _clause_kind(value: Any) -> str:
    has_any = "any" in value if isinstance(value, dict) else isinstance(value, ReplyAnyOf)
    return "any" if has_any else "condition"


ReplyClause = Annotated[
    Annotated[ReplyCondition, Tag("condition")] | Annotated[ReplyAnyOf, Tag("any")], Discriminator(_clause_kind)
]


def _when(clauses: Sequence[ReplyCondition | ReplyAnyOf]) -> When:
    return tuple(
        AnyOf(any=tuple(c.condition() for c in clause.any)) if isinstance(clause, ReplyAnyOf) else clause.condition()
        for clause in clauses
    )


class ReplyState(_Lenient):
    episode: Integer
    step: Integer
    why: Text
    action: Integer | list[Number] | None = None
    action_delta: list[Number] | None = None
    hold: Annotated[Integer, BeforeValidator(_default(1))] = 1
    when: list[ReplyClause] | None = None
    reward: Number | None = None

    def suggestion(self) -> Action | None:
        if self.action_delta is not None:
            return Action(values=tuple(self.action_delta), delta=True)
        if isinstance(self.action, list):
            return Action(values=tuple(self.action))
        return None if self.action is None else _index(self.action)


class ReplyRule(_Lenient):
    when: list[ReplyClause]
    action: Integer
    why: Text = ""


class ReplyTerm(_Lenient):
    variable: str
    abs: Flag = False
    above: Number | None = None
    below: Number | None = None
    weight: Number
    cap: Number
    when: Annotated[list[ReplyClause], BeforeValidator(_default([]))] = []
    why: Text = ""

    def term(self) -> Term:
        data = self.model_dump(exclude={"when"})
        return Term(**data, when=_when(self.when))


class ReplyProgress(_Lenient):
    terms: list[ReplyTerm] = Field(min_length=1)
    aggregate: Annotated[Literal["last", "max", "mean"], BeforeValidator(_default("last"))] = "last"
    why: Text = ""


def _empty(value: Any) -> Any:
    return [] if value is None else value


class ReplyTreatment(_Lenient):
    name: Text
    reason: Text = ""


def _treatments(value: Any) -> Any:
    """Names alone will do; what is neither a name nor has one is passed over."""
    items = [value] if isinstance(value, str | dict) else value if isinstance(value, list) else []
    named = [{"name": i} if isinstance(i, str) else i for i in items]
    return [
        i for i in named if isinstance(i, ReplyTreatment) or (isinstance(i, dict) and isinstance(i.get("name"), str))
    ]


class Reply(_Lenient):
    """The JSON object that a prompt asks for."""

    analysis: Text = ""
    diagnosis: Text
    critical_states: Annotated[list[ReplyState], BeforeValidator(_empty)] = []
    rules: Annotated[list[ReplyRule], BeforeValidator(_empty)] = []
    reward_terms: Annotated[list[ReplyTerm], BeforeValidator(_empty)] = []
    progress: ReplyProgress | None = None
    treatments: Annotated[list[ReplyTreatment], BeforeValidator(_treatments)] = []


def _index(index: int) -> Action | None:
    # A negative index is reported by `_action_problems`; Action itself refuses to be built with one.
    return Action(index=index) if index >= 0 else None


class ReplyReader:
    """Checks and converts replies about given episodes of a given task."""

    def __init__(self, views: Sequence[View], card: TaskCard):
        self.views, self.card = tuple(views), card
        self._by_index = {v.index: v for v in views}

    # ------------------------------------------------------------------------------------------ checking

    def check(self, reply: Reply) -> list[str]:
        """All that does not fit the task or the episodes, one sentence each, naming the field."""
        anything = reply.critical_states or reply.rules or reply.reward_terms
        found = [] if anything else ["critical_states: name at least one critical state"]
        for i, state in enumerate(reply.critical_states):
            found += self.state_problems(state, f"critical_states[{i}]")
        if self.card.action.kind == "discrete":
            for i, rule in enumerate(reply.rules):
                found += self.rule_problems(rule, f"rules[{i}]")
        for i, term in enumerate(reply.reward_terms):
            found += self.term_problems(term, f"reward_terms[{i}]")
        for i, term in enumerate(reply.progress.terms if reply.progress else ()):
            found += self.term_problems(term, f"progress.terms[{i}]")
        return found

    def state_problems(self, state: ReplyState, where: str) -> list[str]:
        found = []
        view = self._by_index.get(state.episode)
        if view is None:
            known = ", ".join(str(i) for i in sorted(self._by_index))
            found.append(f"{where}: there is no episode {state.episode}; the collected episodes are {known}")
        elif not 0 <= state.step < len(view):
            found.append(
                f"{where}: step {state.step} is outside episode {state.episode}, which has steps 0 to {len(view) - 1}"
            )
        if state.action is None and state.action_delta is None and state.reward is None:
            found.append(f"{where}: says neither what to do (action) nor what the state is worth (reward)")
        if state.action is not None and state.action_delta is not None:
            found.append(f"{where}: give either action or action_delta, not both")
        if state.reward is not None and abs(state.reward) > 1:
            found.append(f"{where}.reward: {state.reward:g} is outside -1 to 1")
        if not 1 <= state.hold <= 100:
            found.append(f"{where}.hold: {state.hold} is outside 1 to 100 steps")
        return found + self._action_problems(state, where) + when_problems(_when(state.when or ()), self.card, where)

    def _action_problems(self, state: ReplyState, where: str) -> list[str]:
        if isinstance(state.action, int) and state.action < 0:
            return [f"{where}.action: {state.action} is out of bounds; actions begin at 0"]
        suggestion = state.suggestion()
        field = "action_delta" if state.action_delta is not None else "action"
        return action_problems(suggestion, self.card.action, f"{where}.{field}") if suggestion else []

    def rule_problems(self, rule: ReplyRule, where: str) -> list[str]:
        last = len(self.card.action.names) - 1
        found = when_problems(_when(rule.when), self.card, where)
        if not 0 <= rule.action <= last:
            found.append(f"{where}.action: {rule.action} is out of bounds; actions are 0 to {last}")
        return found

    def term_problems(self, term: ReplyTerm, where: str) -> list[str]:
        try:
            made = term.term()
        except ValidationError as error:
            said = [("".join(f".{p}" for p in e["loc"]), e["msg"]) for e in error.errors()]
            return [f"{where}{field}: {words.removeprefix('Value error, ')}" for field, words in said]
        return term_problems(made, self.card, where)

    # ------------------------------------------------------------------------------------------ salvaging

    def salvage(self, raw: Any) -> tuple[Reply | None, list[str]]:
        """What is valid of a reply that is not valid as a whole, and a sentence on each part that is left out; None
        where neither a critical state nor a rule nor a reward term is left."""
        if not isinstance(raw, dict):
            return None, []
        dropped: list[str] = []
        states = self._keep(raw, "critical_states", ReplyState, self.state_problems, dropped)
        rules: list[ReplyRule] = []
        if self.card.action.kind == "discrete":
            rules = self._keep(raw, "rules", ReplyRule, self.rule_problems, dropped)
        terms = self._keep(raw, "reward_terms", ReplyTerm, self.term_problems, dropped)
        if not (states or rules or terms):
            return None, dropped
        texts = {name: self._salvage_text(raw, name, dropped) for name in ("analysis", "diagnosis")}
        progress = self._salvage_progress(raw.get("progress"), dropped)
        treatments = _treatments(raw.get("treatments"))
        reply = Reply(
            **texts, critical_states=states, rules=rules, reward_terms=terms, progress=progress, treatments=treatments
        )
        return reply, dropped

    @staticmethod
    def _salvage_text(raw: dict[str, Any], name: str, dropped: list[str]) -> str:
        text = _text(raw.get(name, ""))
        if isinstance(text, str) and text:
            return text
        if name == "diagnosis":
            dropped.append("diagnosis: missing, or not a text; dropped")
        return ""

    @staticmethod
    def _keep(
        raw: dict[str, Any], name: str, kind: type[Any], problems: Callable[[Any, str], list[str]], dropped: list[str]
    ) -> list[Any]:
        items = raw.get(name) or []
        if not isinstance(items, list):
            dropped.append(f"{name}: is not a list; dropped")
            return []
        kept = []
        for i, item in enumerate(items):
            where = f"{name}[{i}]"
            try:
                value = kind.model_validate(item)
            except ValidationError as error:
                dropped.append(f"{where}: {validation_message(error).replace(chr(10), '; ')}; dropped")
                continue
            if found := problems(value, where):
                dropped.append("; ".join(found) + "; dropped")
            else:
                kept.append(value)
        return kept

    def _salvage_progress(self, raw: Any, dropped: list[str]) -> ReplyProgress | None:
        if raw is None:
            return None
        try:
            progress = ReplyProgress.model_validate(raw)
        except ValidationError as error:
            dropped.append(f"progress: {validation_message(error).replace(chr(10), '; ')}; dropped")
            return None
        # A sum without one of its terms would measure something else than was meant, so it goes as a whole.
        found = [p for i, t in enumerate(progress.terms) for p in self.term_problems(t, f"progress.terms[{i}]")]
        if found:
            dropped.append("; ".join(found) + "; progress dropped")
            return None
        return progress

    # ----------------------------------------------------------------------------------------- converting

    def guidance(
        self, reply: Reply, *, model: str = "", recordings: Sequence[str] = (), dropped: Sequence[str] = ()
    ) -> Guidance:
        """A checked reply as guidance: the rules first, in their order, then the critical states."""
        left_out = list(dropped)
        rules = list(reply.rules)
        if rules and self.card.action.kind != "discrete":
            what = "continuous" if self.card.action.kind == "continuous" else "several choices at once"
            left_out.append(f"rules: this task's actions are {what}; {len(rules)} left out")
            rules = []
        advice = [
            Advice(id=f"r{n}", kind="rule", why=rule.why, when=_when(rule.when), action=Action(index=rule.action))
            for n, rule in enumerate(rules, 1)
        ]
        advice += [self._state_advice(state, f"s{n}") for n, state in enumerate(reply.critical_states, 1)]
        progress = reply.progress
        treatments = chosen_treatments(reply.treatments, left_out)
        return Guidance(
            env_id=self.card.env_id,
            diagnosis=reply.diagnosis,
            summary=reply.analysis,
            advice=tuple(advice),
            reward_terms=tuple(t.term() for t in reply.reward_terms),
            progress=ProgressMeasure(
                terms=tuple(t.term() for t in progress.terms), aggregate=progress.aggregate, why=progress.why
            ) if progress else None,
            treatments=treatments,
            scales=scales_from(np.concatenate([v.states for v in self.views]), self.card.variable_names),
            reward_scale=reward_scale(self.views),
            provenance=Provenance(
                explainer="llm", model=model, recordings=tuple(recordings), dropped=tuple(left_out)
            ),
        )  # fmt: skip

    def _state_advice(self, state: ReplyState, name: str) -> Advice:
        return Advice(
            id=name,
            kind="state",
            why=state.why,
            evidence=evidence_at(self._by_index[state.episode], state.step, self.card),
            when=_when(state.when) if state.when else None,
            action=state.suggestion(),
            hold=state.hold,
            reward=state.reward,
        )


def chosen_treatments(asked: Sequence[ReplyTreatment], left_out: list[str]) -> tuple[Treatment, ...]:
    """Those that exist, each once; the others are added to `left_out`, by name."""
    found: dict[str, Treatment] = {}
    for treatment in asked:
        name = re.sub(r"[\s_]+", "-", treatment.name.strip().lower())
        if name in TREATMENTS:
            found.setdefault(name, Treatment(name=name, reason=treatment.reason))  # type: ignore[arg-type]
        else:
            known = ", ".join(TREATMENTS)
            left_out.append(f"treatments: there is none called {treatment.name[:60]!r} (known: {known}); dropped")
    return tuple(found.values())
