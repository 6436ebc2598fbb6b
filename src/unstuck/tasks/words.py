"""States in language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unstuck.errors import TaskError, did_you_mean
from unstuck.tasks.card import Describer, Obs


def describe_state(describer: Describer, obs: Any, names: Sequence[str] | None = None) -> str:
    """One observation (without a batch axis) as `z=-0.05 m, pitch=0.31 rad`."""
    batch = {k: np.asarray(v)[None] for k, v in obs.items()} if isinstance(obs, dict) else np.asarray(obs)[None]
    return describe_states(describer, batch, names)[0]


def describe_states(describer: Describer, obs: Obs, names: Sequence[str] | None = None) -> list[str]:
    """A batch of observations, one text each; with `names`, only these variables in this order.

    Raises:
        TaskError: if a name is none of the card's variables.
    """
    card = describer.card
    known = card.variable_names
    for name in names or ():
        if name not in known:
            raise TaskError(f"{card.env_id} has no variable {name!r}.{did_you_mean(name, known)}")
    chosen = [known.index(name) for name in (names or known)]
    return [
        ", ".join(_entry(known[i], float(row[i]), card.variables[i].unit) for i in chosen)
        for row in describer.variables(obs)
    ]


def _entry(name: str, value: float, unit: str) -> str:
    # Units that are a scale ("0 or 1", "4 rad/s") belong into the legend, not behind each number.
    shown = f" {unit}" if unit and not unit[0].isdigit() else ""
    return f"{name}={_number(value)}{shown}"


def _number(value: float) -> str:
    """Three significant digits, at most three decimals where that loses nothing that matters."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
