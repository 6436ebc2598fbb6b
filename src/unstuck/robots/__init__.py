"""Gymnasium's MuJoCo tasks, many at once: the simulators stepped one by one or by threads, the rest for all together.

- `together`: the environments that can be; `apart`: why others cannot.
- `stepping`: `Together`, which steps them.
- `proof`: which can be: what they are made of, and a comparison with their own `step`.
- `families`, `formulas`: which classes of Gymnasium's, and what they compute, for many environments.

The environments themselves stay Gymnasium's: they are made, reset, saved and restored as ever, and hold the simulators
that are stepped here. What `step` computes in Python for one environment (observation, reward, whether it ends, info)
is computed in numpy for all, to the same bits: see docs/robots.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gymnasium as gym

    from unstuck.robots.stepping import Together


def apart(env: gym.Env) -> str | None:
    """Why environments of this make cannot be stepped together, a clause; None if they can.

    Imports MuJoCo where they have it, and not otherwise.
    """
    if type(getattr(env.unwrapped, "data", None)).__module__.partition(".")[0] != "mujoco":
        return "it is no MuJoCo environment"
    from unstuck.robots.proof import not_together

    return not_together(env)


def together(envs: Sequence[gym.Env]) -> Together | None:
    """Environments of one make, to be stepped together; None where they cannot be, or there is only one."""
    if len(envs) < 2 or apart(envs[0]) is not None:
        return None
    from unstuck.robots.stepping import Together

    return Together(envs)
