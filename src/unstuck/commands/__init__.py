"""The commands: the table of them, and one module for each group.

To add one, write a function `(word, args)` in a module of this package, which gets the word it was called by and the
arguments after it, and add a line to `COMMANDS`. A module is imported only when one of its commands runs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One word of the command line."""

    help: str
    home: str
    """Where its function `(word, args)` is: `module:function`, below `unstuck.commands`."""
    of_env: bool = False
    """Takes an environment, and not the settings of a run: the short forms do not stand for these."""
    short_forms: bool = True
    """Whether the short forms stand for settings of a run."""

    def call(self, word: str, args: list[str]) -> None:
        """Import and run it."""
        module, _, name = self.home.partition(":")
        getattr(importlib.import_module(f"unstuck.commands.{module}"), name)(word, args)


COMMANDS = {
    "refine": Command("All stages on a stuck agent, one command.", "stages:refine"),
    "diagnose": Command("What is wrong with an agent, and what would help; no model needed.", "diagnose:diagnose"),
    "collect": Command("Run the stuck agent and keep its episodes.", "stages:collect"),
    "explain": Command("Find the critical states, why the agent is stuck, and what to do.", "stages:stage"),
    "verify": Command("Try the advice in the simulator; keep what does no harm.", "stages:stage"),
    "train": Command("Refine the agent with PPO under guidance, and plain PPO beside it.", "stages:stage"),
    "evaluate": Command("Score agents without guidance, with intervals.", "stages:stage"),
    "review": Command("Go through the advice on a page: accept, edit, reject, write your own.", "review:review"),
    "report": Command("Write the run as one HTML page.", "stages:stage"),
    "prompt": Command(
        "Show the exact prompts and an estimate, before anything is spent; or export them.", "exchanges:prompt"
    ),
    "recordings": Command("List recorded exchanges; import replies to exported prompts.", "exchanges:recordings"),
    "describe": Command("Show what is known of a task, and how its states read in language.", "task:describe", True),
    "card": Command("Write a task card as TOML, to fill in.", "task:card", True),
    "check-env": Command("Check an environment: exact snapshots, a true card, what it costs.", "task:check", True),
    "agents": Command("Stuck agents that ship with Unstuck: list them, or show all of one.", "shipped:agents"),
    "watch": Command("Write an agent's episodes as a GIF; of a run, before beside after.", "shipped:watch", True),
    "push": Command("Put the agent of a run on the Hugging Face hub, with a model card.", "hub:push"),
    "bench": Command("Compare methods on many tasks and seeds at equal budgets.", "bench:bench", short_forms=False),
    "fidelity": Command("Measure whether the steps that explanations call critical matter.", "fidelity:fidelity"),
    "completion": Command("Print what a shell needs to complete commands and flags.", "completion:completion"),
    "demo": Command("The main job on an agent that ships with Unstuck.", "stages:demo"),
}

WITH_JSON = frozenset({
    "refine", "collect", "explain", "verify", "train", "evaluate", "report", "prompt", "recordings", "describe",
    "check-env", "agents", "watch", "push", "demo",
})  # fmt: skip
"""Commands whose result `--json` gives as data; of others it is an option of their own, or none."""

# Short forms of what nearly every command line needs.
ALIASES = {
    "--env": "--task.env",
    "--import": "--task.import-module",
    "--card": "--task.card",
    "--vecnormalize": "--agent.vecnormalize",
    "--trust": "--agent.trust",
    "--llm": "--llm.model",
    "--base-url": "--llm.base-url",
    "--steps": "--train.steps",
    "--seeds": "--train.seeds",
    "--method": "--train.method",
    "--rounds": "--train.rounds",
    "--no-control": "--train.no-control",
    "--log": "--train.log",
    "--backend": "--race.backend",
    "--ray-address": "--race.ray-address",
}
