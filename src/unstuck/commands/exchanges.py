"""What goes between Unstuck and a language model: `prompt` and `recordings`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unstuck.commands.arguments import OfRun, Positional, parse
from unstuck.commands.talk import TALK, as_json
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from unstuck.llm import LLMConfig, Recording, Recordings, Request
    from unstuck.run import Run


@dataclass
class PromptArgs(OfRun):
    """Show the exact prompts and what they would cost, without asking anything.

    Where later rounds of the run wait for a reply, theirs.
    """

    export: Path | None = None
    """Write those that wait for a reply as batch JSONL to this file, corrections of invalid replies too."""
    format: Literal["chat", "responses", "anthropic"] = "chat"
    """With export: which service's batch file."""
    quiet: bool = False
    """Do not print the prompts themselves."""
    llm: Annotated[str | None, tyro.conf.arg(name="llm.model")] = None
    """The model to estimate the price for (short: --llm); by default the run's own."""


@dataclass
class RecordingsArgs:
    """See, import and discard a run's exchanges with language models."""

    action: Annotated[str, Positional]
    """`list`, `show`, `discard`, `import` or `export`."""
    run: Annotated[Path, Positional]
    """The run folder."""
    trust_run: bool = False
    """Confirm what a run folder from elsewhere would import, run or send your key to; remembered."""
    what: Annotated[str | None, Positional] = None
    """show, discard: a key, as `list` shows it. import: JSONL of a batch service's output as it comes, or lines
    {"custom_id": ..., "reply": ...}. export: the file to write what waits for a reply to."""
    provenance: str = "batch import"
    """With import: where the replies come from, stored with each whose line does not say it."""
    model: str | None = None
    """With import: the model that replied; by default what the prompt was exported for, or the reply says."""
    date: str | None = None
    """With import: the date of the replies (ISO); by default today."""
    format: Literal["chat", "responses", "anthropic"] = "chat"
    """With export: which service's batch file."""


def prompt(command: str, args: list[str]) -> None:
    """`unstuck prompt`."""
    from unstuck.llm import estimate_cost, estimate_request
    from unstuck.rounds import waiting
    from unstuck.stages.explain import prompts

    parsed = parse(PromptArgs, command, args)
    run = parsed.open()
    llm = run.config.llm if parsed.llm is None else run.config.llm.model_copy(update={"model": parsed.llm})
    rounds = waiting(run)
    requests = [request for _, request in rounds] or prompts(run)  # where later rounds wait, the first has its reply
    for later in {str(later.root): None for later, _ in rounds}:
        print(f"waits for a reply: {later}", file=sys.stderr)
    if not (parsed.quiet or TALK.quiet or TALK.json):
        for request in requests:
            print(request.text)
            for picture in request.pictures:
                print(f"with {run.recordings_path / 'pictures' / picture}.png")
    tokens = sum(estimate_request(r) for r in requests)
    cost = None
    if not (llm.is_none or llm.is_recorded):
        stated = llm.prices.cost(tokens, llm.max_output_tokens * len(requests))
        cost = stated if stated is not None else estimate_cost(llm.model, tokens, llm.max_output_tokens * len(requests))
    price = f"at most ${cost:.3f} with {llm.model}" if cost is not None else f"the price of {llm.model} is not known"
    if llm.is_none or llm.is_recorded:
        price = "name a model with --llm for the price"
    print(
        f"{len(requests)} prompt(s), about {tokens} tokens in, at most {llm.max_output_tokens} out each; {price}. "
        f"Keys: {', '.join(r.key for r in requests)}",
        file=sys.stderr,
    )
    as_json(
        lambda: {
            "prompts": [{"key": r.key, "text": r.text, "pictures": r.pictures} for r in requests],
            "tokens": tokens,
            "cost_usd": cost,
        }
    )
    if parsed.export:
        _export(run, requests, parsed.export, llm, parsed.format)


def _export(run: Run, requests: Sequence[Request], path: Path, llm: LLMConfig, style: str) -> None:
    """Write what waits for a reply: first questions, and corrections of invalid replies."""
    from unstuck.llm import export_batch
    from unstuck.stages.explain import recordings_of

    store = recordings_of(run)
    waiting = unanswered(store, requests, llm)
    if not waiting:
        print("Every prompt has its reply; `unstuck recordings list` shows them.", file=sys.stderr)
        return
    keys = export_batch(waiting, path, store, llm, style)  # type: ignore[arg-type]
    print(f"{len(keys)} prompt(s) written to {path}", file=sys.stderr)


def unanswered(store: Recordings, requests: Sequence[Request], llm: LLMConfig) -> list[Request]:
    """Those of the requests, and of the corrections of replies to them, that no reply answers."""
    openings = {r.messages[0].content for r in requests}
    asked = [*requests, *(r for r in store.pending() if len(r.messages) > 1 and r.messages[0].content in openings)]
    live = not (llm.is_none or llm.is_recorded)
    who = (llm.model, llm.base_url, llm.max_output_tokens) if live else (None, None, None)
    return [r for r in asked if store.find(r, *who) is None]


def recordings(command: str, args: list[str]) -> None:
    """`unstuck recordings`."""
    from unstuck.run import Run
    from unstuck.stages.explain import prompts, recordings_of

    parsed = parse(RecordingsArgs, command, args)
    if parsed.action not in ("list", "show", "discard", "import", "export"):
        raise UnstuckError(f"{parsed.action!r} is none of `list`, `show`, `discard`, `import` and `export`")
    run = Run(parsed.run, trust=parsed.trust_run)
    store = recordings_of(run)
    if parsed.action == "list" and as_json(lambda: _listed(store)):
        return
    if parsed.action == "list":
        _list(run, store)
        return
    if parsed.what is None:
        needs = "a key, as `unstuck recordings list RUN` shows it" if parsed.action in ("show", "discard") else "a file"
        raise UnstuckError(f"unstuck recordings {parsed.action} {parsed.run} needs {needs}")
    if parsed.action == "show":
        _show(store, parsed.what)
    elif parsed.action == "discard":
        _discard(run, store, parsed.what)
    elif parsed.action == "export":
        _export(run, prompts(run), Path(parsed.what), run.config.llm, parsed.format)
    else:
        _import(parsed, run, store)


def _list(run: Run, store: Recordings) -> None:
    from unstuck.llm import Budget

    own = store.all(writable_only=True)
    for r in own:
        print(_line(r))
    if others := len(store.all()) - len(own):
        print(f"({others} more are only read: those of the package, and of {_VARIABLE})")
    for r in store.discarded():
        print(f"{_line(r)}  (discarded)")
    for request in store.pending():
        print(f"{request.key}  waits for a reply{_lineage(request)}")
    budget = Budget(run.config.llm, store)
    calls = budget.ledger.calls()
    if calls:
        other = [f"{n} {word}" for state, word in _STATES if (n := sum(c.state == state for c in calls))]
        print(f"Spent: {budget.spent().words()}{'; of these ' + ', '.join(other) if other else ''}")


_STATES = (("refused", "refused by the service"), ("lost", "without an answer"), ("out", "interrupted or under way"))


def _line(r: Recording) -> str:
    cost = "" if r.cost_usd is None else f"  ${r.cost_usd:.4f}"
    tokens = "" if r.tokens_out is None else f"  {r.tokens_in or 0} tokens in, {r.tokens_out} out"
    end = f"  ({r.finish_reason})" if r.finish_reason not in (None, "stop") else ""
    sample = f"  sample {r.sample}" if r.sample else ""
    words = f"{r.key}  {r.created}  {r.model}  {r.provenance}  {len(r.reply)} characters"
    return f"{words}{sample}{tokens}{cost}{end}{_lineage(r.request)}"


def _lineage(request: Request) -> str:
    """Which exchange led to this one: a reply that is corrected, or of which it was told what came."""
    return f"  follows {request.parent}" if request.parent else ""


def _opening(request: Request) -> str:
    """The key of the conversation's first question: its lineage."""
    from unstuck.llm import key_for

    return key_for(request.messages[:1], request.sample)


def _named(store: Recordings, key: str) -> list[Recording]:
    """The replies whose key begins so.

    Raises:
        UnstuckError: if there is none, or the letters fit several keys.
    """
    found = [r for r in store.all() if r.key.startswith(key)]
    if not found or len({r.key for r in found}) > 1:
        what = "no reply has a key that begins" if not found else "several keys begin"
        raise UnstuckError(f"{what} with {key!r}; `unstuck recordings list RUN` shows them")
    return found


def _show(store: Recordings, key: str) -> None:
    pending = [r for r in store.pending() if key and r.key.startswith(key)]
    if len(pending) == 1 and not any(r.key.startswith(key) for r in store.all()):
        _conversation(pending[0])
        print("# waits for a reply")
        return
    for r in _named(store, key):
        _conversation(r.request)
        print(f"# reply of {r.model}{f' ({r.replied_by})' if r.replied_by else ''}, {r.created}, {r.provenance}")
        for note in r.notes:
            print(f"# {note}")
        print(r.reply)


def _conversation(request: Request) -> None:
    for message in request.messages:
        print(f"# {'asked' if message.role == 'user' else 'replied'}")
        print(message.content)
        for picture in message.pictures:
            print(f"# with pictures/{picture}.png")


def _discard(run: Run, store: Recordings, key: str) -> None:
    own = {r.file_name for r in store.all(writable_only=True)}
    found = [r for r in _named(store, key) if r.file_name in own]
    if not found:
        raise UnstuckError(f"{key}: that reply comes with the package or with {_VARIABLE}, and stays")
    for r in found:
        print(f"set aside: {store.set_aside(r)}")
    _explain_anew(run, [_opening(r.request) for r in found])
    print("What it cost goes on counting. The prompt can be asked again, or another reply imported.")


_VARIABLE = "UNSTUCK_RECORDINGS"


def _explain_anew(run: Run, openings: Sequence[str]) -> None:
    """Let the explanation that such replies belong to be made anew."""
    stage = run.manifest.stages.get("explain")
    if stage is not None and set(openings) & set(stage.facts.get("recordings", ())):
        run.manifest.stages.pop("explain")
        run.configure(run.config)  # writes the manifest
        print(f"Next: unstuck explain {run.root}")


def _import(parsed: RecordingsArgs, run: Run, store: Recordings) -> None:
    from unstuck.llm import import_batch

    path = Path(parsed.what or "")
    summary = import_batch(path, store, provenance=parsed.provenance, model=parsed.model, created=parsed.date)
    print(summary.words())
    asked = [store.asked(key) for key in summary.stored]
    _explain_anew(run, [_opening(found[0]) for found in asked if found is not None])
    if summary.problems:
        raise SystemExit(2)


def _listed(store: Recordings) -> dict[str, Any]:
    known = [
        {
            "key": r.key, "created": r.created, "model": r.model, "provenance": r.provenance,
            "follows": r.request.parent,
        }
        for r in store.all()
    ]  # fmt: skip
    return {"recorded": known, "waiting": [request.key for request in store.pending()]}
