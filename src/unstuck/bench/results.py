"""Raw results: what lies in the run folders of a benchmark, as rows.

    results.jsonl   a line for each task × method × seed × mode × checkpoint; the stuck agent's method is `before`
    curves.jsonl    a line for each task × method × seed: mean return of training episodes over steps charged
    suite.json      what the page says of the suite: names, order, commands, machine

The page is made of these three and nothing else, so it can be made again where they are and the runs are not.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unstuck.algorithms import continued_by
from unstuck.bench.jobs import before_mark, score_mark
from unstuck.bench.layout import Arm, held_digest
from unstuck.bench.runner import FAILURES, SuitePlan
from unstuck.bench.suite import SuiteError, SuiteTask, reference
from unstuck.curves import read_curve
from unstuck.errors import UnstuckError
from unstuck.methods import ANY
from unstuck.results import MODES, AgentScores, Returns, RoundFacts, StageKey, TrainFacts, trainings
from unstuck.run import Run, read_json
from unstuck.stages.train import fingerprint, plan_jobs
from unstuck.workspace import Workspace

ROWS, CURVES, SUITE = "results.jsonl", "curves.jsonl", "suite.json"
BEFORE = "before"
Row = dict[str, Any]


def write_results(plan: SuitePlan, command: str | None = None) -> list[Row]:
    """Gather everything that is finished with the suite's settings and write the three files to OUT; returns the rows.

    With `plan.allow_unequal`, what was made with other settings is taken as well. `command` is the one that made the
    runs; without it the one noted before stays.
    """
    rows: list[Row] = []
    curves: list[Row] = []
    stale: list[str] = []
    for task in plan.suite.tasks:
        if (shared := _shared(plan, task)) is None:
            continue
        rows += _before_rows(plan, task, shared)
        for method in plan.suite.methods:
            for stage in _finished(Arm(plan.suite, plan.out, task, method), plan.allow_unequal, stale):
                rows += _arm_rows(stage, shared)
                curves.append(_curve(stage))
    _write_lines(plan.out / ROWS, rows)
    _write_lines(plan.out / CURVES, curves)
    text = json.dumps(_head(plan, command, stale), indent=1, ensure_ascii=False) + "\n"
    (plan.out / SUITE).write_text(text, encoding="utf-8")
    return rows


def read_results(folder: Path) -> tuple[dict[str, Any], list[Row], list[Row]]:
    """The suite's head, the rows and the curves.

    Raises:
        SuiteError: if there are none, or a file is damaged.
    """
    if not (folder / ROWS).exists():
        raise SuiteError(f"{folder} has no results yet; `unstuck bench SUITE.toml` makes them")
    return read_json(folder / SUITE), _read_lines(folder / ROWS), _read_lines(folder / CURVES)


def _read_lines(path: Path) -> list[Row]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise SuiteError(f"cannot read {path}: {error}") from error


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    os.replace(partial, path)


@dataclass(frozen=True)
class _Finished:
    """One trained and scored seed of an arm."""

    arm: Arm
    run: Run
    key: StageKey
    facts: TrainFacts

    @property
    def scored(self) -> str:
        """The stage of its scores."""
        return str(self.key.to("score"))


def _finished(arm: Arm, any_settings: bool, stale: list[str]) -> Iterator[_Finished]:
    if not (arm.root / "manifest.json").exists():
        return
    run = Run(arm.root)
    stages = run.manifest.stages
    run.manifest.config = arm.config  # not written: what the suite asks for now
    current = {} if any_settings else _current(run)
    for key, facts in trainings(run).items():
        stage = _Finished(arm, run, key, facts)
        if stage.scored not in stages or key.seed not in arm.suite.seeds:
            continue
        marks = stages[str(key)].fingerprint, stages[stage.scored].fingerprint
        if any_settings or marks == (current.get(str(key)), score_mark(run, marks[0])):
            yield stage
        else:
            stale.append(f"{arm.task.name} {arm.method} {key.seed}")


def _current(run: Run) -> dict[str, str]:
    """Training stage → the fingerprint that it would have now."""
    try:
        return {job.stage: fingerprint(run, job) for job in plan_jobs(run)}
    except UnstuckError:
        return {}


def _shared(plan: SuitePlan, task: SuiteTask) -> Row | None:
    """What all rows of a task have; None as long as the agent before has no scores."""
    root = plan.out / task.name / BEFORE
    if not (root / "manifest.json").exists():
        return None
    before = Run(root)
    if not before.done("score", before_mark(before)):
        return None
    env = before.config.task.env
    return {"task": task.name, "env": env, "reference": reference(task), "agent": held_digest(before)}


def _before_rows(plan: SuitePlan, task: SuiteTask, shared: Row) -> Iterator[Row]:
    scores = Returns.read(plan.out / task.name / BEFORE / "score" / "scores.json")
    for mode in MODES:
        yield {**shared, "method": BEFORE, "seed": None, "mode": mode, "returns": _rounded(scores.of(mode))}


def _arm_rows(stage: _Finished, shared: Row) -> Iterator[Row]:
    arm, run, stages = stage.arm, stage.run, stage.run.manifest.stages
    facts, scores = stage.facts, AgentScores.read(run.root / stage.scored / "scores.json")
    seconds: dict[str, float] = {
        s: stages[s].seconds for s in ("collect", "explain", "verify") if arm.explained and s in stages
    }
    seconds |= {"train": stages[str(stage.key)].seconds, "score": stages[stage.scored].seconds}
    before = facts.charged.before_training
    for point in scores.checkpoints:
        for mode in MODES:
            yield {
                **shared, "agent": held_digest(run), "method": arm.method, "seed": facts.seed, "mode": mode,
                "trained": point.trained, "steps": before + point.trained, "charged": facts.charged.root,
                "budget": facts.budget, "returns": _rounded(point.of(mode)), "seconds": seconds,
                "tokens": _tokens(run, facts.rounds[1:]), "hit_rate": facts.hit_rate,
                "warnings": list(facts.warnings),
                "explainer": str(run.config.explain.explainer) if arm.explained else None,
                "backend": facts.backend or None, "versions": scores.versions,
            }  # fmt: skip


def _tokens(run: Run, later: Sequence[RoundFacts]) -> Row:
    """Of the explanation that the arm's seeds share, and of those that later rounds of one seed had."""
    record = run.manifest.stages.get("explain")
    facts: Row = record.facts if record else {}
    found = {key: facts[name] for key, name in _TOKENS.items() if facts.get(name) is not None}
    for key in found.keys() - {"model"}:
        parts = [getattr(told, _TOKENS[key]) for told in later]
        found[key] = found[key] + sum(p for p in parts if p is not None)
    return found


_TOKENS = {"in": "tokens_in", "out": "tokens_out", "usd": "cost_usd", "model": "model"}


def _curve(stage: _Finished) -> Row:
    points = read_curve(stage.run.root / str(stage.key))
    seen = [(point.steps, point.return_mean) for point in points if point.return_mean is not None]
    return {
        "task": stage.arm.task.name, "method": stage.arm.method, "seed": stage.facts.seed,
        "steps": [s for s, _ in seen], "returns": [r for _, r in seen],
    }  # fmt: skip


def _trained_by(plan: SuitePlan, method: str) -> str:
    """What trained a method's agents; in words where it was several algorithms."""
    roots = [Arm(plan.suite, plan.out, task, method).root for task in plan.suite.tasks]
    found = {continued_by(Workspace(Run(root)).agent) for root in roots if (root / "manifest.json").exists()}
    return found.pop() if len(found) == 1 else ANY if found else "PPO"


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(v), 6) for v in values]


def _head(plan: SuitePlan, command: str | None, stale: list[str]) -> Row:
    suite = plan.suite
    arms = {method: Arm(suite, plan.out, suite.tasks[0], method) for method in suite.methods}
    return {
        "name": suite.name,
        "methods": list(suite.methods),
        "labels": {m: a.label_of(_trained_by(plan, m)) for m, a in arms.items()},
        "bases": {m: suite.base(m) for m in suite.methods},
        "notes": {m: v.note for m, v in suite.variants.items() if v.note},
        "tasks": [t.name for t in suite.tasks],
        "seeds": list(suite.seeds),
        "ours": suite.ours,
        "control": suite.control,
        "episodes": arms[suite.methods[0]].config.evaluate.episodes,
        "checkpoints": arms[suite.methods[0]].config.train.late_checkpoints,
        "missing": [[f["job"], f["status"], f["error"]] for f in _failures(plan)],
        "stale": stale,
        "command": command if command is not None else _noted(plan).get("command", ""),
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "written": datetime.now(UTC).date().isoformat(),
    }


def _failures(plan: SuitePlan) -> list[Row]:
    path = plan.out / FAILURES
    return read_json(path) if path.exists() else []


def _noted(plan: SuitePlan) -> Row:
    path = plan.out / SUITE
    return read_json(path) if path.exists() else {}
