"""Forward and backward pass of MLPs on plain arrays.

Samples are columns, and the input of each layer has a last row of ones, so that one matrix product does a layer with
its bias and one does its gradient. Several MLPs of equal shape that read the same input are computed side by side: at
the sizes of control policies a call costs as much as its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Pass:
    """Room for a pass of G MLPs over B samples, and what the forward pass left there.

    Attributes:
        hidden: for each layer its outputs (G, out + 1, B), last row ones.
        delta: for each layer the loss's gradient by its inputs to the activation (G, out, B).
    """

    def __init__(self, members: int, widths: Sequence[int], batch: int):
        self.hidden = [np.ones((members, width + 1, batch), np.float32) for width in widths]
        self.delta = [np.empty((members, width, batch), np.float32) for width in widths]

    def member(self, index: int) -> Pass:
        """The part of one MLP, as views."""
        part = Pass(1, [], 0)
        part.hidden, part.delta = ([a[index : index + 1] for a in arrays] for arrays in (self.hidden, self.delta))
        return part


class Mlps:
    """G MLPs of equal shape: all layers but the last, which differ (see `networks`).

    Args:
        weights: for each layer (G, out, in + 1), the last column the bias.
        gradients: arrays of the same shapes, which `backward` fills.
        relu: the activation is ReLU, else Tanh.
    """

    def __init__(self, weights: list[np.ndarray], gradients: list[np.ndarray], relu: bool):
        self.weights, self.gradients, self.relu = weights, gradients, relu
        self._transposed = [w[:, :, :-1].swapaxes(1, 2) for w in weights]

    def forward(self, x: np.ndarray, room: Pass) -> None:
        """x: (in + 1, B), last row ones."""
        for weight, hidden in zip(self.weights, room.hidden, strict=True):
            out = hidden[:, :-1]
            np.matmul(weight, x, out=out)
            if self.relu:
                np.maximum(out, 0.0, out=out)
            else:
                np.tanh(out, out=out)
            x = hidden

    def backward(self, x: np.ndarray, room: Pass) -> None:
        """After `forward`, with the loss's gradient by the last layer's outputs in `room.delta[-1]`; uses up
        `room.hidden`."""
        for k in reversed(range(len(self.weights))):
            out, delta = room.hidden[k][:, :-1], room.delta[k]
            if self.relu:
                np.multiply(delta, out > 0.0, out=delta)
            else:
                # The activation's slope 1 - tanh², in the place of its outputs, which are not needed below.
                np.multiply(out, out, out=out)
                np.subtract(1.0, out, out=out)
                np.multiply(delta, out, out=delta)
            below = room.hidden[k - 1] if k else x
            np.matmul(delta, below.swapaxes(-1, -2), out=self.gradients[k])
            if k:
                np.matmul(self._transposed[k], delta, out=room.delta[k - 1])
