"""Where replies of language models are kept and looked for."""

from __future__ import annotations

import os
from pathlib import Path

from unstuck.llm import Recordings
from unstuck.run import Run

_PACKAGE = Path(__file__).parents[2]
SHIPPED = (_PACKAGE / "demo" / "recordings", _PACKAGE / "stuck" / "recordings")
"""Replies that come with the package: to the demo's prompt, and to those of agents that ship (`unstuck agents`)."""
RECORDINGS_VARIABLE = "UNSTUCK_RECORDINGS"
"""Environment variable: further folders of recordings, which are only read, separated as in PATH."""


def recordings_of(run: Run) -> Recordings:
    """The run's own recordings (of a later round, those of the run that it belongs to), which are written; then those
    named by UNSTUCK_RECORDINGS and those that come with the package, which are only read."""
    named = [Path(p) for p in os.environ.get(RECORDINGS_VARIABLE, "").split(os.pathsep) if p]
    return Recordings([run.recordings_path, *named, *(folder for folder in SHIPPED if folder.is_dir())])
