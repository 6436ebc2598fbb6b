"""What begins from the bottom: when it is tried, for how long, and whether it goes on in the place of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.race.entering import Outlook
from unstuck.race.entry import Entry
from unstuck.race.schedule import EXPONENT, climbs
from unstuck.race.track import Track
from unstuck.treatments.another import DUEL

PATIENCE = 0.25
"""Share of the budget for which each of them is trained before it is judged."""
QUICK, TRIED = 12_000, 2
"""Environment steps for which what is quick is trained before it is judged; and how many times that, where two of it
are compared."""
LITTLE, MOST = 0.2, 0.75
"""Share of what an agent lacks to a good one: where who is on its way is heading for less of it, what is quick is tried
all the same. The former from an agent that is halfway, the latter from one that is further away."""


@dataclass(frozen=True)
class Trials:
    """The trials of those that begin from the bottom, in one race.

    Args:
        trunk: plain PPO.
        outlook: what is known of the agent.
        first: environment steps of a first rung.
    """

    track: Track
    trunk: Entry
    outlook: Outlook
    first: int

    def patience(self, quick: bool = False) -> int:
        """Environment steps for which one is trained before it is judged, as far as there is room."""
        most = self.track.at_least(QUICK) if quick else int(PATIENCE * self.track.budget)
        steps = min(most if quick else max(self.first, most), self.track.room)
        return self.track.at_most(steps)

    def moves(self, entry: Entry) -> bool:
        """Whether it surely gets on: an agent that is stuck should be left to nobody for a lucky start, and the return
        of a few episodes can be lucky. From an agent that is near a good one whatever is surely better goes on, because
        what begins from the bottom has far to go to be where that is."""
        curve, (before, error) = self.track.curve(entry), self.track.before
        if self.outlook.near and entry is not self.trunk and curve.level - 2 * curve.noise > before + 2 * error:
            return True
        return climbs(curve, before, error, self.track.total)

    def _reach(self, entry: Entry) -> float:
        """The return that may be expected of what begins from the bottom. Of what is quick, where the agent is known to
        be halfway, only if it surely learns, because there is much to lose. Where the agent is known to be far from a
        good one there is more to gain, and some of what comes to be good is slow for its first 12,000 steps: on a short
        budget that is drawn out in a straight line."""
        known = entry.competitor.quick and self.outlook.missing > 0
        if known and self.outlook.near and not self.track.learns(entry):
            return self.track.shown(entry)
        straight = known and not self.outlook.near and not self.track.long
        return self.track.reach(entry, 1.0 if straight else EXPONENT)

    def _promises(self, entry: Entry, reach: float, heading: float) -> bool:
        """Whether what begins from the bottom may come as far as what goes on from the agent. What is quick need not
        quite, because its reach is no upper bound; but it must have gained something, or lie ahead: where rewards are
        rare nobody returns anything, and that it does not either speaks for nothing."""
        if not entry.competitor.quick:
            return reach >= heading
        return reach > heading or (self.track.gains(entry) and reach >= heading - self.track.slack)

    def less(self, entry: Entry) -> bool:
        """Whether it is heading for too little of what the agent lacks, however surely it is better."""
        share = LITTLE if self.outlook.near else MOST
        return self.track.heading(entry) < self.track.before[0] + share * self.outlook.missing

    def try_late(self, base: Entry, late: Sequence[Entry]) -> Entry:
        """What begins from the bottom is tried where nothing else gets the agent moving, one after the other, each
        given the time that it takes to show; returns who goes on. They are not compared with each other: what keeps
        half of the old weights is ahead at first, and behind in the end."""
        track = self.track
        moving = next((e for e in (base, self.trunk) if self.moves(e)), None)
        if moving is not None:
            tried = [e for e in late if e.competitor.quick] if self.less(moving) else []
            for entry in (e for e in late if e not in tried):
                entry.out(f"not tried: {moving.name} is on its way without it")
            if not tried:
                track.show("nothing begins from the bottom")
                return base
            late = tried
        heading, late = track.heading(base), self._duelled(late)
        for number, entry in enumerate(late):
            quick = entry.competitor.quick
            steps = self.patience(quick)
            # From an agent that is halfway what begins from the bottom has far to go, and must have time for it.
            if steps < track.quantum or (self.outlook.near and not quick and track.room < 2 * steps):
                entry.out("not tried: there is no room left for it")
                continue
            track.train([entry], steps)
            reach = self._reach(entry)
            if self._promises(entry, reach, heading):
                for other in late[number + 1 :]:
                    other.out(f"not tried: {entry.name} has more to come than {base.name}")
                base.out(f"heading for {heading:.4g}, {entry.name} has more to come")
                track.show("from the bottom")
                return entry
            at_best = "" if quick else "at best "
            entry.out(f"{at_best}heading for {reach:.4g}, {base.name} for {heading:.4g}")
            track.show("from the bottom")
        return base

    def _duelled(self, late: Sequence[Entry]) -> Sequence[Entry]:
        """What is quick shows early how far it comes, and of two that begin with nothing one may end in a rut: where
        the budget has room for it, a second one is trained beside the first, and only the better is tried."""
        track, steps = self.track, self.track.at_least(TRIED * QUICK)
        pair = [e for e in late if e.competitor.quick and not e.points][:2]
        if len(pair) < 2 or track.budget < DUEL or track.room < 2 * steps:
            return late
        track.train(pair, steps)
        best, other = sorted(pair, key=track.shown, reverse=True)
        other.out(f"returns {track.shown(other):.4g} after as many steps, {best.name} {track.shown(best):.4g}")
        track.show("two from the bottom")
        return [e for e in late if e is not other]
