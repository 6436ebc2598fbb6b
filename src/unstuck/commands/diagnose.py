"""`unstuck diagnose`: what is wrong with an agent and what would help, as a table or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from unstuck.commands.arguments import Positional, given, merged, parse, progress, stage_args

if TYPE_CHECKING:
    from rich.console import Console

    from unstuck.diagnosis import Finding, Panel


@dataclass
class DiagnoseArgs:
    """What is wrong with an agent, and what would help: measurements, without a language model."""

    agent: Annotated[str, Positional]
    """An SB3 zip, a folder of RL Zoo, an agent on the hub (hf://USER/NAME), one that ships with Unstuck, or a run
    folder."""
    run: Path | None = None
    """A run folder into which episodes are collected, or whose episodes are used. By default those of runs/AGENT-ENV
    are used if they are there, and else nothing is kept."""
    trust_run: bool = False
    """Confirm what a run folder from elsewhere would import, run or send your key to; remembered."""
    json: bool = False
    """Print the whole panel as JSON."""
    all: bool = False
    """Explain what is in order, too."""
    trunk: int = 0
    """Also train a copy with PPO for so many environment steps, to see whether it still improves. 0: only look for a
    learning curve beside the agent."""


def diagnose(command: str, args: list[str]) -> None:
    """`unstuck diagnose`."""
    saved, kwargs, args = given(args)
    doc = "What is wrong with an agent (or with that of a run folder), and what would help."
    parsed = parse(stage_args(DiagnoseArgs, ("task", "agent", "collect"), saved, doc), command, args)
    more = {"task": {"env_kwargs": kwargs}} if kwargs is not None else {}
    from unstuck.pipeline import diagnose as measure

    panel = measure(
        parsed.agent,
        run=parsed.run,
        trunk=max(0, parsed.trunk),
        trust_run=parsed.trust_run,
        config=merged(saved, parsed.options_, **more),
        progress=progress(),
    )
    if parsed.json:
        print(panel.as_json(), end="")
        return
    from unstuck.terminal import console

    show(panel, console(width_elsewhere=120), everything=parsed.all)


_STYLES = {"fault": ("✗", "bold red"), "note": ("!", "yellow"), "unknown": ("?", "dim"), "ok": ("✓", "green")}
_VERDICTS = {
    "stuck": "bold red",
    "on its way": "bold green",
    "already good": "bold green",
    "cannot tell": "bold yellow",
}


def show(panel: Panel, console: Console, *, everything: bool = False) -> None:
    """The panel for people: the paragraph, what is wrong and worth knowing, and the rest in one line."""
    from rich.text import Text

    head = Text()
    head.append(f"{panel.agent}", style="bold")
    head.append(f" ({panel.algorithm}) on {panel.env}: " if panel.algorithm else f" on {panel.env}: ")
    head.append(panel.verdict, style=_VERDICTS[panel.verdict])
    console.print(head)
    console.print(Text(panel.summary))
    for finding in panel.sorted_findings:
        if everything or finding.status in ("fault", "note"):
            _show(finding, console)
    for status, words in (("ok", "In order"), ("unknown", "Not known")):
        held = [f for f in panel.findings if f.status == status]
        if held and not everything:
            mark, style = _STYLES[status]
            shown = ", ".join(f.label for f in held)
            console.print(Text(f"\n{mark} {words}: ", style=style).append(Text(shown, style="not bold default")))
    for finding in panel.findings:
        unsure = finding.name == "progress" and finding.status == "unknown" and panel.verdict != "already good"
        if unsure and not everything:
            console.print(Text(f"  {finding.meaning} {finding.remedy}".rstrip()))
    steps = f"{panel.env_steps:,} environment steps taken" if panel.env_steps else "no environment steps taken"
    console.print(Text(f"\n{steps}; {panel.looked_at:,} looked at. {panel.seconds:.1f} s to measure.", style="dim"))
    hints = [] if everything else ["--all: what is in order, in full"]
    hints += ["--json: the panel as data"]
    console.print(Text("; ".join(hints), style="dim"))


def _show(finding: Finding, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    mark, style = _STYLES[finding.status]
    line = Text(f"\n{mark} ", style=style)
    line.append(finding.label, style=style)
    line.append(f"  {finding.shown}")
    if finding.limit:
        line.append(f"  (suspicious {finding.limit}; {finding.source})", style="dim")
    console.print(line)
    text = Text(f"{finding.meaning} {finding.aside}".rstrip())
    if finding.remedy:
        text.append(f"\n→ {finding.remedy}", style="cyan")
    console.print(Padding(text, (0, 0, 0, 2)))
