"""Guidance where a learner replays experience: rewards are those of the time of sampling, not of storing.

A replay buffer keeps rewards for as long as it keeps transitions, so a reward that fades must not be in it: it is added
to a batch when the batch is drawn, and what an old transition earns then fades with all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from unstuck.guide.assembly import Guide
from unstuck.guide.base import Steps
from unstuck.tasks.beside import Beside


@dataclass(frozen=True)
class Batch:
    """The transitions of a batch as parts know them, and as the learner does."""

    values: np.ndarray
    """(B, V) float64 of the states from which steps were taken; NaN for what no part looks at."""
    samples: Any
    """What the learner got: normalised observations, actions scaled to [-1, 1]..."""


def reward_unit(env: Any) -> float:
    """What VecNormalize divides rewards by; 1 where it leaves them, or there is none (None)."""
    return float(np.sqrt(env.ret_rms.var + env.epsilon)) if env is not None and env.norm_reward else 1.0


def rewarded(samples: Any, guide: Guide, steps: Steps, now: int, env: Any, weights: np.ndarray | None = None) -> Any:
    """The samples of a batch with what its steps are worth at this time of training added to their rewards.

    Args:
        samples: of Stable-Baselines3's replay buffers, with rewards in the unit in which `env` (a VecNormalize or
            None) gives them.
        steps: the same transitions as parts know them, (B,) of them; (B·n,) where returns are those of n steps.
        weights: (B, n) what each of those n steps counts in the return, see `steps_ahead`.
    """
    bonus = np.asarray(guide.reward(steps, now)) / reward_unit(env)
    if weights is not None:
        bonus = (bonus.reshape(weights.shape) * weights).sum(axis=1)
    added = torch.as_tensor(bonus.astype(np.float32).reshape(-1, 1))
    return samples._replace(rewards=samples.rewards + added.to(samples.rewards.device))


class _Guided:
    """What is added to a replay buffer's class; see `guided`."""

    guide: Guide | None = None
    last: Batch | None = None
    """The batch drawn last."""
    unscale: Callable[[np.ndarray], np.ndarray] | None = None
    """From actions as they are stored to actions as they are executed; None where they are the same."""

    def attach(self, guide: Guide, unscale: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """Before anything is stored. The guide must have been wrapped around the learner's environments."""
        assert guide.sense is not None
        self.guide, self.unscale = guide, unscale
        self._observe, self._sense = guide.sense.observe, guide.sense
        guide.sense.later = True
        # A learner that does not see all that variables are read from stores no observation to read them from again.
        guide.sense.tells = isinstance(guide.sense.observation_space, Beside)
        shape = (self.buffer_size, self.n_envs)  # type: ignore[attr-defined]
        width = len(guide.source.describer.card.variables)
        self.values = np.zeros((*shape, width), dtype=np.float64)
        self.next_values = np.zeros((*shape, width), dtype=np.float64)
        asked = [p for p in guide.parts if p.rewards and "each_step" not in p.needs]
        self._rewarded = bool(asked)
        self._wants_obs = any("observations" in p.needs for p in asked)

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        if self.guide is not None:
            pos = self.pos  # type: ignore[attr-defined]
            if self._sense.tells:
                self.values[pos], self.next_values[pos] = self._sense.transition
            else:
                self.values[pos], self.next_values[pos] = self._observe(obs), self._observe(next_obs)
        super().add(obs, next_obs, action, reward, done, infos)  # type: ignore[misc]

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        if self.guide is None:
            samples = super()._get_samples(batch_inds, env)  # type: ignore[misc]
            self.last = Batch(np.zeros((len(batch_inds), 0)), samples)
            return samples
        rows = rows_drawn(self, batch_inds)
        samples = super()._get_samples(batch_inds, env)  # type: ignore[misc]
        if self._rewarded:
            samples = self._with_rewards(samples, rows, env)
        self.last = Batch(self.values[rows], samples)
        return samples

    def _with_rewards(self, samples: Any, rows: tuple[np.ndarray, np.ndarray], env: Any) -> Any:
        assert self.guide is not None
        if not isinstance(self, NStepReplayBuffer):
            return rewarded(samples, self.guide, self._steps(rows), self._now(), env)
        ahead, weights = steps_ahead(self, rows)
        return rewarded(samples, self.guide, self._steps(ahead), self._now(), env, weights)

    def _now(self) -> int:
        assert self.guide is not None
        assert self.guide.sense is not None
        return self.guide.sense.now

    def _steps(self, rows: tuple[np.ndarray, np.ndarray]) -> Steps:
        cut = self.timeouts[rows] if self.handle_timeout_termination else 0.0  # type: ignore[attr-defined]
        taken = self.actions[rows]  # type: ignore[attr-defined]
        after: Any = None
        if self._wants_obs:
            held = self.next_observations  # type: ignore[attr-defined]
            after = {k: v[rows] for k, v in held.items()} if isinstance(held, dict) else held[rows]
        return Steps(
            values=self.values[rows],
            next_values=self.next_values[rows],
            actions=taken if self.unscale is None else self.unscale(taken),
            terminated=(self.dones[rows] * (1 - cut)).astype(bool),  # type: ignore[attr-defined]
            next_obs=after,
        )


def rows_drawn(buffer: Any, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) places in a replay buffer, and (B,) the environment that its `_get_samples` is about to draw for each, as
    its first random numbers; the random state stays as it is."""
    before = np.random.get_state()
    envs = np.random.randint(0, high=buffer.n_envs, size=len(places))
    np.random.set_state(before)
    return places, envs


def steps_ahead(
    buffer: NStepReplayBuffer, rows: tuple[np.ndarray, np.ndarray]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The transitions of which a buffer makes returns of n steps.

    Args:
        rows: (B,) places in the buffer, and (B,) the environment of each.

    Returns:
        (B·n,) places and environments, and (B, n) discounts: 0 beyond the end of an episode, and beyond the transition
        that was stored last.
    """
    places, envs = rows
    after = (places[:, None] + np.arange(buffer.n_steps)) % buffer.buffer_size
    beside = np.repeat(envs[:, None], buffer.n_steps, axis=1)
    last = (buffer.pos - 1) % buffer.buffer_size
    ends = (buffer.dones[after, beside] + buffer.timeouts[after, beside] > 0) | (after == last)
    counts = np.cumsum(ends, axis=1) - ends == 0
    weights = counts * buffer.gamma ** np.arange(buffer.n_steps)
    return (after.reshape(-1), beside.reshape(-1)), weights


@cache
def guided(kind: type[ReplayBuffer]) -> Any:
    """A replay buffer of this kind that asks a `Guide` when it is sampled, once one is attached. For the argument
    `replay_buffer_class` of Stable-Baselines3; saved agents must not name it."""
    return type(f"Guided{kind.__name__}", (_Guided, kind), {"__module__": __name__})
