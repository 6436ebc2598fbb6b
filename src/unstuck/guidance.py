"""Guidance: what a coach says of a stuck agent, as data that can be read, edited, checked and matched.

Nothing here is code: conditions, rewards and the progress measure are small structured functions of a task's
named variables. They can be enforced by a schema, evaluated in vectors, and cannot attack whoever loads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unstuck.errors import GuidanceError, did_you_mean
from unstuck.files import write_whole
from unstuck.tasks.card import ActionSpec, TaskCard

FORMAT = 1
TreatmentName = Literal["continue", "transplant", "shrink-and-perturb", "afresh", "thaw", "short-episodes", "guidance"]
TREATMENTS: tuple[TreatmentName, ...] = get_args(TreatmentName)
"""What may be done to a stuck agent; a coach says which of it to try."""
MAX_WORTH = 1e6
"""Most that one term may be worth: what is greater than any task's rewards only breaks training."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Than(_Model):
    """The other side of a comparison of two variables: `times` · `variable`, or `times` · |`variable`| when `abs`."""

    variable: str
    abs: bool = False
    times: Finite = 1.0

    def words(self) -> str:
        name = f"|{self.variable}|" if self.abs else self.variable
        return name if self.times == 1 else f"{self.times:g} · {name}"


class Condition(_Model):
    """`variable op value`, or `|variable| op value` when `abs`; with `than`, `variable - than op value`, in words
    `variable op than + value`. `value` may then be left out, and is 0."""

    variable: str
    abs: bool = False
    op: Literal["<", "<=", ">", ">=", "==", "!="]
    value: Finite = 0.0
    than: Than | None = None

    @model_validator(mode="before")
    @classmethod
    def _compared(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("value") is None and data.get("than") is None:
            raise ValueError("say what the variable is compared with: `value`, a number, or `than`, another variable")
        return data

    @property
    def variables(self) -> tuple[str, ...]:
        """Those that it looks at."""
        return (self.variable, self.than.variable) if self.than else (self.variable,)

    def words(self) -> str:
        name = f"|{self.variable}|" if self.abs else self.variable
        if self.than is None:
            return f"{name} {self.op} {self.value:g}"
        return f"{name} {self.op} {self.than.words()}" + (f" {self.value:+g}" if self.value else "")


class AnyOf(_Model):
    """Holds where at least one of its conditions does."""

    any: tuple[Condition, ...] = Field(min_length=1)

    def words(self) -> str:
        return "(" + " or ".join(c.words() for c in self.any) + ")"


Clause = Condition | AnyOf
When = tuple[Clause, ...]
"""Clauses that must all hold; an empty one holds everywhere."""


def when_words(when: When) -> str:
    """`vx < 0 and (x > 1 or y > 1)`; 'always' for an empty condition."""
    return " and ".join(c.words() for c in when) or "always"


def conditions_of(when: When) -> Iterable[Condition]:
    for clause in when:
        yield from clause.any if isinstance(clause, AnyOf) else (clause,)


class Near(_Model):
    """A neighbourhood: holds within `radius` of a point, in variables scaled to [-1, 1] over the range that
    the collected episodes show (Chebyshev distance, so that each variable is within `radius`)."""

    point: dict[str, Finite]
    radius: float = Field(gt=0, le=2)


class Evidence(_Model):
    """Where in the collected episodes the advice comes from, and the values of the task's variables there."""

    episode: int = Field(ge=0)
    step: int = Field(ge=0)
    state: dict[str, Finite] = {}


class Action(_Model):
    """Discrete: `index`. Continuous: `values`, one for each dimension, absolute or (delta) added to the policy's
    own action; the result is clipped to the bounds."""

    index: int | None = Field(default=None, ge=0)
    values: tuple[Finite, ...] | None = None
    delta: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Action:
        if (self.index is None) == (self.values is None):
            raise ValueError("give either index (discrete actions) or values (continuous actions)")
        return self


class Verdict(_Model):
    """What branching the simulator found. `gain` is with the advice minus without, per branch; `low` and `high`
    bound it at the stated confidence after correction for the number of tests."""

    status: Literal["helpful", "harmful", "unresolved", "untested"]
    metric: str = ""
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    steps: int = 0
    note: str = ""


Decision = Literal["accepted", "rejected", "edited", "written"]
"""What a person did with a piece of advice or a term in a review."""


class Advice(_Model):
    """One piece of advice. It applies where `when` holds, or within `near`; where both are None, at the exact
    state of the evidence (the paper's look-up table)."""

    id: str = Field(min_length=1, max_length=64)
    kind: Literal["state", "rule"]
    """`state`: a critical state of one episode. `rule`: says what to do wherever its condition holds."""
    why: str
    evidence: Evidence | None = None
    when: When | None = None
    near: Near | None = None
    action: Action | None = None
    hold: int = Field(default=1, ge=1, le=100)
    """For how many steps the action is held once it is taken (verification and executed modes)."""
    reward: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    """Implicit reward of being in the state, in units of the task's reward scale."""
    verdict: Verdict = Verdict(status="untested")
    enabled: bool = True
    decision: Decision | None = None
    """Of a person, in a review (`unstuck review`); None where nobody decided. What counts is `enabled`."""

    @model_validator(mode="after")
    def _applies_somewhere(self) -> Advice:
        if self.kind == "rule" and self.when is None:
            raise ValueError("a rule needs a condition: `when`")
        if self.when is None and self.near is None and self.evidence is None:
            raise ValueError("needs one of `when`, `near`, `evidence` to say where it applies")
        return self


class Term(_Model):
    """A bounded piecewise-linear function of one variable, zero where `when` does not hold:

    with x the variable (or |x| when `abs`): excess = max(0, x - above) or max(0, below - x), at most `cap`;
    with neither `above` nor `below` the excess is x clipped to ±cap; the value is weight · excess.
    """

    variable: str
    abs: bool = False
    above: Finite | None = None
    below: Finite | None = None
    weight: Finite
    cap: float = Field(gt=0, allow_inf_nan=False)
    when: When = ()
    why: str = ""
    enabled: bool = True
    decision: Decision | None = None
    """As of advice."""

    @model_validator(mode="after")
    def _one_side(self) -> Term:
        if self.above is not None and self.below is not None:
            raise ValueError("give `above` or `below`, not both; use two terms")
        if not abs(self.weight) * self.cap <= MAX_WORTH:
            raise ValueError(
                f"weight {self.weight:g} times cap {self.cap:g} is more than {MAX_WORTH:,.0f}; make it less"
            )
        return self

    def words(self) -> str:
        x = f"|{self.variable}|" if self.abs else self.variable
        excess = (
            f"({x} above {self.above:g})" if self.above is not None
            else f"({x} below {self.below:g})" if self.below is not None
            else x
        )  # fmt: skip
        where = f" while {when_words(self.when)}" if self.when else ""
        return f"{self.weight:+g} · {excess}, at most {self.cap:g}{where}"


class ProgressMeasure(_Model):
    """How far along a state is: the sum of its terms. Judges advice where the true reward cannot."""

    terms: tuple[Term, ...] = Field(min_length=1)
    aggregate: Literal["last", "max", "mean"] = "last"
    """How the values along a branch become one number."""
    why: str = ""

    @model_validator(mode="after")
    def _all_count(self) -> ProgressMeasure:
        if not all(t.enabled for t in self.terms):
            raise ValueError("terms of the progress measure cannot be switched off; leave them out")
        return self


class Treatment(_Model):
    """What should be tried on the agent, and why."""

    name: TreatmentName
    reason: str = ""


class Provenance(_Model):
    """Who said it, and from what."""

    explainer: str
    model: str = ""
    recordings: tuple[str, ...] = ()
    """Keys of the recorded exchanges that this guidance was read from."""
    dropped: tuple[str, ...] = ()
    """What the model said that was not valid even after it was asked again, in words."""


class Guidance(_Model):
    """All that is said of one agent on one task: the file between explaining and training."""

    format: int = FORMAT
    env_id: str
    diagnosis: str
    summary: str = ""
    """How the episodes go, in the coach's words."""
    advice: tuple[Advice, ...] = ()
    """In order: where several apply, the first does."""
    reward_terms: tuple[Term, ...] = ()
    progress: ProgressMeasure | None = None
    treatments: tuple[Treatment, ...] = ()
    """What the coach would try on the agent, most promising first."""
    scales: dict[str, tuple[Finite, Finite]] = {}
    """Variable → (low, high) as seen in the collected episodes; the unit of neighbourhoods."""
    reward_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """What an implicit reward of 1 is worth in the task's own reward: its typical size in one step."""
    set_verdict: Verdict = Verdict(status="untested")
    """What verification found of all enabled advice applied together."""
    provenance: Provenance = Provenance(explainer="by hand")

    @model_validator(mode="after")
    def _unique_ids(self) -> Guidance:
        ids = [a.id for a in self.advice]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"advice ids must be unique; given twice: {', '.join(twice)}")
        return self

    @property
    def active(self) -> tuple[Advice, ...]:
        """The advice that may touch training: enabled, and not found harmful."""
        return tuple(a for a in self.advice if a.enabled and a.verdict.status != "harmful")

    @property
    def active_terms(self) -> tuple[Term, ...]:
        """The reward terms that may enter training: those that are enabled."""
        return tuple(t for t in self.reward_terms if t.enabled)

    def as_used(self) -> dict[str, Any]:
        """As JSON, without what changes nothing in training: who decided what, and terms that are switched off. What
        was trained once is known by this."""
        data = self.model_dump(mode="json")
        data["reward_terms"] = [t for t in data["reward_terms"] if t["enabled"]]
        for piece in data["advice"]:
            del piece["decision"]
        for term in (*data["reward_terms"], *(data["progress"] or {"terms": ()})["terms"]):
            del term["enabled"], term["decision"]
        return data


def problems(guidance: Guidance, card: TaskCard) -> list[str]:
    """What in the guidance does not fit the task: one sentence each, naming the field. Empty if all fits."""
    found: list[str] = []
    for i, advice in enumerate(guidance.advice):
        found += advice_problems(advice, card, f"advice[{i}] ({advice.id})")
    for i, term in enumerate(guidance.reward_terms):
        found += term_problems(term, card, f"reward_terms[{i}]")
    for i, term in enumerate(guidance.progress.terms if guidance.progress else ()):
        found += term_problems(term, card, f"progress.terms[{i}]")
    return found


def advice_problems(advice: Advice, card: TaskCard, where: str) -> list[str]:
    found = when_problems(advice.when or (), card, where)
    for name in advice.near.point if advice.near else ():
        found += _name_problems(name, card, f"{where}.near")
    if advice.action is not None:
        found += action_problems(advice.action, card.action, f"{where}.action")
    return found


def term_problems(term: Term, card: TaskCard, where: str) -> list[str]:
    return _name_problems(term.variable, card, where) + when_problems(term.when, card, where)


def when_problems(when: When, card: TaskCard, where: str) -> list[str]:
    names = [name for c in conditions_of(when) for name in c.variables]
    return [p for name in names for p in _name_problems(name, card, f"{where}.when")]


def _name_problems(name: str, card: TaskCard, where: str) -> list[str]:
    if name in card.variable_names:
        return []
    return [f"{where}: there is no variable {name!r}.{did_you_mean(name, card.variable_names)}"]


def action_problems(action: Action, spec: ActionSpec, where: str) -> list[str]:
    if spec.kind == "discrete":
        if action.index is None:
            return [f"{where}: the task's actions are discrete; give `index`, not `values`"]
        if action.index >= len(spec.names):
            return [f"{where}: index {action.index} is out of bounds; actions are 0 to {len(spec.names) - 1}"]
        return []
    kind = "continuous" if spec.kind == "continuous" else "several choices at once"
    if action.values is None:
        return [f"{where}: the task's actions are {kind}; give `values`, not `index`"]
    if spec.kind == "choices" and (action.delta or any(not float(v).is_integer() for v in action.values)):
        return [f"{where}: the task's actions are {kind}; give whole numbers, and no delta"]
    if len(action.values) != len(spec.names):
        return [f"{where}: expected {len(spec.names)} values ({', '.join(spec.names)}), got {len(action.values)}"]
    found = []
    for name, value, low, high in zip(spec.names, action.values, spec.low, spec.high, strict=True):
        span = high - low
        lo, hi = (-span, span) if action.delta else (low, high)
        if not lo - 1e-9 <= value <= hi + 1e-9:
            what = "delta" if action.delta else "value"
            found.append(f"{where}: {what} {value:g} for {name} is out of bounds [{lo:g}, {hi:g}]")
    return found


def validation_message(error: ValidationError) -> str:
    """Pydantic's findings as one line each: the field's path, then what is wrong with it."""
    lines = []
    for item in error.errors(include_url=False):
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]).lstrip(".")
        lines.append(f"{path or 'the whole'}: {item['msg']}")
    return "\n".join(lines)


MOST_BYTES = 16 * 2**20


def strict_json(text: str | bytes) -> Any:
    """JSON in which no name stands twice in one object.

    Raises:
        ValueError, RecursionError: it is none.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two entries with the same name the second would silently win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice[:80]!r} is there twice in one object")
    return found


def load_guidance(path: Path, card: TaskCard | None = None) -> Guidance:
    """Read and check a guidance file.

    Raises:
        GuidanceError: if it is no JSON, of a newer format, invalid, or does not fit the card; names the field.
    """
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise GuidanceError(f"{path} is larger than {MOST_BYTES >> 20} MiB; no guidance is")
        data: Any = strict_json(Path(path).read_bytes().decode("utf-8-sig"))
    except OSError as error:
        again = " `unstuck explain RUN` makes advice.json anew, `unstuck verify RUN` guidance.json."
        hint = again if isinstance(error, FileNotFoundError) else ""
        raise GuidanceError(f"cannot read {path}: {error.strerror or error}.{hint}") from error
    except (ValueError, RecursionError) as error:
        raise GuidanceError(f"{path} is not valid JSON: {error}") from error
    if isinstance(data, dict) and isinstance(data.get("format"), int) and data["format"] > FORMAT:
        raise GuidanceError(f"{path} has format {data['format']}, this Unstuck reads up to {FORMAT}; update it")
    try:
        guidance = Guidance.model_validate(data)
    except ValidationError as error:
        raise GuidanceError(f"{path} is not valid guidance:\n{validation_message(error)}") from error
    if card is not None and (found := problems(guidance, card)):
        raise GuidanceError(f"{path} does not fit {card.env_id}:\n" + "\n".join(found))
    return guidance


def save_guidance(guidance: Guidance, path: Path) -> None:
    """Write it whole or not at all, indented, without empty fields, so that a person can edit it."""
    text = json.dumps(guidance.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False)
    write_whole(Path(path), text + "\n")


def scales_from(values: np.ndarray, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """(N, V) values → variable → (low, high) seen; a constant variable gets a width of 1 around it."""
    low, high = values.min(axis=0), values.max(axis=0)
    flat = high - low < 1e-9
    low, high = np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)
    return {n: (float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)}
