"""Hopper, Walker2d and HalfCheetah that pay for speed only beyond some distance from the start.

Source: Cheng et al., RICE: Breaking Through the Training Bottlenecks of Reinforcement Learning with
Explanation (ICML 2024): x > 0.6 for Hopper and Walker2d, x > 5 for HalfCheetah.
"""

from __future__ import annotations

from typing import Any

from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv


class _Sparse:
    forward_from_x: float
    """Speed is paid only while the torso is beyond this x, in metres."""
    data: Any

    def _get_rew(self, x_velocity: float, action: Any) -> tuple[float, dict[str, float]]:
        reward, parts = super()._get_rew(x_velocity, action)  # type: ignore[misc]
        if self.data.qpos[0] <= self.forward_from_x:
            reward -= parts["reward_forward"]
            parts = {**parts, "reward_forward": 0.0}
        return reward, parts


class SparseHopper(_Sparse, HopperEnv):
    forward_from_x = 0.6


class SparseWalker2d(_Sparse, Walker2dEnv):
    forward_from_x = 0.6


class SparseHalfCheetah(_Sparse, HalfCheetahEnv):
    forward_from_x = 5.0
