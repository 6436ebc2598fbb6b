"""`unstuck refine --help`, on two screens: what is set most, and the names of all else."""

from __future__ import annotations

import textwrap
from typing import Any

from pydantic import BaseModel

from unstuck.config import RunConfig

COMMON = {
    "--env ID": "the task, a Gymnasium id; an RL Zoo folder, the hub and shipped agents name it themselves",
    "--env-kwargs JSON": "keyword arguments of gymnasium.make; env_wrapper and frame_stack as in RL Zoo",
    "--import MODULE": "import this first; it registers your environments",
    "--card FILE": "a TOML task card that says what the task's numbers mean (unstuck card)",
    "--vecnormalize FILE": "VecNormalize statistics, if they do not lie beside the agent",
    "--trust": "let the agent's files run code while they are loaded",
    "--llm MODEL": "openai:NAME, anthropic:NAME, google:NAME..., or `recorded`; none: a race without a coach",
    "--base-url URL": "an OpenAI-compatible server, such as http://localhost:11434/v1",
    "--llm.max-cost-usd X": "most that the run may spend; 5 by default",
    "--steps N": "budget of environment steps of each arm, whatever they are spent on; by default 500,000 for a race "
    "(100,000 where the agent learns by replay), else 100,000",
    "--seeds 1,2,3": "one race, or training, of each arm for each seed; by default one race, or three trainings",
    "--method NAME": "race (default): treatments of the agent against each other and plain PPO, and a test of the "
    "winner; or one training by unstuck, ppo, ultra-a, jsrl, rice... Where a race makes no sense, unstuck is the "
    "default: images in an agent's replay buffer, --rounds, fewer than 100,000 steps",
    "--race.treatments T": "who races, such as small-batches afresh transplant+guidance; else what suits the agent",
    "--race.none": "no race: one training by unstuck",
    "--rounds N": "collect, explain, verify and train again from the improved agent",
    "--no-control": "do not continue the agent beside it; then nothing shows what all this did",
    "--log tensorboard": "SB3's logger in each training run's folder: tensorboard, csv, json",
    "--run FOLDER": "the run folder; by default runs/AGENT-ENV. One that is there goes on",
    "--redo STAGE": "do collect, explain, verify, train or evaluate anew, though it is done",
    "--config FILE": "settings from a TOML file, one table for each group below",
    "--quiet, --json": "no progress; the result as JSON. --log-level LEVEL: log messages",
}
_WIDTH, _COLUMN = 100, 23


def short_help(sections: tuple[str, ...]) -> str:
    """The text of `unstuck refine --help`."""
    lines = [
        "usage: unstuck refine AGENT [--env ID] [--llm MODEL] [settings]",
        "",
        "All stages: collect, explain, verify, train, evaluate, report. Killed, the same command goes on.",
        "",
        "  AGENT                an SB3 zip, a folder of RL Zoo, hf://USER/NAME on the hub, or one that ships",
        "                       (stuck/NAME: unstuck agents)",
        "",
    ]
    for name, words in COMMON.items():
        head = f"  {name:<{_COLUMN - 3}} " if len(name) < _COLUMN - 2 else f"  {name}\n{'':<{_COLUMN}}"
        lines.append(head + f"\n{'':<{_COLUMN}}".join(textwrap.wrap(words, _WIDTH - _COLUMN)))
    lines += ["", "All else, as --GROUP.NAME; `unstuck refine --help-all` and docs/cli.md say what each is:"]
    for section in sections:
        names = ", ".join(_names(RunConfig.model_fields[section].annotation))
        wrapped = textwrap.wrap(names, _WIDTH - 13)
        lines.append(f"  {section:<10} " + f"\n{'':<13}".join(wrapped))
    return "\n".join(lines)


def _names(model: Any) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        group = isinstance(inner, type) and issubclass(inner, BaseModel)
        found.append(name.replace("_", "-") + (".*" if group else ""))
    return found
