"""SAC for a choice among actions (Christodoulou 2019, arXiv 1910.07207), as a learner of Stable-Baselines3's kind.

The policy is the library's `ActorCriticPolicy`, so that an agent trained here can be saved as one of PPO. The critics
give Q of every action, so that expectations over the policy are exact, and nothing has to be drawn for them:

    V(s) = sum_a pi(a|s) (min_i Q_i(s, a) - price log pi(a|s))
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.utils import polyak_update
from torch import nn

ENTROPY = 0.6
"""Of the largest that there can be, what the price of entropy is learnt towards: a policy that rests at less explores
too little to learn to land (docs/race-measured.md)."""
CRITICS = 2


class Critics(nn.Module):
    """Several MLPs of one shape, each from observations to Q of every action.

    Args:
        inputs: numbers in an observation.
        widths: units of the hidden layers.
        actions: how many there are.
    """

    def __init__(self, inputs: int, widths: list[int], actions: int, rate: float):
        super().__init__()
        self.q_networks = nn.ModuleList(mlp([inputs, *widths, actions]) for _ in range(CRITICS))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=rate)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(critics, B, actions)."""
        return torch.stack([network(observations.flatten(1).float()) for network in self.q_networks])


class DiscreteSAC(OffPolicyAlgorithm):
    """SAC for discrete actions, its gradient steps made by torch.

    Args:
        entropy: share of the largest entropy, log n, that the policy is held to.
        arguments: of `OffPolicyAlgorithm`.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": ActorCriticPolicy}
    policy: ActorCriticPolicy

    def __init__(self, policy: Any, env: Any, *, entropy: float = ENTROPY, **arguments: Any):
        super().__init__(
            policy, env, support_multi_env=True, sde_support=False, supported_action_spaces=(spaces.Discrete,),
            **{"learning_rate": 3e-4, **arguments},
        )  # fmt: skip
        self.entropy = entropy
        self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        rate, actions = self.lr_schedule(1.0), int(self.action_space.n)  # type: ignore[attr-defined]
        shape = int(np.prod(self.observation_space.shape or (1,))), _widths(self.policy), actions
        self.critic, self.critic_target = (Critics(*shape, rate).to(self.device) for _ in range(2))
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.target_entropy = self.entropy * float(np.log(actions))
        self.log_ent_coef = torch.zeros(1, device=self.device, requires_grad=True)
        self.ent_coef_optimizer = torch.optim.Adam([self.log_ent_coef], lr=rate)

    def log_probs(self, observations: torch.Tensor) -> torch.Tensor:
        """(B, actions) of the policy."""
        policy = self.policy
        features = policy.extract_features(observations, policy.pi_features_extractor)
        return torch.log_softmax(policy.action_net(policy.mlp_extractor.forward_actor(features)), dim=1)  # type: ignore[arg-type]

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Make so many gradient steps on batches of the replay buffer."""
        self.policy.set_training_mode(True)
        self._follow_schedule()
        losses = [self._step(batch_size) for _ in range(gradient_steps)]
        self._tell(gradient_steps, losses)

    def _follow_schedule(self) -> None:
        self._update_learning_rate([self.policy.optimizer, self.critic.optimizer, self.ent_coef_optimizer])

    def _step(self, batch_size: int) -> tuple[float, float, float, float]:
        samples: Any = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
        log_pi = self.log_probs(samples.observations)
        price = torch.exp(self.log_ent_coef.detach())
        entropy = -(log_pi.exp() * log_pi).sum(dim=1).detach()
        price_loss = (self.log_ent_coef * (entropy - self.target_entropy)).mean()
        _improve(self.ent_coef_optimizer, price_loss)

        goal = self._goal(samples, price)
        q = self.critic(samples.observations)
        taken = samples.actions.long().reshape(1, -1, 1).expand(len(q), -1, -1)
        critic_loss = 0.5 * ((q.gather(2, taken).squeeze(2) - goal) ** 2).mean(dim=1).sum()
        _improve(self.critic.optimizer, critic_loss)

        with torch.no_grad():
            least = self.critic(samples.observations).min(dim=0).values
        actor_loss = (log_pi.exp() * (price * log_pi - least)).sum(dim=1).mean()
        _improve(self.policy.optimizer, actor_loss)
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        return float(actor_loss.detach()), float(critic_loss.detach()), float(price_loss.detach()), float(price)

    def _goal(self, samples: Any, price: torch.Tensor) -> torch.Tensor:
        """(B,) what Q of the taken actions should be."""
        with torch.no_grad():
            log_pi = self.log_probs(samples.next_observations)
            least = self.critic_target(samples.next_observations).min(dim=0).values
            value = (log_pi.exp() * (least - price * log_pi)).sum(dim=1)
            discount = self.gamma if samples.discounts is None else samples.discounts[:, 0]
            return samples.rewards[:, 0] + (1.0 - samples.dones[:, 0]) * discount * value

    def _tell(self, steps: int, losses: list[tuple[float, float, float, float]]) -> None:
        self._n_updates += steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if losses:
            names = ("actor_loss", "critic_loss", "ent_coef_loss", "ent_coef")
            for name, values in zip(names, zip(*losses, strict=True), strict=True):
                self.logger.record(f"train/{name}", float(np.mean(values)))


def value_of(model: DiscreteSAC) -> None:
    """Give the policy's critic of states what the first critic of actions knows: the mean of its Q over the actions."""
    first, policy = linear(model.critic.q_networks[0]), model.policy
    *below, last = first
    with torch.no_grad():
        for mine, theirs in zip(linear(policy.mlp_extractor.value_net), below, strict=True):
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)
        policy.value_net.weight.copy_(last.weight.mean(dim=0, keepdim=True))
        policy.value_net.bias.copy_(last.bias.mean(dim=0, keepdim=True))


def mlp(widths: list[int]) -> nn.Sequential:
    """Linear layers of these widths, ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def linear(trunk: nn.Module) -> list[nn.Linear]:
    """Its linear layers."""
    return [m for m in trunk.modules() if isinstance(m, nn.Linear)]


def _widths(policy: ActorCriticPolicy) -> list[int]:
    """Of the critics: as the policy's critic of states has them, in whose place one of them is saved."""
    return [layer.out_features for layer in linear(policy.mlp_extractor.value_net)]


def _improve(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
