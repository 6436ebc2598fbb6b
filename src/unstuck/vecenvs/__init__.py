"""Many environments of one task behind Stable-Baselines3's `VecEnv`, as fast as the task allows.

`make_vec_env` chooses: EnvPool, where its task is proved to be Gymnasium's own; else Gymnasium. Nothing heavy is
imported before it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unstuck.vecenvs.choice import Backend, Choice, choose, make_vec_env
    from unstuck.vecenvs.tasks import DIFFERENT_TASKS, EQUAL_TASKS, SPARSE_TASKS

__all__ = ["DIFFERENT_TASKS", "EQUAL_TASKS", "SPARSE_TASKS", "Backend", "Choice", "choose", "make_vec_env"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "tasks" if name.endswith("_TASKS") else "choice"
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
