"""MuJoCo robots of Gymnasium, versions 4 and 5: Hopper, Walker2d, HalfCheetah, Reacher, Swimmer, the pendulums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unstuck.tasks.builder import ColumnDescriber, Function, continuous, describer, number, observation_size, var
from unstuck.tasks.card import Variable
from unstuck.tasks.kinematics import clearance

_TURN = math.pi + 1e-6


def _weight(core: Any, name: str, default: float) -> float:
    return float(getattr(core, name, default))


def _forward_reward(core: Any, control: float) -> str:
    text = f"{number(_weight(core, '_forward_reward_weight', 1))} x forward speed in m/s"
    if (alive := _weight(core, "_healthy_reward", 0)) > 0:
        text += f", plus {number(alive)} for every step that it is healthy"
    cost = number(_weight(core, "_ctrl_cost_weight", control))
    text += f", minus {cost} x the sum of the squared actions. "
    sparse = getattr(core, "forward_from_x", None)
    return text + (f"The forward part is paid only beyond x = {number(sparse)} m. " if sparse else "")


def _range(bounds: tuple[float, float], unit: str) -> str:
    low, high = (number(b) for b in bounds)
    return f"above {low} {unit}" if math.isinf(bounds[1]) else f"between {low} and {high} {unit}"


def _planar(core: Any, skipped: int) -> tuple[list[Variable], int]:
    """The x position where the observation has it, and how many entries of qpos it leaves out."""
    if skipped:
        return [], 1
    return [var("x", "forward position of the torso", "m")], 0


def _skipped(env: Any) -> int:
    return 1 if getattr(env.unwrapped, "_exclude_current_positions_from_observation", True) else 0


_PITCH = "torso angle, 0 = upright, positive = leaning forward"
_NO_X = "How far it has come (x) is not part of the state."
_FAST = 10.0  # Hopper and Walker2d clip observed velocities to this


def _leg(suffix: str, label: str) -> list[Variable]:
    return [
        var(f"thigh{suffix}", f"{label}hip angle, 0 = in line with the torso, negative = thigh swung back", "rad"),
        var(f"leg{suffix}", f"{label}knee angle, 0 = straight, negative = bent, foot to the back", "rad"),
        var(f"foot{suffix}", f"{label}ankle angle, 0 = at right angles, positive = toes up", "rad"),
    ]


_LEG_ACTIONS = {
    "thigh": "positive = swing the thigh forward",
    "leg": "positive = straighten the knee",
    "foot": "positive = raise the toes",
}


def _leg_speeds(suffix: str, label: str) -> list[Variable]:
    what = {"thigh": "hip, positive = thigh swinging forward", "leg": "knee, positive = straightening",
            "foot": "ankle, positive = toes rising"}  # fmt: skip
    return [
        var(f"w_{joint}{suffix}", f"{label}angular velocity of the {text}", "rad/s", -_FAST, _FAST)
        for joint, text in what.items()
    ]


def _trunk_speeds() -> list[Variable]:
    return [
        var("vx", "forward velocity of the torso", "m/s", -_FAST, _FAST),
        var("vz", "vertical velocity of the torso, positive = up", "m/s", -_FAST, _FAST),
        var("w_pitch", "angular velocity of the torso, positive = tipping forward", "rad/s", -_FAST, _FAST),
    ]


def _foot_height(env: Any, name: str, geom: str, label: str, skipped: int) -> list[tuple[Variable, Function]]:
    """Height of a foot; nothing if the user's own model has no such geom."""
    try:
        function = clearance(env.unwrapped, geom, skipped)
    except KeyError:
        return []
    return [
        (
            var(name, f"height of the lowest point of the {label} over the floor; about 0 or less = contact", "m"),
            function,
        )
    ]


def hopper(env: Any) -> ColumnDescriber | None:
    core, skipped = env.unwrapped, _skipped(env)
    angles, heights = core._healthy_angle_range, core._healthy_z_range
    x, skipped = _planar(core, skipped)
    return describer(
        env,
        goal="Hop forward (+x) as fast as possible on one leg without falling.",
        reward=_forward_reward(core, 1e-3),
        termination=(
            f"Ends in a fall unless z stays {_range(heights, 'm')} and pitch {_range(angles, 'rad')}."
            if core._terminate_when_unhealthy
            else "Never ends early."
        ),
        variables=(
            *x,
            var("z", "height of the torso; about 1.25 when standing", "m"),
            var("pitch", _PITCH, "rad"),
            *_leg("", ""),
            *_trunk_speeds(),
            *_leg_speeds("", ""),
        ),
        action=continuous(env, "of 200 N m", **_LEG_ACTIONS),
        derived=_foot_height(env, "foot_height", "foot_geom", "foot", skipped),
        notes=_NO_X if skipped else "",
    )  # fmt: skip


def walker2d(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    x, skipped = _planar(core, _skipped(env))
    actions = {
        f"{name}_{side}": f"{side} leg: {what}" for side in ("right", "left") for name, what in _LEG_ACTIONS.items()
    }
    return describer(
        env,
        goal="Walk forward (+x) as fast as possible on two legs without falling.",
        reward=_forward_reward(core, 1e-3),
        termination=(
            f"Ends in a fall unless z stays {_range(core._healthy_z_range, 'm')} and pitch "
            f"{_range(core._healthy_angle_range, 'rad')}."
            if core._terminate_when_unhealthy
            else "Never ends early."
        ),
        variables=(
            *x,
            var("z", "height of the torso; about 1.25 when standing", "m"),
            var("pitch", _PITCH, "rad"),
            *_leg("_right", "right leg: "),
            *_leg("_left", "left leg: "),
            *_trunk_speeds(),
            *_leg_speeds("_right", "right leg: "),
            *_leg_speeds("_left", "left leg: "),
        ),
        action=continuous(env, "of 100 N m", **actions),
        derived=(
            *_foot_height(env, "foot_height_right", "foot_geom", "right foot", skipped),
            *_foot_height(env, "foot_height_left", "foot_left_geom", "left foot", skipped),
        ),
        notes=_NO_X if skipped else "",
    )


_CHEETAH = {
    "bthigh": "back thigh, positive = knee swung back",
    "bshin": "back shin, positive = shin swung back and up",
    "bfoot": "back foot, positive = toes swung back and down",
    "fthigh": "front thigh, positive = knee swung back",
    "fshin": "front shin, positive = shin swung back",
    "ffoot": "front foot, positive = toes swung back and down",
}


def half_cheetah(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    x, skipped = _planar(core, _skipped(env))
    pitch = 2 - skipped
    return describer(
        env,
        goal="Run forward (+x) as fast as possible; good runners reach 5 to 10 m/s.",
        reward=_forward_reward(core, 0.1),
        termination="Never ends early, not even on its back.",
        variables=(
            *x,
            var("z", "height of the torso minus its standing height; about -0.1 when on its feet", "m"),
            var("pitch", "torso angle, 0 = level, positive = nose down; |pitch| near pi = on its back", "rad"),
            *(var(name, f"joint angle: {text}", "rad") for name, text in _CHEETAH.items()),
            var("vx", "forward velocity of the torso", "m/s"),
            var("vz", "vertical velocity of the torso, positive = up", "m/s"),
            var("w_pitch", "angular velocity of the torso, positive = nose dropping", "rad/s"),
            *(var(f"w_{name}", f"angular velocity of {name}", "rad/s") for name in _CHEETAH),
        ),
        action=continuous(env, "of full torque", **{name: f"positive = angle {name} grows" for name in _CHEETAH}),
        derived=(
            (var("upright", "cos(pitch): 1 = belly down, 0 = on end, -1 = on its back", "", -1, 1),
             lambda o: np.cos(o[:, pitch])),
            *_foot_height(env, "bfoot_height", "bfoot", "back foot", skipped),
            *_foot_height(env, "ffoot_height", "ffoot", "front foot", skipped),
        ),
        notes=(
            (_NO_X + " " if skipped else "")
            + "pitch is not wrapped: after a full turn it stays 2 pi away. Full torque is "
            "120, 90, 60 (back) and 120, 60, 30 N m (front)."
        ),
    )  # fmt: skip


def reacher(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    size = observation_size(env)
    lag = size == 11  # version 4: a third, constant component of the vector, and the reward of the state before
    near, control = _weight(core, "_reward_dist_weight", 1), _weight(core, "_reward_control_weight", 1)
    return describer(
        env,
        goal="Move the fingertip of a two-link arm to the target and hold it there. The target differs by episode.",
        reward=(
            f"-{number(near)} x distance - {number(control)} x the sum of the squared actions, in every step"
            + (" (distance before the step)." if lag else ".")
        ),
        termination="Never ends early.",
        variables=(
            var("cos_joint0", "cosine of the shoulder angle", "", -1, 1),
            var("cos_joint1", "cosine of the elbow angle", "", -1, 1),
            var("sin_joint0", "sine of the shoulder angle", "", -1, 1),
            var("sin_joint1", "sine of the elbow angle", "", -1, 1),
            var("target_x", "of the target; the shoulder is at 0", "m"),
            var("target_y", "of the target", "m"),
            var("w_joint0", "angular velocity of the shoulder, positive = counter-clockwise", "rad/s"),
            var("w_joint1", "angular velocity of the elbow, positive = counter-clockwise", "rad/s"),
            var("dx", "fingertip minus target, along x", "m"),
            var("dy", "fingertip minus target, along y", "m"),
            *([var("dz", "fingertip minus target, along z: always 0", "m")] if lag else []),
        ),
        action=continuous(env, "of 200 N m", joint0="shoulder, positive = counter-clockwise",
                          joint1="elbow, positive = counter-clockwise"),
        derived=(
            (var("distance", "from fingertip to target", "m", 0), lambda o: np.hypot(o[:, 8], o[:, 9])),
            (var("joint0", "shoulder angle, 0 = arm along +x, positive = counter-clockwise", "rad", -_TURN, _TURN),
             lambda o: np.arctan2(o[:, 2], o[:, 0])),
            (var("joint1", "elbow angle, 0 = straight, positive = counter-clockwise", "rad", -_TURN, _TURN),
             lambda o: np.arctan2(o[:, 3], o[:, 1])),
        ),
    )  # fmt: skip


def swimmer(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    here = [var("x", "forward position", "m"), var("y", "sideways position, positive = left", "m")]
    turn = "positive = counter-clockwise seen from above"
    return describer(
        env,
        goal="Swim forward (+x) as fast as possible by bending a chain of three links in a viscous fluid.",
        reward=_forward_reward(core, 1e-4),
        termination="Never ends early.",
        variables=(
            *([] if _skipped(env) else here),
            var("heading", f"angle of the front link, 0 = along +x, {turn}", "rad"),
            var("joint1", f"angle of the middle link relative to the front one, {turn}", "rad"),
            var("joint2", f"angle of the rear link relative to the middle one, {turn}", "rad"),
            var("vx", "forward velocity of the front link", "m/s"),
            var("vy", "sideways velocity of the front link, positive = left", "m/s"),
            var("w_heading", "angular velocity of the front link", "rad/s"),
            var("w_joint1", "angular velocity of the front joint", "rad/s"),
            var("w_joint2", "angular velocity of the rear joint", "rad/s"),
        ),
        action=continuous(env, "of 150 N m", joint1="front joint, positive = angle grows",
                          joint2="rear joint, positive = angle grows"),
    )  # fmt: skip


def inverted_pendulum(env: Any) -> ColumnDescriber | None:
    return describer(
        env,
        goal="Keep a pole upright on a cart by pushing the cart.",
        reward="+1 for every step that the pole is up.",
        termination="Ends when |angle| > 0.2 rad.",
        variables=(
            var("x", "cart position, 0 = middle, positive = right; the rail ends at +-1", "m"),
            var("angle", "pole angle, 0 = upright, positive = leaning right", "rad"),
            var("vx", "cart velocity, positive = to the right", "m/s"),
            var("w_angle", "angular velocity of the pole, positive = falling to the right", "rad/s"),
        ),
        action=continuous(env, "100 N", force="on the cart, positive = to the right"),
    )


def inverted_double_pendulum(env: Any) -> ColumnDescriber | None:
    """Version 4 observes three constraint forces, version 5 the first of them."""
    size = observation_size(env)
    ten = (-10.0, 10.0)
    forces = [
        var(f"rail_force{i or ''}", "force of the rail's end on the cart, else 0", "N", *ten) for i in range(size - 8)
    ]
    return describer(
        env,
        goal="Keep two poles, one on top of the other, upright on a cart by pushing the cart.",
        reward=(
            f"{number(_weight(env.unwrapped, '_healthy_reward', 10))} for every step that the tip is up, minus "
            "0.01 tip_x^2 + (tip_y - 2)^2, minus 0.001 w1^2 + 0.005 w2^2."
        ),
        termination="Ends when the tip is 1 m or less above the rail (upright it is at 1.2).",
        variables=(
            var("x", "cart position, 0 = middle, positive = right; the rail ends at +-1", "m"),
            var("sin_angle1", "sine of the lower pole's angle; positive = leaning right", "", -1, 1),
            var("sin_angle2", "sine of the upper pole's angle relative to the lower; positive = bent right", "", -1, 1),
            var("cos_angle1", "cosine of the lower pole's angle", "", -1, 1),
            var("cos_angle2", "cosine of the upper pole's angle", "", -1, 1),
            var("vx", "cart velocity, positive = to the right", "m/s", *ten),
            var("w1", "angular velocity of the lower pole, positive = falling right", "rad/s", *ten),
            var("w2", "angular velocity of the upper pole relative to the lower", "rad/s", *ten),
            *forces,
        ),
        action=continuous(env, "500 N", force="on the cart, positive = to the right"),
        derived=(
            (var("angle1", "lower pole: 0 = upright, positive = leaning right", "rad", -_TURN, _TURN),
             lambda o: np.arctan2(o[:, 1], o[:, 3])),
            (var("angle2", "upper pole relative to the lower: 0 = in line", "rad", -_TURN, _TURN),
             lambda o: np.arctan2(o[:, 2], o[:, 4])),
            (var("upper_lean", "upper pole against the vertical, angle1 + angle2; positive = leaning right",
                 "rad", -_TURN, _TURN),
             lambda o: np.arctan2(o[:, 1] * o[:, 4] + o[:, 3] * o[:, 2], o[:, 3] * o[:, 4] - o[:, 1] * o[:, 2])),
        ),
    )  # fmt: skip
