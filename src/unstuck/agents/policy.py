"""From an `Agent` to a policy of Stable-Baselines3, and whether it fits an environment."""

from __future__ import annotations

import re
import warnings
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_flattened_obs_dim,
    is_image_space,
    is_image_space_channels_first,
)
from stable_baselines3.common.vec_env import VecTransposeImage

from unstuck.agents.types import Agent
from unstuck.algorithms.base import algorithm_of
from unstuck.errors import AgentError
from unstuck.tasks.beside import seen_space


def policy_class(agent: Agent) -> type:
    """The class of the agent's policy."""
    return agent.policy_class or algorithm_of(agent).policy_class(agent)


def build_arguments(agent: Agent) -> dict[str, Any]:
    """What that class is made with, beside spaces, learning rate and gSDE."""
    kwargs = dict(agent.policy_kwargs)
    if agent.policy_class is None and "ortho_init" in algorithm_of(agent).policy_arguments:
        kwargs["ortho_init"] = False  # the weights are overwritten anyway
    return kwargs


def channels_first(space: spaces.Space, *, images: bool = True) -> spaces.Space:
    """What the agent sees of the space, with image axes moved as SB3's networks want them, (C, H, W).

    Args:
        images: False for agents made with `normalize_images=False`, whose images SB3 leaves alone
            unless they look like images all the same.
    """
    space = seen_space(space)
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: channels_first(part, images=images) for key, part in space.spaces.items()})
    is_image = is_image_space(space, check_channels=False, normalized_image=not images)
    if is_image and not is_image_space_channels_first(space):  # type: ignore[arg-type]
        return VecTransposeImage.transpose_space(space)  # type: ignore[arg-type]
    return space


def build_policy(agent: Agent, observation_space: spaces.Space, action_space: spaces.Space) -> Any:
    """The agent's policy, a module of SB3's kind, on the CPU, with its weights, in evaluation mode.

    The global random state of torch is left as it was.

    Args:
        observation_space: of the environment, images in either layout.

    Raises:
        AgentError: the weights do not fit the spaces or the stored arguments.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            policy = empty_policy(agent, observation_space, action_space)
        load_weights(policy, agent)
    except AgentError:
        raise
    except Exception as error:
        raise AgentError(
            f"{agent.path}: its policy cannot be built for {_words(observation_space)} and "
            f"{_words(action_space, acts=True)} ({type(error).__name__}: {error})."
        ) from error
    policy.set_training_mode(False)
    return policy


def empty_policy(agent: Agent, observation_space: spaces.Space, action_space: spaces.Space) -> Any:
    """A policy of the agent's class and arguments on the CPU, in evaluation mode, with new weights."""
    kwargs = build_arguments(agent)
    if algorithm_of(agent).state_dependent_noise:
        kwargs["use_sde"] = bool(agent.hyperparameters.get("use_sde"))
    space = channels_first(observation_space, images=kwargs.get("normalize_images", True))
    policy = policy_class(agent)(space, action_space, lambda _: 3e-4, **kwargs)
    policy.set_training_mode(False)
    return policy


def load_weights(policy: torch.nn.Module, agent: Agent) -> None:
    """Copy the agent's weights into the policy; every one must have its place.

    Raises:
        AgentError: names or shapes differ.
    """
    try:
        policy.load_state_dict(dict(agent.state_dict), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:400]
        raise AgentError(
            f"{agent.path}: its weights do not fit the policy built from its arguments ({detail}). The file may "
            "come from another version, or the environment may differ from the one it was trained in."
        ) from error


def check_fits(agent: Agent, observation_space: spaces.Space, action_space: spaces.Space, env_id: str) -> None:
    """Check that the agent can act in an environment with these spaces.

    Raises:
        AgentError: it cannot; says which space differs and how, and names another version of the
            environment that fits, where one is registered.
    """
    observation_space = seen_space(observation_space)
    problem = _misfit(agent, observation_space, action_space, env_id)
    if problem:
        raise AgentError(problem + (_stack_hint(agent, observation_space) or _fitting_version(agent, env_id)))


def _stack_hint(agent: Agent, space: spaces.Space) -> str:
    """How to make the environment as the agent saw it, where that is known: as RL Zoo says, or a stack of frames."""
    said = next((note for note in agent.notes if "--env-kwargs" in note), None)
    if said:
        return f" {said[0].upper()}{said[1:]}"
    stored, seen = (
        agent.observation_space,
        channels_first(space, images=agent.policy_kwargs.get("normalize_images", True)),
    )
    if not (isinstance(stored, spaces.Box) and isinstance(seen, spaces.Box) and len(stored.shape) == len(seen.shape)):
        return ""
    ratios = {big / small for big, small in zip(stored.shape, seen.shape, strict=True) if big != small and small}
    ratio = ratios.pop() if len(ratios) == 1 else 0.0
    if ratio < 2 or not float(ratio).is_integer():
        return ""
    return (
        f" That is {int(ratio)} times as much: if it was trained with VecFrameStack({int(ratio)}), "
        f"add --env-kwargs '{{\"frame_stack\": {int(ratio)}}}'."
    )


def _misfit(agent: Agent, observation_space: spaces.Space, action_space: spaces.Space, env_id: str) -> str:
    images = agent.policy_kwargs.get("normalize_images", True)
    seen = channels_first(observation_space, images=images)
    stored = agent.observation_space
    if stored is not None and not _same(channels_first(stored, images=images), seen):
        return f"The agent sees {_words(stored)}, {env_id} gives {_words(observation_space)}."
    width = _input_width(agent)
    if stored is None and width is not None:
        gives = _flat_width(seen)
        if gives is not None and gives != width:
            return f"The agent sees {width} numbers, {env_id} gives {gives} ({_words(observation_space)})."
    if agent.action_space is not None and not _same(agent.action_space, action_space):
        acts = _words(agent.action_space, acts=True)
        return f"The agent acts with {acts}, {env_id} takes {_words(action_space, acts=True)}."
    outputs = algorithm_of(agent).action_outputs(agent)
    if agent.action_space is None and outputs is not None:
        takes = _action_width(action_space)
        if takes is not None and takes != outputs:
            return (
                f"The agent's network has {outputs} action outputs, {env_id} needs {takes} "
                f"({_words(action_space, acts=True)})."
            )
    return _statistics_misfit(agent, observation_space, env_id)


def _statistics_misfit(agent: Agent, observation_space: spaces.Space, env_id: str) -> str:
    mean = agent.normalization.obs_mean if agent.normalization else None
    if mean is None:
        return ""
    parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
    means = mean if isinstance(mean, dict) else {"": mean}
    for key, value in means.items():
        shape = parts[key].shape if key in parts else None
        if shape != value.shape:
            return (
                f"The VecNormalize statistics are for observations of shape {value.shape}, {env_id} gives {shape}"
                f"{f' for {key!r}' if key else ''}; pass the statistics that belong to this agent."
            )
    return ""


def _same(a: spaces.Space, b: spaces.Space) -> bool:
    """Equal in what a network's shape depends on: bounds and number formats may differ."""
    if isinstance(a, spaces.Dict) and isinstance(b, spaces.Dict):
        return a.spaces.keys() == b.spaces.keys() and all(_same(a[key], b[key]) for key in a.spaces)
    if isinstance(a, spaces.Discrete) and isinstance(b, spaces.Discrete):
        return a.n == b.n
    if isinstance(a, spaces.MultiDiscrete) and isinstance(b, spaces.MultiDiscrete):
        return a.nvec.tolist() == b.nvec.tolist()
    return type(a) is type(b) and a.shape == b.shape


def _words(space: spaces.Space, *, acts: bool = False) -> str:
    if isinstance(space, spaces.Dict):
        return "{" + ", ".join(f"{key}: {_words(part)}" for key, part in space.spaces.items()) + "}"
    if isinstance(space, spaces.Discrete):
        return f"one of {space.n} {'actions' if acts else 'states'}"
    if isinstance(space, spaces.MultiDiscrete):
        return f"choices among {space.nvec.tolist()}"
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return f"{space.shape[0]} numbers"
    shape = " × ".join(map(str, space.shape or ()))
    return f"an array of {shape}" if isinstance(space, spaces.Box) else f"{type(space).__name__} {shape}".strip()


def _input_width(agent: Agent) -> int | None:
    """How many numbers the first layer takes; None where a CNN or a custom extractor comes first."""
    if agent.policy_class_name != "MlpPolicy" or any("features_extractor." in key for key in agent.state_dict):
        return None
    for key in algorithm_of(agent).first_layers:
        if key in agent.state_dict:
            return int(agent.state_dict[key].shape[1])
    return None


def _flat_width(space: spaces.Space) -> int | None:
    try:
        return int(get_flattened_obs_dim(space))
    except NotImplementedError:
        return None


def _action_width(space: spaces.Space) -> int | None:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(torch.Size(space.shape).numel()) if space.shape is not None else None


def _fitting_version(agent: Agent, env_id: str) -> str:
    """A hint at another registered version of the environment that the agent fits, or ''."""
    match = re.fullmatch(r"(.+)-v(\d+)", env_id)
    if not match:
        return ""
    versions = [
        int(found[1]) for known in gym.registry if (found := re.fullmatch(re.escape(match[1]) + r"-v(\d+)", known))
    ]
    for version in sorted(set(versions) - {int(match[2])}, reverse=True):
        other = f"{match[1]}-v{version}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                env: Any = gym.make(other)
        except Exception:  # old versions need packages that are rarely installed
            continue
        fits = not _misfit(agent, env.observation_space, env.action_space, other)
        seen = _words(env.observation_space)
        env.close()
        if fits:
            return f" {other} gives {seen} and fits: try --env {other}."
    return ""


def channels_last(policy: torch.nn.Module) -> None:
    """Keep the weights of convolutions in the order in which CPUs compute them: an update of NatureCNN then takes 60 %
    of the time. Nothing else changes, but for rounding."""
    for module in policy.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
