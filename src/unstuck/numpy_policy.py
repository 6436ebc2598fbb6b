"""A policy in plain numpy, for processes that have no torch and for small batches, where torch's overhead costs many
times the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from unstuck.agents.normalization import Normalization
    from unstuck.algorithms import base

Array = np.ndarray


class Policy(Protocol):
    """What episodes and branches need of a policy: to act. `unstuck.algorithms.Policy` is one, and `NumpyPolicy`."""

    def act(
        self, obs_raw: Any, deterministic: bool = ..., rngs: Sequence[np.random.Generator] | None = ...
    ) -> Array: ...


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"Tanh": np.tanh, "ReLU": _relu, "ELU": _elu}


class Head(Protocol):
    """From a network's outputs, rounded to float32, to actions; the same code for numpy's networks and torch's."""

    def __call__(self, x: Array, deterministic: bool, rngs: Sequence[np.random.Generator], space: Any) -> Array:
        """Outputs (N, out) float64 → actions (N, *action_shape) to execute; N generators where actions are sampled."""
        ...


def _noise(rngs: Sequence[np.random.Generator], size: int) -> Array:
    return np.stack([rng.standard_normal(size) for rng in rngs])


def stretch(squashed: Array, space: Any) -> Array:
    """(N, A) in [-1, 1] → (N, *action_shape) within the bounds of a Box."""
    low, high = space.low, space.high
    stretched = low + 0.5 * (squashed.reshape(-1, *space.shape) + 1.0) * (high - low)
    return np.minimum(np.maximum(stretched, low), high).astype(space.dtype)


@dataclass(frozen=True)
class Gaussian:
    """Means → actions, clipped to the bounds."""

    std: Array
    """(A,)."""

    def __call__(self, x: Array, deterministic: bool, rngs: Sequence[np.random.Generator], space: Any) -> Array:
        if not deterministic:
            x = x + self.std * _noise(rngs, len(self.std))
        x = x.astype(np.float32).reshape(-1, *space.shape)
        return np.minimum(np.maximum(x, space.low), space.high).astype(space.dtype, copy=False)


@dataclass(frozen=True)
class Categorical:
    """Probabilities → actions."""

    def __call__(self, x: Array, deterministic: bool, rngs: Sequence[np.random.Generator], space: Any) -> Array:
        if deterministic:
            return np.argmax(x, axis=1).astype(space.dtype)
        cumulative = np.cumsum(x, axis=1)
        draws = np.array([rng.random() for rng in rngs])
        chosen = np.sum(draws[:, None] * cumulative[:, -1:] >= cumulative, axis=1)
        return np.minimum(chosen, x.shape[1] - 1).astype(space.dtype)


@dataclass(frozen=True)
class EpsilonGreedy:
    """Q(s, a) of each action → the action of the largest; sampled: any other or the same with probability epsilon."""

    epsilon: float

    def __call__(self, x: Array, deterministic: bool, rngs: Sequence[np.random.Generator], space: Any) -> Array:
        greedy = np.argmax(x, axis=1)
        if not deterministic and self.epsilon > 0:
            # One number for each row: below epsilon it says which action, spread over [0, epsilon).
            draws = np.array([rng.random() for rng in rngs])
            any_action = np.minimum(draws / self.epsilon * x.shape[1], x.shape[1] - 1).astype(np.int64)
            greedy = np.where(draws < self.epsilon, any_action, greedy)
        return (greedy + int(getattr(space, "start", 0))).astype(space.dtype)


@dataclass(frozen=True)
class SquashedGaussian:
    """Means and logarithms of standard deviations (N, 2A) → tanh of the Gaussian, stretched to the bounds."""

    low: float = -20.0
    high: float = 2.0
    """What the logarithm is clipped to, as SAC does."""

    def __call__(self, x: Array, deterministic: bool, rngs: Sequence[np.random.Generator], space: Any) -> Array:
        mean, log_std = np.split(x, 2, axis=1)
        if not deterministic:
            mean = mean + np.exp(np.clip(log_std, self.low, self.high)) * _noise(rngs, mean.shape[1])
        return stretch(np.tanh(mean), space)


@dataclass(frozen=True)
class Bounded:
    """Actions in [-1, 1] → stretched to the bounds; sampled: with Gaussian noise, as TD3 explores."""

    noise: float
    """Its standard deviation, of half the range."""

    def __call__(self, x: Array, deterministic: bool, rngs: Sequence[np.random.Generator], space: Any) -> Array:
        if not deterministic:
            x = np.clip(x + self.noise * _noise(rngs, x.shape[1]), -1.0, 1.0)
        return stretch(x, space)


@dataclass(frozen=True)
class NumpyPolicy:
    """A policy of linear layers in numpy, with the results of torch's: computed in float64 and rounded to float32 at
    the same places, so that neither the library nor the batch shows. Picklable."""

    layers: tuple[tuple[Array, Array, str], ...]
    """(inputs, outputs) weights, (outputs,) bias and the name of the activation, '' for none."""
    head: Head
    normalization: tuple[Array, Array, float] | None
    """Mean and standard deviation of the observation, and the bound after scaling."""
    discrete_obs: int | None
    """n of a Discrete observation, which is one-hot encoded."""
    action_space: spaces.Space
    sure: bool = False
    """Whether it takes the most likely action whatever it is asked for."""

    def act(self, obs_raw: Any, deterministic: bool = True, rngs: Sequence[np.random.Generator] | None = None) -> Array:
        """As `unstuck.algorithms.Policy.act`; rngs must be given where actions are sampled."""
        deterministic = deterministic or self.sure
        if not deterministic and (rngs is None or len(rngs) != len(obs_raw)):
            raise ValueError(f"{len(obs_raw)} observations need as many generators")
        return self.head(self._output(np.asarray(obs_raw)), deterministic, rngs or (), self.action_space)

    def _output(self, obs: Array) -> Array:
        """(N, outputs), probabilities where the head is categorical, rounded to float32."""
        if self.normalization is not None:
            mean, std, bound = self.normalization
            obs = np.minimum(np.maximum((obs - mean) / std, -bound), bound)
        if self.discrete_obs is not None:
            x = np.eye(self.discrete_obs)[obs.reshape(-1).astype(np.int64)]
        else:
            x = obs.astype(np.float32).astype(np.float64).reshape(len(obs), -1)
        for weights, bias, activation in self.layers:
            x = x @ weights + bias
            if activation:
                x = _ACTIVATIONS[activation](x)
        if isinstance(self.head, Categorical):
            x = np.exp(x - x.max(axis=1, keepdims=True))
            x /= x.sum(axis=1, keepdims=True)
        return x.astype(np.float32).astype(np.float64)


def linear_policy(
    modules: Sequence[Any], head: Head, normalization: Normalization | None,
    observation_space: spaces.Space, action_space: spaces.Space,
) -> NumpyPolicy | None:  # fmt: skip
    """torch's linear layers and activations, in their order, as a policy in numpy; None where one of them, or the
    space, is of another kind."""
    space, layers = observation_space, _layers(modules)
    flat = isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and len(space.shape) < 3)
    if layers is None or not flat:
        return None
    states = int(space.n) if isinstance(space, spaces.Discrete) else None
    return NumpyPolicy(layers, head, _statistics(normalization), states, action_space)


def numpy_policy(actor: base.Policy) -> NumpyPolicy | None:
    """The policy in numpy; None where it is of a kind that only torch computes (images, dicts, gSDE...)."""
    return actor.plain()


def _layers(modules: Sequence[Any]) -> tuple[tuple[Array, Array, str], ...] | None:
    layers: list[tuple[Array, Array, str]] = []
    for module in modules:
        name = type(module).__name__
        if name == "Linear":
            weights = np.ascontiguousarray(module.weight.detach().double().numpy().T)
            layers.append((weights, module.bias.detach().double().numpy().copy(), ""))
        elif name in _ACTIVATIONS and layers and not layers[-1][2] and getattr(module, "alpha", 1.0) == 1.0:
            layers[-1] = (*layers[-1][:2], name)
        else:
            return None
    return tuple(layers)


def _statistics(n: Normalization | None) -> tuple[Array, Array, float] | None:
    if n is None or not n.norm_obs or isinstance(n.obs_mean, dict):
        return None
    return np.asarray(n.obs_mean), np.sqrt(np.asarray(n.obs_var) + n.epsilon), float(n.clip_obs)
