"""The model card of a pushed agent: markdown for people, and what the hub reads of it as data."""

from __future__ import annotations

import html
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unstuck.hub.address import Address, is_address
from unstuck.results import BEFORE, RunVerdict
from unstuck.run import Run
from unstuck.stages.report.deploy import lines
from unstuck.stages.report.outcome import Outcome
from unstuck.stages.report.words import interval
from unstuck.stats import Interval
from unstuck.terminal import safe

_PACKAGES = ("unstuck", "stable-baselines3", "gymnasium", "torch")
_MARKUP = re.compile(r"([\\`*_{}\[\]()#!|~])")


@dataclass(frozen=True)
class Published:
    """What goes to the hub beside the card."""

    agent: str
    """Name of the zip."""
    statistics: str
    """Name of its observation statistics, or ''."""
    replay: str
    """Name of the picture of before and after, or ''."""
    algorithm: str


def metadata(run: Run, verdict: RunVerdict, published: Published) -> dict[str, Any]:
    """Arguments of the hub's `ModelCardData` and `EvalResult`: tags by which the agent is found, and its score."""
    env, score = run.config.task.env, verdict.returns[verdict.chosen]
    spread = "" if score.low is None or score.high is None else f" [{score.low:.4g}, {score.high:.4g}]"
    agent = run.config.agent.agent
    return {
        "library_name": "stable-baselines3",
        "model_name": published.algorithm,
        "tags": [env, "deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3", "unstuck"],
        "base_model": Address.parse(agent).repository if is_address(agent) else None,
        "env": env,
        "mean_reward": f"{score.mean:.4g}{spread}",
    }


def body(run: Run, found: Outcome, verdict: RunVerdict, published: Published, repository: str) -> str:
    """The markdown below the metadata.

    What a language model or a file said stands in it as plain text: no markup, no links, no pictures.
    """
    env = plain(run.config.task.env)
    parts = [f"# {plain(repository.partition('/')[2])}: {published.algorithm} on {env}", *_verdict(found)]
    if published.replay:
        parts.append(f"![The agent before and after, from the same start]({published.replay})")
    parts += ["## Scores", _table(found), _SCORES, "## Use it", _use(run, published, repository), "## How it was made"]
    parts += [_made(run, found, verdict), _versions(run)]
    return "\n\n".join(parts) + "\n"


_SCORES = (
    "Return per episode on the task's own reward: mean and 95 % interval over training runs with different seeds "
    "(before: over episodes). The agent here is the best of these runs; what it is worth is the mean of all, as the "
    "table has it."
)


def _verdict(found: Outcome) -> list[str]:
    sentences = [plain(text) for text in (found.verdict, found.before, found.note) if text]
    return [" ".join([f"**{plain(found.headline)}**", *sentences])]


def _table(found: Outcome) -> str:
    head = "| | deterministic | sampled | environment steps |\n|---|---|---|---|\n"
    shown = [
        f"| {plain(row.label)} | {_show(row.deterministic)} | {_show(row.sampled)} | "
        f"{'-' if row.steps is None else f'{row.steps:,}'} |"
        for row in found.rows
    ]
    return head + "\n".join(shown)


def _show(x: Interval) -> str:
    return interval(x.mean, x.low, x.high, x.n)


def _use(run: Run, published: Published, repository: str) -> str:
    folder = Path(repository.partition("/")[2])
    statistics = folder / published.statistics if published.statistics else None
    code = "\n".join(lines(folder / published.agent, statistics, run.config.task, published.algorithm))
    return (
        f"    hf download {repository} --local-dir {folder}\n\n```python\n{code}\n```\n\n"
        f"To go on from here: `unstuck refine hf://{repository}`."
    )


def _made(run: Run, found: Outcome, verdict: RunVerdict) -> str:
    config, explained = run.config, run.manifest.stages.get("explain")
    model = (explained.facts.get("model") if explained else None) or "an explainer without a language model"
    agent = config.agent.agent
    start = f"[{agent}](https://huggingface.co/{Address.parse(agent).repository})" if is_address(agent) else "an agent"
    text = (
        f"By Unstuck, from {start} that had stopped improving: {plain(str(model))} said why, its advice was tried in "
        f"the simulator, and training went on with what was left of it ({config.train.steps:,} environment steps for "
        f"each run, all stages together; seeds {', '.join(map(str, config.train.seeds))}). This agent: "
        f"{plain(found.label(verdict.chosen))}, seed {verdict.seed}, after {verdict.trained:,} steps of training; "
        f"{plain(verdict.why)}."
    )
    if found.diagnosis:
        text += f"\n\nWhy it was stuck, in the words of {plain(str(model))}:\n\n> {plain(found.diagnosis)}"
    return text


def _versions(run: Run) -> str:
    found = [("made with unstuck", run.manifest.unstuck)]
    for name in _PACKAGES[1:]:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return "Versions: " + ", ".join(f"{name} {version}" for name, version in found) + "."


def plain(text: str) -> str:
    """Text that markdown shows as it is: on one line, every character of its markup escaped, links not recognised."""
    escaped = html.escape(_MARKUP.sub(r"\\\1", " ".join(safe(text).split())), quote=False)
    return re.sub(r"://|(?i:www)\.|@", lambda found: f"{found[0][0]}\u2060{found[0][1:]}", escaped)


def is_worth_pushing(verdict: RunVerdict) -> bool:
    """Whether the run made an agent of its own."""
    return verdict.chosen != BEFORE
