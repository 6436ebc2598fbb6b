"""The diagnosis panel and the race, as the page shows them."""

from __future__ import annotations

from typing import Any

from unstuck.diagnosis.panel import Finding, Panel, read_panel
from unstuck.errors import RunError
from unstuck.results import VERDICT, Gain, RaceVerdict, Rank, RunVerdict
from unstuck.run import Run
from unstuck.stages.report import words

_STATUS = {
    "fault": ("bad", "fault"), "note": ("open", "note"), "ok": ("good", "in order"),
    "unknown": ("none", "not measured"),
}  # fmt: skip
_PLACE = {"winner": ("good", "winner"), "dropped": ("none", "dropped"), "racing": ("open", "raced to the end")}


def panel_context(run: Run) -> dict[str, Any]:
    """`panel` (None where there is none) and `panel_problem`."""
    try:
        panel = read_panel(run.root)
    except RunError as error:
        return {"panel": None, "panel_problem": str(error)}
    return {"panel": _panel(panel) if panel else None, "panel_problem": ""}


def _panel(panel: Panel) -> dict[str, Any]:
    shown = [(f, _finding(f)) for f in panel.sorted_findings]
    return {
        "summary": panel.summary,
        "faults": [f"{f.label} {f.shown}" for f in panel.faults[:3]],
        "fine": [f.label for f in panel.findings if f.status == "ok"],
        "wrong": [row for f, row in shown if f.status in ("fault", "note")],
        "rest": [row for f, row in shown if f.status not in ("fault", "note")],
    }


def _finding(finding: Finding) -> dict[str, str]:
    css, word = _STATUS[finding.status]
    named = ("label", "shown", "limit", "meaning", "aside", "remedy", "source")
    return {"css": css, "word": word} | {name: getattr(finding, name) for name in named}


def race_context(run: Run) -> dict[str, Any]:
    """`race`, None where the run was none.

    Raises:
        RunError: if the verdict is damaged.
    """
    path = run.root / VERDICT
    race = RunVerdict.read(path).race if path.exists() else None
    return {"race": _race(race) if race else None}


def _race(race: RaceVerdict) -> dict[str, Any]:
    handed = {"finalist": race.name, "trunk": race.name, "original": ""}[race.handed]
    pairs = (
        ("the agent before", race.over_original),
        (f"plain {race.trainer}, continued for as long", race.over_trunk),
    )
    return {
        "why": race.why,
        "ladder": [rank_row(rank, handed) for rank in race.ladder],
        "test": [_gain(race.finalist, other, gain, race.level) for other, gain in pairs if gain is not None],
        "budget": f"{race.charged.total:,} of {race.budget:,} environment steps: "
        + ", ".join(f"{stage} {steps:,}" for stage, steps in race.charged.items()) + ".",
    }  # fmt: skip


def rank_row(rank: Rank, handed: str) -> dict[str, Any]:
    """A competitor's row; `handed` names the one that was handed over."""
    css, word = _PLACE[rank.status]
    return {
        "name": rank.name, "reason": rank.reason, "note": rank.note, "css": css, "word": word,
        "key": rank.name == handed, "trained": f"{rank.trained:,}",
        "level": "" if rank.level is None else words.number(rank.level),
        "forecast": "" if rank.forecast is None else words.number(rank.forecast),
    }  # fmt: skip


def _gain(finalist: str, other: str, gain: Gain, level: float) -> str:
    sure = f"{100 * (1 - level):.3g} % confidence"
    bound = "" if gain.low is None else f", at least {words.number(gain.low)} with {sure}"
    pairs = words.plural(gain.pairs, "pair")
    return f"{finalist} over {other}: {words.number(gain.mean)} per episode in {pairs}{bound}."
