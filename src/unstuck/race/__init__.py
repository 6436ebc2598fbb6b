"""The race: treatments of a stuck agent against each other and plain PPO, within one budget, and never worse.

    competitors.py   treatments by name, alone and together
    entering.py      who races, and in which order
    screen.py        a first look at reward terms that costs no step
    schedule.py      who goes on and for how long: pure decisions
    legs.py          training and episodes, each in a folder of its own
    entry.py         a competitor under way
    track.py         the budget, legs trained and charged, curves, the ladder
    contest.py       who trains with what is left
    finish.py        the winner's training
    pairs.py         the episodes of the last test
    engine.py        one race
    outcome.py       what is handed over
    verdict.py       the last test

`docs/race.md` says how it was chosen and what it costs.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unstuck.guidance import Guidance, load_guidance
from unstuck.guide.plan import Plan
from unstuck.race.engine import Race
from unstuck.race.outcome import Outcome
from unstuck.race.track import Track, cores
from unstuck.results import RACE, Charges, Checkpoint, RaceVerdict, StageKey, TrainFacts
from unstuck.run import Run
from unstuck.stages.train import Job
from unstuck.workers import end_with_parent, one_thread
from unstuck.workspace import open_describer

__all__ = ["train_race"]


@one_thread()
def train_race(root: str, job: Job, folder: str, *, say: Callable[[str], None] | None = None) -> tuple[str, float]:
    """In a worker process, or in the main one: race one seed, and leave what is handed over in the draft folder as one
    training run leaves it, with its verdict.

    Returns:
        the job's stage, and the seconds it took.
    """
    end_with_parent()
    begun = time.monotonic()
    run = Run(root)
    home = run.root / str(StageKey("race", job.arm, job.seed))
    home.mkdir(parents=True, exist_ok=True)
    config = run.config.race.model_copy(update={"treatments": job.race or ()})
    track = Track(run, home, job.seed, job.steps, config, say=say or (lambda _: None), workers=cores())
    outcome = Race(track, opinions(run, job)).go()
    handed, why = outcome.handed()
    _leave(outcome, job, handed, why, Path(folder))
    if say is not None:
        say(f"race, seed {job.seed}: handed over: {_name(outcome, handed)}; {why}")
    return job.stage, time.monotonic() - begun


def opinions(run: Run, job: Job) -> list[tuple[Guidance, Plan]]:
    """The coach's guidances, with the plan by which each enters training: the run's own, and those that were left
    beside it as guidance-2.json, guidance-3.json..."""
    if job.guidance is None:
        return []
    card = open_describer(run.config.task).card
    more = sorted(run.root.glob("guidance-[0-9]*.json"), key=lambda p: (len(p.name), p.name))
    return [(guidance, job.plan) for guidance in (job.guidance, *(load_guidance(path, card) for path in more))]


def _name(outcome: Outcome, handed: str) -> str:
    return {"finalist": outcome.winner.name, "trunk": "continue", "original": "the agent as it was given"}[handed]


def _leave(outcome: Outcome, job: Job, handed: str, why: str, folder: Path) -> None:
    track, winner = outcome.track, outcome.winner
    source = outcome.agent(handed)
    shutil.copyfile(source, folder / "agent.zip")
    statistics = track.run.vecnormalize_path if handed == "original" else source.with_suffix(".vecnormalize.pkl")
    if statistics is not None and statistics.exists():
        shutil.copyfile(statistics, folder / "agent.vecnormalize.pkl")
    charged = Charges({**{k: v for k, v in job.charged.items() if k != "train"}, **track.spent})
    trained = outcome.finalist if handed == "finalist" else 0
    over, trunk = outcome.gains
    ladder = tuple(entry.rank for entry in track.entries)
    RaceVerdict(
        handed=handed, name=_name(outcome, handed) if handed != "original" else "original", finalist=winner.name,  # type: ignore[arg-type]
        why=why, mode=track.config.mode, level=track.config.level,
        returns={k: tuple(v) for k, v in outcome.tested.get("returns", {}).items()},
        seeds=tuple(outcome.tested.get("seeds", ())), over_original=over, over_trunk=trunk, ladder=ladder,
        charged=charged, budget=track.run.config.train.steps, seed=job.seed,
    ).write(folder / RACE)  # fmt: skip
    _curve(outcome, charged, folder)
    facts = winner.facts
    notes = (f"handed over: {_name(outcome, handed)}; {why}", *facts["notes"])
    TrainFacts(
        arm=job.arm, seed=job.seed, charged=charged, steps=track.spent["train"],
        checkpoints=(Checkpoint(trained, "agent.zip"),), warnings=facts["warnings"], notes=notes,
        hit_rate=facts["hit_rate"], backend=facts["backend"], engine=facts["engine"],
    ).write(folder / "info.json")  # fmt: skip


def _curve(outcome: Outcome, charged: Charges, folder: Path) -> None:
    """The winner's learning curve, against all steps that the race took besides its training."""
    track, winner = outcome.track, outcome.winner
    others = charged.total - winner.trained
    lines: list[dict[str, Any]] = []
    for stop, _ in winner.points:
        held = (track.home / winner.name / str(stop) / "curve.jsonl").read_text(encoding="utf-8")
        lines += [json.loads(line) for line in held.splitlines()]
    text = "".join(json.dumps({**line, "steps": line["trained"] + others}) + "\n" for line in lines)
    (folder / "curve.jsonl").write_text(text, encoding="utf-8")
