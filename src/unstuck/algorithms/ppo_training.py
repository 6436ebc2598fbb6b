"""Going on with an on-policy agent, by PPO: ours where the policy allows it, else Stable-Baselines3's."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from unstuck.agents import Agent, to_ppo
from unstuck.agents.policy import channels_last
from unstuck.algorithms.base import Training
from unstuck.algorithms.training import SB3Trainer, later_seed, normalized
from unstuck.errors import AgentError
from unstuck.guide.on_policy import Attached
from unstuck.ppo.fast import FastPPO


class PPOTrainer(SB3Trainer):
    """A PPO that starts from an agent's weights.

    Raises:
        AgentError: the agent does not fit, or the engine that is insisted on cannot train it.
    """

    def __init__(self, agent: Agent, venv: VecEnv, training: Training):
        config = training.config
        discrete = isinstance(venv.action_space, spaces.Discrete)
        model = to_ppo(
            agent,
            normalized(venv, agent),
            learning_rate=config.learning_rate,
            n_steps=config.n_steps,
            batch_size=config.batch_size,
            n_epochs=config.n_epochs,
            clip_range=config.clip_range,
            ent_coef=config.ent_coef if config.ent_coef is not None else 0.01 if discrete else 0.0,
            seed=later_seed(training.seed, training.start),
            ppo_class=PPO if config.engine == "sb3" else FastPPO,
            device=config.device,
        )
        channels_last(model.policy)
        self.engine = "sb3" if (reason := _slow_because(model)) else "fast"
        if config.engine == "fast" and reason:
            raise AgentError(f"The fast PPO cannot train this agent: {reason}. Use --train.engine auto or sb3.")
        self.attached = Attached(model, training.guide)
        super().__init__(model, agent, training)

    def callbacks(self) -> list[BaseCallback]:
        return [_CriticWarmup(self.training)]

    def signals(self) -> dict[str, float | None]:
        """`imitation`, the mean loss towards suggestions; `entropy`; `explained_variance` of the critic."""
        values, imitation = self.model.logger.name_to_value, self.attached.imitation
        return {
            "imitation": imitation.take_loss() if imitation else None,
            "entropy": _maybe(values.get("train/entropy_loss"), -1.0),
            "explained_variance": _maybe(values.get("train/explained_variance")),
        }


def _slow_because(model: PPO) -> str | None:
    """Why Stable-Baselines3's own loops train the model; None if ours do."""
    return model.slow_because if isinstance(model, FastPPO) else "Stable-Baselines3's PPO was asked for"


class _CriticWarmup(BaseCallback):
    """Only the critic learns at first: the saved critic knows other rewards or another optimiser's scale, and its
    errors would tear down the policy before they are corrected. At most a fifth of the training."""

    def __init__(self, training: Training):
        super().__init__()
        self._until = training.begun + min(training.config.critic_warmup, training.steps // 5)

    def _on_rollout_end(self) -> None:
        warm = self.num_timesteps <= self._until
        for name, parameter in self.model.policy.named_parameters():
            if not _only_critic(name):
                parameter.requires_grad_(not warm)

    def _on_step(self) -> bool:
        return True


def _only_critic(name: str) -> bool:
    return name.startswith(("mlp_extractor.value_net", "value_net", "vf_features_extractor"))


def _maybe(value: Any, factor: float = 1.0) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value) * factor, 5)
