"""The running average of a policy's weights, which acts better, and far more evenly, than the weights of the moment.

A learner with a replay buffer and many gradient steps for each environment step never comes to rest: what its actor
does from one thousand steps to the next differs by half its return. So the weights of its latest updates are averaged,
by polynomial-decay averaging (Shamir & Zhang 2013, "Stochastic Gradient Descent for Non-smooth Optimization", arXiv
1212.1824), which reaches back over a share of the training so far: little while much is learnt, more later on. Training
itself goes on with the weights as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch.optim.swa_utils import AveragedModel


class Averaging(BaseCallback):
    """Averages the weights of what acts, after each round of gradient steps.

    Args:
        module: what acts.
        share: of the rounds so far, over which it is averaged, about; in (0, 1], with 1 over all of them alike.
    """

    def __init__(self, module: torch.nn.Module, share: float):
        super().__init__()
        self._module, self._seen = module, 0

        def nearer(held: Any, new: Any, count: Any) -> Any:
            # (eta + 1) / (t + eta), with eta = 1 / share - 1, in round t = count + 1.
            return held + (new - held) / (1.0 + share * float(count))

        self._average = AveragedModel(module, avg_fn=nearer)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._follow()

    def _on_training_end(self) -> None:
        self._follow()

    def _follow(self) -> None:
        if self.model._n_updates > self._seen:  # type: ignore[attr-defined]
            self._seen = self.model._n_updates  # type: ignore[attr-defined]
            self._average.update_parameters(self._module)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the module has the averaged weights."""
        if not int(self._average.n_averaged):
            yield
            return
        kept = {name: held.clone() for name, held in self._module.state_dict().items()}
        self._module.load_state_dict(self._average.module.state_dict())
        try:
            yield
        finally:
            self._module.load_state_dict(kept)

    def state(self) -> dict[str, Any]:
        """For a suspended training."""
        return {"seen": self._seen, "average": dict(self._average.state_dict())}

    def restore(self, state: dict[str, Any]) -> None:
        self._seen = state["seen"]
        self._average.load_state_dict(state["average"])


def acting(policy: Any) -> torch.nn.Module:
    """The part of a policy of Stable-Baselines3 that chooses actions: the actor, or the critic of actions."""
    if hasattr(policy, "action_net"):  # of PPO's kind
        return torch.nn.ModuleList([policy.mlp_extractor.policy_net, policy.action_net])
    return next(
        held for name in ("actor", "q_net", "quantile_net") if (held := getattr(policy, name, None)) is not None
    )
