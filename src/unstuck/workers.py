"""What every process that computes does first."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores() -> int:
    """Cores that nothing else of ours uses: one in a worker process, because the others have theirs."""
    import multiprocessing

    return 1 if multiprocessing.parent_process() is not None else cores()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside, or in a function that this decorates: torch's, and those of the library behind
    numpy's matrix products. Networks are small, so that more threads only wait for each other; and rounding, with it
    every number of a run, would depend on how many there are."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


def end_with_parent(every: float = 1.0) -> None:
    """End this process when the one that started it is gone: a killed command leaves no worker behind that computes,
    or writes into a draft which the next command has begun anew. Does nothing in a main process.

    Args:
        every: seconds between two looks.
    """
    import multiprocessing

    parent = multiprocessing.parent_process()
    started_by = parent.pid if parent is not None else None
    if started_by is None or any(t.name == _NAME for t in threading.enumerate()):
        return
    threading.Thread(target=_watch, args=(started_by, every), name=_NAME, daemon=True).start()


_NAME = "unstuck-end-with-parent"


def _watch(started_by: int, every: float) -> None:
    wait = threading.Event()
    while os.getppid() == started_by:
        wait.wait(every)
    os._exit(1)
