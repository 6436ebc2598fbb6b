"""The stuck agents: how each is trained, and what to compare it with.

All are PPO of Stable-Baselines3 with MlpPolicy and the settings below; most mistakes are ones that users really make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COMMON: dict[str, Any] = {"n_steps": 128, "batch_size": 256, "n_epochs": 10}
N_ENVS = 16


@dataclass(frozen=True)
class Training:
    """One training run of Stable-Baselines3's PPO."""

    steps: int
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    normalize: bool = False
    """VecNormalize for observations."""
    norm_reward: bool = False
    task: str = ""
    """Where it is trained, if that is not the agent's own task."""


@dataclass(frozen=True)
class Recipe:
    name: str
    task: str
    rut: str
    training: Training
    reference: str | Training
    """A scripted policy of agent_references.py, or how a better agent is trained."""
    reference_how: str
    wrong: str
    """What it does wrong, as seen in frames of its episodes."""
    why: str
    """Why more PPO does not help it."""
    how: str = ""
    """In a line, how it came to this."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    continue_steps: int = 100_000


SMALL = {"policy_kwargs": {"net_arch": [32, 32]}}

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "mountaincar-no-flag", "MountainCar-v0", "reward never seen",
        Training(60_000, 3, normalize=True),
        "push_along", "scripted: pushes in the direction of motion",
        "Rocks about in the valley and never reaches the flag: every episode pays -200.",
        "Every episode that it has seen paid the same, so all advantages are noise.",
        "PPO, 60k steps; the flag was never reached by chance.",
    ),
    Recipe(
        "frozenlake-waits", "FrozenLake8x8-v1", "reward never seen",
        Training(60_000, 1),
        "planned", "value iteration on the task's table of transitions",
        "", "",
        "PPO, 60k steps; the goal was never reached by chance.",
    ),
    Recipe(
        "doorkey-lost", "MiniGrid-DoorKey-8x8-v0", "reward never seen",
        Training(60_000, 1, SMALL),
        "key_and_door", "shortest plan by breadth-first search on the grid",
        "", "", "PPO, 60k steps.", env_kwargs={"observation": "onehot"},
    ),
    Recipe(
        "taxi-no-passenger", "Taxi-v4", "local optimum",
        Training(60_000, 1),
        "planned", "value iteration on the task's table of transitions",
        "", "", "PPO, 60k steps.",
    ),
    Recipe(
        "mountaincar-idle", "MountainCarContinuous-v0", "local optimum",
        Training(150_000, 1),
        "push_along", "scripted: pushes in the direction of motion",
        "", "", "PPO, 150k steps, observations not normalised.",
    ),
    Recipe(
        "lunarlander-hover", "LunarLander-v3", "local optimum",
        Training(100_000, 1, {"ent_coef": 0.01}),
        "heuristic_lander", "the controller that Gymnasium ships with the task (lunar_lander.heuristic)",
        "", "", "PPO, 100k steps.",
    ),
    Recipe(
        "pendulum-flat-critic", "Pendulum-v1", "saturated critic",
        Training(100_000, 1),
        "swing_up", "scripted: pumps energy, then a linear controller",
        "", "", "PPO, 100k steps, raw rewards of down to -16 in each step.",
    ),
    Recipe(
        "acrobot-one-action", "Acrobot-v1", "exploration died",
        Training(30_000, 1, {"learning_rate": 0.1}),
        "swing_acrobot", "scripted: torque on the elbow against the swing of the first link",
        "", "", "PPO, 30k steps with a learning rate of 0.1.",
    ),
)  # fmt: skip
