"""What came of a run, in one sentence and one table: the head of the report, and the end of the command line."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unstuck.contender import MODE, subject_of
from unstuck.diagnosis import read_panel
from unstuck.errors import RunError
from unstuck.paired import is_better
from unstuck.results import BEFORE, CONTROL, MODES, VERDICT, Gain, Mode, RunVerdict, Scores, trainings
from unstuck.run import Run
from unstuck.stages.handover import differences
from unstuck.stages.report.data import RunData, read_run
from unstuck.stages.report.deploy import Use, use_of
from unstuck.stages.report.words import arm_name, interval, number, plural
from unstuck.stats import Interval

if TYPE_CHECKING:
    from rich.console import Console

Direction = Literal["better", "worse", "unclear", "unknown"]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    arm: str
    """'before', 'ppo', or the method's name."""
    label: str
    deterministic: Interval
    sampled: Interval
    steps: int | None
    """Environment steps charged, collecting and verifying included; None where not known."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run. `rows` is empty until it is evaluated."""

    agent: str
    task: str
    rows: tuple[Row, ...]
    verdict: str
    """One plain sentence."""
    note: str
    """What the verdict leaves out, '' where nothing: the sampled policy telling another story."""
    headline: str
    """Better or not, against the agent before and against PPO continued; '' until it is known."""
    before: str
    """One sentence on the difference to the agent before, or ''."""
    why: str
    """Why the agent was stuck, or that it was not, in about two lines; '' where nothing is known."""
    use: Use | None
    """The agent to use; None until it is known."""
    direction: Direction
    """Which way the difference to the control points, if its interval leaves zero out."""
    diagnosis: str
    report: Path

    def label(self, arm: str) -> str:
        """As the arm is called in the table."""
        return next((row.label for row in self.rows if row.arm == arm), arm_name(arm))


def outcome(run: Run) -> Outcome:
    """What came of the run so far; works at any stage."""
    return outcome_of(read_run(run))


def outcome_of(data: RunData) -> Outcome:
    run, scores = data.run, data.scores
    verdict, note, way = _verdict(run, scores)
    headline, race = _headline(run, scores), _race_of(run, scores)
    if race is not None and way == "unknown":
        headline, verdict, note, way = _of_race(race, scores)
    return Outcome(
        agent=Path(run.config.agent.agent).name or run.agent_path.name,
        task=run.config.task.env,
        rows=tuple(_rows(scores)) if scores else (),
        verdict=verdict,
        note=note,
        headline=headline,
        before=_beside_before(run, scores),
        why=_why(data),
        use=use_of(run),
        direction=way,
        diagnosis=data.guidance.diagnosis if data.guidance else "",
        report=run.root / "report.html",
    )


def _rows(scores: Scores) -> list[Row]:
    det, sampled = MODES
    rows = [Row("before", "Before", scores.interval_before(det), scores.interval_before(sampled), 0)]
    for arm, of in scores.arms.items():
        steps = of.charged.total or None
        rows.append(
            Row(arm, arm_name(arm, scores.algorithm), scores.interval(arm, det), scores.interval(arm, sampled), steps)
        )
    return rows


def direction(difference: Interval | None) -> Direction:
    """Which way a difference points, if its interval leaves zero out."""
    if difference is None or difference.low is None or difference.high is None:
        return "unknown"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "unclear"


def _verdict(run: Run, scores: Scores | None) -> tuple[str, str, Direction]:
    if scores is None or not scores.arms:
        if scores is not None and not trainings(run):
            return f"Nothing is trained yet: `unstuck train {run.root}` refines the agent.", "", "unknown"
        return f"Not evaluated yet: `unstuck evaluate {run.root}` scores the agents.", "", "unknown"
    if not scores.guided:
        return (
            f"Only {scores.algorithm} was continued, without guidance: {_against_before(scores, CONTROL)}.",
            "",
            "unknown",
        )
    wanted = run.config.train.name or run.config.train.method
    arm = wanted if wanted in scores.guided else scores.guided[0]
    difference = scores.difference(arm, "deterministic")
    if difference is None:
        text = f"{arm_name(arm, scores.algorithm)}: {_against_before(scores, arm)}."
        return (
            text,
            f"{scores.algorithm} was not continued as a control, so this does not show what the guidance did.",
            "unknown",
        )
    return _compare(scores, arm, "deterministic"), _other_mode(scores, arm), direction(difference)


_WORDS: dict[Direction, str] = {"better": "better than", "worse": "worse than", "unclear": "not clearly different from"}


def _headline(run: Run, scores: Scores | None) -> str:
    if scores is None or not scores.arms:
        return ""
    found = differences(scores, subject_of(run, scores))
    others = {BEFORE: "before", CONTROL: arm_name(CONTROL, scores.algorithm)}
    ways = {others[name]: direction(d) for name, d in found.items() if name in others}
    if "unknown" in ways.values():
        return "Not proved: one seed has no interval."
    parts = [f"{_WORDS[way]} {' nor '.join(n for n in names) if way == 'unclear' else ' and '.join(names)}"
             for way in _WORDS if (names := [n for n, w in ways.items() if w == way])]  # fmt: skip
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _race_of(run: Run, scores: Scores | None) -> RunVerdict | None:
    """The verdict on a race with a test, where that is what the run is about."""
    if scores is None or not scores.arms or not (run.root / VERDICT).exists():
        return None
    verdict = RunVerdict.read(run.root / VERDICT)
    tested = verdict.race is not None and verdict.race.over_original is not None
    return verdict if tested and verdict.subject == subject_of(run, scores) else None


def _of_race(verdict: RunVerdict, scores: Scores | None) -> tuple[str, str, str, Direction]:
    """Headline, verdict, note and direction of a race of one seed: what its own test of paired episodes says."""
    race = verdict.race
    assert race is not None
    assert race.over_original is not None
    assert scores is not None
    gain, trunk, sure = race.over_original, race.over_trunk, f"{100 * (1 - race.level):.3g} % confidence"

    def words(g: Gain) -> str:
        least = "" if g.low is None else f" (with {sure} at least {number(g.low)})"
        return f"{'+' if g.mean >= 0 else ''}{number(g.mean)}{least}"

    over = f"{words(gain)} over the agent before"
    over += f", {words(trunk)} over plain {scores.algorithm} as far as that was trained" if trunk else ""
    test = f"The race's test, {plural(gain.pairs, 'pair')} of fresh episodes ({race.mode}): {race.finalist} {over}."
    note = ""
    if CONTROL in scores.arms:
        control = scores.interval(CONTROL, race.mode)
        name = arm_name(CONTROL, scores.algorithm)
        note = f"{name} with the whole budget returns {_mean(control)} ({plural(control.n, 'seed')})."
    if verdict.chosen == CONTROL:
        return f"{scores.algorithm} continued is the best: use that.", test, note, "worse"
    if race.handed == "finalist":
        than = f"before and plain {scores.algorithm}" if trunk and is_better(trunk) else "before"
        return f"Better than {than}, by the race's test.", test, note, "better"
    if race.handed == "trunk":
        return (
            f"Plain {scores.algorithm} returns more than before; nothing else was shown to be better.",
            test,
            note,
            "unclear",
        )
    return "Nothing was shown to be better than the agent that you gave: keep it.", test, note, "unclear"


def _beside_before(run: Run, scores: Scores | None) -> str:
    if scores is None or not scores.arms:
        return ""
    arm = subject_of(run, scores)
    own, given, found = scores.interval(arm, MODE), scores.interval_before(MODE), differences(scores, arm)[BEFORE]
    spread = f"; difference {_show(found)}" if found.low is not None else ""
    return f"Before: {_mean(given)}, {arm_name(arm, scores.algorithm)} {_mean(own)}{spread}."


def _why(data: RunData) -> str:
    """From what the language model said; else, or where the agent was not stuck, from what was measured of it."""
    with contextlib.suppress(RunError):
        panel = read_panel(data.run.root)
        if panel and panel.verdict in ("already good", "on its way"):
            return f"The agent was not stuck. {shortened(panel.summary)}"
        said = data.guidance.provenance.model if data.guidance else None
        if panel and not said:
            head = "Why it was stuck:" if panel.verdict == "stuck" else "Whether it was stuck cannot be told."
            return f"{head} {shortened(panel.summary.removeprefix(f'{panel.verdict.capitalize()}. '))}"
    return (
        f"Why it was stuck: {shortened(data.guidance.diagnosis)}" if data.guidance and data.guidance.diagnosis else ""
    )


def _show(x: Interval) -> str:
    return interval(x.mean, x.low, x.high, x.n)


def _against_before(scores: Scores, arm: str) -> str:
    mode = MODES[0]
    return f"{_show(scores.interval(arm, mode))} against {_show(scores.interval_before(mode))} before ({mode})"


def _compare(scores: Scores, arm: str, mode: Mode) -> str:
    """One sentence on the arm beside the control."""
    guided, control, difference = (
        scores.interval(arm, mode), scores.interval(CONTROL, mode), scores.difference(arm, mode)
    )  # fmt: skip
    assert difference is not None
    name, way = arm_name(arm, scores.algorithm), direction(difference)
    facts = f"{_mean(guided)} against {_mean(control)} for {arm_name(CONTROL, scores.algorithm)} at the same budget"
    where = f"({mode}, {plural(guided.n, 'seed')})"
    if way == "unknown":
        return f"{name}: {facts} {where}; with one seed there is no interval, so this proves nothing."
    spread = f"difference {_show(difference)}"
    if way == "unclear":
        return f"No clear difference: {name} {facts} {where}; {spread}, which includes zero."
    return f"{name} is {way}: {facts} {where}; {spread}."


def _mean(x: Interval) -> str:
    return number(x.mean) if x.low is None or x.high is None else _show(x)


def _other_mode(scores: Scores, arm: str) -> str:
    """The sampled policy, where it tells another story than the deterministic one."""
    if direction(scores.difference(arm, "sampled")) == direction(scores.difference(arm, "deterministic")):
        return ""
    return f"The policy with sampled actions tells another story. {_compare(scores, arm, 'sampled')}"


def print_outcome(run: Run, console: Console) -> None:
    """The end of the command line: better or not, the file to use and how, why the agent was stuck; then the table."""
    from rich.text import Text

    result = outcome(run)
    # Text objects: what a model said is shown as it is, never read as the console's markup.
    whole = not console.is_terminal  # Sentences are broken into lines for a reader only, paths never.
    console.print(Text(f"{result.agent} on {result.task}", style="bold"), soft_wrap=True)
    if result.headline:
        style = {"better": "bold green", "worse": "bold red"}.get(result.direction, "bold")
        console.print(Text(result.headline, style=style), soft_wrap=whole)
    for sentence in filter(None, (result.verdict, result.before, result.note)):
        console.print(Text(sentence), soft_wrap=whole)
    if result.use:
        _print_use(result.use, result.label(result.use.whose), console)
    if result.why:
        console.print(Text(result.why), soft_wrap=whole)
    if result.rows:
        _print_rows(result.rows, console)
    if result.report.exists():
        console.print(Text(f"Report: {result.report}"), soft_wrap=True)


def _print_use(use: Use, whose: str, console: Console) -> None:
    from rich.text import Text

    if use.whose == BEFORE:
        text = f"Use the agent that you gave (also {use.agent}): {use.why}."
        console.print(Text(text, style="bold"), soft_wrap=True)
        return
    beside = f" with {use.statistics.name}" if use.statistics else ""
    console.print(Text(f"Use {use.agent}{beside}", style="bold"), soft_wrap=True)
    console.print(Text(f"  {whose}, {use.which}: {use.why}.", style="dim"), soft_wrap=True)
    for line in use.code:
        console.print(Text(f"    {line}"), soft_wrap=True, highlight=False)


def _print_rows(rows: tuple[Row, ...], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("")
    for heading in ("deterministic", "sampled", "environment steps"):
        table.add_column(heading, justify="right")
    for row in rows:
        steps = "-" if row.steps is None else f"{row.steps:,}"
        table.add_row(row.label, _show(row.deterministic), _show(row.sampled), steps)
    console.print(table)
    console.print(Text("Return per episode: mean [95 % interval], over seeds; before: over episodes.", style="dim"))


TWO_LINES = 220
"""Characters that two lines of a console hold."""


def shortened(text: str, most: int = TWO_LINES) -> str:
    """The first sentences that fit, at least the beginning of the first."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    ends = [m.end() for m in re.finditer(r"[.!?](?= [A-Z])", text[:most])]
    if ends:
        return text[: ends[-1]]
    return text[: most - 2].rsplit(" ", 1)[0] + " …"
