"""check-env: it passes on every built-in task, and finds what is wrong with others."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from unstuck.checks import EnvCheck, check_env
from unstuck.cli import main
from unstuck.tasks import describer_for, make_env
from unstuck.tasks.generic import generic

pytestmark = pytest.mark.filterwarnings("ignore")

BUILT_IN = [
    "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1", "FrozenLake-v1",
    "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4",
]  # fmt: skip
NEEDS = {
    "Box2D": ["LunarLander-v3", "LunarLanderContinuous-v3", "BipedalWalker-v3", "BipedalWalkerHardcore-v3"],
    "mujoco": [
        *(f"{n}-{v}" for n in ("Hopper", "HalfCheetah", "Reacher", "Ant") for v in ("v4", "v5")),
        "Walker2d-v5", "Humanoid-v5", "HumanoidStandup-v5", "Swimmer-v5", "Pusher-v5", "InvertedPendulum-v5",
        "InvertedDoublePendulum-v5", "SparseHopper-v5", "SparseWalker2d-v5", "SparseHalfCheetah-v5",
    ],
    "ale_py": ["UnstuckPong-v0", "PongNoFrameskip-v4"],
    "minigrid": ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-UnlockPickup-v0", "MiniGrid-KeyCorridorS3R2-v0",
                 "MiniGrid-FourRooms-v0", "BabyAI-GoToLocal-v0"],
}  # fmt: skip
for package, ids in NEEDS.items():
    if importlib.util.find_spec(package):
        BUILT_IN += ids


def short_check(make: Any, describer: Any = None, **options: Any) -> EnvCheck:
    env = make()
    found = describer or describer_for(env)
    env.close()
    return check_env(make, found, **{"seeds": (0,), "steps": 40, "states": 150, **options})


@pytest.mark.parametrize("env_id", BUILT_IN)
def test_every_built_in_task_is_ok(env_id: str) -> None:
    report = short_check(partial(make_env, env_id))
    assert report.ok, report.words()
    assert report.describer != "FlatDescriber"
    assert report.compared > 40
    assert not any("does not say" in remark or "tokens" in remark for remark in report.remarks)


class Broken(gym.Env):
    """Draws from random numbers that no seed governs."""

    observation_space, action_space = spaces.Box(0, 1, (2,), np.float64), spaces.Discrete(2)
    spec = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.random.rand(2), {}

    def step(self, action: int) -> Any:
        return np.random.rand(2), 0.0, False, False, {}


def test_an_environment_that_no_seed_governs_is_not_ok() -> None:
    report = short_check(Broken)
    assert not report.ok
    assert not report.exact
    assert "two different runs" in report.words()


def wrong_card(**changes: Any) -> EnvCheck:
    good = describer_for("CartPole-v1")
    return short_check(partial(make_env, "CartPole-v1"), replace(good, card=good.card.model_copy(update=changes)))


def test_a_range_that_is_exceeded_is_a_problem() -> None:
    card = describer_for("CartPole-v1").card
    narrow = (card.variables[0], card.variables[1].model_copy(update={"high": 0.1}), *card.variables[2:])
    report = wrong_card(variables=narrow)
    assert not report.ok
    assert report.exact
    assert len(report.problems) == 1
    assert report.problems[0].startswith("vx was between")
    assert report.problems[0].endswith("0.1]")


def test_actions_and_time_limits_that_are_not_the_environments() -> None:
    action = describer_for("MountainCar-v0").card.action
    assert "are not those of Discrete(2)" in wrong_card(action=action).words()
    assert "the card says that an episode ends after 5 steps" in wrong_card(max_episode_steps=5).words()


class Impure:
    """Remembers, changes what it is given, and makes numbers up."""

    def __init__(self, kind: str) -> None:
        self.inner, self.kind, self.calls = describer_for("CartPole-v1"), kind, 0

    @property
    def card(self) -> Any:
        return self.inner.card

    def variables(self, obs: Any) -> np.ndarray:
        self.calls += 1
        values = self.inner.variables(obs)
        if self.kind == "remembers":
            values[:, 0] = self.calls / 100
        elif self.kind == "batch":
            values[:, 3] -= values[:, 3].mean()
        elif self.kind == "nan":
            values[0, 2] = np.nan
        elif self.kind == "shape":
            values = values[:, :2]
        else:
            obs[...] = 0
        return values


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("remembers", "the same observation different values"),
        ("batch", "other values alone than in a batch"),
        ("nan", "angle is not always a finite number"),
        ("changes", "changes the observations"),
        ("shape", "not float64 (150, 4)"),
    ],
)
def test_a_describer_that_is_no_pure_function(kind: str, complaint: str) -> None:
    report = short_check(partial(make_env, "CartPole-v1"), Impure(kind))
    assert any(complaint in problem for problem in report.problems), report.words()


def test_a_generic_card_is_ok_but_says_what_it_leaves_open() -> None:
    make = partial(make_env, "CartPole-v1")
    report = short_check(make, generic(make()))
    assert report.ok
    assert any("does not say: goal, reward, termination" in remark for remark in report.remarks)


def test_the_time_limit_is_compared_even_where_play_ends_before_it() -> None:
    assert short_check(partial(make_env, "MountainCar-v0"), steps=None).limit == "reached"
    report = short_check(partial(make_env, "CartPole-v1"))
    assert report.limit == "shortened"
    assert report.snapshots[-1].episode_steps == 10


def test_the_command_exits_with_1_where_something_is_wrong(capsys: Any) -> None:
    main(["check-env", "Taxi-v4", "--seeds", "1", "--steps", "30", "--states", "100"])
    assert "Taxi-v4: ok" in capsys.readouterr().out


def test_an_agent_plays_too(tmp_path: Any, capsys: Any) -> None:
    from unstuck.testing import CORRIDOR, save_stuck_agent

    zipped = save_stuck_agent(tmp_path / "agent.zip", CORRIDOR)
    main(["check-env", CORRIDOR, "--seeds", "1", "--states", "100", "--agent", str(zipped)])
    assert "100 of the agent's" in capsys.readouterr().out
