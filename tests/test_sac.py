"""The lean SAC beside Stable-Baselines3's: the same weights, but for rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env

from unstuck.sac.fast import FastSAC


def learn(kind: type[SAC], steps: int = 160, env: str = "Pendulum-v1", **arguments: Any) -> SAC:
    """Trained for some dozen gradient steps."""
    settings: dict[str, Any] = {
        "batch_size": 32, "learning_starts": 100, "train_freq": 4, "gradient_steps": 6, "seed": 3, "device": "cpu",
        "policy_kwargs": {"net_arch": [16, 16]}, **arguments,
    }  # fmt: skip
    return kind("MlpPolicy", make_vec_env(env, 2, seed=1), **settings).learn(steps)


def apart(one: SAC, other: SAC) -> float:
    """The largest difference of two weights."""
    theirs = other.policy.state_dict()
    return max(float((value - theirs[name]).abs().max()) for name, value in one.policy.state_dict().items())


@pytest.mark.parametrize(
    "arguments",
    [{}, {"ent_coef": 0.1}, {"target_update_interval": 3, "tau": 0.2}, {"policy_kwargs": {"net_arch": [24]}},
     {"n_steps": 3}, {"policy_kwargs": {"net_arch": {"pi": [8], "qf": [16, 12, 8]}, "n_critics": 3}},
     {"learning_rate": lambda left: 1e-3 * left}],
    ids=["learnt price", "fixed price", "rare targets", "one layer", "n-step returns", "other shapes", "schedule"],
)  # fmt: skip
def test_its_weights_are_the_librarys(arguments: dict[str, Any]) -> None:
    fast, slow = learn(FastSAC, **arguments), learn(SAC, **arguments)
    assert isinstance(fast, FastSAC)
    assert fast.slow_because is None
    assert fast._n_updates == slow._n_updates > 40
    assert apart(fast, slow) < 1e-4
    start = learn(SAC, steps=0, **arguments)
    assert apart(slow, start) > 5e-3, "nothing was learnt, so nothing was compared"
    if slow.ent_coef_optimizer is not None:
        assert fast.log_ent_coef.item() == pytest.approx(slow.log_ent_coef.item(), abs=1e-5)


def test_its_optimisers_go_on_in_torch_and_back(tmp_path: Path) -> None:
    """What torch's Adam remembers is what it would remember had it made the updates."""
    fast, slow = learn(FastSAC), learn(SAC)
    for name in ("actor", "critic"):
        ours, theirs = (getattr(m, name).optimizer.state_dict()["state"] for m in (fast, slow))
        assert ours.keys() == theirs.keys()
        for key, held in theirs.items():
            assert int(held["step"]) == int(ours[key]["step"])
            for moment in ("exp_avg", "exp_avg_sq"):
                torch.testing.assert_close(ours[key][moment], held[moment], rtol=1e-3, atol=1e-6)
    for model in (fast, slow):
        np.random.seed(0)
        torch.manual_seed(0)
        SAC.train(model, 10, 32)  # both by torch
    assert apart(fast, slow) < 1e-4


def test_a_frozen_actor_stays_and_the_critic_learns() -> None:
    found = []
    for kind in (FastSAC, SAC):
        model = learn(kind)
        before = {k: v.clone() for k, v in model.policy.state_dict().items()}
        model.actor.requires_grad_(False)
        model.train(8, 32)
        after = model.policy.state_dict()
        assert all(torch.equal(after[k], before[k]) for k in before if k.startswith("actor."))
        assert any(not torch.equal(after[k], before[k]) for k in before if k.startswith("critic."))
        found.append(model)
    assert apart(*found) < 1e-4


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"use_sde": True}, "gSDE"), ({"policy_kwargs": {"net_arch": [520, 8]}}, "520"),
     ({"policy_kwargs": {"net_arch": [8], "activation_fn": torch.nn.Tanh}}, "ReLU"),
     ({"policy_kwargs": {"net_arch": [8], "optimizer_class": torch.optim.SGD}}, "Adam"),
     ({"policy_kwargs": {"net_arch": [8], "optimizer_kwargs": {"weight_decay": 0.1}}}, "weight decay")],
)  # fmt: skip
def test_what_it_cannot_compute_the_library_trains(arguments: dict[str, Any], word: str) -> None:
    model = learn(FastSAC, steps=120, **arguments)
    assert isinstance(model, FastSAC)
    assert word in (model.slow_because or "")
    assert model._n_updates > 0


def test_a_loss_that_is_hooked_to_an_optimiser_is_not_passed_over() -> None:
    model = learn(FastSAC, steps=120)
    assert isinstance(model, FastSAC)
    called = []
    model.actor.optimizer.register_step_pre_hook(lambda *_: called.append(1))
    model.train(3, 32)
    assert model.slow_because
    assert len(called) == 3


def test_its_log_is_the_librarys() -> None:
    logs = []
    for kind in (FastSAC, SAC):
        model = learn(kind)
        model.train(5, 32)
        logs.append({k: v for k, v in model.logger.name_to_value.items() if k.startswith("train/")})
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[1].items():
        np.testing.assert_allclose(logs[0][name], value, rtol=1e-3, atol=1e-4)
