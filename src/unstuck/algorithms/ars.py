"""ARS (Mania et al. 2018, arXiv 1803.07055), as sb3-contrib has it: random search in the space of weights.

Its policy is deterministic, in both modes, and has no critic. It is read as an actor-critic policy that does exactly
the same, so that PPO can go on with it: what is missing there, noise and a critic, is added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from unstuck.agents.actor import Actor
from unstuck.agents.types import Agent
from unstuck.algorithms.base import Archive, Policy
from unstuck.algorithms.on_policy import OnPolicy
from unstuck.errors import AgentError
from unstuck.numpy_policy import NumpyPolicy

CRITIC = (64, 64)
"""Units of the critic that is added."""
STD = 0.3
"""Standard deviation that is added to actions, as a share of half the range, as after a transplant."""
SURE = 3.0
"""Nats between the two likeliest actions, where actions are a choice: ARS takes the likeliest, and its outputs may
differ by so little that a sample would be any."""
PROBES, NUMBERS = 1000, 10_000_000
"""Inputs by which these are set, of unit variance where the agent's own are not known; and numbers in them, at most."""
Array = np.ndarray
_LINEAR = "LinearPolicy"
_NETWORK = "action_net."
Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""(weight, bias) of each linear layer."""


class SureActor(Actor):
    """Takes the most likely action in both modes, as ARS does."""

    def act(self, obs_raw: Any, deterministic: bool = True, rngs: Sequence[np.random.Generator] | None = None) -> Array:
        return super().act(obs_raw, True, rngs)

    def plain(self) -> NumpyPolicy | None:
        made = super().plain()
        return None if made is None else replace(made, sure=True)


class ARS(OnPolicy):
    name = "ARS"
    marks = frozenset({"n_delta"})
    policies: ClassVar[Mapping[str, str]] = {
        "sb3_contrib.ars.policies.ARSPolicy": "MlpPolicy",
        "sb3_contrib.ars.policies.ARSLinearPolicy": _LINEAR,
    }
    policy_arguments = frozenset({"net_arch", "activation_fn", "with_bias", "squash_output"})
    added = "no critic and no noise in its actions: what is there was added, for PPO to go on with"
    unspoken = frozenset(
        {"explained-variance", "noise", "noise-left-by-clipping", "entropy", "deterministic-against-sampled"}
    )

    def hyperparameters(self, archive: Archive, notes: list[str]) -> dict[str, Any]:
        """Of ARS's own numbers none means anything to PPO: its learning rate is a step in the space of weights."""
        kept = {k: archive.data.get(k) for k in ("num_timesteps", "n_envs", "seed")}
        return {k: v for k, v in kept.items() if isinstance(v, int)}

    def actor(self, policy: Any, agent: Agent, action_space: spaces.Space, seed: int) -> Policy:
        return SureActor(policy, agent.normalization, action_space, seed)

    def completed(self, agent: Agent) -> Agent:
        """An agent with an actor-critic policy of the same deterministic actions.

        Raises:
            AgentError: its weights are not those of an ARS policy, or its action space could not be read.
        """
        try:
            return self._completed(agent)
        except AgentError:
            raise
        except Exception as error:  # shapes and names are the file's
            raise AgentError(
                f"{agent.path}: its weights are not those of an ARS policy ({type(error).__name__}: {error})"
            ) from error

    def _completed(self, agent: Agent) -> Agent:
        space, layers = agent.action_space, _layers(agent)
        if not isinstance(space, (spaces.Box, spaces.Discrete)) or not layers:
            raise AgentError(f"{agent.path}: an agent of ARS with neither Box nor Discrete actions, or without weights")
        squashed = False
        if isinstance(space, spaces.Box):
            squashed = bool(agent.policy_kwargs.get("squash_output", agent.policy_class_name != _LINEAR))
            if squashed and not space.is_bounded():
                raise AgentError(f"{agent.path}: its actions end in a tanh, and the action space has no bounds")
        activation = agent.policy_kwargs.get("activation_fn", torch.nn.ReLU)
        kwargs: dict[str, Any] = {
            "net_arch": {"pi": [int(weight.shape[0]) for weight, _ in layers[:-1]], "vf": list(CRITIC)},
            "activation_fn": activation,
        }
        if squashed:
            kwargs["squash_output"] = True
        inputs = _probes(agent, int(layers[0][0].shape[1]))
        if isinstance(space, spaces.Discrete):
            layers[-1] = _surer(layers, activation, inputs)
        weights = _actor(layers) | _critic(inputs.shape[1], activation)
        if isinstance(space, spaces.Box):
            weights["log_std"] = _sde(layers, activation, inputs) if squashed else _gaussian(space)
        said = (
            "its policy is that of ARS, with no noise in its actions and no critic: it acts alike in both modes, and "
            "what PPO needs to go on is added"
        )
        hyperparameters = {**agent.hyperparameters, "use_sde": squashed, "sde_sample_freq": 4 if squashed else -1}
        return replace(
            agent, policy_class_name="MlpPolicy", policy_kwargs=kwargs, state_dict=weights,
            hyperparameters=hyperparameters, notes=(*agent.notes, said),
        )  # fmt: skip


def _layers(agent: Agent) -> Layers:
    """Of its policy; where it has no biases they are zero."""
    held = agent.state_dict
    found = sorted(int(k.split(".")[1]) for k in held if k.startswith(_NETWORK) and k.endswith(".weight"))
    weights = [held[f"{_NETWORK}{number}.weight"] for number in found]
    biases = [held.get(f"{_NETWORK}{number}.bias") for number in found]
    return [(w, torch.zeros(w.shape[0]) if b is None else b) for w, b in zip(weights, biases, strict=True)]


def _actor(layers: Layers) -> dict[str, torch.Tensor]:
    """Each hidden layer stands before its activation, which has no weights: hence every second number."""
    names = [*(f"mlp_extractor.policy_net.{2 * k}" for k in range(len(layers) - 1)), "action_net"]
    return {
        f"{name}.{part}": tensor.float()
        for name, layer in zip(names, layers, strict=True)
        for part, tensor in zip(("weight", "bias"), layer, strict=True)
    }


def _critic(inputs: int, activation: Any) -> dict[str, torch.Tensor]:
    """Hidden layers that can learn, and a value of zero everywhere."""
    space = spaces.Box(-1.0, 1.0, (inputs,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = ActorCriticPolicy(
            space, spaces.Discrete(2), lambda _: 3e-4, net_arch={"pi": [], "vf": list(CRITIC)}, activation_fn=activation
        )
    torch.nn.init.zeros_(policy.value_net.weight)
    return {k: v for k, v in policy.state_dict().items() if ".value_net." in k or k.startswith("value_net.")}


def _probes(agent: Agent, width: int) -> torch.Tensor:
    """(N, width) inputs of the network: what may be seen, where that is bounded or an index, and is not rescaled."""
    space, rng, count = agent.observation_space, np.random.default_rng(0), max(1, min(PROBES, NUMBERS // width))
    if isinstance(space, spaces.Discrete):
        return torch.eye(min(count, width), width)
    raw = agent.normalization is None or not agent.normalization.norm_obs
    if raw and isinstance(space, spaces.Box) and space.is_bounded():
        low, high = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
        return torch.as_tensor(rng.uniform(low, high, (count, width)), dtype=torch.float32)
    return torch.as_tensor(rng.standard_normal((count, width)), dtype=torch.float32)


def _latent(layers: Layers, activation: Any, inputs: torch.Tensor) -> torch.Tensor:
    """(N, units) what its last layer reads."""
    with torch.no_grad():
        for weight, bias in layers[:-1]:
            inputs = activation()(inputs @ weight.T + bias)
    return inputs


def _surer(layers: Layers, activation: Any, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Its last layer, scaled so that the likeliest action leads by `SURE`; the order of actions stays."""
    weight, bias = layers[-1]
    if len(weight) < 2:
        return weight, bias
    best = (_latent(layers, activation, inputs) @ weight.T + bias).topk(2, dim=1).values
    lead = float((best[:, 0] - best[:, 1]).mean())
    scale = max(1.0, SURE / lead) if lead > 0 else 1.0
    return weight * scale, bias * scale


def _gaussian(space: spaces.Box) -> torch.Tensor:
    """(A,) log-std."""
    half = torch.as_tensor((space.high - space.low).reshape(-1) / 2, dtype=torch.float32)
    return torch.log(STD * torch.where(torch.isfinite(half), half, 1.0))


def _sde(layers: Layers, activation: Any, inputs: torch.Tensor) -> torch.Tensor:
    """(units, A) log-std of gSDE, whose noise grows with what the last layer reads."""
    weight = layers[-1][0]
    size = float(_latent(layers, activation, inputs).square().sum(dim=1).mean().sqrt())
    return torch.full((weight.shape[1], weight.shape[0]), math.log(STD / max(size, 1e-3)))
