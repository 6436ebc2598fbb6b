"""docs/speed.md out of docs/speed.json: whatever the numbers are, what the page says of them is computed."""

from __future__ import annotations

import textwrap
from typing import Any

from benchmarks.speed.rows import Row
from benchmarks.speed.sections import SECTIONS, Section

PLOT = "speed-guidance.svg"
_HEAD = """\
# Speed

Made by `make speed` (`python -m benchmarks.speed`), which measures everything on this page; do not edit it by hand.

Whatever is compared takes turns within each repeat, so that a busy machine slows all of it alike: look at the ratios,
which are of neighbours in time, more than at the rates. Given are medians over repeats and, in brackets, the lowest and
the highest ratio. The same numbers are in [speed.json](speed.json).
"""


def page(data: dict[str, Any]) -> str:
    """The whole page. `data`: section → `rows`, `repeats`, `quick`, `command`, `machine`, `seconds`."""
    parts = [_HEAD, _summary(data)]
    for name, section in SECTIONS.items():
        parts.append(f"## {section.title}\n\n{_wrapped(section.text)}\n")
        if name not in data:
            parts.append("Not measured yet.\n")
            continue
        rows = data[name]["rows"]
        parts.append(_table(section, rows))
        if name == "guidance":
            parts.append(f"![Share of the steps per second against the number of pieces of advice]({PLOT})\n")
        parts += [_verdicts(section, rows), _made(data[name])]
    return "\n".join(p for p in parts if p)


def _summary(data: dict[str, Any]) -> str:
    verdicts = [v for name, section in SECTIONS.items() if name in data for v in section.judge(data[name]["rows"])]
    if not verdicts:
        return ""
    met = sum(v.met for v in verdicts)
    missed = [f"- {v.text}" for v in verdicts if not v.met]
    if not missed:
        return f"All {len(verdicts)} targets below are met.\n"
    return f"{met} of {len(verdicts)} targets below are met; not met:\n\n" + "\n".join(missed) + "\n"


def _table(section: Section, rows: list[Row]) -> str:
    units = {row["unit"] for row in rows}
    unit = f" ({units.pop()})" if len(units) == 1 else ""
    head = ["what" + unit, *section.heads]
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * 4 + "|"]
    for row in rows:
        what = row["what"] if unit else f"{row['what']} ({row['unit']})"
        if row.get("note"):
            what += f"; {row['note']}"
        cells = [what, _number(row["baseline"]), _number(row["ours"]), _ratio(section, row), _number(row["limit"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ratio(section: Section, row: Row) -> str:
    value, spread = row["ratio"], row.get("spread")
    if section.percent:
        return f"{value:.1%} [{spread[0]:.1%}, {spread[1]:.1%}]" if spread else f"{value:.1%}"
    between = f" [{spread[0]:.2g}, {spread[1]:.2g}]" if spread and max(spread) <= 100 * max(value, 1e-9) else ""
    return f"{value:.2g}{between}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdicts(section: Section, rows: list[Row]) -> str:
    verdicts = section.judge(rows)
    lines = [f"- {v.text}: **{'met' if v.met else 'not met'}**" + (f"; {v.why}" if v.why and not v.met else "")
             for v in verdicts]  # fmt: skip
    return "\n".join(lines) + "\n" if lines else ""


def _made(measured: dict[str, Any]) -> str:
    m = measured["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    quick = " in quick mode, which is no measurement" if measured["quick"] else ""
    repeats = f"{measured['repeats']} repeat{'s' * (measured['repeats'] != 1)}"
    return _wrapped(
        f"{repeats}{quick}, {measured['seconds']:.0f} s, by `{measured['command']}`. {m['cores']} cores, "
        f"{m['processor']}; {m['gflops']:.0f} GFLOP/s in float32 matrix products on one; Python {m['python']}, "
        f"{versions}."
    ) + "\n"  # fmt: skip


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)
