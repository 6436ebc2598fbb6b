"""MLPs of equal shape side by side in one flat array, to and from torch, and Adam on it.

torch's parameters and optimisers stay the truth between calls of `train`: `pull` reads them, `push` writes them back.
Samples are columns, and the input of each layer has a last row of ones, so that one matrix product does a layer with
its bias, and one its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

Array = np.ndarray
Layers = Sequence[Sequence[nn.Linear]]
"""Of one MLP: its layers from the first to the last; those of one entry read the same input, and their outputs stand
one below the other."""


class Pass:
    """What one forward pass leaves for the backward pass.

    Attributes:
        hidden: for each hidden layer its outputs (G, width + 1, B), the last row ones.
        out: (G, outputs, B) of the last layer.
    """

    def __init__(self, members: int, widths: Sequence[int], batch: int):
        *inner, outer = widths
        self.hidden = [np.ones((members, width + 1, batch), np.float32) for width in inner]
        self.out = np.empty((members, outer, batch), np.float32)
        self.delta = [np.empty((members, width, batch), np.float32) for width in inner]


class Mlps:
    """G MLPs of equal shape with ReLU between their linear layers.

    Args:
        members: their torch layers.
    """

    def __init__(self, members: Sequence[Layers]):
        self._members = members
        shapes = [(sum(m.out_features for m in layer), layer[0].in_features + 1) for layer in members[0]]
        size = sum(rows * columns for rows, columns in shapes)
        self.flat = np.zeros((len(members), size), np.float32)
        self.gradient = np.zeros_like(self.flat)
        self._shapes, self.widths = shapes, [rows for rows, _ in shapes]
        self._weights, self._gradients = self.views(self.flat), self.views(self.gradient)
        self._transposed = [w[:, :, :-1].swapaxes(1, 2) for w in self._weights]

    def views(self, flat: Array) -> list[Array]:
        """For each layer (G, out, in + 1), the last column the bias, of an array of the shape of `flat`."""
        found, start = [], 0
        for rows, columns in self._shapes:
            found.append(flat[:, start : start + rows * columns].reshape(-1, rows, columns))
            start += rows * columns
        return found

    def parts(self, flat: Array) -> list[tuple[torch.Tensor, Array]]:
        """Each torch parameter, and its place in an array of the shape of `flat`."""
        found: list[tuple[torch.Tensor, Array]] = []
        for k, view in enumerate(self.views(flat)):
            for g, member in enumerate(self._members):
                row = 0
                for linear in member[k]:
                    rows = slice(row, row + linear.out_features)
                    found += [(linear.weight, view[g, rows, :-1]), (linear.bias, view[g, rows, -1])]
                    row += linear.out_features
        return found

    def pull(self) -> None:
        """Read torch's parameters."""
        for parameter, part in self.parts(self.flat):
            part[...] = parameter.detach().numpy()

    def push(self) -> None:
        """Write torch's parameters."""
        for parameter, part in self.parts(self.flat):
            parameter.detach().numpy()[...] = part

    def room(self, batch: int) -> Pass:
        return Pass(len(self.flat), self.widths, batch)

    def forward(self, x: Array, room: Pass) -> Array:
        """Their outputs.

        Args:
            x: (in + 1, B) for all of them, last row ones.

        Returns:
            (G, out, B), `room.out`.
        """
        below = x
        for weight, hidden in zip(self._weights, room.hidden, strict=False):
            out = hidden[:, :-1]
            np.matmul(weight, below, out=out)
            np.maximum(out, 0.0, out=out)
            below = hidden
        return np.matmul(self._weights[-1], below, out=room.out)

    def backward(self, x: Array, room: Pass, delta: Array, *, weights: bool = True) -> Array:
        """After `forward` with the same `x`.

        Args:
            delta: (G, out, B), the loss's gradient by the outputs.
            weights: whether `gradient` is filled.

        Returns:
            (G, width of the first layer, B): the gradient by what the first layer gives, from which `by_input` goes on.
        """
        for k in reversed(range(len(self._weights))):
            below = room.hidden[k - 1] if k else x
            if weights:
                np.matmul(delta, below.swapaxes(-1, -2), out=self._gradients[k])
            if k:
                np.matmul(self._transposed[k], delta, out=room.delta[k - 1])
                delta = np.multiply(room.delta[k - 1], room.hidden[k - 1][:, :-1] > 0.0, out=room.delta[k - 1])
        return delta

    def by_input(self, delta: Array, rows: slice) -> Array:
        """(G, rows, B) the gradient by these rows of the input, of what `backward` returned."""
        return np.matmul(self._transposed[0][:, rows], delta)


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1, as torch computes it) on `Mlps.flat`: reads the state of a torch
    optimiser, and writes it back."""

    def __init__(self, networks: Mlps, optimizer: torch.optim.Optimizer):
        self._networks, self._optimizer = networks, optimizer
        self._first, self._second = np.zeros_like(networks.flat), np.zeros_like(networks.flat)
        self._room = np.empty_like(networks.flat)
        self._step, self._lr, self._eps, self._betas = 0, 0.0, 0.0, (0.0, 0.0)

    def pull(self) -> None:
        group = self._optimizer.param_groups[0]
        self._lr, self._eps, self._betas = float(group["lr"]), group["eps"], group["betas"]
        state: dict[Any, Any] = self._optimizer.state
        self._step = 0
        places = zip(self._networks.parts(self._first), self._networks.parts(self._second), strict=True)
        for (parameter, first), (_, second) in places:
            held = state.get(parameter)
            first[...] = held["exp_avg"].numpy() if held else 0.0
            second[...] = held["exp_avg_sq"].numpy() if held else 0.0
            self._step = int(held["step"]) if held else 0

    def push(self) -> None:
        """Put the state into torch's optimiser, as if it had made the updates."""
        if not self._step:
            return
        places = zip(self._networks.parts(self._first), self._networks.parts(self._second), strict=True)
        for (parameter, first), (_, second) in places:
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(self._step)),
                "exp_avg": torch.from_numpy(first.copy()),
                "exp_avg_sq": torch.from_numpy(second.copy()),
            }

    def step(self) -> None:
        """One update by `networks.gradient`, which is used up."""
        gradient, first, second, room = self._networks.gradient, self._first, self._second, self._room
        beta1, beta2 = self._betas
        self._step += 1
        first *= beta1
        first += np.multiply(gradient, 1.0 - beta1, out=room)
        second *= beta2
        np.multiply(gradient, gradient, out=gradient)
        second += np.multiply(gradient, 1.0 - beta2, out=gradient)
        denominator = np.sqrt(second, out=room)
        denominator /= math.sqrt(1.0 - beta2**self._step)
        denominator += self._eps
        np.divide(first, denominator, out=gradient)
        gradient *= self._lr / (1.0 - beta1**self._step)
        self._networks.flat -= gradient
