"""What the rounds of a training leave in all: the last one's agents, one learning curve, and what all of them took."""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unstuck.curves import CURVE, read_curve, write_curve
from unstuck.guidance import Guidance, load_guidance
from unstuck.results import MODES, Charges, Checkpoint, MeanReturns, RoundFacts, TrainFacts
from unstuck.run import Run
from unstuck.stages.train import Job


@dataclass(frozen=True)
class Trained:
    """What one round left."""

    number: int
    run: Run
    """Whose episodes and guidance it had."""
    job: Job
    folder: Path
    """With agent.zip, info.json and curve.jsonl."""
    seconds: float

    @property
    def charged(self) -> dict[str, int]:
        """Environment steps by stage, of this round alone."""
        return self.job.charged

    @property
    def steps(self) -> int:
        """Environment steps charged, all stages of this round."""
        return sum(self.charged.values())

    @functools.cached_property
    def facts(self) -> TrainFacts:
        return TrainFacts.read(self.folder / "info.json")

    @property
    def unguided(self) -> bool:
        """Whether nothing of its guidance could be used."""
        plan, guidance = self.job.plan, self.job.guidance or Guidance(env_id="", diagnosis="")
        return not plan.advice(guidance) and not plan.reward_terms(guidance)


def gather(run: Run, job: Job, done: list[Trained], folder: Path, problem: str) -> None:
    """Into the draft: the last round's agents, one learning curve, and what all rounds took."""
    last = done[-1]
    before = sum(d.charged["train"] for d in done[:-1])
    checkpoints = []
    for trained, file in last.facts.checkpoints:
        name = file if file == "agent.zip" else f"agent-{before + trained}.zip"
        for suffix in (".zip", ".vecnormalize.pkl"):
            if (source := (last.folder / file).with_suffix(suffix)).exists():
                shutil.copyfile(source, (folder / name).with_suffix(suffix))
        checkpoints.append(Checkpoint(before + trained, name))
    _join_curves(done, folder / CURVE)
    charged = Charges()
    for one in done:
        charged += Charges({stage: steps for stage, steps in one.charged.items() if stage != "train"})
    train = sum(one.charged["train"] for one in done)
    TrainFacts(
        arm=job.arm,
        seed=job.seed,
        steps=train,
        charged=charged + Charges({"train": train}),
        warnings=(*_warnings(done), *([problem] if problem else [])),
        hit_rate=_hit_rate(done),
        notes=tuple(f"round {d.number}: {note}" for d in done for note in d.facts.notes),
        checkpoints=tuple(checkpoints),
        backend=last.facts.backend,
        engine=last.facts.engine,
        algorithm=last.facts.algorithm,
        rounds=tuple(_told(run, one) for one in done),
    ).write(folder / "info.json")


def _join_curves(done: list[Trained], path: Path) -> None:
    """`steps` goes on over the rounds with what was spent between them; `trained` without."""
    spent = trained = 0
    joined = []
    for one in done:
        joined += [
            replace(p, steps=spent + p.steps, trained=trained + p.trained, round=one.number)
            for p in read_curve(one.folder)
        ]
        spent, trained = spent + one.steps, trained + one.charged["train"]
    write_curve(path, joined)


def _warnings(done: list[Trained]) -> list[str]:
    found = []
    for one in done:
        texts = one.facts.warnings
        if one.unguided and one.job.plan.guided:
            texts = (
                "nothing in its guidance could be used (none given, dropped, disabled, or found harmful), so it "
                "trained without guidance",
            )
        found += [f"round {one.number}: {text}" for text in texts]
    return found


def _hit_rate(done: list[Trained]) -> float | None:
    """Mean over all training steps of the rounds that have one."""
    known = [(d.facts.hit_rate, d.charged["train"]) for d in done if d.facts.hit_rate is not None]
    return sum(h * n for h, n in known) / sum(n for _, n in known) if known else None


def _told(run: Run, one: Trained) -> RoundFacts:
    """What a round began with, what it was told, and what it took."""
    collected, explained = one.run.record("collect").facts, one.run.record("explain").facts
    guidance, plan = one.job.guidance or load_guidance(one.run.guidance_path), one.job.plan
    model = ("model", "calls", "replayed", "tokens_in", "tokens_out", "cost_usd")
    return RoundFacts(
        round=one.number,
        before=MeanReturns(**{mode: _mean(collected.get(mode)) for mode in MODES}),
        diagnosis=guidance.diagnosis,
        advice=len(plan.advice(guidance)),
        of=len(guidance.advice),
        terms=len(plan.reward_terms(guidance)),
        charged=Charges(one.charged),
        folder=os.path.relpath(one.run.root, run.root),
        **{key: explained.get(key) for key in model},
    )


def _mean(values: Any) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
