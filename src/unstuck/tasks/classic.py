"""Classic control: CartPole, MountainCar (both), Acrobot, Pendulum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unstuck.tasks.builder import ColumnDescriber, continuous, describer, discrete, number, var
from unstuck.tasks.card import Variable


def cart_pole(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    limit = float(core.theta_threshold_radians)
    reward = "+1 for every step, the last one included. The best is to stay up for the whole episode."
    if getattr(core, "_sutton_barto_reward", False):
        reward = "0 for every step, -1 when the pole falls or the cart leaves the track."
    return describer(
        env,
        goal="Keep a pole upright on a cart by pushing the cart left or right.",
        reward=reward,
        termination=(
            f"Ends when |angle| > {limit:.3f} rad ({math.degrees(limit):.0f} degrees) or |x| > "
            f"{number(core.x_threshold)}."
        ),
        variables=(
            var("x", "cart position, 0 = middle of the track, positive = right", "m", -4.8, 4.8),
            var("vx", "cart velocity, positive = to the right", "m/s"),
            var("angle", "pole angle, 0 = upright, positive = leaning right", "rad", -2 * limit, 2 * limit),
            var("w_angle", "angular velocity of the pole, positive = falling to the right", "rad/s"),
        ),
        action=discrete(left="push the cart left", right="push the cart right"),
    )


_HEIGHT = "height of the track here: sin(3 position); -1 = bottom of the valley"
_ENERGY = (
    "height that the car would reach if it coasted from here (height + 600 velocity^2): its energy; "
    "must exceed {goal:.2f} to reach the flag"
)


def _hill(goal: float) -> tuple[tuple[Variable, Any], ...]:
    """Height and energy; the energy is constant while the motor is off, as velocity changes by
    -0.0025 cos(3 position) in each step."""
    return (
        (var("height", _HEIGHT, "", -1.0, 1.0), lambda o: np.sin(3 * o[:, 0])),
        (
            var("energy", _ENERGY.format(goal=math.sin(3 * goal)), "", -1.0, 4.0),
            lambda o: np.sin(3 * o[:, 0]) + 600 * o[:, 1] ** 2,
        ),
    )


def _car_variables(goal: float) -> tuple[Variable, ...]:
    where = f"-1.2 = wall on the left, -0.52 = bottom of the valley, {number(goal)} = flag"
    return (
        var("position", f"of the car along the track: {where}", "", -1.2, 0.6),
        var("velocity", "of the car, positive = to the right", "1/step", -0.07, 0.07),
    )


def mountain_car(env: Any) -> ColumnDescriber | None:
    goal = float(env.unwrapped.goal_position)
    return describer(
        env,
        goal=(
            f"Drive an underpowered car up the right hill to the flag at position {number(goal)}. The motor is too "
            "weak to climb directly: the car must swing back and forth to gain energy."
        ),
        reward="-1 for every step until the flag is reached, whatever the car does before.",
        termination=f"Ends when position >= {number(goal)} (success). Hitting the left wall stops the car.",
        variables=_car_variables(goal),
        action=discrete(left="accelerate left", coast="do not accelerate", right="accelerate right"),
        derived=_hill(goal),
    )


def mountain_car_continuous(env: Any) -> ColumnDescriber | None:
    goal = float(env.unwrapped.goal_position)
    return describer(
        env,
        goal=(
            f"Drive an underpowered car up the right hill to the flag at position {number(goal)}. The motor is too "
            "weak to climb directly: the car must swing back and forth to gain energy."
        ),
        reward="+100 on reaching the flag, minus 0.1 force^2 in every step. Doing nothing costs nothing.",
        termination=f"Ends when position >= {number(goal)} (success). Hitting the left wall stops the car.",
        variables=_car_variables(goal),
        action=continuous(env, force="of the motor, positive = to the right"),
        derived=_hill(goal),
    )


def acrobot(env: Any) -> ColumnDescriber | None:
    def angle1(o: np.ndarray) -> np.ndarray:
        return np.arctan2(o[:, 1], o[:, 0])

    def angle2(o: np.ndarray) -> np.ndarray:
        return np.arctan2(o[:, 3], o[:, 2])

    def tip_height(o: np.ndarray) -> np.ndarray:
        # -cos(angle1) - cos(angle1 + angle2), the second by the addition theorem.
        return -o[:, 0] - (o[:, 0] * o[:, 2] - o[:, 1] * o[:, 3])

    fast1, fast2, turn = 4 * math.pi, 9 * math.pi, math.pi + 1e-6
    return describer(
        env,
        goal="Swing the free end of a two-link pendulum above the line, one link's length over the fixed pivot.",
        reward="-1 for every step until the tip is above the line, 0 for the step in which it gets there.",
        termination="Ends when tip_height > 1 (success).",
        variables=(
            var("cos_angle1", "cosine of angle1", "", -1, 1),
            var("sin_angle1", "sine of angle1", "", -1, 1),
            var("cos_angle2", "cosine of angle2", "", -1, 1),
            var("sin_angle2", "sine of angle2", "", -1, 1),
            var("w1", "angular velocity of the upper link, positive = angle1 grows", "rad/s", -fast1, fast1),
            var("w2", "angular velocity of the lower link relative to the upper, positive = angle2 grows", "rad/s",
                -fast2, fast2),
        ),
        action=discrete(minus="torque -1 on the joint between the links: angle2 falls", zero="no torque",
                        plus="torque +1 on the joint between the links: angle2 grows"),
        derived=(
            (var("angle1", "upper link: 0 = hanging down, positive = to the right", "rad", -turn, turn), angle1),
            (var("angle2", "lower link relative to the upper: 0 = in line", "rad", -turn, turn), angle2),
            (var("tip_height", "of the free end over the pivot: -2 = hanging down, goal > 1", "m", -2, 2),
             tip_height),
        ),
    )  # fmt: skip


def pendulum(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    g, fast, turn = float(core.g), float(core.max_speed), math.pi + 1e-6
    return describer(
        env,
        goal=(
            "Swing a pendulum up and balance it upright. The motor is too weak to lift it directly: it must be "
            "swung back and forth to gain energy."
        ),
        reward="-(angle^2 + 0.1 w^2 + 0.001 torque^2) in every step; 0 is the best, about -16 the worst.",
        termination="Never ends early.",
        variables=(
            var("cos_angle", "cosine of the angle: 1 = upright, -1 = hanging down", "", -1, 1),
            var("sin_angle", "sine of the angle", "", -1, 1),
            var("w", "angular velocity, positive = angle grows", "rad/s", -fast, fast),
        ),
        action=continuous(env, "N m", torque="positive = angle grows"),
        derived=(
            (var("angle", "0 = upright, +-pi = hanging down", "rad", -turn, turn),
             lambda o: np.arctan2(o[:, 1], o[:, 0])),
            (var("energy", f"kinetic and potential; at rest upright {number(g / 2)}, hanging {number(-g / 2)}", "J"),
             lambda o: o[:, 2] ** 2 / 6 + g / 2 * o[:, 0]),
        ),
    )  # fmt: skip
