"""Where a benchmark lies, and the run folders in it.

    OUT/TASK/before/           the stuck agent, and its scores
    OUT/TASK/explain/SOURCE/   episodes and advice, shared by all methods with this explainer and these settings
    OUT/TASK/arms/METHOD/      verified guidance, and train/METHOD/SEED and score/METHOD/SEED for each seed
    OUT/failures.json          what went wrong in the last call
    OUT/results.jsonl, curves.jsonl

Each is an ordinary run folder, which `unstuck report` and the other commands open.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from unstuck.bench.suite import Suite, SuiteTask, agent_path
from unstuck.config import RunConfig, TrainConfig
from unstuck.explainers import explainer_class
from unstuck.files import keep_edited
from unstuck.intake import take_in, task_of
from unstuck.methods import METHODS, Setting, label_of
from unstuck.run import Run, digest
from unstuck.tasks.ids import later_versions

SHARED = ("collect", "explain")
"""Stages that an arm takes over from its source."""


@dataclass(frozen=True)
class Arm:
    """One method on one task."""

    suite: Suite
    out: Path
    task: SuiteTask
    method: str

    @cached_property
    def config(self) -> RunConfig:
        """Settings, with the explainer named that `auto` comes to."""
        config = self.suite.config(self.task, self.method)
        name: str = config.explain.explainer
        if name == "auto":
            spec = METHODS[config.train.method]
            without = "search" if spec.race is None else "nothing"
            asked = without if config.llm.is_none else "llm"
            name = spec.explainer if spec.explainer not in ("auto", "none") else asked
        verify = config.verify
        if not self._verified(config):
            # Verdicts that nobody looks at are not worth their time; they would not be charged either.
            verify = verify.model_copy(update={"enabled": False})
        explain = config.explain.model_copy(update={"explainer": name})
        return config.model_copy(update={"explain": explain, "verify": verify})

    @staticmethod
    def _verified(config: RunConfig) -> bool:
        return METHODS[config.train.method].plan(None, Setting()).verified

    @property
    def explained(self) -> bool:
        return METHODS[self.config.train.method].explained

    @property
    def asks(self) -> bool:
        """Whether its explanation asks a language model: directly, or to scramble what it says."""
        config = self.config.explain
        return self.explained and explainer_class(config.explainer).asks(config)

    @property
    def label(self) -> str:
        """As it is written in tables."""
        return self.label_of("PPO")

    def label_of(self, algorithm: str) -> str:
        """Likewise, where this is what trains."""
        return self.method if self.method in self.suite.variants else label_of(self.config.train.method, algorithm)

    @property
    def root(self) -> Path:
        return self.out / self.task.name / "arms" / self.method

    @cached_property
    def source(self) -> Path:
        """The folder of its explanation."""
        config = self.config
        name = str(config.explain.explainer)
        variant = self.suite.variants.get(self.method)
        if variant is not None and (variant.explain.keys() - {"explainer"} or variant.collect or variant.llm):
            plain = config.explain.model_copy(update={"explainer": "auto"})
            asked = [variant.llm] if variant.llm else []
            name += "-" + digest(config.collect, plain, *asked)[:6]
        return self.out / self.task.name / "explain" / name

    @property
    def source_config(self) -> RunConfig:
        """What episodes and explanation depend on, and nothing of training."""
        return self.config.model_copy(update={"train": TrainConfig(), "verify": RunConfig().verify})


def settled_task(suite: Suite, task: SuiteTask) -> tuple[SuiteTask, str]:
    """A task with the environment that will run: what RL Zoo's folder names where the suite leaves it open, and a later
    version for an id that no longer runs. And a sentence on what stands in for what, or ''.

    Raises:
        AgentError, TaskError: the agent cannot be loaded, or no environment can be made that it fits.
    """
    config = suite.config(task, suite.methods[0])
    named = task_of(config)
    if named == config.task and not later_versions(named.env):
        return task, ""
    taken = take_in(config)
    found = taken.config.task
    note = next((n for n in taken.notes if n.startswith(named.env) and found.env != named.env), "")
    return task.model_copy(update={"env": found.env, "env_kwargs": found.env_kwargs}), note


def agent_files(suite: Suite, task: SuiteTask) -> dict[str, Path]:
    """The stuck agent's zip, and its VecNormalize statistics if there are any.

    Raises:
        AgentError: if they cannot be loaded.
    """
    vec = suite.folder / task.vecnormalize if task.vecnormalize else None
    return dict(_files(agent_path(suite, task), vec, task.trust))


@lru_cache(maxsize=256)
def _files(path: Path, vecnormalize: Path | None, trust: bool) -> dict[str, Path]:
    from unstuck.agents import load_agent

    agent = load_agent(path, vecnormalize=vecnormalize, trust=trust)
    files = {"agent": agent.path}
    if agent.vecnormalize_path is not None:
        files["vecnormalize"] = agent.vecnormalize_path
    return files


def agent_digest(files: dict[str, Path]) -> str:
    """A short hash of all that the agent is."""
    return digest(*[files[name] for name in sorted(files)])


def held_digest(run: Run) -> str:
    """The same for the copy in a run folder."""
    files = {"agent": run.agent_path}
    if run.vecnormalize_path is not None:
        files["vecnormalize"] = run.vecnormalize_path
    return agent_digest(files)


def adopt(arm: Run, source: Run) -> None:
    """Take over the episodes and the explanation, files included (as hard links, where the disk can), unless they
    are there already. The entries in the manifest come last."""
    for stage in SHARED:
        record = source.record(stage)
        if arm.manifest.stages.get(stage) == record and not arm.damage(stage):
            continue
        draft = arm.draft(stage)
        shutil.rmtree(draft.folder)
        shutil.copytree(source.root / stage, draft.folder, copy_function=_link)
        if stage == "explain":
            keep_edited(arm.advice_path, arm.root / stage / "advice.json", source.advice_path.read_bytes())
        shutil.rmtree(arm.root / stage, ignore_errors=True)
        os.replace(draft.folder, arm.root / stage)
        if stage == "explain":
            shutil.copyfile(source.advice_path, arm.advice_path)
            _adopt_opinions(arm, source)
            _adopt_exchanges(arm, source, record.facts.get("recordings", ()))
        arm.manifest.stages[stage] = record
        arm.configure(arm.config)  # writes the manifest


def _adopt_opinions(arm: Run, source: Run) -> None:
    """Further opinions, which lie beside the first."""
    for old in arm.opinion_paths:
        old.unlink()
    for path in source.opinion_paths:
        shutil.copyfile(path, arm.root / path.name)


def _adopt_exchanges(arm: Run, source: Run, keys: Sequence[str]) -> None:
    """What the explanation was read from, where the coach may be asked again."""
    if not arm.config.race.feedback:
        return
    for path in (p for key in keys for p in source.recordings_path.glob(f"{key}-*.json")):
        arm.recordings_path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, arm.recordings_path / path.name)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
