"""Explain: why the agent is stuck, the states that matter, and what to do there.

* `llm.py`: asks a language model; `facts.py`, `summary.py` and `prompt.py` make the prompt, `reply.py` reads the reply.
* `search.py`: without a language model; value drops for where, search in the simulator for what.
* `mask.py`: trains a mask network, as StateMask and RICE do. `scramble.py`: random controls.
* `views.py`: episodes in named variables, which all look at.

The stage itself knows none of them: `unstuck.explainers` finds the one that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unstuck.explainers import Explainer, explainer_class, make_explainer
from unstuck.explainers.llm.recordings import RECORDINGS_VARIABLE, recordings_of
from unstuck.guidance import Guidance, load_guidance, save_guidance
from unstuck.llm import Request
from unstuck.methods import METHODS
from unstuck.progress import Progress
from unstuck.run import Draft, Run, alone, digest
from unstuck.workspace import Workspace

__all__ = ["RECORDINGS_VARIABLE", "asks", "chosen_explainer", "explain", "fingerprint", "prompts", "recordings_of"]


@alone
def explain(run: Run, progress: Progress | None = None, *, model: Any = None) -> Guidance:
    """Find critical states and advice from the collected episodes, and write RUN/advice.json.

    Args:
        model: any pydantic-ai model in place of the one configured; for tests.

    Raises:
        RunError: if nothing has been collected.
        NoRecordingError: in recorded mode, if the prompt has no reply; names the prompt.
        BudgetError, LLMError: if the model cannot be asked, or gives no usable reply.
    """
    progress = progress or Progress.silent()
    space = Workspace(run)
    name = chosen_explainer(run)
    explainer = make_explainer(name, space, model)
    mark = _mark(explainer)
    fresh = asks(run) and run.config.llm.fresh
    if run.done("explain", mark) and run.advice_path.exists() and not fresh:
        return load_guidance(run.advice_path, space.describer.card)
    if not asks(run):
        hint = "; name one with --llm MODEL" if _wanted(run) in ("auto", "none") else ""
        progress.say(f"explain: without a language model ({explainer.announce()}){hint}")
    with run.stage("explain", mark) as draft, progress.task("explain", None) as bar:
        bar.note(explainer.announce())
        explainer.tell(progress.say)
        found = explainer.explain()
        if found.guidance.provenance.model:
            bar.note(f"reply of {found.guidance.provenance.model}")
        for file, content in found.files.items():
            (draft.folder / file).write_bytes(content)
        save_guidance(found.guidance, draft.folder / "advice.json")
        draft.publish.append(("advice.json", "advice.json"))
        _leave_opinions(run, found.opinions, draft)
        draft.env_steps = found.env_steps
        draft.facts = {"explainer": name, **found.facts}
    for sentence in draft.kept_words():
        progress.warn(sentence)
    for sentence in found.guidance.provenance.dropped:
        progress.say(f"explain: left out: {sentence}")
    for note in found.facts.get("notes", ()):
        progress.say(f"explain: {note}")
    if "calls" in found.facts:
        progress.say(f"explain: {_spent_words(found.facts)}")
    return found.guidance


def _leave_opinions(run: Run, opinions: Sequence[Guidance], draft: Draft) -> None:
    """Further opinions as RUN/guidance-2.json and so on; those of an earlier explanation go."""
    for old in run.opinion_paths:
        old.unlink()
    for number, guidance in enumerate(opinions, 2):
        save_guidance(guidance, draft.folder / f"guidance-{number}.json")
        draft.publish.append((f"guidance-{number}.json", f"guidance-{number}.json"))


def _spent_words(facts: dict[str, Any]) -> str:
    """What the language model was asked for, and what it cost."""
    calls, replayed, cost = facts.get("calls", 0), facts.get("replayed", 0), facts.get("spent_usd")
    parts = [f"{calls} call{'' if calls == 1 else 's'}"] if calls or not replayed else []
    parts += [f"{replayed} recorded repl{'y' if replayed == 1 else 'ies'}"] if replayed else []
    price = "at an unknown price" if cost is None else f"${cost:.4f} spent"
    tokens = f"{facts.get('tokens_in', 0):,} tokens in, {facts.get('tokens_out', 0):,} out"
    several = f"; {facts['opinions']} opinions" if facts.get("opinions", 1) > 1 else ""
    return f"{', '.join(parts)}; {tokens}; {price}{several}"


def prompts(run: Run) -> list[Request]:
    """Exactly what a language model would be asked, without asking. Needs collected episodes, and no model.

    Where the configured explainer asks none, what the one that does would ask.
    """
    name = chosen_explainer(run) if asks(run) else "llm"
    return make_explainer(name, Workspace(run)).requests()


def chosen_explainer(run: Run) -> str:
    """What the configuration comes to, `auto` resolved: what the method needs, else a language model if there is one,
    else the search; a race, whose other treatments need no explanation, then does without."""
    wanted, spec = _wanted(run), METHODS[run.config.train.method]
    if wanted in ("auto", "none"):
        without = "search" if spec.race is None else "nothing"
        return without if run.config.llm.is_none else "llm"
    return wanted


def _wanted(run: Run) -> str:
    """What is asked for, or what the method needs."""
    wanted = run.config.explain.explainer
    return METHODS[run.config.train.method].explainer if wanted == "auto" else wanted


def asks(run: Run) -> bool:
    """Whether the run's explainer asks a language model."""
    return explainer_class(chosen_explainer(run)).asks(run.config.explain)


def fingerprint(run: Run, space: Workspace | None = None) -> str:
    """What the advice depends on. A changed prompt asks anew; a changed timeout or cap does not."""
    return _mark(make_explainer(chosen_explainer(run), space or Workspace(run)))


def _mark(explainer: Explainer) -> str:
    collected = explainer.space.run.record("collect").fingerprint
    return digest(collected, explainer.settings.model_dump(mode="json"), explainer.name, *explainer.depends())
