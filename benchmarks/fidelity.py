"""Whether the steps that each explainer calls critical matter: fidelity as StateMask and RICE measure it, on the tasks
of a finished benchmark, over all episodes that were collected there.

    python -m benchmarks.fidelity OUT --tasks half-cheetah walker2d --page docs/fidelity.md

OUT is the folder of `unstuck bench`, whose explanations are used. The page's data goes beside it, as JSON; without
--tasks the page is written again from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SOURCES = {"llm": "language model", "search": "search", "statemask": "StateMask", "rice": "RICE"}
SHARES = (0.1, 0.2, 0.4)
TABLE = ["language model", "search", "StateMask", "RICE", "value drop", "random"]


def measure_task(out: Path, task: str, repeats: int, episodes: int) -> dict[str, Any]:
    """Fidelity of every explainer on one task."""
    from unstuck.fidelity import fidelity
    from unstuck.run import Run
    from unstuck.workers import one_thread

    begun = time.monotonic()
    runs = {name: Run(out / task / "explain" / name) for name in SOURCES if (out / task / "explain" / name).exists()}
    first, *others = runs.values()
    with one_thread():
        found = fidelity(first, others, shares=SHARES, repeats=repeats, max_episodes=episodes)
    data = found.as_dict()
    for row in data["rows"]:
        row["explainer"] = SOURCES.get(row["explainer"], row["explainer"])
    return {"task": task, "env": first.config.task.env, **data, "seconds": round(time.monotonic() - begun, 1)}


def page(data: dict[str, Any]) -> str:
    lines = [
        "# Fidelity of explanations",
        "",
        "Do the steps that an explainer calls critical matter? As StateMask and RICE measure it: in the window of l of",
        "an episode's L steps that is most critical by an explainer, random actions replace the agent's, and d is the",
        "mean absolute change of the return; fidelity is log(d/d_max) - log(l/L), higher is better. d_max is the",
        "largest change in any window of a task, so numbers compare within a task only. 95 % bootstrap intervals over",
        "episodes. Windows by the language model's episodes and steps, by the search explainer's, by the importance of",
        "the mask networks, by the greatest fall of the agent's own value, and by chance.",
        "",
    ]
    for share in SHARES:
        lines += [f"## Windows of {share:.0%} of the episode", ""]
        lines += ["| task | " + " | ".join(TABLE) + " |", "|---|" + "---|" * len(TABLE)]
        for task in data["tasks"]:
            cells = {r["explainer"]: r for r in task["rows"] if r["share"] == share}
            lines.append(f"| {task['task']} | " + " | ".join(cell(cells.get(name)) for name in TABLE) + " |")
        lines.append("")
    lines += ["## The language model against the others", "", *compared(data), "", "## How it was made", ""]
    about = ", ".join(f"{t['task']} {t['episodes']} episodes, {t['env_steps']:,} steps" for t in data["tasks"])
    lines += [
        f"`{data['command']}`; {data['repeats']} pairs of branches for each window. {about}. An episode counts where "
        "every explainer names something. " + ", ".join(f"{k} {v}" for k, v in data["versions"].items()) + ".",
        "",
    ]
    return "\n".join(lines)


def cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["fidelity"] is None:
        return "no change"
    bounds = f" [{number(row['low'])}, {number(row['high'])}]" if row["high"] is not None else ""
    return f"{row['fidelity']:.2f}{bounds}"


def number(x: float | None) -> str:
    return "-∞" if x is None else f"{x:.2f}"


def compared(data: dict[str, Any]) -> list[str]:
    """Mean over tasks and windows of the difference to each other explainer, with an interval over tasks."""
    from unstuck.stats import mean_interval

    lines = ["Differences of fidelity, mean over windows and then tasks; 95 % interval (Student t) over tasks.", ""]
    lines += ["| language model minus | difference | tasks |", "|---|---|---|"]
    differ = []
    for name in TABLE[1:]:
        gaps = []
        for task in data["tasks"]:
            cells = {(r["explainer"], r["share"]): r["fidelity"] for r in task["rows"]}
            pairs = [(cells.get((TABLE[0], s)), cells.get((name, s))) for s in SHARES]
            known = [a - b for a, b in pairs if a is not None and b is not None]
            if known:
                gaps.append(float(np.mean(known)))
        if not gaps:
            continue
        found = mean_interval(gaps)
        bounds = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None else ""
        lines.append(f"| {name} | {found.mean:+.2f}{bounds} | {found.n} |")
        differ += [name] if found.low is not None and found.low > 0 else []
    return [*lines, "", conclusion(differ)]


def conclusion(differ: list[str]) -> str:
    return (
        f"The language model's steps matter more, clearly, than those of: {', '.join(differ) or 'none of them'}. This "
        "measures where an explainer points, not what it says to do there: for an agent that always fails in the same "
        "way, random actions change little anywhere, and the step at which it should have acted otherwise need not be "
        "one at which its own actions earn much. What the advice is worth in training is in [results.md](results.md)."
    )


def main() -> None:
    from unstuck.bench.jobs import versions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--tasks", nargs="+", default=[])
    parser.add_argument("--page", type=Path, default=Path("docs/fidelity.md"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=6, help="of each kind, deterministic and sampled")
    args = parser.parse_args()
    if not args.tasks:
        data = json.loads(args.page.with_suffix(".json").read_text(encoding="utf-8"))
        args.page.write_text(page(data), encoding="utf-8")
        return
    results = []
    for task in args.tasks:
        results.append(measure_task(args.out, task, args.repeats, args.episodes))
        print(f"{task}: {results[-1]['seconds']} s, {results[-1]['env_steps']:,} steps", file=sys.stderr, flush=True)
    command = f"python -m benchmarks.fidelity OUT --tasks {' '.join(args.tasks)} --repeats {args.repeats}"
    data = {
        "command": f"{command} --episodes {args.episodes}", "repeats": args.repeats, "versions": versions(),
        "tasks": results,
    }  # fmt: skip
    args.page.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    args.page.write_text(page(data), encoding="utf-8")
    print(f"{args.page} and {args.page.with_suffix('.json')}")


if __name__ == "__main__":
    main()
