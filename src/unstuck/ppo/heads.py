"""The two action distributions: samples, log-probabilities, and gradients by what the actor's network gives.

Arrays have samples as columns: network outputs (act, B), continuous actions (act, B), discrete actions (B,).
Random numbers come from torch's generator, in the order in which Stable-Baselines3 draws them.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from unstuck.ppo.networks import Networks

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Gaussian:
    """Independent normal distributions with a standard deviation that does not depend on the state."""

    def __init__(self, networks: Networks, shape: tuple[int, ...]):
        assert networks.log_std is not None
        assert networks.log_std_gradient is not None
        self._log_std, self._gradient, self._shape = networks.log_std, networks.log_std_gradient, shape
        self._noise = torch.empty(0)

    def sample(self, out: np.ndarray) -> np.ndarray:
        """Actions (B, *shape)."""
        size = out.shape[::-1]
        if tuple(self._noise.shape) != size:
            self._noise = torch.empty(size)
        noise = self._noise.normal_().numpy()
        return (noise * np.exp(self._log_std) + out.T).reshape(-1, *self._shape)

    def mode(self, out: np.ndarray) -> np.ndarray:
        """(B, *shape)"""
        return np.ascontiguousarray(out.T).reshape(-1, *self._shape)

    def columns(self, actions: np.ndarray) -> np.ndarray:
        """(B, *shape) → (act, B)."""
        return np.ascontiguousarray(actions.reshape(len(actions), -1).T, dtype=np.float32)

    def log_prob(self, out: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """(B,); remembers what `gradient` and `imitate` need."""
        self._out = out
        self._inverse = np.exp(-self._log_std)[:, None]
        self._z = (actions - out) * self._inverse
        self._squares = self._z * self._z
        result = np.add.reduce(self._squares, axis=0)
        result *= -0.5
        result -= float(np.add.reduce(self._log_std)) + _HALF_LOG_2PI * len(self._log_std)
        return result

    def entropy(self) -> float | np.ndarray:
        """Of the states of the last `log_prob`; the same in all."""
        return float(np.add.reduce(self._log_std)) + (0.5 + _HALF_LOG_2PI) * len(self._log_std)

    def gradient(self, weight: np.ndarray, ent_coef: float) -> np.ndarray:
        """The gradient of Σ weight · log_prob − ent_coef · mean entropy by the outputs; that by log_std in place."""
        np.subtract(self._squares @ weight, float(np.add.reduce(weight)) + ent_coef, out=self._gradient)
        return self._z * (weight * self._inverse)

    def imitate(self, targets: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        """Σ weight · ½‖(mean − target)/std‖² and its gradient by the outputs (std is not to learn from it)."""
        distance = (self._out - targets) * self._inverse
        loss = 0.5 * float(np.add.reduce(distance * distance, axis=0) @ weight)
        return loss, distance * (weight * self._inverse)


class Categorical:
    """One of `act` actions, by their logits."""

    def __init__(self, networks: Networks, shape: tuple[int, ...]):
        assert networks.discrete

    def _normalise(self, out: np.ndarray) -> None:
        self._log = out - np.maximum.reduce(out, axis=0)
        self._p = np.exp(self._log)
        total = np.add.reduce(self._p, axis=0)
        self._p /= total
        self._log -= np.log(total)
        self._columns = np.arange(out.shape[1])

    def sample(self, out: np.ndarray) -> np.ndarray:
        """Actions (B,) int64."""
        self._normalise(out)
        # Contiguous rows: in which order torch draws its random numbers depends on the memory layout.
        return torch.multinomial(torch.from_numpy(np.ascontiguousarray(self._p.T)), 1, True).numpy()[:, 0]

    def mode(self, out: np.ndarray) -> np.ndarray:
        """(B,)"""
        return out.argmax(axis=0)

    def columns(self, actions: np.ndarray) -> np.ndarray:
        """(B,) or (B, 1) → (B,)."""
        return actions.reshape(-1).astype(np.intp)

    def log_prob(self, out: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """(B,); remembers what `gradient` and `imitate` need."""
        self._normalise(out)
        self._actions = actions
        return self._log[actions, self._columns]

    def entropy(self) -> float | np.ndarray:
        """(B,) of the states of the last `log_prob`."""
        self._entropy = -np.add.reduce(self._p * self._log, axis=0)
        return self._entropy

    def gradient(self, weight: np.ndarray, ent_coef: float) -> np.ndarray:
        """The gradient of Σ weight · log_prob − ent_coef · mean entropy by the outputs; after `entropy`."""
        result = self._p * -weight
        result[self._actions, self._columns] += weight
        if ent_coef:
            result += (ent_coef / len(weight)) * self._p * (self._log + self._entropy)
        return result

    def imitate(self, targets: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        """The cross-entropy Σ weight · −log p(target) and its gradient by the outputs."""
        loss = -float(self._log[targets, self._columns] @ weight)
        result = self._p * weight
        result[targets, self._columns] -= weight
        return loss, result


Head = Gaussian | Categorical


def head_for(networks: Networks, shape: tuple[int, ...]) -> Head:
    """The distribution of the policy's actions of this shape."""
    return (Categorical if networks.discrete else Gaussian)(networks, shape)
