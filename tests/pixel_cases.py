"""Agents that see pixels: small ones, the tasks that they see, and short trainings of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

pytest.importorskip("ale_py")

from unstuck.config import AgentConfig, CollectConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.guidance import Action, Advice, Condition, Guidance, Term
from unstuck.guide.plan import Plan
from unstuck.intake import take_in
from unstuck.learner import Learner
from unstuck.pipeline import open_run
from unstuck.stages.collect import collect
from unstuck.workspace import Workspace

PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"
SMALL = {"features_extractor_kwargs": {"features_dim": 16}}


def small(env_id: str = PONG, frames: int = 4, algorithm: Any = PPO, **more: Any) -> Any:
    """An untrained agent as Stable-Baselines3 makes one for pixels."""
    env = VecFrameStack(make_atari_env(env_id, 1, seed=0), frames)
    sizes: dict[str, Any] = {"n_steps": 8} if algorithm is PPO else {"buffer_size": 10}
    return algorithm("CnnPolicy", env, policy_kwargs=SMALL, seed=0, device="cpu", **sizes, **more)


def taken(agent: Path, env: str = "", **kwargs: Any) -> Any:
    return take_in(RunConfig(agent=AgentConfig(agent=str(agent)), task=TaskConfig(env=env, env_kwargs=kwargs)))


DOWN = Guidance(
    env_id=PONG,
    diagnosis="",
    advice=(
        Advice(id="r", kind="rule", why="", when=(Condition(variable="player_y", op="<", value=300.0),),
               action=Action(index=3)),
    ),
    reward_terms=(Term(variable="player_y", above=0.0, weight=0.01, cap=1.0),),
)  # fmt: skip


def trained(
    tmp_path: Path, agent: Path, plan: Plan, env_id: str = PONG, guidance: Guidance = DOWN, **settings: Any
) -> Any:
    config = RunConfig(
        agent=AgentConfig(agent=str(agent)), task=TaskConfig(env=env_id, env_kwargs={"max_episode_steps": 20}),
        collect=CollectConfig(episodes=2, max_steps=100),
    )  # fmt: skip
    run = open_run(config, tmp_path / "run")
    collect(run)
    sizes = {"n_envs": 2, "n_steps": 16, "batch_size": 32, "n_epochs": 2, "critic_warmup": 0}
    train = TrainConfig(**{**sizes, **settings})
    (tmp_path / "trained").mkdir()
    learner = Learner(Workspace(run), train, plan, guidance, 1, 64, tmp_path / "trained")
    return learner, learner.learn(0)
