"""A network made anew, of the agent's shape: what transplants are fitted into, and what training afresh begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from unstuck.agents import Agent, Normalization
from unstuck.agents.policy import channels_first, empty_policy, policy_class
from unstuck.agents.rescaling import rescaled
from unstuck.algorithms import algorithm_of
from unstuck.errors import AgentError
from unstuck.treatments.initial import unit_variance
from unstuck.treatments.states import States

_ONLY_WITH_SDE = ("squash_output", "full_std", "use_expln", "sde_net_arch", "clip_mean")
STD_AFRESH = 0.6
"""Standard deviation of fresh Gaussians, as a share of half the range of the action."""
MINIMAL_VARIANCE = 1e-6
HIDDEN = (64, 64)
"""Units of a new network in the place of one without hidden layers, as PPO has them by default."""


def deepened(agent: Agent) -> Agent:
    """The agent, its shape one with hidden layers where its policy is linear, as those of ARS often are: what a linear
    policy can do it may do already. Only for what begins with new weights, as the old ones no longer fit."""
    arch = agent.policy_kwargs.get("net_arch")
    if agent.policy_class_name != "MlpPolicy" or not algorithm_of(agent).on_policy or arch is None:
        return agent
    parts = arch if isinstance(arch, Mapping) else {"pi": arch, "vf": arch}
    if any(parts.get("pi", ())) or "features_extractor_class" in agent.policy_kwargs:
        return agent
    shape = {"pi": list(HIDDEN), "vf": list(parts.get("vf") or HIDDEN)}
    return replace(agent, policy_kwargs={**agent.policy_kwargs, "net_arch": shape})


def fresh_policy(
    agent: Agent, observation_space: spaces.Space, action_space: spaces.Space, seed: int
) -> ActorCriticPolicy:
    """A policy of the agent's class and shape with new weights (orthogonal, as PPO's are), without gSDE. Of algorithms
    with a replay buffer the whole of it, critics and targets included, as the library makes it.

    The global random state of torch is left as it was.
    """
    if not algorithm_of(agent).on_policy:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return empty_policy(agent, observation_space, action_space)
    kwargs = {k: v for k, v in agent.policy_kwargs.items() if k not in _ONLY_WITH_SDE}
    kwargs.pop("log_std_init", None)
    if agent.policy_class is None:
        kwargs["ortho_init"] = True
    space = channels_first(observation_space, images=kwargs.get("normalize_images", True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = policy_class(agent)(space, action_space, lambda _: 3e-4, use_sde=False, **kwargs)
    policy.set_training_mode(False)
    return policy


def with_policy(agent: Agent, policy: ActorCriticPolicy, note: str, normalization: Normalization | None) -> Agent:
    """The agent with this policy's weights in place of its own, a plain Gaussian or categorical one."""
    weights = {name: value.detach().cpu().clone() for name, value in policy.state_dict().items()}
    return with_weights(agent, weights, note, normalization)


def with_weights(
    agent: Agent, weights: Mapping[str, torch.Tensor], note: str, normalization: Normalization | None
) -> Agent:
    """The agent with these weights, of a policy without gSDE, in place of its own. Agents with a replay buffer keep
    their kind of policy, and lose what was learnt beside it (the price of entropy)."""
    if not algorithm_of(agent).on_policy:
        notes = (*agent.notes, note)
        return replace(agent, state_dict=dict(weights), tensors={}, normalization=normalization, notes=notes)
    kwargs = {k: v for k, v in agent.policy_kwargs.items() if k not in _ONLY_WITH_SDE}
    hyperparameters = {**agent.hyperparameters, "use_sde": False, "sde_sample_freq": -1}
    return replace(
        agent, policy_kwargs=kwargs, state_dict=dict(weights), hyperparameters=hyperparameters,
        normalization=normalization, notes=(*agent.notes, note),
    )  # fmt: skip


def needs_an_actor(agent: Agent, what: str) -> None:
    """Raises:
    AgentError: it is an agent of an algorithm with a replay buffer, whose actor is not of the kind treated here.
    """
    if not algorithm_of(agent).on_policy:
        raise AgentError(f"{what} is for agents of PPO and its kin, not of {agent.algorithm}; continue it, or afresh")


def half_range(space: spaces.Box) -> np.ndarray | None:
    """(A,) half the range of each action; None where an action is unbounded."""
    half = (space.high.astype(np.float64) - space.low).reshape(-1) / 2
    return half if np.isfinite(half).all() and (half > 0).all() else None


def set_noise(policy: Any, space: spaces.Space, share: float) -> None:
    """Set the standard deviation of a Gaussian policy to this share of half the range, or to the share itself where
    actions are unbounded. Others are left alone."""
    if not isinstance(space, spaces.Box) or not hasattr(policy, "log_std"):
        return
    half = half_range(space)
    std = share * (half if half is not None else np.ones(policy.log_std.shape[0]))
    with torch.no_grad():
        policy.log_std.copy_(torch.as_tensor(np.log(std), dtype=policy.log_std.dtype))


def statistics_of(states: States, space: spaces.Space, gamma: float) -> Normalization | None:
    """Observation statistics of the states, for an agent that has none; None where observations are not a vector of
    numbers (images, dicts, indices)."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or isinstance(states.observations, Mapping):
        return None
    x = np.asarray(states.observations, dtype=np.float64)
    variance = np.maximum(x.var(axis=0), MINIMAL_VARIANCE)
    return Normalization(
        obs_mean=x.mean(axis=0), obs_var=variance, norm_reward=False, gamma=gamma, count=float(len(x)),
    )  # fmt: skip


def afresh(
    agent: Agent, states: States | None, observation_space: spaces.Space, action_space: spaces.Space, seed: int
) -> Agent:
    """Begin again: a new network of the agent's shape, and of the agent only its observation statistics.

    What a stuck network has lost (units that answer, means inside the bounds, noise) a new one has, and at some
    hundred thousand steps it often overtakes what goes on from the old one. Where an agent of PPO's kind has no
    statistics, those of the states that it visited stand in; algorithms with a replay buffer are commonly trained on
    raw observations, of which only those that can only be small are rescaled. Convolutions are scaled to what they see
    in those states (`unstuck.treatments.initial`).
    """
    agent = deepened(agent)
    policy = fresh_policy(agent, observation_space, action_space, seed)
    set_noise(policy, action_space, STD_AFRESH)
    if states is not None and isinstance(policy, ActorCriticPolicy):
        unit_variance(policy, states, seed)
    normalization, on_policy = agent.normalization, algorithm_of(agent).on_policy
    if on_policy and states is not None and (normalization is None or not normalization.norm_obs):
        normalization = statistics_of(states, observation_space, discount_of(agent))
    new = with_policy(agent, policy, "trained afresh: a new network", normalization)
    return new if on_policy else rescaled(new, observation_space)


def discount_of(agent: Agent) -> float:
    """The agent's discount; 0.99 where its file says none."""
    return float(agent.hyperparameters.get("gamma") or 0.99)
