"""From an `Agent` to a PPO that goes on learning, and from learners to files that need no Unstuck."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from unstuck.agents.normalization import Normalization, to_vecnormalize
from unstuck.agents.policy import build_arguments, load_weights, policy_class
from unstuck.agents.types import Agent
from unstuck.algorithms.base import algorithm_of, algorithm_of_model
from unstuck.errors import AgentError, RunError

GAE_LAMBDA = 0.95
"""Where an agent says none, and the most of those that did not learn with PPO's long rollouts."""


def to_ppo(
    agent: Agent,
    vec_env: VecEnv,
    *,
    n_steps: int,
    batch_size: int,
    n_epochs: int,
    ent_coef: float,
    seed: int,
    learning_rate: float | Callable[[float], float] = 3e-4,
    clip_range: float | Callable[[float], float] = 0.2,
    gamma: float | None = None,
    gae_lambda: float | None = None,
    vf_coef: float = 0.5,
    max_grad_norm: float = 0.5,
    device: str = "cpu",
    verbose: int = 0,
    ppo_class: type[PPO] = PPO,
) -> PPO:
    """A PPO that starts from the agent's weights, with a fresh Adam (ε = 1e-5) and no tensorboard log.

    Args:
        n_steps: environment steps per environment and rollout.
        gamma: discount; by default the agent's own, so that its critic stays right.
        gae_lambda: by default the agent's own; of A2C's at most GAE_LAMBDA. That one belongs to its rollouts of some
            five steps: over PPO's, 1 (its default) leaves the noise of whole returns in every advantage.
        ppo_class: a subclass of PPO to make instead.

    Raises:
        AgentError: the weights do not fit the environment, or it is no on-policy agent.
    """
    if not algorithm_of(agent).on_policy:
        raise AgentError(f"{agent.path} is an agent of {agent.algorithm}, which PPO does not go on with.")
    stored = agent.hyperparameters
    kwargs = build_arguments(agent)
    try:
        model = ppo_class(
            policy_class(agent), vec_env, learning_rate=learning_rate, n_steps=n_steps, batch_size=batch_size,
            n_epochs=n_epochs, ent_coef=ent_coef, vf_coef=vf_coef, max_grad_norm=max_grad_norm,
            clip_range=clip_range, seed=seed, device=device, verbose=verbose, tensorboard_log=None,
            gamma=_first(gamma, stored.get("gamma"), 0.99),
            gae_lambda=_first(gae_lambda, _own_lambda(agent), GAE_LAMBDA),
            use_sde=bool(stored.get("use_sde")), sde_sample_freq=int(stored.get("sde_sample_freq") or -1),
            policy_kwargs=kwargs,
        )  # fmt: skip
    except (ValueError, TypeError, AssertionError) as error:
        raise AgentError(f"{agent.path}: PPO cannot go on with it in this environment ({error}).") from error
    load_weights(model.policy, agent)
    return model


def _own_lambda(agent: Agent) -> float | None:
    stored = agent.hyperparameters.get("gae_lambda")
    return stored if stored is None or agent.algorithm != "A2C" else min(stored, GAE_LAMBDA)


def _first(*values: float | None) -> float:
    return next(float(v) for v in values if v is not None)


def save_agent(model: BaseAlgorithm, path: Path | str, normalization: Normalization | None = None) -> Path:
    """Write a plain zip, whole or not at all, that the `load` of SB3's class of the model reads without Unstuck.

    What training attached to the model (subclasses, schedules, callbacks) stays behind; policy, optimiser
    and numbers are kept.

    Args:
        path: of the zip; ".zip" is added where it lacks.
        normalization: if given, also written as `<path without .zip>.vecnormalize.pkl`, which SB3's
            `VecNormalize.load` reads and `load_agent` finds; if not, such a file of an agent saved there
            before is removed.

    Returns:
        The path of the zip.

    Raises:
        RunError: the folder cannot be written to.
    """
    return algorithm_of_model(model).save(model, path, normalization)


def write_agent(plain: BaseAlgorithm, path: Path | str, normalization: Normalization | None) -> Path:
    """Write a learner that carries nothing of Unstuck's, and the statistics, as `save_agent` says."""
    path = Path(path)
    target = path if path.suffix == ".zip" else path.with_name(path.name + ".zip")
    _write(target, lambda temporary: plain.save(temporary))
    statistics = target.with_suffix(".vecnormalize.pkl")
    if normalization is None:
        statistics.unlink(missing_ok=True)  # of an agent saved here before: not this one's
    else:
        frozen = to_vecnormalize(normalization, plain.observation_space, plain.action_space)
        _write(statistics, lambda temporary: frozen.save(str(temporary)))
    return target


def _write(target: Path, save: Callable[[Path], Any]) -> None:
    """Save beside the target, then move into place."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".saving-") as folder:
            temporary = Path(folder) / f"agent{target.suffix}"
            save(temporary)
            os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error}; choose another folder") from error
