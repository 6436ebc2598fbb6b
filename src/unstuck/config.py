"""What a user can set, as typed and validated models: the same for the command line, Python and TOML files.

Importing this module is cheap: it is read before any flag is known.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from unstuck.algorithms.settings import ReplaySettings
from unstuck.errors import did_you_mean
from unstuck.guide.plan import optional_settings
from unstuck.llm.config import LLMConfig

LARGEST_SEED = 2**31 - 1


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskConfig(_Config):
    """The environment on which the agent acts."""

    env: str = ""
    """Gymnasium id, e.g. Hopper-v5. May be left out for an RL Zoo folder, which names it."""
    env_kwargs: Annotated[dict[str, Any], tyro.conf.Suppress] = {}
    """Keyword arguments of gymnasium.make; on the command line --env-kwargs '{"gravity": -9.8}'."""
    import_module: str | None = None
    """A Python module to import first, which registers your environments."""
    card: Path | None = None
    """A TOML task card, which replaces what Unstuck knows of the task."""


class AgentConfig(_Config):
    """The stuck agent."""

    agent: str = ""
    """An SB3 zip, a folder of RL Zoo, or hf://USER/NAME."""
    vecnormalize: Path | None = None
    """Its VecNormalize statistics (.pkl), if it was trained with them."""
    trust: bool = False
    """Let the agent's files run code while they are loaded. Only for files you would run as a program."""


class CollectConfig(_Config):
    """Collecting episodes of the stuck agent."""

    episodes: int = Field(default=12, ge=2, le=100_000)
    """Episodes to collect; half deterministic, half sampled."""
    max_steps: int = Field(default=8_000, ge=100)
    """Stop collecting after this many environment steps (at least two episodes are kept)."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Seed of the first episode; the others follow."""


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object: {text}")
    return value


_JSON = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1, metavar="JSON", instance_from_str=lambda words: _json_object(words[0]),
    is_instance=lambda value: isinstance(value, dict), str_from_instance=lambda value: [json.dumps(value)],
)  # fmt: skip

EXPLAINERS = (
    "auto", "llm", "search", "statemask", "rice", "random", "random-states", "random-actions", "random-terms",
    "several", "nothing",
)  # fmt: skip
EXPLAINERS_GROUP = "unstuck.explainers"
"""The group of entry points in which other packages name their explainers: name → class."""


class PromptSettings(_Config):
    """Of explainers that ask a language model."""

    prompt_tokens: int = Field(default=12_000, ge=1_500)
    """Budget for one prompt; trajectories are shown in windows that fit it."""
    prompt_version: Literal[1, 2] = 2
    """Which prompt is asked. Older ones stay, so that replies that were recorded to them can be replayed."""
    ask_for: Literal["used", "all"] = "used"
    """used: ask only for what the method will read. all: for everything, so that all methods share one reply."""
    sample: int = Field(default=0, ge=0)
    """Which of several independent replies to the same prompt to use."""


class SearchSettings(_Config):
    """Of the explainer without a language model."""

    search_states: int = Field(default=8, ge=1)
    """Explainer search: how many critical states to look at."""
    search_candidates: int = Field(default=16, ge=2)
    """Explainer search, continuous actions: random action deltas tried at each state."""
    search_steps: int = Field(default=10_000, ge=1)
    """Explainer search: stop after this many environment steps (one state is looked at in any case)."""

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the limit where it is as it always was: what was explained before it could be set stays explained."""
        data: dict[str, Any] = dump(self)
        if data.get("search_steps") == SearchSettings.model_fields["search_steps"].default:
            del data["search_steps"]
        return data


class _MaskSettings(_Config):
    critical_states: int = Field(default=3, ge=1)
    """Explainers statemask and rice: critical states named in each episode."""
    mask_steps: int = Field(default=30_000, ge=1)
    """Explainers statemask and rice: environment steps to train the mask network."""


class _Seeded(_Config):
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Of mask networks and random explainers."""


class RiceSettings(_MaskSettings, _Seeded):
    """Of RICE's mask network."""

    mask_bonus: float = Field(default=0.01, ge=0)
    """Explainer rice: reward for each blinded step (the paper's alpha), in standard deviations of the return."""


class StateMaskSettings(_MaskSettings, _Seeded):
    """Of StateMask's mask network."""

    mask_tolerance: float = Field(default=0.05, ge=0, lt=1)
    """Explainer statemask: share of the agent's return that blinding may cost."""


class ScrambleSettings(PromptSettings, _Seeded):
    """Of the random explainers, which ask first and then draw."""


class SeveralSettings(_Config):
    """Of explainers put together."""

    several: tuple[str, ...] = Field(default=("llm", "search"), min_length=1)
    """Explainer several: which ones; what they say is merged, that of earlier ones first."""


class _Which(_Config):
    explainer: str = "auto"
    """llm: a language model. search: value drop and search in the simulator, without a language model. statemask,
    rice: a mask network, trained as these papers have it. random, random-states, random-actions, random-terms: what
    the language model says, scrambled: states and actions, states, actions, or reward terms. several: more than one,
    merged. nothing: none at all. auto: what the method needs; else llm if a model is configured, else search. Or one
    of another package."""
    options: Annotated[dict[str, Any], _JSON] = {}
    """Settings of an explainer of another package: '{"name": value}', or [explain.options] in a TOML file."""

    @field_validator("explainer", "several", check_fields=False)
    @classmethod
    def _known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in [value] if isinstance(value, str) else value:
            if name not in EXPLAINERS and not entry_points(group=EXPLAINERS_GROUP, name=name):
                near = did_you_mean(name, EXPLAINERS)
                raise ValueError(f"there is no explainer {name!r}.{near} There are: {', '.join(EXPLAINERS)}")
        return value


class ExplainConfig(SeveralSettings, RiceSettings, StateMaskSettings, SearchSettings, PromptSettings, _Which):
    """Finding the critical states and what to do there."""


class VerifyConfig(_Config):
    """Trying advice in the simulator before it may touch training."""

    enabled: bool = True
    what: Literal["used", "all"] = "used"
    """used: try actions only as they may touch training (beside reward terms, all of them together). all: try each in
    any case."""
    pairs: int = Field(default=8, ge=2, le=10_000)
    """Paired branches (same state, same noise) for each piece of advice."""
    horizon: int | None = Field(default=None, ge=1)
    """Steps of a branch; default: 20 where progress is judged, 100 where the true reward is."""
    max_steps: int = Field(default=20_000, ge=0)
    """Stop verifying after this many environment steps; what is left stays untested."""
    level: float = Field(default=0.1, gt=0, lt=1)
    """Significance level for calling advice helpful or harmful, before correction for multiple tests."""
    episode_pairs: int = Field(default=4, ge=0)
    """Paired whole episodes in which all advice is applied together (the check of the set); 0 leaves it out."""
    seed: int = Field(default=10_000, ge=0, le=LARGEST_SEED)


Method = Literal[
    "unstuck", "ultra-a", "ultra-r", "ultra-ra", "llm-free", "statemask-r", "rice", "jsrl", "ppo", "ppo-small-batches",
    "afresh", "race", "race-no-coach", "race-random-terms",
]  # fmt: skip


if TYPE_CHECKING:

    class GuideConfig(_Config):
        def __init__(self, **settings: Any): ...
        def __getattr__(self, name: str) -> Any: ...
else:
    GuideConfig = optional_settings("GuideConfig", _Config, __name__)
    GuideConfig.__doc__ = (
        "How guidance enters training: the settings of all parts. Each method is a set of defaults for these; None "
        "means the method's."
    )


class TrainConfig(_Config):
    """Refining the agent: with PPO where it learnt on-policy, else with its own algorithm (`replay`)."""

    steps: int = Field(default=100_000, ge=1, le=10**12)
    """Budget of environment steps for each arm. Collecting and verifying count for the guided arm."""
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    """One training run of each arm for each seed."""
    method: Method = "unstuck"
    """unstuck: imitation of rules (discrete actions), annealed reward terms and short episodes (continuous). ultra-a,
    -r, -ra: as the paper has them. llm-free: as unstuck, explained without a language model. statemask-r, rice:
    restarts at states that a mask network finds critical. jsrl: the stuck agent begins the episodes. ppo: no
    guidance. ppo-small-batches: likewise, in minibatches of 64. afresh: a new network. race: treatments, guidance
    among them, race against each other and plain PPO; race-no-coach: without guidance; race-random-terms: with random
    reward terms in its place."""
    name: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$|^$", max_length=64)
    """What the arm is called, for variants of one method side by side in one run; default: the method."""
    rounds: int = Field(default=1, ge=1, le=100)
    """Iterated rounds: collect, explain, verify, train, and again from the improved agent, for each seed of the guided
    arm. They share its budget. The control, and methods that need no explanation, train in one."""
    control: bool = True
    """Also continue plain PPO with the same budget and optimiser settings, to compare with."""
    guide: GuideConfig = GuideConfig()
    learning_rate: float = Field(default=3e-4, gt=0, le=10)
    n_envs: int = Field(default=16, ge=1, le=10_000)
    n_steps: int = Field(default=128, ge=2, le=1_000_000)
    """Steps of each environment between updates."""
    batch_size: int = Field(default=256, ge=2, le=10_000_000)
    n_epochs: int = Field(default=10, ge=1, le=1_000)
    clip_range: float = Field(default=0.2, gt=0, le=100)
    ent_coef: float | None = Field(default=None, ge=0, le=1_000)
    """Entropy coefficient; default 0.01 for discrete actions, 0 for continuous ones."""
    critic_warmup: int = Field(default=6_000, ge=0)
    """Environment steps at the start in which only the critic learns."""
    replay: ReplaySettings = ReplaySettings()
    late_checkpoints: int = Field(default=3, ge=1, le=1_000)
    """Policies kept from the end of training (the last is the final one); scores average over them."""
    late_share: float = Field(default=0.2, gt=0, le=1)
    """The share of training from whose end they are."""
    jobs: int = Field(default=0, ge=0, le=10_000)
    """Training runs at once; 0: one for each core."""
    engine: Literal["auto", "fast", "sb3"] = "auto"
    """What computes PPO's rollouts and updates. auto: ours where the policy allows it (MlpPolicy), which follows
    Stable-Baselines3's up to rounding, else Stable-Baselines3's. fast: ours, or an error that says why not."""
    backend: Literal["auto", "envpool", "mujoco", "gymnasium"] = "auto"
    """What simulates in training. auto: EnvPool where its task is proved to be Gymnasium's own and it is installed;
    else, for MuJoCo's tasks, Gymnasium's environments stepped together, to the same bits; else Gymnasium."""
    device: str = Field(default="cpu", pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$")
    """Where networks are trained: cpu, cuda, cuda:1, mps, or auto (a GPU if there is one); worth it for images. Ours
    ("fast") trains on the CPU alone, so elsewhere it is Stable-Baselines3's loops. Agents act on the CPU."""
    log: tuple[Literal["tensorboard", "csv", "json"], ...] = ()
    """Also write Stable-Baselines3's own log of each training run, into its folder's log/. tensorboard: for
    TensorBoard, and for W&B by `wandb sync --sync-tensorboard`."""
    threads: int = Field(default=0, ge=0, le=10_000)
    """Threads with which EnvPool or MuJoCo step environments; 0: one where several runs train at once, else one for
    each core. Results do not depend on it."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if wrong := [s for s in seeds if not 0 <= s <= LARGEST_SEED]:
            raise ValueError(f"a seed is a whole number from 0 to {LARGEST_SEED}, not {wrong[0]}")
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                f"{next(s for s in seeds if seeds.count(s) > 1)} is there twice; each seed is one training run"
            )
        return seeds


class EvaluateConfig(_Config):
    """Scoring agents without guidance, on the task's true reward."""

    episodes: int = Field(default=10, ge=1)
    """Episodes for each checkpoint and each of deterministic and sampled actions."""
    before_episodes: int = Field(default=20, ge=2)
    """Episodes for the agent before."""
    seed: int = Field(default=1_000_000, ge=0, le=LARGEST_SEED)
    """Seed of the first episode, of the agent before; those of a training begin 1000 times its seed later, and are the
    same for all arms."""


TREATMENTS = (
    "continue", "transplant", "small-batches", "shrink-and-perturb", "afresh", "sac", "sac-again", "thaw",
    "short-episodes", "guidance",
)  # fmt: skip
"""What may be done to an agent in a race."""


class RaceConfig(_Config):
    """Racing treatments of the stuck agent against each other and plain PPO, within one budget."""

    none: bool = False
    """No race: one training by the method `unstuck`."""
    treatments: tuple[str, ...] = ()
    """Who races, in the order of what they promise: continue (plain PPO, in every race), transplant, small-batches,
    shrink-and-perturb, afresh, sac (begun again with SAC), sac-again (the same with other random numbers), thaw,
    short-episodes, guidance; several together as transplant+guidance. Default: by what the diagnosis says and the coach
    would try. A single one is trained without a contest."""
    mode: Literal["deterministic", "sampled"] = "deterministic"
    """How the agent will be run, and is compared."""
    explore: float = Field(default=0.3, gt=0, lt=1)
    """Share of the budget that all who go on from where the agent is, and do not win, may take together."""
    reserve: float = Field(default=0.06, gt=0, lt=1)
    """Share of the budget kept for the last test."""
    feedback: bool = False
    """Ask the coach again after the first rung, with what came of its guidance; what it says then races too."""
    level: float = Field(default=0.05, gt=0, lt=0.5)
    """The winner is handed over only if it is better with this error probability (one-sided)."""

    backend: Literal["loky", "ray"] = "loky"
    """What spreads competitors. loky: processes of this machine. ray: a Ray cluster; no disk has to be shared."""
    ray_address: str | None = None
    """Of the cluster; auto: the one that this machine belongs to. Default: RAY_ADDRESS, else one of this machine."""

    def names(self, *treatments: str) -> bool:
        """Whether one of these is asked for, alone or with others."""
        return any(not set(treatments).isdisjoint(name.split("+")) for name in self.treatments)

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is off: what was raced before it could be set stays raced."""
        data: dict[str, Any] = dump(self)
        usual = {name: type(self).model_fields[name].default for name in ("feedback", "backend", "ray_address")}
        return {k: v for k, v in data.items() if k not in usual or v != usual[k]}

    @field_validator("treatments")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in "+".join(value).split("+") if value else ():
            word, at, number = part.partition("@")
            if word not in TREATMENTS or (at and (word != "guidance" or not re.fullmatch(r"[1-9]\d?", number))):
                near = did_you_mean(word, TREATMENTS)
                raise ValueError(
                    f"there is no treatment {part!r}.{near} There are {', '.join(TREATMENTS)}; several together are "
                    "joined with +, such as transplant+guidance, and guidance@2 is a second opinion"
                )
        if len(set(value)) < len(value):
            raise ValueError("one of them is named twice")
        return value


class RunConfig(_Config):
    """Everything of one run."""

    task: TaskConfig = TaskConfig()
    agent: AgentConfig = AgentConfig()
    collect: CollectConfig = CollectConfig()
    explain: ExplainConfig = ExplainConfig()
    llm: LLMConfig = LLMConfig()
    verify: VerifyConfig = VerifyConfig()
    train: TrainConfig = TrainConfig()
    race: RaceConfig = RaceConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
