"""Transplant: what the agent does, put into a new network that can learn again.

Stable-Baselines3's Gaussian is not squashed, so its means can drift far beyond the bounds of the actions, and with them
the last layer into saturation: noise is then clipped away, no gradient passes, and neither PPO nor rewards can change
what the agent does, though its standard deviation looks healthy. A new network of the same shape, fitted to the clipped
means in the states that the agent visits, does the same and has none of that. For discrete actions it is fitted to the
agent's distribution, softened to a floor of entropy. That a fresh network fitted to an old one's outputs learns better
than the old one is from ITER (Igl et al., "Transient Non-Stationarity and Generalisation in Deep Reinforcement
Learning", ICLR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from unstuck.agents import Agent
from unstuck.agents.policy import channels_last
from unstuck.errors import AgentError
from unstuck.transitions import rows_of
from unstuck.treatments.fresh import deepened, fresh_policy, needs_an_actor, set_noise, with_policy
from unstuck.treatments.initial import convolutional, unit_variance
from unstuck.treatments.states import States, discounted, rows_for, softened

STD = 0.3
"""Standard deviation after a transplant, as a share of half the range."""
ENTROPY = 0.3
"""Floor of a transplanted policy's mean entropy, as a share of ln n, where actions are discrete."""
PASSES, PASSES_OF_IMAGES, FEWEST = 60, 24, 10
IMAGES = 300_000
"""About how many images are learnt from, with repetition, in as many passes as that makes: a convolution takes half a
millisecond of a core for each."""
BATCH = 256
LEARNING_RATE = 1e-3
RATE_OF_IMAGES = 2.5e-4
"""Where a unit has thousands of inputs one step of 1e-3 moves it by more than its spread: of the 64 units behind
NatureCNN's convolutions, 15 were left that ever answered after the first passes; with this rate 52 are."""
BLOCK, EVERY = 50, 10
"""Every tenth block of so many states in a row is held out of the fit, to judge it by."""
NEAR = 0.25
"""An action this close to the agent's own, in half ranges, counts as the same; and so does a discrete one that the
agent itself finds as likely as its favourite, up to `AS_LIKELY`."""
AS_LIKELY = 0.1
FAITHFUL = 0.85
"""Share of the held-out actions that must be the same: below, the new network is another agent."""
NOTE = "transplanted into a new network"


@dataclass(frozen=True)
class Fit:
    """How well the new network does what the old one did."""

    actor: float
    """Mean squared error of the mean in half ranges (Box), or Kullback-Leibler divergence in nats (Discrete)."""
    explained: float
    """Explained variance of the returns by the new critic."""
    agreement: float
    """Share of the actions in held-out states that are the same as the agent's."""

    @property
    def faithful(self) -> bool:
        """Whether the new network does what the agent does."""
        return self.agreement >= FAITHFUL


def transplant(
    agent: Agent,
    states: States,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    seed: int,
    *,
    std: float = STD,
    passes: int | None = None,
) -> tuple[Agent, Fit]:
    """The agent in a new network of its own shape (if that is linear, one with hidden layers), with noise inside the
    bounds, and a critic in the task's reward.

    Adam with a learning rate of 1e-3 (with convolutions 2.5e-4) that falls to zero by a cosine. The critic is fitted to
    the discounted returns of the same data, which saves its warm-up; after two thirds of the passes, what lies beyond
    cuts is valued by itself.

    Raises:
        AgentError: actions are neither Box nor Discrete, or it is an agent of another kind than PPO's.
    """
    if not isinstance(action_space, (spaces.Box, spaces.Discrete)):
        raise AgentError("a transplant knows one Box or one Discrete action")
    needs_an_actor(agent, "a transplant")
    agent = deepened(agent)
    policy = fresh_policy(agent, observation_space, action_space, seed)
    set_noise(policy, action_space, std)
    unit_variance(policy, states, seed)
    fitting = _Fitting(policy, agent, states, action_space, seed)
    rate, usual = LEARNING_RATE, PASSES
    if convolutional(policy):
        rate, usual = RATE_OF_IMAGES, passes_of_images(len(states))
        channels_last(policy)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fit = fitting.run(usual if passes is None else passes, rate)
    return with_policy(agent, policy, NOTE, agent.normalization), fit


def passes_of_images(count: int) -> int:
    """How often so many images are learnt from."""
    return max(FEWEST, min(PASSES_OF_IMAGES, IMAGES // max(1, count)))


class _Fitting:
    """Fits actor and critic at once; they share nothing but, with images, the features."""

    def __init__(self, policy: ActorCriticPolicy, agent: Agent, states: States, space: spaces.Space, seed: int):
        self._policy, self._states, self._agent = policy, states, agent
        self._rows = rows_for(states.observations)
        self._gamma = float(agent.hyperparameters.get("gamma") or 0.99)
        self._rng = np.random.default_rng([seed, 78])
        self._targets, self._half = _targets(states, space)
        self._bounds = (space.low.reshape(-1), space.high.reshape(-1)) if isinstance(space, spaces.Box) else None
        held = np.arange(len(states)) // BLOCK % EVERY == EVERY - 1
        self._held, self._fitted = np.flatnonzero(held), np.flatnonzero(~held)

    def run(self, passes: int, rate: float) -> Fit:
        policy, count = self._policy, len(self._fitted)
        policy.set_training_mode(True)
        per_pass = -(-count // BATCH)
        optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, passes * per_pass)
        pieces = len(self._states.ends)
        beyond = np.full(pieces, self._states.rewards.mean() / (1 - self._gamma))
        returns = discounted(self._states, self._gamma, beyond)
        centre, scale = float(returns.mean()), float(returns.std()) or 1.0
        for number in range(passes):
            if number == 2 * passes // 3:
                beyond = self._values(self._states.last) * scale + centre
                returns = discounted(self._states, self._gamma, beyond)
            standard = torch.as_tensor((returns - centre) / scale, dtype=torch.float32)
            order = self._rng.permutation(self._fitted)
            for first in range(0, count, BATCH):
                some = order[first : first + BATCH]
                actor, values = self._outputs(self._states.at(some))
                loss = self._actor_loss(actor, some) + (values - standard[some]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        policy.set_training_mode(False)
        return self._finish(returns, centre, scale)

    def _finish(self, returns: np.ndarray, centre: float, scale: float) -> Fit:
        """Put the critic into the task's unit, and say how well all was fitted."""
        found, count = self._values(self._states.observations), len(self._states)
        residual = returns - (found * scale + centre)
        with torch.no_grad():
            self._policy.value_net.weight.mul_(scale)
            self._policy.value_net.bias.mul_(scale).add_(centre)
            parts = [np.arange(count)[i : i + self._rows] for i in range(0, count, self._rows)]
            actor = sum(
                len(p) * float(self._actor_loss(self._outputs(self._states.at(p))[0], p, report=True)) for p in parts
            )
        explained = 1.0 - float(residual.var() / max(returns.var(), 1e-12))
        return Fit(actor / count, explained, self._agreement())

    def _agreement(self) -> float:
        some = self._held if len(self._held) else self._fitted
        parts = [some[i : i + self._rows] for i in range(0, len(some), self._rows)]
        with torch.no_grad():
            found = np.concatenate([self._outputs(self._states.at(part))[0].numpy() for part in parts])
        if self._half is not None:
            assert self._bounds is not None
            away = np.abs(np.clip(found, *self._bounds) - self._targets[some].numpy()) / self._half.numpy()
            return float((away <= NEAR).mean())
        assert self._states.probabilities is not None
        own = self._states.probabilities[some]
        return float((own[np.arange(len(some)), found.argmax(axis=1)] >= own.max(axis=1) - AS_LIKELY).mean())

    def _outputs(self, obs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, A) means or logits, and (B,) values."""
        policy: Any = self._policy
        n = self._agent.normalization
        features = policy.extract_features(policy.obs_to_tensor(n.apply(obs) if n else obs)[0])
        for_actor, for_critic = features if isinstance(features, tuple) else (features, features)
        latent = policy.mlp_extractor.forward_actor(for_actor)
        values = policy.value_net(policy.mlp_extractor.forward_critic(for_critic))
        return policy.action_net(latent), values.reshape(-1)

    def _values(self, obs: Any) -> np.ndarray:
        first = next(iter(obs.values())) if isinstance(obs, dict) else obs
        found = []
        with torch.no_grad():
            for i in range(0, len(first), self._rows):
                found.append(self._outputs(rows_of(obs, slice(i, i + self._rows)))[1].numpy())
        return np.concatenate(found).astype(np.float64)

    def _actor_loss(self, outputs: torch.Tensor, some: np.ndarray, report: bool = False) -> torch.Tensor:
        target = self._targets[some]
        if self._half is not None:
            # Equal pull in each dimension, whatever its range.
            return ((outputs - target) / self._half).square().mean()
        logs = torch.log_softmax(outputs, dim=1)
        cross = -(target * logs).sum(dim=1).mean()
        return cross + (target * torch.log(target.clamp_min(1e-12))).sum(dim=1).mean() if report else cross


def _targets(states: States, space: spaces.Space) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the actor is fitted to: (N, A) clipped means with (A,) half ranges, or (N, n) softened probabilities."""
    if isinstance(space, spaces.Discrete):
        assert states.probabilities is not None
        return torch.as_tensor(softened(states.probabilities, ENTROPY), dtype=torch.float32), None
    modes = states.modes.reshape(len(states), -1).astype(np.float64)
    half = (space.high.astype(np.float64) - space.low).reshape(-1) / 2  # type: ignore[attr-defined]
    half = np.where(np.isfinite(half) & (half > 0), half, np.maximum(modes.std(axis=0), 1e-6))
    return torch.as_tensor(modes, dtype=torch.float32), torch.as_tensor(half, dtype=torch.float32)
