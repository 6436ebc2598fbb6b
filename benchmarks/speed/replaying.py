"""Gradient steps of SAC: Stable-Baselines3's, and ours in numpy, on the same replay buffer."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks.speed.rows import Row, faster, side_by_side

ENV = "HalfCheetah-v5"
WIDTHS, BATCHES = (64, 128, 256, 512), (128, 256)
FILL, STEPS = 1_000, 200


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """Gradient steps per second on one thread, by the units of the two layers and the batch."""
    from stable_baselines3 import SAC

    from unstuck.sac.fast import FastSAC
    from unstuck.workers import one_thread

    rows = []
    with one_thread():
        for width in WIDTHS[: 1 if quick else None]:
            for batch in BATCHES[: 1 if quick else None]:
                models = {kind: _filled(kind, width, batch) for kind in (SAC, FastSAC)}
                arms = {kind: partial(_rate, m, batch, 20 if quick else STEPS) for kind, m in models.items()}
                found = side_by_side(arms, repeats)
                reason = models[FastSAC].slow_because
                rows.append(
                    faster(
                        f"{ENV}, two layers of {width}, batches of {batch}",
                        "gradient steps/s",
                        found[SAC],
                        found[FastSAC],
                        None,
                        note=f"torch, because {reason}" if reason else "",
                    )
                )
    return rows


def _filled(kind: type, width: int, batch: int) -> Any:
    """A learner that has seen some random steps."""
    import gymnasium as gym

    env = gym.make(ENV)
    model = kind(
        "MlpPolicy", env, policy_kwargs={"net_arch": [width, width]}, batch_size=batch, learning_starts=FILL, seed=0,
        buffer_size=10 * FILL, device="cpu",
    )  # fmt: skip
    model.learn(FILL)
    return model


def _rate(model: Any, batch: int, steps: int) -> float:
    begun = time.perf_counter()
    model.train(steps, batch)
    return steps / (time.perf_counter() - begun)
