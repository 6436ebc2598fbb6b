"""What the report reads from a run folder. Everything may be missing: a report can be asked for at any stage."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unstuck.errors import GuidanceError
from unstuck.guidance import Guidance, load_guidance
from unstuck.run import Run, StageRecord
from unstuck.stats import Interval, difference_interval, mean_interval

STAGES = ("collect", "explain", "verify", "train", "evaluate")
MODES = ("deterministic", "sampled")
CONTROL = "ppo"


@dataclass(frozen=True)
class Curve:
    """The learning curve of one training run."""

    arm: str
    seed: str
    offset: int
    """Environment steps that the arm was charged for other things than training."""
    points: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was done to the agent before it was trained."""

    @property
    def begin(self) -> int:
        """Environment steps charged when training began; later rounds are charged for more in between."""
        first = self.points[0] if self.points else {}
        known = is_number(first.get("steps")) and is_number(first.get("trained"))
        return int(first["steps"] - first["trained"]) if known else self.offset

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """(environment steps charged, values) where the value is known; `steps` counts what was charged before."""
        known = [(p["steps"], p[key]) for p in self.points if is_number(p.get(key)) and is_number(p.get("steps"))]
        return [float(x) for x, _ in known], [float(y) for _, y in known]


@dataclass(frozen=True)
class Scores:
    """RUN/evaluate/scores.json."""

    before: dict[str, Interval]
    arms: dict[str, dict[str, Interval]]
    per_seed: dict[str, dict[str, tuple[float, ...]]]
    before_returns: dict[str, tuple[float, ...]]
    difference: dict[str, dict[str, Interval]]
    """Arm minus control."""
    charged: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ordered(self) -> list[str]:
        """The control first, then the guided arms."""
        return sorted(self.arms, key=lambda a: (a != CONTROL, a))


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
        stages = self.run.manifest.stages
        return stage in stages or (stage == "train" and any(s.startswith("train/") for s in stages))


def is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def read_run(run: Run) -> RunData:
    """Read what there is; a damaged part counts as missing, guidance says why."""
    guidance, file, problem = _guidance(run)
    return RunData(run, guidance, file, problem, _curves(run), _scores(run.root / "evaluate" / "scores.json"))


def _guidance(run: Run) -> tuple[Guidance | None, str, str]:
    for path in (run.guidance_path, run.advice_path):
        if path.exists():
            try:
                return load_guidance(path), path.name, ""
            except GuidanceError as error:
                return None, path.name, str(error)
    return None, "", ""


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _dict(x: Any) -> dict[str, Any]:
    return x if isinstance(x, dict) else {}


def _curves(run: Run) -> tuple[Curve, ...]:
    found = []
    paths = (run.root / "train").glob("*/*/curve.jsonl")
    for path in sorted(paths, key=lambda p: (p.parts[-3], _by_number(p.parts[-2]))):
        record = run.manifest.stages.get("/".join(path.parts[-4:-1]))
        other = record is not None and record.facts.get("budget") not in (None, run.config.train.steps)
        if path.parts[-2].endswith(".draft") or other:
            continue  # still being trained, or left by an earlier configuration
        info = _dict(_json(path.with_name("info.json")))
        charged = charged_steps(info.get("charged"))
        points = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                point = json.loads(line)
            except ValueError:
                continue
            if isinstance(point, dict):
                points.append(point)
        offset = sum(v for k, v in charged.items() if k not in ("train", "total"))
        warnings = tuple(str(w) for w in info.get("warnings") or ())
        notes = tuple(str(n) for n in info.get("notes") or ())
        found.append(Curve(path.parts[-3], path.parts[-2], offset, tuple(points), warnings, notes))
    return tuple(found)


def _by_number(text: str) -> tuple[int, str]:
    return (int(text), text) if text.isdigit() else (1 << 30, text)


def charged_steps(charged: Any) -> dict[str, int]:
    return {str(k): int(v) for k, v in _dict(charged).items() if is_number(v)}


def _scores(path: Path) -> Scores | None:
    data = _dict(_json(path))
    if not data:
        return None
    summary, arms = _dict(data.get("summary")), _dict(data.get("arms"))
    raw_before = _dict(data.get("before"))
    before = _intervals(summary.get("before")) or {
        m: mean_interval(v) for m in MODES if (v := _floats(raw_before.get(m)))
    }
    per_seed = {a: _per_seed(_dict(s), _dict(arms.get(a))) for a, s in _dict(summary.get("arms")).items()}
    scored = {a: _intervals(s) for a, s in _dict(summary.get("arms")).items()}
    given = {a: _intervals(d) for a, d in _dict(summary.get("difference")).items()}
    return Scores(
        before=before,
        arms=scored,
        per_seed=per_seed,
        before_returns={m: _floats(raw_before.get(m)) for m in MODES},
        difference={a: given.get(a) or _differences(per_seed, a) for a in scored if a != CONTROL},
        charged={a: charged_steps(_dict(v).get("charged")) for a, v in arms.items()},
    )


def _floats(x: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in x if is_number(v)) if isinstance(x, list) else ()


def _intervals(x: Any) -> dict[str, Interval]:
    out = {}
    for mode in MODES:
        d = _dict(_dict(x).get(mode))
        if is_number(d.get("mean")):
            low, high = (float(d[k]) if is_number(d.get(k)) else None for k in ("low", "high"))
            out[mode] = Interval(float(d["mean"]), low, high, int(d.get("n") or 0))
    return out


def _per_seed(summary: dict[str, Any], arm: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    """One score for each seed: as summarised, else the mean over its checkpoints' episodes."""
    out = {}
    for mode in MODES:
        values = _floats(_dict(summary.get(mode)).get("per_seed"))
        if not values:
            seeds = [_dict(s).get("checkpoints") or [] for s in _dict(arm.get("seeds")).values()]
            returns = [[r for c in cs for r in _floats(_dict(c).get(mode))] for cs in seeds]
            values = tuple(sum(r) / len(r) for r in returns if r)
        out[mode] = values
    return out


def _differences(per_seed: dict[str, dict[str, tuple[float, ...]]], arm: str) -> dict[str, Interval]:
    control = per_seed.get(CONTROL, {})
    return {
        m: difference_interval(per_seed[arm][m], control[m]) for m in MODES if per_seed[arm].get(m) and control.get(m)
    }
