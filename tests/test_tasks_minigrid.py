"""MiniGrid: what the variables say of the view must be true of the grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

minigrid = pytest.importorskip("minigrid")

from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX  # noqa: E402

from unstuck.errors import TaskError  # noqa: E402
from unstuck.tasks import describer_for, make_env  # noqa: E402
from unstuck.tasks.minigrid import COLOURS, DOOR_STATES, KINDS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)


def test_the_encoding_is_minigrids() -> None:
    assert {name: i for i, name in enumerate(KINDS)} == OBJECT_TO_IDX
    assert {name: i for i, name in enumerate(COLOURS)} == COLOR_TO_IDX
    assert {name: i for i, name in enumerate(DOOR_STATES)} == STATE_TO_IDX


def read(env: Any, obs: Any) -> dict[str, float]:
    describer = describer_for(env)
    return dict(zip(describer.card.variable_names, describer.variables(obs[None])[0], strict=True))


def doorkey(observation: str) -> tuple[Any, list[dict[str, float]]]:
    """DoorKey with its objects moved to known places, solved: all that happens on the way.

    Agent at (1, 1) facing right; key at (2, 1); locked door in the wall at (3, 1); goal at (5, 1); the rest free.
    """
    from minigrid.core.world_object import Door, Goal, Key

    env = make_env("MiniGrid-DoorKey-8x8-v0", {"observation": observation})
    env.reset(seed=0)
    core: Any = env.unwrapped
    for x in range(1, 7):
        for y in range(1, 7):
            core.grid.set(x, y, None)
    core.grid.vert_wall(3, 1, 6)
    core.grid.set(2, 1, Key("yellow"))
    core.grid.set(3, 1, Door("yellow", is_locked=True))
    core.grid.set(5, 1, Goal())
    core.agent_pos, core.agent_dir, core.carrying = (1, 1), 0, None
    seen = []
    for action in (RIGHT, LEFT, PICKUP, FORWARD, TOGGLE, FORWARD, FORWARD):
        obs, *_ = env.step(action)
        seen.append(read(env, obs))
    obs, reward, terminated, *_ = env.step(FORWARD)
    assert terminated
    assert reward > 0.9
    return env, seen


@pytest.mark.parametrize("observation", ["flat", "onehot", "image", "full"])
def test_doorkey_reads_as_it_is_solved(observation: str) -> None:
    _, (turned, start, picked, at_door, opened, in_door, through) = doorkey(observation)
    # Facing down, the key lies one cell to the left; positive is right.
    assert (turned["key_visible"], turned["key_ahead"], turned["key_right"]) == (1, 0, -1)
    assert (turned["blocked_left"], turned["blocked_right"], turned["blocked_front"]) == (1, 1, 0)
    assert (start["front_is_key"], start["key_ahead"], start["key_right"]) == (1, 1, 0)
    assert (start["blocked_left"], start["blocked_right"], start["blocked_front"]) == (1, 0, 1)
    assert start["locked_door_visible"] == 1
    assert (start["locked_door_ahead"], start["locked_door_right"]) == (2, 0)
    assert (picked["key_visible"], picked["front_is_key"], picked["blocked_front"]) == (0, 0, 0)
    assert (at_door["front_is_locked_door"], at_door["blocked_front"]) == (1, 1)
    assert (opened["front_is_open_door"], opened["locked_door_visible"], opened["blocked_front"]) == (1, 0, 0)
    assert (opened["goal_visible"], opened["goal_ahead"], opened["goal_right"]) == (1, 3, 0)
    assert (in_door["blocked_left"], in_door["blocked_right"]) == (1, 1)
    assert (through["front_is_goal"], through["goal_ahead"]) == (1, 1)
    if observation == "full":
        assert (through["agent_col"], through["agent_row"], through["agent_direction"]) == (4, 1, 0)
        assert start["goal_ahead"] == 4  # through the wall
    else:
        assert [s["carrying_key"] for s in (start, picked, opened)] == [0, 1, 1]
        assert start["goal_visible"] == 0  # behind the locked door


IDS = [
    "MiniGrid-Empty-8x8-v0", "MiniGrid-DoorKey-8x8-v0", "MiniGrid-UnlockPickup-v0", "MiniGrid-KeyCorridorS3R2-v0",
    "MiniGrid-FourRooms-v0", "MiniGrid-MultiRoom-N4-S5-v1", "MiniGrid-LavaCrossingS9N2-v0", "MiniGrid-Unlock-v0",
    "MiniGrid-ObstructedMaze-1Dlhb-v0", "MiniGrid-BlockedUnlockPickup-v0", "BabyAI-GoToLocal-v0",
]  # fmt: skip


@pytest.mark.parametrize("env_id", IDS)
def test_what_is_near_in_view_is_there_in_the_grid(env_id: str) -> None:
    """Against the simulator's own grid and directions, in random play."""
    env = make_env(env_id, {"observation": "onehot"})
    describer = describer_for(env)
    names = describer.card.variable_names
    env.action_space.seed(1)
    env.reset(seed=1)
    core: Any = env.unwrapped
    checked = 0
    for _ in range(150):
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        row = dict(zip(names, describer.variables(obs[None])[0], strict=True))
        for place, step in (("front", core.dir_vec), ("right", core.right_vec), ("left", -core.right_vec)):
            cell = core.grid.get(*(np.array(core.agent_pos) + step))
            assert row[f"blocked_{place}"] == (cell is not None and not cell.can_overlap()), place
        for name in describer.objects:
            if not row[f"{name}_visible"]:
                continue
            there = (
                np.array(core.agent_pos)
                + int(row[f"{name}_ahead"]) * core.dir_vec
                + int(row[f"{name}_right"]) * core.right_vec
            )
            cell = core.grid.get(*there)
            assert cell.type == name.rpartition("_")[2]
            if name.endswith("door"):
                assert (cell.is_locked, cell.is_open) == (name == "locked_door", name == "open_door")
            if f"{name}_color" in names:
                assert COLOURS[int(row[f"{name}_color"])] == cell.color
            checked += 1
        for name in ("key", "ball", "box"):
            if f"carrying_{name}" in names:
                assert row[f"carrying_{name}"] == (core.carrying is not None and core.carrying.type == name)
        if terminated or truncated:
            env.reset()
    assert checked > 0 or not describer.objects


def test_all_observations_read_the_same() -> None:
    texts = []
    for observation in ("flat", "onehot", "image"):
        env = make_env("MiniGrid-KeyCorridorS3R2-v0", {"observation": observation})
        describer = describer_for(env)
        obs, _ = env.reset(seed=3)
        rows = [describer.variables(obs[None])[0]]
        for action in (LEFT, FORWARD, RIGHT, RIGHT, FORWARD):
            rows.append(describer.variables(env.step(action)[0][None])[0])
        texts.append(np.array(rows))
    assert np.array_equal(texts[0], texts[1])
    assert np.array_equal(texts[0], texts[2])


def test_cards() -> None:
    card = describer_for("MiniGrid-LavaCrossingS9N2-v0").card
    assert card.max_episode_steps == 324
    assert "lava" in card.termination
    assert card.action.names[:3] == ("left", "right", "forward")
    assert "324" in card.reward
    assert "key_visible" not in card.variable_names
    obstacles = describer_for("MiniGrid-Dynamic-Obstacles-6x6-v0").card
    assert "-1" in obstacles.reward
    assert obstacles.action.names == ("left", "right", "forward")


def test_sb3_takes_what_make_env_gives() -> None:
    from stable_baselines3.common.env_checker import check_env

    for observation in ("flat", "onehot", "image", "full"):
        check_env(make_env("MiniGrid-DoorKey-5x5-v0", {"observation": observation}), warn=False)


def test_an_unknown_observation_is_refused() -> None:
    with pytest.raises(TaskError, match="Did you mean image"):
        make_env("MiniGrid-DoorKey-5x5-v0", {"observation": "imagee"})
