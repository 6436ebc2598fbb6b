"""An overhead crane, as somebody might have it: a trolley on a rail carries a load on a rope to a target.

Nothing in here knows of Unstuck. Registered as `Crane-v0` when it is imported.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

GRAVITY, TICK = 9.81, 0.1
PUSH = 1.0
"""Acceleration of the trolley in m/s², by one button or the other."""
RAIL = 5.5
SWING_ALLOWED = 0.1


class Crane(gym.Env):
    """Observation: five numbers. Actions: 0 left, 1 nothing, 2 right.

    Each step costs 0.02, a step with the load swinging by more than 0.1 rad costs 3 more. Bringing the load to rest
    within 0.15 m of the target pays 10 and ends the episode; so does, with -20, running into the end of the rail.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, rope: float = 2.0, render_mode: str | None = None) -> None:
        self.rope, self.render_mode = rope, render_mode
        high = np.array([RAIL, 2.0, np.pi, 10.0, 2 * RAIL], np.float32)
        self.observation_space = spaces.Box(-high, high)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.trolley, self.speed = float(self.np_random.uniform(-0.5, 0.5)), 0.0
        self.angle, self.turning = float(self.np_random.uniform(-0.02, 0.02)), 0.0
        self.target = float(self.np_random.uniform(3.0, 4.5)) * (1 if self.np_random.random() < 0.5 else -1)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        push = PUSH * (int(action) - 1)
        for _ in range(5):  # five small ticks, for accuracy
            tick = TICK / 5
            self.speed = float(np.clip(self.speed + tick * push, -2, 2))
            self.trolley += tick * self.speed
            pull = -(GRAVITY * np.sin(self.angle) + push * np.cos(self.angle)) / self.rope - 0.15 * self.turning
            self.turning += tick * float(pull)
            self.angle += tick * self.turning
        load = self.trolley + self.rope * np.sin(self.angle)
        there = abs(load - self.target) < 0.15 and abs(self.speed) < 0.15 and abs(self.angle) < 0.06
        crashed = abs(self.trolley) >= RAIL
        reward = -0.02 - 3.0 * (abs(self.angle) > SWING_ALLOWED) + 10.0 * there - 20.0 * crashed
        return self._observe(), reward, bool(there or crashed), False, {}

    def _observe(self) -> np.ndarray:
        ahead = self.target - self.trolley
        seen = [self.trolley, self.speed, self.angle, self.turning, ahead]
        return np.clip(np.array(seen, np.float32), self.observation_space.low, self.observation_space.high)


gym.register("Crane-v0", "crane:Crane", max_episode_steps=200)
