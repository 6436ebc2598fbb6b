"""Iterated rounds, seed by seed: what each began with, was told, and took."""

from __future__ import annotations

from typing import Any

from unstuck.stages.report import words
from unstuck.stages.report.data import MODES, RunData, charged_steps, is_number
from unstuck.stages.report.words import arm_name


def round_tables(data: RunData) -> list[dict[str, Any]]:
    """For each training run of several rounds its `label` and `rows`; empty where all trained in one."""
    tables = []
    for stage, record in data.run.manifest.stages.items():
        rounds = record.facts.get("rounds") if stage.startswith("train/") else None
        if isinstance(rounds, list) and record.facts.get("budget") == data.run.config.train.steps:
            label = f"{arm_name(str(record.facts.get('arm', '')))}, seed {record.facts.get('seed')}"
            tables.append({"label": label, "rows": [_row(r) for r in rounds if isinstance(r, dict)]})
    return tables


def _row(told: dict[str, Any]) -> dict[str, Any]:
    before, charged = told.get("before") or {}, charged_steps(told.get("charged"))
    parts = ", ".join(f"{stage} {steps:,}" for stage, steps in charged.items() if steps)
    return {
        "round": told.get("round"),
        **{mode: words.number(before[mode]) if is_number(before.get(mode)) else "not known" for mode in MODES},
        "diagnosis": str(told.get("diagnosis") or ""),
        "used": _used(told),
        "steps": f"{sum(charged.values()):,}",
        "parts": parts,
        "folder": str(told.get("folder") or ""),
    }


def _used(told: dict[str, Any]) -> str:
    advice, of, terms = (int(told.get(key) or 0) for key in ("advice", "of", "terms"))
    found = [f"{advice} of {words.plural(of, 'piece')} of advice"] if of else []
    if terms:
        found.append(words.plural(terms, "reward term"))
    return " and ".join(found) if advice or terms else "nothing: it trained as plain PPO does"
