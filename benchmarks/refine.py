"""The main job on agents that others published, with recorded replies: the numbers of docs/results.md.

    python benchmarks/refine.py --agents FOLDER     # FOLDER holds the RICE authors' agents (not shipped)

Runs are kept in runs/bench/NAME and go on where they stood. Replies come from benchmarks/recordings; a task whose
prompt has none (other arithmetic gives other episodes) is reported, not skipped silently.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
os.environ.setdefault("UNSTUCK_RECORDINGS", str(HERE / "recordings"))

TASKS: dict[str, dict[str, Any]] = {
    "hopper": {"agent": "hopper-sub_optimal.zip", "env": "Hopper-v5"},
    "halfcheetah": {"agent": "halfcheetah-sub_optimal.zip", "env": "HalfCheetah-v5"},
    "reacher": {"agent": "reacher-sub_optimal.zip", "env": "Reacher-v4"},
}
SEEDS, STEPS = (11, 12, 13), 100_000


def one(name: str, agents: Path, out: Path, steps: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Run a task and return its row of results."""
    from rich.console import Console

    import unstuck
    from unstuck.config import LLMConfig, RunConfig, TrainConfig
    from unstuck.progress import Progress

    # What the committed numbers were made with; the default engine and EnvPool learn alike, but not bit by bit.
    train = TrainConfig(steps=steps, seeds=seeds, engine="sb3", backend="gymnasium")
    config = RunConfig(llm=LLMConfig(model="recorded"), train=train)
    task = TASKS[name]
    run = unstuck.refine(
        agents / task["agent"], task["env"], run=out / name, config=config, progress=Progress(Console(stderr=True))
    )
    scores = json.loads((run.root / "evaluate" / "scores.json").read_text())
    guidance = unstuck.load_guidance(run.guidance_path)
    return {
        "task": task["env"],
        "agent": task["agent"],
        "steps": steps,
        "seeds": list(seeds),
        "summary": scores["summary"],
        "charged": {arm: data["charged"] for arm, data in scores["arms"].items()},
        "diagnosis": guidance.diagnosis,
        "terms": [term.words() for term in guidance.reward_terms],
        "coach": guidance.provenance.model,
    }


def versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("unstuck", "stable-baselines3", "torch", "gymnasium", "mujoco", "numpy")
    return {"python": platform.python_version(), **{n: version(n) for n in names}}


def cell(part: dict[str, Any]) -> str:
    if part["low"] is None:
        return f"{part['mean']:.4g}"
    return f"{part['mean']:.4g} [{part['low']:.4g}, {part['high']:.4g}]"


def page(results: dict[str, Any], command: str) -> str:
    """docs/results.md"""
    lines = [
        "# Results",
        "",
        "Agents that others published (the RICE authors' sub-optimal agents, which do not ship with Unstuck), refined",
        "with the recorded reply of a language model, beside PPO continued with the same optimiser settings (learning",
        "rate 3e-4, critic warm-up) at the same budget of environment steps, collecting and verifying counted. Return",
        "per episode without guidance; a seed's score is the mean over its last three checkpoints; mean and 95 %",
        "interval (Student t) over seeds, for the agent before over episodes. Trained by Stable-Baselines3's PPO on",
        "Gymnasium's environments (`--train.engine sb3 --train.backend gymnasium`).",
        "",
    ]
    for row in results["rows"]:
        summary = row["summary"]
        lines += [
            f"## {row['task']}, {row['agent']}",
            "",
            f"{row['steps']:,} environment steps for each arm, seeds {', '.join(map(str, row['seeds']))}.",
            "",
            "| | deterministic | sampled | steps charged |",
            "|---|---|---|---|",
            f"| before | {cell(summary['before']['deterministic'])} | {cell(summary['before']['sampled'])} | 0 |",
        ]
        for arm, scores in summary["arms"].items():
            label = "PPO continued" if arm == "ppo" else arm.capitalize()
            charged = f"{sum(row['charged'][arm].values()):,}"
            lines.append(f"| {label} | {cell(scores['deterministic'])} | {cell(scores['sampled'])} | {charged} |")
        for arm, gap in summary["difference"].items():
            name = f"{arm.capitalize()} minus PPO"
            lines.append(f"| {name} | {cell(gap['deterministic'])} | {cell(gap['sampled'])} | |")
        for arm, scores in summary["arms"].items():
            seeds = ", ".join(f"{x:.0f}" if abs(x) >= 100 else f"{x:.2f}" for x in scores["deterministic"]["per_seed"])
            lines.append(f"\nDeterministic by seed, {arm}: {seeds}.")
        lines += [
            "",
            f"The coach ({row['coach']}): {row['diagnosis']}",
            "",
            "Its reward terms, faded out linearly:",
            "",
        ]
        lines += [f"- {words}" for words in row["terms"]] + [""]
    stated = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
    lines += [f"Made by `{command}` on two CPU cores with {stated}. Raw data: `docs/results.json`.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=Path, default=Path("../shared/agents/rice"))
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    args = parser.parse_args()
    if not args.agents.exists():
        sys.exit(f"{args.agents} does not exist: name the folder of the RICE authors' agents with --agents")
    rows = [one(name, args.agents, args.out, args.steps, tuple(args.seeds)) for name in args.tasks]
    results = {"rows": rows, "versions": versions()}
    Path("docs/results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    command = f"python benchmarks/refine.py --steps {args.steps} --seeds {' '.join(map(str, args.seeds))}"
    Path("docs/results.md").write_text(page(results, command), encoding="utf-8")


if __name__ == "__main__":
    main()
