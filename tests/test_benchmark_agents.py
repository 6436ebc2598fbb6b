"""The recipes of agents that are stuck as published ones are make agents that Unstuck reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unstuck.agents import load_agent


@pytest.mark.parametrize("env_id", ["LunarLanderContinuous-v3", "Pendulum-v1"])
def test_recipes_make_agents_that_are_read(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import a2c

    monkeypatch.setattr(a2c, "EPISODES", 1)
    found = a2c.train(env_id, replace(a2c.RECIPES[env_id], steps=64, envs=2), 1, tmp_path)
    assert found["env"] == env_id
    assert load_agent(tmp_path / "agent.zip").algorithm == "A2C"
    assert (tmp_path / "agent.vecnormalize.pkl").stat().st_size
