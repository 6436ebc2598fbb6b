"""Pictures that go with a prompt: PNG files beside the recordings, each known by its digest."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from unstuck.errors import LLMError
from unstuck.files import write_whole

FOLDER = "pictures"
TOKENS = 1_600
"""Counted for one in estimates: the most that Anthropic bills for a picture, and more than most others do."""
MOST_BYTES = 20 * 2**20
"""Of one picture: more than services take, and far more than any that is drawn."""
_PNG = b"\x89PNG\r\n\x1a\n"


def save_picture(folder: Path, png: bytes) -> str:
    """Keep a picture beside the recordings of a folder; its digest.

    Raises:
        LLMError: if it is no PNG, or cannot be written.
    """
    if not png.startswith(_PNG):
        raise LLMError("a picture for a prompt must be a PNG")
    digest = hashlib.sha256(png).hexdigest()
    path = folder / FOLDER / f"{digest}.png"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, png)
    except OSError as error:
        raise LLMError(f"cannot write {path}: {error.strerror or error}. Make the folder writable.") from error
    return digest


def read_picture(folders: Iterable[Path], digest: str) -> bytes:
    """The bytes of a picture, from the first folder that has it.

    Raises:
        LLMError: if none has it, or it is damaged, or too large.
    """
    for folder in folders:
        path = folder / FOLDER / f"{digest}.png"
        if path.is_file():
            if path.stat().st_size > MOST_BYTES:
                raise LLMError(f"{path} is larger than {MOST_BYTES >> 20} MiB; delete it, and the next run draws it.")
            png = path.read_bytes()
            if hashlib.sha256(png).hexdigest() != digest:
                raise LLMError(f"{path} is damaged: its name is not its digest. Delete it, and the next run draws it.")
            return png
    raise LLMError(f"the picture {digest[:12]}… is in none of the folders of recordings; the next run draws it again")


def data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
