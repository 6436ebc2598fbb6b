"""A Ray cluster: reached, and files that travel to it and back. No disk has to be shared."""

from __future__ import annotations

import io
import logging
import os
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unstuck.errors import UnstuckError

ARRIVED = ".parcel-"
"""How folders begin in which parcels are opened: beside their place, so that a move is no copy."""


def connected(address: str | None) -> Any:
    """Ray, connected: to this cluster, the one that RAY_ADDRESS names, or a new one of this machine alone.

    Raises:
        UnstuckError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise UnstuckError("--backend ray needs Ray: pip install 'unstuck[ray]'") from error
    if not ray.is_initialized():
        where = address or os.environ.get("RAY_ADDRESS")
        try:
            ray.init(address=where, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UnstuckError(f"cannot reach the Ray cluster at {address or 'RAY_ADDRESS'}: {error}") from error
    return ray


def pack(parts: Sequence[tuple[Path, str]]) -> bytes:
    """Files and folders, each with its name in the archive; what is not there is left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, name in parts:
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for file in files:
                if file.exists():
                    archive.write(file, f"{name}/{file.relative_to(path)}" if path.is_dir() else name)
    return buffer.getvalue()


def of_run(root: Path, without: Collection[str]) -> list[tuple[Path, str]]:
    """What of a run folder travels, for `pack`: all but these, drafts, and what is just arriving from elsewhere."""
    found = (p for p in sorted(root.iterdir()) if p.name not in without and not p.name.startswith(ARRIVED))
    return [(path, f"run/{path.name}") for path in found if not path.name.endswith(".draft")]


def unpack(parcel: bytes, folder: Path) -> None:
    """What `pack` made, below a folder."""
    zipfile.ZipFile(io.BytesIO(parcel)).extractall(folder)


@contextmanager
def opened(parcel: bytes, beside: Path) -> Iterator[Path]:
    """What `pack` made, in a folder that is gone afterwards; on the disk of `beside`, an existing folder."""
    with tempfile.TemporaryDirectory(prefix=ARRIVED, dir=beside) as folder:
        unpack(parcel, Path(folder))
        yield Path(folder)
