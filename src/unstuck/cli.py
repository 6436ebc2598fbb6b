"""The command line: one command for each stage, the same settings as in Python.

torch, gymnasium and pydantic-ai are imported by the commands that need them, so that `unstuck --help` is quick.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import BaseModel, ValidationError, create_model

from unstuck.config import RunConfig
from unstuck.errors import UnstuckError, did_you_mean

if TYPE_CHECKING:
    from unstuck.progress import Progress
    from unstuck.run import Run

# Short forms of what nearly every command line needs.
ALIASES = {
    "--env": "--task.env",
    "--import": "--task.import-module",
    "--card": "--task.card",
    "--vecnormalize": "--agent.vecnormalize",
    "--trust": "--agent.trust",
    "--llm": "--llm.model",
    "--base-url": "--llm.base-url",
    "--steps": "--train.steps",
    "--seeds": "--train.seeds",
    "--method": "--train.method",
}

_OF_ENV = ("describe", "card", "check-env")
"""Commands that take an environment instead of a run's settings."""

Positional = tyro.conf.Positional
Flat = tyro.conf.arg(name="")


@dataclass
class _OfRun:
    """Work on a run folder."""

    run: Annotated[Path, Positional]
    """The run folder."""


@dataclass
class _OfAgent:
    """Work on a saved agent."""

    agent: Annotated[str, Positional]
    """The stuck agent: an SB3 zip, or a folder of RL Zoo."""
    run: Path | None = None
    """The run folder; by default runs/AGENT-ENV. A run that is there goes on."""


@dataclass
class PromptArgs(_OfRun):
    """Show the exact prompts and what they would cost, without asking anything."""

    export: Path | None = None
    """Write them as OpenAI-style batch JSONL to this file."""
    quiet: bool = False
    """Do not print the prompts themselves."""
    llm: Annotated[str | None, tyro.conf.arg(name="llm.model")] = None
    """The model to estimate the price for (short: --llm); by default the run's own."""


@dataclass
class RecordingsArgs:
    """List a run's recorded exchanges, or import replies to exported prompts."""

    action: Annotated[str, Positional]
    """`list` or `import`."""
    run: Annotated[Path, Positional]
    """The run folder."""
    replies: Annotated[Path | None, Positional] = None
    """With import: JSONL of a batch service's output, or lines {"custom_id": ..., "reply": ...}."""
    provenance: str = "batch import"
    """With import: where the replies come from, stored with each."""
    model: str | None = None
    """With import: the model that replied; by default what the prompt was exported for, or the reply says."""
    date: str | None = None
    """With import: the date of the replies (ISO); by default today."""


@dataclass
class EnvArgs:
    """A task, by its Gymnasium id."""

    env: Annotated[str, Positional]
    """Gymnasium id, e.g. Hopper-v5."""
    env_kwargs: str = "{}"
    """JSON: keyword arguments of gymnasium.make."""
    import_module: str | None = None
    """A Python module to import first, which registers your environments."""
    card: Path | None = None
    """A TOML task card to use."""


@dataclass
class DescribeArgs(EnvArgs):
    """Show how states of a task read in language."""

    states: int = 5
    """States to show, from random play."""
    seed: int = 0


@dataclass
class CheckArgs(EnvArgs):
    """Check exact snapshots, the card, the size of a state in words, and what all of it costs."""

    agent: Path | None = None
    """An SB3 zip that plays as well, to hold the card against what it sees."""
    vecnormalize: Path | None = None
    """Its VecNormalize statistics, if they are not found beside it."""
    trust: bool = False
    """Let the agent's file run code."""
    seeds: int = 3
    """Runs in which snapshots are compared."""
    steps: int | None = None
    """Length of each; by default a whole episode and some of the next."""
    states: int = 2000
    """States to hold the card against."""


@dataclass
class DemoArgs:
    """The main job on an agent that ships with Unstuck, with recorded replies of a language model."""

    run: Path = field(default_factory=lambda: Path("runs") / "demo")
    """The run folder."""


def _options(sections: tuple[str, ...], saved: RunConfig) -> type[BaseModel]:
    """A model of some sections of the configuration, with a run's own settings as defaults."""
    fields: dict[str, Any] = {s: (RunConfig.model_fields[s].annotation, getattr(saved, s)) for s in sections}
    return create_model("Options", **fields)


def _stage_args(base: type, sections: tuple[str, ...], saved: RunConfig, doc: str) -> Any:
    options = _options(sections, saved)

    parts: list[Any] = [("options_", Annotated[options, Flat], field(default_factory=options))]
    made = make_dataclass("Args", parts, bases=(base,))
    made.__doc__ = doc
    return made


def _merged(config: RunConfig, options: BaseModel, **more: Any) -> RunConfig:
    parts: dict[str, Any] = {name: getattr(options, name) for name in type(options).model_fields}
    for name, values in more.items():
        parts[name] = parts.get(name, getattr(config, name)).model_copy(update=values)
    return config.model_copy(update=parts)


@dataclass(frozen=True)
class Command:
    """One word of the command line."""

    help: str
    call: Callable[[str, list[str]], None]


def _progress() -> Progress:
    from rich.console import Console

    from unstuck.progress import Progress

    return Progress(Console(stderr=True))


def _parse(kind: Any, command: str, args: list[str]) -> Any:
    return tyro.cli(kind, prog=f"unstuck {command}", args=args)


ALL = ("task", "agent", "collect", "explain", "llm", "verify", "train", "evaluate")


def _refine(command: str, args: list[str]) -> None:
    saved, kwargs, args = _given(args)
    kind = _stage_args(_OfAgent, ALL, saved, "All stages: collect, explain, verify, train, evaluate, report.")
    parsed = _parse(kind, command, args)
    _finish(_open(parsed, saved, kwargs), _progress())


def _collect(command: str, args: list[str]) -> None:
    from unstuck.stages.collect import collect

    saved, kwargs, args = _given(args)
    if args and (Path(args[0]) / "manifest.json").exists():
        _stage(command, args)
        return
    kind = _stage_args(_OfAgent, ("task", "agent", "collect"), saved, "Run the stuck agent and keep its episodes.")
    run = _open(_parse(kind, command, args), saved, kwargs)
    episodes = collect(run, _progress())
    _say_episodes(run, len(episodes))


def _open(parsed: Any, saved: RunConfig, kwargs: dict[str, Any] | None) -> Run:
    from unstuck.pipeline import open_run

    more = {"agent": {"agent": parsed.agent}}
    if kwargs is not None:
        more["task"] = {"env_kwargs": kwargs}
    return open_run(_merged(saved, parsed.options_, **more), parsed.run)


def _given(args: list[str], saved: RunConfig | None = None) -> tuple[RunConfig, dict[str, Any] | None, list[str]]:
    """Take --config FILE and --env-kwargs JSON out of the arguments. What the file sets goes over `saved`."""
    saved, kwargs, rest = saved or RunConfig(), None, []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--config", "--env-kwargs"):
            value = value if equals else next(words, "")
            if not value:
                raise UnstuckError(f"{name} needs {'a TOML file' if name == '--config' else 'a JSON object'} after it")
        if name == "--config":
            saved = _over(saved, load_config(Path(value)))
        elif name == "--env-kwargs":
            kwargs = _json_object(value, name)
        else:
            rest.append(word)
    return saved, kwargs, rest


def _over(saved: RunConfig, given: RunConfig) -> RunConfig:
    parts = {}
    for section in given.model_fields_set:
        new = getattr(given, section)
        parts[section] = getattr(saved, section).model_copy(update={f: getattr(new, f) for f in new.model_fields_set})
    return saved.model_copy(update=parts)


def load_config(path: Path) -> RunConfig:
    """Settings from a TOML file with the sections of `RunConfig`.

    Raises:
        UnstuckError: if it cannot be read, or a setting is unknown or invalid; names it.
    """
    import tomllib

    from unstuck.guidance import validation_message

    try:
        return RunConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UnstuckError(f"cannot read the settings {path}: {error.strerror or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UnstuckError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise UnstuckError(f"{path} has invalid settings:\n{validation_message(error)}") from error


def _json_object(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnstuckError(f"{flag} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnstuckError(f"{flag} must be a JSON object, like '{{\"gravity\": -9.8}}'")
    return value


SECTIONS = {
    "collect": ("collect",),
    "explain": ("explain", "llm"),
    "verify": ("verify",),
    "train": ("train",),
    "evaluate": ("evaluate",),
    "report": (),
}


def _stage(command: str, args: list[str]) -> None:
    """Run one stage on a run folder, with the run's own settings as defaults."""
    from unstuck.run import Run

    run = Run(args[0]) if args and not args[0].startswith("-") else None
    saved, kwargs, args = _given(args, run.config if run else None)
    if kwargs is not None:
        raise UnstuckError(
            f"the task of a run cannot be changed: --env-kwargs belongs to `unstuck collect`, not {command}"
        )
    parsed = _parse(_stage_args(_OfRun, SECTIONS[command], saved, COMMANDS[command].help), command, args)
    run = run or Run(parsed.run)
    run.configure(_merged(run.config, parsed.options_))
    import unstuck

    result = getattr(unstuck, command)(run, _progress())
    _SAY[command](run, result)


def _say_episodes(run: Run, count: int) -> None:
    facts = run.record("collect").facts
    steps = run.record("collect").env_steps
    print(f"{count} episodes, {steps} environment steps, in {run.root / 'collect'}")
    for mode in ("deterministic", "sampled"):
        if facts[mode]:
            print(f"  {mode} returns: {', '.join(f'{r:.4g}' for r in facts[mode])}")
    print(f"Next: unstuck explain {run.root} --llm MODEL")


def _say_explained(run: Run, guidance: Any) -> None:
    print(f"Diagnosis: {guidance.diagnosis}")
    for advice in guidance.advice:
        print(f"  {advice.id}: {advice.why}")
    for term in guidance.reward_terms:
        print(f"  reward: {term.words()}")
    print(f"Read or edit {run.advice_path}, then: unstuck verify {run.root}")


def _say_verified(run: Run, guidance: Any) -> None:
    from unstuck.guidance import when_words

    for advice in guidance.advice:
        v = advice.verdict
        gain = f" {v.gain:+.3g} [{v.low:.3g}, {v.high:.3g}] {v.metric}" if v.gain is not None else ""
        where = f" ({when_words(advice.when)})" if advice.when is not None else ""
        print(f"  {advice.id}: {v.status}{gain}{where}{' - ' + v.note if v.note else ''}")
    steps = run.record("verify").env_steps
    print(f"{steps} environment steps. Read or edit {run.guidance_path}, then: unstuck train {run.root}")


def _say_trained(run: Run, arms: dict[str, list[Path]]) -> None:
    for arm, agents in arms.items():
        print(f"  {arm}: {', '.join(str(p) for p in agents)}")
    print(f"Next: unstuck evaluate {run.root}")


def _say_scores(run: Run, scores: Any) -> None:
    _print_outcome(run)
    print(f"Next: unstuck report {run.root}")


_SAY: dict[str, Callable[[Any, Any], None]] = {
    "collect": lambda run, episodes: _say_episodes(run, len(episodes)),
    "explain": _say_explained,
    "verify": _say_verified,
    "train": _say_trained,
    "evaluate": _say_scores,
    "report": lambda run, path: print(f"Report: {path}"),
}


def _finish(run: Run, progress: Progress) -> None:
    from unstuck.pipeline import run_stages

    progress.say(f"run folder: {run.root}")
    run_stages(run, progress)
    _print_outcome(run)


def _print_outcome(run: Run) -> None:
    from rich.console import Console

    from unstuck.stages.report.outcome import print_outcome

    print_outcome(run, Console() if sys.stdout.isatty() else Console(width=120))


def _prompt(command: str, args: list[str]) -> None:
    from unstuck.llm import estimate_cost, estimate_tokens, export_batch
    from unstuck.run import Run
    from unstuck.stages.explain import prompts, recordings_of

    parsed = _parse(PromptArgs, command, args)
    run = Run(parsed.run)
    llm = run.config.llm if parsed.llm is None else run.config.llm.model_copy(update={"model": parsed.llm})
    requests = prompts(run)
    if not parsed.quiet:
        for request in requests:
            print(request.text)
    tokens = sum(estimate_tokens(r.text) for r in requests)
    cost = None if llm.is_none or llm.is_recorded else estimate_cost(llm.model, tokens, llm.max_output_tokens)
    price = f"at most ${cost:.3f} with {llm.model}" if cost is not None else f"the price of {llm.model} is not known"
    if llm.is_none or llm.is_recorded:
        price = "name a model with --llm for the price"
    print(
        f"{len(requests)} prompt(s), about {tokens} tokens in, at most {llm.max_output_tokens} out each; {price}. "
        f"Keys: {', '.join(r.key for r in requests)}",
        file=sys.stderr,
    )
    if parsed.export:
        keys = export_batch(requests, parsed.export, recordings_of(run), llm)
        print(f"{len(keys)} prompt(s) written to {parsed.export}", file=sys.stderr)


def _recordings(command: str, args: list[str]) -> None:
    from unstuck.llm import import_batch
    from unstuck.run import Run
    from unstuck.stages.explain import recordings_of

    parsed = _parse(RecordingsArgs, command, args)
    recordings = recordings_of(Run(parsed.run))
    if parsed.action == "list":
        for r in recordings.all():
            print(f"{r.key}  {r.created}  {r.model}  {r.provenance}  {len(r.reply)} characters")
        for request in recordings.pending():
            print(f"{request.key}  waits for a reply")
    elif parsed.action == "import":
        if parsed.replies is None:
            raise UnstuckError("name the file of replies: unstuck recordings import RUN replies.jsonl")
        options = {"provenance": parsed.provenance, "model": parsed.model, "created": parsed.date}
        summary = import_batch(parsed.replies, recordings, **options)
        print(summary.words())
        if summary.problems:
            raise SystemExit(2)
    else:
        raise UnstuckError(f"{parsed.action!r} is neither `list` nor `import`")


def _describe(command: str, args: list[str]) -> None:
    from unstuck import tasks

    parsed = _parse(DescribeArgs, command, args)
    env = _env_of(parsed)
    describer = tasks.describer_for(env, card=parsed.card)
    _print_card(describer.card)
    print(f"\nStates (seed {parsed.seed}, random play):")
    env.action_space.seed(parsed.seed)
    obs, _ = env.reset(seed=parsed.seed)
    for i in range(parsed.states):
        print(f"  {i}: {tasks.describe_state(describer, obs)}")
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            obs, _ = env.reset()
    env.close()


def _print_card(card: Any) -> None:
    limit = f" Time limit: {card.max_episode_steps} steps." if card.max_episode_steps else ""
    print(f"{card.env_id}\n\nGoal: {card.goal}\nReward: {card.reward}\nEnds: {card.termination}{limit}")
    print(f"Actions ({card.action.kind}): {', '.join(card.action.legend)}\n\nVariables:")
    for v in card.variables:
        bounds = f" in [{v.low:g}, {v.high:g}]" if v.low is not None and v.high is not None else ""
        print(f"  {v.name}{f' ({v.unit})' if v.unit else ''}{bounds}: {v.description}")


def _card(command: str, args: list[str]) -> None:
    from unstuck import tasks

    parsed = _parse(EnvArgs, command, args)
    env = _env_of(parsed)
    print(tasks.card_to_toml(tasks.describer_for(env, card=parsed.card).card), end="")
    env.close()


def _env_of(parsed: Any) -> Any:
    from unstuck import tasks

    return tasks.make_env(parsed.env, _json_object(parsed.env_kwargs, "--env-kwargs"), parsed.import_module)


def _check_env(command: str, args: list[str]) -> None:
    from functools import partial

    from unstuck import tasks
    from unstuck.checks import check_env

    parsed = _parse(CheckArgs, command, args)
    kwargs = _json_object(parsed.env_kwargs, "--env-kwargs")
    make_env = partial(tasks.make_env, parsed.env, kwargs, parsed.import_module)
    env = make_env()
    describer = tasks.describer_for(env, card=parsed.card)
    actor = None
    if parsed.agent is not None:
        from unstuck.agents import Actor, build_policy, check_fits, load_agent

        agent = load_agent(parsed.agent, vecnormalize=parsed.vecnormalize, trust=parsed.trust)
        check_fits(agent, env.observation_space, env.action_space, parsed.env)
        policy = build_policy(agent, env.observation_space, env.action_space)
        actor = Actor(policy, agent.normalization, env.action_space)
    env.close()
    seeds = range(max(1, parsed.seeds))
    report = check_env(make_env, describer, seeds=seeds, steps=parsed.steps, states=parsed.states, actor=actor)
    print(report.words())
    if not report.ok:
        raise SystemExit(1)


def _demo(command: str, args: list[str]) -> None:
    from unstuck.demo import demo_run

    parsed = _parse(DemoArgs, command, args)
    progress = _progress()
    _finish(demo_run(parsed.run, progress), progress)


COMMANDS = {
    "refine": Command("All stages on a stuck agent, one command.", _refine),
    "collect": Command("Run the stuck agent and keep its episodes.", _collect),
    "explain": Command("Find the critical states, why the agent is stuck, and what to do.", _stage),
    "verify": Command("Try the advice in the simulator; keep what does no harm.", _stage),
    "train": Command("Refine the agent with PPO under guidance, and plain PPO beside it.", _stage),
    "evaluate": Command("Score agents without guidance, with intervals.", _stage),
    "report": Command("Write the run as one HTML page.", _stage),
    "prompt": Command("Show the exact prompts and an estimate, before anything is spent; or export them.", _prompt),
    "recordings": Command("List recorded exchanges; import replies to exported prompts.", _recordings),
    "describe": Command("Show what is known of a task, and how its states read in language.", _describe),
    "card": Command("Write a task card as TOML, to fill in.", _card),
    "check-env": Command("Check an environment: exact snapshots, a true card, what it costs.", _check_env),
    "demo": Command("The main job on an agent that ships with Unstuck.", _demo),
}


def usage() -> str:
    """The text of `unstuck --help`."""
    lines = [f"  {name:<11} {command.help}" for name, command in COMMANDS.items()]
    return (
        "usage: unstuck COMMAND ...\n\n"
        "Gets a stuck reinforcement-learning agent moving again, with a language model as its coach.\n\n"
        "  unstuck refine agent.zip --env Hopper-v5 --llm openai:MODEL\n\ncommands:\n"
        + "\n".join(lines)
        + "\n\n`unstuck COMMAND --help` lists a command's settings. Beside those:\n"
        "  --config FILE.toml   many settings at once, in the sections of the long names\n"
        "  --env-kwargs JSON    keyword arguments of gymnasium.make\n"
        + "".join(f"  {short:<20} short for {long}\n" for short, long in ALIASES.items())
    )


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits with 2 on an error that the user can act on, 130 when interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return
    if args[0] == "--version":
        from unstuck import __version__

        print(f"unstuck {__version__}")
        return
    _no_foreign_warnings()
    word, rest = args[0], [_unalias(a, args[0]) for a in args[1:]]
    try:
        if word not in COMMANDS:
            raise UnstuckError(
                f"there is no command {word!r}.{did_you_mean(word, COMMANDS)} `unstuck --help` lists them"
            )
        COMMANDS[word].call(word, rest)
    except ValidationError as error:
        from unstuck.guidance import validation_message

        _fail(f"a setting is not valid:\n{validation_message(error)}")
    except UnstuckError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where this one stood", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A full disk, a name that is too long: nothing that a traceback would explain. Finished stages are kept.
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")


def _no_foreign_warnings() -> None:
    """Gymnasium's remarks on environments would tear up the progress bars; they go on being shown from Python, and
    where the user set PYTHONWARNINGS. The worker processes read the variable."""
    if "PYTHONWARNINGS" in os.environ or sys.warnoptions:
        return
    import warnings

    modules = ("envs.registration", "utils.passive_env_checker", "core", "spaces.box", "spaces.utils")
    os.environ["PYTHONWARNINGS"] = ",".join(f"ignore:::gymnasium.{m}" for m in modules)
    warnings.filterwarnings("ignore", module="gymnasium")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2) from None


def _unalias(word: str, command: str) -> str:
    name, equals, value = word.partition("=")
    aliases = {"--import": "--import-module"} if command in _OF_ENV else ALIASES
    return aliases.get(name, name) + equals + value
