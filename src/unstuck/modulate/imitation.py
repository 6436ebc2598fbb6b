"""Imitation of suggestions inside PPO's own loss.

`FastPPO` asks for the suggestions and adds the loss itself (`unstuck.ppo.hooks.Target`).

SB3's PPO is left as it is. Its rollout buffer also remembers which suggestion applied in each state, and the
policy's `evaluate_actions`, which PPO calls on each minibatch, attaches the imitation loss to the values that it
returns: `_Attach` passes values through unchanged and hands the loss its gradient on the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

from unstuck.modulate.venv import GuidanceVecEnv
from unstuck.ppo.fast import FastPPO


class _Attach(torch.autograd.Function):
    """Identity on `values` whose backward pass also gives `loss` a gradient of 1."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return grad[0], torch.ones((), dtype=grad[0].dtype, device=grad[0].device)


class _Suggestions:
    """Adds to a rollout buffer the suggestion for each stored state, (n_steps, n_envs, ...), and where there is one."""

    owner: Imitation

    def reset(self) -> None:
        super().reset()  # type: ignore[misc]
        shape = (self.buffer_size, self.n_envs)  # type: ignore[attr-defined]
        self._advised = np.zeros(shape, dtype=bool)
        self._suggested: np.ndarray = np.zeros((*shape, *(self.action_space.shape or ())), dtype=np.float32)  # type: ignore[attr-defined]
        self.minibatch: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, obs: Any, *args: Any, **kwargs: Any) -> None:
        found = self.owner.suggestions(self.owner.policy_mode() if self.owner.has_deltas else None)
        if found is not None:
            self._advised[self.pos] = found[0]  # type: ignore[attr-defined]
            self._suggested[self.pos][found[0]] = found[1]  # type: ignore[attr-defined]
        super().add(obs, *args, **kwargs)  # type: ignore[misc]

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        if not self.generator_ready:  # type: ignore[attr-defined]
            # The order that `swap_and_flatten` gives everything else: environment by environment.
            self._advised = self._advised.swapaxes(0, 1).reshape(-1)
            self._suggested = self._suggested.swapaxes(0, 1).reshape(-1, *self._suggested.shape[2:])
        yield from super().get(batch_size)  # type: ignore[misc]

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        self.minibatch = self._suggested[batch_inds], self._advised[batch_inds]
        return super()._get_samples(batch_inds, env)  # type: ignore[misc]


class SuggestionBuffer(_Suggestions, RolloutBuffer):  # type: ignore[misc]
    """A rollout buffer that remembers suggestions."""


class DictSuggestionBuffer(_Suggestions, DictRolloutBuffer):  # type: ignore[misc]
    """The same for dict observations."""


class Imitation:
    """Attaches the imitation loss to a PPO that is about to learn.

    Discrete: cross-entropy towards the suggested action. Continuous: half the squared distance of the mean action
    from the suggestion in units of the policy's standard deviation. Averaged over the *matched* samples of the
    minibatch, so that rare advice is not diluted, and multiplied with `coefficient`.
    """

    def __init__(self, model: PPO, source: GuidanceVecEnv, coefficient: float):
        self.coefficient, self._source = coefficient, source
        self._policy: Any = model.policy
        self._discrete = isinstance(model.action_space, spaces.Discrete)
        self._losses: list[float] = []
        if isinstance(model, FastPPO) and model.slow_because is None:
            model.target = self
        else:
            self._hook(model)

    @property
    def has_deltas(self) -> bool:
        """Whether suggestions depend on what the policy itself would do."""
        return self._source.has_deltas

    def suggestions(self, mode: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Suggestions for the states from which the last step was taken.

        Args:
            mode: (n_envs, ...) the policy's most likely actions in these states, to which deltas are added; only
                looked at if there are deltas.

        Returns:
            (n_envs,) bool, where there is a suggestion, and (M, ...) the suggested actions there; None for nowhere.
        """
        return self._source.suggestions(self._source.acted, mode)

    def record(self, losses: list[float]) -> None:
        """Takes the losses of minibatches, before `coefficient`."""
        self._losses += losses

    def _hook(self, model: PPO) -> None:
        """Attach to SB3's own loops."""
        self._evaluate = model.policy.evaluate_actions
        kind = DictSuggestionBuffer if isinstance(model.observation_space, spaces.Dict) else SuggestionBuffer
        self._buffer = kind(
            model.n_steps,
            model.observation_space,  # type: ignore[arg-type]
            model.action_space,
            device=model.device,
            gamma=model.gamma,
            gae_lambda=model.gae_lambda,
            n_envs=model.n_envs,
        )
        self._buffer.owner = self
        model.rollout_buffer = self._buffer
        model.policy.evaluate_actions = self._evaluate_and_attach  # type: ignore[method-assign]

    def policy_mode(self) -> np.ndarray:
        """The policy's most likely actions in the states just acted in: SB3 keeps the distribution that it has just
        sampled from in `action_dist`."""
        with torch.no_grad():
            return self._policy.action_dist.mode().cpu().numpy()

    def _evaluate_and_attach(self, obs: Any, actions: torch.Tensor) -> Any:
        values, log_prob, entropy = self._evaluate(obs, actions)
        assert self._buffer.minibatch is not None
        suggested, advised = self._buffer.minibatch
        if advised.any():
            loss = self._loss(suggested, advised)
            if loss.requires_grad:
                values = _Attach.apply(values, self.coefficient * loss)
            self.record([float(loss.detach())])
        return values, log_prob, entropy

    def _loss(self, suggested: np.ndarray, advised: np.ndarray) -> torch.Tensor:
        # SB3 keeps the distribution that it has just evaluated in `action_dist`: no second forward pass is needed.
        inner = self._policy.action_dist.distribution
        target = torch.as_tensor(suggested, device=self._policy.device)
        if self._discrete:
            each = -inner.log_prob(target.long())
        else:
            each = 0.5 * (((inner.mean - target) / inner.stddev.detach()) ** 2).sum(dim=1)
        matched = torch.as_tensor(advised, dtype=each.dtype, device=each.device)
        return (each * matched).sum() / matched.sum()

    def take_loss(self) -> float | None:
        """Mean loss since the last call, None if no sample matched."""
        losses, self._losses = self._losses, []
        return float(np.mean(losses)) if losses else None
