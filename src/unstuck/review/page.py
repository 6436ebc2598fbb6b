"""The page and its parts as HTML: everything is escaped but plots, style sheet and script, which are made here."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unstuck.review.board import Board
from unstuck.review.live import live
from unstuck.run import Run
from unstuck.stages import report
from unstuck.stages.report import words

STATIC = Path(__file__).with_name("static")


@cache
def style() -> str:
    """The report's style sheet, and what the review has beside it."""
    shared = Path(report.__file__).with_name("templates") / "report.css"
    return "\n".join(p.read_text(encoding="utf-8") for p in (shared, STATIC / "review.css"))


@cache
def script() -> str:
    return (STATIC / "review.js").read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    env = Environment(
        loader=ChoiceLoader([PackageLoader("unstuck.review"), PackageLoader("unstuck.stages.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "minus": words.minus, "number": words.number, "percent": words.percent, "svg": Markup, "data": _data,
    }  # fmt: skip
    return env


def _data(value: Any) -> Markup:
    """JSON inside a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def page(board: Board) -> str:
    """The page of the server, which loads style sheet and script from beside it."""
    return _templates().get_template("review.html.j2").render(alone=False, csp="", css="", js="", **board.context())


def page_to_keep(board: Board) -> str:
    """The whole page in one file, which loads nothing and in which nothing can be decided."""
    mark = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{mark}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _templates()
        .get_template("review.html.j2")
        .render(alone=True, csp=policy, css=Markup(style()), js=Markup(script()), **board.context())
    )


def piece(board: Board, kind: str, key: str) -> str:
    """One piece of advice or term."""
    assert board.guidance is not None
    if kind == "term":
        shown = board.term(int(key), board.guidance.reward_terms[int(key)])
    else:
        shown = board.advice(next(a for a in board.guidance.advice if a.id == key))
    return str(_templates().get_template("pieces.html.j2").module.piece(shown))  # type: ignore[attr-defined]


def summary(board: Board) -> str:
    """The line of what was decided."""
    values = board.summary() | {"can_write": board.live and board.guidance is not None}
    return str(_templates().get_template("pieces.html.j2").module.summary(values))  # type: ignore[attr-defined]


def live_part(run: Run) -> str:
    """What happens in the run folder just now."""
    return str(_templates().get_template("pieces.html.j2").module.live(live(run)))  # type: ignore[attr-defined]
