"""Iterated rounds, seed by seed: what each began with, was told, and took."""

from __future__ import annotations

from typing import Any

from unstuck.results import MODES, RoundFacts
from unstuck.stages.report import words
from unstuck.stages.report.data import RunData
from unstuck.stages.report.words import arm_name


def round_tables(data: RunData) -> list[dict[str, Any]]:
    """For each training run of several rounds its `label` and `rows`; empty where all trained in one."""
    several = [curve.facts for curve in data.curves if curve.facts.rounds]
    return [
        {
            "label": f"{arm_name(facts.arm, facts.algorithm)}, seed {facts.seed}",
            "rows": [_row(told) for told in facts.rounds],
        }
        for facts in several
    ]


def _row(told: RoundFacts) -> dict[str, Any]:
    return {
        "round": told.round,
        **{mode: words.number(told.before.of(mode)) for mode in MODES},
        "diagnosis": told.diagnosis,
        "used": _used(told),
        "steps": f"{told.charged.total:,}",
        "parts": ", ".join(f"{stage} {steps:,}" for stage, steps in told.charged.items()),
        "folder": told.folder,
    }


def _used(told: RoundFacts) -> str:
    found = [f"{told.advice} of {words.plural(told.of, 'piece')} of advice"] if told.of else []
    if told.terms:
        found.append(words.plural(told.terms, "reward term"))
    return " and ".join(found) if told.advice or told.terms else "nothing: it trained without guidance"
