"""The noise of a policy, which may be changed while what it does at its most likely stays: brought back where
exploration has died, and turned down where an agent is to be used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from gymnasium import spaces

from unstuck.agents import Agent
from unstuck.algorithms import algorithm_of
from unstuck.guide.noise import scale_for_entropy


def thaw(agent: Agent, action_space: spaces.Space, share: float, probabilities: np.ndarray | None = None) -> Agent:
    """The agent with its noise raised to a floor; its most likely actions stay the same, and so do all other weights.

    Saturated layers are not scaled back: that changes what the agent does, and ruins good agents that act at the
    bounds. `transplant` is the treatment for those.

    Args:
        share: of the most that the noise can be: the entropy's of ln n (Discrete; the output layer is scaled), the
            standard deviation's of half the range (Box).
        probabilities: (N, n) of discrete actions, in states that the agent visits.

    Returns:
        The same object where the noise is not below the floor, or of a kind that is not known.
    """
    weights = dict(agent.state_dict)
    if isinstance(action_space, spaces.Discrete):
        if probabilities is None or "action_net.weight" not in weights:
            return agent
        logits = np.log(np.maximum(probabilities, 1e-12))
        factor = scale_for_entropy(logits, share * float(np.log(probabilities.shape[1])))
        if factor == 1.0:
            return agent
        for name in ("action_net.weight", "action_net.bias"):
            weights[name] = weights[name] * factor
        return replace(agent, state_dict=weights, notes=(*agent.notes, f"logits scaled by {factor:.3g}"))
    half = (action_space.high - action_space.low).reshape(-1) / 2 if isinstance(action_space, spaces.Box) else None
    log_std = weights.get("log_std")
    if half is None or log_std is None or log_std.shape != half.shape or not np.isfinite(half).all():
        return agent
    floor = torch.as_tensor(np.log(share * half), dtype=log_std.dtype)
    if bool((log_std >= floor).all()):
        return agent
    weights["log_std"] = torch.maximum(log_std, floor)
    return replace(agent, state_dict=weights, notes=(*agent.notes, f"standard deviation raised to {share:g}"))


def quieter(agent: Agent, action_space: spaces.Space, share: float) -> Agent | None:
    """The agent with its noise at this share of what it is: the standard deviation of a Gaussian (of SAC's in every
    state, before the tanh), the temperature of discrete actions. Its most likely actions, and all other weights, stay
    the same.

    Returns:
        None where the noise is of a kind that is not known.
    """
    weights = dict(agent.state_dict)
    if not algorithm_of(agent).on_policy:
        if "actor.log_std.bias" not in weights:
            return None
        weights["actor.log_std.bias"] = weights["actor.log_std.bias"] + float(np.log(share))
    elif "log_std" in weights and isinstance(action_space, spaces.Box):
        weights["log_std"] = weights["log_std"] + float(np.log(share))
    elif "action_net.weight" in weights and not isinstance(action_space, spaces.Box):
        for name in ("action_net.weight", "action_net.bias"):
            weights[name] = weights[name] / share
    else:
        return None
    return replace(agent, state_dict=weights, notes=(*agent.notes, f"noise at {share:g} of what it was"))
