"""What several commands share: their arguments, and the settings of a run as flags.

Importing this brings pydantic and tyro, but neither torch nor gymnasium.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import BaseModel, ValidationError, create_model

from unstuck.commands.talk import TALK
from unstuck.config import RunConfig
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from unstuck.progress import Progress
    from unstuck.run import Run

Positional = tyro.conf.Positional
_Flat = tyro.conf.arg(name="")


@dataclass
class OfRun:
    """Work on a run folder."""

    run: Annotated[Path, Positional]
    """The run folder."""
    trust_run: bool = False
    """Confirm what a run folder from elsewhere would import, run or send your key to; remembered."""

    def open(self) -> Run:
        """The run folder, confirmed if the user says so."""
        from unstuck.run import Run

        return Run(self.run, trust=self.trust_run)


Stage = Literal["collect", "explain", "verify", "train", "evaluate"]


@dataclass
class OfStage(OfRun):
    """Do a stage of a run."""

    redo: tuple[Stage, ...] = ()
    """Do these stages anew, though they are done."""


@dataclass
class OfAgent:
    """Work on a saved agent."""

    agent: Annotated[str, Positional]
    """The stuck agent: an SB3 zip, a folder of RL Zoo, one on the hub (hf://USER/NAME), or one that ships with Unstuck
    (`unstuck agents`)."""
    run: Path | None = None
    """The run folder; by default runs/AGENT-ENV. A run that is there goes on."""
    trust_run: bool = False
    """Confirm what a run folder from elsewhere would import, run or send your key to; remembered."""
    redo: tuple[Stage, ...] = ()
    """Do these stages anew, though they are done."""


def progress() -> Progress:
    """Bars on a terminal, lines elsewhere, on the standard error; nothing with --quiet."""
    from unstuck.progress import Progress
    from unstuck.terminal import console

    return Progress.silent() if TALK.quiet else Progress(console(stderr=True))


CATCH: Callable[[Any, str, list[str]], Any] | None = None
"""Called in place of parsing by what only wants to know what a command takes."""


def parse(kind: Any, command: str, args: list[str]) -> Any:
    """The dataclass `kind`, filled in from the arguments. Prints the help or what is wrong with them, and exits."""
    if CATCH is not None:
        return CATCH(kind, command, args)
    from unstuck.terminal import unprotected

    with unprotected():  # its help has colours; what it says of mistakes are the user's own words
        return tyro.cli(kind, prog=f"unstuck {command}", args=args)


def _options(sections: tuple[str, ...], saved: RunConfig) -> type[BaseModel]:
    """A model of some sections of the configuration, with a run's own settings as defaults."""
    fields: dict[str, Any] = {s: (RunConfig.model_fields[s].annotation, getattr(saved, s)) for s in sections}
    return create_model("Options", **fields)


def stage_args(base: type, sections: tuple[str, ...], saved: RunConfig, doc: str) -> Any:
    """The dataclass `base` with the flags of some sections of a run's settings, its own values as defaults."""
    options = _options(sections, saved)

    parts: list[Any] = [("options_", Annotated[options, _Flat], field(default_factory=options))]
    made = make_dataclass("Args", parts, bases=(base,))
    made.__doc__ = doc
    return made


def merged(config: RunConfig, options: BaseModel, **more: Any) -> RunConfig:
    """The settings with the parsed sections in place of theirs, and `more` values by section."""
    parts: dict[str, Any] = {name: getattr(options, name) for name in type(options).model_fields}
    for name, values in more.items():
        parts[name] = parts.get(name, getattr(config, name)).model_copy(update=values)
    return config.model_copy(update=parts)


def named(args: list[str], section: str) -> set[str]:
    """The fields of a section that flags among the arguments set, as Python has them."""
    flags = (word.partition("=")[0].removeprefix(f"--{section}.") for word in args if word.startswith(f"--{section}."))
    return {flag.removeprefix("no-").replace("-", "_").partition(".")[0] for flag in flags}


def given(args: list[str], saved: RunConfig | None = None) -> tuple[RunConfig, dict[str, Any] | None, list[str]]:
    """Take --config FILE and --env-kwargs JSON out of the arguments. What the file sets goes over `saved`."""
    saved, kwargs, rest = saved or RunConfig(), None, []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--config", "--env-kwargs"):
            value = value if equals else next(words, "")
            if not value:
                raise UnstuckError(f"{name} needs {'a TOML file' if name == '--config' else 'a JSON object'} after it")
        if name == "--config":
            saved = _over(saved, load_config(Path(value)))
        elif name == "--env-kwargs":
            kwargs = json_object(value, name)
        else:
            rest.append(word)
    return saved, kwargs, rest


def _over(saved: RunConfig, other: RunConfig) -> RunConfig:
    parts = {}
    for section in other.model_fields_set:
        new = getattr(other, section)
        parts[section] = getattr(saved, section).model_copy(update={f: getattr(new, f) for f in new.model_fields_set})
    return saved.model_copy(update=parts)


def load_config(path: Path) -> RunConfig:
    """Settings from a TOML file with the sections of `RunConfig`.

    Raises:
        UnstuckError: if it cannot be read, or a setting is unknown or invalid; names it.
    """
    from unstuck.bench.faults import explained
    from unstuck.files import parse_toml

    text = ""
    try:
        content = path.read_bytes()
        data, text = parse_toml(content), content.decode("utf-8-sig")
        return RunConfig.model_validate(data)
    except OSError as error:
        raise UnstuckError(f"cannot read the settings {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise UnstuckError(f"{path} has invalid settings:\n{explained(error, RunConfig, str(path), text)}") from error
    except ValueError as error:
        raise UnstuckError(f"{path} is not valid TOML: {error}") from error


def json_object(text: str, flag: str) -> dict[str, Any]:
    """The object that a flag gives as JSON.

    Raises:
        UnstuckError: if it is something else; names the flag.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnstuckError(f"{flag} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnstuckError(f"{flag} must be a JSON object, like '{{\"gravity\": -9.8}}'")
    return value
