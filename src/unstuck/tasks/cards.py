"""Task cards as TOML files, for people who describe their own environment."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unstuck.errors import TaskError
from unstuck.tasks.card import TaskCard


def load_card(path: Path | str) -> TaskCard:
    """Read a card.

    Raises:
        TaskError: if it cannot be read, is no TOML, or is not a valid card; names the field.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"cannot read the card {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise TaskError(f"the card {path} is not valid TOML: {error}") from error
    try:
        return TaskCard.model_validate(data)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]).lstrip(".")
            lines.append(f"{place or 'the whole'}: {item['msg']}")
        raise TaskError(f"the card {path} is not valid:\n" + "\n".join(lines)) from error


def card_to_toml(card: TaskCard) -> str:
    """The card as TOML that `load_card` reads back to an equal card."""
    data = card.model_dump()
    variables, action = data.pop("variables"), data.pop("action")
    blocks = [_lines(data), "[action]\n" + _lines(action)]
    blocks += ["[[variables]]\n" + _lines(variable) for variable in variables]
    return "\n".join(blocks)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML string, except that TOML wants the delete character escaped as well.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return str(value)
