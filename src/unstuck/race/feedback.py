"""The coach is asked again after the first rung, with what came of its guidance; what it says then races too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from unstuck.errors import LLMError, NoRecordingError
from unstuck.explainers.llm.facts import number
from unstuck.explainers.llm.feedback import (
    MOST_VARIABLES,
    Guided,
    OutcomeFacts,
    RuleFacts,
    TermFacts,
    Tried,
    ask_again,
    curve_words,
)
from unstuck.guidance import Advice, Guidance, Term, when_words
from unstuck.guide.plan import Plan
from unstuck.matching import Terms
from unstuck.race.competitors import TRUNK, competitor
from unstuck.race.entering import usable
from unstuck.race.entry import Entry
from unstuck.race.legs import cell
from unstuck.race.screen import FEWEST
from unstuck.race.track import Track
from unstuck.results import MODES, Rank
from unstuck.views import View, views_of

ROOM = 3
"""Places in the first rung below which the coach is not asked again: plain PPO, its first guidance, and its answer."""


@dataclass(frozen=True)
class Feedback:
    """How a race asks again.

    Args:
        guidances: the coach's opinions so far, with the plans by which they enter training.
    """

    track: Track
    guidances: Sequence[tuple[Guidance, Plan]]

    def newcomer(self, racing: Sequence[Entry]) -> Entry | None:
        """A competitor under the guidance that the coach gives when it is told how these did; None where it says
        nothing that can be trained with. It is asked once: a race that goes on after a kill finds the answer.

        Raises:
            NoRecordingError: only recorded replies may be used, and there is none yet.
        """
        track, guided = self.track, [e for e in racing if e.guidance is not None]
        if not guided:
            track.say("the coach is not asked again: nobody was trained under its guidance")
            return None
        best = max(guided, key=lambda e: float(np.mean(e.points[-1][1])))
        assert best.guidance is not None
        found = self._asked(best.guidance, racing)
        track.asked_usd = found["usd"]
        if found["guidance"] is None:
            track.say(f"the coach was not asked again: {found['why']}")
            return None
        guidance, plan = Guidance.model_validate(found["guidance"]), self.guidances[best.competitor.opinion][1]
        if not usable(guidance, plan):
            track.say("nothing of what the coach said, asked again, can be trained with")
            return None
        return self._entry(guidance, plan, racing)

    def _asked(self, parent: Guidance, racing: Sequence[Entry]) -> dict[str, Any]:
        """The cell of the answer: guidance (or None, and why), and what it cost."""
        track, outcome = self.track, outcome_of(self.track, racing, parent)

        def work(draft: Path) -> dict[str, Any]:
            try:
                guidance, answer = ask_again(track.space, parent, outcome, say=track.say)
            except NoRecordingError:
                raise
            except LLMError as error:
                return {"guidance": None, "why": str(error), "usd": 0.0}
            return {"guidance": guidance.model_dump(mode="json"), "why": "", "usd": answer.usage.spent_usd}

        llm = track.space.config.llm
        mark = track.mark("feedback", outcome.words(), list(parent.provenance.recordings), llm.model)
        return cell(track.home / "feedback", mark, work)

    def _entry(self, guidance: Guidance, plan: Plan, racing: Sequence[Entry]) -> Entry:
        """It goes through what the best so far went through, and is trained under the new guidance."""
        best = max(racing, key=lambda e: self.track.curve(e).level)
        body = [t.name for t in best.competitor.treatments if t.name not in (TRUNK, "guidance")]
        one = competitor("+".join([*body, f"guidance@{len(self.guidances) + 1}"]))
        reason = f"{one.reason}; the coach was asked again, with what came of the first rung"
        return Entry(one, one.plan(plan), guidance, rank=Rank(name=one.name, reason=reason))


def outcome_of(track: Track, racing: Sequence[Entry], parent: Guidance) -> OutcomeFacts:
    """What there is to tell of a rung: of all who were trained and measured."""
    deterministic = track.config.mode == MODES[0]
    views = views_of(track.space.episodes, track.space.describer)
    told = [e for e in racing if e.facts.get("measured")]
    guidances: list[Guidance] = []
    for entry in told:
        if entry.guidance is not None and entry.guidance not in guidances:
            guidances.append(entry.guidance)
    return OutcomeFacts(
        steps=max((e.trained for e in told), default=0),
        episodes=len(told[0].facts["measured"]) if told else 0,
        mode=track.config.mode,
        before=track.before[0],
        tried=tuple(_tried(track, e) for e in told),
        guided=tuple(_guided(g, [e for e in told if e.guidance == g], g == parent, views, track) for g in guidances),
        variables=tuple(_variables(track, told, [v for v in views if v.deterministic == deterministic])),
    )


def _tried(track: Track, entry: Entry) -> Tried:
    measured = entry.facts["measured"]
    steps, means, _ = track.training_curve(entry)
    returns = [m["return"] for m in measured]
    parts = [
        f"{name} {number(float(np.mean([m['parts'][name] for m in measured])))}"
        for name in measured[0]["parts"]
        if all(name in m["parts"] for m in measured)
    ]
    return Tried(
        name=entry.name,
        what=entry.competitor.reason[:1].upper() + entry.competitor.reason[1:],
        returns=", ".join(number(r) for r in returns),
        mean=float(np.mean(returns)),
        length=float(np.mean([m["length"] for m in measured])),
        curve=curve_words([(int(s), float(m)) for s, m in zip(steps, means, strict=True)], number),
        parts=", ".join(parts),
        hit_rate=entry.facts.get("hit_rate") if entry.guidance is not None else None,
    )


def _guided(guidance: Guidance, under: Sequence[Entry], is_parent: bool, views: Sequence[View], track: Track) -> Guided:
    card = track.space.describer.card
    measured = [m for e in under for m in e.facts["measured"]]
    steps = max(1, sum(m["length"] for m in measured))
    plan = under[0].plan
    terms, advice = plan.reward_terms(guidance), plan.advice(guidance) if plan.imitate > 0 else ()
    paid = np.array([m.get("paid", []) for m in measured])
    acted = np.array([m.get("acted", []) for m in measured]).sum(axis=0)
    rules = []
    for i, piece in enumerate(advice):
        held = sum(m["held"][i] for m in measured)
        acting = [m["followed"][i] for m in measured if m["followed"][i] is not None]
        words = _rule_words(piece, card.action.names)
        rules.append(RuleFacts(words, held / steps, sum(acting) / held if acting and held else None))
    return Guided(
        title="Your guidance" if is_parent else "Another opinion, that you did not see",
        by=", ".join(e.name for e in under),
        terms=tuple(
            _term(t, paid[:, i], float(acted[i]) / steps, [m["return"] for m in measured], views, card.variable_names)
            for i, t in enumerate(terms)
        ),
        rules=tuple(rules),
    )


def _term(
    term: Term, paid: np.ndarray, share: float, returns: Sequence[float], views: Sequence[View], names: Sequence[str]
) -> TermFacts:
    measure = Terms([term], names)
    x = np.array([*(float(measure(v.states[1:]).sum()) for v in views), *paid])
    y = np.array([*(v.total_reward for v in views), *returns])
    varies = len(x) >= FEWEST and np.ptp(x) > 1e-12 and np.ptp(y) > 1e-12
    correlation = float(spearmanr(x, y).statistic) if varies else None
    return TermFacts(term.words(), float(paid.mean()), share, correlation, len(x))


def _rule_words(advice: Advice, actions: Sequence[str]) -> str:
    where = when_words(advice.when) if advice.when is not None else "near one critical state"
    if advice.action is None:
        return where
    index = advice.action.index
    action = actions[index] if index is not None else str(advice.action.values)
    return f"{where} → {action}"


def _variables(track: Track, told: Sequence[Entry], before: Sequence[View]) -> list[str]:
    names = track.space.describer.card.variable_names[:MOST_VARIABLES]
    columns = {"before": np.concatenate([v.states[1:] for v in before]).mean(axis=0)} if before else {}
    for entry in told:
        measured = entry.facts["measured"]
        lengths = [m["length"] for m in measured]
        columns[entry.name] = np.average([m["means"] for m in measured], axis=0, weights=lengths)
    lines = [f"variable: {'; '.join(columns)}"]
    return lines + [
        f"{name}: {'; '.join(number(float(column[i])) for column in columns.values())}" for i, name in enumerate(names)
    ]
