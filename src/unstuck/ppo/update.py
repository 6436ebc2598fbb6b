"""PPO's update (Schulman et al. 2017, equation 9, as Stable-Baselines3 has it) with analytic gradients.

Whatever does not depend on the weights is computed for all minibatches of an epoch at once: shuffling, normalised
advantages, statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from unstuck.ppo.adam import Adam
from unstuck.ppo.heads import Head
from unstuck.ppo.networks import ACTOR, CRITIC, Networks


@dataclass(frozen=True)
class Settings:
    """As the arguments of the same name of Stable-Baselines3's PPO."""

    batch_size: int
    n_epochs: int
    clip_range: float
    ent_coef: float
    vf_coef: float
    normalize_advantage: bool
    target_kl: float | None
    imitate: float = 0.0
    """Coefficient of the loss on suggestions."""
    whole_pull: float = 0.0
    """Share of a minibatch that must have a suggestion for its loss to be the mean over those that have one; where
    fewer have, it is less in proportion."""


@dataclass
class Samples:
    """A rollout of N samples, which are columns."""

    x: np.ndarray
    """(in + 1, N) float32, last row ones."""
    actions: np.ndarray
    """(act, N) float32 or (N,) int."""
    log_probs: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray
    targets: np.ndarray | None = None
    """Suggestions to imitate, as `actions`; only looked at where advised."""
    advised: np.ndarray | None = None
    """(N,) float32, 0 where there is no suggestion; else how hard it pulls, 1 on average."""

    def __len__(self) -> int:
        return len(self.returns)

    def shuffled(self, order: np.ndarray) -> Samples:
        return Samples(*(None if a is None else a[..., order] for a in vars(self).values()))  # type: ignore[arg-type]


@dataclass
class Statistics:
    """What PPO logs, one number for each minibatch."""

    policy_loss: list[float] = field(default_factory=list)
    value_loss: list[float] = field(default_factory=list)
    entropy_loss: list[float] = field(default_factory=list)
    clip_fraction: list[float] = field(default_factory=list)
    approx_kl: list[float] = field(default_factory=list)
    """Of the last epoch only."""
    imitation: list[float] = field(default_factory=list)
    """Loss on suggestions, of the minibatches that have any."""
    epochs: int = 0
    stopped: bool = False
    """Whether the KL divergence was too large to go on."""


class Update:
    """One `train` of PPO on one rollout."""

    def __init__(self, networks: Networks, head: Head, adam: Adam, settings: Settings):
        self.networks, self.head, self.adam, self.settings = networks, head, adam, settings
        self._actor, self._critic = adam.learns(ACTOR), adam.learns(CRITIC)

    def run(self, samples: Samples, permutation: Callable[[int], np.ndarray]) -> Statistics:
        """All epochs. The weights of `networks` change in place."""
        statistics = Statistics()
        size = len(samples)
        starts = np.arange(0, size, self.settings.batch_size)
        self._room = np.empty((5, size), np.float32)
        for _ in range(self.settings.n_epochs):
            epoch = samples.shuffled(permutation(size))
            if self.settings.normalize_advantage:
                _normalise(epoch.advantages, self.settings.batch_size)
            done = self._epoch(epoch, starts, statistics)
            self._summarise(starts, done, statistics)
            statistics.epochs += 1
            if statistics.stopped:
                break
        return statistics

    def _epoch(self, epoch: Samples, starts: np.ndarray, statistics: Statistics) -> int:
        """One pass over the samples; returns how many of them were seen."""
        weights = None
        if epoch.advised is not None and epoch.advised.any():
            counts = np.add.reduceat(epoch.advised, starts)
            sizes = np.diff(starts, append=len(epoch))
            each = np.repeat(np.maximum(counts, np.maximum(1.0, self.settings.whole_pull * sizes)), sizes)
            weights = epoch.advised / each.astype(np.float32)
        for start in starts.tolist():
            part = slice(start, min(start + self.settings.batch_size, len(epoch)))
            x, room = epoch.x[:, part], self.networks.room(part.stop - part.start)
            out, values = self.networks.forward(x, room)
            d_out = self._policy_gradient(epoch, part, out)
            error = np.subtract(values, epoch.returns[part], out=self._room[3, part])
            if self.settings.target_kl is not None and self._kl(part) > 1.5 * self.settings.target_kl:
                statistics.stopped = True
                return part.stop
            if weights is not None and epoch.targets is not None and weights[part].any():
                loss, gradient = self.head.imitate(epoch.targets[..., part], weights[part])
                statistics.imitation.append(loss)
                if d_out is not None:
                    d_out += self.settings.imitate * gradient
            d_value = error * (2 * self.settings.vf_coef / len(error)) if self._critic else None
            self.networks.backward(x, room, d_out, d_value)
            self.adam.step()
        return len(epoch)

    def _policy_gradient(self, epoch: Samples, part: slice, out: np.ndarray) -> np.ndarray | None:
        """The gradient of the clipped surrogate and the entropy by the actor's outputs; None if the actor is frozen."""
        log_ratio, ratio, surrogate, _, entropy = self._room[:, part]
        np.subtract(self.head.log_prob(out, epoch.actions[..., part]), epoch.log_probs[part], out=log_ratio)
        np.exp(log_ratio, out=ratio)
        advantages, clip = epoch.advantages[part], self.settings.clip_range
        free = advantages * ratio
        clipped = np.minimum(np.maximum(ratio, 1 - clip), 1 + clip)
        clipped *= advantages
        np.minimum(free, clipped, out=surrogate)
        entropy[...] = self.head.entropy()
        if not self._actor:
            return None
        # Where the clipped one is smaller it is constant; where they are equal the ratio is not clipped.
        weight = free * (free <= clipped)
        weight *= -1.0 / len(free)
        return self.head.gradient(weight, self.settings.ent_coef)

    def _kl(self, part: slice) -> float:
        """Estimate of the KL divergence from the policy that collected (http://joschu.net/blog/kl-approx.html)."""
        log_ratio, ratio = self._room[:2, part]
        return float(np.mean((ratio - 1) - log_ratio))

    def _summarise(self, starts: np.ndarray, done: int, statistics: Statistics) -> None:
        starts = starts[starts < done]
        sizes = np.diff(starts, append=done)
        log_ratio, ratio, surrogate, error, entropy = self._room[:, :done]

        def means(values: np.ndarray) -> list[float]:
            return (np.add.reduceat(values, starts) / sizes).tolist()

        statistics.policy_loss += means(-surrogate)
        statistics.value_loss += means(error * error)
        statistics.entropy_loss += means(-entropy)
        statistics.clip_fraction += means((np.abs(ratio - 1) > self.settings.clip_range).astype(np.float32))
        statistics.approx_kl = means((ratio - 1) - log_ratio)


def _normalise(advantages: np.ndarray, batch_size: int) -> None:
    """Zero mean and unit standard deviation in each minibatch, in place; a last one of a single sample stays."""
    whole = len(advantages) // batch_size * batch_size
    for part in (advantages[:whole].reshape(-1, batch_size), advantages[whole:].reshape(1, -1)):
        if part.size and part.shape[1] > 1:
            mean, std = part.mean(axis=1, keepdims=True), part.std(axis=1, ddof=1, keepdims=True)
            part -= mean
            part /= std + 1e-8
