"""Observation statistics that do not change, applied without what only changing ones need."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize


class FrozenVecNormalize(VecNormalize):
    """A VecNormalize with `training=False` whose statistics nobody changes: the same numbers, bit by bit, with the
    divisor computed once and no copy of the observations made first."""

    _divisor: np.ndarray | None = None

    def _normalize_obs(self, obs: np.ndarray, obs_rms: RunningMeanStd) -> np.ndarray:
        if not isinstance(self.obs_rms, RunningMeanStd):
            return super()._normalize_obs(obs, obs_rms)
        if self._divisor is None:
            self._divisor = np.sqrt(obs_rms.var + self.epsilon)
        scaled = (obs - obs_rms.mean) / self._divisor
        return np.minimum(np.maximum(scaled, -self.clip_obs), self.clip_obs)

    def normalize_obs(self, obs: Any) -> Any:
        """(n, ...) → the same in float32; dicts as VecNormalize does them."""
        if isinstance(obs, dict) or not self.norm_obs:
            return super().normalize_obs(obs)
        assert isinstance(self.obs_rms, RunningMeanStd)
        return self._normalize_obs(obs, self.obs_rms).astype(np.float32)
