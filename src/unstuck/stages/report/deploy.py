"""What to do with the agent of a run: the file, and the lines of Python that load and run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unstuck.config import TaskConfig
from unstuck.results import BEFORE, DEPLOYED, STATISTICS, VERDICT, RunVerdict
from unstuck.run import Run
from unstuck.tasks.environments import OBJECTS
from unstuck.tasks.wrapping import FRAMES, WRAPPERS

_CONTRIB = ("TRPO", "ARS", "QRDQN", "TQC", "CrossQ", "MaskablePPO", "RecurrentPPO")


@dataclass(frozen=True)
class Use:
    """The agent to use."""

    agent: Path
    statistics: Path | None
    whose: str
    """An arm, or `before`."""
    which: str
    """Seed and steps, in words; '' for the agent as it was given."""
    why: str
    code: tuple[str, ...]
    """A line of imports, and two that load and play it; without Unstuck, unless the task is made by it. What they
    print is the mean return and its standard deviation."""


def use_of(run: Run) -> Use | None:
    """What the run hands over; None before evaluation.

    Raises:
        RunError: if the verdict is damaged.
    """
    if not (run.root / VERDICT).exists() or not (run.root / DEPLOYED).exists():
        return None
    verdict = RunVerdict.read(run.root / VERDICT)
    agent, statistics = run.root / DEPLOYED, run.root / STATISTICS if verdict.statistics else None
    which = f"seed {verdict.seed}, after {verdict.trained:,} steps" if verdict.chosen != BEFORE else ""
    if which and (kind := _class_of(agent)) != (was := _class_of(run.agent_path)):
        which += f", of {kind} now and no longer of {was}"
    return Use(agent, statistics, verdict.chosen, which, verdict.why, lines(agent, statistics, run.config.task))


def lines(agent: Path, statistics: Path | None, task: TaskConfig, algorithm: str = "") -> tuple[str, ...]:
    """Python that plays the agent on its task: a line of imports, then two.

    Args:
        algorithm: the agent's, if its file is not here to say it.
    """
    kind = algorithm or _class_of(agent)
    home = "sb3_contrib" if kind in _CONTRIB else "stable_baselines3"
    made, more = _environment(task)
    load = f'{kind}.load({_text(agent)}, device="cpu")'
    env, modules = made, "env_util, evaluation"
    if statistics is not None:
        env = f"vec_env.VecNormalize.load({_text(statistics)}, {env})"
    if "vec_env." in env:
        modules += ", vec_env"
    imports = [f"from {home} import {kind}", f"from stable_baselines3.common import {modules}", *more]
    play = f'print("return %.4g ± %.2g" % evaluation.evaluate_policy({load}, env))'
    return "; ".join(imports), f"env = {env}", play


def _class_of(agent: Path) -> str:
    """The name of the class that saved it."""
    from unstuck.agents import load_agent
    from unstuck.errors import UnstuckError

    try:
        return load_agent(agent).algorithm
    except UnstuckError:
        return "PPO"


def _environment(task: TaskConfig) -> tuple[str, list[str]]:
    """What makes the vector environment, and further imports."""
    if (atari := _atari(task)) is not None:
        return atari, ["import ale_py"]
    if not _is_plain(task):
        kwargs = f", {_value(task.env_kwargs)}" if task.env_kwargs or task.import_module else ""
        module = f", {_text(task.import_module)}" if task.import_module else ""
        made = f"lambda: make_env({_text(task.env)}{kwargs}{module})"
        return f"env_util.make_vec_env({made})", ["from unstuck.tasks import make_env"]
    kwargs = f", env_kwargs={_value(task.env_kwargs)}" if task.env_kwargs else ""
    return f"env_util.make_vec_env({_text(task.env)}{kwargs})", []


def _atari(task: TaskConfig) -> str | None:
    """The game as Stable-Baselines3 makes it for agents that see pixels; None for other tasks."""
    from unstuck.tasks.atari import FRAME_STACK, WRAPPED, takes_frames

    kwargs = {k: v for k, v in task.env_kwargs.items() if k not in ("observation", OBJECTS)}
    if task.import_module or WRAPPERS in kwargs or not takes_frames(task.env, task.env_kwargs):
        return None
    frames = kwargs.pop(FRAMES, FRAME_STACK)
    wrapped = {name: kwargs.pop(name) for name in WRAPPED if name in kwargs}
    given = f", wrapper_kwargs={_value(wrapped)}" if wrapped else ""
    given += f", env_kwargs={_value(kwargs)}" if kwargs else ""
    env = f"env_util.make_atari_env({_text(task.env)}{given})"
    return f"vec_env.VecFrameStack({env}, {frames})" if frames > 1 else env


def _is_plain(task: TaskConfig) -> bool:
    """Whether Gymnasium alone makes the environment as the agent saw it."""
    import gymnasium as gym

    from unstuck.tasks.environments import is_ours

    special = {WRAPPERS, FRAMES, "observation"} & task.env_kwargs.keys()
    return not (special or task.import_module or is_ours(task.env)) and task.env in gym.registry


def _text(value: Any) -> str:
    return _value(str(value))


def _value(value: Any) -> str:
    """As Python writes it, with double quotes."""
    if isinstance(value, str):
        escaped = value.encode("unicode_escape").decode("ascii").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_value(k)}: {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)
