"""Cells: pieces of a stage's work, each kept in a folder of its own, so that a killed stage does not repeat them.

A cell is put in place when all of it is there. It counts only as long as what was left in it is whole, and is done
again otherwise: the stage that it belongs to has no inventory of it yet.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unstuck.documents import digest, read_json, write_json
from unstuck.errors import RunError
from unstuck.files import damage, inventory

DONE = "cell.json"


def cell(folder: Path, mark: str, work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returned, and left in the folder, the first time that it was done with this mark.

    Args:
        mark: fingerprint of all that the work depends on.
        work: gets the folder in which it may leave files; returns values for JSON.
    """
    if (found := kept(folder, mark)) is not None:
        return found
    # What is not whole, or of another mark, must not be read while it is made again.
    if folder.is_dir():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    begun = time.monotonic()
    found = work(draft)
    found["seconds"] = round(time.monotonic() - begun, 3)
    files = inventory(draft)
    write_json(draft / DONE, {"mark": mark, "found": found, "files": files, "whole": digest(found, files)})
    os.replace(draft, folder)
    return dict(read_json(folder / DONE)["found"])


def kept(folder: Path, mark: str) -> dict[str, Any] | None:
    """What a cell found, if it was done with this mark and is whole; else None."""
    try:
        held = read_json(folder / DONE)
    except RunError:
        return None
    if not isinstance(held, dict) or held.get("mark") != mark or not isinstance(held.get("found"), dict):
        return None
    files = held.get("files", {})  # cells of older versions have none, and say nothing of what is in this file itself
    if held.get("whole", whole := digest(held["found"], files)) != whole:
        return None
    if not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()) or damage(folder, files):
        return None
    return dict(held["found"])
