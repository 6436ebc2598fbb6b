"""What guidance does in the episodes by which a competitor is judged: what each reward term pays, where rules apply.
Plain data, which goes into the folder of the leg."""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.branching.lockstep import stack
from unstuck.guidance import Guidance
from unstuck.guide.plan import Plan
from unstuck.matching import Matcher, Terms
from unstuck.rollout import Trace
from unstuck.tasks.card import Describer


class Measure:
    """Of one competitor. `add` takes each episode as it ends, `facts` is what comes of all, by their seeds.

    Args:
        guidance: under which it is trained; None for none.
        plan: of which reward terms and advice count.
    """

    def __init__(self, describer: Describer, guidance: Guidance | None, plan: Plan):
        self.describer, names = describer, describer.card.variable_names
        terms = plan.reward_terms(guidance) if guidance else ()
        self.advice = plan.advice(guidance) if guidance and plan.imitate > 0 else ()
        self._terms = Terms(terms, names) if terms else None
        chosen = {"applies": plan.applies, "radius": plan.radius, "bins": plan.bins}
        self._matcher = Matcher(self.advice, guidance, names, **chosen) if self.advice and guidance else None
        self._found: dict[int, dict[str, Any]] = {}

    def add(self, trace: Trace) -> None:
        """An episode whose observations and actions are kept."""
        states = self.describer.variables(stack(trace.observations))  # (T + 1, V)
        fact: dict[str, Any] = {
            "return": trace.total_reward, "length": len(trace),
            "means": states[1:].mean(axis=0).round(6).tolist(),
            "parts": {name: round(sum(values), 4) for name, values in trace.reward_parts.items()},
        }  # fmt: skip
        if self._terms is not None:
            each = self._terms.each(states[1:])
            fact |= {"paid": each.sum(axis=0).round(4).tolist(), "acted": (each != 0).sum(axis=0).tolist()}
        if self._matcher is not None:
            fact |= self._applied(self._matcher.first(states[:-1]), np.asarray(trace.actions))
        self._found[trace.seed] = fact

    def _applied(self, first: np.ndarray, actions: np.ndarray) -> dict[str, Any]:
        """Steps in which each piece of advice was the first that applied, and in which the agent acted so."""
        held = [int((first == i).sum()) for i in range(len(self.advice))]
        followed = [
            None if a.action is None or a.action.index is None
            else int((actions[first == i] == a.action.index).sum())
            for i, a in enumerate(self.advice)
        ]  # fmt: skip
        return {"held": held, "followed": followed}

    def facts(self) -> list[dict[str, Any]]:
        return [self._found[seed] for seed in sorted(self._found)]
