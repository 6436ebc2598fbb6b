"""A policy in plain numpy, for processes that have no torch and for small batches, where torch's overhead costs many
times the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from unstuck.agents import Actor

Array = np.ndarray


class Policy(Protocol):
    """What branches need of an agent: `unstuck.agents.Actor` is one."""

    def act(
        self, obs_raw: Any, deterministic: bool = ..., rngs: Sequence[np.random.Generator] | None = ...
    ) -> Array: ...


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"Tanh": np.tanh, "ReLU": _relu, "ELU": _elu}


@dataclass(frozen=True)
class NumpyPolicy:
    """`Actor.act` for MLPs with Gaussian or categorical actions, with the same results: computed in float64 and
    rounded to float32 at the same places, so that neither the library nor the batch shows. Picklable."""

    layers: tuple[tuple[Array, Array, str], ...]
    """(inputs, outputs) weights, (outputs,) bias and the name of the activation, '' for none."""
    std: Array | None
    """(A,) of a Gaussian, None for a categorical distribution."""
    normalization: tuple[Array, Array, float] | None
    """Mean and standard deviation of the observation, and the bound after scaling."""
    discrete_obs: int | None
    """n of a Discrete observation, which is one-hot encoded."""
    action_space: spaces.Space

    def act(self, obs_raw: Any, deterministic: bool = True, rngs: Sequence[np.random.Generator] | None = None) -> Array:
        """As `Actor.act`; rngs must be given where actions are sampled."""
        if not deterministic and (rngs is None or len(rngs) != len(obs_raw)):
            raise ValueError(f"{len(obs_raw)} observations need as many generators")
        x = self._output(np.asarray(obs_raw))
        if self.std is not None:
            if not deterministic:
                x = x + self.std * np.stack([rng.standard_normal(len(self.std)) for rng in rngs or ()])
            box: Any = self.action_space
            x = x.astype(np.float32).reshape(-1, *box.shape)
            return np.minimum(np.maximum(x, box.low), box.high).astype(box.dtype, copy=False)
        dtype: Any = self.action_space.dtype
        if deterministic:
            return np.argmax(x, axis=1).astype(dtype)
        cumulative = np.cumsum(x, axis=1)
        draws = np.array([rng.random() for rng in rngs or ()])
        chosen = np.sum(draws[:, None] * cumulative[:, -1:] >= cumulative, axis=1)
        return np.minimum(chosen, x.shape[1] - 1).astype(dtype)

    def _output(self, obs: Array) -> Array:
        """(N, A) means or probabilities, rounded to float32."""
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
        if self.std is None:
            x = np.exp(x - x.max(axis=1, keepdims=True))
            x /= x.sum(axis=1, keepdims=True)
        return x.astype(np.float32).astype(np.float64)


def numpy_policy(actor: Actor) -> NumpyPolicy | None:
    """The actor's policy in numpy; None where it is of a kind that only torch computes (images, dicts, gSDE...)."""
    from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor

    policy, space = actor.policy, actor.policy.observation_space
    if type(policy) is not ActorCriticPolicy or policy.squash_output:
        return None
    if type(policy.features_extractor) is not FlattenExtractor or type(policy.mlp_extractor) is not MlpExtractor:
        return None
    if not (isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and len(space.shape) < 3)):
        return None
    kind = _kind(policy.action_dist, DiagGaussianDistribution, CategoricalDistribution)
    layers = _layers([*policy.mlp_extractor.policy_net, policy.action_net])
    if kind is None or layers is None:
        return None
    return NumpyPolicy(
        layers,
        _float32(np.exp(policy.log_std.detach().double().numpy())) if kind == "gaussian" else None,
        _normalization(actor),
        int(space.n) if isinstance(space, spaces.Discrete) else None,
        actor.action_space,
    )


def _kind(distribution: Any, gaussian: type, categorical: type) -> Literal["gaussian", "categorical"] | None:
    if type(distribution) is gaussian:
        return "gaussian"
    return "categorical" if type(distribution) is categorical else None


def _float32(x: Array) -> Array:
    return x.astype(np.float32).astype(np.float64)


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


def _normalization(actor: Actor) -> tuple[Array, Array, float] | None:
    n = actor.normalization
    if n is None or not n.norm_obs or isinstance(n.obs_mean, dict):
        return None
    return np.asarray(n.obs_mean), np.sqrt(np.asarray(n.obs_var) + n.epsilon), float(n.clip_obs)
