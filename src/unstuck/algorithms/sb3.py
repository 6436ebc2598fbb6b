"""What the algorithms of Stable-Baselines3 and sb3-contrib share: reading their numbers, building their policies, and
saving a plain zip of the same class."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from gymnasium import spaces

from unstuck.agents.normalization import Normalization
from unstuck.agents.policy import build_policy
from unstuck.agents.training import write_agent
from unstuck.agents.types import Agent
from unstuck.algorithms.base import Algorithm, Archive, Policy
from unstuck.errors import AgentError

FEATURES = frozenset({"features_extractor_class", "features_extractor_kwargs", "normalize_images"})
NETWORK = FEATURES | {"net_arch", "activation_fn"}
ACTOR_CRITIC = NETWORK | {
    "ortho_init", "log_std_init", "full_std", "use_expln", "squash_output", "share_features_extractor",
}  # fmt: skip
"""Arguments of policies."""


def policies(module: str, mlp: str, cnn: str = "CnnPolicy", multi: str = "MultiInputPolicy") -> dict[str, str]:
    """Dotted names of a module's policy classes → SB3's names for them."""
    return {f"{module}.{mlp}": "MlpPolicy", f"{module}.{cnn}": "CnnPolicy", f"{module}.{multi}": "MultiInputPolicy"}


class SB3Algorithm(Algorithm):
    """An algorithm whose learner is a class of Stable-Baselines3's kind."""

    numbers: ClassVar[tuple[str, ...]] = ()
    """Hyper-parameters that are read from its files as plain numbers, or None where they are something else."""
    schedules: ClassVar[tuple[str, ...]] = ("learning_rate",)
    """Hyper-parameters that may be schedules; read where they are constant."""
    marks: ClassVar[frozenset[str]] = frozenset()
    """Names in a file's data that tell this algorithm from others with the same policy classes."""
    rate: ClassVar[float] = 3e-4
    """Learning rate where neither the user nor the agent's file has one."""
    tau: ClassVar[float | None] = 0.005
    """The same for the share of the networks that their targets take over; None where there are no targets."""
    kept: ClassVar[tuple[str, ...]] = ()
    """Attributes of the learner that its constructor takes by the same name, and that a saved zip keeps."""

    @abstractmethod
    def model_class(self) -> type:
        """The learner's class in Stable-Baselines3 or sb3-contrib."""

    def reads(self, archive: Archive) -> bool:
        known = archive.policy_class is None or archive.policy_class in self.policies
        return known and self.marks <= archive.data.keys()

    def policy_class(self, agent: Agent) -> type:
        return self.model_class().policy_aliases[agent.policy_class_name]  # type: ignore[attr-defined]

    def policy_base(self) -> type:
        """What a custom policy class must be a kind of."""
        return self.model_class().policy_aliases["MlpPolicy"]  # type: ignore[attr-defined]

    @abstractmethod
    def actor(self, policy: Any, agent: Agent, action_space: spaces.Space, seed: int) -> Policy:
        """What acts with a policy that was built."""

    def policy(
        self, agent: Agent, observation_space: spaces.Space, action_space: spaces.Space, seed: int = 0
    ) -> Policy:
        return self.actor(build_policy(agent, observation_space, action_space), agent, action_space, seed)

    def build_arguments(self, agent: Agent) -> dict[str, Any]:
        """Arguments of the policy's class beside spaces and learning rate."""
        return dict(agent.policy_kwargs)

    def save(self, model: Any, path: Path | str, normalization: Normalization | None = None) -> Path:
        return write_agent(self.plain(model), path, normalization)

    def plain(self, model: Any) -> Any:
        """A learner of the library's own classes with the model's policy, optimisers' state and numbers."""
        ours = __name__.split(".")[0]
        policy = next(c for c in type(model.policy).__mro__ if c.__module__.split(".")[0] != ours)
        plain = self.model_class()(
            policy, None, _init_setup_model=False, device="cpu", tensorboard_log=None, verbose=0, seed=None,
            learning_rate=at_start(model.lr_schedule), policy_kwargs=dict(model.policy_kwargs),
            **{name: self.kept_value(model, name) for name in self.kept},
        )  # fmt: skip
        plain.observation_space, plain.action_space = model.observation_space, model.action_space
        plain.n_envs, plain.num_timesteps, plain.seed = model.n_envs, model.num_timesteps, model.seed
        plain._n_updates = model._n_updates
        self.build_plain(plain, policy)
        plain.policy.load_state_dict(model.policy.state_dict())
        for name in self.optimisers():
            copy_optimiser(plain, model, name)
        return plain

    def kept_value(self, model: Any, name: str) -> Any:
        return getattr(model, name)

    @abstractmethod
    def build_plain(self, plain: Any, policy: type) -> None:
        """Make `plain.policy`, of this class, and whatever else its `save` looks for."""

    def optimisers(self) -> tuple[str, ...]:
        """Where a learner keeps its optimisers."""
        return ("policy.optimizer",)

    def hyperparameters(self, archive: Archive, notes: list[str]) -> dict[str, Any]:
        """By the names of the learner's arguments; what cannot be read as data is None, and `notes` says so."""
        data = archive.data
        found = {k: data.get(k) for k in self.numbers if isinstance(data.get(k), (int, float, bool, type(None)))}
        for key in self.schedules:
            found[key] = archive.number(key)
            if found[key] is None and data.get(key) is not None:
                notes.append(f"{key} is a schedule pickled as code and was not read; the run's own setting is used")
        return found


def contrib(name: str) -> type:
    """A class of sb3-contrib.

    Raises:
        AgentError: it is not installed.
    """
    try:
        import sb3_contrib
    except ImportError as error:
        raise AgentError(
            f"agents of {name} need sb3-contrib: pip install sb3-contrib, or pip install 'unstuck[contrib]'"
        ) from error
    return getattr(sb3_contrib, name)


def at_start(schedule: Any) -> float:
    """A schedule's first value; a number is its own."""
    return float(schedule(1.0) if callable(schedule) else schedule)


def first(*values: Any) -> Any:
    """The first that is not None."""
    return next(v for v in values if v is not None)


def attribute(model: Any, dotted: str) -> Any:
    """`model.actor.optimizer` of "actor.optimizer"; None where a name is missing."""
    for name in dotted.split("."):
        model = getattr(model, name, None)
    return model


def copy_optimiser(target: Any, source: Any, dotted: str) -> None:
    """Moments and counters, where both have an optimiser of the same class there."""
    mine, theirs = attribute(target, dotted), attribute(source, dotted)
    if isinstance(mine, torch.optim.Optimizer) and type(mine) is type(theirs):
        mine.load_state_dict(theirs.state_dict())
