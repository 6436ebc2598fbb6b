"""What `refine` does where nobody said: a race, or one training; with how many steps, and how many seeds.

A race needs a budget in which something is left for the winner, and memory for a replay buffer of each competitor,
where the agent learns by replay. Else it is one training by the method `unstuck`, with the agent continued beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from unstuck.config import RunConfig, TrainConfig
from unstuck.methods import METHODS

RACE_STEPS, RACE_SEEDS = 500_000, (1,)
"""Budget and seeds of a race, where none are named: the test at its end needs no other seeds."""
REPLAYED_STEPS = 100_000
"""The budget for an agent that learns by replay: it needs fewer, and takes longer for each."""
BULKY = 8_192
"""Bytes of an observation from which on a race does without several replay buffers of them, unless it is asked for."""
LEAST = 100_000
"""Environment steps from which on a race is the default: with fewer none was measured (docs/published.md)."""
REFINE = RunConfig(
    train=TrainConfig.model_construct(_fields_set=set(), method="race", steps=RACE_STEPS, seeds=RACE_SEEDS)
)
"""The settings of `unstuck refine`, before anything is said."""


def without_race(config: RunConfig) -> RunConfig:
    """The settings; with `--race.none`, one training by the method `unstuck` in place of a race."""
    if not config.race.none or METHODS[config.train.method].race != ():
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"method": "unstuck"})})


def settled(config: RunConfig, named: Collection[str], *, on_policy: bool, observed: int = 0) -> tuple[RunConfig, str]:
    """The settings with method, steps and seeds as they suit the agent and each other, and why it is no race, or ''.

    Args:
        named: fields of the section `train` that the user set; these stay as they are.
        on_policy: whether the agent learns on-policy (PPO, A2C, TRPO).
        observed: bytes of one of its observations.
    """
    given = {name: getattr(config.train, name) for name in named}
    why = ""
    if "method" not in given:
        why = _no_race(config, given, bulky=not on_policy and observed >= BULKY)
        given["method"] = "unstuck" if why or config.race.none else "race"
    races = METHODS[given["method"]].race == () and not config.race.none
    steps = RACE_STEPS if on_policy else REPLAYED_STEPS
    usual: dict[str, Any] = {"steps": steps, "seeds": RACE_SEEDS} if races else {}
    train = {name: usual.get(name, TrainConfig.model_fields[name].default) for name in ("steps", "seeds")}
    update = {"train": config.train.model_copy(update=train | given)}
    return without_race(config.model_copy(update=update)), why


def _no_race(config: RunConfig, given: dict[str, Any], bulky: bool) -> str:
    if config.race.none:
        return ""
    if bulky:
        return "several replay buffers of such large observations take much memory (--method race races anyway)"
    if given.get("rounds", 1) > 1:
        return "rounds are of one training each"
    if given.get("steps", RACE_STEPS) < LEAST:
        return f"a race needs {LEAST:,} steps or more to leave something for its winner (--method race races anyway)"
    return ""
