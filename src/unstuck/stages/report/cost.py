"""What a run cost: language model, environment steps, time."""

from __future__ import annotations

from typing import Any

from unstuck.results import Charges, StageKey
from unstuck.stages.report import words
from unstuck.stages.report.data import STAGES, RunData, is_number
from unstuck.stages.report.words import arm_name


def cost_tables(data: RunData) -> dict[str, Any]:
    """Values of the template: `llm` (label, value) pairs, `stage_costs`, `arm_costs`, `total_seconds`."""
    stages = [_stage(data, s) for s in STAGES]
    known = [r.seconds for r in data.run.manifest.stages.values()]
    return {
        "llm": _llm(data),
        "stage_costs": stages,
        "arm_costs": _arms(data),
        "total_seconds": words.duration(sum(known)) if known else "not known",
    }


def _llm(data: RunData) -> list[tuple[str, str]]:
    """Tokens, money and calls; empty before the explain stage."""
    if not data.done("explain"):
        return []
    facts = data.facts("explain")
    explainer = facts.get("explainer") or (data.guidance.provenance.explainer if data.guidance else "")
    if "tokens_in" not in facts:
        return [("Language model", f"none was used ({words.explainer(explainer)})")] if explainer else []
    later = [told for curve in data.curves for told in curve.facts.rounds[1:] if told.tokens_in is not None]

    def total(key: str) -> float | None:
        """None if any is not known."""
        parts = [facts.get(key), *(getattr(told, key) for told in later)]
        return sum(parts) if all(is_number(p) for p in parts) else None

    return [
        ("Tokens in", _count(total("tokens_in"))),
        ("Tokens out", _count(total("tokens_out"))),
        ("Money", words.money(total("cost_usd"))),
        ("Calls", _count(total("calls"))),
        ("Replayed from recordings", _count(total("replayed"))),
    ]


def _count(x: Any) -> str:
    return f"{int(x):,}" if is_number(x) else "not known"


def _stage(data: RunData, stage: str) -> dict[str, str]:
    parts = [r for name, r in data.run.manifest.stages.items() if StageKey.parse(name).stage == stage]
    if not parts:
        return {"stage": stage, "steps": "not run yet", "seconds": ""}
    steps, seconds = sum(r.env_steps for r in parts), sum(r.seconds for r in parts)
    return {"stage": stage, "steps": f"{steps:,}", "seconds": words.duration(seconds)}


def _arms(data: RunData) -> list[dict[str, str]]:
    """Environment steps charged to one training run of each arm, by stage."""
    by_arm: dict[str, list[Charges]] = {}
    for curve in data.curves:
        by_arm.setdefault(arm_name(curve.arm, curve.facts.algorithm), []).append(curve.facts.charged)
    rows = []
    for name, each in by_arm.items():
        charged = Charges.mean(each)
        parts = ", ".join(f"{stage} {steps:,}" for stage, steps in charged.items())
        rows.append({"label": name, "total": f"{charged.total:,}", "parts": parts})
    return rows
