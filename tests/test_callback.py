"""Unstuck inside somebody's own `learn`: it says when training has plateaued, helps, and leaves nothing behind."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import unstuck
from guide_cases import names
from unstuck.config import CollectConfig, RunConfig, VerifyConfig
from unstuck.errors import UnstuckError
from unstuck.guide.base import Steps
from unstuck.ppo.fast import FastPPO
from unstuck.testing import CORRIDOR, PUSH, scripted_model

SMALL = {"net_arch": [16]}
QUICK = RunConfig(
    collect=CollectConfig(episodes=4, max_steps=300), verify=VerifyConfig(pairs=2, max_steps=600, episode_pairs=2)
)


class Records(KVWriter):
    """Where a logger writes what it was told."""

    def __init__(self):
        self.seen = {}

    def write(self, values, excluded, step=0):
        for key, value in values.items():
            self.seen.setdefault(key, []).append(value)

    def close(self):
        pass


def reply(env_id):
    x, *more = names(env_id)
    speed = more[0] if more else x
    discrete = env_id == CORRIDOR
    term = {
        "variable": x if discrete else speed,
        "abs": False,
        "weight": 4,
        "cap": 2,
        "above": None,
        "below": None,
        "when": [],
    }
    rule = {"when": [{"variable": x, "abs": False, "op": "<", "value": 2}], "action": 1, "why": "Go right."}
    return json.dumps({
        "analysis": "It goes left.", "diagnosis": "The agent always goes left.", "critical_states": [],
        "rules": [rule] if discrete else [], "reward_terms": [term],
        "progress": {"terms": [term], "aggregate": "last", "why": "how far"},
    })  # fmt: skip


def ppo(env_id, **kwargs):
    venv = DummyVecEnv([lambda: Monitor(gym.make(env_id))] * 2)
    model = PPO(
        "MlpPolicy", VecNormalize(venv, norm_reward=False, training=False), n_steps=64, batch_size=128, n_epochs=4,
        seed=0, device="cpu", learning_rate=3e-3, policy_kwargs={**SMALL}, **kwargs,
    )  # fmt: skip
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor([2.0, -2.0]))
    return model


def callback(tmp_path, env_id, **more):
    settings = {"patience": 600, "guided": 1500, "config": QUICK, "coach": scripted_model(reply(env_id))} | more
    return unstuck.UnstuckCallback("scripted", tmp_path / "runs", **settings)


def right_at_the_wall(model):
    with torch.no_grad():
        return float(model.policy.get_distribution(torch.zeros(1, 1)).distribution.probs[0, 1])


def test_ppo_is_helped_inside_learn_and_left_as_it_was(tmp_path):
    model, records = ppo(CORRIDOR), Records()
    logger = Logger(None, [records])
    model.set_logger(logger)
    venv, buffer = model.get_env(), model.rollout_buffer
    model.learn(4_000, callback=(watch := callback(tmp_path, CORRIDOR, guided=2_500)))
    assert len(watch.plateaus) >= 1
    first, found = watch.plateaus[0]
    assert 750 <= first < 2_000
    assert found.best_before == -60
    assert (watch.run_folders[0] / "guidance.json").exists()
    assert right_at_the_wall(model) > 0.5
    alone = ppo(CORRIDOR)
    alone.learn(4_000)
    assert right_at_the_wall(alone) < 0.2
    assert model.get_env() is venv
    assert model.logger is logger
    assert model.rollout_buffer is buffer
    assert type(buffer) is RolloutBuffer
    assert not {"add", "get", "reset"} & set(vars(buffer))
    assert "evaluate_actions" not in vars(model.policy)
    assert {0.0, 1.0} <= set(records.seen["unstuck/guided"])
    assert records.seen["unstuck/env_steps"][-1] > 300
    fading = records.seen["unstuck/fading"]
    assert fading == sorted(fading, reverse=True)
    assert max(records.seen["unstuck/hit_rate"]) == 1.0
    model.save(tmp_path / "after.zip")
    PPO.load(tmp_path / "after.zip", device="cpu")


def test_a_dry_run_only_tells(tmp_path, capsys):
    model = ppo(CORRIDOR)
    model.learn(2_500, callback=(watch := callback(tmp_path, CORRIDOR, dry_run=True)))
    plain = ppo(CORRIDOR)
    plain.learn(2_500)
    assert watch.plateaus
    assert "plateaued" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    for key, value in plain.policy.state_dict().items():
        assert torch.equal(value, model.policy.state_dict()[key]), key


def test_dqn_takes_advice_while_it_fades(tmp_path):
    env = gym.make(CORRIDOR)
    model = DQN(
        "MlpPolicy", env, learning_starts=50, seed=0, device="cpu", exploration_fraction=0.05,
        exploration_final_eps=0.0, learning_rate=1e-3, train_freq=4, target_update_interval=100,
        policy_kwargs={**SMALL},
    )  # fmt: skip
    with torch.no_grad():
        for net in (model.policy.q_net, model.policy.q_net_target):
            net.q_net[-1].bias.copy_(torch.tensor([0.0, -30.0]))
    model.learn(4_000, callback=(watch := callback(tmp_path, CORRIDOR)))
    assert watch.run_folders
    ends = [r for r in watch.returns if r > -60]
    assert ends, "the goal was reached, which it never is by going left"
    assert type(model.replay_buffer) is ReplayBuffer
    assert "sample" not in vars(model.replay_buffer)
    assert "_sample_action" not in vars(model)


def test_sac_earns_fading_rewards_from_its_replay_buffer(tmp_path):
    venv = VecNormalize(DummyVecEnv([lambda: Monitor(gym.make(PUSH))]), training=False)
    model = SAC("MlpPolicy", venv, learning_starts=50, seed=0, device="cpu", train_freq=8, policy_kwargs={**SMALL})
    drawn = []

    class Peeks(unstuck.UnstuckCallback):
        def _on_step(self):
            going_on = super()._on_step()
            if self.live is not None and self.n_calls % 100 == 0:
                np.random.seed(0)
                guided = self.model.replay_buffer.sample(64, env=venv)
                np.random.seed(0)
                plain = ReplayBuffer.sample(self.model.replay_buffer, 64, env=venv)
                torch.testing.assert_close(guided.observations, plain.observations)
                drawn.append(float((guided.rewards - plain.rewards).abs().mean()))
            return going_on

    watch = Peeks(
        "scripted", tmp_path / "runs", patience=600, guided=1000, config=QUICK, coach=scripted_model(reply(PUSH))
    )
    model.learn(2_500, callback=watch)
    assert watch.run_folders
    assert len(drawn) > 5
    assert drawn[0] > 4 * drawn[-1] > 0
    assert "sample" not in vars(model.replay_buffer)


def test_returns_of_several_steps_earn_them_in_each_step(tmp_path):
    """By hand: what one step would earn by itself, discounted, up to the end of the episode."""
    venv = VecNormalize(DummyVecEnv([lambda: Monitor(gym.make(PUSH))]), training=False)
    model = SAC(
        "MlpPolicy", venv, learning_starts=50, seed=0, device="cpu", train_freq=8, n_steps=3, policy_kwargs={**SMALL}
    )
    apart = []

    class Peeks(unstuck.UnstuckCallback):
        def _on_step(self):
            going_on = super()._on_step()
            if self.live is not None and self.n_calls % 100 == 0:
                buffer, places = self.model.replay_buffer, np.arange(90)
                seen = [buffer.observations[:100, 0], buffer.next_observations[:100, 0]]
                before, after = (self.live._observe(obs) for obs in seen)
                actions = self.model.policy.unscale_action(buffer.actions[:100, 0])
                ended = (buffer.dones * (1 - buffer.timeouts))[:100, 0] > 0
                one = self.live.guide.reward(Steps(before, after, actions, ended), self.live.now)
                one = one / np.sqrt(venv.ret_rms.var + venv.epsilon)
                expected = []
                for place in places:
                    stops = [k for k in range(3) if buffer.dones[place + k, 0]]
                    expected.append(sum(0.99**k * one[place + k] for k in range(1 + min([*stops, 2]))))
                plain = type(buffer)._get_samples(buffer, places, env=venv).rewards
                guided = buffer._get_samples(places, env=venv).rewards
                np.testing.assert_allclose((guided - plain).numpy()[:, 0], expected, atol=1e-4)
                apart.append(np.abs(expected).max())
            return going_on

    watch = Peeks(
        "scripted", tmp_path / "runs", patience=600, guided=1000, config=QUICK, coach=scripted_model(reply(PUSH))
    )
    model.learn(2_500, callback=watch)
    assert len(apart) > 5
    assert apart[0] > 0
    assert "_get_samples" not in vars(model.replay_buffer)


def test_what_cannot_be_helped_is_said(tmp_path, capsys):
    with pytest.raises(UnstuckError, match="PPO, SAC, DQN, not A2C"):
        A2C("MlpPolicy", gym.make(CORRIDOR), device="cpu").learn(10, callback=callback(tmp_path, CORRIDOR))
    with pytest.raises(UnstuckError, match="own PPO"):
        FastPPO("MlpPolicy", gym.make(CORRIDOR), device="cpu").learn(10, callback=callback(tmp_path, CORRIDOR))
    model, watch = ppo(CORRIDOR), callback(tmp_path, CORRIDOR, env_kwargs={"length": "none"})
    model.learn(2_500, callback=watch)
    plain = ppo(CORRIDOR)
    plain.learn(2_500)
    assert "Training goes on as it was" in capsys.readouterr().out
    for key, value in plain.policy.state_dict().items():
        assert torch.equal(value, model.policy.state_dict()[key]), key
