"""The story: a stuck agent in, a better one with a reason and a proof out.

agent ──collect──▶ episodes ──explain──▶ advice ──verify──▶ guidance ──train──▶ better agent ──evaluate──▶ report

With `--train.rounds`, training itself goes through the first four again from the improved agent: `rounds/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unstuck.config import RunConfig
from unstuck.progress import Progress
from unstuck.run import Run


def open_run(config: RunConfig, root: Path | str | None = None) -> Run:
    """Make the run folder for an agent on a task, or open the one that is there.

    The agent and the task are loaded and checked against each other before anything is written.

    Raises:
        AgentError, TaskError: if they cannot be loaded or do not fit.
        RunError: if the folder cannot be used.
        UnstuckError: if no agent of that name ships with Unstuck.
    """
    from unstuck import tasks
    from unstuck.agents import check_fits, find_env_id, load_agent, zoo_env_kwargs
    from unstuck.errors import TaskError

    config, path = of_shipped(config)
    agent = load_agent(path, vecnormalize=config.agent.vecnormalize, trust=config.agent.trust)
    if not config.task.env:
        found = find_env_id(config.agent.agent)
        if not found:
            raise TaskError(f"{config.agent.agent} does not say its environment; name it, e.g. --env Hopper-v5")
        config = config.model_copy(update={"task": config.task.model_copy(update={"env": found})})
    if config.task.env == find_env_id(config.agent.agent):
        # The task as the agent's folder says that it was; what is named now goes first.
        kwargs = zoo_env_kwargs(config.agent.agent, config.task.env) | config.task.env_kwargs
        config = config.model_copy(update={"task": config.task.model_copy(update={"env_kwargs": kwargs})})
    task = config.task
    env = tasks.make_env(task.env, task.env_kwargs, task.import_module)
    try:
        check_fits(agent, env.observation_space, env.action_space, task.env)
        tasks.describer_for(env, card=task.card)
    finally:
        env.close()
    files = {"agent": agent.path}
    if agent.vecnormalize_path is not None:
        files["vecnormalize"] = agent.vecnormalize_path
    folder = Path(root) if root else Path("runs") / f"{agent.path.stem}-{task.env.replace('/', '-')}"
    return Run.create(folder, config, files)


def of_shipped(config: RunConfig) -> tuple[RunConfig, Path]:
    """The agent's path; where it names an agent that ships with Unstuck, its task is filled in.

    Raises:
        UnstuckError: it begins with `stuck/`, but no such agent ships.
    """
    from unstuck.stuck import shipped

    entry = shipped(config.agent.agent)
    if entry is None:
        return config, Path(config.agent.agent).expanduser()
    kwargs = (
        {**entry.env_kwargs, **config.task.env_kwargs}
        if config.task.env in ("", entry.task)
        else (config.task.env_kwargs)
    )
    task = config.task.model_copy(update={"env": config.task.env or entry.task, "env_kwargs": kwargs})
    return config.model_copy(update={"task": task}), entry.path


def run_stages(run: Run, progress: Progress | None = None, *, model: Any = None) -> Run:
    """All stages on a run folder; those that are done with the same settings and inputs are left as they are."""
    from unstuck.methods import METHODS
    from unstuck.rounds import train
    from unstuck.stages.collect import collect
    from unstuck.stages.evaluate import evaluate
    from unstuck.stages.explain import explain
    from unstuck.stages.report import report
    from unstuck.stages.verify import verify

    collect(run, progress)
    if METHODS[run.config.train.method].explained:
        explain(run, progress, model=model)
        verify(run, progress)
    train(run, progress, model=model)
    evaluate(run, progress)
    report(run, progress)
    return run


def refine(
    agent: Path | str,
    env: str = "",
    *,
    llm: str = "",
    run: Path | str | None = None,
    vecnormalize: Path | str | None = None,
    config: RunConfig | None = None,
    progress: Progress | None = None,
    model: Any = None,
) -> Run:
    """Get a stuck agent moving: all stages, one call.

    Args:
        agent: an SB3 zip, a folder of RL Zoo, or the name of a shipped one (stuck/NAME).
        env: Gymnasium id; may be left out for an RL Zoo folder or a shipped agent.
        llm: a model that pydantic-ai knows, `recorded`, or '' for the explainer without a language model.
        run: the run folder; by default runs/AGENT-ENV. A run that was interrupted there goes on.
        config: everything else that can be set.
        model: a pydantic-ai model object to ask instead of making one from `llm`'s name.

    Returns:
        The finished run; its refined agents lie in RUN/train/METHOD/SEED/agent.zip, the page in RUN/report.html.

    Raises:
        UnstuckError: one of its kinds, each with what to do about it.
    """
    config = config or RunConfig()
    parts: dict[str, Any] = {}
    parts["task"] = _updated(config.task, env=env)
    parts["agent"] = _updated(config.agent, agent=str(agent), vecnormalize=Path(vecnormalize) if vecnormalize else None)
    parts["llm"] = _updated(config.llm, model=llm)
    return run_stages(open_run(config.model_copy(update=parts), run), progress, model=model)


def _updated(part: Any, **given: Any) -> Any:
    return part.model_copy(update={k: v for k, v in given.items() if v})
