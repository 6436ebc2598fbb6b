"""Verify: advice is tried in branches of the simulator before it may touch training.

From a state of a collected episode the simulator is continued twice with the same luck: once with the advice, once
with the policy alone. Advice that does significant harm is kept out of training, and stays in the file.

    stage.py     the stage: reads advice.json, writes guidance.json
    starts.py    from which states a piece of advice is tried
    brancher.py  pairs of branches: where they run, and what they cost
    branches.py  branches in lockstep
    serving.py   processes that run branches, and servers.py, which starts them
    policy.py    the policy without torch
    judge.py     from pairs to a verdict
    terms.py     where the reward terms fire in the collected episodes (a branch cannot try them)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unstuck.stages.verify.stage import fingerprint, verify

__all__ = ["fingerprint", "verify"]


def __getattr__(name: str) -> Any:
    # The stage imports torch, which the processes that run branches do without.
    if name in __all__:
        from unstuck.stages.verify import stage

        return getattr(stage, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
