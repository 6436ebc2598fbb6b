"""What a race keeps of its budget for the end: paired episodes in one mode, and what noise costs in sampled play."""

from __future__ import annotations

from dataclasses import dataclass

ENOUGH_PAIRS, DEAREST = 5, 0.12
"""Pairs that the last test should have, and the share of the budget that it may take for that."""
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

    @property
    def other(self) -> int:
        """Steps for all of these."""
        return (len(self.shares) + 1) * self.sampled * self.episode

    @property
    def steps(self) -> int:
        return self.pairs + self.other

    def needed(self, length: float) -> int:
        """Steps that are needed where episodes take `length` steps by now. All is kept for episodes as long as they may
        be; where they are far shorter, the most of it is better trained with."""
        if TIMES_LONGER * length > self.episode:
            return self.steps
        return min(self.steps, 2 * PAIRS_OF_SHORT * self.episode)


def reserve(budget: int, episode: int, share: float) -> Reserve:
    """For a budget, with episodes of so many steps.

    Args:
        share: of the budget, for paired episodes, at least.
    """
    enough = min(2 * ENOUGH_PAIRS * episode, int(DEAREST * budget))
    shares = SHARES if budget >= LONG * episode else FEWER_SHARES
    sampled = min(MOST_SAMPLED, int(SAMPLED_SHARE * budget) // ((len(shares) + 1) * episode))
    return Reserve(max(2 * episode, int(share * budget), enough), shares, sampled, episode)
