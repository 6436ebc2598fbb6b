"""SAC (Haarnoja et al. 2018, arXiv 1812.05905), as Stable-Baselines3 has it."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from unstuck.agents.types import Agent
from unstuck.algorithms.acting import SquashedActor
from unstuck.algorithms.base import Policy
from unstuck.algorithms.off_policy import EntropyRegularised
from unstuck.algorithms.sb3 import policies


class SAC(EntropyRegularised):
    name = "SAC"
    marks = frozenset({"target_entropy"})
    policies = policies("stable_baselines3.sac.policies", "SACPolicy")

    def model_class(self) -> type:
        from stable_baselines3 import SAC

        return SAC

    def learner_class(self) -> type:
        from unstuck.sac.fast import FastSAC

        return FastSAC

    def actor(self, policy: Any, agent: Agent, action_space: spaces.Space, seed: int) -> Policy:
        return SquashedActor(policy, agent.normalization, action_space, seed)
