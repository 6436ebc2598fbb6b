"""The race: treatments of a stuck agent against each other and plain PPO, within one budget, and never worse.

    competitors.py   treatments by name, alone and together
    entering.py      who races, and in which order
    screen.py        a first look at reward terms that costs no step
    feedback.py      the coach asked again after the first rung; measure.py: what guidance did there
    schedule.py      who goes on and for how long: pure decisions
    legs.py          training and episodes, each in a folder of its own
    entry.py         a competitor under way
    track.py         the budget, legs trained and charged, curves, the ladder
    contest.py       who trains with what is left; layout.py: its rungs; trials.py: what begins from the bottom
    finish.py        the winner's training
    reserve.py       what is kept of the budget for the end
    finals.py        the last test, and what is handed over
    quiet.py         with how much noise
    spread.py        legs of several competitors at once: processes of this machine, or a Ray cluster
    engine.py        one race

`docs/race.md` says how it goes and what it costs, `docs/race-measured.md` what its rules rest on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unstuck.algorithms import continued_by
from unstuck.curves import CURVE, read_curve, write_curve
from unstuck.guidance import Guidance, load_guidance
from unstuck.guide.plan import Plan
from unstuck.race.engine import Race
from unstuck.race.entry import Entry
from unstuck.race.finals import Outcome
from unstuck.race.track import Track
from unstuck.results import RACE, Charges, Checkpoint, RaceVerdict, StageKey, TrainFacts
from unstuck.run import Run
from unstuck.stages.train import Job
from unstuck.workers import end_with_parent, free_cores, one_thread
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
    track = Track(run, home, job.seed, job.steps, config, say=say or (lambda _: None), workers=free_cores())
    outcome = Race(track, opinions(run, job)).go()
    _leave(track, outcome, job, Path(folder))
    return job.stage, time.monotonic() - begun


def opinions(run: Run, job: Job) -> list[tuple[Guidance, Plan]]:
    """The coach's guidances, with the plan by which each enters training: the run's own, and those that were left
    beside it as guidance-2.json, guidance-3.json..."""
    if job.guidance is None:
        return []
    card = open_describer(run.config.task).card
    more = (load_guidance(path, card) for path in run.opinion_paths)
    return [(guidance, job.plan) for guidance in (job.guidance, *more)]


def _name(outcome: Outcome) -> str:
    names = {"finalist": outcome.winner.name, "trunk": "continue", "original": "the agent as it was given"}
    return names[outcome.handed]


def _leave(track: Track, outcome: Outcome, job: Job, folder: Path) -> None:
    winner, handed, quiet = outcome.winner, outcome.handed, outcome.quiet
    shutil.copyfile(quiet.agent, folder / "agent.zip")
    given = quiet.agent == track.run.agent_path
    statistics = track.run.vecnormalize_path if given else quiet.agent.with_suffix(".vecnormalize.pkl")
    if statistics is not None and statistics.exists():
        shutil.copyfile(statistics, folder / "agent.vecnormalize.pkl")
    charged = Charges({**{k: v for k, v in job.charged.items() if k != "train"}, **track.spent})
    trunk = track.entries[0].trained if winner is not track.entries[0] else outcome.finalist
    trained = {"finalist": outcome.finalist, "trunk": trunk, "original": 0}[handed]
    RaceVerdict(
        handed=handed, name=_name(outcome) if handed != "original" else "original", finalist=winner.name,
        trainer=track.trainer, why=outcome.why, mode=track.config.mode, level=track.config.level, noise=quiet.share,
        returns={k: tuple(v) for k, v in outcome.returns.items()},
        other={k: tuple(v) for k, v in outcome.other.items()}, seeds=outcome.seeds,
        over_original=outcome.over, over_trunk=outcome.over_trunk,
        ladder=tuple(entry.rank for entry in track.entries),
        charged=charged, budget=track.run.config.train.steps, seed=job.seed,
    ).write(folder / RACE)  # fmt: skip
    _curve(track, winner, charged, folder)
    facts = winner.facts
    notes = (f"handed over: {_name(outcome)}; {outcome.why}", *facts["notes"])
    TrainFacts(
        arm=job.arm, seed=job.seed, charged=charged, steps=track.spent["train"],
        checkpoints=(Checkpoint(trained, "agent.zip"),), warnings=facts["warnings"], notes=notes,
        hit_rate=facts["hit_rate"], backend=facts["backend"], engine=facts["engine"],
        algorithm=continued_by(track.space.agent),
    ).write(folder / "info.json")  # fmt: skip


def _curve(track: Track, winner: Entry, charged: Charges, folder: Path) -> None:
    """The winner's learning curve, against all steps that the race took besides its training."""
    others = charged.total - winner.trained
    legs = (read_curve(track.home / winner.name / str(stop)) for stop, _ in winner.points)
    write_curve(folder / CURVE, (replace(point, steps=point.trained + others) for leg in legs for point in leg))
