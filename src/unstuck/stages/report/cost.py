"""What a run cost: language model, environment steps, time."""

from __future__ import annotations

from typing import Any

from unstuck.stages.report import words
from unstuck.stages.report.data import CONTROL, STAGES, RunData, charged_steps, is_number
from unstuck.stages.report.words import arm_name

_PARTS = ("collect", "explain", "verify", "train")


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
    if explainer == "search":
        return [("Language model", "none was used (LLM-free explainer)")]
    if explainer in ("statemask", "rice"):
        return [("Language model", "none was used (mask network)")]
    if explainer != "llm" and "tokens_in" not in facts:
        return []
    asked = [facts, *_later_rounds(data)]
    return [
        ("Tokens in", _count(_sum(asked, "tokens_in"))),
        ("Tokens out", _count(_sum(asked, "tokens_out"))),
        ("Money", words.money(_sum(asked, "cost_usd"))),
        ("Calls", _count(_sum(asked, "calls"))),
        ("Replayed from recordings", _count(_sum(asked, "replayed"))),
    ]


def _later_rounds(data: RunData) -> list[dict[str, Any]]:
    """What the explanations of later rounds took, of all seeds."""
    stages = [r for name, r in data.run.manifest.stages.items() if name.startswith("train/")]
    rounds = [told for record in stages for told in (record.facts.get("rounds") or [])[1:]]
    return [told for told in rounds if isinstance(told, dict) and "tokens_in" in told]


def _sum(asked: list[dict[str, Any]], key: str) -> Any:
    """None if any is not known."""
    parts = [facts.get(key) for facts in asked]
    return sum(parts) if all(is_number(p) for p in parts) else None  # type: ignore[arg-type]


def _count(x: Any) -> str:
    return f"{int(x):,}" if is_number(x) else "not known"


def _stage(data: RunData, stage: str) -> dict[str, str]:
    parts = [r for name, r in data.run.manifest.stages.items() if name == stage or name.startswith(stage + "/")]
    if not parts:
        return {"stage": stage, "steps": "not run yet", "seconds": ""}
    steps, seconds = sum(r.env_steps for r in parts), sum(r.seconds for r in parts)
    return {"stage": stage, "steps": f"{steps:,}", "seconds": words.duration(seconds)}


def _arms(data: RunData) -> list[dict[str, str]]:
    """Environment steps charged to one training run of each arm, by stage."""
    charged = dict(data.scores.charged) if data.scores else {}
    if not charged:
        for curve in data.curves:
            last = int(curve.points[-1].get("steps") or 0) if curve.points else 0
            charged.setdefault(curve.arm, {"before training": curve.offset, "train": last - curve.offset})
    rows = []
    for arm in sorted(charged, key=lambda a: (a != CONTROL, a)):
        steps = charged_steps({k: v for k, v in charged[arm].items() if k != "total"})
        parts = ", ".join(f"{k} {steps[k]:,}" for k in (*_PARTS, "before training") if steps.get(k))
        rows.append({"label": arm_name(arm), "total": f"{sum(steps.values()):,}", "parts": parts})
    return rows
