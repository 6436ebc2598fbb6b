"""Who trains with what is left: halving among those that go on from the agent, and what begins from the bottom."""

from __future__ import annotations

from dataclasses import dataclass

from unstuck.race.competitors import TRUNK
from unstuck.race.entry import Entry
from unstuck.race.schedule import FEWEST, Rungs, climbs, forecast, optimistic, plan_rungs
from unstuck.race.track import Track

SHORTEST = 8_000
"""Environment steps below which a first rung says nothing: the critic's warm-up takes most of them."""
EARLY_SHARE = 0.6
"""Of what losers may take, the part of those that go on from where the agent is, where others are tried too."""
MOST_LATE = 2
"""Competitors that begin from the bottom, where the budget is worth many episodes; else one."""
PATIENCE, PATIENCE_ALONE = 0.12, 0.25
"""Share of the budget for which each of them is trained before it is judged: of several, and of a single one."""


@dataclass(frozen=True)
class Contest:
    """The rungs of one race.

    Args:
        early: who goes on from where the agent is, the trunk in front.
        late: who begins from the bottom.
        trunk_first: whether nobody else is tried where the trunk gets on by itself.
    """

    track: Track
    early: list[Entry]
    late: list[Entry]
    rungs: Rungs
    trunk_first: bool

    @property
    def trunk(self) -> Entry:
        return self.early[0]

    def run(self) -> tuple[Entry, list[Entry]]:
        """Who trains with what is left, and those that could go on in its place: the best of those that go on from the
        agent, and the trunk."""
        winner, base = self._decide()
        rivals = [e for e in self.early if e is not winner and e.points and (e is base or e.name == TRUNK)]
        return winner, rivals

    def _decide(self) -> tuple[Entry, Entry]:
        track, trunk = self.track, self.trunk
        if self.trunk_first and len(self.early) + len(self.late) > 1:
            track.train([trunk], self.rungs.first)
            if climbs(track.curve(trunk), *track.before, track.total):
                for entry in [*self.early[1:], *self.late]:
                    entry.out(f"not tried: {trunk.name} gets on without it")
                track.show(f"{trunk.name} gets on by itself")
                return trunk, trunk
        base = self._halve()
        return (self._try_late(base) if self.late else base), base

    def _halve(self) -> Entry:
        """Successive halving among those that go on from where the agent is; returns the best."""
        track, racing = self.track, self.early
        if len(racing) == 1 and self.rungs.first < track.budget // 2:
            track.train(racing, self.rungs.first)
        for number, survivors in enumerate(self.rungs.survivors):
            track.train(racing, self.rungs.stop(number))
            racing = track.drop(racing, survivors, f"rung {number + 1}")
            if survivors == 1:
                racing = [self._treated(racing[0])]
            track.show(f"rung {number + 1} of {len(self.rungs.survivors)}")
        return racing[0]

    def _treated(self, best: Entry) -> Entry:
        """Who goes on where plain PPO came out best, but is flat: nothing is lost by a treatment that was beaten by no
        more than chance, and plain PPO may still be asked for again."""
        track = self.track
        if best.name != TRUNK or track.rises(best):
            return best
        others = [e for e in self.early if e.points and e is not best]
        near = track.curve(best).level - track.slack
        level, other = max(((track.curve(e).level, e) for e in others), key=lambda each: each[0], default=(0.0, best))
        if other is best or level < near:
            return best
        best.out(f"flat, and {other.name} is not clearly below")
        other.back()
        return other

    def _try_late(self, base: Entry) -> Entry:
        """What begins from the bottom is tried where nothing else gets the agent moving, and given the time that it
        takes to show; returns who goes on."""
        track, late = self.track, self.late
        moving = next((e for e in (base, self.trunk) if track.rises(e)), None)
        if moving is not None:
            for entry in late:
                entry.out(f"not tried: {moving.name} is on its way without it")
            track.show("nothing begins from the bottom")
            return base
        share = PATIENCE if len(late) > 1 else PATIENCE_ALONE
        steps = min(max(self.rungs.first, int(share * track.budget)), track.room // len(late))
        if steps < track.quantum:
            return base
        track.train(late, steps // track.quantum * track.quantum)
        best = track.drop(late, 1, "from the bottom")[0]
        curve, heading = track.curve(best), forecast(track.curve(base), track.total)
        if optimistic(curve, track.total) < heading:
            best.out(f"at best heading for {optimistic(curve, track.total):.4g}, {base.name} for {heading:.4g}")
            track.show("from the bottom")
            return base
        base.out(f"heading for {heading:.4g}, {best.name} has more to come")
        track.show("from the bottom")
        return best


def lay_out(track: Track, early: int, late: bool) -> Rungs:
    """The rungs of those that go on from where the agent is."""
    shortest = min(SHORTEST, track.budget // 16)
    if early == 1 and late:
        # Plain PPO alone goes on from the agent: one look at whether it is on its way.
        return Rungs(1, -(-shortest // track.quantum) * track.quantum, FEWEST)
    share = track.config.explore * (EARLY_SHARE if late else 1.0)
    return plan_rungs(track.budget, track.quantum, track.episode, early, share=share, shortest=shortest)


def contest(track: Track, entered: list[Entry], *, trunk_first: bool) -> Contest:
    """The contest of those that entered, as many as there is room for."""
    early = [e for e in entered if track.alone or not e.competitor.late]
    late = [e for e in entered if e not in early]
    rungs = lay_out(track, len(early), bool(late))
    track.episodes = rungs.episodes
    most_late = MOST_LATE if track.long else 1
    if rungs.first * len(entered) >= track.budget:
        most_late = 0
    for entry in [*early[rungs.entered :], *late[most_late:]]:
        entry.out("not entered: there is no room for it in this budget")
    return Contest(track, early[: rungs.entered], late[:most_late], rungs, trunk_first)
