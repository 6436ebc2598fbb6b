"""`unstuck bench`: methods × tasks × seeds, and the page that says what came of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unstuck.commands.arguments import Positional, parse
from unstuck.errors import RunError, UnstuckError

if TYPE_CHECKING:
    from rich.console import Console

    from unstuck.bench.runner import SuitePlan
    from unstuck.bench.suite import Suite

FAILED, UNANSWERED = 1, 3
"""Exit codes: something went wrong; nothing did, but replies of a language model are missing."""


@dataclass
class BenchArgs:
    """Compare methods on tasks at equal budgets. What is done stays done: the same command goes on.

    Exit code 1: a job failed. 3: none did, but prompts wait for replies.
    """

    suite: Annotated[Path, Positional]
    """The suite, a TOML file; docs/bench.md says what is in it."""
    out: Path | None = None
    """Folder of the runs; by default what the suite says, else runs/bench/NAME."""
    jobs: int = 0
    """Jobs at once, one core each; 0: one for each core."""
    backend: Literal["loky", "ray"] = "loky"
    """loky: processes of this machine. ray: a Ray cluster."""
    ray_address: str | None = None
    """Address of the Ray cluster, such as auto or 10.0.0.1:6379; by default RAY_ADDRESS, else a local one is begun."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    methods: tuple[str, ...] = ()
    """Only these methods."""
    seeds: tuple[int, ...] = ()
    """Only these seeds."""
    page: Path | None = None
    """Run nothing; write the results as a page, such as docs/results.md, with figures and raw data beside it."""
    export: Path | None = None
    """Run nothing but the stuck agents; write all prompts without a recorded reply as batch JSONL."""
    import_: Annotated[Path | None, tyro.conf.arg(name="import")] = None
    """Run nothing; read replies to exported prompts into the suite's recordings."""
    provenance: str = "batch import"
    """With --import: where the replies come from, stored with each."""
    model: str | None = None
    """With --import: the model that replied."""
    trust_suite: bool = False
    """Confirm what a suite from elsewhere would import, run or send your key to; remembered."""
    allow_unequal: bool = False
    """Show results of unequal budgets or different starting agents side by side; they are marked."""


def bench(command: str, args: list[str]) -> None:
    """`unstuck bench`."""
    from unstuck.bench.runner import make_plan
    from unstuck.bench.suite import load_suite
    from unstuck.terminal import console

    parsed = parse(BenchArgs, command, args)
    if sum(x is not None for x in (parsed.page, parsed.export, parsed.import_)) > 1:
        raise UnstuckError("--page, --export and --import are one each: give one at a time")
    suite = load_suite(parsed.suite)
    _confirm(suite, parsed)
    plan, gone = make_plan(suite, parsed.out, tasks=parsed.tasks, methods=parsed.methods, seeds=parsed.seeds)
    plan.workers, plan.backend, plan.address = parsed.jobs, parsed.backend, parsed.ray_address
    plan.allow_unequal = parsed.allow_unequal
    shown = console(stderr=True)
    for sentence in gone:
        shown.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if parsed.page is not None:
        _page(plan, parsed.page, _command(args))
    elif parsed.export is not None:
        _export(plan, parsed.export)
    elif parsed.import_ is not None:
        _import(plan, parsed)
    else:
        _run(plan, shown, _command(args))


def _confirm(suite: Suite, parsed: BenchArgs) -> None:
    """A suite is a file: what it claims beyond data has to be said by the user.

    Raises:
        RunError: if it is not; says what it would do.
    """
    from unstuck.bench.suite import agent_path, missing_agent
    from unstuck.files import file_digest
    from unstuck.trust import claims, confirm, confirmed, refusal

    for task in suite.tasks:
        if missing_agent(suite, task):
            continue
        path = agent_path(suite, task)
        inputs = {task.name: file_digest(path)} if task.trust and path.is_file() else {}
        found = claims(suite.config(task, suite.methods[0]), inputs)
        found |= suite.places_elsewhere()
        found.pop("caps", None)  # its author's caps stand beside its author's budgets; docs/bench.md says where
        if "card" in found and str(found["card"]).endswith(".toml"):
            found.pop("card")
        if parsed.trust_suite and found:
            confirm(found)
        elif not confirmed(found):
            raise RunError(refusal(f"The suite {parsed.suite} (task {task.name})", found, "--trust-suite"))


def _command(args: list[str]) -> str:
    import shlex

    return shlex.join(["unstuck", "bench", *args])


def _run(plan: SuitePlan, console: Console, command: str) -> None:
    from unstuck.bench.board import Board
    from unstuck.bench.results import write_results
    from unstuck.bench.runner import run_suite

    board = Board(plan, console)
    try:
        with board.shown():
            run_suite(plan)
    finally:
        if plan.out.is_dir():
            write_results(plan, command)
    _print_table(board)
    _finish(plan)


def _print_table(board: Any) -> None:
    from unstuck.terminal import console

    board.left, board.phase, board.total = {}, "", 0
    console(width_elsewhere=120).print(board.table())


def _finish(plan: SuitePlan) -> None:
    print(f"Results: {plan.out / 'results.jsonl'}; as a page: unstuck bench SUITE --page results.md")
    unanswered = {n: o for n, o in plan.failures.items() if o.status == "unanswered"}
    failed = {n: o for n, o in plan.failures.items() if o.status == "failed"}
    for name, outcome in failed.items():
        print(f"error: {name}: {outcome.error}{chr(10) + outcome.trace if outcome.trace else ''}", file=sys.stderr)
    for name in unanswered:
        print(f"no reply recorded: {name}", file=sys.stderr)
    if unanswered:
        print(
            "Prompts without a reply: --export prompts.jsonl writes them, --import replies.jsonl reads the replies",
            file=sys.stderr,
        )
    if failed:
        print(f"{len(failed)} failed; see {plan.out / 'failures.json'}", file=sys.stderr)
    if failed or unanswered:
        raise SystemExit(FAILED if failed else UNANSWERED)


def _export(plan: SuitePlan, path: Path) -> None:
    from unstuck.bench.exchange import export_prompts

    keys = export_prompts(plan, path)
    print(f"{len(keys)} prompt(s) without a reply written to {path}")
    if plan.failures:
        _finish(plan)


def _import(plan: SuitePlan, parsed: BenchArgs) -> None:
    from unstuck.bench.exchange import import_replies

    assert parsed.import_ is not None
    summary = import_replies(plan, parsed.import_, provenance=parsed.provenance, model=parsed.model)
    print(summary.words())
    if summary.problems:
        raise SystemExit(2)


def _page(plan: SuitePlan, path: Path, command: str) -> None:
    from unstuck.bench.page import write_page
    from unstuck.bench.results import ROWS, write_results
    from unstuck.bench.runner import check_equal

    if (plan.out / ROWS).exists():
        check_equal(plan)
        write_results(plan)
    written = write_page(plan, path, command)
    print(f"{path}, with {', '.join(written)}")
