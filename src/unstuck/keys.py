"""The user's own folder, and the key in it by which what was made on this machine is told from what was sent here."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from unstuck.errors import RunError

STATE_VARIABLE = "UNSTUCK_STATE_DIR"
"""Environment variable: the folder for what belongs to this user on this machine."""
_KEY_BYTES = 32


def state_dir() -> Path:
    """The user's own folder, outside any run: UNSTUCK_STATE_DIR, else the platform's place for such."""
    if given := os.environ.get(STATE_VARIABLE):
        return Path(given)
    from platformdirs import user_state_path

    return user_state_path("unstuck", appauthor=False)


def user_key(*, make: bool) -> bytes | None:
    """The user's key; made at the first need, readable by nobody else.

    Raises:
        RunError: if it has to be made and cannot.
    """
    path = state_dir() / "key"
    try:
        key = path.read_bytes()
        if len(key) >= _KEY_BYTES:
            return key
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RunError(
            f"cannot read {path}: {error.strerror or error}; set {STATE_VARIABLE} to a folder of yours"
        ) from error
    return _make_key(path) if make else None


def _make_key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix="key.")  # mode 0600
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        try:
            if _damaged(path):
                os.replace(partial, path)
            else:
                os.link(partial, path)  # of two processes, the first one's key is the key
        except FileExistsError:
            pass
        except OSError:
            os.replace(partial, path)  # a file system without links
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        return path.read_bytes()
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. What a run may import or send is sealed with a key kept "
            f"there; set {STATE_VARIABLE} to a folder that you can write"
        ) from error


def _damaged(path: Path) -> bool:
    """Whether there is a key that is none: another process may have made a whole one by now."""
    try:
        return len(path.read_bytes()) < _KEY_BYTES
    except FileNotFoundError:
        return False
