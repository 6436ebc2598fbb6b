"""MuJoCo robots that move in three dimensions: Ant, Humanoid, HumanoidStandup, Pusher (versions 4 and 5).

Their observations hold up to 376 numbers, most of them inertias and forces. The card keeps height,
orientation, joints and velocities; orientation as angles, because nobody reads quaternions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unstuck.tasks.builder import ColumnDescriber, Function, describer, number, observation_size, var
from unstuck.tasks.card import ActionSpec, Variable
from unstuck.tasks.generic import action_spec
from unstuck.tasks.kinematics import tilt_angles
from unstuck.tasks.mujoco_feet import contacts, heights

_TURN = math.pi + 1e-6


def _orientation(first: int) -> list[tuple[Variable, Function]]:
    """Angles from the quaternion in columns first to first + 3."""

    def angle(i: int) -> Function:
        return lambda o: tilt_angles(o[:, first : first + 4])[i]

    return [
        (var("roll", "about the forward axis, positive = right side down", "rad", -_TURN, _TURN), angle(0)),
        (var("pitch", "about the left axis, positive = front down", "rad", -_TURN, _TURN), angle(1)),
        (var("yaw", "heading, 0 = along +x, positive = turned left", "rad", -_TURN, _TURN), angle(2)),
        (var("upright", "1 = upright, 0 = on its side, -1 = upside down", "", -1.001, 1.001), angle(3)),
    ]


_VELOCITIES = (
    var("vx", "forward velocity of the torso", "m/s"),
    var("vy", "sideways velocity of the torso, positive = left", "m/s"),
    var("vz", "vertical velocity of the torso, positive = up", "m/s"),
    var("wx", "angular velocity about the body's forward axis", "rad/s"),
    var("wy", "angular velocity about the body's left axis", "rad/s"),
    var("wz", "angular velocity about the body's up axis, positive = turning left", "rad/s"),
)


def _joints(core: Any) -> list[str]:
    """The hinges after the free joint, in the order of qpos and qvel."""
    return [core.model.joint(j).name for j in range(1, core.model.njnt)]


def _columns(core: Any, joints: int) -> tuple[list[int], int, list[Variable]]:
    """Columns of x, y (if observed), z, joints and velocities, the first of the quaternion, and x and y."""
    here: list[Variable] = []
    if not getattr(core, "_exclude_current_positions_from_observation", True):
        here = [var("x", "forward position", "m"), var("y", "sideways position, positive = left", "m")]
    z = len(here)
    speeds = z + 5 + joints
    return [*range(z + 1), *range(z + 5, z + 5 + joints), *range(speeds, speeds + 6 + joints)], z + 1, here


def _described(env: Any, texts: dict[str, str]) -> ActionSpec:
    """The actuators with what a positive action does."""
    spec = action_spec(env)
    return spec.model_copy(update={"descriptions": tuple(texts[name] for name in spec.names)})


_LEGS = ("front left", "back left", "back right", "front right")


def ant(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    joints = _joints(core)
    if joints != [f"{part}_{i}" for i in range(1, 5) for part in ("hip", "ankle")]:
        return None
    texts = {}
    for i, leg in enumerate(_LEGS, start=1):
        texts[f"hip_{i}"] = f"{leg} leg, positive = swung counter-clockwise seen from above"
        texts[f"ankle_{i}"] = f"{leg} foot, " + ("larger = lower" if i in (1, 4) else "larger = higher")
    columns, quaternion, here = _columns(core, len(joints))
    low, high = core._healthy_z_range
    contact = observation_size(env) > len(columns) + 4  # version 4 neither observes nor charges contacts
    feet = [
        (f"contact_{i}", f"{leg} foot", int(core.model.joint(f"ankle_{i}").id)) for i, leg in enumerate(_LEGS, start=1)
    ]
    feet = [(name, foot, int(core.model.jnt_bodyid[joint])) for name, foot, joint in feet]
    return describer(
        env,
        goal="Walk forward (+x) as fast as possible on four legs without turning over.",
        reward=(
            f"{number(getattr(core, '_forward_reward_weight', 1))} x forward speed in m/s, plus "
            f"{number(core._healthy_reward)} for every step that it is healthy, minus "
            f"{number(core._ctrl_cost_weight)} x the sum of the squared actions"
            + (f", minus {number(core._contact_cost_weight)} x the squared contact forces." if contact else ".")
        ),
        termination=f"Ends when z leaves [{number(low)}, {number(high)}] m."
        if core._terminate_when_unhealthy
        else "Never ends early.",
        variables=(
            *here,
            var("z", "height of the torso; about 0.55 when standing", "m"),
            *(var(name, texts[name], "rad") for name in joints),
            *_VELOCITIES,
            *(var(f"w_{name}", f"angular velocity of {name}", "rad/s") for name in joints),
        ),
        columns=columns,
        action=_described(env, {name: "torque: " + text for name, text in texts.items()}),
        derived=[*_orientation(quaternion), *contacts(env, len(columns) + 4, feet)],
        notes="How far it has come (x, y) is not part of the state." if not here else "",
    )


_HUMANOID_JOINTS = {
    "abdomen_z": "waist, twist: positive = hips turned left against the torso",
    "abdomen_y": "waist, negative = torso bent forward, positive = backward",
    "abdomen_x": "waist, positive = torso bent to the left",
    **{
        f"{side}_{joint}": f"{side} {text}"
        for side in ("right", "left")
        for joint, text in {
            "hip_x": "hip, negative = leg spread outwards, positive = inwards",
            "hip_z": "hip, twist of the leg",
            "hip_y": "hip, negative = leg swung forward, positive = back",
            "knee": "knee, negative = bent, about 0 = straight",
        }.items()
    },
}
"""What the signs of the joints mean; of the arms' oblique axes nothing short can be said."""


def _humanoid(env: Any, goal: str, reward: str, termination: str) -> ColumnDescriber | None:
    core = env.unwrapped
    joints = _joints(core)
    texts = {name: _HUMANOID_JOINTS.get(name, name.replace("_", " ")) for name in joints}
    columns, quaternion, here = _columns(core, len(joints))
    feet = [(side, int(core.model.body(f"{side}_foot").id)) for side in ("right", "left")]
    begin = len(columns) + 4
    return describer(
        env,
        goal=goal, reward=reward, termination=termination,
        variables=(
            *here,
            var("z", "height of the torso; about 1.3 when standing", "m"),
            *(var(name, f"joint angle: {texts[name]}", "rad") for name in joints),
            *_VELOCITIES,
            *(var(f"w_{name}", f"angular velocity of {name}", "rad/s") for name in joints),
        ),
        columns=columns,
        action=_described(env, {name: f"torque: {text}" for name, text in texts.items()}),
        derived=[
            *_orientation(quaternion),
            *heights(env, begin, quaternion - 1, quaternion, [(f"{s}_foot_height", f"{s} foot", b) for s, b in feet]),
            *contacts(env, begin, [(f"{s}_contact", f"{s} foot", b) for s, b in feet]),
        ],
        notes="The state also holds inertias, body velocities and contact forces, which are not named here.",
    )  # fmt: skip


def humanoid(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    low, high = core._healthy_z_range
    return _humanoid(
        env,
        goal="Walk forward (+x) as fast as possible on two legs without falling.",
        reward=(
            f"{number(core._forward_reward_weight)} x forward speed in m/s, plus {number(core._healthy_reward)} for "
            f"every step that it is up, minus {number(core._ctrl_cost_weight)} x the sum of the squared actions and a "
            "small cost of contacts."
        ),
        termination=f"Ends in a fall when z leaves ({number(low)}, {number(high)}) m."
        if core._terminate_when_unhealthy
        else "Never ends early.",
    )


def humanoid_standup(env: Any) -> ColumnDescriber | None:
    return _humanoid(
        env,
        goal="Stand up from lying on the back, and stay up.",
        reward="z / 0.003 in every step, plus 1, minus 0.1 x the sum of the squared torques and a cost of contacts.",
        termination="Never ends early.",
    )


_PUSHER_JOINTS = {
    "shoulder_pan": ", positive = the arm swings towards +y",
    "shoulder_lift": ", positive = the arm goes down",
    "elbow": ", 0 = straight, negative = bent",
}


def pusher(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    near, far, control = (
        number(getattr(core, f"_reward_{name}_weight", default))
        for name, default in (("near", 0.5), ("dist", 1.0), ("control", 0.1))
    )
    joints = ["shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow", "forearm_roll", "wrist_flex", "wrist_roll"]

    def apart(a: int, b: int) -> Function:
        return lambda o: np.linalg.norm(o[:, a : a + 3] - o[:, b : b + 3], axis=1)

    def minus(a: int, b: int) -> Function:
        return lambda o: o[:, a] - o[:, b]

    return describer(
        env,
        goal="Push a cylinder on a table to the goal with the tip of a seven-joint arm.",
        reward=(
            f"-{far} x goal_distance - {near} x tip_distance - {control} x the sum of the squared actions, in every "
            "step."
        ),
        termination="Never ends early.",
        variables=(
            *(var(name, f"joint angle{_PUSHER_JOINTS.get(name, '')}", "rad") for name in joints),
            *(var(f"w_{name}", f"angular velocity of {name}", "rad/s") for name in joints),
            *(
                var(f"{what}_{axis}", f"position of the {text}", "m")
                for what, text in (("tip", "arm's tip"), ("object", "cylinder"), ("goal", "goal"))
                for axis in "xyz"
            ),
        ),
        action=action_spec(env).model_copy(
            update={"names": tuple(joints), "descriptions": ("torque, positive = angle grows",) * 7}
        ),
        derived=(
            (var("tip_distance", "from the arm's tip to the cylinder", "m", 0), apart(14, 17)),
            (var("goal_distance", "from the cylinder to the goal", "m", 0), apart(17, 20)),
            *((var(f"object_from_tip_{axis}", f"object_{axis} - tip_{axis}: where the tip must go to touch it", "m"),
               minus(17 + i, 14 + i)) for i, axis in enumerate("xyz")),
            *((var(f"goal_from_object_{axis}", f"goal_{axis} - object_{axis}: where the cylinder must go", "m"),
               minus(20 + i, 17 + i)) for i, axis in enumerate("xy")),
        ),
    )  # fmt: skip
