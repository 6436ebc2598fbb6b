"""The head of a run: what was asked for, who confirmed what, and which stages are done. RUN/manifest.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from unstuck.config import RunConfig
from unstuck.documents import digest
from unstuck.files import stays_inside
from unstuck.trust import claims

FORMAT = 1


class StageRecord(BaseModel):
    """One finished stage."""

    model_config = ConfigDict(extra="forbid")
    fingerprint: str
    finished: str
    seconds: float
    env_steps: int = 0
    """Environment steps that the stage took: what it is charged in the budget."""
    facts: dict[str, Any] = {}
    files: dict[str, str] | None = None
    """What it left in its folder: path → SIZE:HASH. None in folders of older versions."""
    settings: dict[str, Any] = {}
    """Its own section of the settings, as it was done with."""
    published: dict[str, str] = {}
    """Name in the run folder → the file of the stage that was copied there."""


class Round(BaseModel):
    """Of a run that is a later round of another one."""

    model_config = ConfigDict(extra="forbid")
    number: int = Field(ge=2)
    outer: str = Field(pattern=r"^\.\.([/\\]\.\.){0,7}$")
    """The run folder to which it belongs, from its own."""
    trained: int | None = None
    """Environment steps for which its agent was trained so far; the file itself counts the last training only."""


class Manifest(BaseModel):
    """The head of a run."""

    model_config = ConfigDict(extra="forbid")
    format: int = FORMAT
    unstuck: str = ""
    created: str = ""
    agent_file: str = ""
    """Path of the copied agent, relative to the run folder."""
    vecnormalize_file: str | None = None
    inputs: dict[str, str] = {}
    """The agent's files as they were given: path → SIZE:HASH."""
    config: RunConfig = RunConfig()
    round: Round | None = None
    seals: dict[str, str] = {}
    """For each user who confirmed what the settings claim beyond data: the name of their key, and the seal."""
    stages: dict[str, StageRecord] = {}

    @field_validator("agent_file", "vecnormalize_file")
    @classmethod
    def _inside(cls, name: str | None) -> str | None:
        if name and not stays_inside(name):
            raise ValueError("leads out of the run folder")
        return name

    @field_validator("stages")
    @classmethod
    def _stage_names(cls, stages: dict[str, StageRecord]) -> dict[str, StageRecord]:
        wrong = [name for name in stages if not stays_inside(name)]
        wrong += [name for record in stages.values() for name in record.published if not stays_inside(name)]
        wrong += [name for record in stages.values() for name in record.published.values() if not stays_inside(name)]
        if wrong:
            raise ValueError(f"{wrong[0][:80]!r} leads out of the run folder")
        seeds = [parts[2] for name in stages if len(parts := name.split("/")) == 3]
        if odd := [seed for seed in seeds if not (seed.isascii() and seed.isdigit() and len(seed) <= 20)]:
            raise ValueError(f"{odd[0][:80]!r} is no seed")
        return stages


def claimed(root: Path, manifest: Manifest) -> dict[str, Any]:
    """What the manifest claims beyond data; see `unstuck.trust`."""
    names = [n for n in (manifest.agent_file, manifest.vecnormalize_file) if n]
    if not manifest.config.agent.trust:
        return claims(manifest.config, {})
    # What training left is loaded with trust too: the seal is of these very files, whose digests `need` checks.
    left = {f"stage {name}": digest(record.files or {}) for name, record in manifest.stages.items()}
    return claims(manifest.config, {n: digest(root / n) for n in names} | left)
