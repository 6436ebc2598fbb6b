"""Random network distillation (Burda et al. 2019): reward for states that a predictor does not know yet.

A fixed random network maps each state to some numbers; a predictor learns to give the same numbers for the states that
training meets. Its squared error is large where few such states were, and falls with every visit.
"""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import nn

from unstuck.tasks.beside import seen, seen_space

WIDTH, FEATURES = 64, 32
LEARNING_RATE = 1e-3
EVERY = 128
"""Vector steps between updates of the predictor. In the first of them no bonus is given: its scale is not known yet."""
BATCH = 256
CLIP = 5.0
"""Bound on normalised observations, in standard deviations."""


class Novelty:
    """The two networks.

    Args:
        size: numbers in an observation.
        seed: of the weights; the global random numbers are left as they are.
    """

    def __init__(self, size: int, seed: int):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._target, self._predictor = _network(size, 1), _network(size, 2)
        self._adam = torch.optim.Adam(self._predictor.parameters(), lr=LEARNING_RATE)
        self._rng = np.random.default_rng([seed, 5])

    def errors(self, x: np.ndarray) -> np.ndarray:
        """(N, size) normalised observations → (N,) mean squared error of the predictor."""
        with torch.no_grad():
            inputs = torch.as_tensor(x, dtype=torch.float32)
            return ((self._predictor(inputs) - self._target(inputs)) ** 2).mean(dim=1).double().numpy()

    def state(self) -> dict[str, Any]:
        return {
            "target": dict(self._target.state_dict()), "predictor": dict(self._predictor.state_dict()),
            "adam": self._adam.state_dict(), "numbers": str(self._rng.bit_generator.state),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self._target.load_state_dict(state["target"])
        self._predictor.load_state_dict(state["predictor"])
        self._adam.load_state_dict(state["adam"])
        self._rng.bit_generator.state = ast.literal_eval(state["numbers"])

    def learn(self, x: np.ndarray) -> None:
        """One pass of the predictor over (N, size) normalised observations."""
        inputs = torch.as_tensor(x, dtype=torch.float32)
        order = self._rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            batch = inputs[order[start : start + BATCH]]
            with torch.no_grad():
                wanted = self._target(batch)
            loss = ((self._predictor(batch) - wanted) ** 2).mean()
            self._adam.zero_grad()
            loss.backward()
            self._adam.step()


def _network(size: int, hidden: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(size, WIDTH), nn.ReLU()]
    for _ in range(hidden - 1):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, FEATURES))


class Bonus:
    """What new states are worth. Observations are normalised by their running mean and deviation; the error is divided
    by the running standard deviation of its discounted sum, as in the paper.

    Args:
        space: of the observations, of which only what the agent sees counts.
        n_envs: environments whose states come side by side.
        gamma: discount of the learner.
        seed: of the networks' weights.
    """

    def __init__(self, space: spaces.Space, n_envs: int, gamma: float, seed: int):
        self._space, self._gamma = seen_space(space), gamma
        size = spaces.flatdim(self._space)
        self.novelty = Novelty(size, seed)
        self._moments, self._returns_moments = RunningMeanStd(shape=(size,)), RunningMeanStd(shape=())
        self._returns = np.zeros(n_envs)
        self._seen: list[np.ndarray] = []
        self._warm = False

    def of(self, obs: Any) -> np.ndarray:
        """Raw observations (n_envs, ...), or a dict of them → (n_envs,) bonus; learns from them."""
        x = self._flat(seen(obs))
        self._moments.update(x)
        x = np.clip((x - self._moments.mean) / np.sqrt(self._moments.var + 1e-8), -CLIP, CLIP)
        errors = self.novelty.errors(x)
        self._returns = self._gamma * self._returns + errors
        self._returns_moments.update(self._returns)
        self._seen.append(x)
        bonus = errors / np.sqrt(self._returns_moments.var + 1e-8) if self._warm else np.zeros(len(x))
        if len(self._seen) == EVERY:
            self.novelty.learn(np.concatenate(self._seen))
            self._seen, self._warm = [], True
        return bonus

    def _flat(self, obs: Any) -> np.ndarray:
        space, n_envs = self._space, len(self._returns)
        if isinstance(space, spaces.Box):
            return np.asarray(obs, dtype=np.float64).reshape(n_envs, -1)
        rows = [{k: v[i] for k, v in obs.items()} if isinstance(obs, dict) else obs[i] for i in range(n_envs)]
        return np.stack([np.asarray(spaces.flatten(space, row), dtype=np.float64) for row in rows])

    def state(self) -> dict[str, Any]:
        moments = [[np.asarray(m.mean), np.asarray(m.var), m.count] for m in (self._moments, self._returns_moments)]
        return {
            "novelty": self.novelty.state(), "moments": moments, "returns": self._returns, "seen": self._seen,
            "warm": self._warm,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.novelty.restore(state["novelty"])
        for moments, held in zip((self._moments, self._returns_moments), state["moments"], strict=True):
            moments.mean, moments.var, moments.count = held
        self._returns, self._seen, self._warm = state["returns"], list(state["seen"]), state["warm"]
