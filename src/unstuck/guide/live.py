"""Parts on a model that is already learning, in somebody's own script: nothing of theirs is replaced, and all of it can
be taken off again.

There is no wrapper around the environments. What happens is seen where a callback sees it, after each step. On the
policy (PPO), rewards are added to those of the step before they are stored, and the imitation loss is hooked to buffer
and policy. Off the policy (SAC, DQN), rewards are added to each batch that is drawn from the replay buffer, at the rate
of now, and suggestions are executed, since whatever is done is good experience there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from unstuck.errors import GuidanceError
from unstuck.guide.assembly import Guide
from unstuck.guide.base import Steps, Suggestions
from unstuck.guide.on_policy import ImitationLoss
from unstuck.guide.replay import reward_unit, rewarded, rows_drawn, steps_ahead
from unstuck.guide.sense import computing, imitating, stacked, terminated


class Live:
    """A guide's parts on a learning model. Parts that reach into environments are left out by whoever makes the guide.

    Args:
        model: in the middle of `learn`.
        guide: `total` is for how many environment steps from now; then `over` holds.

    Attributes:
        now: environment steps since it was attached.

    Raises:
        GuidanceError: the model sees other observations than the task gives.
    """

    def __init__(self, model: Any, guide: Guide):
        self.model, self.guide, self.parts = model, guide, guide.parts
        self.now = 0
        seen = model.get_vec_normalize_env() or model.get_env()
        if seen.observation_space != guide.source.spaces[0] and seen.observation_space.shape != (
            guide.source.spaces[0].shape
        ):
            raise GuidanceError(
                "the model does not see the task's own observations (a wrapper such as a frame stack lies between), so "
                "named variables cannot be read from them"
            )
        self._observe = computing(guide.source.describer, frozenset[str]().union(*(p.variables for p in self.parts)))
        self._acting = [p for p in self.parts if p.acts]
        self._rewarding = [p for p in self.parts if p.rewards and "each_step" not in p.needs]
        self._values = self._observe(self._raw(model._last_obs))
        self._before = self._values
        for part in self._acting:
            part.see(self._values, np.ones(model.n_envs, dtype=bool))

    @property
    def over(self) -> bool:
        return self.now >= self.guide.context.total

    @property
    def fading(self) -> float:
        """From 1 to 0 over the time that guidance is there."""
        return max(0.0, 1.0 - self.now / self.guide.context.total)

    def step(self, seen: Mapping[str, Any]) -> None:
        """A vector step was taken; `seen` are the learner's local variables, as callbacks get them."""
        dones, infos = seen["dones"], seen["infos"]
        self._before, self._values = self._values, self._observe(self._raw(seen["new_obs"]))
        if self._rewarding and isinstance(self.model, PPO):
            after = self._values
            if dones.any():
                ended = np.flatnonzero(dones)
                after = after.copy()
                after[ended] = self._observe(self._ends([infos[i]["terminal_observation"] for i in ended]))
            steps = Steps(self._before, after, seen.get("clipped_actions", seen["actions"]), terminated(dones, infos))
            seen["rewards"][:] += self._scaled(np.asarray(self.guide.reward(steps, self.now)))
        self.now += self.model.n_envs
        for part in self._acting:
            part.see(self._values, dones)

    def suggestions(self, own: np.ndarray | None) -> Suggestions | None:
        """As `on_policy.Suggesting`: asked when the step has been taken and seen."""
        part = imitating(self.parts)
        return part.target(self._before, own) if part is not None else None

    def detach(self) -> None:
        """Leave the model as it was found."""

    def line(self) -> dict[str, Any]:
        """Numbers for the logger."""
        return {"fading": self.fading, **{k: v for part in self.parts for k, v in part.line().items()}}

    def _raw(self, obs: Any) -> Any:
        normalizer = self.model.get_vec_normalize_env()
        return obs if normalizer is None else normalizer.get_original_obs()

    def _ends(self, last: list[Any]) -> Any:
        normalizer = self.model.get_vec_normalize_env()
        ends = stacked(last)
        return ends if normalizer is None else normalizer.unnormalize_obs(ends)

    def _scaled(self, bonus: np.ndarray) -> np.ndarray:
        """In the unit in which VecNormalize gives rewards."""
        return bonus / reward_unit(self.model.get_vec_normalize_env())


class LivePPO(Live):
    """To be attached when a rollout begins, and detached when one begins.

    Args:
        observations: of the rollout before, by which parts that look at the policy's states do so.
    """

    def __init__(self, model: PPO, guide: Guide, observations: Any = None):
        super().__init__(model, guide)
        if observations is not None:
            model.rollout_buffer.observations = observations
            guide.on_update(model)
            model.rollout_buffer.reset()
        part = imitating(self.parts)
        self.imitation = ImitationLoss(model, self, part) if part is not None else None

    def line(self) -> dict[str, Any]:
        loss = self.imitation.take_loss() if self.imitation is not None else None
        return {**super().line(), **({"imitation_loss": loss} if loss is not None else {})}

    def detach(self) -> None:
        if self.imitation is not None:
            self.imitation.detach()


class LiveOffPolicy(Live):
    """To be attached and detached between two steps."""

    def __init__(self, model: OffPolicyAlgorithm, guide: Guide):
        super().__init__(model, guide)
        self._draw: Callable[..., Any] = model.replay_buffer.sample  # type: ignore[union-attr]
        self._gather: Callable[..., Any] = model.replay_buffer._get_samples  # type: ignore[union-attr]
        self._sample_action: Callable[..., Any] = model._sample_action
        if self._rewarding and isinstance(model.replay_buffer, NStepReplayBuffer):
            model.replay_buffer._get_samples = self._returns  # type: ignore[method-assign]
        elif self._rewarding:
            model.replay_buffer.sample = self._sample  # type: ignore[union-attr,method-assign]
        if self._acting:
            model._sample_action = self._choose  # type: ignore[method-assign]

    def detach(self) -> None:
        for name in ("sample", "_get_samples"):
            vars(self.model.replay_buffer).pop(name, None)
        vars(self.model).pop("_sample_action", None)

    def _choose(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Actions to take and to store; suggestions where parts have some."""
        own, stored = self._sample_action(*args, **kwargs)
        taken = own
        for part in self._acting:
            taken = part.act(taken)
        if taken is own:
            return own, stored
        boxed = isinstance(self.model.action_space, spaces.Box)
        return taken, self.model.policy.scale_action(taken) if boxed else taken

    def _returns(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        """A batch with returns of several steps, and in each of these steps rewards of now."""
        buffer: Any = self.model.replay_buffer
        rows, weights = steps_ahead(buffer, rows_drawn(buffer, batch_inds))
        actions = buffer.actions[rows]
        if isinstance(self.model.action_space, spaces.Box):
            actions = self.model.policy.unscale_action(actions)
        ended = buffer.dones[rows] * (1 - buffer.timeouts[rows]) > 0
        before, after = self._observe(buffer.observations[rows]), self._observe(buffer.next_observations[rows])
        samples = self._gather(batch_inds, env)
        return rewarded(samples, self.guide, Steps(before, after, actions, ended), self.now, env, weights)

    def _sample(self, batch_size: int, env: Any = None) -> Any:
        """A batch with rewards of now: drawn raw, as parts know it, then normalised as the buffer does it."""
        buffer = self.model.replay_buffer
        raw = self._draw(batch_size, env=None)
        before, after = _arrays(raw.observations), _arrays(raw.next_observations)
        actions = raw.actions.cpu().numpy()
        if isinstance(self.model.action_space, spaces.Box):
            actions = self.model.policy.unscale_action(actions)
        ended = raw.dones.cpu().numpy()[:, 0] > 0
        steps = Steps(self._observe(before), self._observe(after), actions, ended)
        if env is not None:
            raw = raw._replace(
                observations=_tensors(buffer, buffer._normalize_obs(before, env)),
                next_observations=_tensors(buffer, buffer._normalize_obs(after, env)),
                rewards=buffer.to_torch(buffer._normalize_reward(raw.rewards.cpu().numpy(), env).astype(np.float32)),
            )
        return rewarded(raw, self.guide, steps, self.now, env)


def _arrays(obs: Any) -> Any:
    return {k: v.cpu().numpy() for k, v in obs.items()} if isinstance(obs, dict) else obs.cpu().numpy()


def _tensors(buffer: Any, obs: Any) -> Any:
    return {k: buffer.to_torch(v) for k, v in obs.items()} if isinstance(obs, dict) else buffer.to_torch(obs)
