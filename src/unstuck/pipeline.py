"""The story: a stuck agent in, a better one with a reason and a proof out.

agent ──collect──▶ episodes ──explain──▶ advice ──verify──▶ guidance ──train──▶ better agent ──evaluate──▶ report

With `--train.rounds`, training itself goes through the first four again from the improved agent: `rounds/`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unstuck.config import RunConfig, TrainConfig
from unstuck.errors import RunError, UnstuckError
from unstuck.guidance import validation_message
from unstuck.preflight import preflight
from unstuck.progress import Progress
from unstuck.run import Run, alone

if TYPE_CHECKING:
    from unstuck.agents.history import LearningCurve
    from unstuck.diagnosis import Panel
    from unstuck.workspace import Workspace


PROMPT_VERSIONS = (2, 1)
"""Newest first."""


def open_run(
    config: RunConfig,
    root: Path | str | None = None,
    progress: Progress | None = None,
    *,
    trust_run: bool = False,
    named: Collection[str] | None = None,
) -> Run:
    """Make the run folder for an agent on a task, or open the one that is there.

    The agent and the task are loaded and checked against each other before anything is written. What a user should
    know of them (an old id for which another stands in, what was not read) is said to `progress`. `trust_run` confirms
    a folder that was made elsewhere (`unstuck.trust`).

    Args:
        named: fields of the section `train` that the user set, where method, steps and seeds are to be chosen to suit
            the agent unless they are among them (`unstuck.choosing`); None: all settings stay as they are.

    Raises:
        AgentError, TaskError: if they cannot be loaded or do not fit.
        RunError: if the folder cannot be used.
        UnstuckError: if no agent of that name ships with Unstuck.
    """
    from unstuck.algorithms import algorithm_of
    from unstuck.choosing import settled, without_race
    from unstuck.intake import take_in

    taken, say = take_in(config), (progress or Progress.silent()).say
    for note in taken.notes:
        say(note)
    if named is None:
        config = without_race(taken.config)
    else:
        on_policy = algorithm_of(taken.agent).on_policy
        config, why = settled(taken.config, named, on_policy=on_policy, observed=taken.observed)
        if why:
            say(f"one training, no race: {why}")
    folder = Path(root) if root else default_folder(taken.agent.path, taken.config.task.env)
    return Run.create(folder, config, taken.files, trust=trust_run)


def diagnose(
    agent: Path | str,
    env: str = "",
    *,
    run: Path | str | None = None,
    trunk: int = 0,
    vecnormalize: Path | str | None = None,
    config: RunConfig | None = None,
    progress: Progress | None = None,
    trust_run: bool = False,
) -> Panel:
    """What is wrong with an agent, and what would help; without a language model, and mostly in seconds.

    Episodes that a run has collected are used, and then no environment step is taken: those of `run`, of `agent` itself
    where that is a run folder, or of runs/AGENT-ENV. Else episodes are collected, into `run` if it is given.

    Args:
        agent: an SB3 zip, a folder of RL Zoo, the name of a shipped one (stuck/NAME), or a run folder.
        env: Gymnasium id; may be left out where the agent's folder or the run names it.
        trunk: environment steps for which PPO trains a copy of the agent, to see whether it still improves; 0: none.
        trust_run: confirms a run folder that was made elsewhere (`unstuck.trust`).

    Returns:
        the panel; its `env_steps` are those taken here, trunk included.

    Raises:
        UnstuckError: one of its kinds, each with what to do about it.
    """
    from unstuck.diagnosis import diagnose_run, read_panel
    from unstuck.stages.collect import collect
    from unstuck.workspace import Workspace

    config = config or RunConfig()
    parts: dict[str, Any] = {"task": _updated(config.task, env=env)}
    given = Path(vecnormalize) if vecnormalize else None
    parts["agent"] = _updated(config.agent, agent=str(agent), vecnormalize=given)
    config = config.model_copy(update=parts)
    with tempfile.TemporaryDirectory(prefix="unstuck-") as temporary:
        if (Path(agent) / "manifest.json").is_file():
            opened = Run(agent, trust=trust_run)
        else:
            held = _collected(config, run, trust_run)
            opened = held or open_run(config, run or Path(temporary) / "run", progress, trust_run=trust_run)
        before = "collect" in opened.manifest.stages
        collect(opened, progress)
        steps = 0 if before else opened.record("collect").env_steps
        space = Workspace(opened)
        if trunk > 0:
            curve = _trunk(space, trunk, Path(temporary), progress)
            return diagnose_run(space, trunk=curve, env_steps=steps + trunk)
        panel = read_panel(opened.root) or diagnose_run(space)
        return panel.model_copy(update={"env_steps": steps})


def _collected(config: RunConfig, root: Path | str | None, trust_run: bool) -> Run | None:
    """A run of the same agent and task whose episodes are there; its settings stay as they are."""
    from unstuck.intake import take_in
    from unstuck.run import digest

    taken = take_in(config)
    folder = Path(root) if root else default_folder(taken.agent.path, taken.config.task.env)
    if not (folder / "manifest.json").is_file():
        return None
    held = Run(folder, trust=trust_run)
    same = held.config.task == taken.config.task and digest(held.agent_path) == digest(taken.agent.path)
    return held if same and "collect" in held.manifest.stages else None


def _trunk(space: Workspace, steps: int, folder: Path, progress: Progress | None) -> LearningCurve | None:
    """The learning curve of plain PPO, continued for so many steps from a copy of the agent."""
    from unstuck.agents.history import learning_curve
    from unstuck.learner import Learner
    from unstuck.methods import make_plan, setting_of

    config = space.config.train
    plan = make_plan("ppo", config.guide, None, setting_of(space.agent, space.describer.card))
    (folder / "trunk").mkdir()
    with (progress or Progress.silent()).task("trunk", 1) as bar:
        Learner(space, config, plan, None, 0, steps, folder / "trunk").learn(0)
        bar.advance()
    return learning_curve(folder / "trunk")


def default_folder(agent: Path, env_id: str) -> Path:
    """The run folder of an agent's zip on a task, where none is named."""
    return Path("runs") / f"{agent.stem}-{env_id.replace('/', '-')}"


def take_recorded(run: Run, progress: Progress | None = None) -> None:
    """With `--llm recorded`: take the version of the prompt to which a reply is recorded, if the configured one has
    none. Replies that ship with Unstuck may be to an older one."""
    from unstuck.stages.explain import asks, prompts, recordings_of

    explain = run.config.explain
    if not run.config.llm.is_recorded or "explain" in run.manifest.stages or not asks(run):
        return
    store, wanted = recordings_of(run), run.config
    for version in (explain.prompt_version, *(v for v in PROMPT_VERSIONS if v != explain.prompt_version)):
        tried = explain.model_copy(update={"prompt_version": version})
        run.manifest.config = wanted.model_copy(update={"explain": tried})
        if all(store.find(request) is not None for request in prompts(run)):
            break
    else:
        run.manifest.config = wanted
        return
    if run.config != wanted:
        run.configure(run.config)
        (progress or Progress.silent()).say(
            f"explain: a reply is recorded to version {version} of the prompt: it is used"
        )


@alone
def run_stages(run: Run, progress: Progress | None = None, *, model: Any = None) -> Run:
    """All stages on a run folder; those that are done with the same settings and inputs are left as they are."""
    from unstuck.methods import METHODS
    from unstuck.rounds import train
    from unstuck.stages.collect import collect
    from unstuck.stages.evaluate import evaluate
    from unstuck.stages.explain import explain
    from unstuck.stages.handover import hand_over
    from unstuck.stages.report import report
    from unstuck.stages.verify import verify

    collect(run, progress)
    _say_panel(run, progress)
    if METHODS[run.config.train.method].explained:
        take_recorded(run, progress)
        explain(run, progress, model=model)
        verify(run, progress)
    train(run, progress, model=model)
    evaluate(run, progress)
    hand_over(run)
    report(run, progress)
    return run


def _say_panel(run: Run, progress: Progress | None) -> None:
    """What was found, before anything is done about it; a panel that cannot be read is no reason to stop."""
    from unstuck.diagnosis import read_panel
    from unstuck.stages.report.outcome import shortened

    with contextlib.suppress(RunError):
        if progress is not None and (panel := read_panel(run.root)) is not None:
            progress.say(f"diagnosis: {shortened(panel.summary)}")


def refine(
    agent: Path | str,
    env: str = "",
    *,
    llm: str = "",
    run: Path | str | None = None,
    vecnormalize: Path | str | None = None,
    steps: int | None = None,
    seeds: int | Sequence[int] | None = None,
    method: str | None = None,
    rounds: int | None = None,
    control: bool | None = None,
    config: RunConfig | None = None,
    progress: Progress | None = None,
    model: Any = None,
) -> Run:
    """Get a stuck agent moving: all stages, one call.

    Args:
        agent: an SB3 zip, a folder of RL Zoo, one on the hub (hf://USER/NAME), or a shipped one (stuck/NAME).
        env: Gymnasium id; may be left out for an RL Zoo folder or a shipped agent.
        llm: a model that pydantic-ai knows, `recorded`, or '' for the explainer without a language model.
        run: the run folder; by default runs/AGENT-ENV. A run that was interrupted there goes on.
        steps: budget of environment steps of each arm; by default 500 000 for a race, 100 000 where the agent learns by
            replay, and for one training.
        seeds: one training run of each arm for each of them; a single number is one seed. By default one for a race,
            else three.
        method: as `--method`. By default treatments race (`unstuck.race`), or it is one training by `unstuck`: for
            images in an agent's replay buffer, in several rounds, with fewer than 100 000 steps, and where
            `config.race.none` says so.
        rounds: how often to collect, explain, verify and train, as `--rounds`.
        control: whether PPO is continued beside it, to compare with.
        config: everything else that can be set; what is given above goes over it. Method, steps and seeds that it
            leaves out are chosen as above.
        model: a pydantic-ai model object to ask instead of making one from `llm`'s name.

    Returns:
        The finished run; the agent to use is RUN/agent.zip, the verdict RUN/verdict.json, the page RUN/report.html.

    Raises:
        UnstuckError: one of its kinds, each with what to do about it.
    """
    config = config or RunConfig()
    parts: dict[str, Any] = {}
    parts["task"] = _updated(config.task, env=env)
    parts["agent"] = _updated(config.agent, agent=str(agent), vecnormalize=Path(vecnormalize) if vecnormalize else None)
    parts["llm"] = _updated(config.llm, model=llm)
    given = {"steps": steps, "seeds": _several(seeds), "method": method, "rounds": rounds, "control": control}
    said = {k: v for k, v in given.items() if v is not None}
    parts["train"] = _checked(config.train, said)
    named = config.train.model_fields_set | set(said)
    opened = open_run(config.model_copy(update=parts), run, progress, named=named)
    prepare(opened, progress, model=model)
    return run_stages(opened, progress, model=model)


def prepare(run: Run, progress: Progress | None = None, *, model: Any = None) -> None:
    """See that a run can be done, and say what will run, before it begins.

    Raises:
        UnstuckError: it cannot; what `unstuck.preflight` finds.
    """
    from unstuck.pace import announcement

    say = (progress or Progress.silent()).say
    for note in filter(None, [*preflight(run, model=model), announcement(run)]):
        say(note)


def _several(seeds: int | Sequence[int] | None) -> tuple[int, ...] | None:
    return (seeds,) if isinstance(seeds, int) else None if seeds is None else tuple(seeds)


def _checked(train: TrainConfig, given: dict[str, Any]) -> TrainConfig:
    """The settings with these values.

    Raises:
        UnstuckError: one is not valid; names it.
    """
    try:
        return type(train).model_validate({**train.model_dump(), **given})
    except ValidationError as error:
        raise UnstuckError(f"a setting is not valid:\n{validation_message(error)}") from error


def _updated(part: Any, **given: Any) -> Any:
    return part.model_copy(update={k: v for k, v in given.items() if v})
