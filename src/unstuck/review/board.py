"""All that the page shows, as plain values: the panel, each piece of advice and each term with what is known of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from unstuck.episodes import EpisodeSet
from unstuck.errors import GuidanceError, UnstuckError
from unstuck.guidance import Advice, Guidance, Term, Verdict, conditions_of
from unstuck.methods import Setting
from unstuck.review import decide
from unstuck.review.film import Film, film, wanted_steps
from unstuck.review.live import live
from unstuck.review.plots import ends_of, holds_plot, interval_plot, window_plot
from unstuck.review.seen import Seen, Window
from unstuck.run import Run
from unstuck.stages.report import words
from unstuck.stages.report.entering import Entering, setting_for
from unstuck.stages.report.panel import panel_context
from unstuck.stages.report.words import Words
from unstuck.tasks.card import Describer, TaskCard
from unstuck.workspace import open_describer

FIRST, MORE = 4, 8
"""Variables shown around a critical state, and how many more on demand: those that stand out most."""
DECISIONS = {
    "accepted": ("good", "accepted"), "rejected": ("bad", "rejected"), "edited": ("open", "edited"),
    "written": ("open", "written by a person"), None: ("none", "not decided"),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What does not change while the page is open: the task and the collected episodes."""

    run: Run
    describer: Describer | None
    seen: Seen
    setting: Setting | None = None
    films: dict[tuple[int, int], Film] = field(default_factory=dict)
    """(episode, step) → its film, once drawn."""

    @property
    def card(self) -> TaskCard | None:
        return self.describer.card if self.describer else None

    @property
    def lengths(self) -> dict[int, int]:
        return {i: len(r) for i, r in self.seen.rewards.items()}

    def film(self, episode: int, step: int) -> Film:
        """Drawn when it is first asked for."""
        key = (episode, step)
        if key not in self.films:
            self.films[key] = film(self.run.config.task, EpisodeSet(self.run.root / "collect"), episode, step)
        return self.films[key]


def open_task(run: Run) -> Task:
    """The task of a run; without its describer where its simulator is not installed, and without episodes where they
    were not collected, cannot be read, or are of another version of the task."""
    describer: Describer | None = None
    episodes = EpisodeSet(run.root / "collect")
    with contextlib.suppress(UnstuckError, ValueError):
        describer = open_describer(run.config.task)
    try:
        seen = Seen(describer, episodes)
    except (UnstuckError, ValueError):
        seen = Seen(None, episodes)
    return Task(run, describer, seen, setting_for(run, describer.card if describer else None))


class Board:
    """The page's values, as the files are now.

    Args:
        live: whether decisions can be taken; else it is a page to read.
    """

    def __init__(self, task: Task, *, live: bool):
        self.task, self.live = task, live
        self.run = Run(task.run.root)
        self.path = decide.target(self.run)
        self.revision = decide.revision(self.path)
        self.guidance: Guidance | None = None
        self.problem = ""
        try:
            self.guidance = decide.read(self.run, task.card)
        except GuidanceError as error:
            self.problem = str(error)
        self.words = Words(task.card)

    @cached_property
    def entering(self) -> Entering | None:
        return Entering(self.run.config, self.guidance, self.task.setting) if self.guidance else None

    def context(self) -> dict[str, Any]:
        """Values of the whole page."""
        guidance = self.guidance
        agent = Path(self.run.config.agent.agent).name or self.run.agent_path.name
        return {
            **panel_context(self.run),
            "agent": agent,
            "env": self.run.config.task.env,
            "root": str(self.run.root),
            "guidance": guidance,
            "guidance_problem": self.problem,
            "coach": self._coach(),
            "form": self._form(),
            "missing": list(self._missing()),
            "episodes": len(self.task.seen.rewards),
            "can_write": self.live and guidance is not None,
            **self.summary(),
            "states": [self.advice(a) for a in guidance.advice if a.kind == "state"] if guidance else [],
            "rules": [self.advice(a) for a in guidance.advice if a.kind == "rule"] if guidance else [],
            "terms": [self.term(i, t) for i, t in enumerate(guidance.reward_terms)] if guidance else [],
            "set_verdict": self._verdict(guidance.set_verdict) if guidance else None,
            "progress": [self.words.term(t) for t in guidance.progress.terms] if guidance and guidance.progress else [],
            "live_values": live(self.run),
        }  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """What was decided so far, and where it goes."""
        pieces: list[Advice | Term] = []
        if self.guidance:
            pieces = [*self.guidance.advice, *self.guidance.reward_terms]
        verified = self.path == self.run.guidance_path
        counts = {name: sum(p.decision == name for p in pieces) for name in DECISIONS}
        return {
            "revision": self.revision,
            "file": self.path.name,
            "verified": verified,
            "counts": [(DECISIONS[name][1], n) for name, n in counts.items() if n and name is not None],
            "open": counts[None],
            "of": len(pieces),
            "next": f"unstuck {'train' if verified else 'verify'} {self.run.root}",
            "changed": any(p.decision in ("edited", "written", "rejected") for p in pieces),
        }

    def _coach(self) -> str:
        if self.guidance is None:
            return ""
        source = self.guidance.provenance
        if source.explainer == "by hand":
            return "a person"
        return source.model if source.explainer == "llm" and source.model else words.explainer(source.explainer)

    def _missing(self) -> Iterable[tuple[str, str]]:
        """(what is not there, the command that makes it)."""
        root = self.run.root
        if self.task.describer is None:
            yield "The task is not installed here: units, plots and checks against its variables are left out.", ""
        if not self.task.seen.rewards:
            yield "No episodes are here: nothing can be drawn or counted.", f"unstuck collect {root}"
        if not self.run.advice_path.exists() and not self.run.guidance_path.exists():
            yield "Nothing was explained yet; you can write advice of your own.", f"unstuck explain {root}"
        elif not self.run.guidance_path.exists():
            yield (
                "The simulator has not tried the advice yet. What you decide goes into advice.json, and is tried then.",
                f"unstuck verify {root}",
            )
        if not (root / "diagnosis.json").exists():
            yield "The agent was not measured.", f"unstuck diagnose {root}"
        if others := [p.name for p in self.run.opinion_paths]:
            yield f"Other opinions stand beside this one and race too: {', '.join(others)}. Edit them as files.", ""

    def _form(self) -> dict[str, Any]:
        """What the editor needs to know of the task."""
        card = self.task.card
        if card is None:
            return {"variables": [], "kind": "unknown", "actions": [], "low": [], "high": [], "episodes": {}}
        return {
            "variables": [{"name": v.name, "unit": v.unit, "meaning": v.description} for v in card.variables],
            "kind": card.action.kind,
            "actions": list(card.action.names),
            "low": list(card.action.low),
            "high": list(card.action.high),
            "episodes": self.task.lengths,
            "free_id": decide.free_id(self.guidance) if self.guidance else "p1",
        }

    # ------------------------------------------------------------------------------------------------ one piece

    def advice(self, advice: Advice) -> dict[str, Any]:
        """All that is shown of a piece of advice."""
        assert self.guidance is not None
        assert self.entering is not None
        evidence, text = advice.evidence, self.words
        entry = self.entering.of(advice)
        holds = self.task.seen.holds(advice, self.guidance)
        steps = sum(len(h) for h in holds.values()) if holds else 0
        at = f"episode {evidence.episode}, step {evidence.step}" if evidence else ""
        return {
            **self._piece("advice", advice.id, advice),
            "title": f"Critical state: {at}" if advice.kind == "state" and at else
                     "A critical state" if advice.kind == "state" else f"Rule {advice.id}",
            "at": at,
            "step": evidence.step if evidence else None,
            "when": text.when(advice.when) if advice.when is not None else
                    "in states near this one" if advice.near else "just here (a cell of the look-up table)",
            "action": text.action(advice.action, advice.hold) if advice.action else "",
            "meaning": text.meaning(advice.action) if advice.action else "",
            "reward": None if advice.reward is None else f"{advice.reward:+.2g}",
            "verdict": self._verdict(advice.verdict),
            "enters": entry.enters if entry else None,
            "enters_why": entry.why if entry else "",
            "overrule": bool(entry and entry.by_verdict and self.path == self.run.guidance_path),
            "share": sum(int(h.sum()) for h in holds.values()) / steps if steps and holds else None,
            "holds": holds_plot(holds) if holds and steps else "",
            "episodes": len(holds) if holds else 0,
            **self._around(advice),
            **self._filmed(advice),
        }  # fmt: skip

    def term(self, index: int, term: Term) -> dict[str, Any]:
        """All that is shown of a reward term."""
        assert self.entering is not None
        entry = self.entering.of_term(term)
        return {
            **self._piece("term", str(index), term),
            "title": f"Reward term {index + 1}",
            "words": self.words.term(term),
            "worth": self.task.seen.worth(term),
            "mean_return": self.task.seen.mean_return,
            "enters": entry.enters if entry else None,
            "enters_why": entry.why if entry else "",
        }  # fmt: skip

    def _piece(self, kind: str, key: str, piece: Advice | Term) -> dict[str, Any]:
        css, word = DECISIONS[piece.decision]
        dom = f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
        return {
            "kind": kind, "key": key, "dom": dom, "overrule": False, "why": piece.why,
            "decision": piece.decision, "enabled": piece.enabled,
            "css": css, "word": word if piece.enabled or piece.decision else "switched off",
            "live": self.live, "can_restore": piece.decision not in (None, "written"),
            "value": piece.model_dump(mode="json", exclude_none=True, exclude={"verdict", "decision", "enabled"}),
        }  # fmt: skip

    def _verdict(self, verdict: Verdict) -> dict[str, Any]:
        css, word = words.VERDICTS[verdict.status]
        low, high = verdict.low, verdict.high
        shown = verdict.gain is not None and low is not None and high is not None
        return {
            "css": css, "word": word, "numbers": words.verdict_numbers(verdict), "note": verdict.note,
            "plot": interval_plot(verdict.gain, low, high) if shown else "",  # type: ignore[arg-type]
        }  # fmt: skip

    def _around(self, advice: Advice) -> dict[str, Any]:
        """Plots of the variables around the evidence: those that the advice speaks of, then those that stand out."""
        evidence = advice.evidence
        windows = self.task.seen.windows(evidence.episode, evidence.step) if evidence else []
        if not windows or evidence is None:
            return {"plots": [], "more": []}
        named = {n for c in conditions_of(advice.when or ()) for n in c.variables}
        named |= set(advice.near.point if advice.near else ())
        named |= {w.name for w in windows if re.search(rf"\b{re.escape(w.name)}\b", advice.why)}
        order = sorted(windows, key=lambda w: (w.name not in named, -w.far))
        first = max(FIRST, min(len(named), FIRST + MORE))
        shown = [self._plot(w, evidence.step, advice) for w in order[: FIRST + MORE]]
        return {"plots": shown[:first], "more": shown[first:]}

    def _plot(self, window: Window, step: int, advice: Advice) -> dict[str, str]:
        card = self.task.card
        unit = next((v.unit for v in card.variables if v.name == window.name), "") if card else ""
        conditions = [c for c in conditions_of(advice.when or ()) if c.variable == window.name]
        thresholds = [c.value for c in conditions if c.than is None]
        if any(c.abs for c in conditions):
            thresholds += [-v for v in thresholds]
        low, high = ends_of(window)
        at = window.steps.index(step)
        return {
            "name": window.name, "unit": unit, "low": low, "high": high,
            "here": words.number(float(window.own[at])),
            "usual": words.number(float(window.middle[at])),
            "svg": window_plot(window, step, unit, thresholds),
        }  # fmt: skip

    def _filmed(self, advice: Advice) -> dict[str, Any]:
        """Where the film of the evidence is: an address of the server, or the film itself in a page to keep."""
        evidence = advice.evidence
        length = self.task.lengths.get(evidence.episode) if evidence else None
        if evidence is None or length is None or evidence.step > length:
            return {"film": "", "film_steps": (), "film_problem": ""}
        if self.live:
            steps = tuple(s for s in wanted_steps(evidence.step) if 0 <= s <= length)
            return {"film": f"film/{evidence.episode}/{evidence.step}", "film_steps": steps, "film_problem": ""}
        shown = self.task.film(evidence.episode, evidence.step)
        url = f"data:image/webp;base64,{base64.b64encode(shown.strip).decode('ascii')}" if shown.strip else ""
        return {"film": url, "film_steps": shown.steps, "film_problem": shown.problem}
