"""The summary of made-up rows with known answers, and the page made of it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from unstuck.bench.figures import write_figures
from unstuck.bench.page import page
from unstuck.bench.suite import SuiteError
from unstuck.bench.summary import MODES, SuiteSummary

METHODS = {"ppo": 10.0, "rice": 40.0, "unstuck": 50.0, "bare": 20.0}
TASKS = ("hill", "lake")
HEAD: dict[str, Any] = {
    "name": "made-up", "methods": list(METHODS), "tasks": list(TASKS), "seeds": [1, 2, 3],
    "labels": {"ppo": "PPO continued", "rice": "RICE", "unstuck": "Unstuck", "bare": "bare"},
    "bases": {"ppo": "ppo", "rice": "rice", "unstuck": "unstuck", "bare": "unstuck"},
    "notes": {"bare": "without imitation"}, "ours": "unstuck", "control": "ppo", "episodes": 2, "checkpoints": 1,
    "missing": [["lake jsrl train seed 1", "failed", "no luck\nat all"]], "stale": [],
    "command": "unstuck bench x.toml", "cores": 2, "machine": "Linux", "written": "2026-01-01",
}  # fmt: skip


def rows_of(levels: dict[str, float], spread: float = 1.0) -> list[dict[str, Any]]:
    """Scores level - spread, level, level + spread for seeds 1, 2, 3; before 0, reference 100."""
    rows: list[dict[str, Any]] = []
    for task in TASKS:
        for mode in MODES:
            shared = {"task": task, "env": "Hill-v0", "reference": 100.0, "agent": "a", "mode": mode}
            rows.append({**shared, "method": "before", "seed": None, "returns": [-1.0, 1.0]})
            for method, level in levels.items():
                for seed in (1, 2, 3):
                    score = level + spread * (seed - 2)
                    rows.append(
                        {
                            **shared, "method": method, "seed": seed, "returns": [score - 5, score + 5],
                            "trained": 900, "steps": 1_000, "charged": {"verify": 100, "train": 900}, "budget": 1_000,
                            "seconds": {"train": 60.0, "verify": 5.0, "score": 1.0}, "versions": {"python": "3.11"},
                            "tokens": {"in": 100, "out": 20, "model": "m|x"}, "warnings": ["farmed"],
                        }
                    )  # fmt: skip
    return rows


def test_the_verdict_is_that_of_the_numbers() -> None:
    summary = SuiteSummary(HEAD, rows_of(METHODS))
    verdict = summary.verdict("deterministic")
    assert verdict is not None
    assert (verdict.rival, verdict.overlap, verdict.worse) == ("rice", False, ())
    assert verdict.ours.mean == pytest.approx(0.5)
    assert verdict.ahead == pytest.approx(0.25)
    assert verdict.better == TASKS
    assert verdict.met
    assert summary.ablations == ["bare"]
    assert summary.rivals == ["ppo", "rice"]
    gap = summary.minus("unstuck", "bare", "sampled")
    assert gap is not None
    assert (gap.mean, gap.low, gap.high) == pytest.approx((0.3, 0.3, 0.3))
    assert summary.beats("unstuck", "ppo", "sampled").mean == 1.0


def test_a_lead_within_the_noise_or_of_less_than_a_fifth_is_not_enough() -> None:
    noisy = SuiteSummary(HEAD, rows_of(METHODS, spread=30.0)).verdict("sampled")
    assert noisy is not None
    assert noisy.overlap
    assert not noisy.met
    near = SuiteSummary(HEAD, rows_of({**METHODS, "rice": 45.0})).verdict("sampled")
    assert near is not None
    assert not near.overlap
    assert not near.met


def test_a_task_on_which_it_is_worse_than_the_control_is_named() -> None:
    rows = rows_of(METHODS)
    for row in rows:
        if row["task"] == "lake" and row["method"] == "ppo":
            row["returns"] = [90.0 + row["seed"]]
    verdict = SuiteSummary(HEAD, rows).verdict("sampled")
    assert verdict is not None
    assert verdict.worse == ("lake",)
    assert not verdict.met


def test_aggregates_are_of_the_tasks_that_all_methods_have() -> None:
    rows = [r for r in rows_of(METHODS) if not (r["task"] == "lake" and r["method"] == "rice")]
    summary = SuiteSummary(HEAD, rows)
    assert summary.common == ["hill"]
    text = page(summary, {}, "results", "again")
    assert "leave out lake" in text
    assert "| RICE | no result |" in text


def test_ours_and_the_control_are_compared_on_all_tasks_that_they_have() -> None:
    """The lake, of which RICE has no result, counts there: on it ours lies at another place."""
    rows = [r for r in rows_of(METHODS) if not (r["task"] == "lake" and r["method"] == "rice")]
    for row in rows:
        if row["task"] == "lake" and row["method"] == "unstuck":
            row["returns"] = [returned / 2 for returned in row["returns"]]
    summary = SuiteSummary(HEAD, rows)
    verdict = summary.verdict("sampled")
    assert verdict is not None
    assert verdict.beside is not None
    assert verdict.beside.tasks == 2
    assert verdict.beside.ours.mean < verdict.ours.mean == summary.iqm("unstuck", "sampled").mean
    assert "- On all 2 tasks that Unstuck and PPO continued have in common: " in page(summary, {}, "results", "again")
    whole = SuiteSummary(HEAD, rows_of(METHODS)).verdict("sampled")
    assert whole is not None
    assert whole.beside is None, "the aggregates say it"


def test_a_reference_below_the_agent_before_is_refused() -> None:
    rows = rows_of(METHODS)
    for row in rows:
        row["reference"] = -5.0
    with pytest.raises(SuiteError, match="higher `reference`"):
        SuiteSummary(HEAD, rows).iqm("ppo", "sampled")


def test_the_page_has_all_that_is_asked_of_it(tmp_path: Path) -> None:
    summary = SuiteSummary(HEAD, rows_of(METHODS))
    curves = [
        {"task": t, "method": m, "seed": s, "steps": [100, 500, 1_000], "returns": [0.0, level / 2, level + s]}
        for t in TASKS for m, level in METHODS.items() for s in (1, 2)
    ]  # fmt: skip
    figures = write_figures(summary, curves, tmp_path)
    assert set(figures) == {"aggregate", "tasks", "curves"}
    for file in figures.values():
        assert len(list(ET.parse(file).getroot().iter())) > 100
    text = page(summary, {name: file.name for name, file in figures.items()}, "results", "unstuck bench x --page y")
    for words in (
        "The interquartile mean of Unstuck, 0.50 [0.49, 0.51], is 25% above the best rival's (RICE, 0.40 [0.39, 0.41])",
        "The intervals do not overlap", "The bar", "**met**", "![", "P(better than PPO continued)",
        "P(better than RICE, the best rival)", "| RICE | 40.0 [37.5, 42.5] | 40.0 [37.5, 42.5] | 0.40 | 0.40 | 3 |",
        "| bare | without imitation | 0.30 [0.30, 0.30] | 0.30 [0.30, 0.30] |", "100 + 20", "60 s", "1,000",
        "lake jsrl train seed 1: no luck", "python 3.11", "unstuck bench x.toml", "unstuck bench x --page y",
        "RICE, seeds 1, 2, 3: farmed",
    ):  # fmt: skip
        assert words in text, words
    assert "nan" not in text
    quoted = page(summary, {}, "results", "unstuck bench x --page y", "On the lake it was *luck*.\n")
    assert quoted.index("The bar") < quoted.index("On the lake it was *luck*.") < quoted.index("## Aggregates")
    json.dumps(HEAD)
