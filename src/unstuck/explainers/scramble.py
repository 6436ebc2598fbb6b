"""Controls that isolate what a language model adds: its own explanation, with one part of it drawn at random.

Number, shape and size of what is drawn stay those of the model's, so that only the choice is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unstuck.config import ExplainConfig, ScrambleSettings
from unstuck.episodes import Episode
from unstuck.explainers import Explainer, Explanation, make_explainer
from unstuck.explainers.base import evidence_at
from unstuck.guidance import Action, Advice, AnyOf, Clause, Condition, Near, Term, When
from unstuck.llm import Request
from unstuck.matching import Conditions, Terms
from unstuck.tasks.card import Describer, TaskCard
from unstuck.views import View, views_of
from unstuck.workspace import Workspace

DRAWS = 100
"""How often something that would never apply is drawn anew."""


class ScrambledExplainer(Explainer):
    """Asks a language model, then draws at random what its name says (`scrambled`)."""

    Settings = ScrambleSettings
    settings: ScrambleSettings

    def __init__(self, name: str, space: Workspace, settings: ScrambleSettings, model: Any = None):
        super().__init__(name, space, settings, model)
        self.inner = make_explainer("llm", space, model)

    @classmethod
    def asks(cls, config: ExplainConfig) -> bool:
        return True

    def announce(self) -> str:
        return f"{self.inner.announce()}, then drawing at random"

    def depends(self) -> list[Any]:
        return self.inner.depends()

    def requests(self) -> list[Request]:
        return self.inner.requests()

    def explain(self) -> Explanation:
        return scrambled(self.inner.explain(), self.name, self.settings.seed, self.space.episodes, self.space.describer)


def scrambled(
    found: Explanation, what: str, seed: int, episodes: Iterable[Episode], describer: Describer
) -> Explanation:
    """The explanation with one part of it drawn at random, with `seed`:

    - random-states: the states of advice: other steps of other episodes, other variables and bounds in conditions;
    - random-actions: the actions of advice;
    - random: both;
    - random-terms: the variables, bounds and signs of reward terms. What each is worth, on average over the collected
      states, stays as it is.
    """
    draw = _Draw(views_of(episodes, describer), describer.card, np.random.default_rng([seed, 7]))
    guidance = found.guidance
    advice, terms = list(guidance.advice), list(guidance.reward_terms)
    if what in ("random", "random-states"):
        advice = [draw.states(a) for a in advice]
    if what in ("random", "random-actions"):
        advice = [draw.action(a) for a in advice]
    if what == "random-terms":
        terms = [draw.term(t) for t in terms]
    provenance = guidance.provenance.model_copy(update={"explainer": what})
    changed: dict[str, Any] = {
        "advice": tuple(advice), "reward_terms": tuple(terms), "provenance": provenance,
        "diagnosis": f"A control, drawn at random ({what}) in the shape of this: {guidance.diagnosis}",
    }  # fmt: skip
    return replace(found, guidance=guidance.model_copy(update=changed))


class _Draw:
    def __init__(self, views: Sequence[View], card: TaskCard, rng: np.random.Generator):
        self.views, self.card, self.rng = list(views), card, rng
        self.values = np.concatenate([v.states for v in views])
        names = np.array(card.variable_names)
        self.names = names[np.isfinite(self.values).all(axis=0) & (np.ptp(self.values, axis=0) > 1e-9)].tolist()
        if not self.names:
            self.names = names.tolist()

    def states(self, advice: Advice) -> Advice:
        """The advice at a random step of a random episode, or under a random condition of the same shape."""
        changed: dict[str, Any] = {}
        if advice.evidence is not None:
            view = self.views[int(self.rng.integers(len(self.views)))]
            evidence = evidence_at(view, int(self.rng.integers(len(view))), self.card)
            changed["evidence"] = evidence
            if advice.near is not None:
                point = {n: evidence.state[n] for n in advice.near.point if n in evidence.state} or evidence.state
                changed["near"] = Near(point=point, radius=advice.near.radius)
        if advice.when:
            changed["when"] = self._when(advice.when)
        return advice.model_copy(update=changed)

    def action(self, advice: Advice) -> Advice:
        """Discrete: any action. Continuous: any within bounds; of deltas, any direction of the same length."""
        old = advice.action
        if old is None:
            return advice
        spec = self.card.action
        if old.index is not None:
            new = Action(index=int(self.rng.integers(len(spec.names))))
        else:
            low, high = np.array(spec.low), np.array(spec.high)
            if spec.kind == "choices":
                values = self.rng.integers(low, high, endpoint=True).astype(np.float64)
            elif old.delta:
                direction = self.rng.standard_normal(len(low))
                values = direction / np.linalg.norm(direction) * np.linalg.norm(old.values or ())
                values = np.clip(values, low - high, high - low)
            else:
                values = self.rng.uniform(low, high)
            new = Action(values=tuple(round(float(v), 4) for v in values), delta=old.delta)
        return advice.model_copy(update={"action": new})

    def _when(self, when: When) -> When:
        """Of the same shape, and one that holds somewhere in the collected episodes, if such a one is found."""
        new = when
        for _ in range(DRAWS):
            new = tuple(self._clause(c) for c in when)
            if Conditions([new], self.card.variable_names)(self.values).any():
                break
        return new

    def _clause(self, clause: Clause) -> Clause:
        if isinstance(clause, AnyOf):
            return AnyOf(any=tuple(self._condition(c) for c in clause.any))
        return self._condition(clause)

    def _condition(self, condition: Condition) -> Condition:
        name, value = self._bound(condition.abs)
        if condition.than is None:
            return condition.model_copy(update={"variable": name, "value": value})
        # Of two variables: any two, with the bound at what their difference is somewhere.
        other = str(self.rng.choice(self.names))
        row = self.values[self.rng.integers(len(self.values))]
        x, y = (float(row[self.card.variable_names.index(n)]) for n in (name, other))
        x, y = abs(x) if condition.abs else x, abs(y) if condition.than.abs else y
        than = condition.than.model_copy(update={"variable": other})
        value = round(x - than.times * y, 6)
        return condition.model_copy(update={"variable": name, "than": than, "value": value})

    def _bound(self, absolute: bool) -> tuple[str, float]:
        """A random variable, and its value (or the absolute one) at a random collected state."""
        name = str(self.rng.choice(self.names))
        value = float(self.values[self.rng.integers(len(self.values)), self.card.variable_names.index(name)])
        return name, round(abs(value) if absolute else value, 6)

    def term(self, term: Term) -> Term:
        """A random term of the same shape whose mean absolute value over the collected states is the same; where that
        is 0 (the old term, or all that are drawn, hold nowhere there), with a weight of the same size."""
        worth, new = self._worth(term), term
        for _ in range(DRAWS):
            new = self._term(term)
            now = self._worth(new)
            if now > 1e-12 and worth > 1e-12:
                return new.model_copy(update={"weight": new.weight * worth / now})
            if now > 1e-12:
                return new
        return new

    def _term(self, term: Term) -> Term:
        changed: dict[str, Any] = {"when": self._when(term.when) if term.when else (), "why": "drawn at random"}
        changed["abs"] = bool(self.rng.integers(2))
        changed["variable"], bound = self._bound(changed["abs"])
        if term.above is not None or term.below is not None:
            sides = ("above", "below") if self.rng.integers(2) else ("below", "above")
            changed[sides[0]], changed[sides[1]] = bound, None
        changed["weight"] = float(self.rng.choice([-1.0, 1.0])) * abs(term.weight)
        column = np.abs(self.values[:, self.card.variable_names.index(changed["variable"])])
        # A cap is in the variable's unit: as far as the variable goes.
        changed["cap"] = float(max(np.nanmax(column), 1e-6))
        return term.model_copy(update=changed)

    def _worth(self, term: Term) -> float:
        return float(np.abs(Terms([term], self.card.variable_names)(self.values)).mean())
