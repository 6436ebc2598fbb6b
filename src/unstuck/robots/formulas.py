"""What Gymnasium's MuJoCo tasks compute after a step of simulation, for many environments at once.

Each function is Gymnasium's `step` of the version that it names, with a first axis over environments. Operations,
their order and their precision are the same, so that results are equal bit by bit: a weight is a Python float, which
leaves float32 actions float32; sums run over the last axis, in numpy's order for one row; `vecdot` is what
`numpy.linalg.norm` computes a norm with.

Source of all formulas: gymnasium/envs/mujoco/*.py, Gymnasium 1.4.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np


class Outcome(NamedTuple):
    """What a step of N environments gives."""

    obs: np.ndarray
    """(N, D) float64."""
    rewards: np.ndarray
    """(N,)"""
    terminated: np.ndarray
    """(N,) bool."""
    info: dict[str, Any]
    """Name → (N, ...) values."""


class Fields(Protocol):
    """The simulators of N environments."""

    @property
    def env(self) -> Any:
        """One of the environments, whose settings all of them share."""

    @property
    def actions(self) -> np.ndarray:
        """(N, nu) as they were given."""

    @property
    def before(self) -> Any:
        """What the task looked at before the simulation."""

    def __call__(self, name: str) -> np.ndarray:
        """A field of `MjData`, (N, ...)."""

    def masses(self) -> np.ndarray:
        """(N, nbody) of the models."""

    def starts(self, k: int) -> np.ndarray:
        """(N,) of each environment's `init_qpos[k]`."""


Formula = Callable[[Fields], Outcome]


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.vecdot(vectors, vectors))


def _never(s: Fields) -> np.ndarray:
    return np.zeros(len(s.actions), dtype=bool)


def _control_cost(s: Fields) -> np.ndarray:
    return s.env._ctrl_cost_weight * np.sum(np.square(s.actions), axis=1)


def _position(s: Fields, hidden: int) -> np.ndarray:
    return s("qpos")[:, hidden:] if s.env._exclude_current_positions_from_observation else s("qpos")


def _ends(s: Fields, healthy: np.ndarray) -> np.ndarray:
    return ~healthy & bool(s.env._terminate_when_unhealthy)


def _paid(s: Fields, healthy: np.ndarray) -> np.ndarray:
    """Version 5 pays for health where there is health."""
    return healthy * s.env._healthy_reward


def _paid_v4(s: Fields, healthy: np.ndarray) -> np.ndarray:
    """Version 4 pays for it also in the step that ends the episode."""
    return (healthy | bool(s.env._terminate_when_unhealthy)).astype(np.float64) * s.env._healthy_reward


# ------------------------------------------------------------------------------- Hopper, Walker2d, HalfCheetah


def x_before(s: Fields) -> np.ndarray:
    return s("qpos")[:, 0]


def _runs(s: Fields) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, its velocity, the reward for it, and the cost of control."""
    x = s("qpos")[:, 0]
    velocity = (x - s.before) / s.env.dt
    return x, velocity, s.env._forward_reward_weight * velocity, _control_cost(s)


def _upright(s: Fields) -> np.ndarray:
    z, angle = s("qpos")[:, 1], s("qpos")[:, 2]
    (low_z, high_z), (low, high) = s.env._healthy_z_range, s.env._healthy_angle_range
    return (low_z < z) & (z < high_z) & (low < angle) & (angle < high)


def _within(s: Fields) -> np.ndarray:
    """Hopper's: upright, and no number of its state too large."""
    low, high = s.env._healthy_state_range
    state = np.concatenate((s("qpos"), s("qvel")), axis=1)[:, 2:]
    return ((low < state) & (state < high)).all(axis=1) & _upright(s)


def _clipped_obs(s: Fields) -> np.ndarray:
    return np.concatenate((_position(s, 1), np.clip(s("qvel"), -10, 10)), axis=1)


def _walker_v5(s: Fields, healthy: np.ndarray) -> Outcome:
    x, velocity, forward, cost = _runs(s)
    paid = _paid(s, healthy)
    info = {
        "x_position": x, "z_distance_from_origin": s("qpos")[:, 1] - s.starts(1), "x_velocity": velocity,
        "reward_forward": forward, "reward_ctrl": -cost, "reward_survive": paid,
    }  # fmt: skip
    return Outcome(_clipped_obs(s), forward + paid - cost, _ends(s, healthy), info)


def _walker_v4(s: Fields, healthy: np.ndarray) -> Outcome:
    x, velocity, forward, cost = _runs(s)
    rewards = forward + _paid_v4(s, healthy) - cost
    return Outcome(_clipped_obs(s), rewards, _ends(s, healthy), {"x_position": x, "x_velocity": velocity})


def hopper_v5(s: Fields) -> Outcome:
    return _walker_v5(s, _within(s))


def hopper_v4(s: Fields) -> Outcome:
    return _walker_v4(s, _within(s))


def walker2d_v5(s: Fields) -> Outcome:
    return _walker_v5(s, _upright(s))


def walker2d_v4(s: Fields) -> Outcome:
    return _walker_v4(s, _upright(s))


def _cheetah(s: Fields, name: str) -> Outcome:
    x, velocity, forward, cost = _runs(s)
    obs = np.concatenate((_position(s, 1), s("qvel")), axis=1)
    info = {"x_position": x, "x_velocity": velocity, name: forward, "reward_ctrl": -cost}
    return Outcome(obs, forward - cost, _never(s), info)


def half_cheetah_v5(s: Fields) -> Outcome:
    return _cheetah(s, "reward_forward")


def half_cheetah_v4(s: Fields) -> Outcome:
    return _cheetah(s, "reward_run")


def sparse(formula: Formula) -> Formula:
    """The task with speed paid only beyond `forward_from_x` (`unstuck.tasks.sparse`)."""

    def paid_far(s: Fields) -> Outcome:
        found = formula(s)
        near = s("qpos")[:, 0] <= s.env.forward_from_x
        forward = found.info["reward_forward"]
        found.info["reward_forward"] = np.where(near, 0.0, forward)
        return found._replace(rewards=np.where(near, found.rewards - forward, found.rewards))

    return paid_far


# ----------------------------------------------------------------------------------------------------- Swimmer


def xy_before(s: Fields) -> np.ndarray:
    return s("qpos")[:, :2]


def _swimmer(s: Fields, paid_names: tuple[str, ...]) -> Outcome:
    xy = s("qpos")[:, :2]
    velocity = (xy - s.before) / s.env.dt
    forward, cost = s.env._forward_reward_weight * velocity[:, 0], _control_cost(s)
    obs = np.concatenate((_position(s, 2), s("qvel")), axis=1)
    info = {
        "x_position": xy[:, 0], "y_position": xy[:, 1], "distance_from_origin": _norm(xy),
        "x_velocity": velocity[:, 0], "y_velocity": velocity[:, 1],
        **dict.fromkeys(paid_names, forward), "reward_ctrl": -cost,
    }  # fmt: skip
    return Outcome(obs, forward - cost, _never(s), info)


def swimmer_v5(s: Fields) -> Outcome:
    return _swimmer(s, ("reward_forward",))


def swimmer_v4(s: Fields) -> Outcome:
    return _swimmer(s, ("reward_fwd", "forward_reward"))


# --------------------------------------------------------------------------------------------- Reacher, Pusher


def _body(s: Fields, name: str) -> np.ndarray:
    """(N, 3) where a body's frame is."""
    return s("xpos")[:, s.env.model.body(name).id]


def to_target(s: Fields) -> np.ndarray:
    """(N, 3) from the target to the finger."""
    return _body(s, "fingertip") - _body(s, "target")


def _reacher_obs(s: Fields, offset: np.ndarray) -> np.ndarray:
    qpos = s("qpos")
    theta = qpos[:, :2]
    return np.concatenate((np.cos(theta), np.sin(theta), qpos[:, 2:], s("qvel")[:, :2], offset), axis=1)


def reacher_v5(s: Fields) -> Outcome:
    vector = to_target(s)
    distance = -_norm(vector) * s.env._reward_dist_weight
    control = -np.square(s.actions).sum(axis=1) * s.env._reward_control_weight
    info = {"reward_dist": distance, "reward_ctrl": control}
    return Outcome(_reacher_obs(s, vector[:, :2]), distance + control, _never(s), info)


def reacher_v4(s: Fields) -> Outcome:
    """Pays for where the finger was before the step."""
    distance, control = -_norm(s.before), -np.square(s.actions).sum(axis=1)
    info = {"reward_dist": distance, "reward_ctrl": control}
    return Outcome(_reacher_obs(s, to_target(s)), distance + control, _never(s), info)


def pusher_v5(s: Fields) -> Outcome:
    tips, thing, goal = _body(s, "tips_arm"), _body(s, "object"), _body(s, "goal")
    near = -_norm(thing - tips) * s.env._reward_near_weight
    distance = -_norm(thing - goal) * s.env._reward_dist_weight
    control = -np.square(s.actions).sum(axis=1) * s.env._reward_control_weight
    obs = np.concatenate((s("qpos")[:, :7], s("qvel")[:, :7], tips, thing, goal), axis=1)
    info = {"reward_dist": distance, "reward_ctrl": control, "reward_near": near}
    return Outcome(obs, distance + control + near, _never(s), info)


# --------------------------------------------------------------------------------------------------- pendulums


def _pendulum(s: Fields) -> tuple[np.ndarray, np.ndarray]:
    obs = np.concatenate((s("qpos"), s("qvel")), axis=1)
    return obs, ~np.isfinite(obs).all(axis=1) | (np.abs(obs[:, 1]) > 0.2)


def inverted_pendulum_v5(s: Fields) -> Outcome:
    obs, fallen = _pendulum(s)
    paid = (~fallen).astype(np.int64)
    return Outcome(obs, paid, fallen, {"reward_survive": paid})


def inverted_pendulum_v4(s: Fields) -> Outcome:
    obs, fallen = _pendulum(s)
    return Outcome(obs, np.ones(len(obs)), fallen, {})


def _double_pendulum(s: Fields, seen: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observation, whether it has fallen, the penalties for distance and for speed."""
    tip, qpos, qvel = s("site_xpos")[:, 0], s("qpos"), s("qvel")
    obs = np.concatenate(
        (
            qpos[:, :1], np.sin(qpos[:, 1:]), np.cos(qpos[:, 1:]), np.clip(qvel, -10, 10),
            np.clip(s("qfrc_constraint"), -10, 10)[:, :seen],
        ),
        axis=1,
    )  # fmt: skip
    # Numbers one by one: the power of a single number is not always rounded as the square of an array is.
    rows = [(x, y, v1, v2) for (x, _, y), (_, v1, v2) in zip(tip, qvel[:, :3], strict=True)]
    far = np.array([0.01 * x**2 + (y - 2) ** 2 for x, y, _, _ in rows])
    fast = np.array([1e-3 * v1**2 + 5e-3 * v2**2 for _, _, v1, v2 in rows])
    return obs, tip[:, 2] <= 1, far, fast


def inverted_double_pendulum_v5(s: Fields) -> Outcome:
    obs, fallen, far, fast = _double_pendulum(s, 1)
    alive = s.env._healthy_reward * (~fallen).astype(np.int64)
    info = {"reward_survive": alive, "distance_penalty": -far, "velocity_penalty": -fast}
    return Outcome(obs, alive - far - fast, fallen, info)


def inverted_double_pendulum_v4(s: Fields) -> Outcome:
    obs, fallen, far, fast = _double_pendulum(s, None)
    return Outcome(obs, 10 - far - fast, fallen, {})


# --------------------------------------------------------------------------------------------------------- Ant


def _finite(s: Fields) -> np.ndarray:
    z, (low, high) = s("qpos")[:, 2], s.env._healthy_z_range
    finite = np.isfinite(s("qpos")).all(axis=1) & np.isfinite(s("qvel")).all(axis=1)
    return finite & (low <= z) & (z <= high)


def _contact_forces(s: Fields) -> np.ndarray:
    low, high = s.env._contact_force_range
    return np.clip(s("cfrc_ext"), low, high)


def _contact_cost(s: Fields, forces: np.ndarray) -> np.ndarray:
    return s.env._contact_cost_weight * np.sum(np.square(forces.reshape(len(forces), -1)), axis=1)


def _flat(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def main_body_before(s: Fields) -> np.ndarray:
    return s("xpos")[:, s.env.model.body(s.env._main_body).id, :2]


def torso_before(s: Fields) -> np.ndarray:
    return _body(s, "torso")[:, :2]


def ant_v5(s: Fields) -> Outcome:
    velocity = (main_body_before(s) - s.before) / s.env.dt
    healthy, forces = _finite(s), _contact_forces(s)
    forward, paid = velocity[:, 0] * s.env._forward_reward_weight, _paid(s, healthy)
    control, contact = _control_cost(s), _contact_cost(s, forces)
    seen = (forces[:, 1:],) if s.env._include_cfrc_ext_in_observation else ()
    info = {
        "x_position": s("qpos")[:, 0], "y_position": s("qpos")[:, 1], "distance_from_origin": _norm(s("qpos")[:, :2]),
        "x_velocity": velocity[:, 0], "y_velocity": velocity[:, 1],
        "reward_forward": forward, "reward_ctrl": -control, "reward_contact": -contact, "reward_survive": paid,
    }  # fmt: skip
    obs = _flat(_position(s, 2), s("qvel"), *seen)
    return Outcome(obs, forward + paid - (control + contact), _ends(s, healthy), info)


def ant_v4(s: Fields) -> Outcome:
    xy = torso_before(s)
    velocity = (xy - s.before) / s.env.dt
    healthy = _finite(s)
    forward, paid, costs = velocity[:, 0], _paid_v4(s, healthy), _control_cost(s)
    info = {
        "reward_forward": forward, "reward_ctrl": -costs, "reward_survive": paid,
        "x_position": xy[:, 0], "y_position": xy[:, 1], "distance_from_origin": _norm(xy),
        "x_velocity": forward, "y_velocity": velocity[:, 1], "forward_reward": forward,
    }  # fmt: skip
    seen = [_position(s, 2), s("qvel")]
    if s.env._use_contact_forces:
        forces = _contact_forces(s)
        contact = _contact_cost(s, forces)
        costs = costs + contact
        info["reward_ctrl"] = -contact
        seen.append(forces)
    return Outcome(_flat(*seen), forward + paid - costs, _ends(s, healthy), info)


# ------------------------------------------------------------------------------------ Humanoid, HumanoidStandup


def mass_center(s: Fields) -> np.ndarray:
    """(N, 2) of the whole body, in x and y."""
    masses = s.masses()
    return (np.einsum("nb,nbj->nj", masses, s("xipos")) / masses.sum(axis=1)[:, None])[:, :2]


def _humanoid_obs(s: Fields) -> np.ndarray:
    env, seen = s.env, [_position(s, 2), s("qvel")]
    if env._include_cinert_in_observation is True:
        seen.append(s("cinert")[:, 1:])
    if env._include_cvel_in_observation is True:
        seen.append(s("cvel")[:, 1:])
    if env._include_qfrc_actuator_in_observation is True:
        seen.append(s("qfrc_actuator")[:, 6:])
    if env._include_cfrc_ext_in_observation is True:
        seen.append(s("cfrc_ext")[:, 1:])
    return _flat(*seen)


def _humanoid_obs_v4(s: Fields, position: np.ndarray) -> np.ndarray:
    return _flat(position, s("qvel"), s("cinert"), s("cvel"), s("qfrc_actuator"), s("cfrc_ext"))


def _standing(s: Fields) -> np.ndarray:
    z, (low, high) = s("qpos")[:, 2], s.env._healthy_z_range
    return (low < z) & (z < high)


def _effort(s: Fields) -> np.ndarray:
    """Squares of what the simulator was told, which is float64 whatever the actions are."""
    return np.sum(np.square(s("ctrl")), axis=1)


def _impact(s: Fields) -> np.ndarray:
    forces = s("cfrc_ext")
    return np.sum(np.square(forces.reshape(len(forces), -1)), axis=1)


def humanoid_v5(s: Fields) -> Outcome:
    velocity = (mass_center(s) - s.before) / s.env.dt
    healthy = _standing(s)
    forward, paid = s.env._forward_reward_weight * velocity[:, 0], _paid(s, healthy)
    control = s.env._ctrl_cost_weight * _effort(s)
    low, high = s.env._contact_cost_range
    contact = np.clip(s.env._contact_cost_weight * _impact(s), low, high)
    info = {
        "x_position": s("qpos")[:, 0], "y_position": s("qpos")[:, 1],
        "tendon_length": s("ten_length"), "tendon_velocity": s("ten_velocity"),
        "distance_from_origin": _norm(s("qpos")[:, :2]), "x_velocity": velocity[:, 0], "y_velocity": velocity[:, 1],
        "reward_survive": paid, "reward_forward": forward, "reward_ctrl": -control, "reward_contact": -contact,
    }  # fmt: skip
    return Outcome(_humanoid_obs(s), forward + paid - (control + contact), _ends(s, healthy), info)


def humanoid_v4(s: Fields) -> Outcome:
    xy = mass_center(s)
    velocity = (xy - s.before) / s.env.dt
    healthy = _standing(s)
    forward, paid = s.env._forward_reward_weight * velocity[:, 0], _paid_v4(s, healthy)
    control = s.env._ctrl_cost_weight * _effort(s)
    info = {
        "reward_linvel": forward, "reward_quadctrl": -control, "reward_alive": paid,
        "x_position": xy[:, 0], "y_position": xy[:, 1], "distance_from_origin": _norm(xy),
        "x_velocity": velocity[:, 0], "y_velocity": velocity[:, 1], "forward_reward": forward,
    }  # fmt: skip
    return Outcome(_humanoid_obs_v4(s, _position(s, 2)), forward + paid - control, _ends(s, healthy), info)


def humanoid_standup_v5(s: Fields) -> Outcome:
    z = s("qpos")[:, 2]
    up, control = (z - 0) / s.env.model.opt.timestep, s.env._ctrl_cost_weight * _effort(s)
    low, high = s.env._impact_cost_range
    impact = np.clip(s.env._impact_cost_weight * _impact(s), low, high)
    info = {
        "x_position": s("qpos")[:, 0], "y_position": s("qpos")[:, 1],
        "z_distance_from_origin": z - s.starts(2),
        "tendon_length": s("ten_length"), "tendon_velocity": s("ten_velocity"),
        "reward_linup": up, "reward_quadctrl": -control, "reward_impact": -impact,
    }  # fmt: skip
    return Outcome(_humanoid_obs(s), up - control - impact + 1, _never(s), info)


def humanoid_standup_v4(s: Fields) -> Outcome:
    up, control = (s("qpos")[:, 2] - 0) / s.env.model.opt.timestep, 0.1 * _effort(s)
    impact = np.minimum(0.5e-6 * _impact(s), 10)
    info = {"reward_linup": up, "reward_quadctrl": -control, "reward_impact": -impact}
    return Outcome(_humanoid_obs_v4(s, s("qpos")[:, 2:]), up - control - impact + 1, _never(s), info)
