"""Guidance over a whole rollout at once.

Where nothing is executed, guidance changes only what the update learns from: rewards, and the loss. So it need not be
known at each step. The wrapper then only remembers what it sees, and `FastPPO` asks when the rollout is complete
(`unstuck.ppo.hooks.Hindsight`): one call of the describer and of the matchers for thousands of states costs far less
than as many calls as there are steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage

from unstuck.modulate.potential import PotentialVecEnv
from unstuck.modulate.rnd import NoveltyVecEnv
from unstuck.modulate.venv import GuidanceVecEnv
from unstuck.ppo.fast import FastPPO

ROOM = 8 * 2**20
"""Bytes of observations that are kept at most before they are looked at; variables take about as much again."""


class Hindsight:
    """What `GuidanceVecEnv` tells at each step, and `FastPPO` asks for after all of them.

    Args:
        source: the wrapper; from now on it passes rewards through as they are.
    """

    def __init__(self, source: GuidanceVecEnv):
        self._source = source
        self.wants_modes = source.has_deltas
        self._bonus: list[np.ndarray] = []
        self._acted: list[np.ndarray] = []
        self._forget()
        source.hindsight = self

    def _forget(self) -> None:
        self._seen: list[np.ndarray] = []
        self._rates: list[float] = []
        self._ended: list[int] = []
        self._ends: list[Any] = []
        self._bytes = 0

    def remember(self, obs: Any, dones: np.ndarray, infos: list[dict[str, Any]], rate: float) -> None:
        """A vector step: the raw observations (n_envs, ...) after it, and what its guidance rewards are multiplied
        with."""
        if dones.any():
            before = len(self._seen) * len(dones)
            for i in np.flatnonzero(dones).tolist():
                self._ended.append(before + i)
                self._ends.append(infos[i]["terminal_observation"])
        # A copy: who gave the observations may write the next ones into the same place.
        self._seen.append(np.array(obs))
        self._rates.append(rate)
        self._bytes += self._seen[-1].nbytes
        if self._bytes >= ROOM:
            self.settle()

    def settle(self) -> None:
        """Look at all steps that nobody has looked at yet."""
        if not self._seen:
            return
        bonus, acted = self._source.look_back(
            np.concatenate(self._seen), np.array(self._ended, dtype=np.intp), self._ends, np.array(self._rates)
        )
        if bonus is not None:
            self._bonus.append(bonus)
        if acted is not None:
            self._acted.append(acted)
        self._forget()

    def begin(self) -> None:
        """A rollout begins; what is left of one that was broken off only counts in the statistics."""
        self.settle()
        self._bonus, self._acted = [], []

    def rewards(self) -> np.ndarray | None:
        """(n_steps, n_envs) guidance rewards of the rollout, None if the plan has none."""
        self.settle()
        return np.concatenate(self._bonus) if self._bonus else None

    def suggestions(self, modes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        """(n_steps, n_envs) where there is a suggestion, and (M, ...) the suggestions; None for nowhere."""
        self.settle()
        return self._source.suggestions(np.concatenate(self._acted), modes) if self._acted else None


def attach_hindsight(model: PPO, source: GuidanceVecEnv) -> Hindsight | None:
    """Let guidance look at whole rollouts, if that makes no difference: nothing is executed, our own loops train, and
    no wrapper in between looks at rewards. Callbacks then see a step's rewards without guidance.

    Returns:
        None where guidance goes on to be computed at each step.
    """
    if source.executes or not isinstance(model, FastPPO) or model.slow_because is not None:
        return None
    if not _rewards_pass(model.get_env(), source):
        return None
    model.hindsight = hindsight = Hindsight(source)
    return hindsight


def _rewards_pass(venv: VecEnv | None, source: GuidanceVecEnv) -> bool:
    """Whether the wrappers around `source` are known not to look at rewards, whatever they add to them."""
    while isinstance(venv, VecEnvWrapper) and venv is not source:
        scaled = isinstance(venv, VecNormalize) and (venv.norm_reward or venv.training)
        if scaled or not isinstance(venv, VecNormalize | VecTransposeImage | PotentialVecEnv | NoveltyVecEnv):
            return False
        venv = venv.venv
    return venv is source
