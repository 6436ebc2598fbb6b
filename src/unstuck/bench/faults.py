"""What is wrong in a TOML file: the line, the field, and what may have been meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from unstuck.errors import did_you_mean


def explained(error: ValidationError, model: type[BaseModel], what: str, text: str = "") -> str:
    """What is wrong with data for `model`, a line each, with the place in the file's text and what may be meant."""
    lines = []
    for found in error.errors(include_url=False):
        loc = tuple(found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = f"there is no setting of this name.{did_you_mean(str(loc[-1]), _fields(model, loc[:-1]))}"
        lines.append(f"{where(Path(what), text, loc) if text else what + ': '}{'.'.join(map(str, loc))}: {message}")
    return "\n".join(lines)


def _fields(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The settings that a model has at a place of its data."""
    here: Any = model
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel) and part in here.model_fields:
            here = here.model_fields[str(part)].annotation
        inner = [a for a in get_args(here) if isinstance(a, type) and issubclass(a, BaseModel)]
        here = inner[0] if inner else here
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def where(path: Path, text: str, loc: tuple[Any, ...]) -> str:
    """`suite.toml, line 7: ` where the place is found in the text, else `suite.toml: `."""
    best = 0
    seen: dict[str, int] = {}
    table: tuple[Any, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            name = header[1]
            table = tuple(name.replace('"', "").split("."))
            if line.lstrip().startswith("[["):
                seen[name] = seen.get(name, -1) + 1
                table = (*table, seen[name])
            elif table[0] in seen:
                table = (table[0], seen[table[0]], *table[1:])
            place: tuple[Any, ...] = table
        elif key := re.match(r"\s*([A-Za-z0-9_.\"-]+)\s*=", line):
            place = (*table, *key[1].replace('"', "").split("."))
        else:
            continue
        common = min(len(place), len(loc))
        # The longest match is the nearest, of equal ones the first; a part of what is meant will do.
        if place[:common] == loc[:common] and common > best:
            found, best = number, common
    return f"{path}, line {found}: " if best else f"{path}: "
