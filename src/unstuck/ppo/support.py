"""Which policies of Stable-Baselines3 the fast PPO can compute, and where their layers are."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

_METHODS = (
    "forward", "evaluate_actions", "predict_values", "get_distribution", "extract_features",
    "_get_action_dist_from_latent",
)  # fmt: skip


def unsupported(policy: Any) -> str | None:
    """Why this policy cannot be computed without torch, in a few words; None if it can."""
    if any(getattr(type(policy), m, None) is not getattr(ActorCriticPolicy, m) for m in _METHODS):
        return f"{type(policy).__name__} has a forward pass of its own"
    if any(m in vars(policy) for m in _METHODS) or any(m._forward_hooks for m in policy.modules()):
        return "something is hooked to the policy's forward pass"
    if type(policy.features_extractor) is not FlattenExtractor or not policy.share_features_extractor:
        return f"its features extractor ({type(policy.features_extractor).__name__}) is not shared or not flat"
    if type(policy.action_dist) not in (DiagGaussianDistribution, CategoricalDistribution):
        return f"actions have a {type(policy.action_dist).__name__}"
    if not isinstance(policy.observation_space, (spaces.Box, spaces.Discrete)):
        return f"observations are {type(policy.observation_space).__name__}"
    if any(int(getattr(s, "start", 0)) for s in (policy.action_space, policy.observation_space)):
        return "a Discrete space does not start at 0"
    if type(policy.mlp_extractor) is not MlpExtractor or any(activation(policy, row) is None for row in (0, 1)):
        return "its networks are not linear layers with Tanh or ReLU between them"
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in policy.parameters()):
        return "its parameters are not float32 on the CPU"
    own = {id(p) for row in (0, 1) for m in linear_layers(policy, row) for p in m.parameters()}
    own |= {id(policy.log_std)} if hasattr(policy, "log_std") else set()
    return None if own == {id(p) for p in policy.parameters()} else "it has parameters beyond actor and critic"


def _trunk(policy: Any, row: int) -> list[nn.Module]:
    return list(policy.mlp_extractor.value_net if row else policy.mlp_extractor.policy_net)


def activation(policy: Any, row: int) -> type[nn.Module] | None:
    """The activation between the layers of the actor (row 0) or critic (row 1), None if it is not an MLP of ours."""
    modules = _trunk(policy, row)
    kinds = {type(m) for m in modules[1::2]} or {nn.Tanh}
    linear = [*modules[::2], policy.value_net if row else policy.action_net]
    fits = len(modules) % 2 == 0 and all(type(m) is nn.Linear and m.bias is not None for m in linear)
    return kinds.pop() if fits and len(kinds) == 1 and kinds <= {nn.Tanh, nn.ReLU} else None


def linear_layers(policy: Any, row: int) -> list[nn.Linear]:
    """The linear layers of the actor (row 0) or critic (row 1), the head last."""
    return [*_trunk(policy, row)[::2], policy.value_net if row else policy.action_net]  # type: ignore[list-item]
