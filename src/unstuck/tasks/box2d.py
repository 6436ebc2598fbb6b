"""Box2D: LunarLander (discrete and continuous), BipedalWalker (both terrains)."""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.tasks.builder import ColumnDescriber, continuous, describer, discrete, flag, var

_LEFT = "turns counter-clockwise (angle grows) and drifts left"
_RIGHT = "turns clockwise (angle falls) and drifts right"
_MAIN = "pushes up along the craft's axis"


def lunar_lander(env: Any) -> ColumnDescriber | None:
    if getattr(env.unwrapped, "continuous", False):
        action = continuous(
            env,
            main=f"main engine: below 0 off, 0 to 1 = half to full power; {_MAIN}",
            side=f"-0.5 to 0.5 off; below, left engine: {_LEFT}; above, right engine: {_RIGHT}",
        )
    else:
        action = discrete(
            nothing="no engine",
            left=f"fire left engine: {_LEFT}",
            main=f"fire main engine: {_MAIN}",
            right=f"fire right engine: {_RIGHT}",
        )
    return describer(
        env,
        goal="Land the craft softly on the pad at (0, 0) between the flags, and come to rest there.",
        reward=(
            "Change of 100 x (-distance to the pad - speed - |angle|) + 10 for each leg on the ground; minus 0.3 for "
            "each step of the main engine at full power and 0.03 of a side engine. +100 for coming to rest, -100 for "
            "a crash. 200 or more is a good landing."
        ),
        termination="Ends when the body touches the ground or |x| >= 1 (crash), or when the craft is at rest.",
        variables=(
            var("x", "horizontal position, pad at 0, positive = right; 1 = edge of the view (10 m)", "view"),
            var("y", "height above the pad (legs down); starts near 1.4; 1 = 6.7 m", "view"),
            var("vx", "horizontal velocity, positive = to the right; 1 = 5 m/s", ""),
            var("vy", "vertical velocity, negative = falling; 1 = 7.5 m/s", ""),
            var("angle", "tilt, 0 = upright, positive = counter-clockwise, leaning left", "rad"),
            var("w_angle", "angular velocity, positive = counter-clockwise; 1 = 2.5 rad/s", ""),
            # The simulator lists the leg at positive x first.
            flag("leg_right", "1 if the right leg touches the ground"),
            flag("leg_left", "1 if the left leg touches the ground"),
        ),
        action=action,
        derived=(
            (var("distance", "to the middle of the pad: sqrt(x^2 + y^2)", "view", 0),
             lambda o: np.hypot(o[:, 0], o[:, 1])),
            (var("speed", "sqrt(vx^2 + vy^2)", "", 0), lambda o: np.hypot(o[:, 2], o[:, 3])),
        ),
        notes="With angle > 0 the main engine also pushes to the left, with angle < 0 to the right.",
    )  # fmt: skip


def bipedal_walker(env: Any) -> ColumnDescriber | None:
    hard = getattr(env.unwrapped, "hardcore", False)
    legs = []
    for k in (1, 2):
        legs += [
            var(f"hip{k}", f"leg {k}: hip angle, positive = leg swung forward", "rad"),
            var(f"w_hip{k}", f"leg {k}: speed of the hip, positive = swinging forward", "4 rad/s"),
            var(f"knee{k}", f"leg {k}: knee angle + 1, larger = straighter", "rad"),
            var(f"w_knee{k}", f"leg {k}: speed of the knee, positive = straightening", "6 rad/s"),
            flag(f"contact{k}", f"1 if the foot of leg {k} touches the ground"),
        ]
    lidar = [
        var(f"lidar{i}", f"distance to the ground at {8.6 * i:.0f} degrees from straight down, forwards", "", 0, 1)
        for i in range(10)
    ]
    return describer(
        env,
        goal=f"Walk to the right end of {'a course with stumps, pits and stairs' if hard else 'uneven ground'}.",
        reward=(
            "About +300 in all for the whole way (4.33 per m forward, minus 5 per rad that |pitch| grows), minus "
            "0.028 x sum of |actions| in each step; -100 for falling."
        ),
        termination="Ends when the hull touches the ground or moves back past the start (-100), or at the far end.",
        variables=(
            var("pitch", "hull angle, 0 = level, positive = nose up (counter-clockwise)", "rad"),
            var("w_pitch", "angular velocity of the hull, positive = nose rising", "25 rad/s"),
            var("vx", "forward velocity; 1 = 8.3 m/s", ""),
            var("vy", "vertical velocity, positive = up; 1 = 12.5 m/s", ""),
            *legs,
            *lidar,
        ),
        action=continuous(
            env,
            hip1="positive = swing leg 1 forward",
            knee1="positive = straighten knee 1",
            hip2="positive = swing leg 2 forward",
            knee2="positive = straighten knee 2",
        ),
    )
