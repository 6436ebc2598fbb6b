"""Make a Pong agent of pixels that is stuck by a real mistake: a learning rate with two zeros too few.

    python scripts/make_pixel_agent.py [FILE.zip]       # runs/agents/pong-pixels-dead.zip

PPO with RL Zoo's settings for Atari, but a learning rate of 2.5e-2 in place of 2.5e-4, for two updates (2,048 steps, 12
seconds of a core). All units of its first convolution are then silent, whatever it sees, and pass no gradient: it
returns what random actions do, and no training of this network can bring it to look. Its last hidden layer has 64 units
in place of 512, so that the file has 1.3 MB.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "n_steps": 128, "batch_size": 256, "n_epochs": 4, "clip_range": 0.1, "ent_coef": 0.01, "vf_coef": 0.5,
    "learning_rate": 2.5e-2, "policy_kwargs": {"features_extractor_kwargs": {"features_dim": 64}},
}  # fmt: skip
TASK, N_ENVS, STEPS, SEED = "PongNoFrameskip-v4", 8, 2_048, 1


def make(target: Path) -> Path:
    """Train it and save it without the optimiser's state, which is two thirds of a zip."""
    import ale_py  # noqa: F401  (registers its games)
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    from unstuck.agents import save_agent

    venv = VecFrameStack(make_atari_env(TASK, N_ENVS, seed=SEED), 4)
    model = PPO("CnnPolicy", venv, seed=SEED, device="cpu", **SETTINGS)
    model.learn(STEPS)
    model.policy.optimizer.state.clear()
    venv.close()
    return save_agent(model, target)


if __name__ == "__main__":
    root = Path(__file__).parents[1]
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "runs" / "agents" / "pong-pixels-dead.zip"
    print(make(given))
