"""Execution of suggestions: the paper's substitution of the action at critical states.

`policy.forward` is called only while PPO collects rollouts, not by `predict` or in the update: substituting there
stores the suggestion as the action taken, and leaves evaluation unguided by construction.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from stable_baselines3 import PPO

from unstuck.modulate.venv import GuidanceVecEnv


def attach_execution(model: PPO, source: GuidanceVecEnv, log_prob: Literal["suggestion", "mixed"]) -> None:
    """Make rollouts take suggested actions.

    Args:
        log_prob: `suggestion` stores the suggestion's log-prob under the policy, `mixed` that of the action which
            the policy itself had chosen. (The third way, `own`, needs only the wrapper: PPO never learns of the
            substitution.)
    """
    policy: Any = model.policy
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
