"""Describers: what cards say must hold in the simulator."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from unstuck.errors import TaskError
from unstuck.tasks import built_in_names, describe_state, describe_states, describer_for, make_env
from unstuck.tasks.builder import ColumnDescriber
from unstuck.tasks.card import Describer

pytestmark = pytest.mark.filterwarnings("ignore")

MUJOCO = [
    "Hopper",
    "Walker2d",
    "HalfCheetah",
    "Reacher",
    "InvertedPendulum",
    "InvertedDoublePendulum",
    "Swimmer",
    "Ant",
    "Humanoid",
    "HumanoidStandup",
]
BUILT_IN = [
    *(f"{name}-{version}" for name in MUJOCO for version in ("v4", "v5")),
    "Pusher-v5", "SparseHopper-v5", "SparseWalker2d-v5", "SparseHalfCheetah-v5",
    "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1",
    "LunarLander-v3", "LunarLanderContinuous-v3", "BipedalWalker-v3", "BipedalWalkerHardcore-v3",
    "FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4",
]  # fmt: skip


def play(env: gym.Env, steps: int, seed: int = 0) -> np.ndarray:
    env.action_space.seed(seed)
    observations = [env.reset(seed=seed)[0]]
    while len(observations) < steps:
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        observations.append(obs)
        if terminated or truncated:
            observations.append(env.reset()[0])
    return np.array(observations)


def column(describer: Describer, name: str, obs: np.ndarray) -> np.ndarray:
    return describer.variables(obs)[:, describer.card.variable_names.index(name)]


@pytest.mark.parametrize("env_id", BUILT_IN)
def test_a_built_in_card_is_complete_and_true(env_id: str) -> None:
    env = make_env(env_id)
    describer = describer_for(env)
    card = describer.card
    assert isinstance(describer, ColumnDescriber)  # not the generic one
    assert "unknown" not in card.goal + card.reward + card.termination
    assert all(v.description for v in card.variables)
    assert card.env_id == env_id
    assert card.max_episode_steps == env.spec.max_episode_steps
    if isinstance(env.action_space, gym.spaces.Discrete):
        assert len(card.action.names) == env.action_space.n
    else:
        assert card.action.low == tuple(env.action_space.low)
    observations = play(env, 400)
    before = observations.copy()
    values = describer.variables(observations)
    assert values.dtype == np.float64
    assert values.shape == (len(observations), len(card.variables))
    assert np.array_equal(values, describer.variables(observations))
    assert np.array_equal(observations, before)
    assert np.array_equal(values[7:8], describer.variables(observations[7:8]))
    for i, variable in enumerate(card.variables):
        assert variable.low is None or values[:, i].min() >= variable.low, variable.name
        assert variable.high is None or values[:, i].max() <= variable.high, variable.name


def test_every_built_in_is_tested() -> None:
    assert {i.rpartition("-v")[0] for i in BUILT_IN} >= set(built_in_names())


# ------------------------------------------------------------------------------------- signs and meanings


def pose(env_id: str, **joints: float) -> tuple[Any, Describer, np.ndarray]:
    """A MuJoCo robot with some joints turned: its environment, describer and observation."""
    import mujoco

    env = make_env(env_id)
    env.reset(seed=0)
    core: Any = env.unwrapped
    qpos = core.init_qpos.copy()
    for name, value in joints.items():
        qpos[core.model.joint(name).qposadr[0]] = value
    core.set_state(qpos, np.zeros(core.model.nv))
    mujoco.mj_forward(core.model, core.data)
    return core, describer_for(env), core._get_obs()[None]


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Walker2d-v5"])
def test_positive_pitch_leans_forward(env_id: str) -> None:
    core, describer, obs = pose(env_id, rooty=0.1)
    assert column(describer, "pitch", obs)[0] == 0.1
    top = core.data.geom("torso_geom").xmat.reshape(3, 3)[:, 2]  # the capsule's own axis, up at first
    assert top[0] * np.sign(top[2]) > 0


def test_positive_pitch_of_the_cheetah_is_nose_down() -> None:
    level, _, _ = pose("HalfCheetah-v5")
    core, describer, obs = pose("HalfCheetah-v5", rooty=0.3)
    assert column(describer, "pitch", obs)[0] == 0.3
    assert core.data.geom("head").xpos[2] < level.data.geom("head").xpos[2] - 0.1
    _, _, on_back = pose("HalfCheetah-v5", rooty=np.pi)
    assert column(describer, "upright", on_back)[0] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("joint", "geom", "axis", "sign"),
    [
        ("thigh_joint", "thigh_geom", 0, -1),  # negative = thigh swung back
        ("leg_joint", "leg_geom", 0, -1),  # negative = foot to the back
    ],
)
def test_negative_leg_angles_go_back(joint: str, geom: str, axis: int, sign: int) -> None:
    straight, _, _ = pose("Hopper-v5")
    bent, _, _ = pose("Hopper-v5", **{joint: -0.3})
    moved = bent.data.geom(geom).xpos - straight.data.geom(geom).xpos
    assert np.sign(moved[axis]) == sign


@pytest.mark.parametrize("joint", ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"])
def test_positive_angles_of_the_cheetah_go_back(joint: str) -> None:
    straight, _, _ = pose("HalfCheetah-v5")
    bent, _, _ = pose("HalfCheetah-v5", **{joint: 0.1})
    assert bent.data.geom(joint).xpos[0] < straight.data.geom(joint).xpos[0]


@pytest.mark.parametrize(
    ("env_id", "geoms"),
    [
        ("Hopper-v5", {"foot_height": "foot_geom"}),
        ("Walker2d-v5", {"foot_height_right": "foot_geom", "foot_height_left": "foot_left_geom"}),
        ("HalfCheetah-v5", {"bfoot_height": "bfoot", "ffoot_height": "ffoot"}),
    ],
)
def test_foot_heights_are_those_of_the_simulator(env_id: str, geoms: dict[str, str]) -> None:
    import mujoco

    env = make_env(env_id)
    describer = describer_for(env)
    env.reset(seed=1)
    env.action_space.seed(1)
    core: Any = env.unwrapped
    touched = []
    for _ in range(100):
        obs, *_ = env.step(env.action_space.sample())
        mujoco.mj_kinematics(core.model, core.data)
        mujoco.mj_collision(core.model, core.data)
        for variable, geom in geoms.items():
            shape = core.model.geom(geom).id
            half = core.data.geom_xmat[shape].reshape(3, 3)[2, 2] * core.model.geom_size[shape, 1]
            lowest = core.data.geom_xpos[shape, 2] - abs(half) - core.model.geom_size[shape, 0]
            height = column(describer, variable, obs[None])[0]
            assert height == pytest.approx(lowest, abs=1e-9)
            pairs = core.data.contact.geom[: core.data.ncon]
            touched.append((height, any({int(a), int(b)} == {0, shape} for a, b in pairs)))
    assert {contact for _, contact in touched} == {True, False}
    # Contacts are made within a margin of 2 mm (Hopper) or none.
    assert all(contact for height, contact in touched if height <= 0)
    assert all(height < 0.002 for height, contact in touched if contact)


@pytest.mark.parametrize("env_id", ["Reacher-v4", "Reacher-v5"])
def test_the_distance_is_what_the_reward_pays(env_id: str) -> None:
    env = make_env(env_id)
    describer = describer_for(env)
    before, _ = env.reset(seed=2)
    after, reward, *_ = env.step(np.zeros(2, dtype=np.float32))
    paid = before if env_id == "Reacher-v4" else after
    assert column(describer, "distance", paid[None])[0] == pytest.approx(-reward)


@pytest.mark.parametrize("name", ["Hopper", "Walker2d", "HalfCheetah"])
def test_sparse_variants_pay_for_speed_only_far_from_the_start(name: str) -> None:
    sparse, dense = make_env(f"Sparse{name}-v5"), make_env(f"{name}-v5")
    assert "paid only beyond x =" in describer_for(sparse).card.reward
    edge = sparse.unwrapped.forward_from_x
    for x, paid in ((edge - 0.5, False), (edge + 0.5, True)):
        rewards = []
        for env in (sparse, dense):
            env.reset(seed=0)
            core: Any = env.unwrapped
            qpos, qvel = core.init_qpos.copy(), core.init_qvel.copy()
            qpos[0], qvel[0] = x, 1.0
            core.set_state(qpos, qvel)
            _, reward, _, _, info = env.step(np.full(env.action_space.shape, 0.1, dtype=np.float32))
            rewards.append(reward)
        assert rewards[1] - rewards[0] == pytest.approx(0 if paid else info["reward_forward"])
        assert info["reward_forward"] > 0.3


def test_orientation_of_the_ant() -> None:
    env = make_env("Ant-v5")
    describer = describer_for(env)
    env.reset(seed=0)
    core: Any = env.unwrapped
    half = 0.15
    for name, axis, lower in (("roll", 1, "y"), ("pitch", 2, "x"), ("yaw", 3, None)):
        qpos = core.init_qpos.copy()
        qpos[3:7] = 0
        qpos[3], qpos[3 + axis] = np.cos(half), np.sin(half)
        core.set_state(qpos, core.init_qvel)
        obs = core._get_obs()[None]
        assert column(describer, name, obs)[0] == pytest.approx(2 * half)
        turn = core.data.body("torso").xmat.reshape(3, 3)
        if lower == "y":
            assert (turn @ [0, -1, 0])[2] < 0  # the right side
        elif lower == "x":
            assert (turn @ [1, 0, 0])[2] < 0  # the front
        else:
            assert (turn @ [1, 0, 0])[1] > 0  # forward points left
        assert column(describer, "upright", obs)[0] == pytest.approx(turn[2, 2])


def test_engines_of_the_lander_do_what_their_names_say() -> None:
    describer = describer_for("LunarLander-v3")
    names = describer.card.action.names
    for name, sign in (("left", 1), ("right", -1)):
        env = make_env("LunarLander-v3")
        env.reset(seed=0)
        core: Any = env.unwrapped
        for body in (core.lander, *core.legs):
            body.linearVelocity, body.angularVelocity = (0, 0), 0
        for _ in range(10):
            obs, *_ = env.step(names.index(name))
        assert np.sign(column(describer, "angle", obs[None])[0]) == sign
        assert np.sign(column(describer, "vx", obs[None])[0]) == -sign


def test_the_right_leg_of_the_lander_is_the_one_to_the_right() -> None:
    env = make_env("LunarLander-v3")
    describer = describer_for(env)
    env.reset(seed=0)
    core: Any = env.unwrapped
    right = max(core.legs, key=lambda leg: leg.position.x)
    right.ground_contact = True
    core.legs[1 - core.legs.index(right)].ground_contact = False
    obs, *_ = env.step(0)
    assert column(describer, "leg_right", obs[None])[0] == 1
    assert column(describer, "leg_left", obs[None])[0] == 0


def test_energy_tells_whether_the_car_gets_to_the_flag_by_coasting() -> None:
    env = make_env("MountainCar-v0")
    describer = describer_for(env)
    core: Any = env.unwrapped
    for velocity in (0.03, 0.045, 0.055, 0.065):
        env.reset(seed=0)
        core.state = (-0.5, velocity)
        energy = column(describer, "energy", np.array([core.state]))[0]
        arrived = any(env.step(1)[2] for _ in range(60))
        assert arrived == (energy > np.sin(1.5)), (velocity, energy)


def test_pushing_right_moves_cart_and_pole_as_the_card_says() -> None:
    env = make_env("CartPole-v1")
    describer = describer_for(env)
    env.reset(seed=0)
    env.unwrapped.state = np.zeros(4)
    obs, *_ = env.step(describer.card.action.names.index("right"))
    assert column(describer, "vx", obs[None])[0] > 0
    assert column(describer, "w_angle", obs[None])[0] < 0


def test_torque_lifts_the_pendulum_towards_growing_angles() -> None:
    env = make_env("Pendulum-v1")
    describer = describer_for(env)
    env.reset(seed=0)
    env.unwrapped.state = np.array([np.pi / 2, 0.0])
    obs, *_ = env.step(np.array([2.0], dtype=np.float32))
    free = column(describer, "w", obs[None])[0]
    env.unwrapped.state = np.array([np.pi / 2, 0.0])
    obs, *_ = env.step(np.array([-2.0], dtype=np.float32))
    assert free > column(describer, "w", obs[None])[0] > 0  # beyond upright it falls to growing angles


def test_tip_height_decides_the_end_of_acrobot() -> None:
    env = make_env("Acrobot-v1")
    describer = describer_for(env)
    env.reset(seed=0)
    for angle, done in ((2.0, False), (2.6, True)):
        env.unwrapped.state = np.array([angle, 0.0, 0.0, 0.0])
        obs, _, terminated, *_ = env.step(1)
        assert terminated == done == (column(describer, "tip_height", obs[None])[0] > 1)


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1"])
def test_moves_on_a_grid_go_where_they_say(env_id: str) -> None:
    env = make_env(env_id, {"is_slippery": False})
    describer = describer_for(env)
    card = describer.card
    table: Any = env.unwrapped.P
    for state, moves in table.items():
        values = dict(zip(card.variable_names, describer.variables(np.array([state]))[0], strict=True))
        if env_id == "CliffWalking-v1" and env.unwrapped._cliff.ravel()[state]:
            continue  # nobody is ever there
        for action, [(_, after, reward, done)] in moves.items():
            name = card.action.names[action]
            there = dict(zip(card.variable_names, describer.variables(np.array([after]))[0], strict=True))
            if reward == -100:
                assert values[f"cliff_{name}"] == 1
            elif done and reward == 0 and after != state:
                assert values[f"hole_{name}"] == 1
            elif after != state:
                assert (there["row"] - values["row"], there["col"] - values["col"]) == {
                    "left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)
                }[name]  # fmt: skip
            if done and after != state and reward != 0 and there["distance"] != 0:
                pytest.fail("the goal is at distance 0")


def test_the_next_stop_of_the_taxi_is_where_it_may_pick_up_or_drop_off() -> None:
    env = make_env("Taxi-v4")
    describer = describer_for(env)
    names = describer.card.action.names
    table: Any = env.unwrapped.P
    for state, moves in table.items():
        value = dict(zip(describer.card.variable_names, describer.variables(np.array([state]))[0], strict=True))
        there = value["rows_to_go"] == value["cols_to_go"] == 0
        paid = {names[action]: outcome[2] for action, [outcome] in moves.items()}
        if not value["aboard"]:
            assert (paid["pick_up"] == -1) == there
        assert (paid["drop_off"] == 20) == (there and value["aboard"] == 1)
        after = describer.variables(np.array([moves[names.index("south")][0][1]]))[0]
        assert after[describer.card.variable_names.index("row")] == min(value["row"] + 1, 4)


# ------------------------------------------------------------------------------------- choosing and making


def test_keyword_arguments_reach_the_card() -> None:
    assert "z stays above 0.5 m" in describer_for("Hopper-v5", healthy_z_range=(0.5, float("inf"))).card.termination
    assert describer_for("Hopper-v5", exclude_current_positions_from_observation=False).card.variable_names[0] == "x"
    assert "FFFHFFFG" in describer_for("FrozenLake-v1", map_name="8x8").card.notes
    assert describer_for("LunarLander-v3", continuous=True).card.action.names == ("main", "side")


def test_foot_height_with_the_position_in_the_observation() -> None:
    describer = describer_for("Hopper-v5", exclude_current_positions_from_observation=False)
    without = describer_for("Hopper-v5")
    obs = play(make_env("Hopper-v5"), 10)
    shifted = np.column_stack([np.full(len(obs), 3.0), obs])
    assert np.array_equal(column(describer, "foot_height", shifted), column(without, "foot_height", obs))


def test_a_wrapper_that_nobody_can_look_through_gets_generic_variables_and_says_so() -> None:
    doubled = gym.wrappers.TransformObservation(
        make_env("CartPole-v1"), lambda obs: 2 * obs, gym.spaces.Box(-10, 10, (4,), np.float32)
    )
    card = describer_for(doubled).card
    assert card.variable_names == ("obs_0", "obs_1", "obs_2", "obs_3")
    assert "pole" in card.goal  # still true
    assert "TransformObservation (changes observations)" in card.notes


def test_a_time_limit_of_ones_own_is_in_the_card() -> None:
    assert describer_for(gym.make("Pendulum-v1", max_episode_steps=50)).card.max_episode_steps == 50


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Hoper-v5", "Did you mean Hopper-v5"),
        ("hopper-v5", "Did you mean Hopper-v5"),
        ("Hopper-v9", "Did you mean Hopper-v5"),
        ("Taxi-v3", "Taxi-v4"),
        ("no_such_module:Thing-v0", "cannot import no_such_module"),
        ("MyOwnThing-v0", "--import"),
        ("ALE/Nothing-v5", "ale-py"),
        ("Hopper", None),
    ],
)
def test_an_unknown_environment_says_what_to_do(env_id: str, message: str | None) -> None:
    if message is None:  # Gymnasium takes the newest version
        make_env(env_id).close()
        return
    with pytest.raises(TaskError, match=message):
        make_env(env_id)


def test_wrong_arguments_and_modules_are_named() -> None:
    with pytest.raises(TaskError, match="frobnicate=1"):
        make_env("Hopper-v5", {"frobnicate": 1})
    with pytest.raises(TaskError, match="cannot import no_such_module"):
        make_env("CartPole-v1", import_module="no_such_module")


def test_a_missing_simulator_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise gym.error.DependencyNotInstalled('MuJoCo is not installed, run `pip install "gymnasium[mujoco]"`')

    monkeypatch.setattr(gym, "make", fail)
    with pytest.raises(TaskError, match=r'pip install "unstuck\[mujoco\]"'):
        make_env("Hopper-v5")


def test_states_in_words() -> None:
    describer = describer_for("MountainCar-v0")
    assert describe_state(describer, np.array([-0.5, 0.01])) == (
        "position=-0.5, velocity=0.01, height=-0.997, energy=-0.937"
    )
    batch = np.array([[-0.5, 0.01], [0.0, 0.0]])
    assert describe_states(describer, batch, ["height", "position"]) == [
        "height=-0.997, position=-0.5", "height=0, position=0",
    ]  # fmt: skip
    with pytest.raises(TaskError, match="Did you mean velocity"):
        describe_states(describer, batch, ["velocty"])


# --------------------------------------------------------------------- signs and feet of the larger robots


def moved(env_id: str, joint: str, geom: str, by: float = 0.3) -> np.ndarray:
    """How a geom moves in the torso's frame (x forward, y left, z up) when one joint of a robot at rest turns."""
    import mujoco

    core = make_env(env_id).unwrapped
    core.reset(seed=0)
    places = []
    for angle in (0.0, by):
        core.data.qpos[:] = core.init_qpos
        core.data.qpos[core.model.joint(joint).qposadr[0]] += angle
        mujoco.mj_forward(core.model, core.data)
        places.append(core.data.geom(geom).xpos.copy())
    return places[1] - places[0]


@pytest.mark.parametrize("side", ["right", "left"])
def test_joints_of_the_humanoid_move_as_the_card_says(side: str) -> None:
    card = describer_for("Humanoid-v5").card
    texts = dict(zip(card.variable_names, (v.description for v in card.variables), strict=True))
    inwards = 1 if side == "right" else -1
    foot = f"{side}_foot"
    assert "negative = leg swung forward" in texts[f"{side}_hip_y"]
    assert moved("Humanoid-v5", f"{side}_hip_y", foot, -0.3)[0] > 0.1
    assert "positive = inwards" in texts[f"{side}_hip_x"]
    assert inwards * moved("Humanoid-v5", f"{side}_hip_x", foot)[1] > 0.1
    assert "negative = bent" in texts[f"{side}_knee"]
    assert moved("Humanoid-v5", f"{side}_knee", foot, -0.3)[0] < -0.05  # the heel goes back
    assert side in texts[f"{side}_knee"]
    # Seen from the torso the legs go back where the torso bends backward, and left where it bends to the left.
    assert "positive = backward" in texts["abdomen_y"]
    assert moved("Humanoid-v5", "abdomen_y", foot)[0] < -0.1
    assert "positive = torso bent to the left" in texts["abdomen_x"]
    assert moved("Humanoid-v5", "abdomen_x", foot)[1] > 0.1


@pytest.mark.parametrize("env_id", ["Humanoid-v5", "HumanoidStandup-v5"])
def test_feet_of_the_humanoid_are_those_of_the_simulator(env_id: str) -> None:
    env = make_env(env_id)
    describer, data, model = describer_for(env), env.unwrapped.data, env.unwrapped.model
    env.action_space.seed(3)
    for seed in range(3):
        env.reset(seed=seed)
        for _ in range(25):
            obs, _, terminated, *_ = env.step(env.action_space.sample())
            for side in ("right", "left"):
                body = model.body(f"{side}_foot").id
                height = column(describer, f"{side}_foot_height", obs[None])[0]
                assert height == pytest.approx(data.xipos[body][2], abs=0.06)  # a substep behind
                touches = np.abs(data.cfrc_ext[body]).max() > 1e-6
                assert column(describer, f"{side}_contact", obs[None])[0] == touches
            if terminated:
                break


def test_feet_of_the_ant_touch_the_ground_when_the_simulator_says_so() -> None:
    env = make_env("Ant-v5")
    describer, data, model = describer_for(env), env.unwrapped.data, env.unwrapped.model
    env.action_space.seed(0)
    env.reset(seed=0)
    seen = set()
    for _ in range(150):
        obs, *_ = env.step(0.3 * env.action_space.sample())
        bodies = {b for c in data.contact[: data.ncon] for g in c.geom if (b := int(model.geom_bodyid[g]))}
        for leg in range(1, 5):
            flag = column(describer, f"contact_{leg}", obs[None])[0]
            seen.add(flag)
            body = int(model.jnt_bodyid[model.joint(f"ankle_{leg}").id])
            if flag:
                assert body in bodies or np.abs(data.cfrc_ext[body]).max() > 0
    assert seen == {0.0, 1.0}
    assert "contact_1" not in describer_for("Ant-v4").card.variable_names  # not in what it observes


def test_the_upper_pole_leans_by_both_angles() -> None:
    describer = describer_for("InvertedDoublePendulum-v5")
    obs = play(make_env("InvertedDoublePendulum-v5"), 20)
    angles = [column(describer, name, obs) for name in ("angle1", "angle2", "upper_lean")]
    assert np.allclose(angles[0] + angles[1], angles[2])


@pytest.mark.parametrize(("joint", "geom_of", "axis", "sign"), [("r_shoulder_pan_joint", "tips_arm", 1, 1),
    ("r_shoulder_lift_joint", "tips_arm", 2, -1)])  # fmt: skip
def test_the_arm_of_the_pusher_moves_as_the_card_says(joint: str, geom_of: str, axis: int, sign: int) -> None:
    import mujoco

    core = make_env("Pusher-v5").unwrapped
    core.reset(seed=0)
    before = core.data.body(geom_of).xpos.copy()
    core.data.qpos[core.model.joint(joint).qposadr[0]] += 0.3
    mujoco.mj_forward(core.model, core.data)
    assert sign * (core.data.body(geom_of).xpos - before)[axis] > 0.1


def test_the_links_of_the_swimmer_turn_as_the_card_says() -> None:
    import mujoco

    core = make_env("Swimmer-v5").unwrapped
    for joint, body, rest in (("motor1_rot", "mid", "torso"), ("motor2_rot", "back", "mid")):
        core.reset(seed=0)
        core.data.qpos[:] = 0
        core.data.qpos[core.model.joint(joint).qposadr[0]] = 0.3
        mujoco.mj_forward(core.model, core.data)
        turned = [np.arctan2(core.data.body(b).xmat[3], core.data.body(b).xmat[0]) for b in (body, rest)]
        assert turned[0] - turned[1] > 0.2  # counter-clockwise seen from above


@pytest.mark.parametrize(("action", "joint", "foot"), [(0, "hip1", 1), (2, "hip2", 3)])
def test_hips_of_the_walker_swing_the_legs_as_the_card_says(action: int, joint: str, foot: int) -> None:
    env = make_env("BipedalWalker-v3")
    describer, ends = describer_for(env), []
    for push in (1.0, -1.0):
        env.reset(seed=0)
        for _ in range(4):
            obs, *_ = env.step(np.eye(4, dtype=np.float32)[action] * push)
        core = env.unwrapped
        ends.append((core.legs[foot].position[0] - core.hull.position[0], column(describer, joint, obs[None])[0]))
    assert ends[0][0] > ends[1][0] + 0.1  # further forward
    assert ends[0][1] > ends[1][1]
