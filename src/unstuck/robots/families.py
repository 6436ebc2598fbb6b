"""Which classes of Gymnasium's are computed for many environments at once, and by which formulas."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.robots import formulas as f

_RUNS = ("_forward_reward_weight", "_ctrl_cost_weight", "_exclude_current_positions_from_observation")
_HEALTH = ("_healthy_reward", "_terminate_when_unhealthy", "_healthy_z_range")
_WALKS = (*_RUNS, *_HEALTH, "_healthy_angle_range")
_HOPS = (*_WALKS, "_healthy_state_range")
_TOUCHES = ("_contact_cost_weight", "_contact_force_range")
_SEES = (
    "_exclude_current_positions_from_observation", "_include_cinert_in_observation", "_include_cvel_in_observation",
    "_include_qfrc_actuator_in_observation", "_include_cfrc_ext_in_observation",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """How a class of environments is computed."""

    formula: f.Formula
    settings: tuple[str, ...] = ()
    """Attributes of an environment that the formula reads; all environments that are computed at once must have the
    same ones."""
    before: Callable[[f.Fields], np.ndarray] | None = None
    """What is looked at before the simulation, (N, ...)."""


FAMILIES: dict[str, Family] = {
    "gymnasium.envs.mujoco.hopper_v5.HopperEnv": Family(f.hopper_v5, _HOPS, f.x_before),
    "gymnasium.envs.mujoco.hopper_v4.HopperEnv": Family(f.hopper_v4, _HOPS, f.x_before),
    "gymnasium.envs.mujoco.walker2d_v5.Walker2dEnv": Family(f.walker2d_v5, _WALKS, f.x_before),
    "gymnasium.envs.mujoco.walker2d_v4.Walker2dEnv": Family(f.walker2d_v4, _WALKS, f.x_before),
    "gymnasium.envs.mujoco.half_cheetah_v5.HalfCheetahEnv": Family(f.half_cheetah_v5, _RUNS, f.x_before),
    "gymnasium.envs.mujoco.half_cheetah_v4.HalfCheetahEnv": Family(f.half_cheetah_v4, _RUNS, f.x_before),
    "unstuck.tasks.sparse.SparseHopper": Family(f.sparse(f.hopper_v5), (*_HOPS, "forward_from_x"), f.x_before),
    "unstuck.tasks.sparse.SparseWalker2d": Family(f.sparse(f.walker2d_v5), (*_WALKS, "forward_from_x"), f.x_before),
    "unstuck.tasks.sparse.SparseHalfCheetah": Family(
        f.sparse(f.half_cheetah_v5), (*_RUNS, "forward_from_x"), f.x_before
    ),
    "gymnasium.envs.mujoco.swimmer_v5.SwimmerEnv": Family(f.swimmer_v5, _RUNS, f.xy_before),
    "gymnasium.envs.mujoco.swimmer_v4.SwimmerEnv": Family(f.swimmer_v4, _RUNS, f.xy_before),
    "gymnasium.envs.mujoco.reacher_v5.ReacherEnv": Family(
        f.reacher_v5, ("_reward_dist_weight", "_reward_control_weight")
    ),
    "gymnasium.envs.mujoco.reacher_v4.ReacherEnv": Family(f.reacher_v4, (), f.to_target),
    "gymnasium.envs.mujoco.pusher_v5.PusherEnv": Family(
        f.pusher_v5, ("_reward_near_weight", "_reward_dist_weight", "_reward_control_weight")
    ),
    "gymnasium.envs.mujoco.inverted_pendulum_v5.InvertedPendulumEnv": Family(f.inverted_pendulum_v5),
    "gymnasium.envs.mujoco.inverted_pendulum_v4.InvertedPendulumEnv": Family(f.inverted_pendulum_v4),
    "gymnasium.envs.mujoco.inverted_double_pendulum_v5.InvertedDoublePendulumEnv": Family(
        f.inverted_double_pendulum_v5, ("_healthy_reward",)
    ),
    "gymnasium.envs.mujoco.inverted_double_pendulum_v4.InvertedDoublePendulumEnv": Family(
        f.inverted_double_pendulum_v4
    ),
    "gymnasium.envs.mujoco.ant_v5.AntEnv": Family(
        f.ant_v5, (*_RUNS, *_HEALTH, *_TOUCHES, "_main_body", "_include_cfrc_ext_in_observation"), f.main_body_before
    ),
    "gymnasium.envs.mujoco.ant_v4.AntEnv": Family(
        f.ant_v4, (*_RUNS[1:], *_HEALTH, *_TOUCHES, "_use_contact_forces"), f.torso_before
    ),
    "gymnasium.envs.mujoco.humanoid_v5.HumanoidEnv": Family(
        f.humanoid_v5, (*_RUNS[:2], *_HEALTH, *_SEES, "_contact_cost_weight", "_contact_cost_range"), f.mass_center
    ),
    "gymnasium.envs.mujoco.humanoid_v4.HumanoidEnv": Family(f.humanoid_v4, (*_RUNS, *_HEALTH), f.mass_center),
    "gymnasium.envs.mujoco.humanoidstandup_v5.HumanoidStandupEnv": Family(
        f.humanoid_standup_v5, ("_ctrl_cost_weight", "_impact_cost_weight", "_impact_cost_range", *_SEES)
    ),
    "gymnasium.envs.mujoco.humanoidstandup_v4.HumanoidStandupEnv": Family(f.humanoid_standup_v4),
}
"""By the full name of the class, so that none has to be imported."""

FREE = frozenset(
    {"__init__", "reset", "reset_model", "_get_reset_info", "_initialize_simulation", "render", "close", "set_state"}
)
"""What a subclass may define: it is called as ever, and no step calls it."""

_ACCESS = ("__getattribute__", "__getattr__", "__setattr__")


def family_of(kind: type) -> tuple[Family, type] | None:
    """The family of a class of environments, and the class that it is written for: itself, or what it extends."""
    for base in kind.__mro__:
        family = FAMILIES.get(f"{base.__module__}.{base.__qualname__}")
        if family is not None:
            return family, base
    return None


def changed(core: Any, base: type) -> str | None:
    """The first name that an environment has otherwise than `base`, of the methods that a step may call; None if it has
    all of them as they were."""
    kind = type(core)
    for name in sorted({name for c in base.__mro__ for name in vars(c)} - FREE):
        own = inspect.getattr_static(base, name)
        if name.startswith("__") or not (callable(own) or isinstance(own, property)):
            continue
        if name in vars(core) or inspect.getattr_static(kind, name) is not own:
            return name
    return next((h for h in _ACCESS if getattr(kind, h, None) is not getattr(base, h, None)), None)
