"""Files of a run folder: written whole or not at all, never through a link, known by their digest; and its lock."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from unstuck.errors import RunError

LOCK = ".lock"
MOST_TOML = 4 * 2**20
_LONG_KEY = re.compile(r"(?:\.[^\S\n]*[\w\"'-]+[^\S\n]*){64}")
PATIENCE = 2.0
"""Seconds to wait for a process that only writes a few bytes."""
_SAFE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all. What was there is replaced, also where it is a link: never what it points to.

    Raises:
        OSError: it cannot be written; nothing has changed then.
    """
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    partial = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.partial")
    try:
        with os.fdopen(os.open(partial, _SAFE, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def remove(path: Path) -> None:
    """Remove a folder with all that is in it; of a link, the link alone."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; call it only while holding its lock."""
    for left in (*folder.glob("*.partial"), *folder.glob(".*.partial")):
        with contextlib.suppress(OSError):
            left.unlink()


def file_digest(path: Path) -> str:
    """`SIZE:HASH` of a file; remembered as long as its size and time of change stay."""
    status = path.stat()
    return _digest(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=65536)
def _digest(path: str, size: int, changed: int, number: int) -> str:
    with open(path, "rb") as file:
        return f"{size}:{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}"


def weights_mark(path: Path) -> str:
    """A mark of the weights in an agent's zip: their names, sizes and checksums. It is the same for an agent that was
    made again; all else in the zip also holds times of day and addresses in memory. Of what is no zip, `SIZE:HASH`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((m.filename, m.file_size, m.CRC) for m in archive.infolist() if m.filename[-4:] == ".pth")
    except (zipfile.BadZipFile, NotImplementedError):
        return file_digest(path)
    return hashlib.sha256(repr(members).encode()).hexdigest()[:32]


def inventory(folder: Path) -> dict[str, str]:
    """Every file below a folder: its path from there, with slashes → `SIZE:HASH`."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())
    return {p.relative_to(folder).as_posix(): file_digest(p) for p in found}


def damage(folder: Path, listed: Mapping[str, str]) -> str:
    """The first file of an inventory that is missing or another one, in words; '' where all are whole."""
    if not folder.is_dir():
        return f"{folder} is missing"
    for name, mark in listed.items():
        path = folder / name
        if not stays_inside(name):
            return f"{name!r} is no file of a run folder"
        try:
            if path.is_symlink() or path.stat().st_size != int(mark.partition(":")[0]) or file_digest(path) != mark:
                return f"{path} was changed or damaged"
        except FileNotFoundError:
            return f"{path} is missing"
        except (OSError, ValueError) as error:
            return f"{path} cannot be read ({error})"
    return ""


def check_arrays(path: Path, most: int) -> None:
    """Refuse an .npz that would unpack to more than `most` bytes.

    Raises:
        ValueError: it would, or is no zip.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"no .npz: {error}") from error
    if size > most:
        raise ValueError(f"it would unpack to {size / 2**20:,.0f} MiB, more than {most >> 20:,} MiB")


def parse_toml(content: bytes) -> dict[str, Any]:
    """A TOML file's content as plain values.

    Raises:
        ValueError: if it is no TOML, nested too deep, or larger than anything that a person writes.
    """
    if len(content) > MOST_TOML:
        raise ValueError(f"it has {len(content) / 2**20:.1f} MiB, more than the {MOST_TOML >> 20} MiB that are read")
    text = content.decode("utf-8-sig")
    if _LONG_KEY.search(text):  # the parser's time grows with the square of a key's length
        raise ValueError("a key of more than 64 parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def stays_inside(name: str) -> bool:
    """Whether a path that a file names is a relative one that leads nowhere else, on any system."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return (
        bool(parts) and not name.startswith(("/", "\\")) and ".." not in parts and ":" not in name and "\0" not in name
    )


def links_outside(root: Path) -> Path | None:
    """The first symbolic link below a folder that leads out of it, or None."""
    real = os.path.realpath(root)
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path) and os.path.commonpath([real, os.path.realpath(path)]) != real:
                return Path(path)
    return None


class _Held:
    def __init__(self, lock: FileLock) -> None:
        self.lock, self.depth, self.process, self.thread = lock, 1, os.getpid(), threading.get_ident()


_HELD: dict[str, _Held] = {}
_GUARD = threading.Lock()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a folder for the length of the block: no other process, and no other thread, does so meanwhile. The system
    frees it when its holder ends, however that ends. Within the block it can be held again.

    Yields:
        whether it was not held by this thread before.

    Raises:
        RunError: another holds it; says who and since when.
    """
    key = os.path.realpath(folder)
    with _GUARD:
        mine = _HELD.get(key)
        inner = mine is not None and (mine.process, mine.thread) == (os.getpid(), threading.get_ident())
        if inner and mine is not None:
            mine.depth += 1
    if not inner:
        mine = _acquire(folder, key)
    assert mine is not None
    try:
        yield not inner
    finally:
        with _GUARD:
            mine.depth -= 1
            if not mine.depth:
                _HELD.pop(key, None)
                mine.lock.release()


def _acquire(folder: Path, key: str) -> _Held:
    lock = FileLock(os.path.join(key, LOCK), timeout=PATIENCE, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(_in_use(folder)) from error
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror or error}; choose another folder with --run") from error
    with _GUARD:
        mine = _HELD[key] = _Held(lock)
    with contextlib.suppress(OSError):
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        who = {"process": os.getpid(), "host": socket.gethostname(), "since": now, "command": sys.argv[:6]}
        # The lock's own file, which the lock opens without following links.
        with open(os.path.join(key, LOCK), "w", encoding="utf-8") as file:
            json.dump(who, file)
    return mine


def in_use(folder: Path) -> str:
    """Who works on a folder just now, in words; '' if nobody does. Nobody is kept waiting by asking."""
    with _GUARD:
        if os.path.realpath(folder) in _HELD:
            return "this process works on it"
    lock = FileLock(os.path.join(os.path.realpath(folder), LOCK), timeout=0, thread_local=False)
    try:
        with lock:
            return ""
    except Timeout:
        return _in_use(folder).partition(";")[0]
    except OSError:
        return ""


def _in_use(folder: Path) -> str:
    who = "another process"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        data = json.loads((folder / LOCK).read_text(encoding="utf-8")[:4000])
        host = "" if data["host"] == socket.gethostname() else f" on {str(data['host'])[:60]}"
        who = f"process {int(data['process'])}{host} since {str(data['since'])[:40]}"
    return f"{folder} is in use by {who}; wait until it has ended, or choose another folder"


def keep_edited(path: Path, written: Path, new: bytes) -> str:
    """Keep what a person made of a file that is about to be replaced.

    Args:
        path: the file that people edit.
        written: what a stage wrote there last; it need not exist.
        new: what is to be written.

    Returns:
        the name of the copy beside it; '' where there is nothing to keep, as nobody edited it or both say the same.
    """
    if not path.is_file():
        return ""
    now = path.read_bytes()
    if now == new or (written.is_file() and written.read_bytes() == now):
        return ""
    taken = (f"{path.stem}.edited-{i}{path.suffix}" for i in itertools.count(1))
    name = next(n for n in taken if not (path.with_name(n)).exists())
    write_whole(path.with_name(name), now)
    return name
