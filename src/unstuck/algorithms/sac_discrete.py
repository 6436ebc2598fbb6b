"""SAC for discrete actions, with which an agent may be begun again. Its agents are saved as agents of PPO, whose policy
they have: the likeliest actions are the same, sampled ones nearly those, and Stable-Baselines3 loads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unstuck.agents.normalization import Normalization
from unstuck.agents.training import write_agent
from unstuck.agents.types import Agent
from unstuck.algorithms.base import Archive, Trainer, Training
from unstuck.algorithms.on_policy import OnPolicy
from unstuck.algorithms.settings import ReplaySettings

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from unstuck.algorithms.imitating import Conservation, Imitation
    from unstuck.config import TrainConfig


SURE = 10.0
"""What logits are multiplied by in the zip. SAC holds its policy to an entropy for the sake of exploring; sampled, it
hovers where its likeliest actions land."""


class SACDiscrete(OnPolicy):
    name = "SACDiscrete"
    rate = 7e-4
    optimised: ClassVar[tuple[str, ...]] = ("policy.optimizer", "critic.optimizer", "ent_coef_optimizer")

    def reads(self, archive: Archive) -> bool:
        """None: in files its agents are PPO's."""
        return False

    def model_class(self) -> type:
        from unstuck.sac.discrete import DiscreteSAC

        return DiscreteSAC

    def learner_class(self) -> type:
        from unstuck.sac.fast_discrete import FastDiscreteSAC

        return FastDiscreteSAC

    def n_envs(self, config: TrainConfig) -> int:
        return config.replay.n_envs

    def quantum(self, agent: Agent, config: TrainConfig) -> int:
        from unstuck.algorithms.replaying import cadence

        return cadence(agent, config.replay)[0] * config.replay.n_envs

    def trainer(self, agent: Agent, venv: VecEnv, training: Training) -> Trainer:
        from unstuck.algorithms.discrete_training import DiscreteTrainer

        return DiscreteTrainer(self, agent, venv, training)

    def arguments(self, agent: Agent, settings: ReplaySettings) -> dict[str, Any]:
        return {}

    def optimisers(self) -> tuple[str, ...]:
        return self.optimised

    def imitation(self, model: Any, part: Any, training: Training) -> Imitation:
        from unstuck.algorithms.imitating import ChoiceLoss

        return ChoiceLoss(model, part)

    def conservation(self, model: Any, coefficient: float, training: Training) -> Conservation | None:
        return None

    def save(self, model: Any, path: Path | str, normalization: Normalization | None = None) -> Path:
        from unstuck.sac.discrete import value_of

        value_of(model)
        plain = self.plain(model)
        with torch.no_grad():
            for parameter in plain.policy.action_net.parameters():
                parameter.mul_(SURE)
        return write_agent(plain, path, normalization)

    def plain(self, model: Any) -> Any:
        """A PPO with the model's policy, and else as Stable-Baselines3 has it."""
        from stable_baselines3 import PPO
        from stable_baselines3.common.policies import ActorCriticPolicy

        plain = PPO(
            ActorCriticPolicy, None, _init_setup_model=False, device="cpu", gamma=model.gamma,  # type: ignore[arg-type]
            policy_kwargs=dict(model.policy_kwargs),
        )  # fmt: skip
        plain.observation_space, plain.action_space = model.observation_space, model.action_space
        plain.n_envs, plain.num_timesteps, plain.seed = model.n_envs, model.num_timesteps, model.seed
        plain._n_updates = model._n_updates
        self.build_plain(plain, ActorCriticPolicy)
        plain.policy.load_state_dict(model.policy.state_dict())
        return plain
