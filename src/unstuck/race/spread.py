"""Legs of several competitors at once: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unstuck.cells import kept
from unstuck.cluster import connected, of_run, opened, pack, unpack
from unstuck.config import RaceConfig
from unstuck.race.legs import Leg, run_leg
from unstuck.run import Run

BESIDE = ("train", "race", "rounds", "evaluate", "recordings", "kept")
"""Of a run folder, what no leg reads."""


def together(legs: Sequence[Leg], workers: int, config: RaceConfig) -> list[dict[str, Any]]:
    """What each leg found, in their order; those that are done already are read.

    Raises:
        UnstuckError: Ray is asked for and not installed, or its cluster cannot be reached.
    """
    if config.backend == "ray" and len(legs) > 1:
        return _on_ray(legs, config.ray_address)
    if workers <= 1 or len(legs) == 1:
        return [run_leg(leg) for leg in legs]
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=min(workers, len(legs)))(delayed(run_leg)(leg) for leg in legs))


def _on_ray(legs: Sequence[Leg], address: str | None) -> list[dict[str, Any]]:
    todo = [leg for leg in legs if kept(leg.folder, leg.mark) is None]
    if todo:
        ray = connected(address)
        task = ray.remote(num_cpus=1, max_retries=1)(elsewhere)
        waiting = {task.remote(leg, packed(leg)): leg for leg in todo}
        while waiting:  # each is put in place when it is there, so that a kill loses only what runs
            ready, _ = ray.wait(list(waiting))
            for one in ready:
                put(waiting.pop(one), ray.get(one))
    return [run_leg(leg) for leg in legs]


def packed(leg: Leg) -> bytes:
    """What a leg needs on another machine: the run without what was trained, and of its race the states, the
    transplant and the leg before."""
    root, home = Path(leg.root), Path(leg.home)
    parts = of_run(root, BESIDE)
    parts += [(home / name, f"home/{name}") for name in ("states", "transplant")]
    if leg.begin:
        parts.append((home / leg.name / str(leg.begin), f"home/{leg.name}/{leg.begin}"))
    return pack(parts)


def elsewhere(leg: Leg, parcel: bytes) -> bytes:
    """On a machine of the cluster: the leg, in folders of its own; what it left."""
    with tempfile.TemporaryDirectory(prefix="unstuck-") as folder:
        unpack(parcel, Path(folder))
        here = replace(leg, root=str(Path(folder) / "run"), home=str(Path(folder) / "home"))
        # What the run would import was confirmed where the race began; who may put tasks here may run anything anyway.
        Run(here.root, trust=True)
        run_leg(here)
        return pack([(here.folder, "leg")])


def put(leg: Leg, parcel: bytes) -> None:
    """What a leg left elsewhere, in its place here, whole or not at all."""
    leg.folder.parent.mkdir(parents=True, exist_ok=True)
    with opened(parcel, leg.folder.parent) as folder:
        shutil.rmtree(leg.folder, ignore_errors=True)
        os.replace(folder / "leg", leg.folder)
