"""Actor and critic of a Stable-Baselines3 `MlpPolicy` as one flat array, to and from torch.

torch's parameters stay the truth between updates: `pull` reads them, `push` writes them back. So whatever else looks
at the policy or changes it (callbacks, `predict`, `save`, `set_parameters`) needs to know nothing of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn

from unstuck.ppo.mlp import Mlps, Pass
from unstuck.ppo.support import activation, linear_layers

ACTOR, CRITIC = 0, 1


@dataclass(frozen=True)
class Block:
    """Parameters that lie together: a layer, or the log-standard-deviations."""

    row: int
    start: int
    shape: tuple[int, ...]
    """(out, in + 1) of a layer, (act,) of log_std."""
    parameters: tuple[torch.Tensor, ...]

    @property
    def stop(self) -> int:
        return self.start + int(np.prod(self.shape))

    def of(self, flat: np.ndarray) -> np.ndarray:
        """This block in a flat array (2, P), as a view."""
        return flat[self.row, self.start : self.stop].reshape(self.shape)

    def parts(self, flat: np.ndarray) -> tuple[np.ndarray, ...]:
        """Views in a flat array (2, P), one for each parameter."""
        block = self.of(flat)
        return (block[:, :-1], block[:, -1]) if len(self.shape) == 2 else (block,)


class Activations:
    """Room for one batch in all networks."""

    def __init__(self, inputs: int, widths: tuple[list[int], list[int]], joint: bool, batch: int):
        self.x = np.ones((inputs + 1, batch), np.float32)
        self.both = Pass(2, widths[0], batch) if joint else None
        if self.both is not None:
            self.rows = [self.both.member(ACTOR), self.both.member(CRITIC)]
        else:
            self.rows = [Pass(1, w, batch) for w in widths]

    def head_input(self, row: int, x: np.ndarray) -> np.ndarray:
        """(width + 1, B), last row ones."""
        hidden = self.rows[row].hidden
        return hidden[-1][0] if hidden else x


class Networks:
    """Both networks of a supported policy: row 0 of `flat` (2, P) is the actor, row 1 the critic, padded with zeros.

    Where both have the same shape and activation, they are computed side by side.
    """

    def __init__(self, policy: Any):
        self.space = policy.observation_space
        self.discrete = isinstance(policy.action_space, spaces.Discrete)
        self._divisor = 255.0 if policy.normalize_images and is_image_space(self.space) else None
        self._blocks = [_row_blocks(policy, ACTOR), _row_blocks(policy, CRITIC)]
        self.blocks = [block for row in self._blocks for block in row]
        self.flat = np.zeros((2, max(row[-1].stop for row in self._blocks)), np.float32)
        self.gradient = np.zeros_like(self.flat)
        trunks = [[b for b in row if len(b.shape) == 2][:-1] for row in self._blocks]
        heads = [next(b for b in reversed(row) if len(b.shape) == 2) for row in self._blocks]
        self.heads, self.head_gradients = ([h.of(a) for h in heads] for a in (self.flat, self.gradient))
        self.log_std, self.log_std_gradient = (
            None if self.discrete else self._blocks[ACTOR][-1].of(a) for a in (self.flat, self.gradient)
        )
        relu = [activation(policy, row) is nn.ReLU for row in (ACTOR, CRITIC)]
        self.rows = [self._mlps(slice(r, r + 1), trunks[r], relu[r]) for r in (ACTOR, CRITIC)]
        alike = [b.shape for b in trunks[ACTOR]] == [b.shape for b in trunks[CRITIC]] and relu[0] == relu[1]
        self.both = self._mlps(slice(0, 2), trunks[ACTOR], relu[0]) if alike and trunks[ACTOR] else None
        self.inputs = self._blocks[ACTOR][0].shape[1] - 1
        self.outputs = heads[ACTOR].shape[0]
        self._widths = ([b.shape[0] for b in trunks[ACTOR]], [b.shape[0] for b in trunks[CRITIC]])
        self._room: dict[int, Activations] = {}

    def _mlps(self, rows: slice, trunk: list[Block], relu: bool) -> Mlps:
        weights, gradients = (
            [a[rows, b.start : b.stop].reshape(-1, *b.shape) for b in trunk] for a in (self.flat, self.gradient)
        )
        return Mlps(weights, gradients, relu)

    def room(self, batch: int) -> Activations:
        """Room for a batch of this size, kept for the next one."""
        if batch not in self._room:
            self._room[batch] = Activations(self.inputs, self._widths, self.both is not None, batch)
        return self._room[batch]

    def stale(self, policy: Any) -> bool:
        """Whether the policy has other parameters than when this was made."""
        return {id(p) for b in self.blocks for p in b.parameters} != {id(p) for p in policy.parameters()}

    def pull(self) -> None:
        """Read torch's parameters."""
        for block in self.blocks:
            for part, parameter in zip(block.parts(self.flat), block.parameters, strict=True):
                part[...] = parameter.detach().numpy()

    def push(self) -> None:
        """Write torch's parameters."""
        for block in self.blocks:
            for part, parameter in zip(block.parts(self.flat), block.parameters, strict=True):
                parameter.detach().numpy()[...] = part

    def features(self, obs: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Observations (B, ...) as the policy's FlattenExtractor gives them, into `out` (in + 1, B), last row ones."""
        if isinstance(self.space, spaces.Discrete):
            out[:-1] = 0.0
            out[obs.reshape(-1).astype(np.intp), np.arange(out.shape[1])] = 1.0
            return out
        out[:-1] = obs.reshape(out.shape[1], -1).T
        if self._divisor is not None:
            out[:-1] /= self._divisor
        return out

    def forward(self, x: np.ndarray, room: Activations) -> tuple[np.ndarray, np.ndarray]:
        """x: (in + 1, B) → the actor's outputs (act, B): means or logits; values (B,)."""
        if self.both is not None and room.both is not None:
            self.both.forward(x, room.both)
        else:
            for mlp, part in zip(self.rows, room.rows, strict=True):
                mlp.forward(x, part)
        outputs = self.heads[ACTOR] @ room.head_input(ACTOR, x)
        return outputs, self.heads[CRITIC][0] @ room.head_input(CRITIC, x)

    def values(self, obs: np.ndarray) -> np.ndarray:
        """(B, ...) → (B,), by the critic alone."""
        room = self.room(len(obs))
        x = self.features(obs, room.x)
        self.rows[CRITIC].forward(x, room.rows[CRITIC])
        return self.heads[CRITIC][0] @ room.head_input(CRITIC, x)

    def backward(self, x: np.ndarray, room: Activations, d_out: np.ndarray | None, d_value: np.ndarray | None) -> None:
        """Fill `gradient` (but for log_std), after `forward`.

        Args:
            d_out: (act, B) the loss's gradient by the actor's outputs; None leaves the actor out.
            d_value: (B,) by the values; None leaves the critic out.
        """
        upstream = {ACTOR: d_out, CRITIC: None if d_value is None else d_value[None]}
        asked = [row for row, d in upstream.items() if d is not None]
        for row in asked:
            d = upstream[row]
            assert d is not None
            np.matmul(d, room.head_input(row, x).T, out=self.head_gradients[row])
            if room.rows[row].delta:
                np.matmul(self.heads[row][:, :-1].T, d, out=room.rows[row].delta[-1][0])
        if len(asked) == 2 and self.both is not None and room.both is not None:
            self.both.backward(x, room.both)
        else:
            for row in asked:
                self.rows[row].backward(x, room.rows[row])


def _row_blocks(policy: Any, row: int) -> list[Block]:
    blocks, start = [], 0
    for layer in linear_layers(policy, row):
        blocks.append(Block(row, start, (layer.out_features, layer.in_features + 1), (layer.weight, layer.bias)))
        start = blocks[-1].stop
    if row == ACTOR and hasattr(policy, "log_std"):
        blocks.append(Block(row, start, tuple(policy.log_std.shape), (policy.log_std,)))
    return blocks
