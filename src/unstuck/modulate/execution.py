"""Execution of suggestions: the paper's substitution of the action at critical states.

What is substituted while rollouts are collected is stored as the action taken. Evaluation stays unguided by
construction: neither `predict` nor the update passes through here.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3 import PPO

from unstuck.modulate.venv import GuidanceVecEnv
from unstuck.ppo.fast import FastPPO


class Execution:
    """What `FastPPO` asks for the actions to take (`unstuck.ppo.hooks.Substitution`)."""

    def __init__(self, source: GuidanceVecEnv, log_prob: Literal["suggestion", "mixed"]):
        self._source, self.log_prob = source, log_prob

    def substitute(self, actions: np.ndarray) -> np.ndarray:
        """(n_envs, ...) the policy's actions → with suggestions in place of those where advice applies or is held."""
        return self._source.substitute(actions)


def attach_execution(model: PPO, source: GuidanceVecEnv, log_prob: Literal["suggestion", "mixed"]) -> None:
    """Make rollouts take suggested actions.

    Args:
        log_prob: `suggestion` stores the suggestion's log-prob under the policy, `mixed` that of the action which
            the policy itself had chosen. (The third way, `own`, needs only the wrapper: PPO never learns of the
            substitution.)
    """
    if isinstance(model, FastPPO) and model.slow_because is None:
        model.substitution = Execution(source, log_prob)
    else:
        _hook(model.policy, source, log_prob)


def _hook(policy: Any, source: GuidanceVecEnv, log_prob: Literal["suggestion", "mixed"]) -> None:
    """`policy.forward` is called only while SB3's PPO collects rollouts: substitute there."""
    forward = policy.forward

    def guided_forward(obs: Any, deterministic: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        actions, values, own = forward(obs, deterministic)
        if not source.suggesting.any():
            return actions, values, own
        taken = torch.as_tensor(source.substitute(actions.cpu().numpy()), device=actions.device, dtype=actions.dtype)
        if log_prob == "mixed":
            return taken, values, own
        # SB3 keeps the distribution that it has just sampled from in `action_dist`.
        return taken, values, policy.action_dist.log_prob(taken)

    policy.forward = guided_forward
