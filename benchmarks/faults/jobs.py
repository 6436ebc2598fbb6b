"""The runs that are disturbed: small ones on toy tasks, with everything in them that a run can have."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SETTINGS = {
    "rounds": """
[task]
env = "UnstuckCorridor-v0"
import_module = "unstuck.testing"
env_kwargs = {length = 6}
[collect]
episodes = 4
max_steps = 200
[verify]
pairs = 2
max_steps = 300
episode_pairs = 2
[train]
steps = 4000
seeds = [1, 2]
n_envs = 2
n_steps = 64
batch_size = 64
n_epochs = 2
jobs = 2
late_checkpoints = 2
rounds = 2
[evaluate]
episodes = 2
before_episodes = 2
""",
    "small": """
[task]
env = "UnstuckCorridor-v0"
import_module = "unstuck.testing"
env_kwargs = {length = 6}
[collect]
episodes = 2
max_steps = 100
[explain]
search_steps = 200
[verify]
pairs = 2
max_steps = 100
episode_pairs = 0
[train]
steps = 1500
seeds = [1]
n_envs = 2
n_steps = 64
batch_size = 64
n_epochs = 2
jobs = 1
late_checkpoints = 1
[evaluate]
episodes = 1
before_episodes = 2
""",
    "race": """
[task]
env = "UnstuckPush-v0"
import_module = "unstuck.testing"
[collect]
episodes = 4
max_steps = 400
[train]
steps = 8192
seeds = [1]
method = "race"
n_envs = 8
n_steps = 32
batch_size = 64
critic_warmup = 200
jobs = 1
control = false
[race]
treatments = ["transplant", "afresh"]
[evaluate]
episodes = 2
before_episodes = 2
""",
}
KINDS = ("rounds", "race")
"""Those that are killed; `small` is for what needs many whole runs."""
AGENTS = {"rounds": "UnstuckCorridor-v0", "small": "UnstuckCorridor-v0", "race": "UnstuckPush-v0"}
MAIN = "from unstuck.cli import main; main()"
STAGES = ("collect", "explain", "verify", "train", "evaluate")
TIMES = frozenset({"seconds", "took", "finished", "created", "steps_per_second", "files", "inputs", "fingerprint",
                   "whole"})  # fmt: skip
"""Entries that tell the time of day, how long something took, or digests of these and of zips, whose members tell it
too."""
UNCOMPARED = frozenset({".lock", "report.html", "faults.log"})


class Job(NamedTuple):
    """A kind of run, and what comes of it undisturbed."""

    kind: str
    agent: Path
    settings: Path
    root: Path
    """The run folder that nothing disturbed."""
    seconds: float

    @property
    def expected(self) -> dict[str, str]:
        return results(self.root)

    def command(self, root: Path) -> list[str]:
        """What a user would type, for another run folder."""
        words = ["refine", str(self.agent), "--config", str(self.settings), "--run", str(root)]
        return [sys.executable, "-W", "ignore", "-c", MAIN, *words]


def undisturbed(folder: Path, kind: str) -> Job:
    """Make the agent, the settings and the undisturbed run of a kind; once for a folder."""
    from unstuck.testing import save_stuck_agent

    folder.mkdir(parents=True, exist_ok=True)
    agent, settings, root = folder / f"{kind}.zip", folder / f"{kind}.toml", folder / f"{kind}-undisturbed"
    took = folder / f"{kind}.seconds"
    if not agent.exists():
        save_stuck_agent(agent, AGENTS[kind])
    settings.write_text(SETTINGS[kind], encoding="utf-8")
    if not took.exists():
        shutil.rmtree(root, ignore_errors=True)
        begun = time.monotonic()
        code, said = finish(Job(kind, agent, settings, root, 0.0).command(root))
        if code:
            raise RuntimeError(f"the undisturbed run failed: {said[-2000:]}")
        took.write_text(str(time.monotonic() - begun), encoding="utf-8")
    return Job(kind, agent, settings, root, float(took.read_text(encoding="utf-8")))


def start(words: Sequence[str], **more: Any) -> subprocess.Popen[str]:
    """A process group of its own, so that its workers can be killed with it."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment,
        **more,
    )  # fmt: skip


def finish(words: Sequence[str], limit: float = 900.0) -> tuple[int, str]:
    """Run a command to its end: its exit status, and what it said to standard error."""
    process = start(words)
    try:
        said = process.communicate(timeout=limit)[1]
    except subprocess.TimeoutExpired:
        kill(process, whole=True)
        return -1, f"no end within {limit:.0f} s"
    return process.returncode, said


def kill(process: subprocess.Popen[str], *, whole: bool) -> None:
    """kill -9, of the process alone or with its workers."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


def results(root: Path) -> dict[str, str]:
    """A digest of every file of a run, without times of day: of agents their weights, of JSON its values."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(_content(path, root)).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in UNCOMPARED
    }


def _content(path: Path, root: Path) -> bytes:
    data = path.read_bytes().replace(str(root).encode(), b"RUN")
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:  # its members carry the time of day
                return archive.read("policy.pth")
        if path.suffix == ".json":
            return _untimed(json.loads(data))
        if path.suffix == ".jsonl":
            return b"\n".join(_untimed(json.loads(line)) for line in data.splitlines())
    except (ValueError, KeyError, zipfile.BadZipFile):
        pass
    return data


def _untimed(value: Any) -> bytes:
    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in TIMES}
        return [without(v) for v in value] if isinstance(value, list) else value

    return json.dumps(without(value), sort_keys=True).encode()


def difference(found: dict[str, str], expected: dict[str, str], *, more: bool = False) -> list[str]:
    """Names of files that are missing or others; where `more` is False also of those that should not be there."""
    wrong = [name for name in expected if found.get(name) != expected[name]]
    return wrong if more else wrong + [name for name in found if name not in expected]


def litter(root: Path) -> list[str]:
    """What should not be left behind."""
    patterns = ("*.partial", ".*.partial", "*.draft")
    return sorted(p.relative_to(root).as_posix() for pattern in patterns for p in root.rglob(pattern))


def moment(root: Path) -> str:
    """In which part of a run its process is, or was killed, from what it left."""
    try:
        done = set(json.loads((root / "manifest.json").read_bytes())["stages"])
    except (OSError, ValueError):
        return "opening"
    drafts = {p.relative_to(root).parts[0].removesuffix(".draft") for p in root.rglob("*.draft")}
    for stage in STAGES:
        if stage not in {name.partition("/")[0] for name in done} or stage in drafts:
            break
    else:
        return "report"
    if stage == "train" and list(root.glob("rounds/*/*/2/manifest.json")):
        return "second round"
    return "race" if stage == "train" and (root / "race").is_dir() else stage
