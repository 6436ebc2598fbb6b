"""JSON files, written whole and read within bounds; and fingerprints of values and files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from unstuck.errors import RunError
from unstuck.files import write_whole

MOST_BYTES = 64 * 2**20
"""Of a JSON file in a run folder."""
_HALF = re.compile(r"\\[uU][dD][89a-fA-F]")


def write_json(path: Path, data: Any) -> None:
    """Write whole or not at all."""
    write_whole(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises RunError if the file is missing, damaged, or larger than any that Unstuck writes."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RunError(f"{path} is larger than {MOST_BYTES >> 20} MiB; Unstuck writes no such file")
        text = path.read_bytes().decode("utf-8")
        data = json.loads(text)
        if _HALF.search(text):
            json.dumps(data, ensure_ascii=False).encode()  # halves of pairs can be read, but never be written again
        return data
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {error}") from error


def digest(*parts: Any) -> str:
    """A short hash of JSON-able values and of the contents of files given as Path."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            h.update(part.read_bytes() if part.exists() else b"missing")
        elif isinstance(part, BaseModel):
            h.update(part.model_dump_json().encode())
        else:
            h.update(json.dumps(part, sort_keys=True, default=str).encode())
        h.update(b"\0")
    return h.hexdigest()[:20]
