"""Taking an agent in: its files and its task are found, loaded and fitted to each other before anything is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstuck.config import RunConfig, TaskConfig
from unstuck.errors import AgentError, TaskError

if TYPE_CHECKING:
    from unstuck.agents import Agent


@dataclass(frozen=True)
class Intake:
    """An agent and the task on which it acts; they fit."""

    config: RunConfig
    """As given, with the task as it will be run: its id, and the keyword arguments that RL Zoo or a shipped agent
    names."""
    agent: Agent
    notes: tuple[str, ...]
    """What a user should know of it: what stands in for an old id, what was not read from the files."""
    observed: int
    """Bytes of an observation."""

    @property
    def files(self) -> dict[str, Path]:
        """Its zip, and its VecNormalize statistics if there are any."""
        files = {"agent": self.agent.path}
        if self.agent.vecnormalize_path is not None:
            files["vecnormalize"] = self.agent.vecnormalize_path
        return files


def take_in(config: RunConfig) -> Intake:
    """Load the agent that `config` names, find its task, and check that they fit.

    Raises:
        AgentError: the agent cannot be loaded, or does not fit the task.
        TaskError: nothing says which task it is, or the task cannot be made or described.
        UnstuckError: it begins with `stuck/`, but no such agent ships.
    """
    from unstuck import tasks
    from unstuck.agents import load_agent
    from unstuck.tasks.atari import notes_on
    from unstuck.tasks.beside import bytes_of, seen_space
    from unstuck.tasks.ids import make_fitting

    config, path, env_id, fetched = _here(config)
    agent = load_agent(path, vecnormalize=config.agent.vecnormalize, trust=config.agent.trust)
    task = _as_seen(task_of(config, path, env_id), agent)

    def misfit(env: Any, env_id: str) -> str:
        try:
            _check(agent, env, env_id)
        except AgentError as error:
            return str(error)
        return ""

    found = make_fitting(task.env, task.env_kwargs, task.import_module, misfit)
    try:
        _check(agent, found.env, found.env_id)
        tasks.describer_for(found.env, card=task.card)
        memory = _memory(agent, found.env.observation_space, config)
        observed = bytes_of(seen_space(found.env.observation_space))
    finally:
        found.env.close()
    task = task.model_copy(update={"env": found.env_id, "env_kwargs": found.env_kwargs})
    notes = tuple(filter(None, [fetched, found.note, *agent.notes, *notes_on(task.env, task.env_kwargs), memory]))
    return Intake(config.model_copy(update={"task": task}), agent, notes, observed)


def _memory(agent: Agent, space: Any, config: RunConfig) -> str:
    """What is to be told of a replay buffer; '' where there is none, or a small one."""
    from unstuck.algorithms import algorithm_of

    if algorithm_of(agent).on_policy:
        return ""
    from unstuck.algorithms.replaying import memory_note

    return memory_note(agent, space, config.train)


def _here(config: RunConfig) -> tuple[RunConfig, Path, str, str]:
    """The settings, the agent's path on this machine, the environment that is said of it ('' where its files say it),
    and what was fetched, in words. An agent on the hub is fetched, and pinned to the commit that it is of."""
    from unstuck.hub import Address, fetch, is_address

    if not is_address(config.agent.agent):
        config, path = of_shipped(config)
        return config, path, "", ""
    fetched = fetch(Address.parse(config.agent.agent))
    agent = config.agent.model_copy(update={"agent": str(fetched.address)})
    return config.model_copy(update={"agent": agent}), fetched.path, fetched.env_id, fetched.note


def _check(agent: Agent, env: Any, env_id: str) -> None:
    from unstuck.agents import check_fits

    check_fits(agent, env.observation_space, env.action_space, env_id)


def task_of(config: RunConfig, path: Path | None = None, env_id: str = "") -> TaskConfig:
    """The configured task; of an agent of RL Zoo, filled in from its folder. What is configured goes first.

    Args:
        path: where the agent lies, if not where the settings say.
        env_id: the environment, if its files do not say it.

    Raises:
        TaskError: nothing says which environment it is.
    """
    from unstuck.agents import find_env_id, zoo_env_kwargs

    task, path = config.task, path or Path(config.agent.agent)
    said = find_env_id(path) or env_id
    if not (task.env or said):
        raise TaskError(f"{config.agent.agent} does not say its environment; name it, e.g. --env Hopper-v5")
    if said and (not task.env or _name(task.env) == _name(said)):
        kwargs = zoo_env_kwargs(path, said) | task.env_kwargs
        task = task.model_copy(update={"env": task.env or said, "env_kwargs": kwargs})
    return task


def _as_seen(task: TaskConfig, agent: Agent) -> TaskConfig:
    """Of an Atari game or a MiniGrid: shown as the agent sees it, where neither the user nor RL Zoo says how."""
    from unstuck.tasks.ids import is_atari, is_minigrid

    said = {"observation", "obs_type", "env_wrapper", "frame_stack", "screen_size"} & task.env_kwargs.keys()
    space = agent.observation_space
    if said or space is None:
        return task
    found: dict[str, Any] = {}
    if is_atari(task.env):
        from unstuck.tasks.atari import seen_as

        found = seen_as(task.env, space.shape)
    elif is_minigrid(task.env):
        found = _grid_as_seen(task, agent)
    return task.model_copy(update={"env_kwargs": {**found, **task.env_kwargs}})


def _grid_as_seen(task: TaskConfig, agent: Agent) -> dict[str, Any]:
    """The first way of showing a MiniGrid in which the agent can act; {} where that is the usual one, or none."""
    from unstuck import tasks

    for found in ({}, *({"observation": name} for name in ("image", "full", "onehot", "flat", "rgb", "rgb-full"))):
        try:
            env = tasks.make_env(task.env, {**found, **task.env_kwargs}, task.import_module)
        except TaskError:
            return {}  # said where it is made in earnest
        try:
            _check(agent, env, task.env)
        except AgentError:
            continue
        finally:
            env.close()
        return found
    return {}


def _name(env_id: str) -> str:
    """Without its version: what RL Zoo put around one version belongs around another, too."""
    return re.sub(r"-v\d+$", "", env_id)


def of_shipped(config: RunConfig) -> tuple[RunConfig, Path]:
    """The agent's path; where it names an agent that ships with Unstuck, its task is filled in.

    Raises:
        UnstuckError: it begins with `stuck/`, but no such agent ships.
    """
    from unstuck.stuck import shipped

    entry = shipped(config.agent.agent)
    if entry is None:
        return config, Path(config.agent.agent).expanduser()
    own = config.task.env in ("", entry.task)
    kwargs = {**entry.env_kwargs, **config.task.env_kwargs} if own else config.task.env_kwargs
    task = config.task.model_copy(update={"env": config.task.env or entry.task, "env_kwargs": kwargs})
    return config.model_copy(update={"task": task}), entry.path
