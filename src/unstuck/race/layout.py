"""The rungs of a race: how many of those that go on from the agent there is room for, and how long the first is."""

from __future__ import annotations

from unstuck.race.schedule import FEWEST, TIMES_SHORTEST, Rungs, plan_rungs
from unstuck.race.track import Track

SHORTEST = 16_000
"""Environment steps below which a first rung says little: the critic's warm-up takes 6000 of them."""
EARLY_SHARE = 0.6
"""Of what losers may take, the part of those that go on from where the agent is, where others are tried too."""
FEW = 2
"""Competitors that go on from where the agent is, plain PPO and one more, where the budget is long and others begin
from the bottom: those need the steps."""


def shortest_look(track: Track, rungs: Rungs) -> int:
    """Environment steps for which the trunk is trained where the fewest will do."""
    return min(rungs.first, track.at_least(shortest_rung(track)))


def shortest_rung(track: Track) -> int:
    """Environment steps of a first rung that still says something, as far as the budget allows."""
    return min(SHORTEST, track.budget // 16)


def lay_out(track: Track, early: int, late: bool, few: int | None = FEW) -> Rungs:
    """The rungs of those that go on from where the agent is."""
    shortest = shortest_rung(track)
    if early == 1 and late:
        # Plain PPO alone goes on from the agent: one look at whether it is on its way.
        return Rungs(1, track.at_least(shortest), FEWEST)
    share = track.config.explore * (EARLY_SHARE if late else 1.0)
    brief = late and track.long and not track.config.treatments
    entered, times = (min(few, early), 1) if brief and few is not None else (early, TIMES_SHORTEST)
    return plan_rungs(track.budget, track.quantum, track.episode, entered, share=share, shortest=shortest, times=times)
