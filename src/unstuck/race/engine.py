"""One race: competitors of one stuck agent within one budget, plain PPO always among them, and a last test.

    a look at the trunk, then SAC where it suits ─▶ states ─▶ rung 1: all ─▶ rung 2: half ─▶ …
           ─▶ what begins from the bottom, if all else is flat
           ─▶ the best trains on, and gives way where it is not ahead ─▶ test against the agent before and the trunk

Where no test in the budget could show a gain over an agent that is near a good one, the trunk is trained alone.
Every environment step is charged: the states, all training, every evaluation episode and the test. States are gathered
when somebody races who needs them. What follows from what is decided by numbers in the folders of finished legs alone,
so that a race that goes on after a kill decides as it would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from unstuck.algorithms import algorithm_of
from unstuck.errors import RunError
from unstuck.guidance import Guidance
from unstuck.guide.plan import Plan
from unstuck.race import screen as screening
from unstuck.race.competitors import TRUNK
from unstuck.race.contest import contest
from unstuck.race.entering import UNKNOWN, Outlook, Signs, entries, named, signs_of, usable
from unstuck.race.entry import Entry
from unstuck.race.feedback import Feedback
from unstuck.race.finals import Finals, Outcome
from unstuck.race.finish import finish
from unstuck.race.legs import fit, gather, patient
from unstuck.race.reserve import unshown
from unstuck.race.track import Track
from unstuck.results import Rank
from unstuck.stages.explain import chosen_explainer
from unstuck.treatments import check_sac
from unstuck.treatments.another import NAMES
from unstuck.views import View, views_of

STATES_SHARE, MOST_STATES = 0.04, 12_000
"""Of the budget, for states with noise; and the most environment steps for them."""


class Race:
    """One race of one seed.

    Args:
        track: where it is run.
        guidances: the coach's opinions, with the plan by which they enter training.
    """

    def __init__(self, track: Track, guidances: Sequence[tuple[Guidance, Plan]]):
        self.track = track
        self.guidances = [(g, p) for g, p in guidances if usable(g, p)]
        self.outlook = UNKNOWN
        track.ready = self.operate
        track.entries = self._entries()

    def go(self) -> Outcome:
        """From the first look to the last test."""
        track = self.track
        track.show("who may race, by what the diagnosis says and the coach would try")
        contested = contest(
            track, list(track.entries), self.outlook,
            glimpse=not algorithm_of(track.space.agent).on_policy, feedback=self._feedback(),
        ).run()  # fmt: skip
        winner, finalist = finish(track, *contested)
        if not winner.trained:
            raise RunError(
                f"the budget of {track.budget:,} environment steps leaves a race no room to train anybody, beside its "
                "evaluations and its last test: raise --train.steps, or train once (--race.none)"
            )
        winner.rank = winner.rank.model_copy(update={"status": "winner"})
        track.show("the winner is trained, the test comes last")
        return Finals(track, winner, finalist).run()

    def _feedback(self) -> Feedback | None:
        """Where it is asked for, and there is a coach."""
        track = self.track
        if not track.config.feedback or not self.guidances or track.alone:
            return None
        return Feedback(track, self.guidances) if chosen_explainer(track.run) in ("llm", "several") else None

    def _entries(self) -> list[Entry]:
        track, opinions = self.track, len(self.guidances)
        if track.config.treatments:
            competitors = named(track.config.treatments, opinions)
            if track.config.names(*NAMES):
                check_sac(track.run.agent_path, *track.space.spaces)
        else:
            signs = signs_of(track.space, self.guidances, track.budget, long=track.long)
            competitors = entries(signs)
            self.outlook = self._outlook(signs)
        found = []
        for one in competitors:
            guidance, plan = self.guidances[one.opinion] if one.guided else (None, Plan())
            known = one.reason.replace("PPO", track.trainer) if one.name == TRUNK else one.reason
            reason = "; ".join(part for part in (known, self._screened(guidance, plan)) if part)
            found.append(Entry(one, one.plan(plan), guidance, rank=Rank(name=one.name, reason=reason)))
        return found

    def _outlook(self, signs: Signs) -> Outlook:
        """What is known of the agent, and whether a race could show a gain over it."""
        track = self.track
        if not signs.judged_by_noise or signs.missing is None:
            return signs.outlook
        length = float(np.mean([len(e) for e in track.space.episodes]))
        returns = [list(track.given(mode).values()) for mode in track.modes]
        why, whole = unshown(returns, length, signs.missing, track.reserve)
        return replace(signs.outlook, unshown=why, whole_shown=whole)

    def _screened(self, guidance: Guidance | None, plan: Plan) -> str:
        """What the collected episodes say of a guidance's reward terms, without a step."""
        if guidance is None or not self.track.collected:
            return ""
        names = self.track.space.describer.card.variable_names
        return screening.words(plan.reward_terms(guidance), self._views, names)

    @cached_property
    def _views(self) -> list[View]:
        return views_of(self.track.space.episodes, self.track.space.describer)

    def _needs_states(self, entry: Entry) -> bool:
        """Whether it needs more states than the collected episodes have. What is quick takes from those the scale of
        its observations, and more only where it remembers what happened."""
        one, space = entry.competitor, self.track.space
        enough = one.quick and space.collected and not (one.remembers and space.fails)
        return one.needs_states(algorithm_of(space.agent).on_policy) and not enough

    def operate(self, racing: Sequence[Entry]) -> None:
        """Gather states and fit the transplant, where anybody of these needs them; who would change nothing, or goes on
        from a transplant that does not do what the agent does, is out before it costs a step of training."""
        track = self.track
        if not any(self._needs_states(e) for e in racing):
            return
        steps = min(MOST_STATES, int(STATES_SHARE * track.budget))
        root, home, mark = str(track.run.root), str(track.home), track.mark("states", steps)
        track.spent["states"] = gather(root, home, track.seed, steps, mark)["taken"]
        thaw = next((e for e in racing if e.name == "thaw"), None)
        if thaw is not None and not track.alone:
            given = patient(track.space, track.home, track.seed)
            if thaw.competitor.prepare(given) is given.agent:  # it would be plain PPO once more
                thaw.out("withdrew: the agent's noise is not low, so there is none to bring back")
        if not any(t.name == "transplant" for e in racing for t in e.competitor.treatments):
            return
        track.say("what the agent does is fitted into a new network, for a transplant")
        found = fit(root, home, track.seed, track.mark("transplant", steps))
        for entry in racing:
            if entry.competitor.imitates and not found["faithful"] and not track.alone:
                same = f"{found['agreement']:.0%} of its actions in held-out states are the agent's"
                entry.out(f"withdrew: the new network is not the agent ({same})")
