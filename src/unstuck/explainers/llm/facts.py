"""What a prompt is filled in with, as plain data, and how numbers are written in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.agents.history import LearningCurve
from unstuck.tasks.card import TaskCard

MODES = ("deterministic", "sampled")
ENDINGS = {"terminated": "ended by the task (terminated)", "truncated": "time limit", "cut": "collection stopped"}
BLOCKS = 10
"""Parts into which an episode is divided for its means."""
BLOCK_VARIABLES = 8
"""Variables for which these means are shown at most."""
BLOCK_PARTS = 4
"""Parts of the reward for which sums are shown at most."""
CURVE_POINTS = 20


@dataclass(frozen=True)
class Wanted:
    """Parts of a reply that are asked for only where something reads them."""

    terms: bool = True
    """Reward terms."""
    state_reward: bool = False
    """What being in a critical state is worth."""


@dataclass(frozen=True)
class AgentFacts:
    """What is said of the agent itself."""

    algorithm: str
    trained_steps: int | None
    gamma: float
    settings: tuple[str, ...] = ()
    """Hyper-parameters with their values, as far as its file tells them."""
    curve: LearningCurve | None = None
    """Of the training that made it."""
    panel: str = ""
    """What was measured of it, in words."""
    wanted: Wanted | None = None
    """None: what the task's default method reads."""
    pictures: tuple[str, ...] = ()
    """Captions of those that go with the prompt."""


@dataclass(frozen=True)
class ModeFacts:
    """Episodes of one way of acting: deterministic or sampled."""

    mode: str
    episodes: int
    returns: tuple[float, float, float]
    """Mean, min, max."""
    lengths: tuple[float, float, float]
    endings: str
    actions: tuple[str, ...]
    """One line for each action (discrete) or dimension (continuous)."""


@dataclass(frozen=True)
class VariableFacts:
    name: str
    unit: str
    text: str
    """Description, bounds, whether it is derived."""
    percentiles: tuple[float, float, float]
    """5th, 50th and 95th over all steps."""
    constant: bool


@dataclass(frozen=True)
class ShownEpisode:
    """One episode as a prompt shows it."""

    title: str
    index: int
    mode: str
    total: float
    steps: int
    ending: str
    blocks: tuple[str, ...]
    block_length: int
    falls: tuple[str, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class PromptData:
    """All that the templates fill in."""

    card: TaskCard
    agent: AgentFacts
    modes: tuple[ModeFacts, ...]
    variables: tuple[VariableFacts, ...]
    named_only: tuple[str, ...]
    """Variables for which there was no room for more than their names."""
    reward: tuple[float, float, float, float, float]
    """Of one step: min, 5th, 50th, 95th percentile, max."""
    learnt: tuple[float, float, float, float, float]
    """The same of rewards as training pays them, to which terms are added."""
    reward_scale: float
    same_returns: bool
    critic: str
    signals: str
    """What V(s), Q(s, a) and TD in the tables are."""
    all_episodes: tuple[str, ...]
    shown: tuple[ShownEpisode, ...]
    columns: tuple[str, ...]
    omitted: int
    """How many variables have no column."""
    header: str
    example: tuple[int, int]
    """An (episode, step) for the description of the reply's format."""
    exploration: tuple[str, ...] = ()
    """Noise, entropy and clipped means of the policy at the states visited."""
    reward_parts: tuple[str, ...] = ()
    curve: tuple[str, ...] = ()
    """Points of the learning curve."""
    wanted: Wanted = Wanted()


def number(x: float) -> str:
    """Three significant digits without an exponent where it can be avoided."""
    if x == 0 or not np.isfinite(x):
        return "0" if x == 0 else str(x)
    text = f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"
    return "0" if text == "-0" else text


def decimals(values: np.ndarray) -> int:
    """Decimals that give three significant digits at the typical size of a column; 0 for whole numbers."""
    finite = values[np.isfinite(values)]
    if not finite.size or np.all(finite == np.round(finite)):
        return 0
    size = float(np.percentile(np.abs(finite), 95))
    return int(np.clip(2 - np.floor(np.log10(max(size, 1e-9))), 0, 5))


def fixed(x: float, places: int) -> str:
    text = f"{x:.{places}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def as_fields(data: PromptData) -> dict[str, Any]:
    return {name: getattr(data, name) for name in data.__dataclass_fields__}
