"""One update of PPO on a copy of the agent, with the sampled episodes at hand: what training on would do to it.

The copy is thrown away. The settings are those with which Unstuck trains, so that the numbers of different agents can
be compared; the rewards are in the unit that the critic learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from unstuck.diagnosis.evidence import Evidence, ShadowUpdate
from unstuck.diagnosis.panel import Finding, Status
from unstuck.errors import AgentError
from unstuck.tasks.beside import seen as seen_by_agent

if TYPE_CHECKING:
    from unstuck.agents import Agent
    from unstuck.config import TrainConfig
    from unstuck.episodes import Episode

Array = np.ndarray
STEPS = 2048
BYTES = 2**21
"""Of their observations, at most, where there are several episodes."""
BYTES_OF_ONE = 2**23
"""Of the observations of a single one, at most."""
FEWEST = 64
"""Sampled steps that make a batch."""
KL_HIGH, CLIP_HIGH = 0.1, 0.5
KL_LOW = 1e-5


def shadow_update(
    agent: Agent,
    episodes: Sequence[Episode],
    observation_space: spaces.Space,
    action_space: spaces.Space,
    config: TrainConfig,
    value_scale: float = 1.0,
) -> tuple[ShadowUpdate | None, str]:
    """Train a copy on sampled episodes for one update of PPO; the result, or None and why not.

    Args:
        episodes: of the agent; deterministic ones are left out.
        config: learning rate, batch size, epochs, clip range and entropy coefficient are taken from it; gamma and
            lambda are the agent's own.
        value_scale: unit of the task's reward in the critic's, as in `Episode.signals`.
    """
    if not isinstance(observation_space, (spaces.Box, spaces.Discrete)) or len(observation_space.shape or ()) > 2:
        return None, "Left out where observations are images or dictionaries"
    chosen = [e for e in episodes if not e.deterministic]
    if not chosen:
        return None, "There are no sampled episodes, or their observations are too large"
    import torch
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import DummyVecEnv

    from unstuck.agents import to_ppo
    from unstuck.agents.normalization import _SpacesOnly

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = np.random.get_state()  # SB3 seeds the global generator
        try:
            venv: Any = DummyVecEnv([lambda: _SpacesOnly(observation_space, action_space)])
            # Its own buffer, of n_steps, is replaced by one of the size of what there is.
            model = to_ppo(
                agent, venv, n_steps=FEWEST, batch_size=FEWEST, n_epochs=config.n_epochs,
                ent_coef=config.ent_coef or 0.0, seed=0, learning_rate=config.learning_rate,
                clip_range=config.clip_range, gae_lambda=agent.hyperparameters.get("gae_lambda"),
            )  # fmt: skip
            model.set_logger(Logger(folder=None, output_formats=[]))
            batch = _batch(agent, model, chosen, value_scale)
            if batch is None:
                return None, "the actions as sampled, before clipping, are not known"
            if batch < FEWEST:
                return None, f"there are only {batch} sampled steps"
            model.batch_size = min(config.batch_size, batch)
            return _update(model, batch), ""
        except (AgentError, ValueError, RuntimeError) as error:
            return None, f"PPO cannot go on with it ({str(error)[:120]})"
        finally:
            np.random.set_state(state)


def _batch(agent: Agent, model: Any, episodes: Sequence[Episode], scale: float) -> int | None:
    """Fill the model's rollout buffer with whole and begun episodes; the number of steps in it."""
    import torch

    rows: list[tuple[Any, ...]] = []
    last_value, last_done = 0.0, True
    for episode in episodes:
        room = STEPS - len(rows)
        if room <= 0:
            break
        raw = raw_actions(episode, model.action_space)
        if raw is None:
            return None
        observations: Any = seen_by_agent(episode.observations)
        seen = agent.normalization.apply(observations) if agent.normalization else observations
        tensor, _ = model.policy.obs_to_tensor(seen)
        with torch.no_grad():
            values = model.policy.predict_values(tensor).numpy().reshape(-1)
            acts = torch.as_tensor(raw)
            log_probs = model.policy.get_distribution(tensor[:-1]).log_prob(acts).numpy()
        rewards = np.asarray(episode.rewards, dtype=np.float64) / scale
        if not episode.terminated:
            rewards[-1] += model.gamma * values[-1]  # as SB3: what follows a time limit is the critic's word
        t = min(room, len(episode))
        rows += [(seen[i], raw[i], rewards[i], i == 0, values[i], log_probs[i]) for i in range(t)]
        last_value, last_done = float(values[t]), t == len(episode)
    buffer = type(model.rollout_buffer)(
        len(rows), model.observation_space, model.action_space, device="cpu", gamma=model.gamma,
        gae_lambda=model.gae_lambda, n_envs=1,
    )  # fmt: skip
    for seen_i, raw_i, reward, start, value, log_prob in rows:
        buffer.add(
            np.asarray(seen_i)[None], np.asarray(raw_i)[None], np.array([reward]), np.array([float(start)]),
            torch.tensor([float(value)]), torch.tensor([float(log_prob)]),
        )  # fmt: skip
    buffer.compute_returns_and_advantage(torch.tensor([last_value]), np.array([last_done]))
    model.rollout_buffer = buffer
    return len(rows)


def raw_actions(episode: Episode, action_space: spaces.Space) -> Array | None:
    """(T,) or (T, A): the actions as they were sampled, before clipping; None where they cannot be known.

    An episode's noise is drawn from its seed (`unstuck.rollout`), so it can be drawn again; it is checked that what
    was executed comes out.
    """
    actions = np.asarray(episode.actions)
    if isinstance(action_space, spaces.Discrete):
        return actions
    mean, std = episode.signals.get("action_mean"), episode.signals.get("action_std")
    if mean is None or std is None or not isinstance(action_space, spaces.Box):
        return None
    noise = np.random.default_rng([episode.seed, 1]).standard_normal(np.shape(mean))
    raw = (np.asarray(mean, dtype=np.float64) + np.asarray(std, dtype=np.float64) * noise).astype(np.float32)
    shaped = raw.reshape(actions.shape)
    same = np.allclose(np.clip(shaped, action_space.low, action_space.high), actions, rtol=1e-3, atol=1e-4)
    return shaped if same else None


def _update(model: Any, steps: int) -> ShadowUpdate:
    import torch

    observations = torch.as_tensor(model.rollout_buffer.observations[:, 0])
    with torch.no_grad():
        before = model.policy.get_distribution(observations).distribution
        before = _detached(before)
    model._update_current_progress_remaining(0, 1)
    model.train()
    with torch.no_grad():
        after = model.policy.get_distribution(observations).distribution
        divergence = torch.distributions.kl_divergence(before, after)
    kl = float(divergence.sum(dim=-1).mean() if divergence.dim() > 1 else divergence.mean())
    return ShadowUpdate(kl, float(model.logger.name_to_value["train/clip_fraction"]), steps)


def _detached(distribution: Any) -> Any:
    import torch

    if isinstance(distribution, torch.distributions.Normal):
        return torch.distributions.Normal(distribution.loc.clone(), distribution.scale.clone())
    if isinstance(distribution, torch.distributions.Categorical):
        return torch.distributions.Categorical(logits=distribution.logits.clone())
    raise ValueError(f"actions have a {type(distribution).__name__}")


def update_size(evidence: Evidence) -> Finding | None:
    """How far one update moves the policy."""
    if not evidence.on_policy:
        return None
    shadow = evidence.shadow
    if shadow is None:
        return Finding(name="update-kl", status="unknown", meaning=f"{evidence.shadow_note or 'Not tried'}.")
    high, low = shadow.kl > KL_HIGH, shadow.kl < KL_LOW
    status: Status = "note" if high else "fault" if low else "ok"
    return Finding(
        name="update-kl", value=shadow.kl, unit="nats", status=status, threshold=KL_LOW if low else KL_HIGH,
        side="below" if low else "above",
        source="PPO's usual target_kl is 0.01 to 0.05; measured on published agents, docs/diagnose.md",
        meaning=(
            f"One update from {shadow.steps} steps hardly moves the policy: there is no gradient "
            "to follow, or the critic's error takes all that the clipping of gradients leaves."
            if low
            else "One update moves the policy far: what it can do already may be lost in a few of them."
            if high
            else f"One update from {shadow.steps} steps moves the policy by a usual amount."
        ),
        remedy="A signal is missing: guidance; or the network is stiff: transplant, afresh."
        if low
        else "A smaller learning rate, fewer epochs or a target_kl; a warm-up of the critic."
        if high
        else "",
        treatments=("guidance", "transplant", "afresh") if low else ("continue",) if high else (),
    )  # fmt: skip


def update_clipped(evidence: Evidence) -> Finding | None:
    """How many samples of one update are clipped."""
    if evidence.shadow is None:
        return None
    share = evidence.shadow.clip_fraction
    high = share > CLIP_HIGH
    return Finding(
        name="update-clipped", value=share, unit="of the samples", status="note" if high else "ok",
        threshold=CLIP_HIGH, source="common alarm: 0.3 (Prompt2Policy); published agents reach 0.4 (docs/diagnose.md)",
        meaning="Most of an update is cut away by PPO's clipping." if high else "PPO's clipping cuts little away.",
        remedy="A smaller learning rate or fewer epochs." if high else "",
        treatments=("continue",) if high else (),
    )  # fmt: skip
