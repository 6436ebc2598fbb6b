"""Fresh convolutions whose units answer to what the agent sees.

Frames of a game are nearly the same everywhere and always: what matters is a ball of two pixels. A new network's first
layers then give nearly the same in all states, and for a long time no gradient says otherwise. So each layer's weights
are divided by the standard deviation of its outputs over the states, and its biases shifted so that their mean is zero,
unit by unit, layer after layer (Mishkin and Matas, "All you need is a good init", ICLR 2016; Krähenbühl et al.,
"Data-dependent Initializations of Convolutional Neural Networks", ICLR 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from unstuck.treatments.states import States

SAMPLE = 256
"""States that are looked at."""
SMALLEST = 1e-4
"""Below this standard deviation a unit is left as large as if it had this one: it answers to nothing."""


def unit_variance(policy: ActorCriticPolicy, states: States, seed: int) -> None:
    """Scale and shift, in place, the layers of a policy's convolutional features so that each unit's output has mean 0
    and standard deviation 1 over the states. Policies without convolutions are left as they are.

    Args:
        policy: with new weights.
        states: that the agent visits.
        seed: by which `SAMPLE` of them are chosen.
    """
    layers = list(_layers(policy))
    if not layers:
        return
    rng = np.random.default_rng([seed, 79])
    some = np.sort(rng.choice(len(states), min(SAMPLE, len(states)), replace=False))
    obs = policy.obs_to_tensor(states.at(some))[0]
    for layer in layers:
        _standardize(policy, layer, obs)


def convolutional(policy: ActorCriticPolicy) -> bool:
    """Whether it sees by convolutions."""
    return any(isinstance(module, nn.Conv2d) for module in policy.modules())


def _layers(policy: ActorCriticPolicy) -> Iterator[nn.Conv2d | nn.Linear]:
    """The layers of the features extractors that have convolutions, in their order, each once."""
    extractors = [getattr(policy, f"{name}features_extractor", None) for name in ("", "pi_", "vf_")]
    seen: set[int] = set()
    for extractor in extractors:
        if not isinstance(extractor, nn.Module) or not any(isinstance(m, nn.Conv2d) for m in extractor.modules()):
            continue
        for module in extractor.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and id(module) not in seen:
                seen.add(id(module))
                yield module


@torch.no_grad()
def _standardize(policy: Any, layer: nn.Conv2d | nn.Linear, obs: Any) -> None:
    outputs: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    policy.extract_features(obs)
    hook.remove()
    if not outputs:
        return  # a layer that these observations do not pass
    values = outputs[0].transpose(0, 1).flatten(1)  # (units, states x places)
    mean, std = values.mean(dim=1), values.std(dim=1).clamp_min(SMALLEST)
    layer.weight.div_(std.view(-1, *(1,) * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.sub_(mean).div_(std)
