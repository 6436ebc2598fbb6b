"""Agents that ship with Unstuck and are truly stuck, each with the numbers that say so.

`manifest.json` is written by `scripts/make_agents.py`, which also trains the agents; nothing in it is typed by hand
but the words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unstuck.errors import UnstuckError, did_you_mean

HERE = Path(__file__).parent
PREFIX = "stuck/"
"""What a shipped agent's name may begin with where a path could stand as well."""

STUCK_BELOW = 0.25
"""An agent is stuck if going on closes less than this share of the distance to the reference, with 95 %
confidence, both with deterministic and with sampled actions."""

Rut = Literal["reward never seen", "local optimum", "a fall ends every episode", "saturated critic", "exploration died"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Returns(_Frozen):
    """Returns of one policy over episodes."""

    mean: float
    sd: float
    """Standard deviation over episodes."""
    n: int = Field(ge=2)
    """Episodes."""


class Modes(_Frozen):
    """Returns with the most likely action, and with sampled ones."""

    deterministic: Returns
    sampled: Returns


class Training(_Frozen):
    """How the agent was made."""

    how: str
    command: str
    steps: int
    """Environment steps."""
    seed: int
    settings: dict[str, Any]
    """Of Stable-Baselines3's learner, where they differ from its defaults."""
    algorithm: str = "PPO"
    normalized: bool
    """Whether it sees observations scaled by VecNormalize."""


class Continued(_Frozen):
    """The agent continued by its own algorithm: the control arm of every run of Unstuck."""

    steps: int
    """Environment steps of each seed."""
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    """Of `TrainConfig`; of its `replay`, where the agent learns from a replay buffer."""
    episodes: int
    """Behind the return of each seed and mode: episodes of each late checkpoint x checkpoints."""
    deterministic: tuple[float, ...]
    """Mean return of each seed."""
    sampled: tuple[float, ...]


class Reference(_Frozen):
    """A policy that does much better."""

    mean: float
    sd: float | None = None
    n: int | None = None
    """Episodes; None where the figure was published by others."""
    origin: Literal["measured", "published"]
    how: str


class Gain(_Frozen):
    """(continued - before) / (reference - before), over seeds: 0 is no gain, 1 is the reference."""

    mean: float
    low: float
    high: float
    """Bounds of the 95 % interval (Student's t over seeds)."""


class StuckVerdict(_Frozen):
    deterministic: Gain
    sampled: Gain
    below: float
    stuck: bool


class StuckAgent(_Frozen):
    """One entry of the manifest."""

    name: str
    task: str
    """Gymnasium id."""
    env_kwargs: dict[str, Any] = {}
    rut: Rut
    wrong: str
    """What it does wrong, as seen in its episodes."""
    why: str
    """Why more of the same training does not help it."""
    training: Training
    before: Modes
    continued: Continued
    reference: Reference
    verdict: StuckVerdict
    versions: dict[str, str]
    file: str
    vecnormalize_file: str | None = None

    @property
    def path(self) -> Path:
        """The SB3 zip."""
        return HERE / self.file

    @property
    def vecnormalize(self) -> Path | None:
        """Its VecNormalize statistics (found by `load_agent` without being named)."""
        return HERE / self.vecnormalize_file if self.vecnormalize_file else None


class NotStuck(_Frozen):
    """An agent that was tried and let go: PPO gets it moving, or the numbers do not tell."""

    name: str
    task: str
    what: str
    numbers: str


class Manifest(_Frozen):
    format: int = 1
    agents: tuple[StuckAgent, ...]
    tried: tuple[NotStuck, ...] = ()


def gain(before: float, continued: Sequence[float], reference: float) -> Gain:
    """Share of the distance from `before` to `reference` that continued PPO closes, over its seeds.

    Raises:
        ValueError: if the reference is not better than before, or there are fewer than two seeds.
    """
    from unstuck.stats import mean_interval

    if not reference > before:
        raise ValueError(f"the reference ({reference:g}) must be better than the agent before ({before:g})")
    interval = mean_interval([(r - before) / (reference - before) for r in continued])
    if interval.low is None or interval.high is None:
        raise ValueError("a gain needs at least two seeds")
    return Gain(mean=interval.mean, low=interval.low, high=interval.high)


def judge(before: Modes, continued: Continued, reference: Reference, below: float = STUCK_BELOW) -> StuckVerdict:
    """Whether an agent is stuck by our criterion (`STUCK_BELOW`)."""
    deterministic = gain(before.deterministic.mean, continued.deterministic, reference.mean)
    sampled = gain(before.sampled.mean, continued.sampled, reference.mean)
    stuck = deterministic.high < below and sampled.high < below
    return StuckVerdict(deterministic=deterministic, sampled=sampled, below=below, stuck=stuck)


def read_manifest() -> Manifest:
    """The shipped manifest, read now."""
    return Manifest.model_validate(json.loads((HERE / "manifest.json").read_text(encoding="utf-8")))


@cache
def manifest() -> Manifest:
    """The shipped manifest."""
    return read_manifest()


def stuck_agents() -> tuple[StuckAgent, ...]:
    """All shipped agents, by the kind of rut."""
    return manifest().agents


def stuck_agent(name: str) -> StuckAgent:
    """A shipped agent by its name, with or without `stuck/` before it.

    Raises:
        UnstuckError: there is none of this name; names the nearest.
    """
    known = {agent.name: agent for agent in stuck_agents()}
    short = name.removeprefix(PREFIX)
    if short not in known:
        hint = did_you_mean(short, known)
        raise UnstuckError(f"no agent {short!r} ships with Unstuck.{hint} `unstuck agents` lists them")
    return known[short]


def shipped(agent: str) -> StuckAgent | None:
    """The shipped agent that a path-like argument means, or None where it is a path of the user's.

    Raises:
        UnstuckError: it begins with `stuck/`, is no file here, and no agent of this name ships.
    """
    if Path(agent).expanduser().exists() or Path(agent + ".zip").expanduser().exists():
        return None
    if agent.startswith(PREFIX):
        return stuck_agent(agent)
    return next((a for a in stuck_agents() if a.name == agent), None)
