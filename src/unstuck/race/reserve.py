"""What a race keeps of its budget for the end: paired episodes in one mode, and what noise costs in sampled play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ENOUGH_PAIRS, DEAREST = 5, 0.12
"""Pairs that the last test should have, and the share of the budget that it may take for that."""
SURE_PAIRS, SURE_SHARE = 3, 1 / 3
"""Pairs that it should have where one would show the gain, about: by Student's t fewer bound next to nothing; and the
share that is kept of what else would be, at least."""
FEWEST_KNOWN = 3
"""Episodes of the agent that say by how much its returns vary."""
MOST_PAIRS = 40
"""That a test has."""
HALF = 0.5
"""Share of what an agent lacks that a test must be able to show, so that there is anything to race for."""
VARIED, POWER = 0.2, 2.5
"""Share of the budget that pairs may take where returns vary so much that fewer would show nothing; and the gain, in
its standard errors, that is shown in four of five tests."""
SURER, HOPEFUL = 3.3, 2
"""The same for nineteen of twenty tests, which a long budget can afford: with 500,000 steps RL Zoo's LunarLander (TRPO)
was handed back for want of pairs (docs/race-measured.md). And how many times the pairs of a test it may take to show
the gain in four of five, so that all of them are kept there: that shows it in about every other test."""
SHARES, FEWER_SHARES = (1.0, 0.3, 0.1), (1.0, 0.1)
"""Of its noise, with which an agent is tried; and where the budget is short."""
MOST_SAMPLED, SAMPLED_SHARE = 5, 0.07
"""Sampled episodes for each share and for plain PPO, at most, and the share of the budget that they may take."""
TIMES_LONGER, PAIRS_OF_SHORT = 2, 12
"""By what episodes may get longer in the last stretch of training, about; and pairs, as long as episodes may be, that
are kept where they are far shorter: what these do not take is enough for the other mode."""
LONG = 200
"""Episodes for which a budget must be worth, to be no short one."""


@dataclass(frozen=True)
class Reserve:
    """Environment steps kept for the end."""

    pairs: int
    """Steps for paired episodes."""
    shares: tuple[float, ...]
    """Of the noise, that are tried."""
    sampled: int
    """Episodes for each share, and for plain PPO."""
    episode: int
    most: int = 0
    """Steps that paired episodes may take where returns vary."""

    @property
    def other(self) -> int:
        """Steps for all of these."""
        return (len(self.shares) + 1) * self.sampled * self.episode

    @property
    def steps(self) -> int:
        return self.pairs + self.other

    def needed(self, length: float, pairs: int = 0, players: int = 2, known: int = 0) -> int:
        """Steps that are needed where episodes take `length` steps by now. All is kept for episodes as long as they may
        be; where they are far shorter, the most of it is better trained with.

        Args:
            pairs: that it takes to show the gain, about; 0 where that is not known: more are kept for what takes more,
                fewer where a single one would show it.
            players, known: as `episodes_of` takes them.
        """
        played = episodes_of(max(pairs, SURE_PAIRS), players, known) * self.episode
        kept = self.pairs
        if pairs == 1:
            kept = min(kept, max(played, int(SURE_SHARE * kept)))
        elif pairs:
            kept = max(kept, min(played, self.most))
        if TIMES_LONGER * length > self.episode:
            return kept + self.other
        return min(kept + self.other, max(played, 2 * PAIRS_OF_SHORT * self.episode))


def reserve(budget: int, episode: int, share: float) -> Reserve:
    """For a budget, with episodes of so many steps.

    Args:
        share: of the budget, for paired episodes, at least.
    """
    enough = min(2 * ENOUGH_PAIRS * episode, int(DEAREST * budget))
    shares = SHARES if budget >= LONG * episode else FEWER_SHARES
    sampled = min(MOST_SAMPLED, int(SAMPLED_SHARE * budget) // ((len(shares) + 1) * episode))
    pairs = max(2 * episode, int(share * budget), enough)
    return Reserve(pairs, shares, sampled, episode, max(pairs, int(VARIED * budget)))


def episodes_of(pairs: int, players: int, known: int) -> int:
    """Episodes that must be played for so many pairs.

    Args:
        players: who plays beside the agent before.
        known: pairs of which the agent before has played its part, which costs nothing.
    """
    return players * pairs + max(0, pairs - known)


def unshown(modes: Sequence[Sequence[float]], length: float, missing: float, kept: Reserve) -> tuple[str, bool]:
    """Why no gain over the agent could be told from chance with what is kept for the last test: half of what it lacks
    would not be shown; '' where it would. And whether all of that would be.

    Args:
        modes: returns of the agent's collected episodes, of the mode that is tested and of the other one. Six of one
            may be alike by chance, and lucky, so that the mode in which they vary more counts, and the lower one.
        length: mean steps of these.
        missing: return that the better one lacks to a good agent.
    """
    known = [np.asarray(r) for r in modes if len(r) >= FEWEST_KNOWN and np.isfinite(r).all()]
    if not known or not missing > 0 or kept.most <= 0:
        return "", True
    levels, spread = [float(r.mean()) for r in known], max(float(r.std(ddof=1)) for r in known)
    missing += max(levels) - min(levels)
    half, whole = (_pairs(part * missing, spread * 2**0.5) for part in (HALF, 1.0))  # of two, which vary alike
    paid = (n for n in range(1, MOST_PAIRS + 1) if episodes_of(n, 2, len(modes[0])) * length <= kept.most)
    if half <= (most := max(paid, default=0)):
        return "", True
    why = (
        f"returns vary by {spread:.3g}, so that half of the {missing:.3g} that it lacks would show in some "
        f"{half:.0f} pairs of episodes, and there is room for {most}"
    )
    return why, whole <= most


def pairs_to_show(gain: float, spread: float, long: bool = False) -> int:
    """Paired episodes that it takes, about, to show a gain in the mean return where differences have this standard
    deviation; 0 of none, or of one so small that no test would show it.

    Args:
        long: the budget is, so that more can be paid for.
    """
    if _pairs(gain, spread) > (HOPEFUL if long else 1) * MOST_PAIRS:
        return 0
    return int(min(_pairs(gain, spread, SURER if long else POWER), MOST_PAIRS))


def _pairs(gain: float, spread: float, power: float = POWER) -> float:
    """As `pairs_to_show`, however many; 0 where either is no number, as a file may say, or there is no gain."""
    if not gain > 0 or not np.isfinite(spread):
        return 0.0
    with np.errstate(over="ignore"):
        return float(np.ceil(np.square(np.divide(power * spread, gain))))
