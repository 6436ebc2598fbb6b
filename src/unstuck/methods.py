"""The named methods: what each explains with, and how the explanation enters training. One word in a configuration.

Every method is one cell of the grid explainers × modulations, or close to a cell of a paper:

- ULTRA-A, -R, -RA: suggestions executed, implicit rewards, or both, at the states that a language model names.
- StateMask-R, RICE: restarts at the states that a mask network finds critical; RICE mixes them with the task's own
  starts and adds a novelty bonus (Cheng et al. 2024, algorithm 2).
- JSRL: the stuck agent begins the episodes (Uchendu et al. 2023). As in RICE's comparison, the policy that takes over
  starts from the stuck agent's weights too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unstuck.algorithms import algorithm_of
from unstuck.config import GuideConfig, Method
from unstuck.guidance import Guidance
from unstuck.guide.base import parts
from unstuck.guide.plan import Plan

if TYPE_CHECKING:
    from unstuck.agents import Agent
    from unstuck.tasks.card import TaskCard


@dataclass(frozen=True)
class Setting:
    """What a plan depends on beside the guidance."""

    discrete: bool = True
    """Whether actions are."""
    replays: bool = False
    """Whether the agent learns from a replay buffer."""


MakePlan = Callable[[Guidance | None, Setting], Plan]


@dataclass(frozen=True)
class MethodSpec:
    """One named method."""

    name: Method
    label: str
    """As it is written in tables."""
    explainer: str
    """What explains where nothing else is asked for; "auto" is a language model, if there is one. "none": nothing is
    to be explained."""
    plan: MakePlan
    description: str
    race: tuple[str, ...] | None = None
    """Treatments that race for it, () for those that suit the agent; None: one training, no race."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Settings of training that it changes."""

    @property
    def explained(self) -> bool:
        return self.explainer != "none"


IMITATE = 0.1
"""Coefficient of imitation, continuous actions."""
EXECUTED, EXECUTED_UNTIL, IMITATE_REPLAYED = 0.5, 1.0, 0.4
"""Agents with a replay buffer: share of the environments in which suggestions are executed at first, and the share of
training over which it falls to zero; coefficient of imitation, continuous actions (1 / 2.5, as TD3+BC has it; discrete
ones 1, as DQfD)."""
CONSERVE = 1.0
"""DQN and QR-DQN without anything to go by: coefficient of the loss that keeps what the agent does."""
SHORT = 100
"""Steps of a short episode."""
SMALL_BATCH = 64
"""Samples of a small minibatch; the default of training is 256."""
_PAPER = Plan(applies="table", anneal="none", kinds=("state",))

RICE_SETTINGS = {"Hopper": (0.25, 0.001), "Walker2d": (0.25, 0.01), "Reacher": (0.5, 0.001), "HalfCheetah": (0.5, 0.01)}
"""Robot → (probability of a restart, coefficient of the novelty bonus), as in RICE's table of hyper-parameters."""
RICE_ELSEWHERE = (0.25, 0.01)


def _always(plan: Plan) -> MakePlan:
    return lambda guidance, setting: plan


def _rice(guidance: Guidance | None, setting: Setting) -> Plan:
    task = guidance.env_id if guidance else ""
    p, coefficient = next((v for robot, v in RICE_SETTINGS.items() if robot in task), RICE_ELSEWHERE)
    return Plan(restart=p, restart_at="fresh", rnd=coefficient)


def _unstuck(guidance: Guidance | None, setting: Setting) -> Plan:
    """Our own mode: rules imitated for discrete actions, annealed reward terms and short episodes for continuous ones;
    dead exploration is thawed for both.

    Continuous advice is imitated too, but only where verification found that it helps: unverified torques are no better
    than random ones. Beside terms it is tried all together, else (the search explainer has no terms) piece by piece.
    """
    if setting.replays:
        return _replaying(guidance, setting)
    if setting.discrete:
        return Plan(verified=True, imitate=0.3, thaw=0.3)
    plan = Plan(verified=True, thaw=0.1)
    if guidance is not None and guidance.active_terms:
        return plan.having(terms=True, imitate=IMITATE, only_helpful=True, short_episodes=SHORT)
    return plan.having(imitate=IMITATE, only_helpful=True)


def _replaying(guidance: Guidance | None, setting: Setting) -> Plan:
    """Where a replay buffer is learnt from, whatever is done is experience: what verification lets pass is executed in
    half of the environments at first, in ever fewer of them, and in none at the end. Suggestions are imitated too.
    Reward terms are added to what is sampled, at the rate of now; episodes are cut short where the coach asks for it,
    because what is to be shown may take longer. Advice that was not tried counts only where all of it together was
    found helpful, because it is executed and imitated at full weight. Where nothing is left, a value-based agent keeps
    to what it does.
    """
    plan = Plan(verified=True, rescale=True, execute=True, execute_share=EXECUTED, execute_fade=EXECUTED_UNTIL)
    if setting.discrete:
        proven = guidance is not None and guidance.set_verdict.status == "helpful"
        plan = plan.having(imitate=1.0, only_helpful=not proven)
        nothing = guidance is not None and not plan.advice(guidance)
        return plan.having(conserve=CONSERVE) if nothing else plan
    plan = plan.having(imitate=IMITATE_REPLAYED, only_helpful=True)
    if guidance is None or not guidance.active_terms:
        return plan
    cut = any(t.name == "short-episodes" for t in guidance.treatments)
    return plan.having(terms=True, short_episodes=SHORT if cut else 0)


def _racing(guidance: Guidance | None, setting: Setting) -> Plan:
    """How guidance enters the training of a competitor: nothing that the race itself does, such as thawing, and no
    torques beside reward terms, because trying them costs environment steps, and the race tries whole guidances."""
    if setting.replays:
        return _replaying(guidance, setting)
    if setting.discrete:
        return Plan(verified=True, imitate=0.3)
    if guidance is None or guidance.active_terms:
        return Plan(verified=True, terms=True, short_episodes=SHORT)
    return Plan(verified=True, imitate=IMITATE, only_helpful=True)


_LIST = (
    MethodSpec("ppo", "PPO continued", "none", _always(Plan()), "plain PPO goes on from the stuck agent"),
    MethodSpec(
        "ppo-small-batches", "PPO continued, batches of 64", "none", _always(Plan()),
        "plain PPO goes on from the stuck agent in minibatches of 64; nothing else is changed",
        train={"batch_size": SMALL_BATCH},
    ),
    MethodSpec(
        "statemask-r", "StateMask-R", "statemask", _always(Plan(restart=1.0)),
        "every episode begins at a state that the mask network finds critical",
    ),
    MethodSpec(
        "rice", "RICE", "rice", _rice,
        "some episodes begin at the most critical state of the one before, and novelty is rewarded",
    ),
    MethodSpec(
        "jsrl", "JSRL", "none", _always(Plan(roll_in="curriculum")),
        "the stuck agent takes the first steps of each episode, ever fewer of them",
    ),
    MethodSpec(
        "ultra-a", "ULTRA-A", "auto", _always(_PAPER.having(execute=True)),
        "suggested actions are executed at critical states",
    ),
    MethodSpec(
        "ultra-r", "ULTRA-R", "auto", _always(_PAPER.having(state_reward=True)),
        "implicit rewards are added at critical states",
    ),
    MethodSpec(
        "ultra-ra", "ULTRA-RA", "auto", _always(_PAPER.having(execute=True, state_reward=True)),
        "suggested actions are executed and implicit rewards added at critical states",
    ),
    MethodSpec(
        "llm-free", "LLM-free", "search", _unstuck,
        "as Unstuck, explained by falls of the agent's value and a search in the simulator",
    ),
    MethodSpec(
        "unstuck", "Unstuck", "auto", _unstuck,
        "verified advice: rules imitated for discrete actions, fading reward terms for continuous ones; noise restored",
    ),
    MethodSpec(
        "afresh", "Afresh", "none", _always(Plan()),
        "PPO begins anew: a new network with a good recipe and the agent's observation statistics", race=("afresh",),
    ),
    MethodSpec(
        "race", "Race", "auto", _racing,
        "treatments, the coach's guidance among them, race against each other and plain PPO; the winner is tested",
        race=(),
    ),
    MethodSpec(
        "race-no-coach", "Race without coach", "nothing", _racing, "the same race without guidance", race=(),
    ),
    MethodSpec(
        "race-random-terms", "Race, random terms", "random-terms",
        _always(Plan(verified=True, terms=True, short_episodes=SHORT)),
        "the same race with random reward terms in place of the coach's guidance", race=(),
    ),
)  # fmt: skip

METHODS: dict[Method, MethodSpec] = {spec.name: spec for spec in _LIST}


def setting_of(agent: Agent, card: TaskCard) -> Setting:
    """Of an agent on a task."""
    return Setting(card.action.kind == "discrete", not algorithm_of(agent).on_policy)


def make_plan(method: Method, config: GuideConfig, guidance: Guidance | None, setting: Setting) -> Plan:
    """The method's defaults, with the user's settings over them. Without guidance, only what needs none."""
    given = {k: v for k, v in config.model_dump().items() if v is not None}
    spec = METHODS[method]
    if guidance is None or not spec.explained:
        plan = Plan() if spec.explained else spec.plan(None, setting)
        unexplained = {field for part in parts().values() if not part.explained for field in part.Settings.model_fields}
        return plan.having(**{k: v for k, v in given.items() if k in unexplained})
    plan = spec.plan(guidance, setting).having(**given)
    # Rules hold in many states and name none, so no table and no neighbourhood has them.
    return plan if plan.applies == "as-given" else plan.having(kinds=("state",))


def label_of(method: Method, algorithm: str = "PPO") -> str:
    """As it is written in tables, where this is what trains: `SAC continued`."""
    label = METHODS[method].label
    return label.replace("PPO", algorithm) if method in ("ppo", "ppo-small-batches") else label


ANY = "The agent's algorithm"
"""In the place of one algorithm's name, where there are several."""
