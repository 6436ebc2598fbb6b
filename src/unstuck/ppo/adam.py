"""Adam (Kingma and Ba 2015, algorithm 1, as torch computes it) on the flat array of `Networks`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unstuck.ppo.networks import Networks


def unsupported(optimizer: Any) -> str | None:
    """Why this optimiser cannot be stood in for; None if it can."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return f"its optimiser is not one Adam ({type(optimizer).__name__})"
    group = optimizer.param_groups[0]
    unusual = [k for k in ("weight_decay", "amsgrad", "maximize") if group.get(k)]
    return f"its Adam uses {', '.join(unusual)}" if unusual else None


@dataclass
class _Segment:
    """A stretch of the flat array whose parameters learn and have been updated equally often."""

    start: int
    stop: int
    step: int


class Adam:
    """Stands in for the policy's torch optimiser during one `train`: reads its state, writes it back at the end.

    Frozen parameters (`requires_grad` False) are left alone: no update, no step counted, no share in the norm.
    """

    def __init__(self, networks: Networks, optimizer: Any, max_norm: float):
        self._networks, self._optimizer, self._max_norm = networks, optimizer, max_norm
        group = optimizer.param_groups[0]
        self._lr, self._eps, (self._beta1, self._beta2) = float(group["lr"]), group["eps"], group["betas"]
        self._first, self._second = np.zeros_like(networks.flat), np.zeros_like(networks.flat)
        self._room = np.empty(networks.flat.size, np.float32)
        self._segments = self._read()

    def learns(self, row: int) -> bool:
        """Whether anything of the actor (0) or critic (1) is not frozen."""
        return any(p.requires_grad for b in self._networks.blocks if b.row == row for p in b.parameters)

    def _read(self) -> list[_Segment]:
        segments: list[_Segment] = []
        width = self._networks.flat.shape[1]
        for block in self._networks.blocks:
            if len({p.requires_grad for p in block.parameters}) > 1:
                raise RuntimeError("weights and bias of one layer must be frozen together")
            state = [self._optimizer.state.get(p, {}) for p in block.parameters]
            for part, one in zip(block.parts(self._first), state, strict=True):
                part[...] = one["exp_avg"].numpy() if one else 0.0
            for part, one in zip(block.parts(self._second), state, strict=True):
                part[...] = one["exp_avg_sq"].numpy() if one else 0.0
            if not block.parameters[0].requires_grad:
                continue
            step = int(state[0]["step"]) if state[0] else 0
            start, stop = block.row * width + block.start, block.row * width + block.stop
            if segments and segments[-1].step == step and self._adjacent(segments[-1].stop, start):
                segments[-1].stop = stop
            else:
                segments.append(_Segment(start, stop, step))
        return segments

    def _adjacent(self, stop: int, start: int) -> bool:
        """Nothing but padding lies between."""
        actor_ends = max(b.stop for b in self._networks.blocks if b.row == 0)
        return stop == start or (stop == actor_ends and start == self._networks.flat.shape[1])

    def step(self) -> None:
        """One update by `networks.gradient`, which is clipped to `max_norm` and used up."""
        gradient, flat = self._networks.gradient.reshape(-1), self._networks.flat.reshape(-1)
        first, second = self._first.reshape(-1), self._second.reshape(-1)
        parts = [gradient[s.start : s.stop] for s in self._segments]
        norm = math.sqrt(sum(float(g @ g) for g in parts))
        scale = min(1.0, self._max_norm / (norm + 1e-6))
        for segment, g in zip(self._segments, parts, strict=True):
            where = slice(segment.start, segment.stop)
            m, v, room = first[where], second[where], self._room[where]
            segment.step += 1
            root = math.sqrt(1 - self._beta2**segment.step)
            # m ← β₁m + (1 - β₁)g, v ← β₂v + (1 - β₂)g², the clipping's scale inside the factors.
            np.multiply(m, self._beta1, out=m)
            np.multiply(g, (1 - self._beta1) * scale, out=room)
            np.add(m, room, out=m)
            np.multiply(v, self._beta2, out=v)
            np.multiply(g, g, out=g)
            np.multiply(g, (1 - self._beta2) * scale * scale, out=g)
            np.add(v, g, out=v)
            # lr/(1 - β₁ᵗ) · m / (√v/√(1 - β₂ᵗ) + ε), with √(1 - β₂ᵗ) taken out of the denominator.
            np.sqrt(v, out=room)
            np.add(room, self._eps * root, out=room)
            np.divide(m, room, out=room)
            np.multiply(room, self._lr * root / (1 - self._beta1**segment.step), out=room)
            np.subtract(flat[where], room, out=flat[where])

    def write(self) -> None:
        """Put the state into torch's optimiser, as if it had made the updates."""
        width = self._networks.flat.shape[1]
        for block in self._networks.blocks:
            start = block.row * width + block.start
            step = next((s.step for s in self._segments if s.start <= start < s.stop), 0)
            if not step:
                continue
            moments = zip(block.parameters, block.parts(self._first), block.parts(self._second), strict=True)
            for parameter, first, second in moments:
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": torch.from_numpy(first.copy()),
                    "exp_avg_sq": torch.from_numpy(second.copy()),
                }
