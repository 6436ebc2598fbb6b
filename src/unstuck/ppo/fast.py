"""A Stable-Baselines3 PPO that computes rollouts and updates without torch where its policy allows it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from unstuck.ppo import adam, support
from unstuck.ppo.adam import Adam
from unstuck.ppo.heads import head_for
from unstuck.ppo.hooks import Hindsight, Substitution, Target
from unstuck.ppo.networks import Networks
from unstuck.ppo.returns import advantages
from unstuck.ppo.update import Samples, Settings, Statistics, Update


class FastPPO(PPO):
    """PPO with the arguments, the random numbers, the logs and the saved files of Stable-Baselines3's.

    With the same seed and environments it follows `stable_baselines3.PPO` up to the rounding of float32. It computes
    by itself what `MlpPolicy` makes of Box or Discrete observations for Box or Discrete actions; anything else it
    leaves to Stable-Baselines3 (`slow_because` says why). `save` writes a zip that `PPO.load` reads.

    In rollouts, callbacks see actions, values and log-probabilities as arrays, not as tensors. Weights that a callback
    changes in the middle of a rollout are used from the next rollout on.

    Attributes:
        substitution: replaces actions while rollouts are collected.
        target: gives suggestions that the policy is to imitate.
        hindsight: gives rewards, and the suggestions in place of `target`, when a rollout is complete.
    """

    substitution: Substitution | None = None
    target: Target | None = None
    hindsight: Hindsight | None = None
    _networks: Networks | None = None
    _advised: np.ndarray | None = None
    _targets: np.ndarray | None = None
    _own: ClassVar[list[str]] = [
        "substitution", "target", "hindsight", "_networks", "_head", "_advised", "_targets", "_modes",
    ]  # fmt: skip

    @property
    def slow_because(self) -> str | None:
        """Why Stable-Baselines3's own loops are used, in a few words; None if they are not."""
        if type(self.rollout_buffer) is not RolloutBuffer:
            return f"its rollout buffer is a {type(self.rollout_buffer).__name__}"
        if self.use_sde or self.clip_range_vf is not None:
            return "it uses gSDE" if self.use_sde else "it clips the value function"
        return support.unsupported(self.policy) or adam.unsupported(self.policy.optimizer)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *self._own]

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the rollout buffer, as `OnPolicyAlgorithm.collect_rollouts` does."""
        if (reason := self.slow_because) is not None:
            if any(part is not None for part in (self.substitution, self.target, self.hindsight)):
                raise RuntimeError(f"guidance was attached for the fast loops, but they cannot be used: {reason}")
            self._networks = None
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert isinstance(self._last_obs, np.ndarray)
        self.policy.set_training_mode(False)
        self._begin(rollout_buffer)
        callback.on_rollout_start()
        for n_steps in range(n_rollout_steps):
            obs = self._last_obs
            actions, values, log_probs = self._act(obs)
            clipped_actions = actions
            if isinstance(self.action_space, spaces.Box):
                clipped_actions = np.minimum(np.maximum(actions, self.action_space.low), self.action_space.high)
            new_obs, rewards, dones, infos = env.step(clipped_actions)
            assert isinstance(new_obs, np.ndarray)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            if dones.any():
                self._bootstrap(rewards, dones, infos)
            if self.target is not None:
                self._remember_suggestions(n_steps)
            _store(rollout_buffer, n_steps, obs, actions, rewards, self._last_episode_starts, values, log_probs)
            self._last_obs, self._last_episode_starts = new_obs, dones
        if self.hindsight is not None:
            self._look_back(rollout_buffer)
        self._finish(rollout_buffer, dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _begin(self, buffer: RolloutBuffer) -> None:
        if self._networks is None or self._networks.stale(self.policy):
            self._networks = Networks(self.policy)
            self._head = head_for(self._networks, self.action_space.shape or ())
        self._networks.pull()
        buffer.reset()
        self._advised = self._targets = None
        self._modes: list[np.ndarray] = []
        if self.hindsight is not None:
            self.hindsight.begin()
        if self.target is not None:
            self._advised = np.zeros(buffer.rewards.shape, bool)
            self._targets = np.zeros((*buffer.rewards.shape, *(self.action_space.shape or ())), self.action_space.dtype)

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Actions to store and take, values, log-probabilities, for one observation of each environment."""
        networks, head = self._networks, self._head
        assert networks is not None
        room = networks.room(len(obs))
        self._out, values = networks.forward(networks.features(obs, room.x), room)
        own = actions = head.sample(self._out)
        if self.substitution is not None:
            actions = self.substitution.substitute(own)
            if self.substitution.log_prob == "suggestion":
                own = actions
        return actions, values, head.log_prob(self._out, head.columns(own))

    def _remember_suggestions(self, step: int) -> None:
        assert self.target is not None
        assert self._advised is not None
        assert self._targets is not None
        if self.hindsight is not None:
            if self.hindsight.wants_modes:
                self._modes.append(self._head.mode(self._out))
            return
        found = self.target.suggestions(self._head.mode(self._out))
        if found is not None:
            self._advised[step], self._targets[step, found[0]] = found

    def _look_back(self, buffer: RolloutBuffer) -> None:
        assert self.hindsight is not None
        if (rewards := self.hindsight.rewards()) is not None:
            buffer.rewards += rewards.astype(buffer.rewards.dtype)
        if self.target is None:
            return
        found = self.hindsight.suggestions(np.stack(self._modes) if self._modes else None)
        if found is not None:
            assert self._targets is not None
            self._advised, self._targets[found[0]] = found

    def _bootstrap(self, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """Episodes that only ran out of time go on in value: add the discounted value of their end to the reward."""
        cut = [
            i for i in np.flatnonzero(dones)
            if infos[i].get("terminal_observation") is not None and infos[i].get("TimeLimit.truncated", False)
        ]  # fmt: skip
        if cut:
            assert self._networks is not None
            ends = np.stack([infos[i]["terminal_observation"] for i in cut])
            rewards[cut] += self.gamma * self._networks.values(ends)

    def _finish(self, buffer: RolloutBuffer, dones: np.ndarray) -> None:
        assert self._networks is not None
        assert isinstance(self._last_obs, np.ndarray)
        buffer.pos, buffer.full = len(buffer.rewards), True
        buffer.advantages = advantages(
            buffer.rewards, buffer.values, buffer.episode_starts, self._networks.values(self._last_obs), dones,
            self.gamma, self.gae_lambda,
        )  # fmt: skip
        buffer.returns = buffer.advantages + buffer.values

    def train(self) -> None:
        """Update the policy by the rollout buffer, as `PPO.train` does."""
        if self._networks is None or self.slow_because is not None:
            return super().train()
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        networks = self._networks
        networks.pull()
        optimizer = Adam(networks, self.policy.optimizer, self.max_grad_norm)
        settings = Settings(
            self.batch_size, self.n_epochs, self.clip_range(self._current_progress_remaining),  # type: ignore[operator]
            self.ent_coef, self.vf_coef, self.normalize_advantage, self.target_kl,
            imitate=self.target.coefficient if self.target is not None else 0.0,
            whole_pull=self.target.whole_pull if self.target is not None else 0.0,
        )  # fmt: skip
        result = Update(networks, self._head, optimizer, settings).run(self._samples(), np.random.permutation)
        networks.push()
        optimizer.write()
        self._n_updates += result.epochs
        if self.target is not None:
            self.target.record(result.imitation)
        self._record(result, settings)

    def _samples(self) -> Samples:
        """The rollout, environment by environment, in the order that Stable-Baselines3 gives it."""
        buffer, networks = self.rollout_buffer, self._networks
        assert networks is not None
        if not buffer.generator_ready:
            for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
                setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
            buffer.generator_ready = True
        x = np.ones((networks.inputs + 1, len(buffer.actions)), np.float32)
        networks.features(buffer.observations, x)
        samples = Samples(
            x, self._head.columns(buffer.actions), buffer.log_probs.ravel(), buffer.advantages.ravel(),
            buffer.returns.ravel(),
        )  # fmt: skip
        if self._advised is not None and self._targets is not None and self._advised.any():
            assert self.target is not None
            suggested = buffer.swap_and_flatten(self._targets[..., None])
            samples.advised = self.target.pulls(self._advised.T.reshape(-1), suggested)
            samples.targets = self._head.columns(suggested)
        return samples

    def _record(self, result: Statistics, settings: Settings) -> None:
        buffer, record = self.rollout_buffer, self.logger.record
        loss = result.policy_loss[-1] + self.ent_coef * result.entropy_loss[-1] + self.vf_coef * result.value_loss[-1]
        if result.stopped and self.verbose >= 1:
            print(f"Early stopping at step {result.epochs - 1} due to reaching max kl: {result.approx_kl[-1]:.2f}")
        record("train/entropy_loss", np.mean(result.entropy_loss))
        record("train/policy_gradient_loss", np.mean(result.policy_loss))
        record("train/value_loss", np.mean(result.value_loss))
        record("train/approx_kl", np.mean(result.approx_kl))
        record("train/clip_fraction", np.mean(result.clip_fraction))
        record("train/loss", loss)
        record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        if hasattr(self.policy, "log_std"):
            record("train/std", float(np.exp(self.policy.log_std.detach().numpy()).mean()))
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        record("train/clip_range", settings.clip_range)


def _store(
    buffer: RolloutBuffer, step: int, obs: Any, actions: Any, rewards: Any, starts: Any, values: Any, log_probs: Any
) -> None:
    """What `RolloutBuffer.add` does."""
    buffer.observations[step] = obs.reshape(buffer.observations[step].shape)
    buffer.actions[step] = actions.reshape(len(actions), -1)
    buffer.rewards[step] = rewards
    buffer.episode_starts[step] = starts
    buffer.values[step] = values
    buffer.log_probs[step] = log_probs
    buffer.pos = step + 1
