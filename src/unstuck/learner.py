"""One training run: PPO with the guidance attached, its learning curve and its late checkpoints."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from unstuck.agents import Agent, save_agent, to_ppo, to_vecnormalize
from unstuck.config import TrainConfig
from unstuck.errors import AgentError
from unstuck.guidance import Guidance
from unstuck.modulate.attach import Modulation
from unstuck.modulate.execution import attach_execution
from unstuck.modulate.hindsight import attach_hindsight
from unstuck.modulate.imitation import Imitation
from unstuck.modulate.plan import Plan
from unstuck.ppo.fast import FastPPO
from unstuck.ppo.normalize import FrozenVecNormalize
from unstuck.vecenvs import make_vec_env
from unstuck.workspace import Workspace


class Learner:
    """A PPO that starts from the stuck agent, with whatever of the guidance its plan lets in."""

    def __init__(
        self,
        space: Workspace,
        config: TrainConfig,
        plan: Plan,
        guidance: Guidance | None,
        seed: int,
        steps: int,
        folder: Path,
    ):
        self.agent, self.config, self.plan, self.steps, self.folder = space.agent, config, plan, steps, folder
        task = space.config.task
        self.modulation = modulation = Modulation(space, plan, guidance, seed, steps)
        backend = modulation.backend(config.backend)
        venv: VecEnv = make_vec_env(
            modulation.make_env, task.env, task.env_kwargs, config.n_envs, backend, config.threads
        )
        self.backend: str = venv.backend  # type: ignore[attr-defined]
        venv = modulation.wrap(venv)
        self.guide = modulation.guide
        discrete = isinstance(venv.action_space, spaces.Discrete)
        self.model: PPO = to_ppo(
            self.agent,
            normalized(venv, self.agent),
            learning_rate=config.learning_rate,
            n_steps=config.n_steps,
            batch_size=config.batch_size,
            n_epochs=config.n_epochs,
            clip_range=config.clip_range,
            ent_coef=config.ent_coef if config.ent_coef is not None else 0.01 if discrete else 0.0,
            seed=seed,
            ppo_class=PPO if config.engine == "sb3" else FastPPO,
        )
        self.engine = "sb3" if (reason := _slow_because(self.model)) else "fast"
        if config.engine == "fast" and reason:
            raise AgentError(f"The fast PPO cannot train this agent: {reason}. Use --train.engine auto or sb3.")
        self.imitation: Imitation | None = None
        if self.guide is not None and plan.imitate > 0:
            self.imitation = Imitation(self.model, self.guide, plan.imitate)
        if self.guide is not None and plan.execute and plan.log_prob != "own":
            attach_execution(self.model, self.guide, plan.log_prob)
        self.hindsight = attach_hindsight(self.model, self.guide) if self.guide is not None else None
        """Looks at whole rollouts in place of steps; None where guidance is computed at each step, or not at all."""

    def learn(self, first_step: int) -> dict[str, Any]:
        """Train for `steps`; write curve.jsonl, agent.zip and late checkpoints. `first_step`: what the arm was
        already charged before training, where its learning curve begins."""
        log = _Log(self, first_step)
        self.model.learn(
            self.steps, callback=[*self.modulation.callbacks(), _CriticWarmup(self.config, self.steps), log]
        )
        save_agent(self.model, self.folder / "agent.zip", self.agent.normalization)
        self.model.get_env().close()  # type: ignore[union-attr]
        facts = {
            "warnings": log.warnings(),
            "notes": self.modulation.notes(),
            "hit_rate": log.mean_hit_rate(),
            "checkpoints": log.checkpoints,
        }
        return {**facts, "backend": self.backend, "engine": self.engine}


def _slow_because(model: PPO) -> str | None:
    """Why Stable-Baselines3's own loops train the model; None if ours do."""
    return model.slow_because if isinstance(model, FastPPO) else "Stable-Baselines3's PPO was asked for"


def normalized(venv: VecEnv, agent: Agent) -> VecEnv:
    """The environments as the agent sees them: its observation statistics, frozen; rewards as they are, because a
    running scale of rewards would hide from the critic what changes."""
    if agent.normalization is None or not agent.normalization.norm_obs:
        return venv
    held = to_vecnormalize(agent.normalization, venv.observation_space, venv.action_space)
    fresh = FrozenVecNormalize(
        venv,
        training=False,
        norm_obs=True,
        norm_reward=False,
        clip_obs=held.clip_obs,
        epsilon=held.epsilon,
        norm_obs_keys=held.norm_obs_keys,
    )
    fresh.obs_rms = held.obs_rms
    return fresh


class _CriticWarmup(BaseCallback):
    """Only the critic learns at first: the saved critic knows other rewards or another optimiser's scale, and its
    errors would tear down the policy before they are corrected. At most a fifth of the training."""

    def __init__(self, config: TrainConfig, steps: int):
        super().__init__()
        self._until = min(config.critic_warmup, steps // 5)

    def _on_rollout_end(self) -> None:
        warm = self.num_timesteps <= self._until
        for name, parameter in self.model.policy.named_parameters():
            if not _only_critic(name):
                parameter.requires_grad_(not warm)

    def _on_step(self) -> bool:
        return True


def _only_critic(name: str) -> bool:
    return name.startswith(("mlp_extractor.value_net", "value_net", "vf_features_extractor"))


class _Log(BaseCallback):
    """Writes a line of the learning curve after each rollout, and saves late checkpoints."""

    def __init__(self, learner: Learner, first_step: int):
        super().__init__()
        self._learner, self._first = learner, first_step
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._file = open(learner.folder / "curve.jsonl", "w", encoding="utf-8")  # noqa: SIM115
        self._lines: list[dict[str, Any]] = []
        count, steps = learner.config.late_checkpoints, learner.steps
        # The last one is the end of training itself; the others lie in its last fifth, or what else is set.
        shares = np.linspace(1.0 - learner.config.late_share, 1.0, count + 1)[1:-1]
        self._due = [int(steps * f) for f in shares] if count > 1 else []
        self.checkpoints: list[list[Any]] = []

    def _on_training_start(self) -> None:
        self._begun = time.monotonic()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if (episode := info.get("episode")) is not None:
                self._returns.append(float(episode["r"]))
                self._lengths.append(int(episode["l"]))
        return True

    def _on_rollout_end(self) -> None:
        guide, imitation = self._learner.guide, self._learner.imitation
        hit, bonus = guide.take_counts() if guide else (None, None)
        values = self.logger.name_to_value
        line = {
            "steps": self._first + self.num_timesteps,
            "trained": self.num_timesteps,
            "return_mean": _mean(self._returns),
            "episodes": len(self._returns),
            "length_mean": _mean(self._lengths),
            "hit_rate": hit,
            "bonus_mean": bonus,
            "imitation": imitation.take_loss() if imitation else None,
            "entropy": _maybe(values.get("train/entropy_loss"), -1.0),
            "explained_variance": _maybe(values.get("train/explained_variance")),
            "steps_per_second": round(self.num_timesteps / max(time.monotonic() - self._begun, 1e-9), 1),
            **self._learner.modulation.take(),
        }
        self._lines.append(line)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._returns, self._lengths = [], []
        while self._due and self.num_timesteps >= self._due[0]:
            self._due.pop(0)
            name = f"agent-{self.num_timesteps}.zip"
            save_agent(self.model, self._learner.folder / name, self._learner.agent.normalization)  # type: ignore[arg-type]
            self.checkpoints.append([self.num_timesteps, name])

    def _on_training_end(self) -> None:
        self._file.close()
        self.checkpoints.append([self.num_timesteps, "agent.zip"])

    def mean_hit_rate(self) -> float | None:
        hits = [line["hit_rate"] for line in self._lines if line["hit_rate"] is not None]
        return float(np.mean(hits)) if hits else None

    def warnings(self) -> list[str]:
        """Signs that guidance was farmed, or never met."""
        plan, lines = self._learner.plan, self._lines
        if self._learner.guide is None or len(lines) < 6:
            return []
        if not (self.mean_hit_rate() or any(line["bonus_mean"] for line in lines)):
            return ["no advice ever applied: its conditions or neighbourhoods never held in training"]
        if not (plan.state_reward or plan.terms):
            return []
        third = len(lines) // 3
        bonus = [float(line["bonus_mean"]) for line in lines]
        early = [line["return_mean"] for line in lines[:third] if line["return_mean"] is not None]
        late = [line["return_mean"] for line in lines[-third:] if line["return_mean"] is not None]
        farmed = np.mean(bonus[-third:]) > np.mean(bonus[:third]) + 0.05 * (abs(np.mean(bonus[:third])) + 1e-9)
        if farmed and early and late and np.mean(late) <= np.mean(early):
            return ["the guidance reward rose while the true return did not: it may be farmed"]
        return []


def _mean(values: list[Any]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _maybe(value: Any, factor: float = 1.0) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value) * factor, 5)
