"""What a person decides in a review, done to the guidance file: the file that a person could edit by hand as well, read
by the same checks and written by the same writer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from unstuck.errors import GuidanceError, RunError, UnstuckError
from unstuck.files import file_digest
from unstuck.guidance import (
    Advice,
    Decision,
    Guidance,
    Term,
    Verdict,
    advice_problems,
    load_guidance,
    save_guidance,
    term_problems,
    validation_message,
)
from unstuck.run import Run
from unstuck.stages.report.words import verdict_numbers
from unstuck.stages.verify.starts import evidence_problem
from unstuck.tasks.card import TaskCard

Kind = Literal["advice", "term"]
Piece = Advice | Term
TRIED = ("when", "near", "evidence", "action", "hold", "kind")
"""Fields of advice on which its verdict hangs."""
NO_FILE = "none"
"""The revision where there is no file yet."""


class StaleError(UnstuckError):
    """The file was changed since the page was made."""


def target(run: Run) -> Path:
    """The file that is decided upon: guidance.json, or advice.json while nothing was verified."""
    return run.guidance_path if run.guidance_path.exists() else run.advice_path


def revision(path: Path) -> str:
    """Changes whenever the file's content does."""
    return file_digest(path).replace(":", "-") if path.exists() else NO_FILE


def read(run: Run, card: TaskCard | None) -> Guidance:
    """The guidance that is decided upon; an empty one where there is none yet.

    Raises:
        GuidanceError: the file is not valid or does not fit the card.
    """
    path = target(run)
    if not path.exists():
        return Guidance(env_id=run.config.task.env, diagnosis="No coach was asked: what is here a person wrote.")
    return load_guidance(path, card)


def parsed(kind: Kind, value: Any) -> Piece:
    """Advice or a term from JSON.

    Raises:
        GuidanceError: names the fields that are wrong.
    """
    try:
        return (Advice if kind == "advice" else Term).model_validate(value)
    except (ValidationError, RecursionError) as error:
        message = validation_message(error) if isinstance(error, ValidationError) else "nested too deep"
        raise GuidanceError(message) from error


def problems(piece: Piece, card: TaskCard | None, lengths: dict[int, int]) -> list[str]:
    """What does not fit the task or the collected episodes, in the sentences of the file's own checks.

    Args:
        lengths: index → steps of the collected episodes; empty where there are none.
    """
    if isinstance(piece, Term):
        return term_problems(piece, card, "this term") if card else []
    found = advice_problems(piece, card, piece.id) if card else []
    outside = evidence_problem(piece, lengths, piece.id) if lengths else ""
    return [*found, outside] if outside else found


@dataclass(frozen=True)
class Desk:
    """Where decisions are taken: a run, and what its task and episodes allow.

    Args:
        lengths: index → steps of the collected episodes.
    """

    run: Run
    card: TaskCard | None
    lengths: dict[int, int]

    def decide(self, seen: str, kind: Kind, key: str, decision: Decision | None) -> Guidance:
        """Accept or reject a piece; None takes the decision back.

        Args:
            seen: the revision that was looked at.
            key: a piece of advice's id, a term's place in the list.
        """
        if decision not in ("accepted", "rejected", None):
            raise UnstuckError(f"no such decision: {decision!r}")

        def change(piece: Piece) -> Piece:
            held = piece.decision if decision is None and piece.decision in ("edited", "written") else decision
            return piece.model_copy(update={"enabled": decision != "rejected", "decision": held})

        return self._change(seen, lambda g: _replaced(g, kind, key, change))

    def accept_rest(self, seen: str) -> Guidance:
        """Accept everything about which nobody has decided, as it is."""

        def accepted(pieces: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(
                p.model_copy(update={"decision": "accepted"}) if p.enabled and p.decision is None else p for p in pieces
            )

        def change(g: Guidance) -> Guidance:
            return g.model_copy(update={"advice": accepted(g.advice), "reward_terms": accepted(g.reward_terms)})

        return self._change(seen, change)

    def overrule(self, seen: str, key: str) -> Guidance:
        """Let advice into training that its verdict keeps out: a verdict is data that people may set."""

        def change(piece: Piece) -> Piece:
            assert isinstance(piece, Advice)
            was = piece.verdict
            told = f"; {numbers}" if (numbers := verdict_numbers(was)) else ""
            note = f"a person decided to use it; the simulator found it {was.status}{told}"
            verdict = was.model_copy(update={"status": "helpful", "note": note})
            return piece.model_copy(update={"enabled": True, "decision": "accepted", "verdict": verdict})

        return self._change(seen, lambda g: _replaced(g, "advice", key, change))

    def save(self, seen: str, kind: Kind, key: str | None, value: Any, *, first: bool = False) -> Guidance:
        """Put an edited piece in place of the one with this key, or add one that a person wrote.

        Args:
            key: None adds it.
            first: adds advice before all other, so that it counts where several apply.

        Raises:
            GuidanceError: it is not valid, or does not fit the task or the episodes; says where.
        """
        piece = parsed(kind, value)
        if found := problems(piece, self.card, self.lengths):
            raise GuidanceError("\n".join(found))

        def add(g: Guidance) -> Guidance:
            new = piece.model_copy(update={"decision": "written", "enabled": True})
            if isinstance(new, Term):
                return g.model_copy(update={"reward_terms": (*g.reward_terms, new)})
            new = new.model_copy(update={"verdict": Verdict(status="untested", note="a person wrote it")})
            return g.model_copy(update={"advice": (new, *g.advice) if first else (*g.advice, new)})

        if key is None:
            return self._change(seen, add)
        return self._change(seen, lambda g: _replaced(g, kind, key, lambda old: _edited(old, piece)))

    def remove(self, seen: str, kind: Kind, key: str) -> Guidance:
        """Take out a piece that a person wrote; what a coach said is rejected instead, and stays to be seen."""

        def change(piece: Piece) -> None:
            if piece.decision != "written":
                raise UnstuckError("only what a person wrote here can be removed; reject this instead")

        return self._change(seen, lambda g: _replaced(g, kind, key, change))

    def restore(self, seen: str, kind: Kind, key: str) -> Guidance:
        """Put a piece back as the stage that wrote the file left it."""
        original = self.original()
        if original is None:
            raise UnstuckError("the stage that wrote this file is not done, so there is nothing to put back")
        pieces: dict[str, Any] = {a.id: a for a in original.advice}
        if kind == "term":
            pieces = {str(i): t for i, t in enumerate(original.reward_terms)}
        if key not in pieces:
            raise UnstuckError(f"{key} was not in the file as the stage left it")
        return self._change(seen, lambda g: _replaced(g, kind, key, lambda _: pieces[key]))

    def original(self) -> Guidance | None:
        """The guidance as the stage that wrote it left it, or None."""
        stage = "verify" if target(self.run) == self.run.guidance_path else "explain"
        with contextlib.suppress(GuidanceError):
            return load_guidance(self.run.root / stage / target(self.run).name)
        return None

    def _change(self, seen: str, change: Callable[[Guidance], Guidance]) -> Guidance:
        """Read, change, check as a whole, write.

        Raises:
            StaleError: the file is another one than was looked at.
            RunError: another process works on the folder.
        """
        with self.run.held():
            path = target(self.run)
            if revision(path) != seen:
                raise StaleError(f"{path.name} was changed meanwhile; look at it as it is now, and decide again")
            changed = change(read(self.run, self.card))
            try:
                checked = Guidance.model_validate(changed.model_dump(mode="json"))
            except ValidationError as error:
                raise GuidanceError(validation_message(error)) from error
            try:
                save_guidance(checked, path)
            except OSError as error:
                raise RunError(f"cannot write {path}: {error.strerror or error}") from error
            return checked


def _edited(old: Piece, new: Piece) -> Piece:
    """The new one, marked; a verdict on something else does not stay."""
    decision = "written" if old.decision == "written" else "edited"
    changed: dict[str, Any] = {"decision": decision, "enabled": True}
    if isinstance(new, Advice) and isinstance(old, Advice):
        same = all(getattr(old, name) == getattr(new, name) for name in TRIED)
        verdict = old.verdict if same else Verdict(status="untested", note="edited by a person after it was tried")
        if not same and old.verdict.status == "untested":
            verdict = Verdict(status="untested", note="edited by a person")
        changed |= {"verdict": verdict, "id": old.id}
    return new.model_copy(update=changed)


def _replaced(g: Guidance, kind: Kind, key: str, change: Callable[[Piece], Piece | None]) -> Guidance:
    field = "advice" if kind == "advice" else "reward_terms"
    held: tuple[Any, ...] = getattr(g, field)
    keys = [a.id for a in held] if kind == "advice" else [str(i) for i in range(len(held))]
    if key not in keys:
        raise UnstuckError(f"there is no {'advice' if kind == 'advice' else 'reward term'} {key!r}")
    changed = [change(p) if k == key else p for k, p in zip(keys, held, strict=True)]
    return g.model_copy(update={field: tuple(p for p in changed if p is not None)})


def free_id(guidance: Guidance) -> str:
    """An id for what a person writes."""
    taken = {a.id for a in guidance.advice}
    return next(name for i in range(1, len(taken) + 2) if (name := f"p{i}") not in taken)
