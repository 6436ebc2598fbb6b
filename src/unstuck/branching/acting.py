"""What becomes of a suggested action: applied to the policy's own, clipped, and held for some steps.

There is one way, for branches that try advice and for training that follows it: what was verified is what is trained.
Imports no torch: processes that run branches start with this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unstuck.guidance import Action

if TYPE_CHECKING:
    import gymnasium as gym


class Suggestions:
    """Suggested actions, ready to be applied.

    Discrete: an action's index, counted from the space's `start`. Continuous: values in place of the policy's own
    action, or added to it (deltas), clipped to the bounds. All arithmetic is in the dtype of the policy's own actions.

    Args:
        actions: A of them.
        space: of the actions.
    """

    def __init__(self, actions: Sequence[Action], space: gym.Space):
        from gymnasium import spaces  # settings are read without it

        self._delta = np.array([a.delta for a in actions], dtype=bool)
        self.has_deltas = bool(self._delta.any())
        """Whether any of them is added to the policy's own action."""
        shape, dtype = space.shape or (), space.dtype
        if isinstance(space, spaces.Discrete):
            wanted = [(a.index or 0) + int(space.start) for a in actions]
        else:
            wanted = [a.values for a in actions]  # type: ignore[misc]
        self._wanted = np.array(wanted, dtype=dtype).reshape(len(actions), *shape)
        # Looked at once, not at every step: each numpy call there costs more than the arithmetic that it does.
        self._added = self._delta.reshape(-1, *[1] * len(shape))
        self._all_added = bool(self._delta.all())
        self._bounds = (space.low, space.high) if isinstance(space, spaces.Box) else None
        if self._bounds is not None and not self.has_deltas:
            self._wanted = np.minimum(np.maximum(self._wanted, self._bounds[0]), self._bounds[1])
        self._one_row = (-1, *[1] * len(shape))

    def __len__(self) -> int:
        return len(self._delta)

    def apply(self, which: np.ndarray, own: np.ndarray) -> np.ndarray:
        """(M,) numbers of suggestions, and (M, *action shape) the policy's own actions → (M, *action shape) the
        actions to execute, within the bounds, of the dtype of `own`."""
        wanted = self._wanted.take(which, axis=0)
        if self._bounds is not None and self.has_deltas:
            added = own + wanted
            wanted = added if self._all_added else np.where(self._added.take(which, axis=0), added, wanted)
            wanted = np.minimum(np.maximum(wanted, self._bounds[0]), self._bounds[1])
        return wanted.astype(own.dtype, copy=False)

    def substituted(self, which: np.ndarray, own: np.ndarray) -> np.ndarray:
        """(N,) numbers of suggestions, -1 for none, and (N, *action shape) the policy's own actions → with the
        suggestions in their place; `own` itself where there are none."""
        hit = which >= 0
        if not np.count_nonzero(hit):  # quicker than `any`
            return own
        # All rows are computed, the last suggestion for those that have none: quicker than picking rows.
        return np.where(hit.reshape(self._one_row), self.apply(which, own), own)


class Holding:
    """Which suggestion is executed in each of N rows: once taken, it is held for its number of steps.

    Args:
        holds: (A,) for how many steps each is held.
        rows: N.
    """

    def __init__(self, holds: Sequence[int] | np.ndarray, rows: int):
        self._holds = np.append(np.asarray(holds, dtype=np.intp), 0)  # the last entry stands for none, which is -1
        self.now = np.full(rows, -1, dtype=np.intp)
        """(N,) number of the suggestion in the step to come, -1 for none."""
        self._left = np.zeros(rows, dtype=np.intp)
        self._single = bool((self._holds <= 1).all())

    def next(self, found: np.ndarray, begun: np.ndarray | None = None) -> np.ndarray:
        """Go on to the next step: (N,) suggestions that apply in the states now, -1 for none → `now`.

        Rows in which one is still held keep it; the others take what applies.

        Args:
            begun: (N,) bool, where an episode begins with the state now, so that nothing is held any more.
        """
        if self._single:
            self.now = found
            return found
        self._left -= 1
        free = (self.now < 0) | (self._left <= 0)
        if begun is not None:
            free |= begun
        self.now = np.where(free, found, self.now)
        self._left = np.where(free, self._holds[found], self._left)
        return self.now

    def keep(self, rows: np.ndarray) -> None:
        """(N,) bool: go on with these rows only."""
        self.now, self._left = self.now[rows], self._left[rows]
