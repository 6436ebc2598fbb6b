"""Which parts of the guidance a method uses, and how: the methods of the grid as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from unstuck.config import GuideConfig, Method
from unstuck.guidance import Advice, Guidance, Term


@dataclass(frozen=True)
class Plan:
    """Everything that decides how guidance enters one training run. The defaults are plain PPO."""

    execute: bool = False
    log_prob: Literal["suggestion", "own", "mixed"] = "suggestion"
    imitate: float = 0.0
    state_reward: bool = False
    terms: bool = False
    anneal: Literal["linear", "none"] = "linear"
    fade: float = 1.0
    """Share of training after which annealed rewards are zero."""
    applies: Literal["as-given", "table", "near"] = "as-given"
    verified: bool = False
    """Uses what verification found, drops what it found harmful, and is charged for its steps."""
    kinds: tuple[str, ...] = ("rule", "state")
    only_helpful: bool = False
    """Uses only advice that verification found helpful."""
    radius: float = 0.15
    bins: int = 20

    @property
    def guided(self) -> bool:
        return self.execute or self.imitate > 0 or self.state_reward or self.terms

    def advice(self, guidance: Guidance) -> tuple[Advice, ...]:
        """The advice that this plan lets touch training, in order."""
        pool = guidance.active if self.verified else tuple(a for a in guidance.advice if a.enabled)
        return tuple(
            a for a in pool if a.kind in self.kinds and (not self.only_helpful or a.verdict.status == "helpful")
        )

    def reward_terms(self, guidance: Guidance) -> tuple[Term, ...]:
        return guidance.reward_terms if self.terms else ()


_PAPER = Plan(applies="table", anneal="none", kinds=("state",))

PLANS: dict[Method, Plan] = {
    "ppo": Plan(),
    "ultra-a": replace(_PAPER, execute=True),
    "ultra-r": replace(_PAPER, state_reward=True),
    "ultra-ra": replace(_PAPER, execute=True, state_reward=True),
}


def _unstuck(guidance: Guidance, discrete: bool) -> Plan:
    """Our own mode: rules imitated for discrete actions, annealed reward terms for continuous ones.

    Without terms (the search explainer has none) continuous advice is imitated too, but only where verification
    found that it helps: unverified torques are no better than random ones.
    """
    plan = Plan(verified=True)
    if discrete:
        return replace(plan, imitate=0.3)
    if guidance.reward_terms:
        return replace(plan, terms=True)
    return replace(plan, imitate=0.1, only_helpful=True)


def make_plan(method: Method, config: GuideConfig, guidance: Guidance | None, discrete: bool) -> Plan:
    """The method's defaults, with the user's settings over them. Without guidance it is plain PPO."""
    if method == "ppo" or guidance is None:
        return PLANS["ppo"]
    plan = _unstuck(guidance, discrete) if method == "unstuck" else PLANS[method]
    given = {k: v for k, v in config.model_dump().items() if v is not None}
    return replace(plan, **given)
