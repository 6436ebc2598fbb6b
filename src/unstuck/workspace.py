"""What every stage needs of a run: the agent, the task and its describer, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import gymnasium as gym

from unstuck import tasks
from unstuck.agents import Agent, check_fits, load_agent
from unstuck.algorithms import Policy, algorithm_of, policy_of
from unstuck.config import RunConfig, TaskConfig
from unstuck.episodes import EpisodeSet, failing
from unstuck.run import Run
from unstuck.snapshots import Snapshotter, snapshotter_for
from unstuck.tasks.card import Describer


@dataclass(frozen=True)
class EnvMaker:
    """Makes the run's environment; picklable, so that it can travel to another process."""

    task: TaskConfig
    render_mode: str | None = None

    def __call__(self) -> gym.Env:
        t = self.task
        return tasks.make_env(t.env, t.env_kwargs, t.import_module, render_mode=self.render_mode)


@dataclass(frozen=True)
class Workspace:
    """A run, opened for work.

    Raises:
        AgentError, TaskError: on first use of the agent or the task, if they cannot be read or do not fit.
    """

    run: Run

    @property
    def config(self) -> RunConfig:
        return self.run.config

    @cached_property
    def make_env(self) -> EnvMaker:
        return EnvMaker(self.config.task)

    @cached_property
    def describer(self) -> Describer:
        return open_describer(self.config.task)

    @cached_property
    def agent(self) -> Agent:
        self.run.check_inputs()
        agent = load_agent(self.run.agent_path, vecnormalize=self.run.vecnormalize_path, trust=self.config.agent.trust)
        check_fits(agent, *self.spaces, self.config.task.env)
        return agent

    @cached_property
    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Observations and actions of the task."""
        env = self.make_env()
        env.close()
        return env.observation_space, env.action_space

    @cached_property
    def quantum(self) -> int:
        """Environment steps between two updates of the agent's algorithm: what budgets are rounded down to."""
        return algorithm_of(self.agent).quantum(self.agent, self.config.train)

    @cached_property
    def actor(self) -> Policy:
        return policy_of(self.agent, *self.spaces)

    @cached_property
    def snapshotter(self) -> Snapshotter:
        return snapshotter_for(self.make_env)

    @cached_property
    def episodes(self) -> EpisodeSet:
        """Raises RunError where none were collected."""
        self.run.need("collect")
        return EpisodeSet(self.run.root / "collect")

    @property
    def collected(self) -> bool:
        """Whether there are episodes of the agent; a single treatment may be trained without them."""
        return "collect" in self.run.manifest.stages

    @cached_property
    def fails(self) -> bool:
        """Whether failing ends the agent's episodes, as far as they are known; reads them all."""
        return self.collected and failing(self.episodes)


def open_describer(task: TaskConfig) -> Describer:
    """The describer of the configured task; a TOML card given by the user replaces the card's texts and names."""
    env = tasks.make_env(task.env, task.env_kwargs, task.import_module)
    try:
        return tasks.describer_for(env, card=task.card)
    finally:
        env.close()
