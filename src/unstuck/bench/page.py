"""The results page: markdown with figures, and the raw data beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.bench.board import duration
from unstuck.bench.results import BEFORE, CURVES, ROWS, SUITE, Row, read_results
from unstuck.bench.runner import SuitePlan
from unstuck.bench.summary import MODES, SuiteSummary, SuiteVerdict
from unstuck.stats import Interval


def write_page(plan: SuitePlan, path: Path, command: str) -> list[str]:
    """Write the page, with figures and raw data in a folder beside it, named like the page; returns their names.

    `command` writes the page again. Made from OUT, or, where there are no runs, from the raw data that already lies
    beside the page.

    Raises:
        SuiteError: if there are no results, or they cannot be compared.
    """
    from unstuck.bench.figures import write_figures

    folder = path.with_suffix("")
    source = plan.out if (plan.out / ROWS).exists() else folder
    head, rows, curves = read_results(source)
    summary = SuiteSummary(head, rows, plan.allow_unequal)
    folder.mkdir(parents=True, exist_ok=True)
    if source != folder:
        for name in (ROWS, CURVES, SUITE):
            shutil.copyfile(source / name, folder / name)
    figures = write_figures(summary, curves, folder) if summary.tasks else {}
    links = {name: f"{folder.name}/{file.name}" for name, file in figures.items()}
    path.write_text(page(summary, links, folder.name, command, plan.suite.remarks_text), encoding="utf-8")
    return [*(f.name for f in figures.values()), ROWS, CURVES, SUITE]


def page(summary: SuiteSummary, figures: dict[str, str], data: str, command: str, remarks: str = "") -> str:
    """The markdown; `remarks` is quoted as it stands."""
    parts = [
        _intro(summary),
        *(_verdict(summary, mode) for mode in MODES if summary.common),
        f"{remarks.strip()}\n" if remarks.strip() else "",
        _aggregates(summary, figures),
        _by_task(summary, figures),
        _learning(figures),
        _ablations(summary),
        _cost(summary),
        _missing(summary),
        _made(summary, data, command),
    ]
    return "\n".join(part for part in parts if part)


def _intro(summary: SuiteSummary) -> str:
    head = summary.head
    arms = [r for r in summary.rows if r["method"] != BEFORE]
    budgets = sorted({r["budget"] for r in arms})
    seeds = sorted({r["seed"] for r in arms})
    words = ", ".join(f"{b:,}" for b in budgets) if budgets else "no"
    compared = f"{_count(len(summary.methods), 'method')} on {_count(len(summary.tasks), 'task')}"
    lines = [
        f"# Results: {head['name']}",
        "",
        f"{compared}, seeds {_listed(seeds)}, each arm with"
        f" a budget of {words} environment steps, whatever they are spent on: collecting episodes, training mask",
        "networks, searching, verifying, training. All arms of a task start from the same stuck agent and share",
        "optimiser settings and, for each seed, evaluation episodes.",
        "",
        f"A seed's score is the mean return over {head['episodes']} episodes of each of its last {head['checkpoints']}"
        " checkpoints (a race leaves one), without guidance, deterministic and sampled. Normalised: 0 is the stuck"
        " agent in the same mode, 1 the task's reference. Intervals are 95 %: on one task Student's t over seeds; over"
        " the suite the percentile bootstrap, seeds resampled within each task.",
        "",
    ]
    if summary.unequal:
        lines += ["**These results are not comparable:** " + "; ".join(summary.unequal) + ".", ""]
    if gone := [t for t in summary.tasks if t not in summary.common]:
        lines += [f"Aggregates leave out {_listed(gone)}, where not every method has a result.", ""]
    return "\n".join(lines)


def _verdict(summary: SuiteSummary, mode: str) -> str:
    verdict = summary.verdict(mode)
    if verdict is None or summary.ours is None:
        return ""
    ours, rival, control = summary.label(summary.ours), summary.label(verdict.rival), summary.control
    lines = [f"## Does {ours} win? {mode.capitalize()}", "", _ahead(ours, rival, verdict), ""]
    if control is not None:
        name = summary.label(control)
        if (beside := verdict.beside) is not None:
            lines += [
                f"- On all {beside.tasks} tasks that {ours} and {name} have in common: interquartile means "
                f"{_cell(beside.ours)} and {_cell(beside.control)}, P(better) {_cell(beside.probability)}."
            ]
        lines += [
            f"- Tasks significantly worse than {name}: {_listed(verdict.worse) or 'none'}.",
            f"- Tasks significantly better than {name}: {_listed(verdict.better) or 'none'}.",
            "",
        ]
    bar = "at least 20 % above the best rival, with intervals apart, and worse than the control on no task"
    lines += [f"The bar ({bar}) is **{'met' if verdict.met else 'not met'}**.", ""]
    return "\n".join(lines)


def _ahead(ours: str, rival: str, verdict: SuiteVerdict) -> str:
    if verdict.ahead is None:
        far = "above" if verdict.ours.mean > verdict.theirs.mean else "not above"
        gap = f"{far} the best rival's, which is not above zero, so that a share cannot be given"
    else:
        gap = f"{abs(verdict.ahead):.0%} {'above' if verdict.ahead >= 0 else 'below'} the best rival's"
    return (
        f"The interquartile mean of {ours}, {_cell(verdict.ours)}, is {gap} ({rival}, {_cell(verdict.theirs)}). "
        f"The intervals {'overlap' if verdict.overlap else 'do not overlap'}."
    )


def _aggregates(summary: SuiteSummary, figures: dict[str, str]) -> str:
    if not summary.common:
        return "## Aggregates\n\nNo task has a result of every method yet.\n"
    lines = [f"## Aggregates over {_count(len(summary.common), 'task')}", ""]
    if "aggregate" in figures:
        lines += [f"![Interquartile means and probability of improvement, by method]({figures['aggregate']})", ""]
    for mode in MODES:
        rival, control = summary.best_rival(mode), summary.control
        head = ["method", "mean", "IQM"]
        head += [f"P(better than {summary.label(control)})"] if control else []
        head += [f"P(better than {summary.label(rival)}, the best rival)"] if rival and rival != control else []
        lines += [f"Normalised scores, {mode}:", "", *_table(head)]
        for method in summary.methods:
            cells = [summary.label(method), _cell(summary.mean(method, mode)), _cell(summary.iqm(method, mode))]
            for other in dict.fromkeys(x for x in (control, rival) if x):
                cells.append("" if other == method else _cell(summary.beats(method, other, mode)))
            lines.append(_row(cells))
        lines.append("")
    return "\n".join(lines)


def _by_task(summary: SuiteSummary, figures: dict[str, str]) -> str:
    lines = ["## Task by task", ""]
    if "tasks" in figures:
        lines += [f"![Return of each method on each task]({figures['tasks']})", ""]
    for task in summary.tasks:
        rows = [r for r in summary.rows if r["task"] == task]
        budget = max(r["budget"] for r in rows if r["method"] != BEFORE)
        lines += [
            f"### {task}",
            "",
            f"{rows[0]['env']}, {budget:,} environment steps; reference {summary.reference(task):.4g}.",
            "",
            *_table(["method", "deterministic", "sampled", "normalised", "normalised, sampled", "seeds"]),
            _row(["before", *(_cell(summary.before(task, m)) for m in MODES), "0", "0", ""]),
        ]
        for method in summary.methods:
            cells = [summary.cell(task, method, mode) for mode in MODES]
            if cells[0] is None or cells[1] is None:
                lines.append(_row([summary.label(method), "no result", "", "", "", "0"]))
                continue
            scaled = [f"{float(np.mean(summary.normalized(task, method, mode))):.2f}" for mode in MODES]
            row = [summary.label(method), *(_cell(c) for c in cells if c), *scaled, str(cells[0].n)]
            lines.append(_row(row))
        lines += ["", *_warnings(summary, rows)]
    return "\n".join(lines)


def _warnings(summary: SuiteSummary, rows: Sequence[Row]) -> Iterator[str]:
    found: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        for words in row.get("warnings", []):
            found.setdefault((row["method"], words), set()).add(row["seed"])
    for (method, words), seeds in sorted(found.items()):
        yield f"- {summary.label(method)}, seeds {_listed(sorted(seeds))}: {words}."
    if found:
        yield ""


def _learning(figures: dict[str, str]) -> str:
    if "curves" not in figures:
        return ""
    return "\n".join(
        [
            "## Learning curves",
            "",
            f"![Return of training episodes over environment steps charged]({figures['curves']})",
            "",
            "Training episodes are sampled, and guided where a method executes suggestions or begins episodes elsewhere"
            " than the task does, so these curves are of learning, not of the scores above. A curve begins at what was"
            " charged before training. Mean over seeds; bands from the lowest to the highest seed.",
            "",
        ]
    )


def _ablations(summary: SuiteSummary) -> str:
    if summary.ours is None or not summary.ablations or not summary.common:
        return ""
    ours = summary.label(summary.ours)
    lines = [
        f"## What the parts of {ours} contribute",
        "",
        f"Difference of interquartile means, {ours} minus the variant, paired by seed: above zero, what the variant "
        "changes helps.",
        "",
        *_table(["variant", "what it is", *MODES]),
    ]
    for method in summary.ablations:
        gaps = [summary.minus(summary.ours, method, mode) for mode in MODES]
        cells = ["seeds differ" if g is None else _cell(g) for g in gaps]
        lines.append(_row([summary.label(method), summary.head["notes"].get(method, ""), *cells]))
    return "\n".join([*lines, ""])


STAGES = ("collect", "explain", "verify", "train", "states", "judge")
"""Whose environment steps are shown: a race also gathers states for its treatments, and judges by evaluations."""


def _cost(summary: SuiteSummary) -> str:
    stages = [s for s in STAGES if any(r["charged"].get(s) for r in summary.rows if r.get("charged"))]
    lines = [
        "## What it cost",
        "",
        "Mean over tasks and seeds. Environment steps charged, by stage, and wall-clock seconds of one core; explaining"
        " and verifying are done once for all seeds of an arm, but charged to each. Tokens of the language model: per"
        " task, in and out.",
        "",
        *_table(["method", *(f"{s}, steps" for s in stages), "charged", "train, time", "all else, time", "tokens"]),
    ]
    for method in summary.methods:
        runs = {(r["task"], r["seed"]): r for r in summary.rows if r["method"] == method}.values()
        charged = [np.mean([r["charged"].get(s, 0) for r in runs]) for s in stages]
        train = float(np.mean([r["seconds"]["train"] for r in runs]))
        rest = float(np.mean([sum(v for k, v in r["seconds"].items() if k not in ("train", "score")) for r in runs]))
        times = [duration(train), duration(rest) if rest else ""]
        lines.append(
            _row(
                [
                    summary.label(method),
                    *(f"{c:,.0f}" if c else "" for c in charged),
                    f"{sum(charged):,.0f}",
                    *times,
                    _tokens(runs),
                ]
            )
        )
    return "\n".join([*lines, ""])


def _tokens(runs: Any) -> str:
    by_task = {r["task"]: r["tokens"] for r in runs if r.get("tokens")}
    known = [(t.get("in"), t.get("out")) for t in by_task.values()]
    if not known:
        return ""
    if any(a is None or b is None for a, b in known):
        return "not known"
    return f"{np.mean([a for a, _ in known]):,.0f} + {np.mean([b for _, b in known]):,.0f}"


def _missing(summary: SuiteSummary) -> str:
    lines = []
    for name, status, error in summary.head.get("missing", []):
        first = (error.splitlines() or [""])[0]
        what = "no reply of a language model is recorded" if status == "unanswered" else first
        lines.append(f"- {name}: {what}")
    lines += [f"- {name}: made with other settings than the suite's, and left out" for name in summary.head["stale"]]
    return "\n".join(["## What is missing", "", *lines, ""]) if lines else ""


def _made(summary: SuiteSummary, data: str, command: str) -> str:
    head = summary.head
    versions: dict[str, set[str]] = {}
    for row in summary.rows:
        for name, version in row.get("versions", {}).items():
            versions.setdefault(name, set()).add(version)
    listed = ", ".join(f"{n} {' and '.join(sorted(v))}" for n, v in sorted(versions.items()))
    models = sorted({r["tokens"]["model"] for r in summary.rows if r.get("tokens", {}).get("model")})
    lines = ["## How it was made", "", f"Runs: `{head['command']}`, {head['written']}. This page: `{command}`.", ""]
    lines += [f"{head['machine']}, {_count(head['cores'], 'core')}; {listed}.", ""]
    lines += [f"The coach's replies are of {_listed(models)}, recorded and replayed.", ""] if models else []
    lines += [
        f"Raw data: [{ROWS}]({data}/{ROWS}), a line for each task, method, seed, mode and checkpoint;"
        f" [{CURVES}]({data}/{CURVES}); [{SUITE}]({data}/{SUITE}).",
        "",
    ]
    return "\n".join(lines)


def _cell(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{_number(interval.mean)}"
    return f"{_number(interval.mean)} [{_number(interval.low)}, {_number(interval.high)}]"


def _number(x: float) -> str:
    """Two decimals below ten, none from a hundred on."""
    text = f"{x:.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _table(head: Sequence[str]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
