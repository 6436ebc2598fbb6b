"""An agent on inputs of one scale: what it does stays the same, what it can learn does not.

An input that can only be small (MountainCar's velocity lies within 0.07) hardly moves a network that sees it raw:
weights would have to grow to fourteen times their size before it counts, and Adam moves a weight by about the learning
rate in an update, whatever the input's scale. So such inputs are divided by half their range, as VecNormalize does with
statistics, and the first layers' weights multiplied by it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from gymnasium import spaces

from unstuck.agents.normalization import Normalization
from unstuck.agents.types import Agent

SMALL = 0.25
"""Inputs whose range is less than plus and minus this are rescaled."""
WIDE = 1e6
"""Bound on inputs after it: none is clipped."""


def rescaled(agent: Agent, observation_space: spaces.Space) -> Agent:
    """The same agent with statistics that bring small inputs to the range from -1 to 1, and weights that undo it; the
    agent itself where no input is small, where it has statistics already, or where its first layers are not found."""
    normalization = agent.normalization
    if normalization is not None and normalization.norm_obs:
        return agent
    plain = agent.policy_class_name == "MlpPolicy" and not any("features_extractor." in k for k in agent.state_dict)
    if not plain or not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
        return agent
    low, high = (np.asarray(b, dtype=np.float64) for b in (observation_space.low, observation_space.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(bounded, low, 0.0), np.where(bounded, high, 0.0)
    half = (high - low) / 2  # 0 where it is unbounded
    small = (half > 0) & (half < SMALL)
    actions = agent.action_space
    first = _first_layers(agent, len(half), int(np.prod(actions.shape)) if isinstance(actions, spaces.Box) else 0)
    if not small.any() or not first:
        return agent
    mean, scale = np.where(small, low + half, 0.0), np.where(small, half, 1.0)
    weights = dict(agent.state_dict)
    for name in first:
        old = weights[name].double()
        new, bias = old.clone(), f"{name.removesuffix('weight')}bias"
        new[:, : len(half)] = old[:, : len(half)] * torch.as_tensor(scale)
        weights[bias] = (weights[bias].double() + old[:, : len(half)] @ torch.as_tensor(mean)).float()
        weights[name] = new.float()
    statistics = Normalization(
        obs_mean=mean, obs_var=scale**2, clip_obs=WIDE, epsilon=0.0, norm_reward=False,
        gamma=float(agent.hyperparameters.get("gamma") or 0.99),
    )  # fmt: skip
    note = f"{int(small.sum())} of {len(half)} inputs, which can only be small, are scaled to the range from -1 to 1"
    return replace(agent, state_dict=weights, normalization=statistics, notes=(*agent.notes, note))


def _first_layers(agent: Agent, inputs: int, actions: int) -> list[str]:
    """Names of the weights that see the observation: first in their network, and as wide as it, or as it and an action
    (critics over actions have both)."""
    widths = {inputs, inputs + actions}
    return [
        name for name, value in agent.state_dict.items()
        if name.endswith(".0.weight") and value.ndim == 2 and value.shape[1] in widths
        and f"{name.removesuffix('weight')}bias" in agent.state_dict
    ]  # fmt: skip
