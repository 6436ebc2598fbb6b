"""SAC for discrete actions: numpy beside torch, what it must come to where that is known, and the zip it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from tests.test_race_another import ready_to_race

from unstuck.agents import load_agent
from unstuck.algorithms import algorithm
from unstuck.algorithms.imitating import ChoiceLoss
from unstuck.algorithms.sac_discrete import SURE
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.race.competitors import competitor
from unstuck.race.engine import Race
from unstuck.race.legs import patient
from unstuck.race.track import Track
from unstuck.sac.discrete import ENTROPY, DiscreteSAC
from unstuck.sac.fast_discrete import FastDiscreteSAC
from unstuck.suspended import Suspended


class Bandit(gym.Env):
    """Episodes of one step: what is seen names the action that is rewarded."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._right = int(self.np_random.integers(3))
        return np.eye(3, dtype=np.float32)[self._right], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(3, np.float32), float(action == self._right), True, False, {}


def learn(kind: type[DiscreteSAC], steps: int = 400, env: Any = "CartPole-v1", **arguments: Any) -> DiscreteSAC:
    """Trained for some hundred gradient steps."""
    settings: dict[str, Any] = {
        "batch_size": 32, "learning_starts": 100, "train_freq": 4, "gradient_steps": 6, "seed": 3, "device": "cpu",
        "policy_kwargs": {"net_arch": {"pi": [16, 12], "vf": [16, 16]}, "activation_fn": torch.nn.ReLU}, **arguments,
    }  # fmt: skip
    return kind("MlpPolicy", make_vec_env(env, 2, seed=1), **settings).learn(steps)


def weights(model: DiscreteSAC) -> dict[str, torch.Tensor]:
    held = {"policy": model.policy, "critic": model.critic, "target": model.critic_target}
    return {f"{name}.{k}": v.clone() for name, part in held.items() for k, v in part.state_dict().items()}


@pytest.mark.parametrize("arguments", [{}, {"n_steps": 3}, {"learning_rate": lambda left: 1e-3 * left}])
def test_numpy_makes_the_steps_that_torch_makes(arguments: dict[str, Any]) -> None:
    fast, slow = learn(FastDiscreteSAC, **arguments), learn(DiscreteSAC, **arguments)
    assert isinstance(fast, FastDiscreteSAC)
    assert fast.slow_because is None
    assert fast._n_updates == slow._n_updates > 100
    ours, theirs, before = weights(fast), weights(slow), weights(learn(DiscreteSAC, steps=0, **arguments))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4)
    learnt = [n for n, v in theirs.items() if not torch.equal(v, before[n])]
    assert {n.split(".")[0] for n in learnt} == {"policy", "critic", "target"}, "nothing was learnt, nothing compared"
    assert not any("value" in n for n in learnt), "the critic of states is no part of it until it is saved"
    assert fast.log_ent_coef.item() == pytest.approx(slow.log_ent_coef.item(), abs=1e-5)


def test_it_learns_what_is_rewarded_and_rests_at_its_entropy() -> None:
    model = learn(FastDiscreteSAC, 6_000, Bandit, learning_rate=3e-3, batch_size=64)
    seen = torch.eye(3)
    with torch.no_grad():
        log_pi, q = model.log_probs(seen), model.critic(seen).mean(dim=0)
    assert log_pi.argmax(dim=1).tolist() == [0, 1, 2]
    entropy = -(log_pi.exp() * log_pi).sum(dim=1).numpy()
    np.testing.assert_allclose(entropy, ENTROPY * np.log(3), atol=0.12)
    np.testing.assert_allclose(q.numpy(), np.eye(3), atol=0.12)
    # At rest the policy is the softmax of Q by the price of entropy.
    price = float(model.log_ent_coef.detach().exp())
    np.testing.assert_allclose(log_pi.exp().numpy(), torch.softmax(q / price, dim=1).numpy(), atol=0.06)


def test_a_loss_that_is_hooked_to_an_optimiser_is_not_passed_over() -> None:
    model, called = learn(FastDiscreteSAC, steps=120), []
    model.policy.optimizer.register_step_pre_hook(lambda *_: called.append(1))
    model.train(3, 32)
    assert "hooked" in str(model.slow_because)  # type: ignore[attr-defined]
    assert len(called) == 3


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [({"net_arch": [520, 8]}, "520"), ({"net_arch": [8], "activation_fn": torch.nn.Tanh}, "ReLU")],
)
def test_what_numpy_does_not_compute_torch_trains(kwargs: dict[str, Any], word: str) -> None:
    model = learn(FastDiscreteSAC, steps=120, policy_kwargs={"activation_fn": torch.nn.ReLU, **kwargs})
    assert word in str(model.slow_because)  # type: ignore[attr-defined]
    assert model._n_updates > 0


def test_its_zip_is_one_of_ppo_with_the_same_actor(tmp_path: Path) -> None:
    model = learn(FastDiscreteSAC)
    algorithm("SACDiscrete").save(model, tmp_path / "agent.zip")
    loaded = PPO.load(tmp_path / "agent.zip", device="cpu")
    obs = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = loaded.policy.get_distribution(obs).distribution.probs
        surer = torch.softmax(SURE * model.log_probs(obs), dim=1)
        torch.testing.assert_close(theirs, surer, rtol=1e-4, atol=1e-6)
        value = loaded.policy.predict_values(obs)[:, 0]
        torch.testing.assert_close(value, model.critic(obs)[0].mean(dim=1), rtol=1e-4, atol=1e-4)
    assert loaded.num_timesteps == 400
    loaded.set_env(make_vec_env("CartPole-v1", 2))
    loaded.learn(64)
    assert load_agent(tmp_path / "agent.zip").algorithm == "PPO"


def test_the_loss_towards_suggestions_is_their_cross_entropy() -> None:
    from types import SimpleNamespace

    from unstuck.guide.base import Suggestions

    model = learn(DiscreteSAC, steps=120)
    obs = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    batch: Any = SimpleNamespace(samples=SimpleNamespace(observations=obs))
    loss = ChoiceLoss(model, part=None)
    found = Suggestions(np.array([True, False, True, False]), np.array([1, 0]))
    with torch.no_grad():
        log_pi = model.log_probs(obs)
    assert loss.loss(batch, found).item() == pytest.approx(-float(log_pi[0, 1] + log_pi[2, 0]) / 4, rel=1e-5)
    np.testing.assert_array_equal(loss.own(batch), log_pi.argmax(dim=1).numpy())


def test_a_training_in_segments_goes_on_with_its_critics(tmp_path: Path) -> None:
    """In a race it is trained leg by leg, each from the zip of PPO and the state that the last one left."""
    run = ready_to_race(tmp_path, "CartPole-v1", steps=6_000, treatments=("continue", "sac"))
    track = Track(run, tmp_path / "race", 1, 6_000, run.config.race)
    entry = Race(track, []).track.entries[1]
    for stop in (512, 1024):
        track.train([entry], stop)
    first, second = (Suspended.load(tmp_path / f"race/sac/{stop}/training.pt").trainer for stop in (512, 1024))
    assert second["updates"] > first["updates"] > 0
    assert second["buffer"]["pos"] == first["buffer"]["pos"] + 512 // 4
    given = patient(track.space, track.home, 1, 6_000).changed(load_agent(tmp_path / "race/sac/512/agent.zip"))
    assert given.agent.algorithm == "PPO"
    again = entry.competitor.resume(given)
    assert again.algorithm == "SACDiscrete"
    assert again.hyperparameters["train_freq"] == 32
    assert competitor("transplant").resume(given) is given.agent
    config, state = entry.competitor.train(run.config.train), tmp_path / "race/sac/512/training.pt"
    learner = Learner(
        track.space, config, Plan(), None, 1, track.total, tmp_path, agent=again, stop=1024, resume=state
    )  # fmt: skip
    for part in ("critic", "critic_target"):
        for name, value in getattr(learner.model, part).state_dict().items():
            assert torch.equal(value, first["critics"][part][name])
    assert learner.model.log_ent_coef.item() == float(first["tensors"]["log_ent_coef"])
