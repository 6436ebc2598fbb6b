"""Episodes and branches side by side: one policy call for each step of all of them. The only such loop there is.

Imports no torch: processes that run branches start with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unstuck.tasks import guarded

if TYPE_CHECKING:
    from unstuck.numpy_policy import Policy
    from unstuck.robots.stepping import Together

Step = Callable[[Any, Any], tuple[Any, Any, bool, bool, dict[str, Any]]]
"""Steps what a row knows its environment by with an action, as Gymnasium does."""
Change = Callable[..., Any]
"""The rows and the policy's own actions (N, *action shape) → the actions to execute."""


def stack(observations: Sequence[Any]) -> Any:
    """Single observations → a batch (N, *obs_shape), or a dict of batches."""
    if isinstance(observations[0], dict):
        return {k: _stack([o[k] for o in observations]) for k in observations[0]}
    return _stack(observations)


def _stack(observations: Sequence[Any]) -> np.ndarray:
    first = observations[0]
    if type(first) is np.ndarray and first.ndim == 1:  # a third of the time that numpy's stack takes
        return np.concatenate(observations).reshape(len(observations), -1)
    return np.stack([np.asarray(o) for o in observations])


@dataclass(eq=False)
class Row:
    """One episode or branch under way."""

    env: Any
    """What the caller's `step` knows the environment by."""
    observation: Any
    """The raw one of the state it is in."""
    rng: np.random.Generator
    """Of its policy's noise: one draw at each step, whether its action is executed or not."""
    deterministic: bool = False
    limit: int | None = None
    """Steps after which it is cut."""
    informed: bool = True
    """Whether `took` looks at `info`; else it may be empty, which saves making it for many environments."""
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    cut: bool = False
    """Stopped by `limit`, not by the task; then `truncated` holds too."""

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def total_reward(self) -> float:
        return float(np.sum(self.rewards))

    @property
    def over(self) -> bool:
        return self.terminated or self.truncated

    def place(self) -> guarded.Place:
        """For what is told of an environment that misbehaves."""
        return guarded.Place(guarded.name_of(self.env), step=len(self) + 1)

    def took(self, action: Any, observation: Any, info: dict[str, Any]) -> None:
        """Called after each step, when `rewards` has its reward; by default the observation is kept until the next."""
        self.observation = observation


def advance(
    rows: Sequence[Row],
    policy: Policy,
    step: Step | None = None,
    change: Change | None = None,
    together: Together | None = None,
) -> None:
    """One step of each row. None of them may be over.

    The policy is asked once for the rows that act deterministically, and once for the others.

    Args:
        step: steps what a row knows its environment by; by default the environment itself, with what it gives checked.
        change: what is executed in place of the policy's own actions.
        together: steps the environments of all rows, in place of `step`.
    """
    acting: list[Row] = []
    chosen: list[Any] = []
    for deterministic in (True, False):
        group = [row for row in rows if row.deterministic == deterministic]
        if not group:
            continue
        rngs = None if deterministic else [row.rng for row in group]
        actions: Any = policy.act(stack([row.observation for row in group]), deterministic, rngs)
        if change is not None:
            actions = change(group, actions)
        acting += group
        chosen.append(actions)
    every = chosen[0] if len(chosen) == 1 else np.concatenate(chosen)
    results = _one_by_one(acting, every, step) if together is None else _at_once(acting, every, together)
    for row, action, (observation, reward, terminated, truncated, info) in zip(acting, every, results, strict=True):
        row.rewards.append(float(reward))
        row.terminated, row.truncated = bool(terminated), bool(truncated)
        if row.limit is not None and len(row.rewards) >= row.limit and not row.over:
            row.truncated = row.cut = True
        row.took(action, observation, info)


def _one_by_one(rows: Sequence[Row], actions: Any, step: Step | None) -> Iterable[Any]:
    """Stepped when it is asked for, so that each row has taken its step before the next one steps."""
    for row, action in zip(rows, actions, strict=True):
        yield guarded.step(row.env, action, row.place()) if step is None else step(row.env, action)


def _at_once(rows: Sequence[Row], actions: Any, together: Together) -> Iterable[Any]:
    with guarded.guarded(rows[0].place):
        found = together.step(
            np.asarray(actions), together.rows_of([row.env for row in rows]), infos=any(row.informed for row in rows)
        )

    def worst() -> guarded.Place:
        finite = np.isfinite(found.rewards) & np.isfinite(found.obs).all(axis=1)
        return rows[int(np.argmin(finite))].place()

    guarded.check_batch(found.obs, found.rewards, worst)
    return zip(
        found.obs, found.rewards.tolist(), found.terminated.tolist(), found.truncated.tolist(), found.infos, strict=True
    )
