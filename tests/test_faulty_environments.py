"""Environments that misbehave: what is said names the environment, the seed, the episode and the step."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO

from unstuck.cli import main
from unstuck.errors import EnvironmentFaultError
from unstuck.rollout import run_episodes
from unstuck.tasks import make_env
from unstuck.tasks.guarded import LIMIT_VARIABLE, Place, check_batch, guarded
from unstuck.vecenvs.lean import LeanVecEnv

NAN, INF = float("nan"), float("inf")
BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def gone() -> Any:
    raise RuntimeError("the simulator is gone")


FAULTS: dict[str, tuple[str, Any, str]] = {
    # name: (where, what it does or gives, what is said)
    "step raises": ("step", lambda: gone(), "RuntimeError: the simulator is gone"),
    "step raises KeyError": ("step", lambda: {}["missing"], "KeyError"),
    "step divides by zero": ("step", lambda: 1 // 0, "ZeroDivisionError"),
    "step asserts": ("step", lambda: exec("assert False, 'no'"), "AssertionError: no"),
    "step out of memory": ("step", lambda: (_ for _ in ()).throw(MemoryError("no more")), "MemoryError"),
    "step exits": ("step", lambda: sys.exit(3), "SystemExit: 3"),
    "step recurses": ("step", lambda: deeper(), "RecursionError"),
    "step stops an iteration": ("step", lambda: next(iter(())), "StopIteration"),
    "step misses a file": ("step", lambda: Path("/nowhere/x").read_text(), "FileNotFoundError"),
    "step of the old form": ("step", lambda: (np.zeros(3, np.float32), 0.0, False, {}), "4 values"),
    "step gives None": ("step", lambda: None, "None"),
    "step gives a list": ("step", lambda: [np.zeros(3), 0.0, False, False, {}], "list"),
    "step gives six": ("step", lambda: (np.zeros(3), 0.0, False, False, {}, 1), "6 values"),
    "reward NaN": ("reward", NAN, "reward is nan"),
    "reward inf": ("reward", INF, "reward is inf"),
    "reward -inf": ("reward", -INF, "reward is -inf"),
    "reward numpy NaN": ("reward", np.float32("nan"), "reward is nan"),
    "reward None": ("reward", None, "reward must be a number, not None"),
    "reward an array": ("reward", np.zeros(2), r"not an array of shape \(2,\)"),
    "reward an array of one": ("reward", np.zeros(1), r"not an array of shape \(1,\)"),
    "reward text": ("reward", "1.0", "not a str"),
    "reward a list": ("reward", [1.0], "not a list"),
    "reward a dict": ("reward", {}, "not a dict"),
    "reward complex": ("reward", 1j, "not a complex"),
    "observation NaN": ("observation", np.array([0, NAN, 0], np.float32), "holds NaN"),
    "observation inf": ("observation", np.array([0, INF, 0], np.float32), "holds infinity"),
    "observation None": ("observation", None, "shape"),
    "observation of another shape": ("observation", np.zeros(4, np.float32), r"shape \(4,\), its space says \(3,\)"),
    "observation of more axes": ("observation", np.zeros((1, 3), np.float32), r"shape \(1, 3\)"),
    "observation a number": ("observation", 3.0, r"shape \(\)"),
    "observation text": ("observation", np.array(["a", "b", "c"]), "not of numbers"),
    "observation objects": ("observation", np.array([object()] * 3), "not of numbers"),
    "observation ragged": ("observation", [[1], [1, 2], 3], "no array"),
    "observation a dict": ("observation", {"x": 1}, "shape"),
    "terminated None": ("terminated", None, "true or false, not None"),
    "terminated a number": ("terminated", 0.5, "true or false"),
    "terminated an array": ("terminated", np.zeros(1, bool), "true or false"),
    "truncated text": ("truncated", "no", "true or false"),
    "info None": ("info", None, "info must be a dictionary"),
    "info a list": ("info", [], "info must be a dictionary"),
}
RESETS: dict[str, tuple[Any, str]] = {
    "raises": (lambda: gone(), "the simulator is gone"),
    "exits": (lambda: sys.exit("bye"), "SystemExit: bye"),
    "of the old form": (lambda: np.zeros(3, np.float32), r"\(observation, info\), not an array of shape \(3,\)"),
    "gives None": (lambda: None, "not None"),
    "gives three": (lambda: (np.zeros(3), {}, 1), "not 3 values"),
    "info None": (lambda: (np.zeros(3, np.float32), None), "not 2 values"),
    "NaN": (lambda: (np.array([NAN, 0, 0], np.float32), {}), "holds NaN"),
    "another shape": (lambda: (np.zeros(5, np.float32), {}), r"shape \(5,\)"),
    "out of memory": (lambda: (_ for _ in ()).throw(MemoryError()), "MemoryError"),
}
INITS: dict[str, tuple[Any, str]] = {
    "raises": (lambda: gone(), "the simulator is gone"),
    "exits": (lambda: sys.exit(1), "SystemExit"),
    "out of memory": (lambda: (_ for _ in ()).throw(MemoryError("no more")), "MemoryError"),
    "index": (lambda: [][0], "IndexError"),
    "imports": (lambda: __import__("no_such_module_at_all"), "no_such_module_at_all"),
    "attribute": (lambda: None.x, "AttributeError"),  # type: ignore[attr-defined]
}


def deeper() -> Any:
    return deeper()


class Faulty(gym.Env):
    """In order until its fourth step, or until its second reset."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = BOX
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "", reset: str = "", init: str = "", at: int = 4, which: int = 1, length: int = 6):
        if init:
            INITS[init][0]()
        self.fault, self.broken, self.at, self.which, self.length = fault, reset, at, which, length
        self.t, self.resets = 0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.resets = 0, self.resets + 1
        if self.broken and self.resets > self.which:
            return RESETS[self.broken][0]()
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        result = {
            "observation": np.full(3, self.t, np.float32), "reward": 1.0, "terminated": self.t >= self.length,
            "truncated": False, "info": {},
        }  # fmt: skip
        if self.fault and self.t == self.at:
            where, what, _ = FAULTS[self.fault]
            if where == "step":
                return what()
            result[where] = what
        return tuple(result.values())


gym.register("Faulty-v0", "test_faulty_environments:Faulty", disable_env_checker=True)
gym.register("Faulty-v1", Faulty, disable_env_checker=True)


class Still:
    def act(self, observations: Any, deterministic: bool = True, rngs: Any = None) -> np.ndarray:
        return np.zeros(len(observations), dtype=np.int64)


def played(**kwargs: Any) -> list[Any]:
    envs = [gym.make("Faulty-v1", **kwargs) for _ in range(2)]
    return list(run_episodes(envs, Still(), range(7, 12), deterministic=True))  # type: ignore[arg-type]


def test_one_in_order_is_let_be() -> None:
    assert [t.total_reward for t in played()] == [6.0] * 5


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_while_collecting(name: str) -> None:
    with pytest.raises(EnvironmentFaultError, match=FAULTS[name][2]) as told:
        played(fault=name)
    assert "Faulty-v1 (seed 7, episode 0, step 4)" in str(told.value)
    assert ("Traceback" in told.value.trace) == (
        FAULTS[name][0] == "step" and "form" not in name and "gives" not in name
    )


@pytest.mark.parametrize("name", RESETS)
def test_a_second_reset_that_fails(name: str) -> None:
    with pytest.raises(EnvironmentFaultError, match=RESETS[name][1]) as told:
        played(reset=name)
    assert "Faulty-v1 (seed 9, episode 2)" in str(told.value)


@pytest.mark.parametrize("name", INITS)
def test_a_constructor_that_fails(name: str) -> None:
    from unstuck.errors import TaskError

    with pytest.raises(TaskError, match=INITS[name][1]) as told:
        make_env("Faulty-v1", {"init": name})
    assert "Faulty-v1" in str(told.value)


QUIET = (
    "terminated a number", "reward an array of one", "info a list", "step gives a list", "reward a list",
    "terminated None", "truncated text", "terminated an array", "observation a number", "reward text",
    "observation of more axes",
)  # fmt: skip
"""What Stable-Baselines3's environments take as it is, or turn into numbers."""


def several(venv: LeanVecEnv, steps: int) -> None:
    for _ in range(steps):
        venv.step(np.zeros(2, dtype=np.int64))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in FAULTS if n not in QUIET])
def test_a_fault_while_training(name: str) -> None:
    venv = LeanVecEnv(lambda: gym.make("Faulty-v1", fault=name), 2)
    venv.seed(5)
    venv.reset()
    with pytest.raises(EnvironmentFaultError) as told:
        several(venv, 6)
    assert "Faulty-v1 (seed 5, episode 0, step 4)" in str(told.value)


@pytest.mark.parametrize("name", ["raises", "exits", "of the old form", "NaN", "another shape", "gives None"])
def test_a_second_reset_that_fails_while_training(name: str) -> None:
    venv = LeanVecEnv(lambda: gym.make("Faulty-v1", reset=name), 2)
    venv.seed(5)
    venv.reset()
    with pytest.raises(EnvironmentFaultError, match="Faulty-v1"):
        several(venv, 8)


def test_many_environments_at_once() -> None:
    place = Place("X")
    check_batch({"a": np.zeros((2, 3)), "b": np.zeros((2, 3), np.uint8)}, np.zeros(2), lambda: place)
    for bad in (NAN, INF):
        with pytest.raises(EnvironmentFaultError, match="environment X"):
            check_batch(np.array([[0.0, bad]]), np.zeros(1), lambda: place)
        with pytest.raises(EnvironmentFaultError, match="reward"):
            check_batch(np.zeros((1, 2)), np.array([bad]), lambda: place)


@pytest.mark.parametrize("name", ["reward NaN", "step raises", "observation of another shape", "step of the old form"])
def test_check_env_finds_them(name: str, capsys: pytest.CaptureFixture) -> None:
    kwargs = f'{{"fault": "{name}", "at": 30, "length": 60}}'
    with pytest.raises(SystemExit) as stopped:
        main(["check-env", "Faulty-v1", "--env-kwargs", kwargs, "--seeds", "1", "--states", "100", "--steps", "20"])
    said = capsys.readouterr().out
    assert stopped.value.code == 1
    assert "NOT OK" in said
    assert "step 30" in said


def test_a_run_keeps_the_environments_own_traceback(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    agent = tmp_path / "a.zip"
    PPO("MlpPolicy", gym.make("Faulty-v1"), n_steps=8, batch_size=8, device="cpu").save(agent)
    words = ["collect", str(agent), "--env", "Faulty-v1", "--run", str(tmp_path / "run"), "--collect.episodes", "4"]
    # The tries that find how it can be saved play some steps; the fault comes when episodes are collected.
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--env-kwargs", '{"fault": "step raises", "at": 50, "length": 60}'])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Faulty-v1 (seed 0, episode 0, step 50): step() failed: RuntimeError: the simulator is gone" in said
    log = (tmp_path / "run" / "faults.log").read_text()
    assert "in gone" in log
    assert str(tmp_path / "run" / "faults.log") in said


def test_what_was_trained_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    agent, run = tmp_path / "a.zip", tmp_path / "run"
    PPO("MlpPolicy", gym.make("Faulty-v1"), n_steps=8, batch_size=8, device="cpu").save(agent)
    kwargs = '{"reset": "raises", "which": 40}'
    words = (
        f"--env Faulty-v1 --run {run} --collect.episodes 2 --method ppo --steps 2048 --train.n-envs 2 "
        "--train.n-steps 32 --train.batch-size 32 --train.critic-warmup 0 --train.jobs 1 --seeds 1"
    )
    with pytest.raises(SystemExit) as stopped:
        main(["refine", str(agent), "--env-kwargs", kwargs, *words.split()])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "The policy as it was trained until then is in" in said
    from unstuck.agents import load_agent

    assert load_agent(run / "kept" / "ppo-1.zip").hyperparameters["num_timesteps"] > 0
    assert "in gone" in (run / "faults.log").read_text()


@pytest.mark.parametrize(
    "hangs", [lambda: time.sleep(30), lambda: all(True for _ in iter(int, 1))], ids=["sleep", "loop"]
)
def test_one_that_hangs_is_stopped(hangs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0.5")
    begun = time.monotonic()
    with (
        pytest.raises(EnvironmentFaultError, match=r"X \(seed 3, step 2\): step\(\) did not end within 0.5 s") as told,
        guarded(Place("X", 3, step=2)),
    ):
        hangs()
    assert time.monotonic() - begun < 10
    assert "test_faulty_environments.py" in told.value.trace
    assert "<lambda>" in told.value.trace


def test_one_that_hangs_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import unstuck.tasks.guarded as module

    monkeypatch.setenv(LIMIT_VARIABLE, "30")
    monkeypatch.setattr(module, "WORD", 0.2)
    with guarded(Place("X", what="reset")):
        time.sleep(2.5)
    assert any("X: reset() has taken" in r.message for r in caplog.records)
    assert os.environ[LIMIT_VARIABLE] == "30"
