"""What the report reads from a run folder. Everything may be missing: a report can be asked for at any stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from unstuck.curves import CurvePoint, read_curve
from unstuck.errors import GuidanceError, RunError
from unstuck.guidance import Guidance, load_guidance
from unstuck.results import Scores, StageKey, TrainFacts, trainings
from unstuck.run import Run, StageRecord
from unstuck.stages.evaluate import SCORES

STAGES = ("collect", "explain", "verify", "train", "evaluate")


@dataclass(frozen=True)
class Curve:
    """The learning curve of one training run."""

    facts: TrainFacts
    points: tuple[CurvePoint, ...]

    @property
    def arm(self) -> str:
        return self.facts.arm

    @property
    def begin(self) -> int:
        """Environment steps charged when training began; later rounds are charged for more in between."""
        first = self.points[0] if self.points else None
        if first is None or not (is_number(first.steps) and is_number(first.trained)):
            return self.facts.charged.before_training
        return int(first.steps - first.trained)

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """(environment steps charged, values) where the value is known; `steps` counts what was charged before."""
        known = [(float(p.steps), value) for p in self.points if (value := p.value(key)) is not None]
        return [x for x, _ in known], [y for _, y in known]


@dataclass(frozen=True)
class RunData:
    """All of a run that the report shows."""

    run: Run
    guidance: Guidance | None
    guidance_file: str
    guidance_problem: str
    curves: tuple[Curve, ...]
    scores: Scores | None

    def record(self, stage: str) -> StageRecord | None:
        return self.run.manifest.stages.get(stage)

    def facts(self, stage: str) -> dict[str, Any]:
        record = self.record(stage)
        return record.facts if record else {}

    def done(self, stage: str) -> bool:
        return any(StageKey.parse(name).stage == stage for name in self.run.manifest.stages)


def is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e300 and math.isfinite(x)


def read_run(run: Run) -> RunData:
    """Read what there is. A damaged file counts as missing; of guidance, which people edit, the page says why.

    Raises:
        RunError: if the manifest is damaged.
    """
    guidance, file, problem = _guidance(run)
    curves = [Curve(facts, read_curve(run.root / str(key))) for key, facts in _trainings(run).items()]
    return RunData(run, guidance, file, problem, tuple(curves), _scores(run))


def _guidance(run: Run) -> tuple[Guidance | None, str, str]:
    for path in (run.guidance_path, run.advice_path):
        if path.exists():
            try:
                return load_guidance(path), path.name, ""
            except GuidanceError as error:
                return None, path.name, str(error)
    return None, "", ""


def _trainings(run: Run) -> dict[StageKey, TrainFacts]:
    """The finished training runs at the configured budget, control first."""
    return {key: facts for key, facts in trainings(run).items() if facts.budget == run.config.train.steps}


def _scores(run: Run) -> Scores | None:
    try:
        return Scores.read(run.root / SCORES)
    except RunError:
        return None
