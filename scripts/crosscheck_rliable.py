"""Compare `unstuck.stats` with rliable on simulated scores, and print both.

    python scripts/crosscheck_rliable.py            # makes an environment, installs rliable there, compares in it

rliable 1.2.0 fails to import beside pandas 3, so it gets an environment of its own (`--venv`, kept for the next time),
which sees this one's packages. Its bootstrap ignores `random_state`, so its bounds differ from run to run; the
tolerances of bounds allow for that of both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np

SEEDS, TASKS = 10, 6


def scores(rng: np.random.Generator, shift: float) -> np.ndarray:
    """(seeds, tasks): tasks at levels of their own, a few runs that fail."""
    x = rng.normal(np.linspace(0.1, 0.9, TASKS) + shift, 0.15, (SEEDS, TASKS))
    return np.where(rng.random(x.shape) < 0.1, 0.0, x)


def compare(resamples: int = 10_000) -> list[tuple[str, float, float, float]]:
    """(what, ours, rliable's, tolerance): points must agree to rounding, bounds to the bootstrap's own noise."""
    from rliable import library, metrics

    from unstuck import stats

    rng = np.random.default_rng(0)
    x, y = scores(rng, 0.1), scores(rng, 0.0)
    found: list[tuple[str, float, float, float]] = []

    def add(name: str, ours: stats.Interval, point: Any, bounds: Any, noise: float) -> None:
        low, high = np.asarray(bounds).ravel()
        found.append((name, ours.mean, float(np.asarray(point).ravel()[0]), 1e-9))
        found.append((f"{name}, lower bound", float(ours.low or np.nan), float(low), noise))
        found.append((f"{name}, upper bound", float(ours.high or np.nan), float(high), noise))

    for name, theirs, statistic in (
        ("IQM", metrics.aggregate_iqm, stats.iqm_statistic),
        ("mean", metrics.aggregate_mean, stats.mean_statistic),
    ):
        points, bounds = library.get_interval_estimates({"x": x}, lambda s, f=theirs: np.array([f(s)]), reps=resamples)
        add(name, stats.aggregate(list(x.T), statistic, resamples=resamples), points["x"], bounds["x"], 0.01)
    points, bounds = library.get_interval_estimates({"x,y": (x, y)}, metrics.probability_of_improvement, reps=resamples)
    ours = stats.probability_of_improvement(list(x.T), list(y.T), resamples=resamples)
    add("probability of improvement", ours, points["x,y"], bounds["x,y"], 0.015)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=Path(".rliable"), help="the environment for rliable")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        python = _environment(args.venv)
        src = Path(__file__).resolve().parents[1] / "src"
        env = {**os.environ, "PYTHONPATH": str(src)}
        raise SystemExit(subprocess.run([python, __file__, "--inside"], env=env, check=False).returncode)
    wrong = 0
    print(f"{'':<42}{'ours':>10}{'rliable':>10}{'apart':>10}{'allowed':>10}")
    for name, ours, theirs, tolerance in compare():
        wrong += not abs(ours - theirs) <= tolerance
        print(f"{name:<42}{ours:>10.5f}{theirs:>10.5f}{abs(ours - theirs):>10.1e}{tolerance:>10.0e}")
    raise SystemExit(1 if wrong else 0)


def _environment(folder: Path) -> str:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        site = next((folder / "lib").glob("python*")) / "site-packages"
        # Last on the path: rliable's pandas and what belongs to it are found before this environment's.
        (site / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "rliable==1.2.0", "pandas<3"], check=True)
    return str(python)


if __name__ == "__main__":
    sys.exit(main())
