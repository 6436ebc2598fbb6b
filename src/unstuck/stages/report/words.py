"""Numbers, conditions, actions and terms as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from unstuck.errors import UnstuckError
from unstuck.explainers import explainer_class
from unstuck.guidance import Action, AnyOf, Condition, ProgressMeasure, Term, Verdict, When
from unstuck.methods import METHODS, label_of
from unstuck.tasks.card import TaskCard

_OPS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "==": "equal to", "!=": "other than"}
_AGGREGATE = {"last": "at the end of a branch", "max": "at its highest on a branch", "mean": "averaged over a branch"}

VERDICTS: Mapping[str, tuple[str, str]] = {
    "helpful": ("good", "helpful"),
    "harmful": ("bad", "harmful"),
    "unresolved": ("open", "unresolved"),
    "untested": ("none", "not tested"),
}
"""Status of a verdict → (class of the badge, the word on it)."""


def arm_name(arm: str, algorithm: str = "PPO") -> str:
    """A method's label, where this is what trains; an arm with a name of its own (`--train.name`) is called by it."""
    return label_of(arm, algorithm) if arm in METHODS else arm  # type: ignore[arg-type]


def explainer(name: str) -> str:
    """Who explained; one of a package that is not installed here is called by its name."""
    try:
        return explainer_class(name).label or name
    except UnstuckError:
        return name


def number(x: float | int | None) -> str:
    """Three significant digits, or whole from 1000 on: 741.3 → '741', 0.01234 → '0.0123', 2044.2 → '2,044'."""
    if x is None:
        return "not known"
    size = abs(x)
    if x == int(x) and size < 1e15:
        return f"{int(x):,}"
    return f"{x:,.0f}" if size >= 999.5 else f"{x:.3g}"


def interval(mean: float | None, low: float | None, high: float | None, n: int | None = None) -> str:
    """`-142 [-150, -134]`; without bounds `-142 (one value, no interval)`; without spread just `-142`."""
    if mean is None:
        return "not known"
    if low is None or high is None:
        return f"{number(mean)} ({'one value, ' if n == 1 else ''}no interval)"
    if low == high:
        return number(mean)
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def minus(text: Any) -> str:
    """Hyphens that stand for a minus sign become one, and the bounds of an interval stay on one line."""
    with_minus = re.sub(r"(?<![\w)\]-])-(?=[\d.])", "−", str(text))
    return re.sub(r"\[(\S+), (\S+)\]", "[\\1,\u00a0\\2]", with_minus)


def percent(share: float | None) -> str:
    if share is None:
        return "not known"
    if 0 < share < 0.005:
        return "under 1 %"
    return f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def money(usd: float | None) -> str:
    if usd is None:
        return "not known"
    if usd == 0:
        return "$0"
    return "under $0.01" if usd < 0.01 else f"${usd:,.2f}"


def plural(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


class Words:
    """Guidance in words, with the units and action names of the card where there is one."""

    def __init__(self, card: TaskCard | None):
        self._units = {v.name: v.unit for v in card.variables} if card else {}
        self._actions = card.action if card else None

    @property
    def names(self) -> tuple[str, ...]:
        """The task's variables, in the card's order."""
        return tuple(self._units)

    def value(self, name: str, x: float) -> str:
        unit = self._units.get(name, "")
        return f"{number(x)} {unit}".strip()

    def condition(self, c: Condition) -> str:
        name = f"the size of {c.variable}" if c.abs else c.variable
        if c.than is None:
            return f"{name} is {_OPS[c.op]} {self.value(c.variable, c.value)}"
        other = f"the size of {c.than.variable}" if c.than.abs else c.than.variable
        times = "" if c.than.times == 1 else f"{number(c.than.times)} times "
        more = f" {'plus' if c.value > 0 else 'minus'} {self.value(c.variable, abs(c.value))}" if c.value else ""
        return f"{name} is {_OPS[c.op]} {times}{other}{more}"

    def when(self, when: When | None) -> str:
        """`vx is below 0 m/s, and x is above 1 m or y is above 1 m`."""
        parts = []
        for clause in when or ():
            if isinstance(clause, AnyOf):
                parts.append("either " * (len(clause.any) > 1) + " or ".join(self.condition(c) for c in clause.any))
            else:
                parts.append(self.condition(clause))
        return ", and ".join(parts) if parts else "always"

    def action(self, action: Action, hold: int = 1) -> str:
        """`push right (held for 4 steps)`; `add +0.5 to thigh_joint`; `set thigh_joint to 0.5, leg_joint to -1`."""
        names, unit = (self._actions.names, self._actions.unit) if self._actions else ((), "")
        if action.index is not None:
            text = names[action.index] if action.index < len(names) else f"action {action.index}"
        else:
            values = action.values or ()
            labels = names if len(names) == len(values) else tuple(f"dimension {i}" for i in range(len(values)))
            text = _continuous(values, labels, unit, action.delta)
        return f"{text}, held for {hold} steps" if hold > 1 else text

    def meaning(self, action: Action) -> str:
        """What the card says of a discrete action, '' where it says nothing."""
        texts = self._actions.descriptions if self._actions else ()
        return texts[action.index] if action.index is not None and action.index < len(texts) else ""

    def term(self, term: Term) -> str:
        """`-2 for each rad by which the size of pitch exceeds 0.4 rad, up to 1 rad, while vx is above 0 m/s`."""
        name = f"the size of {term.variable}" if term.abs else term.variable
        unit = self._units.get(term.variable, "")
        each = f"{term.weight:+.3g} for each {unit if unit[:1].isalpha() else 'unit'}"
        cap = self.value(term.variable, term.cap)
        if term.above is not None:
            body = f"by which {name} exceeds {self.value(term.variable, term.above)}, up to {cap}"
        elif term.below is not None:
            body = f"by which {name} falls short of {self.value(term.variable, term.below)}, up to {cap}"
        else:
            body = f"of {name}, up to {cap}" if term.abs else f"of {name}, up to {cap} either way"
        return f"{each} {body}" + (f", while {self.when(term.when)}" if term.when else "")

    def progress(self, progress: ProgressMeasure) -> str:
        return _AGGREGATE[progress.aggregate]


def _continuous(values: tuple[float, ...], labels: tuple[str, ...], unit: str, delta: bool) -> str:
    unit = f" {unit}" if unit else ""
    pairs = list(zip(labels, values, strict=True))
    if not delta:
        return "set " + ", ".join(f"{name} to {number(v)}{unit}" for name, v in pairs)
    changed = [f"{v:+.3g}{unit} to {name}" for name, v in pairs if v != 0]
    return "add " + ", ".join(changed) + " (to the agent's own action)" if changed else "leave the action as it is"


def verdict_numbers(v: Verdict) -> str:
    """`gain 0.31 [0.1, 0.5] in progress, 8 pairs of branches, 480 steps`, as far as it is known."""
    parts = []
    if v.gain is not None:
        parts.append(f"gain {interval(v.gain, v.low, v.high)}" + (f" in {v.metric}" if v.metric else ""))
    if v.pairs:
        parts.append(plural(v.pairs, "pair"))
    if v.steps:
        parts.append(f"{v.steps:,} steps")
    return ", ".join(parts)
