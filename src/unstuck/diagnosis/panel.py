"""The panel: what was measured of an agent, what each number means, and what would help.

    panel.verdict       stuck | on its way | already good | cannot tell
    panel.summary       one paragraph, in words
    panel.treatments    what would help, first what helps most
    panel.findings      the measurements, each with its threshold, the source of it, and the remedy

A panel is data: frozen, checked, and the same in JSON. Nothing here measures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unstuck.errors import RunError
from unstuck.guidance import TREATMENTS as TREATMENTS
from unstuck.guidance import TreatmentName as Treatment

FORMAT = 1
FILE = "diagnosis.json"
"""Its name in a run folder."""

Status = Literal["ok", "note", "fault", "unknown"]
"""ok: looked at, nothing wrong. note: worth knowing, by itself no reason to be stuck. fault: keeps agents from
learning. unknown: could not be measured; the meaning says why."""
Verdict = Literal["stuck", "on its way", "already good", "cannot tell"]
_ORDER: dict[Status, int] = {"fault": 0, "note": 1, "unknown": 2, "ok": 3}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Finding(_Frozen):
    """One measurement."""

    name: str
    """With hyphens, e.g. `means-beyond-bounds`; the same in every panel."""
    value: float | None = None
    """None where it could not be measured."""
    unit: str = ""
    """What the value counts, as it reads after the number: "of the range", "steps"; '' for none."""
    status: Status
    whole: float | None = None
    """What a value of 1 is worth, in return, where it is a share of a way; else None."""
    threshold: float | None = None
    """Where the status changes; None where there is no single number."""
    side: Literal["above", "below"] = "above"
    """On which side of the threshold the value is suspicious."""
    source: str = ""
    """Where the threshold comes from."""
    meaning: str
    """What the value says of this agent, in plain sentences."""
    aside: str = ""
    """A further sentence for people. Prompts leave it out, so that replies that were recorded go on to answer them."""
    remedy: str = ""
    """What to do about it; '' where nothing is wrong."""
    treatments: tuple[Treatment, ...] = ()
    """The treatments that act on it, first what helps most."""

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("-", " ")

    @property
    def shown(self) -> str:
        """The value with its unit."""
        if self.value is None:
            return "not measured"
        return f"{_number(self.value)} {self.unit}".rstrip()

    @property
    def limit(self) -> str:
        """The threshold in words, '' without one."""
        return "" if self.threshold is None else f"{self.side} {_number(self.threshold)}"

    def as_text(self) -> str:
        """One line: value, threshold, meaning and remedy."""
        limit = f", suspicious {self.limit}" if self.limit else ""
        head = f"{self.label}: {self.shown} ({self.status}{limit})."
        return " ".join(part for part in (head, self.meaning, self.remedy) if part)


class Panel(_Frozen):
    """All that was measured of one agent on one task."""

    format: int = FORMAT
    agent: str
    """Its file's name."""
    env: str
    """Gymnasium id."""
    algorithm: str = ""
    verdict: Verdict
    summary: str
    """One paragraph: how the agent stands, what is wrong, and what would help."""
    treatments: tuple[Treatment, ...] = ()
    """What would help, first what helps most."""
    findings: tuple[Finding, ...]
    deterministic: float | None = None
    """Mean return per episode with the most likely actions."""
    sampled: float | None = None
    """Mean return per episode with sampled actions."""
    env_steps: int = 0
    """Environment steps that this diagnosis itself took; 0 where it looked at episodes that were there."""
    looked_at: int = 0
    """Environment steps of the episodes behind it."""
    seconds: float = 0.0

    def finding(self, name: str) -> Finding | None:
        """The finding of that name, if it was looked for."""
        return next((f for f in self.findings if f.name == name), None)

    def has_fault(self, name: str) -> bool:
        """Whether the finding of that name is a fault."""
        found = self.finding(name)
        return found is not None and found.status == "fault"

    @property
    def faults(self) -> tuple[Finding, ...]:
        """What keeps the agent from learning."""
        return tuple(f for f in self.findings if f.status == "fault")

    @property
    def sorted_findings(self) -> tuple[Finding, ...]:
        """Faults first, then notes, what could not be measured, and what is in order."""
        return tuple(sorted(self.findings, key=lambda f: _ORDER[f.status]))

    def as_text(self) -> str:
        """For prompts and plain consoles: the summary, a line for each fault and note, and what is in order by name."""
        lines = [self.summary]
        lines += [f"- {f.as_text()}" for f in self.sorted_findings if f.status in ("fault", "note")]
        for status, words in (("ok", "In order"), ("unknown", "Not measured")):
            held = [f for f in self.findings if f.status == status]
            shown = [f"{f.label} {f.shown}" if status == "ok" and f.value is not None else f.label for f in held]
            if shown:
                lines.append(f"{words}: {'; '.join(shown)}.")
        return "\n".join(lines)

    def as_json(self) -> str:
        """The whole panel; `Panel.from_json` reads it."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Panel:
        """What `as_json` wrote.

        Raises:
            RunError: it is something else, or of a newer format.
        """
        try:
            panel = cls.model_validate_json(text)
        except ValidationError as error:
            raise RunError(f"not a diagnosis that this Unstuck can read: {error.errors()[0]['msg']}") from error
        if panel.format > FORMAT:
            raise RunError(f"the diagnosis was written by a newer Unstuck (format {panel.format}); update Unstuck")
        return panel


def read_panel(folder: Path) -> Panel | None:
    """The panel that `collect` left in a run folder; None where there is none.

    Raises:
        RunError: the file is damaged, or of a newer format; names the command that makes it again.
    """
    path = folder / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return Panel.from_json(text)
    except RunError as error:
        raise RunError(f"{path}: {error}; `unstuck diagnose {folder}` makes it again") from error


def _number(value: Any) -> str:
    size = abs(float(value))
    if size < 1e-6:
        return "0"
    if size >= 1e5:
        return f"{value:,.0f}"
    if size >= 1000:
        return f"{value:.0f}"
    # Two digits of shares: a third differs between machines, and a prompt with it would be another prompt.
    return f"{value:.3g}" if size >= 1 else f"{value:.2g}"
