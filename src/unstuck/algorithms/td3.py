"""TD3 (Fujimoto et al. 2018, arXiv 1802.09477) and DDPG (Lillicrap et al. 2016), which Stable-Baselines3 has as a TD3
with one critic, no delay and no noise in its targets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces

from unstuck.agents.types import Agent
from unstuck.algorithms.acting import BoundedActor
from unstuck.algorithms.base import Archive, Policy, Training
from unstuck.algorithms.off_policy import OffPolicy, exploration_noise, layers_of, least
from unstuck.algorithms.sb3 import NETWORK, first, policies
from unstuck.algorithms.settings import ReplaySettings

if TYPE_CHECKING:
    from unstuck.algorithms.imitating import Imitation

NOISE = 0.1
"""Exploration where a file names none: the paper's, as a share of half the range."""


class TD3(OffPolicy):
    name = "TD3"
    marks = frozenset({"policy_delay"})
    rate = 1e-3
    policies = policies("stable_baselines3.td3.policies", "TD3Policy")
    policy_arguments = NETWORK | {"n_critics", "share_features_extractor"}
    numbers: ClassVar[tuple[str, ...]] = (
        *OffPolicy.numbers,
        "policy_delay",
        "target_policy_noise",
        "target_noise_clip",
    )
    kept: ClassVar[tuple[str, ...]] = (
        *OffPolicy.kept,
        "policy_delay",
        "target_policy_noise",
        "target_noise_clip",
        "train_freq",
        "action_noise",
    )
    first_layers = ("actor.mu.0.weight",)

    def model_class(self) -> type:
        from stable_baselines3 import TD3

        return TD3

    def reads(self, archive: Archive) -> bool:
        return super().reads(archive) and _is_ddpg(archive.data) == (self.name == "DDPG")

    def hyperparameters(self, archive: Archive, notes: list[str]) -> dict[str, Any]:
        """Beside numbers `action_noise`: its standard deviation, of half the range of an action."""
        return {**super().hyperparameters(archive, notes), "action_noise": exploration_noise(archive)}

    def actor(self, policy: Any, agent: Agent, action_space: spaces.Space, seed: int) -> Policy:
        noise = float(first(agent.hyperparameters.get("action_noise"), NOISE))
        return BoundedActor(policy, agent.normalization, action_space, seed, noise=noise)

    def arguments(self, agent: Agent, settings: ReplaySettings) -> dict[str, Any]:
        from stable_baselines3.common.noise import NormalActionNoise

        stored = agent.hyperparameters
        noise = np.full(
            self.action_outputs(agent) or 1, float(first(settings.exploration, stored.get("action_noise"), NOISE))
        )
        own = ("policy_delay", "target_policy_noise", "target_noise_clip") if self.name == "TD3" else ()
        return {
            "action_noise": NormalActionNoise(np.zeros_like(noise), noise),
            **{name: stored[name] for name in own if stored.get(name) is not None},
        }

    def imitation(self, model: Any, part: Any, training: Training) -> Imitation:
        from unstuck.algorithms.imitating import ModeLoss

        return ModeLoss(
            model, part, lambda obs: model.actor(obs), partial(least, model),
            filtered=training.config.replay.q_filter,
        )  # fmt: skip

    def action_outputs(self, agent: Agent) -> int | None:
        found = layers_of(agent, "actor.mu")
        return int(agent.state_dict[found[-1]].shape[0]) if found else None

    def optimisers(self) -> tuple[str, ...]:
        return ("actor.optimizer", "critic.optimizer")


class DDPG(TD3):
    name = "DDPG"
    kept: ClassVar[tuple[str, ...]] = tuple(
        n for n in TD3.kept if n not in ("policy_delay", "target_policy_noise", "target_noise_clip")
    )

    def model_class(self) -> type:
        from stable_baselines3 import DDPG

        return DDPG


def _is_ddpg(data: Mapping[str, Any]) -> bool:
    return data.get("policy_delay") == 1 and data.get("target_noise_clip") == 0.0
