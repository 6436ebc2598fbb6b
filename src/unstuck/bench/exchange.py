"""Prompts that no recorded reply answers: out to a file, and the replies back in.

All go through one folder of recordings, the suite's, which can be committed beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unstuck.bench.runner import SuitePlan, prepare
from unstuck.bench.suite import SuiteError
from unstuck.llm import Recordings, Request, export_batch, import_batch
from unstuck.llm.batch import ImportSummary
from unstuck.rounds import later_rounds, waiting
from unstuck.run import Run


def export_prompts(plan: SuitePlan, path: Path) -> list[str]:
    """Write all prompts that still need a reply as batch JSONL, episodes collected first; returns their keys.

    Corrections of invalid replies (further turns of a conversation) are among them.

    Raises:
        SuiteError: if the suite has no folder for recordings.
    """
    store = _store(plan)
    prepare(plan, explain=False)
    unanswered: list[Request] = []
    for run in _asking(plan):
        known = _known(plan, run)
        asked = [*_prompts(run), *Recordings(run.root / "recordings").pending()]
        unanswered += _taken_over([request for request in asked if known.find(request) is None], known, store)
    for arm in _asking_later(plan):
        known = _known(plan, arm)
        corrections = [r for r in Recordings(arm.recordings_path).pending() if len(r.messages) > 1]
        asked = [*(request for _, request in waiting(arm)), *corrections]
        unanswered += _taken_over([request for request in asked if known.find(request) is None], known, store)
    return export_batch(unanswered, path, store, plan.suite.llm_config)


def import_replies(plan: SuitePlan, path: Path, *, provenance: str, model: str | None = None) -> ImportSummary:
    """Read replies into the suite's recordings. Explanations that a reply belongs to are made anew.

    Raises:
        LLMError: if the file cannot be read.
        SuiteError: if the suite has no folder for recordings.
    """
    store = _store(plan)
    conversations = {key: asked[0] for key in _keys(store) if (asked := store.asked(key)) is not None}
    summary = import_batch(path, store, provenance=provenance, model=model)
    openings = {conversations[key].messages[0].content for key in summary.stored if key in conversations}
    for run in _asking(plan):
        if "explain" in run.manifest.stages and any(r.messages[0].content in openings for r in _prompts(run)):
            run.manifest.stages.pop("explain")
            run.configure(run.config)  # writes the manifest
    for later in (round_ for arm in _asking_later(plan) for round_ in later_rounds(arm)):
        if later.advice_path.exists() and any(r.messages[0].content in openings for r in _prompts(later)):
            later.forget("explain")
            later.advice_path.unlink()  # the arm's training depends on it, and is done anew with it
    return summary


def _taken_over(requests: list[Request], known: Recordings, store: Recordings) -> list[Request]:
    """The requests, once the pictures that go with them lie with the suite's replies."""
    for digest in (picture for request in requests for picture in request.pictures):
        store.save_picture(known.picture(digest))
    return requests


def _keys(store: Recordings) -> list[str]:
    return [request.key for request in store.pending()]


def _store(plan: SuitePlan) -> Recordings:
    folder = plan.suite.recordings_folder
    if folder is None:
        raise SuiteError(
            'the suite names no folder for replies: add `recordings = "recordings"`, a folder from the suite\'s own'
        )
    return Recordings(folder)


def _asking(plan: SuitePlan) -> Iterator[Run]:
    """Run folders whose explainer asks a language model, with episodes collected."""
    seen = set()
    for arm in plan.arms():
        if not arm.explained or arm.source in seen or not (arm.source / "manifest.json").exists():
            continue
        seen.add(arm.source)
        run = Run(arm.source)
        if arm.asks and "collect" in run.manifest.stages:
            yield run


def _asking_later(plan: SuitePlan) -> Iterator[Run]:
    """Run folders of arms that ask a language model while they train: in later rounds, or when a race asks again."""
    for arm in plan.arms():
        later = arm.config.train.rounds > 1 or arm.config.race.feedback
        if arm.asks and later and (arm.root / "manifest.json").exists():
            yield Run(arm.root)


def _prompts(run: Run) -> list[Request]:
    from unstuck.stages.explain import prompts

    return prompts(run)


def _known(plan: SuitePlan, run: Run) -> Recordings:
    from unstuck.stages.explain import recordings_of

    folder = plan.suite.recordings_folder
    return Recordings([*recordings_of(run).folders, *([folder] if folder else [])])
