"""Where jobs run: in processes of this machine, or on a Ray cluster. Results come as they are ready.

On a cluster no disk is shared: a job's run folder travels with it, and what it wrote travels back.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from unstuck.bench.jobs import BenchJob, JobResult, perform, score_stage
from unstuck.cluster import connected, of_run, opened, pack
from unstuck.cluster import unpack as unpack_files
from unstuck.stages.train import round_folder

Backend = Literal["loky", "ray"]
DIED = "the process that ran it died; it may have run out of memory. The same command tries it again."
POLL = 0.5
"""Seconds between two looks for results of a cluster."""


def run_jobs(
    jobs: Sequence[BenchJob], workers: int, backend: Backend = "loky", address: str | None = None
) -> Iterator[JobResult]:
    """Do jobs, `workers` at a time (0: one for each core, of all machines), one core each, roughly in their order.

    Raises:
        UnstuckError: if Ray is asked for and not installed, or its cluster cannot be reached.
    """
    if not jobs:
        return
    if backend == "ray":
        yield from _on_ray(jobs, workers, address)
    else:
        yield from _here(jobs, min(workers or os.cpu_count() or 1, len(jobs)))


def _here(jobs: Sequence[BenchJob], workers: int) -> Iterator[JobResult]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = list(jobs)
    for _ in range(2):
        # One job at a time to each worker: those that wait go to whoever is free first.
        parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch=workers)
        try:
            for outcome in parallel(delayed(perform)(job) for job in left[:]):
                left.remove(outcome.job)
                yield outcome
            return
        except TerminatedWorkerError:
            continue  # all workers of a pool go with one that dies: the rest is tried once more
    for job in left:
        yield JobResult(job, "failed", DIED)


def _on_ray(jobs: Sequence[BenchJob], workers: int, address: str | None) -> Iterator[JobResult]:
    ray = connected(address)
    from joblib import Parallel, delayed, parallel_config
    from ray.util.joblib import register_ray
    from ray.util.queue import Empty, Queue

    register_ray()
    count = min(workers or int(ray.cluster_resources().get("CPU", 1)), len(jobs))
    # joblib hands a cluster's results over when all are there; the queue brings each one as it comes.
    queue = Queue(actor_options={"num_cpus": 0})
    problem: list[BaseException] = []

    def work() -> None:
        try:
            # Workers that ask for no core are all put on one machine; and joblib makes no pool for a single worker.
            core = {"num_cpus": 1 if count > 1 else 0.5}
            with parallel_config(backend="ray", n_jobs=max(2, count), ray_remote_args=core):
                Parallel(batch_size=1)(delayed(elsewhere)(queue, job, pack_run(job)) for job in jobs)
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    left = {job.name: job for job in jobs}
    while left:
        alive = thread.is_alive()
        try:
            outcome: JobResult = queue.get(timeout=POLL)
        except Empty:
            if not alive:
                break
            continue
        job = left.pop(outcome.job.name)
        unpack(outcome, job)
        yield replace(outcome, job=job, parcel=None)
    for job in left.values():
        yield JobResult(job, "failed", f"{DIED} ({problem[0]})" if problem else DIED)
    thread.join()
    queue.shutdown()


def elsewhere(queue: Any, job: BenchJob, parcel: bytes) -> str:
    """On a machine of the cluster: unpack the run folder, do the job in it, send back what it wrote."""
    with tempfile.TemporaryDirectory(prefix="unstuck-") as folder:
        root, recordings = Path(folder) / "run", Path(folder) / "recordings"
        unpack_files(parcel, Path(folder))
        here = replace(job, root=str(root), recordings=str(recordings) if recordings.exists() else "")
        outcome = perform(here)
        outcome.job, outcome.machine = job, _node()
        outcome.parcel = pack([(root / name, f"run/{name}") for name in _written(job, root)])
        queue.put(outcome)
    return job.name


def _node() -> str:
    try:
        import ray

        return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
    except ImportError:
        return ""


def pack_run(job: BenchJob) -> bytes:
    """What a job needs of its run folder: all but other training runs; and the recordings."""
    root = Path(job.root)
    parts = of_run(root, ("train", "score", "evaluate", "rounds"))
    if job.kind == "before":
        parts = [part for part in parts if part[0].name in ("manifest.json", "agent")]
    if job.training is not None and not job.train:
        parts.append((root / job.training.stage, f"run/{job.training.stage}"))
    elif rounds := _rounds(job):
        parts.append((root / rounds, f"run/{rounds}"))
    if job.recordings:
        parts.append((Path(job.recordings), "recordings"))
    return pack(parts)


def _written(job: BenchJob, root: Path) -> list[str]:
    """What travels back, relative to the run folder; the manifest last."""
    if job.training is not None:
        stages = [score_stage(job.training), *([job.training.stage] if job.train else [])]
        drafts = [f"{s}.draft" for s in stages]
        if not (rounds := _rounds(job)):
            return drafts
        asked = sorted((root / "recordings").rglob("*.json"))  # each by itself: others of this folder are elsewhere
        return [rounds, *(p.relative_to(root).as_posix() for p in asked), *drafts]
    return [*sorted(p.name for p in root.iterdir() if p.name not in ("agent", "manifest.json")), "manifest.json"]


def _rounds(job: BenchJob) -> str:
    """The folder of a job's rounds, relative to the run folder; '' where it trains in one."""
    if job.training is None or not job.train or job.training.rounds == 1:
        return ""
    return round_folder(Path(), job.training, 1).parent.as_posix()


def unpack(outcome: JobResult, job: BenchJob) -> None:
    """Put what a job wrote elsewhere in its place here; the manifest last, so that a kill between leaves a run folder
    that only knows less than it has."""
    if outcome.parcel is None:
        return
    root = Path(job.root)
    with opened(outcome.parcel, root) as folder:
        for name in _written(job, folder / "run"):
            source, target = folder / "run" / name, root / name
            if not source.exists():
                continue
            if target.is_dir():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
