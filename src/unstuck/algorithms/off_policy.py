"""What algorithms that learn from a replay buffer share."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unstuck.agents.types import Agent
from unstuck.algorithms.base import Archive, Trainer, Training
from unstuck.algorithms.sb3 import NETWORK, SB3Algorithm, at_start, first
from unstuck.algorithms.settings import ReplaySettings

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from unstuck.algorithms.imitating import Conservation, Imitation
    from unstuck.config import TrainConfig

_ENTROPY = re.compile(r"auto(_\d+(\.\d+)?(e-?\d+)?)?")


class OffPolicy(SB3Algorithm):
    """An agent with a critic over actions and a replay buffer, which no file holds."""

    policy_arguments = NETWORK
    numbers: ClassVar[tuple[str, ...]] = (
        "buffer_size", "batch_size", "learning_starts", "tau", "gamma", "gradient_steps", "n_steps", "num_timesteps",
        "n_envs", "seed",
    )  # fmt: skip
    kept: ClassVar[tuple[str, ...]] = (
        "buffer_size",
        "batch_size",
        "learning_starts",
        "tau",
        "gamma",
        "gradient_steps",
        "n_steps",
    )
    outputs: ClassVar[tuple[str, ...]] = ()
    """Names of weights of which one gives the actions, (outputs, units)."""

    def hyperparameters(self, archive: Archive, notes: list[str]) -> dict[str, Any]:
        """Beside numbers `train_freq`: how many steps, or "episode"."""
        found = super().hyperparameters(archive, notes)
        found["train_freq"] = _train_freq(archive)
        return found

    def action_outputs(self, agent: Agent) -> int | None:
        found = next((agent.state_dict[name] for name in self.outputs if name in agent.state_dict), None)
        return None if found is None else int(found.shape[0])

    def build_plain(self, plain: Any, policy: type) -> None:
        from stable_baselines3.common.type_aliases import TrainFreq

        if not isinstance(plain.train_freq, TrainFreq):
            plain._convert_train_freq()
        plain.policy = policy(
            plain.observation_space, plain.action_space, lambda _: plain.learning_rate, **plain.policy_kwargs
        )
        plain._create_aliases()

    def n_envs(self, config: TrainConfig) -> int:
        return config.replay.n_envs

    def quantum(self, agent: Agent, config: TrainConfig) -> int:
        from unstuck.algorithms.replaying import cadence

        return cadence(agent, config.replay)[0] * config.replay.n_envs

    def trainer(self, agent: Agent, venv: VecEnv, training: Training) -> Trainer:
        from unstuck.algorithms.replaying import ReplayTrainer

        return ReplayTrainer(self, agent, venv, training)

    def learner_class(self) -> type:
        """What learns in the place of `model_class`, by the same random numbers: with a property `slow_because`, why
        torch makes the gradient steps all the same, or None. Here the library's own."""
        return self.model_class()

    @abstractmethod
    def arguments(self, agent: Agent, settings: ReplaySettings) -> dict[str, Any]:
        """Of the learner's class, those that not every algorithm with a replay buffer has."""

    @abstractmethod
    def imitation(self, model: Any, part: Any, training: Training) -> Imitation:
        """The loss towards a part's suggestions that suits it, attached to a learner."""

    def conservation(self, model: Any, coefficient: float, training: Training) -> Conservation | None:
        """The loss that keeps what the agent does, attached to a learner; None where there is none for it."""
        return None


class EntropyRegularised(OffPolicy):
    """SAC and its kin: a Gaussian behind a tanh, with a price for entropy that may be learnt."""

    state_dependent_noise = True
    policy_arguments = NETWORK | {
        "log_std_init", "use_expln", "clip_mean", "n_critics", "share_features_extractor",
    }  # fmt: skip
    numbers: ClassVar[tuple[str, ...]] = (
        *OffPolicy.numbers,
        "target_update_interval",
        "use_sde",
        "sde_sample_freq",
        "use_sde_at_warmup",
    )
    kept: ClassVar[tuple[str, ...]] = (
        *OffPolicy.kept, "ent_coef", "target_update_interval", "target_entropy", "use_sde", "sde_sample_freq",
        "use_sde_at_warmup", "train_freq",
    )  # fmt: skip
    first_layers: ClassVar[tuple[str, ...]] = ("actor.latent_pi.0.weight", "actor.mu.weight", "actor.mu.0.weight")
    outputs = ("actor.mu.weight", "actor.mu.0.weight")

    def hyperparameters(self, archive: Archive, notes: list[str]) -> dict[str, Any]:
        """Beside numbers `ent_coef`: a number, or "auto", "auto_0.1" where it is learnt."""
        found = super().hyperparameters(archive, notes)
        stored = archive.data.get("ent_coef")
        learnt = isinstance(stored, str) and _ENTROPY.fullmatch(stored) is not None
        found["ent_coef"] = stored if learnt else archive.number("ent_coef")
        found["target_entropy"] = archive.number("target_entropy")
        return found

    def optimisers(self) -> tuple[str, ...]:
        return ("actor.optimizer", "critic.optimizer", "ent_coef_optimizer")

    def arguments(self, agent: Agent, settings: ReplaySettings) -> dict[str, Any]:
        stored, learnt = agent.hyperparameters, agent.tensors.get("log_ent_coef")
        price = first(stored.get("ent_coef"), "auto")
        if isinstance(price, str) and learnt is not None:
            price = f"auto_{max(float(torch.exp(learnt)), 1e-8):.10f}"  # goes on where it had come to
        return {
            "ent_coef": price,
            "target_entropy": first(stored.get("target_entropy"), "auto"),
            "target_update_interval": int(first(stored.get("target_update_interval"), 1)),
            "use_sde": bool(stored.get("use_sde")),
            "sde_sample_freq": int(first(stored.get("sde_sample_freq"), -1)),
        }

    def imitation(self, model: Any, part: Any, training: Training) -> Imitation:
        from unstuck.algorithms.imitating import ModeLoss

        def mode(obs: Any) -> torch.Tensor:
            return torch.tanh(model.actor.get_action_dist_params(obs)[0])

        return ModeLoss(model, part, mode, partial(self.rating, model), filtered=training.config.replay.q_filter)

    def rating(self, model: Any, obs: Any, actions: torch.Tensor) -> torch.Tensor:
        """(B,) Q of actions in [-1, 1]."""
        return least(model, obs, actions)

    def plain(self, model: Any) -> Any:
        plain = super().plain(model)
        plain.log_ent_coef = plain.ent_coef_optimizer = None
        if model.ent_coef_optimizer is None:
            plain.ent_coef_tensor = model.ent_coef_tensor.detach().clone()
        else:
            plain.log_ent_coef = model.log_ent_coef.detach().clone().requires_grad_(True)
            plain.ent_coef_optimizer = torch.optim.Adam([plain.log_ent_coef], lr=at_start(model.lr_schedule))
            plain.ent_coef_optimizer.load_state_dict(model.ent_coef_optimizer.state_dict())
        return plain


def least(model: Any, obs: Any, actions: torch.Tensor) -> torch.Tensor:
    """(B,) the least Q of its critics."""
    return torch.cat(model.critic(obs, actions), dim=1).min(dim=1).values


def _train_freq(archive: Archive) -> int | str | None:
    stored = archive.data.get("train_freq")
    if isinstance(stored, int):
        return stored if stored > 0 else "episode"
    try:
        steps, unit = archive.pickled("train_freq").args
        name = unit if isinstance(unit, str) else unit.args[0]
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    return "episode" if name == "episode" else int(steps)


def exploration_noise(archive: Archive) -> float | None:
    """Standard deviation of the noise that was added to actions, of half their range; None where there was none, or
    one that changes over time."""
    stored = archive.pickled("action_noise")
    sigma = getattr(stored, "fields", {}).get("_sigma")
    try:
        number = float(sum(map(float, sigma.reshape(-1))) / sigma.size) if sigma is not None else math.nan
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 2 else None


def layers_of(agent: Agent, prefix: str) -> list[str]:
    """Names of the weights `prefix.N.weight`, by N."""
    found = [(int(m[1]), k) for k in agent.state_dict if (m := re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.weight", k))]
    return [name for _, name in sorted(found)]
