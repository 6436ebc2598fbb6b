"""Which of EnvPool's tasks are Gymnasium's own, by measurement: see docs/envpool.md, made by scripts/check_envpool.py.

A task is in `EQUAL_TASKS` if spaces and time limit are the same, the same actions from the same state lead to the same
observations, rewards and endings within the simulator's own tolerance, and episodes begin and end alike.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SparseReward:
    """Speed is paid only beyond `forward_from_x`, in metres; EnvPool gives `x_position` and `x_velocity`."""

    base: str
    """The task whose simulator it is."""
    forward_from_x: float


TESTED = {"envpool": "1.2.5", "gymnasium": "1.4.0"}
"""The versions that were compared. Tasks that can be put into a given state are compared again wherever they are used;
the others (`BY_DISTRIBUTION`) are used only with these versions."""

BY_DISTRIBUTION: frozenset[str] = frozenset(
    {
        "CliffWalking-v1",
        "CliffWalkingSlippery-v1",
        "FrozenLake-v1",
        "FrozenLake8x8-v1",
        "LunarLander-v3",
        "LunarLanderContinuous-v3",
    }
)
"""Proved by tables of transitions, or by distributions of states and returns, because of noise of their own."""

EQUAL_TASKS: frozenset[str] = frozenset(
    {
        "Acrobot-v1",
        "CartPole-v0",
        "CartPole-v1",
        "HalfCheetah-v4",
        "HalfCheetah-v5",
        "Hopper-v4",
        "Hopper-v5",
        "InvertedDoublePendulum-v4",
        "InvertedDoublePendulum-v5",
        "InvertedPendulum-v4",
        "InvertedPendulum-v5",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
        "Pusher-v5",
        "Reacher-v4",
        "Reacher-v5",
        "Swimmer-v4",
        "Swimmer-v5",
        "Walker2d-v4",
        "Walker2d-v5",
    }
    | BY_DISTRIBUTION
)

SPARSE_TASKS: dict[str, SparseReward] = {
    "SparseHopper-v5": SparseReward("Hopper-v5", 0.6),
    "SparseWalker2d-v5": SparseReward("Walker2d-v5", 0.6),
    "SparseHalfCheetah-v5": SparseReward("HalfCheetah-v5", 5.0),
}

_APART = "the same actions from the same state lead elsewhere within 20 steps"
DIFFERENT_TASKS: dict[str, str] = {
    "Ant-v4": _APART,
    "Ant-v5": _APART,
    "Humanoid-v4": _APART,
    "Humanoid-v5": _APART,
    "HumanoidStandup-v4": _APART,
    "HumanoidStandup-v5": _APART,
    "BipedalWalkerHardcore-v3": "states after the same actions are distributed otherwise",
    "Blackjack-v1": "observations are an array, not a tuple",
}
"""Id → what differs. What is neither here nor above was not proved equal."""
