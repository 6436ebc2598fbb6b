"""The run folder: each stage reads what the one before left, and writes its own artifact whole or not at all.

    RUN/manifest.json        what was asked for, and which stages are done
    RUN/agent/               the stuck agent, as given
    RUN/collect/             episodes
    RUN/recordings/          every exchange with a language model
    RUN/advice.json          what the explainer said (may be edited)
    RUN/guidance.json        what verification left of it (may be edited)
    RUN/train/ARM/SEED/      refined agents and learning curves
    RUN/rounds/ARM/SEED/N/   with several rounds: what the first trained, and a run folder for each later one
    RUN/evaluate/            scores
    RUN/agent.zip            the agent to use, and its statistics
    RUN/verdict.json         which it is, and how it compares
    RUN/report.html
    RUN/replay.gif           before and after, side by side; the report holds it

A stage is done when the manifest says so with the fingerprint of its settings and inputs, and what it left is there
and whole; that entry is written last. So a run that was killed goes on where it stood, a changed setting or an edited
file redoes what hangs on it and nothing else, and what was lost is made again. One process works on a folder at a time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel, ValidationError

from unstuck.config import RunConfig, TaskConfig
from unstuck.documents import digest, read_json, write_json
from unstuck.draft import Draft
from unstuck.errors import EnvironmentFaultError, RunError
from unstuck.files import (
    damage,
    file_digest,
    held,
    inventory,
    keep_edited,
    links_outside,
    remove,
    stays_inside,
    sweep,
    write_whole,
)
from unstuck.guidance import validation_message
from unstuck.manifest import FORMAT, Manifest, Round, StageRecord, claimed
from unstuck.trust import refusal, seal, sealed

__all__ = [
    "Draft",
    "Manifest",
    "Round",
    "Run",
    "StageRecord",
    "alone",
    "digest",
    "read_json",
    "write_json",
]

LOG_CHARACTERS = 1_000_000
"""Kept of the log of environments' faults."""


class Run:
    """A run folder that exists.

    Args:
        trust: confirm what its settings would import, run or send a key to; remembered.

    Raises:
        RunError: if the folder is no run, is damaged, is of a newer version, cannot be written, or claims more than
            data without being confirmed by this user (`unstuck.trust`).
    """

    def __init__(self, root: Path | str, *, trust: bool = False):
        self.root = Path(root)
        path = self.root / "manifest.json"
        if not path.exists():
            what = "has no manifest.json" if self.root.exists() else "does not exist"
            raise RunError(f"{self.root} is not a run folder: it {what}. `unstuck collect AGENT --env ID` makes one.")
        self._known = _stamp(path)
        self.manifest = self._read()
        if not os.access(self.root, os.W_OK):
            raise RunError(f"{self.root} cannot be written; choose another folder with --run")
        if link := links_outside(self.root):
            raise RunError(f"{link} is a link that leads out of the run folder; put what it points to in its place")
        found = self._claims()
        if trust:
            with self.held():
                self._save()
            for later in self.root.glob("rounds/*/*/*/manifest.json"):
                Run(later.parent, trust=True)
        elif not sealed(found, self.manifest.seals):
            raise RunError(refusal(f"The run folder {self.root}", found, "--trust-run"))

    def _read(self) -> Manifest:
        path = self.root / "manifest.json"
        data = read_json(path)
        if isinstance(data, dict) and isinstance(data.get("format"), int) and data["format"] > FORMAT:
            raise RunError(
                f"{self.root} was made by a newer Unstuck (run format {data['format']}, this one reads up to {FORMAT})."
                " Update Unstuck, or use another folder with --run; nothing was changed."
            )
        try:
            return Manifest.model_validate(data)
        except ValidationError as error:
            raise RunError(
                f"{path} is damaged:\n{validation_message(error)}\nPut back a copy of it, or delete it: the command "
                "that made the run then begins it anew in this folder."
            ) from error
        except RecursionError as error:
            raise RunError(f"{path} is damaged: nested too deep") from error

    @classmethod
    def create(cls, root: Path | str, config: RunConfig, agent_files: dict[str, Path], *, trust: bool = False) -> Run:
        """Make a run folder with a copy of the agent's files (`agent`, and `vecnormalize` if there is one).

        An existing run is opened instead if it holds the same agent on the same task; `trust` is as for opening it.
        """
        from unstuck import __version__

        root = Path(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with held(root):
                if (root / "manifest.json").exists():
                    run = cls(root, trust=trust)
                    run._same_job(config, agent_files)
                    run.configure(config)
                    return run
                sweep(root)
                (root / "agent").mkdir(exist_ok=True)
                for file in agent_files.values():
                    _copy(file, root / "agent" / file.name)
                manifest = Manifest(
                    unstuck=__version__,
                    created=_now(),
                    agent_file=f"agent/{agent_files['agent'].name}",
                    vecnormalize_file=f"agent/{vec.name}" if (vec := agent_files.get("vecnormalize")) else None,
                    inputs={f"agent/{f.name}": file_digest(root / "agent" / f.name) for f in agent_files.values()},
                    config=config,
                )
                manifest.seals = seal(claimed(root, manifest), {})
                write_json(root / "manifest.json", manifest.model_dump(mode="json"))
                return cls(root)
        except OSError as error:
            what = "it is a file" if root.is_file() else error.strerror or error
            raise RunError(f"cannot write the run folder {root}: {what}; choose another folder with --run") from error

    def __repr__(self) -> str:
        return f"Run({str(self.root)!r})"

    def _same_job(self, config: RunConfig, agent_files: dict[str, Path]) -> None:
        held, wanted = self.manifest.config.task, config.task
        # As long as nothing has come of the run, nothing hangs on the arguments that it was begun with.
        kwargs_differ = bool(self.manifest.stages) and held.env_kwargs != wanted.env_kwargs
        if held.env != wanted.env or kwargs_differ:
            raise RunError(f"{self.root} is a run on {_words(held)}; for {_words(wanted)} name another with --run")
        copies = {self.manifest.agent_file: agent_files["agent"]}
        if (vec := self.manifest.vecnormalize_file) and "vecnormalize" in agent_files:
            copies[vec] = agent_files["vecnormalize"]
        for name, given in copies.items():
            was = self.manifest.inputs.get(name) or (file_digest(copy) if (copy := self.root / name).is_file() else "")
            if was != file_digest(given):
                raise RunError(f"{self.root} is a run of another agent; give another folder with --run")
            if damage(self.root, {name: was}):
                _copy(given, self.root / name)

    def check_inputs(self) -> None:
        """Raises RunError if the copy of the agent's files is not what was given."""
        if found := damage(self.root, self.manifest.inputs):
            raise RunError(
                f"{found}; `unstuck refine AGENT --run {self.root}` with the agent that was given restores it"
            )

    def configure(self, config: RunConfig) -> None:
        """Take over changed settings for the stages to come."""
        with self.held():
            self.manifest.config = config
            self._save()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Work on the folder alone: what other processes did before is known, and none changes it meanwhile.

        Raises:
            RunError: if another process works on it; says which, and since when.
        """
        with held(self.root) as first:
            if first:
                sweep(self.root)
                if (stamp := _stamp(self.root / "manifest.json")) != self._known:
                    found = self._read()
                    if not sealed(claimed(self.root, found), found.seals):
                        raise RunError(f"{self.root} was changed by somebody else meanwhile; open it again")
                    # The settings stay what this process was told.
                    self.manifest, self._known = found.model_copy(update={"config": self.config}), stamp
            yield

    @property
    def config(self) -> RunConfig:
        return self.manifest.config

    @property
    def agent_path(self) -> Path:
        return self.root / self.manifest.agent_file

    @property
    def vecnormalize_path(self) -> Path | None:
        return self.root / self.manifest.vecnormalize_file if self.manifest.vecnormalize_file else None

    @property
    def recordings_path(self) -> Path:
        """Where exchanges with a language model are kept; later rounds keep theirs in the run they belong to."""
        later = self.manifest.round
        if later is not None:
            root = self.root.resolve()
            home = Path(os.path.normpath(root / later.outer.replace("\\", "/")))
            if root.is_relative_to(home / "rounds") and (home / "manifest.json").exists():
                return home / "recordings"
        return self.root / "recordings"

    @property
    def advice_path(self) -> Path:
        return self.root / "advice.json"

    @property
    def guidance_path(self) -> Path:
        return self.root / "guidance.json"

    @property
    def opinion_paths(self) -> list[Path]:
        """Opinions of the coach beside the first, in order: guidance-2.json, guidance-3.json and so on."""
        return sorted(self.root.glob("guidance-[0-9]*.json"), key=lambda p: (len(p.name), p.name))

    def _claims(self) -> dict[str, Any]:
        return claimed(self.root, self.manifest)

    def _save(self) -> None:
        # What is written now was confirmed when the folder was opened, or said by the user since.
        self.manifest.seals = seal(self._claims(), self.manifest.seals)
        try:
            write_json(self.root / "manifest.json", self.manifest.model_dump(mode="json"))
        except OSError as error:
            raise RunError(f"cannot write {self.root / 'manifest.json'}: {error.strerror or error}") from error
        self._known = _stamp(self.root / "manifest.json")

    def record(self, stage: str) -> StageRecord:
        """What a finished stage left.

        Raises:
            RunError: if it has not run; names the command.
        """
        if stage not in self.manifest.stages:
            command = stage.split("/")[0]
            raise RunError(f"{self.root}: the stage {command!r} has not run; `unstuck {command} {self.root}` runs it")
        return self.manifest.stages[stage]

    def need(self, stage: str) -> StageRecord:
        """The same, with what the stage left in its folder checked.

        Raises:
            RunError: if it has not run, or its files are missing or damaged; names the command.
        """
        record = self.record(stage)
        if found := self.damage(stage):
            command = stage.split("/")[0]
            raise RunError(f"{found}; `unstuck {command} {self.root}` makes it again")
        return record

    def damage(self, stage: str) -> str:
        """What of a finished stage's folder is missing or was changed, in words; '' if it is whole."""
        listed = self.manifest.stages[stage].files
        return damage(self.root / stage, listed or {})

    def done(self, stage: str, fingerprint: str) -> bool:
        """Whether the stage is done with just these settings and inputs, and what it left is there and whole.

        A copy for people to edit (advice.json, guidance.json) that is gone is put back.
        """
        record = self.manifest.stages.get(stage)
        if record is None or record.fingerprint != fingerprint:
            return False
        if found := self.damage(stage):
            logging.getLogger("unstuck").warning("%s; %s is done again", found, stage)
            return False
        for target, source in record.published.items():
            if not (self.root / target).exists() and (self.root / stage / source).is_file():
                _copy(self.root / stage / source, self.root / target)
        return True

    def forget(self, command: str) -> None:
        """Enter a stage (for `train`, all training runs and later rounds) as not done, so that it is done anew."""
        with self.held():
            stages = self.manifest.stages
            self.manifest.stages = {n: r for n, r in stages.items() if n.partition("/")[0] != command}
            self._save()
            if command == "train":
                remove(self.root / "rounds")

    def amend(self, stage: str) -> None:
        """Enter what is in a finished stage's folder now as what it left."""
        with self.held():
            self.manifest.stages[stage].files = inventory(self.root / stage)
            self._save()

    def note(self, stage: str, facts: dict[str, Any]) -> None:
        """Enter more facts of a finished stage."""
        with self.held():
            self.manifest.stages[stage].facts |= facts
            self._save()

    def draft(self, name: str) -> Draft:
        """An empty folder in which a stage writes until `commit`."""
        if not stays_inside(name):
            raise RunError(f"{name!r} cannot be a part of {self.root}: it leads out of it")
        folder = self.root / f"{name}.draft"
        try:
            remove(folder)
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"cannot write {folder}: {error.strerror or error}") from error
        return Draft(name, folder)

    def commit(self, draft: Draft, fingerprint: str, seconds: float) -> None:
        """Put the draft in place and enter the stage as done, in this order: the entry comes last."""
        with self.held():
            final = self.root / draft.name
            if self.manifest.stages.pop(draft.name, None):
                self._save()
            try:
                for source, target in draft.publish:
                    new = (draft.folder / source).read_bytes()
                    if kept := keep_edited(self.root / target, final / source, new):
                        draft.kept[target] = kept
                remove(final)
                os.replace(draft.folder, final)
                for source, target in draft.publish:
                    _copy(final / source, self.root / target)
                files = inventory(final)
            except OSError as error:
                raise RunError(f"cannot write {final}: {error.strerror or error}") from error
            self.manifest.stages[draft.name] = StageRecord(
                fingerprint=fingerprint,
                finished=_now(),
                seconds=round(seconds, 3),
                env_steps=draft.env_steps,
                facts=draft.facts,
                files=files,
                settings=self._section(draft.name),
                published={target: source for source, target in draft.publish},
            )
            self._save()

    def _section(self, stage: str) -> dict[str, Any]:
        section = getattr(self.config, stage.partition("/")[0], None)
        return section.model_dump(mode="json") if isinstance(section, BaseModel) else {}

    @contextlib.contextmanager
    def stage(self, name: str, fingerprint: str) -> Iterator[Draft]:
        """Work on a stage in a draft folder, which becomes RUN/name when the block ends without an error."""
        begun = time.monotonic()
        with self.held():
            draft = self.draft(name)
            yield draft
            self.commit(draft, fingerprint, time.monotonic() - begun)


Given = ParamSpec("Given")
Result = TypeVar("Result")


def alone(
    stage: Callable[Concatenate[Run, Given], Result],
) -> Callable[Concatenate[Run, Given], Result]:
    """A function of a run that works on its folder alone; see `Run.held`."""

    @functools.wraps(stage)
    def working(run: Run, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with run.held():
            try:
                return stage(run, *args, **kwargs)
            except EnvironmentFaultError as error:
                raise _logged(run, error) from error

    return working


def _logged(run: Run, error: EnvironmentFaultError) -> EnvironmentFaultError:
    """The same error, which names the file in the run folder that has the environment's own traceback."""
    if error.told or not error.trace:
        return error
    log = run.root / "faults.log"
    older = log.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:] if log.is_file() else ""
    write_whole(log, f"{older}{_now()} {error}\n{error.trace}\n")
    told = EnvironmentFaultError(f"{error}\nThe environment's own traceback is in {log}; what was done before is kept")
    told.trace, told.told = error.trace, True
    return told


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file is replaced."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns
    return 0, 0, 0


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all, in place of whatever is there, also where the folder is gone."""
    if target.is_dir():
        remove(target)
    if target.parent.is_file():
        target.parent.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, source.read_bytes())


def _words(task: TaskConfig) -> str:
    return f"{task.env} with {json.dumps(task.env_kwargs)}" if task.env_kwargs else task.env


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
