"""Who trains with what is left: halving among those that go on from the agent, and what begins from the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from scipy.stats import norm

from unstuck.race.entering import UNKNOWN, Outlook
from unstuck.race.entry import Entry
from unstuck.race.feedback import ROOM, Feedback
from unstuck.race.layout import FEW, SHORTEST, lay_out, shortest_look
from unstuck.race.schedule import Rungs, climbs, leapt
from unstuck.race.track import Track
from unstuck.race.trials import LITTLE, PATIENCE, Trials

MOST_LATE = 2
"""Competitors that begin from the bottom, where the budget is worth many episodes."""
PATIENT = 3
"""Times the shortest rung that `PATIENCE` must be for plain PPO to be given that first: then it shows what a rung does
not, and of shorter budgets it only takes the others' steps."""
NO_ROOM = "not entered: there is no room for it in this budget"
ROOMY = 400
"""Episodes for which a budget must be worth, so that what begins from the bottom has time enough whatever was tried
before it."""


class Contested(NamedTuple):
    """What a contest came to."""

    winner: Entry
    """Who trains with what is left."""
    rivals: list[Entry]
    """Who could go on in its place: the best of those that go on from the agent, and the trunk; of the trunk itself the
    best of the others."""
    untried: list[Entry]
    """What begins from the bottom, as far as it was not tried."""


@dataclass(frozen=True)
class Contest:
    """The rungs of one race.

    Args:
        early: who goes on from where the agent is, the trunk in front.
        late: who begins from the bottom.
        outlook: what is known of the agent.
        waiting: who would go on from where the agent is, and did not enter for want of room.
    """

    track: Track
    early: list[Entry]
    late: list[Entry]
    rungs: Rungs
    outlook: Outlook = UNKNOWN
    feedback: Feedback | None = None
    """Asks the coach again after the first rung."""
    waiting: list[Entry] = field(default_factory=list)
    look: int = 0
    """Environment steps of a first look at the trunk, where a few may be enough; 0: none."""

    @property
    def trunk(self) -> Entry:
        return self.early[0]

    @property
    def trials(self) -> Trials:
        """Of what begins from the bottom."""
        return Trials(self.track, self.trunk, self.outlook, self.rungs.first)

    def run(self) -> Contested:
        """Who trains with what is left, and who could go on in its place."""
        alone = self._without_others()
        winner, base = (alone, self.trunk) if alone is not None else self.decide()
        raced = [e for e in self.early if e is not winner and e.points]
        if winner is self.trunk:
            rivals = sorted(raced, key=self.track.heading, reverse=True)[:1]
        else:
            rivals = [e for e in raced if e is base or e is self.trunk]
        untried = [e for e in self.late if not e.points and e is not winner] if alone is None else []
        return Contested(winner, rivals, untried)

    def decide(self) -> tuple[Entry, Entry]:
        """Who trains with what is left, and the best of those that go on from the agent."""
        track, trunk = self.track, self.trunk
        others = [*self.early[1:], *self.late]
        looks = [self.look, self.rungs.first if self.outlook.trunk_first else 0] if others else []
        for steps in filter(None, looks):
            track.train([trunk], steps)
            curve = track.curve(trunk)
            if climbs(curve, *track.before, track.total) or leapt(curve, *track.before):
                quick = [e for e in self.leading if e.competitor.quick and self.trials.less(trunk)]
                for entry in (e for e in others if e not in quick):
                    entry.out(f"not tried: {trunk.name} gets on without it")
                track.show(f"{trunk.name} gets on by itself")
                return self._beside(quick), trunk
        if self.leading:
            track.ready(self.leading)
            # One look at the trunk, because it is in every race, and in the last test.
            track.train([trunk], shortest_look(track, self.rungs))
            if (winner := self.trials.try_late(trunk, self.leading)) is not trunk:
                for entry in [*self.early[1:], *(e for e in self.late if not e.points)]:
                    entry.out(f"not tried: {winner.name} has more to come than {trunk.name}")
                return winner, trunk
        late = [e for e in self.late if e not in self.leading]
        self._readied(late)
        base = self._halve()
        if not late:
            return base, base
        if self.outlook.near:
            base = self._without(base)
        self._wait_for(base)
        return self.trials.try_late(base, late), base

    def _without_others(self) -> Entry | None:
        """Who goes on where there is no contest: None where there is one."""
        if self.outlook.unshown:
            return self._little_to_show()
        others = [*self.early[1:], *self.late, *self.waiting]
        brief = PATIENCE * self.track.budget < PATIENT * SHORTEST
        if not others or brief or not self.outlook.patient or not self._comes_far():
            return None
        for entry in others:
            entry.out(f"not tried: {self.trunk.name} comes far enough without it")
        self.track.show(f"{self.trunk.name} gets on by itself")
        return self.trunk

    def _little_to_show(self) -> Entry:
        """Who goes on where no gain of most could be told from chance: the trunk; but where that gains nothing in the
        time that others have to show what they are worth, and to come as far as a good agent would be shown, what is
        quick is tried."""
        track, trunk = self.track, self.trunk
        quick = [e for e in self.late if e.competitor.quick] if self.outlook.whole_shown else []
        for entry in [*self.early[1:], *(e for e in self.late if e not in quick), *self.waiting]:
            entry.out(f"not tried: {self.outlook.unshown}")
        track.show(f"{trunk.name} alone")
        if not quick:
            return trunk
        track.train([trunk], self.trials.patience())
        curve, (before, error) = track.curve(trunk), track.before
        if curve.level > before + error or self._rose():
            for entry in quick:
                entry.out(f"not tried: {trunk.name} gains without it")
            return trunk
        return self._beside(quick)

    def _comes_far(self) -> bool:
        """Whether the trunk, given the time that others have to show what they are worth, surely returns more than the
        agent before, and by a fair part of what that lacks: by its many episodes in training, because single points of
        its training may be bad ones, or by its evaluation."""
        track, trunk = self.track, self.trunk
        track.train([trunk], self.trials.patience())
        curve, (before, error) = track.curve(trunk), track.before
        sure = [curve.level] if curve.level - curve.noise > before + error else []
        if self._rose():
            sure.append(track.of_late(trunk, trunk.trained))
        return max(sure, default=-inf) > before + LITTLE * self.outlook.missing

    def _rose(self) -> bool:
        """Whether the trunk's episodes in training surely return more than those of the agent before."""
        return self.track.rise(self.trunk, self.trunk.trained) > norm.isf(self.track.config.level)

    def _beside(self, quick: Sequence[Entry]) -> Entry:
        """Who goes on, the trunk or what is quick, where nobody else is tried."""
        if not quick:
            return self.trunk
        self.track.ready(quick)
        return self.trials.try_late(self.trunk, quick)

    def _readied(self, late: Sequence[Entry]) -> None:
        """All others; who waited takes the place of who withdrew."""
        for entry in self.waiting:
            entry.back()
        self.track.ready([*self.early, *late, *self.waiting])
        places = len(self.early)
        fit = [e for e in (*self.early, *self.waiting) if e.rank.status != "dropped"]
        self.early[:], self.waiting[:] = fit[:places], fit[places:]
        for entry in self.waiting:
            entry.out(NO_ROOM)

    @property
    def leading(self) -> list[Entry]:
        """What begins from the bottom, and is tried before those that go on from the agent: all of it where the agent
        is far from a good one."""
        if self.outlook.bottom_first:
            return self.late
        return [e for e in self.late if e.competitor.leads(self.outlook.near)]

    def _halve(self) -> Entry:
        """Successive halving among those that go on from where the agent is; returns the best."""
        track, racing = self.track, self.early
        if len(racing) == 1 and self.rungs.first < track.budget // 2:
            track.train(racing, self.rungs.first)
        for number, survivors in enumerate(self.rungs.survivors):
            track.train(racing, self.rungs.stop(number))
            if number == 0:
                racing = self._answered(racing)
            racing = track.drop(racing, survivors, f"rung {number + 1}")
            if survivors == 1:
                racing = [self.treated(racing[0])]
            track.show(f"rung {number + 1} of {len(self.rungs.survivors)}")
        return racing[0]

    def _answered(self, racing: list[Entry]) -> list[Entry]:
        """With who is trained under what the coach says to the first rung, as far as the others are."""
        newcomer = self.feedback.newcomer(racing) if self.feedback is not None else None
        if newcomer is None:
            return racing
        self.track.entries.append(newcomer)
        self.early.append(newcomer)
        self.track.train([newcomer], self.rungs.stop(0))
        return [*racing, newcomer]

    def treated(self, best: Entry) -> Entry:
        """Who goes on where plain PPO came out best, but does not surely get on: nothing is lost by a treatment that
        was beaten by little, because most of them lose something at first, and plain PPO may still be asked for
        again."""
        track = self.track
        if best is not self.trunk or self.trials.moves(best):
            return best
        others = [e for e in self.early if e.points and e is not best]
        near = track.curve(best).level - 2 * track.slack
        level, other = max(((track.curve(e).level, e) for e in others), key=lambda each: each[0], default=(0.0, best))
        if other is best or level < near:
            return best
        best.out(f"flat, and {other.name} is not clearly below")
        other.back()
        return other

    def _wait_for(self, base: Entry) -> None:
        """Where the budget is just long enough for what begins from the bottom, the best of those that go on from the
        agent is given as many steps as that before it is judged: some are flat for 50,000 steps, and rise then."""
        track = self.track
        if not track.long or track.budget >= ROOMY * track.episode or self.trials.moves(base):
            return
        if (steps := self.trials.patience()) > base.trained:
            track.train([base], steps)
            track.show(f"{base.name} is given time")

    def _without(self, base: Entry) -> Entry:
        """The best of those that go on from an agent that is halfway to a good one, with the first that there was no
        room for and that does without guidance, where what is guided fell below the agent: a guidance that does not
        suit says nothing of the treatments with it, and what begins from the bottom has far to go."""
        track = self.track
        spare = next((e for e in self.waiting if not e.competitor.guided), None)
        fell = any(e.competitor.guided and track.curve(e).level < track.before[0] for e in self.early if e.points)
        if spare is None or not fell or any(map(self.trials.moves, (base, self.trunk))):
            return base
        spare.back()
        self.early.append(spare)
        track.train([spare], self.rungs.first)
        best = track.drop([base, spare], 1, "under a guidance that does not suit")[0]
        track.show(f"{spare.name} is tried after all")
        return best


def contest(
    track: Track,
    entered: list[Entry],
    outlook: Outlook = UNKNOWN,
    *,
    glimpse: bool = False,
    feedback: Feedback | None = None,
) -> Contest:
    """The contest of those that entered, as many as there is room for; with one place kept for what the coach says when
    it is asked again.

    Args:
        glimpse: whether the trunk is looked at after a few steps already. An agent that learns by replay begins with an
            empty buffer, and its first few updates may lift it far above what it is later.
    """
    early = [e for e in entered if track.alone or not e.competitor.late]
    late = [e for e in entered if e not in early]
    few = None if outlook.near else FEW if feedback is None else ROOM
    rungs = lay_out(track, len(early) + (feedback is not None), bool(late), few)
    if feedback is not None and rungs.entered < ROOM:
        track.say("the coach is not asked again: there is no room for it in this budget")
        feedback, rungs = None, lay_out(track, len(early), bool(late), None if outlook.near else FEW)
    track.episodes = rungs.episodes
    # On a short budget there is no time for what begins from the bottom beside what is guided.
    places = rungs.entered - (feedback is not None)
    short = 0 if any(e.competitor.guided for e in early[:places]) else 1
    most_late = MOST_LATE if track.long else short
    slow = [e for e in late if not e.competitor.quick][:most_late]
    tried = [e for e in late if e.competitor.quick or e in slow]
    if rungs.first > track.budget // 2:  # there is no room for any rung
        tried = []
    for entry in [*early[places:], *(e for e in late if e not in tried)]:
        entry.out(NO_ROOM)
    look = shortest_look(track, rungs) if glimpse else 0
    return Contest(track, early[:places], tried, rungs, outlook, feedback, waiting=early[places:], look=look)
