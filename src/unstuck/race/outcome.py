"""What a race came to: the test, and which agent is handed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.race.competitors import TRUNK
from unstuck.race.entry import Entry
from unstuck.race.track import Track
from unstuck.race.verdict import gain, is_better


@dataclass(frozen=True)
class Outcome:
    """What a race came to."""

    track: Track
    winner: Entry
    finalist: int
    """The point of the winner's training that was tested."""
    tested: dict[str, Any]

    @property
    def gains(self) -> tuple[Any, Any]:
        """Over the agent before, and over the trunk (None where the finalist is the trunk, or nothing was tested)."""
        returns, level = self.tested.get("returns", {}), self.track.config.level
        ours = returns.get("finalist", [])
        over = gain(ours, returns["original"], level) if "original" in returns else None
        return over, gain(ours, returns["trunk"], level) if "trunk" in returns else None

    def handed(self) -> tuple[str, str]:
        """(finalist, trunk or original; why)."""
        over, trunk = self.gains
        if over is None:
            return "finalist", "one treatment was asked for, so nothing was compared"
        bounds = [g for g in (over, trunk) if g is not None]
        if all(is_better(g) for g in bounds):
            than = "the agent before" + (" and plain PPO" if trunk is not None else "")
            return "finalist", f"in paired episodes it is better than {than}: {_words(over)}"
        returns = self.tested["returns"]
        trunk_returns = returns.get("trunk", returns["finalist"])
        better = np.mean(trunk_returns) > np.mean(returns["original"]) if trunk_returns else False
        why = f"{self.winner.name} was not shown to be better ({_words(*bounds)})"
        if better:
            return "trunk", f"{why}; of plain PPO and the agent before, plain PPO returns more"
        return "original", f"{why}; of plain PPO and the agent before, the latter returns more"

    def agent(self, handed: str) -> Path:
        """The zip of what is handed over."""
        track = self.track
        if handed == "original":
            return track.run.agent_path
        trunk = next((e for e in track.entries if e.name == TRUNK), self.winner)
        if handed == "trunk" and trunk is not self.winner:
            return track.agent_of(trunk, trunk.trained)
        return track.agent_of(self.winner, self.finalist)


def _words(*gains: Any) -> str:
    return ", ".join(
        f"{g.mean:+.4g}, lower bound {g.low:.4g}, {g.pairs} pairs" if g.low is not None else f"{g.mean:+.4g}, one pair"
        for g in gains
    )
