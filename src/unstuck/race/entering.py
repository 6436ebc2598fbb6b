"""Who enters a race, and in which order: by the panel of the diagnosis, and by what the coach would try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.algorithms import algorithm_of
from unstuck.diagnosis import Panel, diagnose_run, read_panel
from unstuck.diagnosis.panel import Finding, Verdict
from unstuck.errors import RunError
from unstuck.guidance import Guidance
from unstuck.guide.plan import Plan
from unstuck.race.competitors import TRUNK, Competitor, competitor
from unstuck.treatments.another import DUEL, is_offered
from unstuck.workspace import Workspace

AFRESH_SHARE = 0.2
"""Training afresh takes part where the budget is at least this share of what the agent was trained for."""
CLIPPED = ("means-beyond-bounds", "noise-left-by-clipping")
"""Faults with which reward terms cannot act on what the agent does."""
NEW = "transplant+small-batches"
FAR = 0.5
"""Share of the way to a good agent below which a stuck agent is far from it."""


@dataclass(frozen=True)
class Outlook:
    """What a contest goes by; as it is where nothing is known of the agent."""

    trunk_first: bool = False
    """Nobody else is tried where the trunk gets on by itself."""
    bottom_first: bool = False
    """What begins from the bottom is tried before what goes on from the agent."""
    near: bool = False
    """The agent is known to be no worse than halfway to a good one."""
    missing: float = 0.0
    """Return that it lacks to a good one; 0 where that is not known."""
    unshown: str = ""
    """Why no gain of anybody could be told from chance, so that nobody but the trunk is tried; '' where one could."""
    whole_shown: bool = False
    """To come as far as a good agent would be shown all the same, so that what is quick is tried."""
    patient: bool = False
    """The trunk is given time to show what it comes to before anybody else is tried."""


UNKNOWN = Outlook()


@dataclass(frozen=True)
class Signs:
    """What the choice of competitors goes by."""

    verdict: Verdict
    """Of the panel."""
    asked: tuple[str, ...] = ()
    """Treatments by the panel, first what helps most."""
    wished: tuple[str, ...] = ()
    """Treatments by the coach, likewise."""
    clipped: bool = False
    """Noise is clipped away, so that neither rewards nor PPO can change what the agent does."""
    on_policy: bool = True
    guidances: int = 0
    """Opinions of a coach that have something to train with."""
    agent_steps: int = 0
    """For how many environment steps the agent was trained; 0 if that is not known."""
    budget: int = 0
    long: bool = False
    """The budget is worth many episodes."""
    distance: float | None = None
    """Share of the way from random play to a good agent; None where that is not known."""
    missing: float | None = None
    """Return that is missing to a good agent, likewise."""
    replays: bool = False
    """SAC can learn the task within the budget."""
    terms: bool = False
    """The coach's first opinion has reward terms."""

    @property
    def near(self) -> bool:
        """What it has learnt is known to be worth keeping."""
        return self.distance is not None and self.distance >= FAR

    @property
    def judged_by_noise(self) -> bool:
        """Whether it is to be asked if a race could see a gain at all: of an agent that PPO continues, that is halfway
        to a good one, and not there."""
        return self.on_policy and self.near and self.verdict != "already good"

    @property
    def time_for_anew(self) -> bool:
        """Training afresh may get as far as the agent, and further."""
        return self.budget <= 0 or self.budget >= AFRESH_SHARE * self.agent_steps

    @property
    def far(self) -> bool:
        """It is stuck so far from a good agent that what it has learnt is worth little, and there is time to learn
        anew."""
        known = self.distance is not None and not self.near
        return self.verdict == "stuck" and known and self.long and self.time_for_anew

    @property
    def bottom_first(self) -> bool:
        """What begins from the bottom is tried before what goes on from the agent; but a coach who can show an agent
        what to do, as to one that learns by replay, is heard first."""
        return self.far and (self.on_policy or not self.guidances)

    @property
    def well(self) -> bool:
        """It needs nothing but training, if that."""
        return self.verdict in ("already good", "on its way")

    @property
    def outlook(self) -> Outlook:
        """For a contest: who is stuck by all that is known is not left to plain PPO for a lucky start."""
        return Outlook(
            trunk_first=self.verdict != "stuck", bottom_first=self.bottom_first, near=self.near,
            missing=self.missing or 0.0, patient=self.near and self.long and self.on_policy,
        )  # fmt: skip


def entries(signs: Signs) -> list[Competitor]:
    """The competitors for an agent with these signs, in the order of what they promise; the trunk first.

    An agent that is good, or on its way, is not operated on: plain PPO and the coach's guidance are all that enter; but
    what is only on its way may be on a long one, which on a long budget is no reason not to begin again.
    """
    opinions = ["guidance", *(f"guidance@{i}" for i in range(2, signs.guidances + 1))][: signs.guidances]
    if signs.well:
        new = _quick(signs, []) if signs.verdict == "on its way" and signs.long else []
        return _leading([TRUNK, *opinions[:1], *new], signs)
    if not signs.on_policy:  # what treats an actor of PPO's kind is not for it
        # What has learnt most of the task would have to be learnt again, in a budget about as long as its training was.
        new = ["afresh"] if signs.time_for_anew and not signs.near else []
        return _leading([TRUNK, *opinions, *_quick(signs, opinions), *new], signs)
    early = sorted(_early(signs, opinions), key=lambda name: -_promise(name, signs))
    return _leading([TRUNK, *early, *_late(signs, opinions)], signs)


def _leading(names: Sequence[str], signs: Signs) -> list[Competitor]:
    """The competitors of these names, the trunk first, then who leads."""
    found = [competitor(name) for name in dict.fromkeys(names)]
    return sorted(found, key=lambda c: (c.name != TRUNK, not c.leads(signs.near)))


def _early(signs: Signs, opinions: Sequence[str]) -> list[str]:
    """What goes on from where the agent is; of equal promise, the first one comes first."""
    extra = [name for name in ("thaw", "short-episodes") if name in (*signs.asked, *signs.wished)]
    if signs.clipped:
        return [*(f"{NEW}+{o}" for o in opinions[:1]), NEW, *extra, *(f"{NEW}+{o}" for o in opinions[1:])]
    body = ["thaw"] if "thaw" in extra else []
    guided = ["+".join([*body, o]) for o in opinions]
    return [*guided[:1], *(f"{NEW}+{o}" for o in opinions[:1]), NEW, "small-batches", *extra, *guided[1:]]


def _promise(name: str, signs: Signs) -> float:
    """By the places of its treatments among those that the panel and the coach name."""
    votes = 0.0
    for part in name.split("+"):
        word = part.partition("@")[0]
        votes += sum(1 / (1 + said.index(word)) for said in (signs.asked, signs.wished) if word in said)
    return votes


def _quick(signs: Signs, opinions: Sequence[str]) -> list[str]:
    """What begins from the bottom and shows early what it is worth. SAC is tried under the coach's reward terms only
    if it leads nowhere without them (docs/race-measured.md); where the budget has room for it, two are tried side by
    side."""
    again = ["sac-again"] if signs.budget >= DUEL else []
    return ["sac", *again, *(f"sac+{o}" for o in opinions[:1] if signs.terms)] if signs.replays else []


def _late(signs: Signs, opinions: Sequence[str] = ()) -> list[str]:
    """What begins from the bottom, in the order in which it is tried.

    Under the coach's guidance training afresh learns about twice as fast, so it comes first where the budget is long.
    Without a coach episodes are cut, if the panel asks for that, which is a part of his guidance too. Else what the
    coach names first; else training afresh comes first where the budget is twice what the agent was trained for,
    because with half of it that is learnt again, and the rest goes beyond; or where the agent is far from a good one.
    """
    kept, quick = "transplant+shrink-and-perturb", _quick(signs, opinions)
    if not signs.time_for_anew:
        return [*quick, kept]
    cut = ["short-episodes"] if "short-episodes" in signs.asked else []
    new = "+".join(["afresh", *(opinions[:1] or cut)])
    if opinions and signs.long:
        return [*quick, new, kept]
    first = signs.far or 0 < 2 * signs.agent_steps <= signs.budget
    late = [new, kept] if first else [kept, new]
    # To be guided is no wish to begin from the bottom; and on a short budget there is no time to begin with nothing.
    wished = [w for w in signs.wished if w != "guidance" and (signs.long or w != "afresh")]
    late.sort(key=lambda n: min((i for i, w in enumerate(wished) if w in n.split("+")), default=len(wished)))
    return [*quick, *late]


def signs_of(space: Workspace, guidances: Sequence[tuple[Guidance, Plan]], budget: int, *, long: bool = False) -> Signs:
    """By the run's panel, which `collect` left there, and the coach's opinions with the plans by which they enter
    training."""
    panel: Panel = read_panel(space.run.root) or diagnose_run(space)
    distance = share_of_the_way(panel)
    wished = [t.name for guidance, _ in guidances for t in guidance.treatments]
    return Signs(
        verdict=panel.verdict, asked=panel.treatments, wished=tuple(dict.fromkeys(wished)),
        clipped=any(map(panel.has_fault, CLIPPED)),
        on_policy=algorithm_of(space.agent).on_policy, guidances=len(guidances),
        agent_steps=int(space.agent.hyperparameters.get("num_timesteps") or 0), budget=budget, long=long,
        distance=distance, missing=missing_to_good(panel),
        replays=is_offered(budget, *space.spaces, better=bool(guidances) or (distance or 0.0) >= FAR),
        terms=any(plan.reward_terms(guidance) for guidance, plan in guidances[:1]),
    )  # fmt: skip


def share_of_the_way(panel: Panel) -> float | None:
    """How far the agent is on the way from random play to a good agent; None where that is not known."""
    found = _on_the_way(panel)
    return None if found is None else found.value


def missing_to_good(panel: Panel) -> float | None:
    """Return that is missing to a good agent; None where that is not known."""
    found = _on_the_way(panel)
    if found is None or found.value is None or found.whole is None:
        return None
    return (1.0 - found.value) * found.whole


def _on_the_way(panel: Panel) -> Finding | None:
    return next((f for f in panel.findings if f.name == "distance" and f.unit.startswith("of the way")), None)


def usable(guidance: Guidance, plan: Plan) -> bool:
    """Whether anything of the guidance would enter training by this plan."""
    return bool(plan.reward_terms(guidance)) or (plan.imitate > 0 and bool(plan.advice(guidance)))


def named(names: Sequence[str], guidances: int) -> list[Competitor]:
    """The competitors that a user names; the trunk is added in front unless one alone is named.

    Raises:
        RunError: one asks for an opinion that there is none of.
    """
    found = [competitor(name) for name in names]
    for entry in found:
        if entry.guided and entry.opinion >= guidances:
            raise RunError(
                f"--race.treatments: {entry.name} needs guidance number {entry.opinion + 1}, and there are {guidances} "
                "that can be trained with (--llm, --llm.samples)"
            )
    if len(found) == 1:
        return found
    trunk = [c for c in found if c.name == TRUNK] or [competitor(TRUNK)]
    return [*trunk, *(c for c in found if c.name != TRUNK)]
