"""One gradient step of SAC (Haarnoja et al. 2018, arXiv 1812.05905), as Stable-Baselines3 makes it.

Actor: a Gaussian behind a tanh, u = mean + std * noise, a = tanh(u); its log-probability is that of u less
log(1 - a² + 1e-6) for each action. Critics: Q of (observation, action), the target their least, less the price of
entropy times the log-probability. All losses are means over the batch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from unstuck.sac.networks import Adam, Array, Mlps

SQUASH = 1e-6
"""Stable-Baselines3's `SquashedDiagGaussianDistribution.epsilon`."""
_NORMAL = 0.5 * math.log(2.0 * math.pi)


class Drawn(NamedTuple):
    """Actions of the actor, (A, B) each, and what their gradients need."""

    actions: Array
    noise: Array
    std: Array
    free: Array
    """Whether log-std is inside its bounds, so that it learns."""
    log_prob: Array
    """(B,)"""


class Losses(NamedTuple):
    """Of one gradient step."""

    actor: float
    critic: float
    entropy: float | None
    """Of the price of entropy; None where it is fixed."""
    price: float


class Price:
    """The price of entropy: fixed, or learnt towards a target entropy by Adam on its logarithm."""

    def __init__(self, model: Any):
        self._model = model
        self.learnt = model.ent_coef_optimizer is not None
        self._log, self._first, self._second, self._step = 0.0, 0.0, 0.0, 0

    def pull(self) -> None:
        """Read torch's parameter and optimiser."""
        if not self.learnt:
            return
        parameter, optimiser = self._model.log_ent_coef, self._model.ent_coef_optimizer
        held, self._group = optimiser.state.get(parameter), optimiser.param_groups[0]
        self._log = float(parameter.item())
        self._first, self._second = (float(held[k]) if held else 0.0 for k in ("exp_avg", "exp_avg_sq"))
        self._step = int(held["step"]) if held else 0

    def push(self) -> None:
        """Write them."""
        if not self.learnt or not self._step:
            return
        parameter = self._model.log_ent_coef
        parameter.data.fill_(self._log)
        self._model.ent_coef_optimizer.state[parameter] = {
            "step": torch.tensor(float(self._step)),
            "exp_avg": torch.full_like(parameter.data, self._first),
            "exp_avg_sq": torch.full_like(parameter.data, self._second),
        }

    def value(self) -> float:
        return math.exp(self._log) if self.learnt else float(self._model.ent_coef_tensor)

    def step(self, log_prob: Array) -> float | None:
        """One update; returns the loss."""
        if not self.learnt:
            return None
        slope = -float(np.mean(log_prob + self._model.target_entropy))
        loss, group, self._step = slope * self._log, self._group, self._step + 1
        beta1, beta2 = group["betas"]
        self._first += (1.0 - beta1) * (slope - self._first)
        self._second += (1.0 - beta2) * (slope * slope - self._second)
        root = math.sqrt(self._second) / math.sqrt(1.0 - beta2**self._step)
        self._log -= group["lr"] / (1.0 - beta1**self._step) * self._first / (root + group["eps"])
        return loss


class Updates:
    """Makes gradient steps on the networks of a Stable-Baselines3 SAC, between `pull` and `push`.

    Args:
        model: one that `unstuck.sac.fast.unsupported` has nothing against.
    """

    def __init__(self, model: Any):
        self.model = model
        actor = model.actor
        self.actor = Mlps([[*[[m] for m in linear(actor.latent_pi)], [actor.mu, actor.log_std]]])
        self.critic, self.target = (
            Mlps([[[m] for m in linear(q)] for q in c.q_networks]) for c in (model.critic, model.critic_target)
        )
        self._adams = {
            "actor": Adam(self.actor, model.actor.optimizer), "critic": Adam(self.critic, model.critic.optimizer)
        }  # fmt: skip
        self.price = Price(model)
        self._parts: list[Any] = [self.actor, self.critic, self.target, self.price, *self._adams.values()]
        self._rooms: dict[int, list[Any]] = {}

    def pull(self) -> None:
        """Read torch's parameters and optimisers."""
        for part in self._parts:
            part.pull()
        self.learns = self.model.actor.mu.weight.requires_grad

    def push(self) -> None:
        """Write them."""
        for part in self._parts:
            part.push()

    def step(self, samples: Any, gamma: float, follow: bool) -> Losses:
        """One gradient step.

        Args:
            samples: a batch of Stable-Baselines3's replay buffer.
            gamma: the discount, where the samples bring none.
            follow: whether the targets take over their share of the critics afterwards.
        """
        model, batch = self.model, len(samples.rewards)
        inputs, (actor, next_actor, critic, target) = self._room(batch)
        obs = samples.observations.numpy().reshape(batch, -1).T
        split = len(obs)
        inputs["obs"][:split], inputs["taken"][:split], inputs["chosen"][:split] = obs, obs, obs
        after = samples.next_observations.numpy().reshape(batch, -1).T
        inputs["after"][:split], inputs["next"][:split] = after, after
        rows = slice(split, split + self.actor.widths[-1] // 2)

        drawn = self._draw(self.actor.forward(inputs["obs"], actor)[0])
        price = self.price.value()
        entropy_loss = self.price.step(drawn.log_prob)

        following = self._draw(self.actor.forward(inputs["after"], next_actor)[0])
        inputs["next"][rows] = following.actions
        value = self.target.forward(inputs["next"], target).min(axis=0)[0] - price * following.log_prob
        discount = gamma if samples.discounts is None else samples.discounts.numpy()[:, 0]
        goal = samples.rewards.numpy()[:, 0] + (1.0 - samples.dones.numpy()[:, 0]) * discount * value

        inputs["taken"][rows] = samples.actions.numpy().T
        error = self.critic.forward(inputs["taken"], critic) - goal.astype(np.float32)
        critic_loss = 0.5 * float(np.mean(error * error, axis=(1, 2)).sum())
        error *= np.float32(1.0 / batch)
        self.critic.backward(inputs["taken"], critic, error)
        self._adams["critic"].step()

        inputs["chosen"][rows] = drawn.actions
        q = self.critic.forward(inputs["chosen"], critic)
        best = q.argmin(axis=0)[0]  # (B,), whose Q it is
        actor_loss = float(np.mean(price * drawn.log_prob - q.min(axis=0)[0]))
        if self.learns:
            self._improve(drawn, best, price, actor, inputs, critic, rows)
        if follow:
            self.target.flat *= np.float32(1.0 - model.tau)
            self.target.flat += np.float32(model.tau) * self.critic.flat
        return Losses(actor_loss, critic_loss, entropy_loss, price)

    def _draw(self, out: Array) -> Drawn:
        """Actions with torch's random numbers, in the order in which Stable-Baselines3 draws them."""
        width, batch = len(out) // 2, out.shape[1]
        mean, raw = out[:width], out[width:]
        log_std = np.clip(raw, LOG_STD_MIN, LOG_STD_MAX)
        noise = torch.empty(batch, width).normal_().numpy().T
        std = np.exp(log_std)
        actions = np.tanh(mean + std * noise)
        each = -0.5 * noise * noise - log_std - _NORMAL - np.log(1.0 - actions * actions + SQUASH)
        return Drawn(actions, noise, std, log_std == raw, each.sum(axis=0))

    def _improve(
        self, drawn: Drawn, best: Array, price: float, actor: Any, inputs: dict[str, Array], critic: Any, rows: slice
    ) -> None:
        """The actor's update: the gradient of price * log-probability - Q through the drawn actions."""
        batch = len(best)
        pull = np.zeros((len(self.critic.flat), 1, batch), np.float32)
        pull[best, 0, np.arange(batch)] = -1.0 / batch
        below = self.critic.backward(inputs["chosen"], critic, pull, weights=False)
        by_action = self.critic.by_input(below, rows).sum(axis=0)
        slope = 1.0 - drawn.actions * drawn.actions
        share = price / batch
        by_mean = slope * (by_action + 2.0 * share * drawn.actions / (slope + SQUASH))
        by_log_std = (by_mean * drawn.std * drawn.noise - share) * drawn.free
        delta = np.concatenate([by_mean, by_log_std])[None].astype(np.float32)
        self.actor.backward(inputs["obs"], actor, delta)
        self._adams["actor"].step()

    def _room(self, batch: int) -> Any:
        if batch not in self._rooms:
            states = self.actor.views(self.actor.flat)[0].shape[2]
            pairs = self.critic.views(self.critic.flat)[0].shape[2]
            sizes = {"obs": states, "after": states, "taken": pairs, "chosen": pairs, "next": pairs}
            inputs = {name: np.ones((size, batch), np.float32) for name, size in sizes.items()}
            rooms = [n.room(batch) for n in (self.actor, self.actor, self.critic, self.target)]
            self._rooms[batch] = [inputs, rooms]
        return self._rooms[batch]


def linear(trunk: torch.nn.Sequential) -> list[torch.nn.Linear]:
    """Its linear layers."""
    return [m for m in trunk if isinstance(m, torch.nn.Linear)]
