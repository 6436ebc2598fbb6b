"""Who may race: treatments by name, composed with `+`, each with its reason.

    continue                      plain PPO, the trunk: in every race
    transplant+guidance           first transplanted, then trained under the coach's guidance
    transplant+shrink-and-perturb
    transplant+small-batches      first transplanted, then trained in minibatches of 64
    guidance@2                    the second of several opinions

What changes the agent happens in the order of the names, before training; the others decide how it is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gymnasium import spaces

from unstuck.agents import Agent
from unstuck.algorithms import policy_of
from unstuck.config import TrainConfig
from unstuck.errors import RunError
from unstuck.guide.plan import Plan
from unstuck.methods import SHORT, SMALL_BATCH
from unstuck.treatments import States, afresh, sac, shrink_and_perturb, thaw, transplant
from unstuck.treatments.another import EARLY, again

TRUNK = "continue"
THAW = 0.3
ANOTHER = 1_000_000
"""Added to the seed of what begins once more with other random numbers."""
AVERAGE = 0.05
"""Share of its training over which the weights of an agent of SAC are averaged."""


@dataclass(frozen=True)
class Patient:
    """What a treatment has to work with."""

    agent: Agent
    states: States | None
    observation_space: spaces.Space
    action_space: spaces.Space
    seed: int
    steps: int = 0
    """Environment steps of the training that begins."""
    fails: bool = False
    """Whether failing ends its episodes."""
    transplanted: Agent | None = None
    """The agent in a new network, if that has been fitted already."""

    def changed(self, agent: Agent) -> Patient:
        return replace(self, agent=agent, transplanted=None)

    @property
    def need(self) -> States:
        if self.states is None:
            raise RunError("this treatment needs states that the agent visits")
        return self.states


@dataclass(frozen=True)
class Treatment:
    """One thing that may be done."""

    name: str
    reason: str
    """Why it may help: one sentence."""
    prepare: Callable[[Patient], Agent] | None = None
    """What it makes of the agent, before training."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the plan that it sets."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Settings of training that it changes."""
    replay: Mapping[str, Any] = field(default_factory=dict)
    """Of these, settings of agents with a replay buffer."""
    resume: Callable[[Patient], Agent] | None = None
    """What it makes of that in the segments of training after the first, where a file does not say all."""
    needs_states: bool = False
    remembers: bool = False
    """Begins with those states, and what was done there, in its replay buffer, where failing ends episodes."""
    needs_guidance: bool = False
    late: bool = False
    """Begins far below the agent and overtakes late, so that its first steps say little."""
    quick: bool = False
    """Of these, one whose first steps do say what it is worth."""


def _thawed(patient: Patient) -> Agent:
    probabilities = None
    if isinstance(patient.action_space, spaces.Discrete):
        policy = policy_of(patient.agent, *_spaces(patient))
        probabilities = policy.signals(patient.need.at(slice(0, 4096)))["action_prob"]
    return thaw(patient.agent, patient.action_space, THAW, probabilities)


def _transplanted(patient: Patient) -> Agent:
    if patient.transplanted is not None:
        return patient.transplanted
    return transplant(patient.agent, patient.need, *_spaces(patient), seed=patient.seed)[0]


def _spaces(patient: Patient) -> tuple[spaces.Space, spaces.Space]:
    return patient.observation_space, patient.action_space


_REPLAYED: Mapping[str, Any] = {
    "plan": {"short_episodes": 0},  # what it replays of cut ones says nothing of how they go on
    "replay": {"anew": True, "average": AVERAGE, "early": EARLY},
    "resume": lambda p: again(p.agent, p.steps, fails=p.fails),
    "needs_states": True, "remembers": True, "late": True, "quick": True,
}  # fmt: skip
_KNOWN = (
    Treatment(TRUNK, "plain PPO goes on: an agent that is on its way needs nothing else"),
    Treatment(
        "transplant",
        "saturated layers, or means that are clipped to the bounds, cannot learn: what the agent does is put into a "
        "new network, which can",
        prepare=_transplanted,
        train={"critic_warmup": 0},
        needs_states=True,
    ),
    Treatment(
        "shrink-and-perturb",
        "each weight averaged with a fresh one leaves the rut without forgetting all that was learnt",
        prepare=lambda p: shrink_and_perturb(p.agent, *_spaces(p), seed=p.seed),
        train={"critic_warmup": 0, "batch_size": SMALL_BATCH},
        late=True,
    ),
    Treatment(
        "afresh",
        "a new network learns better than an old one, and with enough steps it overtakes",
        prepare=lambda p: afresh(p.agent, p.states, *_spaces(p), seed=p.seed),
        train={"critic_warmup": 0, "batch_size": SMALL_BATCH},
        replay={"anew": True},
        needs_states=True,
        late=True,
    ),
    Treatment(
        "sac",
        "a new agent, which learns from all that it has seen, again and again, needs few steps where it learns a task",
        prepare=lambda p: sac(p.agent, p.states, *_spaces(p), seed=p.seed, steps=p.steps, fails=p.fails),
        **_REPLAYED,
    ),
    Treatment(
        "sac-again",
        "of two that begin with nothing one may end in a rut: once more, with other random numbers",
        prepare=lambda p: sac(p.agent, p.states, *_spaces(p), seed=p.seed + ANOTHER, steps=p.steps, fails=p.fails),
        **_REPLAYED,
    ),
    Treatment(
        "thaw",
        "without noise nothing new is ever tried: it is raised, and the most likely actions stay the same",
        prepare=_thawed,
        needs_states=True,
    ),
    Treatment(
        "short-episodes",
        "the long rest of a failed episode, which only the time limit ends, teaches little",
        plan={"short_episodes": SHORT},
    ),
    Treatment(
        "small-batches",
        "four times as many updates with the same steps: new networks need them, though they tear saturated ones down",
        train={"batch_size": SMALL_BATCH},
    ),
    Treatment("guidance", "what the coach says of this agent enters training", needs_guidance=True),
)
TREATMENTS: Mapping[str, Treatment] = {t.name: t for t in _KNOWN}


@dataclass(frozen=True)
class Competitor:
    """One entry of a race: some treatments together."""

    name: str
    treatments: tuple[Treatment, ...]
    opinion: int = 0
    """Which of the coach's guidances it is trained under."""

    @property
    def reason(self) -> str:
        return "; ".join(t.reason for t in self.treatments)

    def needs_states(self, on_policy: bool) -> bool:
        """Whether it is made by states that the agent visits. What learns by replay (not `on_policy`) begins afresh
        with its observations as they are."""
        return any(t.needs_states for t in self.treatments) and (on_policy or self.quick)

    @property
    def remembers(self) -> bool:
        """Whether it begins with what the agent has seen in its replay buffer, where failing ends episodes."""
        return any(t.remembers for t in self.treatments)

    @property
    def guided(self) -> bool:
        return any(t.needs_guidance for t in self.treatments)

    @property
    def noisy(self) -> bool:
        """Whether it explores with other noise than the agent."""
        return any(t.prepare is not None for t in self.treatments)

    @property
    def imitates(self) -> bool:
        """Whether it goes on from a transplant, so that it is nothing where that does not do what the agent does."""
        return not self.late and any(t.name == "transplant" for t in self.treatments)

    @property
    def late(self) -> bool:
        """Whether it begins far below the agent."""
        return any(t.late for t in self.treatments)

    @property
    def quick(self) -> bool:
        """Whether, for all that, its first steps say what it is worth."""
        return any(t.quick for t in self.treatments)

    def leads(self, near: bool) -> bool:
        """Whether it is tried before what goes on from the agent: what is quick, unless the agent is known to be
        halfway to a good one (`near`)."""
        return self.quick and not near

    def prepare(self, patient: Patient) -> Agent:
        """The agent as training begins with it."""
        for treatment in self.treatments:
            if treatment.prepare is not None:
                patient = patient.changed(treatment.prepare(patient))
        return patient.agent

    def resume(self, patient: Patient) -> Agent:
        """The agent as a later segment of its training begins with it."""
        for treatment in self.treatments:
            if treatment.resume is not None:
                patient = patient.changed(treatment.resume(patient))
        return patient.agent

    def plan(self, guided: Plan) -> Plan:
        """How it is trained.

        Args:
            guided: the plan under guidance, for entries that have it.
        """
        base = guided if self.guided else Plan()
        changes: dict[str, Any] = {}
        for treatment in self.treatments:
            changes |= treatment.plan
        return base.having(**changes) if changes else base

    def train(self, config: TrainConfig) -> TrainConfig:
        """The settings of training."""
        changes: dict[str, Any] = {"late_checkpoints": 1}  # a race has points of its own
        for treatment in self.treatments:
            changes |= treatment.train
            if treatment.replay:
                changes["replay"] = config.replay.model_copy(update=treatment.replay)
        return config.model_copy(update=changes)


def competitor(name: str) -> Competitor:
    """The entry of this name, one that the settings allow."""
    found, opinion = [], 0
    for part in name.split("+"):
        word, _, number = part.partition("@")
        found.append(TREATMENTS[word])
        opinion = int(number) - 1 if number else opinion
    return Competitor(name, tuple(found), opinion)
