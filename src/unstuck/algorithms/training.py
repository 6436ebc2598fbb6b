"""Trainers around the learners of Stable-Baselines3: the parts of guidance, the cadence of reports, going on later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from unstuck.agents import Agent, save_agent, to_vecnormalize
from unstuck.algorithms.base import OnUpdate, Training, Update
from unstuck.errors import RunError
from unstuck.guide.assembly import Guide
from unstuck.ppo.normalize import FrozenVecNormalize
from unstuck.suspended import random_numbers, restore_random_numbers


class SB3Trainer:
    """A learner of Stable-Baselines3 that began with an agent's weights, and what takes part in its training.

    Args:
        model: made with environments that `training.guide` was wrapped around.
        agent: whose weights it began with.

    Attributes:
        engine: what computes rollouts and updates, for the run's facts.
        optimisers: where the model keeps its optimisers.
    """

    engine = "sb3"
    optimisers: Sequence[str] = ("policy.optimizer",)

    def __init__(self, model: Any, agent: Agent, training: Training):
        self.model, self.agent, self.training = model, agent, training
        self.guide: Guide = training.guide
        model.num_timesteps = training.start

    def callbacks(self) -> list[BaseCallback]:
        """What the algorithm itself needs beside parts and reports."""
        return []

    def signals(self) -> dict[str, float | None]:
        """For a line of the learning curve."""
        return {}

    def cadence(self) -> int:
        """Environment steps between two reports; 0: one after each rollout."""
        return 0

    def learn(self, stop: int, on_update: OnUpdate) -> None:
        """As `Trainer.learn`."""
        training = self.training
        if training.start or stop != training.steps:
            _progress_by_the_whole(self.model, training.steps)
        self.model.learn(
            stop - training.start,
            callback=[_Parts(self, self.cadence()), *self.callbacks(), _Reports(self, on_update, self.cadence(), stop)],
            reset_num_timesteps=not training.start,
        )

    def save(self, path: Path) -> Path:
        """As `Trainer.save`."""
        return save_agent(self.model, path, self.agent.normalization)

    def state(self) -> dict[str, Any]:
        """As `Trainer.state`."""
        from unstuck.algorithms.sb3 import attribute

        found = {name: attribute(self.model, name) for name in self.optimisers}
        return {
            "steps": self.model.num_timesteps,
            "policy": dict(self.model.policy.state_dict()),
            "optimisers": {name: o.state_dict() for name, o in found.items() if o is not None},
            "updates": self.model._n_updates,
            "parts": self.guide.state(),
            "numbers": random_numbers(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """As `Trainer.restore`."""
        from unstuck.algorithms.sb3 import attribute

        try:
            self.model.policy.load_state_dict(state["policy"])
            for name, held in state["optimisers"].items():
                attribute(self.model, name).load_state_dict(held)
            self.guide.restore(state["parts"])
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise RunError(f"the suspended training is of another agent or plan ({error}); begin it anew") from error
        self.model._n_updates = state["updates"]
        restore_random_numbers(state["numbers"])


def later_seed(seed: int, start: int) -> int:
    """A seed for the environments of a segment that begins at `start`: other episodes than those at the beginning."""
    return int(np.random.SeedSequence([seed, start]).generate_state(1)[0] >> 1) if start else seed


def normalized(venv: VecEnv, agent: Agent, *, rewards: bool = False) -> VecEnv:
    """The environments as the agent sees them: its observation statistics, frozen.

    Args:
        rewards: whether rewards are scaled too, as in the agent's own training; if not, they are as they are, because
            a running scale of rewards would hide from the critic what changes.
    """
    stored = agent.normalization
    rewards = rewards and stored is not None and stored.norm_reward
    if stored is None or not (stored.norm_obs or rewards):
        return venv
    held = to_vecnormalize(stored, venv.observation_space, venv.action_space)
    fresh = FrozenVecNormalize(
        venv,
        training=False,
        norm_obs=stored.norm_obs,
        norm_reward=rewards,
        clip_obs=held.clip_obs,
        clip_reward=held.clip_reward,
        epsilon=held.epsilon,
        norm_obs_keys=held.norm_obs_keys,
    )
    if stored.norm_obs:
        fresh.obs_rms = held.obs_rms
    fresh.ret_rms = held.ret_rms
    return fresh


def _progress_by_the_whole(model: Any, total: int) -> None:
    """Let schedules of the learning rate and the clip range go by the whole training, not by a segment of it."""

    def update(steps: int, _: int) -> None:
        model._current_progress_remaining = 1.0 - steps / total

    model._update_current_progress_remaining = update


class _Cadence(BaseCallback):
    """Does something after each rollout, or after the first one that ends `every` steps after the last time."""

    def __init__(self, every: int):
        super().__init__()
        self._every, self._last = every, 0

    def _on_training_start(self) -> None:
        self._last = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.model.num_timesteps - self._last >= self._every:
            self._last = self.model.num_timesteps
            self.on_cadence()

    def on_cadence(self) -> None:
        raise NotImplementedError


class _Parts(_Cadence):
    """Calls the parts when a rollout is complete, and counts environment steps that the learner does not see into those
    that it does, and so into the budget. Training ends before a rollout that would not fit in any more."""

    def __init__(self, trainer: SB3Trainer, every: int):
        super().__init__(every)
        self._guide, self._steps = trainer.guide, trainer.training.steps
        self._charged, self._begun = self._guide.unseen_steps, 0

    def _on_rollout_start(self) -> None:
        self._begun = self.model.num_timesteps

    def _on_step(self) -> bool:
        unseen = self._guide.unseen_steps
        self.model.num_timesteps += unseen - self._charged
        self.num_timesteps, self._charged = self.model.num_timesteps, unseen
        return True

    def _on_rollout_end(self) -> None:
        now = self.model.num_timesteps
        if self._guide.single_env and now + (now - self._begun) > self._steps:
            self.model.num_timesteps = max(now, self._steps)
        super()._on_rollout_end()

    def on_cadence(self) -> None:
        self._guide.on_update(self.model)


class _Reports(_Cadence):
    """Tells what happened since the last time."""

    def __init__(self, trainer: SB3Trainer, on_update: OnUpdate, every: int, stop: int):
        super().__init__(every)
        self._trainer, self._on_update, self._stop = trainer, on_update, stop
        self._episodes: list[tuple[float, int]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if (episode := info.get("episode")) is not None:
                self._episodes.append((float(episode["r"]), int(episode["l"])))
        return True

    def _on_rollout_end(self) -> None:
        if self.model.num_timesteps >= self._stop:
            self._last = -self._every
        super()._on_rollout_end()

    def on_cadence(self) -> None:
        episodes, self._episodes = tuple(self._episodes), []
        signals = {k: v for k, v in self._trainer.signals().items() if v is not None}
        self._on_update(Update(self.num_timesteps, episodes, {**signals}))
