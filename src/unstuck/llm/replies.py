"""From a reply's text to a checked value. Nothing is repaired or guessed: what is not valid is said in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

T = TypeVar("T", bound=BaseModel)
Check = Callable[[T], list[str]]

MAX_PROBLEMS = 20
"""How many problems are sent back at most; more would bury the first ones."""
NOT_A_NUMBER = "(not a finite number)"


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What one reply says: a value, or what is wrong with it and the JSON as far as there is any."""

    value: T | None
    problems: tuple[str, ...] = ()
    raw: Any = None


def read_reply(text: str, output_type: type[T], check: Check[T] | None = None, *, cut_off: bool = False) -> Reading[T]:
    """Find the JSON object in a reply and validate it, first against the type, then with `check`.

    Prose and code fences around the object are let pass. Where the reply holds several objects side by side, the
    first valid one counts; if none is, the problems are said of the longest.
    """
    readings: list[tuple[int, Reading[T]]] = []
    for source in _objects(text):
        reading = _validate(source, output_type, check)
        if reading.value is not None:
            return reading
        readings.append((len(source), reading))
    if readings and not cut_off:
        return max(readings, key=lambda r: r[0])[1]
    if cut_off:
        return Reading(None, ("the reply was cut off at its longest length; make it shorter",))
    if "{" in text:
        return Reading(None, ("the JSON object is not complete: a closing brace is missing",))
    return Reading(None, ("the reply holds no JSON object",))


def _validate(source: str, output_type: type[T], check: Check[T] | None) -> Reading[T]:
    try:
        raw = json.loads(
            source, parse_constant=_no_constant, parse_float=_finite_float, object_pairs_hook=_unique_fields
        )
    except RecursionError:
        return Reading(None, ("the JSON is nested too deeply",))
    except ValueError as error:
        return Reading(None, (f"not valid JSON: {error}",), _leniently(source))
    try:
        value = output_type.model_validate(raw)
    except ValidationError as error:
        return Reading(None, _words(error), raw)
    problems = tuple(check(value)) if check else ()
    return Reading(None if problems else value, problems, raw)


def _leniently(source: str) -> Any:
    """The object for salvage, where only its numbers are at fault: each that is not finite becomes a text that no
    number field accepts, so that what contains it is dropped and the rest can stay. None if it is no JSON."""
    try:
        return json.loads(source, parse_constant=lambda _: NOT_A_NUMBER, parse_float=_finite_or_text)
    except (ValueError, RecursionError):
        return None


def _finite_or_text(digits: str) -> float | str:
    return value if math.isfinite(value := float(digits)) else NOT_A_NUMBER


def _objects(text: str) -> Iterator[str]:
    """The outermost `{...}` of a text, in order, by counting braces outside JSON strings. An object that never
    closes ends the search: what lies inside it is a part, not the reply."""
    start = text.find("{")
    while start >= 0:
        end = _closing_brace(text, start)
        if end is None:
            return
        yield text[start:end]
        start = text.find("{", end)


def _closing_brace(text: str, start: int) -> int | None:
    depth = 0
    for match in re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.end()
    return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON; use a finite number, or leave the field out")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large a number")
    return value


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"the field {twice!r} is given twice in one object")
    return fields


def _words(error: ValidationError) -> tuple[str, ...]:
    found = []
    for item in error.errors(include_url=False):
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]).lstrip(".")
        said = json.dumps(item["input"], ensure_ascii=False, default=str)
        given = "" if item["type"] == "missing" else f" (you gave {said if len(said) <= 80 else said[:80] + '…'})"
        found.append(f"{path or 'the object'}: {item['msg']}{given}")
    return tuple(found)


def retry_prompt(problems: tuple[str, ...]) -> str:
    """The turn that sends an invalid reply back with the reasons."""
    listed = "\n".join(f"- {p}" for p in problems[:MAX_PROBLEMS])
    more = f"\n- and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
    return (
        f"Your reply cannot be used as it is:\n{listed}{more}\n\n"
        "Reply again with the whole JSON object, in the format asked for above, with these points put right. "
        "Leave out what you cannot put right. Reply with the JSON object only."
    )
