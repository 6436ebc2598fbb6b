"""A Stable-Baselines3 SAC whose gradient steps are computed without torch where its policy allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from unstuck.ppo import adam
from unstuck.sac.update import Updates

WIDEST = 512
"""Units of a layer up to which numpy is the faster on one core (docs/speed.md)."""


class FastSAC(SAC):
    """As `SAC`, with the same random numbers, so that weights differ by rounding alone.

    What it cannot compute (images, gSDE, hooked optimisers, wide layers: see `slow_because`) is trained by the class
    above. A zip that it saves names this class; `unstuck.algorithms` saves plain ones.
    """

    _updates: Updates | None = None

    @property
    def slow_because(self) -> str | None:
        """Why torch makes the gradient steps, in a few words; None if numpy does."""
        return unsupported(self)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        if self.slow_because:
            super().train(gradient_steps, batch_size)
            return
        self.policy.set_training_mode(True)
        priced = [self.ent_coef_optimizer] if self.ent_coef_optimizer is not None else []
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer, *priced])
        if self._updates is None or self._updates.model.actor is not self.actor:
            self._updates = Updates(self)
        updates, losses = self._updates, []
        updates.pull()
        for number in range(gradient_steps):
            samples = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            losses.append(updates.step(samples, self.gamma, follow=number % self.target_update_interval == 0))
        updates.push()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        told = {"ent_coef": "price", "actor_loss": "actor", "critic_loss": "critic", "ent_coef_loss": "entropy"}
        for name, field in told.items():
            values = [getattr(loss, field) for loss in losses]
            if values and values[0] is not None:
                self.logger.record(f"train/{name}", np.mean(values))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_updates"]


def unsupported(model: Any) -> str | None:
    """Why the gradient steps of this SAC cannot be computed here, in a few words; None if they can."""
    policy = model.policy
    if model.use_sde or type(policy) is not SACPolicy or type(policy.actor) is not Actor:
        return "it has gSDE, or a policy of its own"
    if type(policy.actor.features_extractor) is not FlattenExtractor or not isinstance(
        policy.observation_space, spaces.Box
    ):
        return "observations are not a vector of numbers"
    trunks: list[Any] = [policy.actor.latent_pi, *policy.critic.q_networks]
    kinds = {type(m) for trunk in trunks for m in trunk} - {nn.Linear}
    if kinds - {nn.ReLU} or len(trunks[0]) < 2:
        return "its networks are not linear layers with ReLU between them"
    widest = max(m.out_features for trunk in trunks for m in trunk if isinstance(m, nn.Linear))
    if widest > WIDEST:
        return f"its layers have up to {widest} units"
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in policy.parameters()):
        return "its parameters are not float32 on the CPU"
    optimisers = (model.actor.optimizer, model.critic.optimizer)
    if reason := next(filter(None, map(adam.unsupported, optimisers)), None):
        return f"actor and critic do not have a plain Adam each, without weight decay: {reason}"
    if any(getattr(o, "_optimizer_step_pre_hooks", None) for o in optimisers):
        return "a loss is hooked to its optimisers"
    if not isinstance(model.replay_buffer, ReplayBuffer):
        return "its replay buffer is none of Stable-Baselines3's"
    return None
