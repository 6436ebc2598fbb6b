"""`DiscreteSAC` with its gradient steps computed without torch where its policy allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from unstuck.ppo import adam
from unstuck.sac.discrete import DiscreteSAC, linear
from unstuck.sac.fast import WIDEST
from unstuck.sac.networks import Adam, Array, Mlps
from unstuck.sac.update import Price


class FastDiscreteSAC(DiscreteSAC):
    """As `DiscreteSAC`, with the same random numbers, so that weights differ by rounding alone. What it cannot compute
    (hooked optimisers, wide layers: see `slow_because`) is trained by the class above."""

    _updates: _Updates | None = None

    @property
    def slow_because(self) -> str | None:
        """Why torch makes the gradient steps, in a few words; None if numpy does."""
        policy = self.policy
        if type(policy) is not ActorCriticPolicy or type(policy.pi_features_extractor) is not FlattenExtractor:
            return "its policy is one of its own"
        trunks = [
            *policy.mlp_extractor.policy_net.children(),
            *(m for q in self.critic.q_networks for m in q.children()),
        ]
        if {type(m) for m in trunks} - {nn.Linear, nn.ReLU}:
            return "its networks are not linear layers with ReLU between them"
        if (widest := max(m.out_features for m in trunks if isinstance(m, nn.Linear))) > WIDEST:
            return f"its layers have up to {widest} units"
        if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in policy.parameters()):
            return "its parameters are not float32 on the CPU"
        optimisers = (policy.optimizer, self.critic.optimizer)
        if reason := next(filter(None, map(adam.unsupported, optimisers)), None):
            return f"policy and critic do not have a plain Adam each, without weight decay: {reason}"
        if any(getattr(o, "_optimizer_step_pre_hooks", None) for o in optimisers):
            return "a loss is hooked to its optimisers"
        return None

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        if self.slow_because:
            super().train(gradient_steps, batch_size)
            return
        self.policy.set_training_mode(True)
        self._follow_schedule()
        if self._updates is None:
            self._updates = _Updates(self)
        updates, losses = self._updates, []
        updates.pull()
        for _ in range(gradient_steps):
            losses.append(updates.step(self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)))  # type: ignore[union-attr]
        updates.push()
        self._tell(gradient_steps, losses)


class _Updates:
    """Gradient steps on the networks of a `DiscreteSAC`, between `pull` and `push`."""

    def __init__(self, model: DiscreteSAC):
        self.model, policy = model, model.policy
        self.actor = Mlps([[[m] for m in [*linear(policy.mlp_extractor.policy_net), policy.action_net]]])  # type: ignore[list-item]
        self.critic, self.target = (
            Mlps([[[m] for m in linear(q)] for q in c.q_networks]) for c in (model.critic, model.critic_target)
        )
        self.price = Price(model)
        self._adams = Adam(self.actor, policy.optimizer), Adam(self.critic, model.critic.optimizer)
        self._parts: list[Any] = [self.actor, self.critic, self.target, self.price, *self._adams]
        self._rooms: dict[int, Any] = {}

    def pull(self) -> None:
        """Read torch's parameters and optimisers."""
        for part in self._parts:
            part.pull()

    def push(self) -> None:
        """Write them."""
        for part in self._parts:
            part.push()

    def step(self, samples: Any) -> tuple[float, float, float, float]:
        """One gradient step; returns the losses of actor, critics and price, and the price."""
        model, batch = self.model, len(samples.rewards)
        now, after, (actor, next_actor, critic, target) = self._room(batch)
        now[:-1] = samples.observations.numpy().reshape(batch, -1).T
        after[:-1] = samples.next_observations.numpy().reshape(batch, -1).T

        log_pi = _log_softmax(self.actor.forward(now, actor)[0])
        pi = np.exp(log_pi)
        price = self.price.value()
        price_loss = self.price.step((pi * log_pi).sum(axis=0))

        ahead = _log_softmax(self.actor.forward(after, next_actor)[0])
        least = self.target.forward(after, target).min(axis=0)
        value = (np.exp(ahead) * (least - price * ahead)).sum(axis=0)
        discount = model.gamma if samples.discounts is None else samples.discounts.numpy()[:, 0]
        goal = samples.rewards.numpy()[:, 0] + (1.0 - samples.dones.numpy()[:, 0]) * discount * value

        taken, column = samples.actions.numpy().reshape(-1).astype(int), np.arange(batch)
        error = self.critic.forward(now, critic)[:, taken, column] - goal.astype(np.float32)
        critic_loss = 0.5 * float(np.mean(error * error, axis=1).sum())
        pull = np.zeros_like(critic.out)
        pull[:, taken, column] = error / np.float32(batch)
        self.critic.backward(now, critic, pull)
        self._adams[1].step()

        least = self.critic.forward(now, critic).min(axis=0)
        worth = price * log_pi - least
        mean = (pi * worth).sum(axis=0)
        self.actor.backward(now, actor, (pi * (worth - mean) / batch)[None].astype(np.float32))
        self._adams[0].step()
        self.target.flat *= np.float32(1.0 - model.tau)
        self.target.flat += np.float32(model.tau) * self.critic.flat
        return float(mean.mean()), critic_loss, float(price_loss or 0.0), price

    def _room(self, batch: int) -> Any:
        if batch not in self._rooms:
            size = self.actor.views(self.actor.flat)[0].shape[2]
            inputs = [np.ones((size, batch), np.float32) for _ in range(2)]
            rooms = [n.room(batch) for n in (self.actor, self.actor, self.critic, self.target)]
            self._rooms[batch] = (*inputs, rooms)
        return self._rooms[batch]


def _log_softmax(out: Array) -> Array:
    """Of columns."""
    shifted = out - out.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))
