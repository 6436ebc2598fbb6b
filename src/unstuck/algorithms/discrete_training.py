"""Training with SAC for discrete actions: a learner with a replay buffer whose critics stand beside its policy."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from unstuck.algorithms.replaying import ReplayTrainer
from unstuck.errors import RunError


class DiscreteTrainer(ReplayTrainer):
    """As `ReplayTrainer`, for `unstuck.sac.discrete.DiscreteSAC`."""

    def save(self, path: Path) -> Path:
        """As `Trainer.save`: a zip of PPO, with averaged weights where they are averaged."""
        from unstuck.algorithms.sac_discrete import SACDiscrete

        with self._averaging.in_place() if self._averaging is not None else nullcontext():
            return SACDiscrete().save(self.model, path, self.agent.normalization)

    def state(self) -> dict[str, Any]:
        """With the critics."""
        held = {name: getattr(self.model, name).state_dict() for name in _CRITICS}
        return {**super().state(), "critics": held}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        try:
            for name in _CRITICS:
                getattr(self.model, name).load_state_dict(state["critics"][name])
        except (RuntimeError, KeyError) as error:
            raise RunError(f"the suspended training is of another agent or plan ({error}); begin it anew") from error


_CRITICS = ("critic", "critic_target")
