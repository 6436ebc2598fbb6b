"""From an `Agent` to a PPO that goes on learning, and from a PPO to files that need no Unstuck."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from unstuck.agents.normalization import Normalization, to_vecnormalize
from unstuck.agents.policy import load_weights, policy_class
from unstuck.agents.types import Agent
from unstuck.errors import AgentError, RunError


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
        gae_lambda: by default the agent's own.
        ppo_class: a subclass of PPO to make instead.

    Raises:
        AgentError: the weights do not fit the environment.
    """
    stored = agent.hyperparameters
    kwargs = dict(agent.policy_kwargs)
    if agent.policy_class is None:
        kwargs |= {"ortho_init": False}
    try:
        model = ppo_class(
            policy_class(agent), vec_env, learning_rate=learning_rate, n_steps=n_steps, batch_size=batch_size,
            n_epochs=n_epochs, ent_coef=ent_coef, vf_coef=vf_coef, max_grad_norm=max_grad_norm,
            clip_range=clip_range, seed=seed, device=device, verbose=verbose, tensorboard_log=None,
            gamma=_first(gamma, stored.get("gamma"), 0.99),
            gae_lambda=_first(gae_lambda, stored.get("gae_lambda"), 0.95),
            use_sde=bool(stored.get("use_sde")), sde_sample_freq=int(stored.get("sde_sample_freq") or -1),
            policy_kwargs=kwargs,
        )  # fmt: skip
    except (ValueError, TypeError, AssertionError) as error:
        raise AgentError(f"{agent.path}: PPO cannot go on with it in this environment ({error}).") from error
    load_weights(model.policy, agent)
    return model


def _first(*values: float | None) -> float:
    return next(float(v) for v in values if v is not None)


def save_agent(model: PPO, path: Path | str, normalization: Normalization | None = None) -> Path:
    """Write a plain SB3 zip, whole or not at all, that `PPO.load` reads without Unstuck.

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
    path = Path(path)
    target = path if path.suffix == ".zip" else path.with_name(path.name + ".zip")
    plain = _plain_ppo(model)
    _write(target, lambda temporary: plain.save(temporary))
    statistics = target.with_suffix(".vecnormalize.pkl")
    if normalization is None:
        statistics.unlink(missing_ok=True)  # of an agent saved here before: not this one's
    else:
        frozen = to_vecnormalize(normalization, model.observation_space, model.action_space)
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


def _at_start(schedule: Any) -> float:
    return float(schedule(1.0) if callable(schedule) else schedule)


def _plain_ppo(model: PPO) -> PPO:
    """A PPO of SB3's own classes with the model's policy, optimiser state and numbers."""
    ours = __name__.split(".")[0]
    policy = next(c for c in type(model.policy).__mro__ if c.__module__.split(".")[0] != ours)
    plain = PPO(
        policy, None, _init_setup_model=False,  # type: ignore[arg-type]
        device="cpu", tensorboard_log=None, verbose=0,
        learning_rate=_at_start(model.lr_schedule), clip_range=_at_start(model.clip_range),
        n_steps=model.n_steps, batch_size=model.batch_size, n_epochs=model.n_epochs, gamma=model.gamma,
        gae_lambda=model.gae_lambda, ent_coef=model.ent_coef, vf_coef=model.vf_coef,
        max_grad_norm=model.max_grad_norm, normalize_advantage=model.normalize_advantage,
        use_sde=model.use_sde, sde_sample_freq=model.sde_sample_freq, target_kl=model.target_kl,
        policy_kwargs=dict(model.policy_kwargs), seed=None,
    )  # fmt: skip
    plain.observation_space, plain.action_space = model.observation_space, model.action_space
    plain.n_envs, plain.num_timesteps, plain.seed = model.n_envs, model.num_timesteps, model.seed
    plain._n_updates = model._n_updates
    plain.policy = policy(
        plain.observation_space, plain.action_space, lambda _: plain.learning_rate,
        use_sde=plain.use_sde, **plain.policy_kwargs,
    )  # fmt: skip
    plain.policy.load_state_dict(model.policy.state_dict())
    if type(plain.policy.optimizer) is type(model.policy.optimizer):
        plain.policy.optimizer.load_state_dict(model.policy.optimizer.state_dict())
    return plain
