"""The stages on the command line: each on a run folder, `refine` and `demo` all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstuck.choosing import REFINE
from unstuck.commands import COMMANDS
from unstuck.commands.arguments import OfAgent, OfStage, given, merged, named, parse, progress, stage_args
from unstuck.commands.helping import short_help
from unstuck.commands.talk import as_json
from unstuck.config import RunConfig
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from unstuck.progress import Progress
    from unstuck.run import Run

ALL = ("task", "agent", "collect", "explain", "llm", "verify", "train", "race", "evaluate")


def refine(command: str, args: list[str]) -> None:
    """`unstuck refine`."""
    if {"-h", "--help"} & set(args):
        print(short_help(ALL))
        raise SystemExit(0)
    words = ["--help" if word == "--help-all" else word for word in args]
    saved, kwargs, args = given(words, REFINE)
    kind = stage_args(OfAgent, ALL, saved, "All stages: collect, explain, verify, train, evaluate, report.")
    parsed = parse(kind, command, args)
    from unstuck.pipeline import prepare

    run = _open(parsed, saved, kwargs, named=saved.train.model_fields_set | named(args, "train"))
    prepare(run, progress())
    _finish(run, progress())


def collect(command: str, args: list[str]) -> None:
    """`unstuck collect`."""
    from unstuck.stages.collect import collect

    saved, kwargs, args = given(args)
    if args and (Path(args[0]) / "manifest.json").exists():
        stage(command, args)
        return
    kind = stage_args(OfAgent, ("task", "agent", "collect"), saved, "Run the stuck agent and keep its episodes.")
    run = _open(parse(kind, command, args), saved, kwargs)
    episodes = collect(run, progress())
    if not as_json(lambda: _DATA["collect"](run, episodes)):
        _say_episodes(run, len(episodes))


def _open(parsed: Any, saved: RunConfig, kwargs: dict[str, Any] | None, *, named: Collection[str] | None = None) -> Run:
    from unstuck.pipeline import open_run

    more = {"agent": {"agent": parsed.agent}}
    if kwargs is not None:
        more["task"] = {"env_kwargs": kwargs}
    run = open_run(
        merged(saved, parsed.options_, **more), parsed.run, progress(), trust_run=parsed.trust_run, named=named
    )
    return _forgotten(run, parsed.redo)


def _forgotten(run: Run, stages: tuple[str, ...]) -> Run:
    for name in stages:
        run.forget(name)
    return run


SECTIONS = {
    "collect": ("collect",),
    "explain": ("explain", "llm"),
    "verify": ("verify",),
    "train": ("train", "race"),
    "evaluate": ("evaluate",),
    "report": (),
}


def stage(command: str, args: list[str]) -> None:
    """Run one stage on a run folder, with the run's own settings as defaults."""
    from unstuck.run import Run

    run = Run(args[0], trust="--trust-run" in args) if args and not args[0].startswith("-") else None
    saved, kwargs, args = given(args, run.config if run else None)
    if kwargs is not None:
        raise UnstuckError(
            f"the task of a run cannot be changed: --env-kwargs belongs to `unstuck collect`, not {command}"
        )
    parsed = parse(stage_args(OfStage, SECTIONS[command], saved, COMMANDS[command].help), command, args)
    run = _forgotten(run or parsed.open(), parsed.redo)
    import unstuck
    from unstuck.choosing import without_race

    run.configure(without_race(merged(run.config, parsed.options_)))

    if command == "explain":
        from unstuck.pipeline import take_recorded

        take_recorded(run, progress())
    if command == "train":
        from unstuck.pace import announcement

        if told := announcement(run):
            progress().say(told)
    result = getattr(unstuck, command)(run, progress())
    if command == "evaluate":
        from unstuck.stages.handover import hand_over

        hand_over(run)
    if not as_json(lambda: _DATA[command](run, result)):
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
    others = run.opinion_paths
    for path in others:
        _say_opinion(path)
    print(f"Read or edit {run.advice_path}, then: unstuck verify {run.root}")


def _say_opinion(path: Path) -> None:
    from unstuck.guidance import load_guidance

    other = load_guidance(path)
    print(f"{path.name}, by {other.provenance.model}: {other.diagnosis}")
    for advice in other.advice:
        print(f"  {advice.id}: {advice.why}")
    for term in other.reward_terms:
        print(f"  reward: {term.words()}")


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


_DATA: dict[str, Callable[[Run, Any], Any]] = {
    "collect": lambda run, _: {"run": run.root, **_record(run, "collect")},
    "explain": lambda run, found: {"run": run.root, "file": run.advice_path, "advice": found.model_dump(mode="json")},
    "verify": lambda run, found: {
        "run": run.root, **_record(run, "verify"), "file": run.guidance_path, "guidance": found.model_dump(mode="json"),
    },
    "train": lambda run, arms: {"run": run.root, "agents": arms},
    "evaluate": lambda run, _: _outcome_data(run),
    "report": lambda run, path: {"run": run.root, "report": path},
}  # fmt: skip
"""Results as plain data, for --json."""


def _record(run: Run, stage: str) -> dict[str, Any]:
    record = run.record(stage)
    return {"env_steps": record.env_steps, "seconds": record.seconds, "facts": record.facts}


def _outcome_data(run: Run) -> dict[str, Any]:
    from unstuck.results import VERDICT
    from unstuck.run import read_json
    from unstuck.stages.report.outcome import outcome

    found = asdict(outcome(run))
    verdict = run.root / VERDICT
    return {"run": run.root, **found, "verdict_file": read_json(verdict) if verdict.exists() else None}


def _finish(run: Run, shown: Progress) -> None:
    from unstuck.pipeline import run_stages

    shown.say(f"run folder: {run.root}")
    run_stages(run, shown)
    if not as_json(lambda: _outcome_data(run)):
        _print_outcome(run)


def _print_outcome(run: Run) -> None:
    from unstuck.stages.report.outcome import print_outcome
    from unstuck.terminal import console

    print_outcome(run, console(width_elsewhere=120))


@dataclass
class DemoArgs:
    """The main job on an agent that ships with Unstuck, with recorded replies of a language model."""

    run: Path = field(default_factory=lambda: Path("runs") / "demo")
    """The run folder."""


def demo(command: str, args: list[str]) -> None:
    """`unstuck demo`."""
    from unstuck.demo import demo_run
    from unstuck.pipeline import prepare

    parsed = parse(DemoArgs, command, args)
    shown = progress()
    run = demo_run(parsed.run, shown)
    prepare(run, shown)
    _finish(run, shown)
