"""Losses towards suggestions for learners with a replay buffer: their gradients are added to those of the algorithm's
own right before an optimiser's step (`register_step_pre_hook` of torch), so that no loop of the library is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from unstuck.guide.base import Suggestions
from unstuck.guide.replay import Batch


class Imitation:
    """Adds the gradient of a loss towards suggestions to an optimiser's step.

    Args:
        model: that learns.
        part: what suggests; its `imitate` is what the loss is multiplied with.
        optimiser: of the network that imitates.
    """

    def __init__(self, model: Any, part: Any, optimiser: torch.optim.Optimizer):
        self.model, self.part = model, part
        self._losses: list[float] = []
        optimiser.register_step_pre_hook(self._before_step)

    def _before_step(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        batch = self.model.replay_buffer.last
        if batch is None or not any(p.requires_grad for g in optimiser.param_groups for p in g["params"]):
            return
        found = self.part.target(batch.values, self.own(batch) if self.part.wants_own else None)
        if found is None:
            return
        with torch.enable_grad():
            loss = self.loss(batch, found)
        self._losses.append(float(loss.detach()))
        if loss.requires_grad:
            (self.part.imitate * loss).backward()

    def own(self, batch: Batch) -> np.ndarray:
        """(B, *action shape) the policy's most likely actions, as they are executed."""
        raise NotImplementedError

    def loss(self, batch: Batch, found: Suggestions) -> torch.Tensor:
        """Mean over the batch, so that rare suggestions pull as little as they are many."""
        raise NotImplementedError

    def take_loss(self) -> float | None:
        """Mean loss since the last call, None if no sample matched."""
        losses, self._losses = self._losses, []
        return float(np.mean(losses)) if losses else None


class Conservation:
    """Adds the gradient of log sum_a exp Q(s, a) - Q(s, taken) to an optimiser's step: conservative Q-learning (Kumar
    et al. 2020, arXiv 2006.04779, equation 4).

    Args:
        q: normalised observations → (B, n) Q, with gradients.
        coefficient: of the loss; its gradient is of at most this size for each Q, whatever the unit.
        unit: of Q, in which differences count.
    """

    def __init__(self, model: Any, q: Callable[[Any], torch.Tensor], coefficient: float, unit: float = 1.0):
        self.model, self._q, self.coefficient, self.unit = model, q, coefficient, unit
        model.policy.optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if (batch := self.model.replay_buffer.last) is not None:
            with torch.enable_grad():
                loss = self.loss(batch)
            (self.coefficient * loss).backward()

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean over the batch."""
        q = self._q(batch.samples.observations)
        taken = q.gather(1, batch.samples.actions.long()).squeeze(1)
        return (self.unit * torch.logsumexp(q / self.unit, dim=1) - taken).mean()


class ModeLoss(Imitation):
    """The squared distance of the actor's most likely action from the suggestion, both in [-1, 1], times the mean |Q|
    of the batch, so that neither outweighs the other when rewards are scaled (Fujimoto and Gu 2021, arXiv 2106.06860,
    equation 5). Filtered, only where the critic rates the suggestion above what the actor would do (the Q-filter of
    Nair et al. 2018, arXiv 1709.10089, section IV-D).

    Args:
        mode: normalised observations → (B, A) most likely actions in [-1, 1], with gradients.
        q: normalised observations and actions in [-1, 1] → (B,) Q.
        filtered: whether the critic is asked; else all suggestions are imitated.
    """

    def __init__(
        self, model: Any, part: Any, mode: Callable[[Any], torch.Tensor],
        q: Callable[[Any, torch.Tensor], torch.Tensor], *, filtered: bool = False,
    ):  # fmt: skip
        super().__init__(model, part, model.actor.optimizer)
        self._mode, self._q, self._filtered = mode, q, filtered
        self.kept: float = 0.0
        """The share of the last batch's suggestions that the critic let pass."""

    def own(self, batch: Batch) -> np.ndarray:
        with torch.no_grad():
            mode = self._mode(batch.samples.observations).cpu().numpy()
        return self.model.policy.unscale_action(mode.reshape(-1, *self.model.action_space.shape))

    def loss(self, batch: Batch, found: Suggestions) -> torch.Tensor:
        obs, where = batch.samples.observations, torch.as_tensor(found.where)
        mode = self._mode(obs)
        wanted = mode.detach().clone()
        scaled = self.model.policy.scale_action(found.actions).reshape(len(found.actions), -1)
        wanted[where] = torch.as_tensor(scaled, dtype=mode.dtype, device=mode.device)
        with torch.no_grad():
            own = self._q(obs, mode.detach())
            keep = where.to(own.device)
            if self._filtered:
                keep = keep & (self._q(obs, wanted) > own)
        self.kept = float(keep.sum()) / len(found.actions)
        each = ((mode - wanted) ** 2).sum(dim=1)
        return own.abs().mean() * (each * keep).sum() / len(each)


class MarginLoss(Imitation):
    """max_a [Q(s, a) + margin·1(a ≠ suggested)] - Q(s, suggested): Q of the suggested action is to exceed all others by
    a margin (Hester et al. 2018, arXiv 1704.03732, equation 1).

    Args:
        q: normalised observations → (B, n) Q, with gradients.
        margin: in the unit of Q.
    """

    def __init__(self, model: Any, part: Any, q: Callable[[Any], torch.Tensor], margin: float):
        super().__init__(model, part, model.policy.optimizer)
        self._q, self.margin = q, margin

    def own(self, batch: Batch) -> np.ndarray:
        with torch.no_grad():
            best = self._q(batch.samples.observations).argmax(dim=1).cpu().numpy()
        return best + int(getattr(self.model.action_space, "start", 0))

    def loss(self, batch: Batch, found: Suggestions) -> torch.Tensor:
        q = self._q(batch.samples.observations)[torch.as_tensor(found.where)]
        start = int(getattr(self.model.action_space, "start", 0))
        wanted = torch.as_tensor(np.asarray(found.actions, dtype=np.int64).reshape(-1, 1) - start, device=q.device)
        above = torch.full_like(q, self.margin).scatter(1, wanted, 0.0)
        each = (q + above).max(dim=1).values - q.gather(1, wanted).squeeze(1)
        return each.sum() / len(found.where)


class ChoiceLoss(Imitation):
    """-log pi(suggested | s): the cross-entropy of SAC's policy for discrete actions and the suggestions."""

    def __init__(self, model: Any, part: Any):
        super().__init__(model, part, model.policy.optimizer)

    def own(self, batch: Batch) -> np.ndarray:
        with torch.no_grad():
            return self.model.log_probs(batch.samples.observations).argmax(dim=1).cpu().numpy()

    def loss(self, batch: Batch, found: Suggestions) -> torch.Tensor:
        log_pi = self.model.log_probs(batch.samples.observations)[torch.as_tensor(found.where)]
        wanted = torch.as_tensor(np.asarray(found.actions, dtype=np.int64).reshape(-1, 1), device=log_pi.device)
        return -log_pi.gather(1, wanted).sum() / len(found.where)
