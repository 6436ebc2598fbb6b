"""A suite: which methods are compared, on which tasks, with which seeds, at which budget. One TOML file.

name = "smoke"
methods = ["ppo", "unstuck", "no-imitation"]
seeds = [1, 2, 3]
steps = 45_000

[[tasks]]
name = "mountaincar"
env = "MountainCar-v0"
agent = "demo"
reference = -110.0

[variants.no-imitation]
base = "unstuck"
train.guide.imitate = 0.0
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from unstuck.bench.faults import explained, where
from unstuck.config import Method, RunConfig
from unstuck.errors import UnstuckError, did_you_mean
from unstuck.files import parse_toml, stays_inside
from unstuck.hub import Address, fetch, is_address
from unstuck.llm.config import RECORDED, LLMConfig

DEMO = "demo"
"""Names the demo's agent where a path could stand."""
SECTIONS = ("collect", "explain", "verify", "train", "race", "evaluate")
GIVEN = {"steps": "`steps`", "seeds": "`seeds`", "method": "`methods`", "control": "`methods`", "name": "`methods`"}
"""Settings of training that the suite decides for all arms."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
METHODS: tuple[str, ...] = get_args(Method)


class SuiteError(UnstuckError):
    """A suite cannot be read, or what it asks for cannot be compared."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(_Strict):
    """Settings of stages over the defaults, by section, as in a settings file for `--config`."""

    collect: dict[str, Any] = {}
    explain: dict[str, Any] = {}
    verify: dict[str, Any] = {}
    train: dict[str, Any] = {}
    race: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}

    @field_validator("train")
    @classmethod
    def _not_given(cls, train: dict[str, Any]) -> dict[str, Any]:
        if taken := GIVEN.keys() & train.keys():
            names = ", ".join(f"train.{k} (set {GIVEN[k]} of the suite instead)" for k in sorted(taken))
            raise ValueError(f"cannot be set here: {names}")
        return train

    def overrides(self) -> dict[str, Any]:
        return {s: getattr(self, s) for s in SECTIONS if getattr(self, s)}


class SuiteTask(Settings):
    """One stuck agent on one task."""

    name: str = Field(pattern=NAME, max_length=60)
    agent: str
    """A path, from the suite's folder ($NAME is an environment variable); hf://USER/NAME; `demo`; or the name of a
    shipped agent, such as stuck/NAME."""
    env: str = ""
    """Gymnasium id; a shipped agent and a folder of RL Zoo know their own."""
    env_kwargs: dict[str, Any] = {}
    vecnormalize: Path | None = None
    import_module: str | None = None
    card: Path | None = None
    trust: bool = False
    reference: float | None = None
    """Return of a much better policy: a normalised score of 1. A shipped agent has its own."""
    steps: int | None = Field(default=None, ge=1)
    """Budget of each arm on this task, in place of the suite's."""
    optional: bool = False
    """Leave the task out, saying so, where the agent's file is not there, or no agent of this name ships."""


class Variant(Settings):
    """A method with other settings."""

    base: str
    steps: int | None = Field(default=None, ge=1)
    """Another budget; makes the comparison unequal, which is refused unless asked for."""
    note: str = ""
    """What it is, in a few words, for the page."""
    llm: dict[str, Any] = {}
    """Settings of the language model over the suite's, such as how many opinions it is asked for."""


class Suite(Settings):
    """All of it."""

    name: str = Field(pattern=NAME, max_length=60)
    methods: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    steps: int = Field(ge=1)
    """Budget of environment steps of each arm and seed, whatever they are spent on."""
    tasks: tuple[SuiteTask, ...] = Field(min_length=1)
    variants: dict[str, Variant] = {}
    llm: str | LLMConfig = RECORDED
    """A model, or `recorded`; or a table with all settings of the language model."""
    recordings: Path | None = None
    """Folder of recorded replies, from the suite's folder; `--import` writes there."""
    ours: str = "unstuck"
    """The method whose claim is judged."""
    control: str = "ppo"
    remarks: Path | None = None
    """A markdown file, from the suite's folder, that the page quotes after its verdict: what the numbers do not say."""
    out: Path | None = None
    """Where runs are kept; default: runs/bench/NAME, from the folder of the command."""
    _folder: Path = PrivateAttr(default=Path("."))

    @property
    def folder(self) -> Path:
        """The folder that the suite's relative paths start from."""
        return self._folder

    @property
    def llm_config(self) -> LLMConfig:
        return self.llm if isinstance(self.llm, LLMConfig) else LLMConfig(model=self.llm)

    @property
    def recordings_folder(self) -> Path | None:
        return self._folder / self.recordings if self.recordings else None

    @property
    def remarks_text(self) -> str:
        """What stands in the file of remarks; '' without one.

        Raises:
            SuiteError: if it cannot be read, or lies outside of the suite's folder: what it says is published.
        """
        if self.remarks is None:
            return ""
        if not (self._folder / self.remarks).resolve().is_relative_to(self._folder.resolve()):
            raise SuiteError(f"the remarks {self.remarks} lie outside of the suite's folder; put a copy into it")
        try:
            return (self._folder / self.remarks).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SuiteError(f"cannot read the remarks {self._folder / self.remarks}: {error}") from error

    def places_elsewhere(self) -> dict[str, str]:
        """Folders outside of what belongs to the suite, in which it would have something written."""
        found = {}
        if self.out is not None and not stays_inside(str(self.out)):
            found["out"] = str(self.out)
        near, recordings = self._folder.resolve().parent, self.recordings_folder
        if recordings is not None and not recordings.resolve().is_relative_to(near):
            found["recordings"] = str(self.recordings)
        return found

    def base(self, method: str) -> str:
        """The built-in method behind a name."""
        return self.variants[method].base if method in self.variants else method

    def budget(self, task: SuiteTask, method: str) -> int:
        variant = self.variants.get(method)
        return (variant and variant.steps) or task.steps or self.steps

    def config(self, task: SuiteTask, method: str) -> RunConfig:
        """The settings of one arm: defaults, then the suite's, the task's, and the variant's.

        Raises:
            SuiteError: if a setting is unknown or invalid; names it.
        """
        data: dict[str, Any] = {}
        given: list[tuple[str, Settings]] = [("", self), (f"tasks.{task.name}.", task)]
        if method in self.variants:
            given.append((f"variants.{method}.", self.variants[method]))
        for _, settings in given:
            data = _merged(data, settings.overrides())
        fixed = {"steps": self.budget(task, method), "seeds": self.seeds, "method": self.base(method)}
        name = {"name": method} if method in self.variants else {}
        data = _merged(data, {"train": {**fixed, **name, "control": False, "jobs": 1}})
        data["llm"] = self.llm_config.model_dump()
        if method in self.variants:
            data["llm"] = _merged(data["llm"], self.variants[method].llm)
        data["agent"], data["task"] = self._agent(task), self._task(task)
        try:
            return RunConfig.model_validate(data)
        except ValidationError as error:
            raise SuiteError(explained(error, RunConfig, f"the settings of {method!r} on {task.name!r}")) from error

    def _agent(self, task: SuiteTask) -> dict[str, Any]:
        vec = self._folder / task.vecnormalize if task.vecnormalize else None
        return {"agent": str(agent_path(self, task)), "vecnormalize": vec, "trust": task.trust}

    def _task(self, task: SuiteTask) -> dict[str, Any]:
        shipped = _shipped(task.agent)
        env = task.env or (shipped.task if shipped else "") or ("MountainCar-v0" if task.agent == DEMO else "")
        kwargs = task.env_kwargs or (shipped.env_kwargs if shipped else {})
        card = self._folder / task.card if task.card else None
        return {"env": env, "env_kwargs": kwargs, "import_module": task.import_module, "card": card}


def agent_path(suite: Suite, task: SuiteTask) -> Path:
    """The file of a task's stuck agent; one on the hub is fetched.

    Raises:
        UnstuckError: no agent of this name ships, or it cannot be fetched.
    """
    if is_address(task.agent):
        return _fetched(task.agent)
    if task.agent == DEMO:
        from unstuck.demo import AGENT

        return AGENT
    shipped = _shipped(task.agent)
    return shipped.path if shipped else suite.folder / Path(os.path.expandvars(task.agent)).expanduser()


@cache
def _fetched(address: str) -> Path:
    return fetch(Address.parse(address)).path


def missing_agent(suite: Suite, task: SuiteTask) -> str:
    """Why a task's agent cannot be had, or ''."""
    try:
        path = agent_path(suite, task)
    except UnstuckError as error:
        return str(error)
    try:
        if path.exists():
            return ""
    except (OSError, ValueError) as error:
        return f"{task.agent[:200]!r} is no path ({getattr(error, 'strerror', None) or error})"
    unset = re.search(r"\$\{?(\w+)", str(path))
    # Said as the suite has it: what is in an environment variable may be a secret, and this is written into pages.
    return f"the environment variable {unset[1]} is not set" if unset else f"there is no agent {task.agent}"


def reference(task: SuiteTask) -> float | None:
    """The return that counts as 1."""
    if task.reference is not None:
        return task.reference
    shipped = _shipped(task.agent)
    return shipped.reference.mean if shipped else None


def _shipped(agent: str) -> Any:
    from unstuck.stuck import PREFIX, stuck_agent

    return stuck_agent(agent) if agent.startswith(PREFIX) else None


def load_suite(path: Path) -> Suite:
    """Read and check a suite.

    Raises:
        SuiteError: if it cannot be read, or something in it is unknown, invalid or missing; names the line, the
            field, and what may have been meant.
    """
    try:
        content = path.read_bytes()
        data, text = parse_toml(content), content.decode("utf-8-sig")
    except OSError as error:
        raise SuiteError(f"cannot read the suite {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SuiteError(f"{path} is not valid TOML: {error}") from error
    try:
        suite = Suite.model_validate(data)
    except ValidationError as error:
        raise SuiteError(explained(error, Suite, str(path), text)) from error
    suite._folder = path.resolve().parent
    return _checked(suite, path, text)


def _checked(suite: Suite, path: Path, text: str) -> Suite:
    problems: list[str] = []
    known = [*METHODS, *suite.variants]
    for what, names in (("methods", suite.methods), ("ours", (suite.ours,)), ("control", (suite.control,))):
        unknown = [n for n in names if n not in known]
        problems += [f"{where(path, text, (what,))}there is no method {n!r}.{did_you_mean(n, known)}" for n in unknown]
    for name, variant in suite.variants.items():
        place = where(path, text, ("variants", name, "base"))
        if variant.base not in METHODS:
            problems.append(f"{place}there is no method {variant.base!r}.{did_you_mean(variant.base, METHODS)}")
        if name in METHODS or not re.match(NAME, name):
            problems.append(f"{place}{name!r} cannot name a variant: choose another, of letters, digits, . _ + and -")
    for what, values in (
        ("methods", suite.methods), ("seeds", suite.seeds), ("tasks", [t.name for t in suite.tasks])
    ):  # fmt: skip
        if twice := sorted({str(v) for v in values if list(values).count(v) > 1}):
            problems.append(f"{where(path, text, (what,))}{what} has {', '.join(twice)} twice")
    if problems:
        raise SuiteError("\n".join(problems))
    for i, task in enumerate(suite.tasks):
        problems += [where(path, text, ("tasks", i, field)) + words for field, words in _task_problems(suite, task)]
    if problems:
        raise SuiteError("\n".join(problems))
    for task in suite.tasks:
        for method in suite.methods if not missing_agent(suite, task) else ():
            try:
                suite.config(task, method)
            except SuiteError as error:
                raise SuiteError(f"{path}: {error}") from error
    return suite


def _task_problems(suite: Suite, task: SuiteTask) -> list[tuple[str, str]]:
    if problem := missing_agent(suite, task):
        return [] if task.optional else [("agent", f"task {task.name!r}: {problem}")]
    found = []
    from unstuck.agents import find_env_id

    if not suite._task(task)["env"] and not find_env_id(agent_path(suite, task)):
        found.append(("agent", f"task {task.name!r} needs `env`, a Gymnasium id"))
    if reference(task) is None:
        found.append(("agent", f"task {task.name!r} needs `reference`, the return that counts as a score of 1"))
    return found


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result
