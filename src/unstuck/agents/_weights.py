"""Bringing the weights of older Stable-Baselines3 versions to the layout of the current one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

Weights = dict[str, torch.Tensor]


def modernize(state: Weights, kwargs: Mapping[str, Any]) -> tuple[Weights, dict[str, Any], list[str]]:
    """Weights and policy arguments that current SB3 loads strictly, computing the same function.

    Returns:
        (weights, policy arguments, notes on what was changed).
    """
    state, made, notes = dict(state), dict(kwargs), []
    arch = made.get("net_arch")
    if any(key.startswith("mlp_extractor.shared_net.") for key in state):
        state, made["net_arch"] = _unshare(state, arch)
        notes.append("layers shared by actor and critic (SB3 before 1.8) were copied into both: same outputs")
    elif isinstance(arch, (list, tuple)) and arch and isinstance(arch[-1], Mapping):
        made["net_arch"] = dict(arch[-1])
    if not made.get("share_features_extractor", True):
        return state, made, notes
    for key in [k for k in state if k.startswith("features_extractor.")]:
        # SB3 before 1.7 stored a shared features extractor once, later versions under three names.
        state.setdefault(f"pi_{key}", state[key])
        state.setdefault(f"vf_{key}", state[key])
    return state, made, notes


def _unshare(state: Weights, arch: Any) -> tuple[Weights, dict[str, list[int]]]:
    """Put the shared layers in front of both heads; layer i of a head becomes layer i + (shared layers)."""
    shared = {k: v for k, v in state.items() if k.startswith("mlp_extractor.shared_net.")}
    depth = len({k.split(".")[2] for k in shared})
    offset = 2 * depth  # a Linear and its activation
    moved: Weights = {}
    for key, tensor in state.items():
        head = re.fullmatch(r"mlp_extractor\.(policy_net|value_net)\.(\d+)\.(\w+)", key)
        if key in shared:
            _, _, index, kind = key.split(".")
            for net in ("policy_net", "value_net"):
                moved[f"mlp_extractor.{net}.{index}.{kind}"] = tensor.clone()
        elif head:
            moved[f"mlp_extractor.{head[1]}.{int(head[2]) + offset}.{head[3]}"] = tensor
        else:
            moved[key] = tensor
    sizes = {net: _widths(moved, net) for net in ("policy_net", "value_net")}
    return moved, {"pi": sizes["policy_net"], "vf": sizes["value_net"]}


def _widths(state: Weights, net: str) -> list[int]:
    pattern = re.compile(rf"mlp_extractor\.{net}\.(\d+)\.weight")
    layers = sorted((int(m[1]), t.shape[0]) for k, t in state.items() if (m := pattern.fullmatch(k)))
    return [int(width) for _, width in layers]
