"""How much noise an agent is handed over with: in sampled play, the less of it the nearer to its deterministic play.

The noise with which a Gaussian policy explores is a number of its own, beside its network, and at hand-over a free
one: deterministic play does not change with it. Winners of races explore with a fifth to a half of the range, and many
return less than half of their deterministic return in sampled play. So the same sampled episodes are played with the
noise as it is and with shares of it, and the share with the highest mean is handed over. For discrete actions the
share is one of the temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.agents import Agent, load_agent
from unstuck.cells import cell
from unstuck.files import weights_mark
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.race.legs import play
from unstuck.race.track import Track
from unstuck.rollout import first_of
from unstuck.treatments import quieter

QUIET_SEED = 5_000_000
"""Seed of the first of these episodes."""


@dataclass(frozen=True)
class Quiet:
    """An agent as it would be handed over."""

    agent: Path
    share: float
    """Of the noise that it had."""
    sampled: tuple[float, ...]
    """Returns of its sampled episodes; empty where none were played."""


def quieted(track: Track, who: str, agent: Path, *, count: int, given: Sequence[float] | None = None) -> Quiet:
    """The agent with the share of its noise that is best in sampled play.

    Args:
        who: names the folder.
        count: sampled episodes for each share; with 0 nothing is tried.
        given: of the agent as it was given, the returns of sampled episodes that were collected, which need not be
            played again if there are several. It keeps its noise unless another share's mean is above that by more
            than the standard error of the difference. None for what was trained, which has the best share.
    """
    if count < 1:
        return Quiet(agent, 1.0, ())
    seeds = episode_seeds(track, count)
    shares, known = track.reserve.shares, tuple(given) if given is not None and len(given) > 1 else ()
    mark = track.mark("quiet", weights_mark(agent), seeds, shares, given is not None, known)

    def work(draft: Path) -> dict[str, Any]:
        held = load_agent(agent)
        found, taken = _try(track, held, seeds, [s for s in shares if s != 1.0 or not known])
        if known:
            found[1.0] = list(known)
        best = best_share(found, proven=given is not None)
        if best != 1.0:
            _save(track, _with(track, held, best), draft)
        return {"returns": {f"{share:g}": r for share, r in found.items()}, "share": best, "taken": taken}

    folder = track.home / "quiet" / who
    done = cell(folder, mark, work)
    track.spent["judge"] += done["taken"]
    share = float(done["share"])
    return Quiet(agent if share == 1.0 else folder / "agent.zip", share, tuple(done["returns"][f"{share:g}"]))


def episode_seeds(track: Track, count: int) -> list[int]:
    """Of sampled episodes: the same for all who play them."""
    return [first_of(QUIET_SEED, track.seed) + i for i in range(count)]


def _try(track: Track, agent: Agent, seeds: list[int], shares: Sequence[float]) -> tuple[dict[float, list[float]], int]:
    found, taken = {}, 0
    for share in shares:
        if (player := _with(track, agent, share)) is not None:
            found[share], steps = play(track.space, player, seeds, "sampled")
            taken += steps
    return found, taken


def _with(track: Track, agent: Agent, share: float) -> Agent | None:
    return agent if share == 1.0 else quieter(agent, track.space.spaces[1], share)


def best_share(found: dict[float, list[float]], proven: bool) -> float:
    """The share with the highest mean; of equal ones the larger."""
    best = max(found, key=lambda share: (float(np.mean(found[share])), share))
    if proven and best != 1.0:
        both = [np.asarray(found[share]) for share in (best, 1.0)]
        if min(map(len, both)) < 2:
            return 1.0
        error = float(np.sqrt(sum(each.var(ddof=1) / len(each) for each in both)))
        return best if both[0].mean() - both[1].mean() > error else 1.0
    return best


def _save(track: Track, agent: Agent | None, folder: Path) -> None:
    """As a plain zip, like all that training leaves."""
    assert agent is not None
    learner = Learner(track.space, track.run.config.train, Plan(), None, track.seed, track.quantum, folder, agent=agent)
    learner.trainer.save(folder / "agent.zip")
    learner.model.get_env().close()
