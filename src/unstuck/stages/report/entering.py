"""Which advice and reward terms enter training, by the method of the run, and why the rest does not."""

from __future__ import annotations

from dataclasses import dataclass

from unstuck.config import RunConfig
from unstuck.errors import GuidanceError, UnstuckError
from unstuck.guidance import Advice, Guidance, Term
from unstuck.guide.plan import Plan
from unstuck.methods import METHODS, Setting, make_plan, setting_of
from unstuck.run import Run
from unstuck.tasks.card import TaskCard
from unstuck.workspace import Workspace


@dataclass(frozen=True)
class Entry:
    """Whether a piece of advice or a reward term enters training."""

    enters: bool
    why: str
    """In a sentence."""
    by_verdict: bool = False
    """Whether its verdict alone keeps it out."""


class Entering:
    """What the run's method makes of a guidance.

    Args:
        setting: None where the task is not installed here; then nothing is known.
    """

    def __init__(self, config: RunConfig, guidance: Guidance, setting: Setting | None):
        self.guidance, self.method = guidance, METHODS[config.train.method].label
        self.plan: Plan | None = None
        if setting is not None:
            try:
                self.plan = make_plan(config.train.method, config.train.guide, guidance, setting)
            except GuidanceError:
                self.plan = None
        self._used = {a.id for a in self.plan.advice(guidance)} if self.plan and self.plan.guided else set()

    def of(self, advice: Advice) -> Entry | None:
        """What becomes of a piece of advice; None where it is not known."""
        plan = self.plan
        if plan is None:
            return None
        if not advice.enabled:
            return Entry(False, "switched off")
        if advice.kind not in plan.kinds:
            return Entry(False, f"the method {self.method} uses critical states only")
        acts = advice.action is not None and bool(plan.execute or plan.imitate > 0)
        rewards = advice.reward is not None and bool(plan.state_reward)
        if not (acts or rewards or (plan.restart > 0 and advice.evidence is not None)):
            if not plan.guided:
                return Entry(False, f"the method {self.method} uses no advice")
            what = "suggested actions" if advice.action is not None else "implicit rewards"
            return Entry(False, f"the method {self.method} uses no {what} on this task")
        if advice.id in self._used:
            how = "executed" if plan.execute else "imitated" if acts else "rewarded" if rewards else "restarted at"
            return Entry(True, f"its {'action is' if acts else 'state is'} {how} where it applies")
        status = advice.verdict.status
        if plan.only_helpful and status != "helpful":
            return Entry(
                False, f"only actions that are found helpful are imitated here, and it is {_word(status)}", True
            )
        if status == "harmful":
            return Entry(False, "the simulator found it harmful", True)
        return Entry(False, "true returns showed neither that it helps nor that it harms", True)

    def of_term(self, term: Term) -> Entry | None:
        """What becomes of a reward term; None where it is not known."""
        if self.plan is None:
            return None
        if not term.enabled:
            return Entry(False, "switched off")
        if not self.plan.terms:
            return Entry(False, f"the method {self.method} uses no reward terms on this task")
        return Entry(True, "its reward is added while training, and fades")


def setting_for(run: Run, card: TaskCard | None) -> Setting | None:
    """What the run's plan depends on; None without the task. Where the agent cannot be read, it counts as one that
    learns from its own rollouts."""
    if card is None:
        return None
    try:
        return setting_of(Workspace(run).agent, card)
    except UnstuckError:
        return Setting(discrete=card.action.kind == "discrete")


def _word(status: str) -> str:
    return "not tested" if status == "untested" else status
