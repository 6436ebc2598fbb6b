"""DQN (Mnih et al. 2015), as Stable-Baselines3 has it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from gymnasium import spaces

from unstuck.agents.types import Agent
from unstuck.algorithms.acting import GreedyActor
from unstuck.algorithms.base import Policy, Training
from unstuck.algorithms.off_policy import OffPolicy, layers_of
from unstuck.algorithms.sb3 import first, policies
from unstuck.algorithms.settings import ReplaySettings

if TYPE_CHECKING:
    from unstuck.algorithms.imitating import Conservation, Imitation

EPSILON = 0.05
"""Exploration where a file names none: the default of Stable-Baselines3."""
EXPLORING = 0.2
"""Share of a training that begins anew over which exploration falls."""


class DQN(OffPolicy):
    name = "DQN"
    rate = 1e-4
    tau = 1.0
    marks = frozenset({"exploration_final_eps"})
    policies = policies("stable_baselines3.dqn.policies", "DQNPolicy")
    numbers: ClassVar[tuple[str, ...]] = (
        *OffPolicy.numbers, "target_update_interval", "exploration_final_eps", "exploration_rate", "max_grad_norm",
    )  # fmt: skip
    kept: ClassVar[tuple[str, ...]] = (
        *OffPolicy.kept, "target_update_interval", "exploration_fraction", "exploration_initial_eps",
        "exploration_final_eps", "max_grad_norm", "train_freq",
    )  # fmt: skip
    first_layers = ("q_net.q_net.0.weight",)
    network: ClassVar[str] = "q_net.q_net"
    """Where the layers are."""

    def model_class(self) -> type:
        from stable_baselines3 import DQN

        return DQN

    def actor(self, policy: Any, agent: Agent, action_space: spaces.Space, seed: int) -> Policy:
        return self.actor_class()(policy, agent.normalization, action_space, seed, epsilon=self.epsilon(agent))

    def actor_class(self) -> type[GreedyActor]:
        return GreedyActor

    def epsilon(self, agent: Agent) -> float:
        """The rate at which its last episodes explored."""
        stored = agent.hyperparameters
        return float(first(stored.get("exploration_final_eps"), stored.get("exploration_rate"), EPSILON))

    def arguments(self, agent: Agent, settings: ReplaySettings) -> dict[str, Any]:
        stored = agent.hyperparameters
        epsilon = float(first(settings.exploration, self.epsilon(agent)))
        found = {
            "target_update_interval": int(first(stored.get("target_update_interval"), 10_000)),
            "exploration_initial_eps": 1.0 if settings.anew else epsilon, "exploration_final_eps": epsilon,
            "exploration_fraction": EXPLORING,
        }  # fmt: skip
        return found | ({"max_grad_norm": stored["max_grad_norm"]} if "max_grad_norm" in stored else {})

    def imitation(self, model: Any, part: Any, training: Training) -> Imitation:
        from unstuck.algorithms.imitating import MarginLoss

        margin = training.config.replay.margin * _unit(training)
        return MarginLoss(model, part, partial(self.ratings, model), margin)

    def conservation(self, model: Any, coefficient: float, training: Training) -> Conservation:
        from unstuck.algorithms.imitating import Conservation

        return Conservation(model, partial(self.ratings, model), coefficient, _unit(training))

    def ratings(self, model: Any, obs: Any) -> Any:
        """(B, n) Q of all actions."""
        return model.q_net(obs)

    def action_outputs(self, agent: Agent) -> int | None:
        found = layers_of(agent, self.network)
        return int(agent.state_dict[found[-1]].shape[0]) if found else None

    def build_plain(self, plain: Any, policy: type) -> None:
        from stable_baselines3.common.utils import LinearSchedule

        super().build_plain(plain, policy)
        rates = plain.exploration_initial_eps, plain.exploration_final_eps, plain.exploration_fraction
        plain.exploration_schedule = LinearSchedule(*rates)
        plain.exploration_rate = plain.exploration_final_eps


def _unit(training: Training) -> float:
    """Of the task's rewards, as far as it is known."""
    guidance = training.guide.guidance
    return guidance.reward_scale if guidance is not None else 1.0
