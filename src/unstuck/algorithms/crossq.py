"""CrossQ (Bhatt et al., ICLR 2024, arXiv 1902.05605) of sb3-contrib: SAC without target networks, batches
normalised."""

from __future__ import annotations

from typing import Any, ClassVar

from unstuck.agents.types import Agent
from unstuck.algorithms.off_policy import EntropyRegularised
from unstuck.algorithms.sac import SAC
from unstuck.algorithms.sb3 import contrib, first
from unstuck.algorithms.settings import ReplaySettings

_TARGETS = ("tau", "target_update_interval")


class CrossQ(SAC):
    name = "CrossQ"
    rate = 1e-3
    tau = None
    marks = frozenset({"target_entropy", "policy_delay"})
    policies: ClassVar[dict[str, str]] = {"sb3_contrib.crossq.policies.CrossQPolicy": "MlpPolicy"}
    policy_arguments = EntropyRegularised.policy_arguments | {
        "full_std", "batch_norm", "batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps",
    }  # fmt: skip
    numbers: ClassVar[tuple[str, ...]] = (
        *(name for name in EntropyRegularised.numbers if name not in _TARGETS),
        "policy_delay",
    )
    kept: ClassVar[tuple[str, ...]] = (
        *(name for name in EntropyRegularised.kept if name not in _TARGETS),
        "policy_delay",
    )
    first_layers: ClassVar[tuple[str, ...]] = ("actor.latent_pi.1.weight", *EntropyRegularised.first_layers)

    def model_class(self) -> type:
        return contrib("CrossQ")

    def learner_class(self) -> type:
        return self.model_class()

    def arguments(self, agent: Agent, settings: ReplaySettings) -> dict[str, Any]:
        found = super().arguments(agent, settings)
        del found["target_update_interval"]
        return {**found, "policy_delay": int(first(agent.hyperparameters.get("policy_delay"), 3))}
