"""The page: what a run left, put into the words and pictures of the template."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unstuck import tasks
from unstuck.episodes import EpisodeSet
from unstuck.errors import UnstuckError
from unstuck.guidance import Advice, Guidance, conditions_of
from unstuck.matching import Conditions, Terms
from unstuck.results import CONTROL, MODES
from unstuck.stages.report import words
from unstuck.stages.report.cost import cost_tables
from unstuck.stages.report.data import RunData
from unstuck.stages.report.entering import Entering, setting_for
from unstuck.stages.report.figures import curves_figure, scores_figure
from unstuck.stages.report.frames import Frames, render_frames
from unstuck.stages.report.outcome import outcome_of
from unstuck.stages.report.panel import panel_context, race_context
from unstuck.stages.report.replay import as_data
from unstuck.stages.report.reproduce import reproduce
from unstuck.stages.report.rounds import round_tables
from unstuck.stages.report.words import Words, arm_name
from unstuck.stats import Interval
from unstuck.tasks.card import Describer

DECIDED = {
    "accepted": "accepted by a person", "rejected": "rejected by a person", "edited": "edited by a person",
    "written": "written by a person",
}  # fmt: skip


def render(data: RunData) -> str:
    """The whole page as HTML.

    The template escapes everything; only figures and the style sheet, which are made here, go in as they are.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(
        loader=PackageLoader("unstuck.stages.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"minus": words.minus, "number": words.number, "percent": words.percent,
                    "duration": words.duration, "money": words.money}  # fmt: skip
    css = Path(__file__).with_name("templates").joinpath("report.css").read_text(encoding="utf-8")
    figures = {k: Markup(v) for k, v in _figures(data).items()}
    return env.get_template("report.html.j2").render(css=Markup(css), figures=figures, **context(data))


def context(data: RunData) -> dict[str, Any]:
    """All that the template shows, as plain values."""
    run, guidance = data.run, data.guidance
    describer = _describer(data)
    text = Words(describer.card if describer else None)
    entering = (
        Entering(run.config, guidance, setting_for(run, describer.card if describer else None)) if guidance else None
    )
    episodes = EpisodeSet(run.root / "collect")
    return {
        "outcome": outcome_of(data),
        "arm_name": functools.partial(arm_name, algorithm=data.scores.algorithm if data.scores else "PPO"),
        "replay": as_data(run),
        "root": str(run.root),
        "created": run.manifest.created[:10],
        "done": {s: data.done(s) for s in ("collect", "explain", "verify", "train", "evaluate")},
        "table": _score_table(data),
        "difference": _differences(data),
        "collect": data.facts("collect"),
        "coach": _coach(guidance, data) if guidance else None,
        "guidance": guidance,
        "guidance_file": data.guidance_file,
        "guidance_problem": data.guidance_problem,
        "card": describer.card if describer else None,
        **_advice(guidance, text, _values(describer, episodes), _frames(data, episodes), entering),
        "set_verdict": _verdict(guidance.set_verdict) if guidance else None,
        "verify_facts": data.facts("verify"),
        "verify_steps": record.env_steps if (record := data.record("verify")) else None,
        "trained": any(curve.points for curve in data.curves),
        "warnings": _by_runs(data, "warnings"),
        "notes": _by_runs(data, "notes"),
        "rounds": round_tables(data),
        **cost_tables(data),
        "caveats": _caveats(data),
        **reproduce(run),
        **panel_context(run),
        **race_context(run),
    }


def _figures(data: RunData) -> dict[str, str]:
    scores, curves = data.scores, data.curves
    before = scores.interval_before("sampled") if scores else None
    guided = [c for c in curves if c.arm != CONTROL]
    return {
        "scores": scores_figure(scores) if scores and scores.arms else "",
        "curves": curves_figure(curves, "return_mean", "training return", "curves", before.mean if before else None),
        "hits": curves_figure(guided, "hit_rate", "share of steps with advice", "hits", share=True),
    }


def _describer(data: RunData) -> Describer | None:
    """The task's describer; None where its simulator is not installed here: names and units are then left out."""
    task = data.run.config.task
    try:
        env = tasks.make_env(task.env, task.env_kwargs, task.import_module)
        try:
            return tasks.describer_for(env, card=task.card)
        finally:
            env.close()
    except UnstuckError:
        return None


def _values(describer: Describer | None, episodes: EpisodeSet) -> np.ndarray | None:
    """(N, V) named variables of all collected states, or None."""
    if describer is None or not len(episodes):
        return None
    try:
        return np.concatenate([describer.variables(e.observations) for e in episodes])
    except (UnstuckError, ValueError):
        return None


def _frames(data: RunData, episodes: EpisodeSet) -> Frames:
    if data.guidance is None:
        return Frames()
    states = [a for a in data.guidance.advice if a.kind == "state"]
    return render_frames(data.run.config.task, episodes, states)


def _show(x: Interval) -> str:
    return words.interval(x.mean, x.low, x.high, x.n)


def _score_table(data: RunData) -> list[dict[str, str]]:
    return [
        {
            "arm": row.arm,
            "label": row.label,
            "deterministic": _show(row.deterministic),
            "sampled": _show(row.sampled),
            "steps": "not known" if row.steps is None else f"{row.steps:,}",
        }
        for row in outcome_of(data).rows
    ]


def _differences(data: RunData) -> list[dict[str, str]]:
    """Each guided arm minus the control, in both modes."""
    scores, rows = data.scores, []
    if scores is None:
        return []
    for arm in scores.guided:
        by_mode = {m: _show(x) for m in MODES if (x := scores.difference(arm, m)) is not None}
        rows += [{"label": f"{arm_name(arm)} minus {scores.algorithm}"} | by_mode] if by_mode else []
    return rows


def _coach(guidance: Guidance, data: RunData) -> str:
    """Who speaks."""
    source, facts = guidance.provenance, data.facts("explain")
    explainer = source.explainer or str(facts.get("explainer") or "")
    if explainer == "nothing" and (guidance.advice or guidance.reward_terms):
        explainer = "by hand"  # written into the empty file
    if explainer != "llm":
        who = "a person (guidance written by hand)" if explainer == "by hand" else words.explainer(explainer)
        return who if source.model or explainer == "by hand" else f"{who}; no language model"
    model = source.model or str(facts.get("model") or "")
    return f"the language model {model}" if model else "a language model"


def _advice(
    guidance: Guidance | None, text: Words, values: np.ndarray | None, frames: Frames, entering: Entering | None
) -> dict[str, Any]:
    if guidance is None:
        lists: dict[str, Any] = {k: [] for k in ("states", "rules", "terms", "checked", "dropped")}
        return lists | {"progress": None, "frame_problem": ""}
    names = list(text.names)
    shown = [_piece(a, text, frames.urls, entering) for a in guidance.advice]
    by_kind = {k: [p for p, a in zip(shown, guidance.advice, strict=True) if a.kind == k] for k in ("state", "rule")}
    for piece, share in zip(by_kind["rule"], _rule_shares(guidance, values, names), strict=True):
        piece["share"] = share
    shares, means = _term_shares(guidance, values, names)
    return {
        "states": by_kind["state"],
        "rules": by_kind["rule"],
        "terms": [
            {"words": text.term(t), "why": t.why, "share": s, "mean": m,
             "enabled": t.enabled, "used": t.enabled, "decision": DECIDED.get(t.decision or "", "")}
            for t, s, m in zip(guidance.reward_terms, shares, means, strict=True)
        ],
        "progress": None if guidance.progress is None else {
            "terms": [(text.term(t), t.why) for t in guidance.progress.terms],
            "aggregate": text.progress(guidance.progress),
            "why": guidance.progress.why,
        },
        "checked": [p for p, a in zip(shown, guidance.advice, strict=True) if a.verdict.status != "untested"],
        "dropped": guidance.provenance.dropped,
        "frame_problem": frames.problem,
    }  # fmt: skip


def _piece(advice: Advice, text: Words, frames: Mapping[str, str], entering: Entering | None) -> dict[str, Any]:
    evidence = advice.evidence
    entry = entering.of(advice) if entering else None
    return {
        "id": advice.id,
        "kind": "rule" if advice.kind == "rule" else "critical state",
        "why": advice.why,
        "where": f"Episode {evidence.episode}, step {evidence.step}" if evidence else "",
        "state": _state(advice, text),
        "when": text.when(advice.when) if advice.when is not None else "",
        "near": advice.near is not None,
        "action": text.action(advice.action, advice.hold) if advice.action else "",
        "meaning": text.meaning(advice.action) if advice.action else "",
        "reward": None if advice.reward is None else f"{advice.reward:+.2g}",
        "verdict": _verdict(advice.verdict),
        "used": entry.enters if entry else advice.enabled and advice.verdict.status != "harmful",
        "enabled": advice.enabled,
        "decision": DECIDED.get(advice.decision or "", ""),
        "frame": frames.get(advice.id),
        "share": None,
    }


def _state(advice: Advice, text: Words) -> list[tuple[str, str]]:
    """The variables at the evidence, those first that the advice speaks of."""
    if advice.evidence is None:
        return []
    named = {n for c in conditions_of(advice.when or ()) for n in c.variables} | set(
        advice.near.point if advice.near else ()
    )
    named |= {n for n in advice.evidence.state if re.search(rf"\b{re.escape(n)}\b", advice.why)}
    ordered = sorted(advice.evidence.state.items(), key=lambda item: item[0] not in named)
    return [(n, text.value(n, v)) for n, v in ordered]


def _verdict(verdict: Any) -> dict[str, Any]:
    css, word = words.VERDICTS[verdict.status]
    known = verdict.gain is not None
    return {
        "css": css, "word": word, "numbers": words.verdict_numbers(verdict), "note": verdict.note,
        "gain": words.interval(verdict.gain, verdict.low, verdict.high) if known else "",
        "metric": verdict.metric, "pairs": verdict.pairs, "steps": verdict.steps, "status": verdict.status,
    }  # fmt: skip


def _rule_shares(guidance: Guidance, values: np.ndarray | None, names: list[str]) -> list[float | None]:
    """How often each rule's condition holds in the collected episodes, whatever stands before it."""
    rules = [a.when or () for a in guidance.advice if a.kind == "rule"]
    try:
        return [None] * len(rules) if values is None else Conditions(rules, names)(values).mean(axis=0).tolist()
    except KeyError:  # guidance for another version of the task: it is shown, but cannot be counted
        return [None] * len(rules)


def _term_shares(
    guidance: Guidance, values: np.ndarray | None, names: list[str]
) -> tuple[list[float | None], list[float | None]]:
    """For each reward term, the share of collected states in which it is not zero, and its mean over all states."""
    terms = guidance.reward_terms
    nothing: list[float | None] = [None] * len(terms)
    try:
        if values is None or not terms:
            return nothing, nothing
        each = Terms(terms, names).each(values)
    except KeyError:
        return nothing, nothing
    return (each != 0).mean(axis=0).tolist(), each.mean(axis=0).tolist()


def _by_runs(data: RunData, what: str) -> list[str]:
    """Each warning or note once, with the runs that gave it."""
    runs: dict[tuple[str, str], list[str]] = {}
    for curve in data.curves:
        for text in getattr(curve.facts, what):
            runs.setdefault((arm_name(curve.arm, curve.facts.algorithm), text), []).append(str(curve.facts.seed))
    return [f"{a}, seed{'s' * (len(s) > 1)} {', '.join(s)}: {text}" for (a, text), s in runs.items()]


def _caveats(data: RunData) -> list[str]:
    """What a reader must know before trusting the numbers."""
    scores, run = data.scores, data.run
    seeds = min((len(arm.seeds) for arm in scores.arms.values()), default=0) if scores else 0
    found = []
    if seeds:
        found.append(
            f"{words.plural(seeds, 'training seed')} per arm. Intervals are at 95 %: of an arm, Student's t over its "
            "seeds; of the difference, Welch's; of the agent before, Student's t over the episodes of that one agent."
        )
        if seeds < 5:
            found.append("Fewer than five seeds: intervals are wide, and a lucky or unlucky seed weighs much.")
        found.append(
            "A run's score is the mean over its late checkpoints and all their evaluation episodes, which are the same "
            "for all agents; no checkpoint was chosen for its score."
        )
    if scores and CONTROL not in scores.arms:
        found.append(
            f"There is no control: what {scores.algorithm} alone would have reached with the same budget is not known."
        )
    if data.curves:
        found.append(
            "Learning curves show training: actions are sampled, and may be guided. A point is the mean over the "
            "episodes that ended since the last one, among which short episodes come first."
        )
    agent = run.config.train.method
    found.append(f"The finding is about this one agent on this one task, with the method {agent!r}.")
    return found
