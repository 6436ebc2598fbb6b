"""The fast PPO against Stable-Baselines3's: same gradients, same runs, same files."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from unstuck.ppo.adam import Adam
from unstuck.ppo.fast import FastPPO
from unstuck.ppo.heads import head_for
from unstuck.ppo.networks import Networks
from unstuck.ppo.normalize import FrozenVecNormalize
from unstuck.ppo.returns import advantages
from unstuck.ppo.update import Samples, Settings, Update


class Toy(gym.Env):
    """A leaky point in `width` dimensions, pushed by actions; ends at random, and by a TimeLimit outside."""

    def __init__(self, discrete=False, width=3, actions=2, dtype=np.float32):
        self.observation_space = spaces.Box(-np.inf, np.inf, (width,), dtype)
        self.action_space = spaces.Discrete(actions) if discrete else spaces.Box(-1, 1, (actions,), np.float32)
        self.push = np.linspace(-1, 1, actions * width).reshape(actions, width)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=self.observation_space.shape)
        return self.state.astype(self.observation_space.dtype), {}

    def step(self, action):
        pushed = self.push[action] if isinstance(self.action_space, spaces.Discrete) else action @ self.push
        self.state = 0.9 * self.state + pushed + 0.1 * self.np_random.normal(size=self.state.shape)
        ended = bool(self.np_random.random() < 0.03)
        return self.state.astype(self.observation_space.dtype), float(-abs(self.state).sum()), ended, False, {}


def environments(n=3, limit=17, **kwargs):
    return DummyVecEnv([lambda: Monitor(gym.wrappers.TimeLimit(Toy(**kwargs), limit)) for _ in range(n)])


def pair(venv, **kwargs):
    settings = {"n_steps": 20, "batch_size": 16, "n_epochs": 3, "learning_rate": 1e-3, "seed": 5, "device": "cpu"}
    settings |= kwargs
    return [kind("MlpPolicy", venv(), **settings) for kind in (PPO, FastPPO)]


def learn(model, steps, **kwargs):
    """Each from the same random numbers: SB3's generators are global."""
    model.set_random_seed(5)
    model.learn(steps, **kwargs)


def assert_alike(ours, theirs, atol=2e-5):
    for (name, a), b in zip(ours.policy.state_dict().items(), theirs.policy.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=atol, rtol=1e-4, err_msg=name)


def logged(model):
    return {k: v for k, v in model.logger.name_to_value.items() if k.startswith(("train/", "rollout/"))}


ARCHITECTURES = [
    {},
    {"activation_fn": torch.nn.ReLU, "net_arch": [32, 16, 8]},
    {"net_arch": {"pi": [8], "vf": [16, 16]}, "log_std_init": -1.0},
    {"net_arch": {"pi": [], "vf": [4]}},
    {"net_arch": []},
]


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("frozen", [(), ("actor",), ("critic",), ("log_std",)])
def test_the_gradient_is_that_of_autograd(discrete, arch, frozen):
    env = Toy(discrete, actions=4)
    torch.manual_seed(3)
    rng = np.random.default_rng(2)
    model = PPO("MlpPolicy", env, policy_kwargs=arch, device="cpu", n_steps=64, seed=1)
    policy = model.policy
    for name, p in policy.named_parameters():
        critic = name.startswith(("mlp_extractor.value_net", "value_net"))
        with torch.no_grad():
            p += 0.3 * torch.randn_like(p)
        kind = "critic" if critic else "actor"
        p.requires_grad_(kind not in frozen and name not in frozen)
    n, clip, ent, vf, coefficient = 23, 0.2, 0.03, 0.7, 0.4
    obs = rng.standard_normal((n, 3)).astype(np.float32)
    actions = rng.integers(4, size=n) if discrete else rng.standard_normal((n, 4)).astype(np.float32)
    targets = rng.integers(4, size=n) if discrete else rng.standard_normal((n, 4)).astype(np.float32)
    advised = (rng.random(n) < 0.4).astype(np.float32)
    returns, advantage = rng.standard_normal((2, n)).astype(np.float32)
    values, log_prob, entropy = policy.evaluate_actions(torch.as_tensor(obs), torch.as_tensor(actions))
    old = (log_prob.detach() + 0.3 * torch.randn(n)).numpy()

    ratio = torch.exp(log_prob - torch.as_tensor(old))
    scaled = torch.as_tensor((advantage - advantage.mean()) / (advantage.std(ddof=1) + 1e-8))
    surrogate = torch.min(scaled * ratio, scaled * ratio.clamp(1 - clip, 1 + clip))
    inner = policy.action_dist.distribution
    wanted = torch.as_tensor(targets)
    each = -inner.log_prob(wanted) if discrete else 0.5 * (((inner.mean - wanted) / inner.stddev.detach()) ** 2).sum(1)
    imitation = (each * torch.as_tensor(advised)).sum() / advised.sum()
    critic_loss = torch.nn.functional.mse_loss(torch.as_tensor(returns), values.flatten())
    loss = -surrogate.mean() - ent * entropy.mean() + vf * critic_loss + coefficient * imitation
    policy.optimizer.zero_grad()
    loss.backward()

    networks = Networks(policy)
    networks.pull()
    head = head_for(networks, env.action_space.shape)
    adam = Adam(networks, policy.optimizer, 1e9)
    adam.step = lambda: None
    x = np.vstack([obs.T, np.ones((1, n), np.float32)])
    samples = Samples(x, head.columns(actions), old, advantage, returns, head.columns(targets), advised)
    update = Update(networks, head, adam, Settings(64, 1, clip, ent, vf, True, None, coefficient))
    statistics = update.run(samples, np.arange)
    seen = 0
    for block in networks.blocks:
        for part, parameter in zip(block.parts(networks.gradient), block.parameters, strict=True):
            if parameter.requires_grad:
                wanted = parameter.grad.numpy()
                np.testing.assert_allclose(part, wanted, atol=1e-5 * (1 + abs(wanted).max()), rtol=2e-4)
                seen += 1
    assert seen >= 1
    assert statistics.imitation == [pytest.approx(imitation.item(), rel=1e-4)]
    assert statistics.value_loss == [pytest.approx(critic_loss.item(), rel=1e-4)]
    assert statistics.policy_loss == [pytest.approx(-surrogate.mean().item(), rel=1e-3, abs=1e-6)]
    assert statistics.entropy_loss == [pytest.approx(-entropy.mean().item(), rel=1e-4)]
    assert 0 < statistics.clip_fraction[0] < 1


CASES = {
    "box": {},
    "discrete": {"env": {"discrete": True}, "ent_coef": 0.02},
    "a smaller last minibatch": {"batch_size": 13},
    "a last minibatch of one": {"batch_size": 59},
    "one environment": {"n": 1, "batch_size": 8},
    "relu, unequal, float64": {
        "env": {"dtype": np.float64, "width": 7},
        "policy_kwargs": {"activation_fn": torch.nn.ReLU, "net_arch": {"pi": [16], "vf": [8, 8]}},
    },
    "schedules": {"learning_rate": lambda p: 1e-3 * p, "clip_range": lambda p: 0.1 + 0.1 * p, "vf_coef": 1.0},
    "no normalisation": {"normalize_advantage": False, "max_grad_norm": 50.0, "gamma": 0.9, "gae_lambda": 0.8},
    "stops at the KL divergence": {"target_kl": 0.002, "n_epochs": 10, "learning_rate": 3e-3},
}


@pytest.mark.parametrize("name", CASES)
def test_it_follows_sb3_with_the_same_seed(name):
    case = dict(CASES[name])
    env, n = case.pop("env", {}), case.pop("n", 3)
    theirs, ours = pair(lambda: environments(n, **env), **case)
    for model in (theirs, ours):
        learn(model, 20 * n * 5)
    assert ours.slow_because is None
    assert_alike(ours, theirs)
    np.testing.assert_allclose(ours.rollout_buffer.returns, theirs.rollout_buffer.returns, atol=1e-3)
    assert logged(ours).keys() == logged(theirs).keys()
    for key, value in logged(theirs).items():
        assert logged(ours)[key] == pytest.approx(value, abs=2e-3, rel=1e-3), key
    assert (ours.num_timesteps, ours._n_updates) == (theirs.num_timesteps, theirs._n_updates)
    if "target_kl" in case:
        assert ours._n_updates < 5 * 10, "it did stop"
    for p, q in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        a, b = ours.policy.optimizer.state[p], theirs.policy.optimizer.state[q]
        assert a["step"] == b["step"] > 0
        torch.testing.assert_close(a["exp_avg"], b["exp_avg"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_it_follows_sb3_on_real_tasks(env_id):
    def venv():
        inner = DummyVecEnv([lambda: Monitor(gym.make(env_id, max_episode_steps=30)) for _ in range(4)])
        return inner if env_id == "FrozenLake-v1" else VecNormalize(inner, norm_reward=False)

    theirs, ours = pair(venv, n_steps=64, batch_size=64)
    for model in (theirs, ours):
        learn(model, 4 * 64 * 3)
    assert ours.slow_because is None
    assert_alike(ours, theirs, atol=2e-4)


class Freeze(BaseCallback):
    """Freezes the actor for two rollouts, as critic warm-up does."""

    def _on_rollout_end(self):
        for name, p in self.model.policy.named_parameters():
            if not name.startswith(("mlp_extractor.value_net", "value_net")):
                p.requires_grad_(self.num_timesteps > 120)

    def _on_step(self):
        return True


def test_a_frozen_actor_stays_and_starts_with_a_fresh_adam():
    theirs, ours = pair(environments, ent_coef=0.01)
    before = ours.policy.action_net.weight.detach().clone()
    for model in (theirs, ours):
        learn(model, 120, callback=Freeze())
    assert torch.equal(ours.policy.action_net.weight, before)
    assert ours.policy.action_net.weight not in ours.policy.optimizer.state
    for model in (theirs, ours):
        learn(model, 180, callback=Freeze(), reset_num_timesteps=False)
    assert_alike(ours, theirs)
    steps = [int(ours.policy.optimizer.state[p]["step"]) for p in (ours.policy.log_std, ours.policy.value_net.bias)]
    assert steps[0] < steps[1]


def test_the_same_seed_gives_the_same_bits():
    runs = []
    for _ in range(2):
        model = FastPPO("MlpPolicy", environments(), n_steps=20, batch_size=16, seed=7, device="cpu")
        model.learn(200)
        runs.append([p.detach().numpy().tobytes() for p in model.policy.parameters()])
    assert runs[0] == runs[1]


def test_what_is_saved_is_a_plain_ppo_that_goes_on_learning(tmp_path):
    theirs, ours = pair(environments)
    for model in (theirs, ours):
        learn(model, 120)
        model.save(tmp_path / type(model).__name__)
    back = PPO.load(tmp_path / "FastPPO", environments(), device="cpu")
    obs = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_array_equal(back.predict(obs, deterministic=True)[0], ours.predict(obs, deterministic=True)[0])
    again = FastPPO.load(tmp_path / "PPO", environments(), device="cpu")
    for model in (back, again):
        learn(model, 120, reset_num_timesteps=False)
    assert again.slow_because is None
    assert_alike(again, back)


def test_it_continues_from_an_optimiser_and_weights_that_others_changed():
    theirs, ours = pair(environments)
    for model in (theirs, ours):
        learn(model, 60)
        model.policy.load_state_dict({k: v * 0.5 for k, v in model.policy.state_dict().items()})
        learn(model, 60, reset_num_timesteps=False)
    assert_alike(ours, theirs)


class Tuples(Toy):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.MultiDiscrete([2, 3])

    def step(self, action):
        return super().step(np.asarray(action, float))


@pytest.mark.parametrize(
    ("kwargs", "env", "word"),
    [
        ({"use_sde": True}, Toy, "gSDE"),
        ({"clip_range_vf": 0.2}, Toy, "value function"),
        ({"policy_kwargs": {"share_features_extractor": False}}, Toy, "extractor"),
        ({"policy_kwargs": {"activation_fn": torch.nn.ELU}}, Toy, "Tanh or ReLU"),
        ({"policy_kwargs": {"optimizer_class": torch.optim.SGD}}, Toy, "SGD"),
        ({"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}}, Toy, "weight_decay"),
        ({}, Tuples, "MultiCategorical"),
    ],
)
def test_what_it_does_not_know_it_leaves_to_sb3(kwargs, env, word):
    model = FastPPO("MlpPolicy", env(), n_steps=16, batch_size=16, n_epochs=1, device="cpu", seed=0, **kwargs)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(32)
    assert word in model.slow_because
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_hooks_on_the_policy_are_not_passed_by():
    model = FastPPO("MlpPolicy", Toy(), n_steps=16, batch_size=16, n_epochs=1, device="cpu", seed=0)
    calls = []
    forward = model.policy.forward
    model.policy.forward = lambda *args: calls.append(1) or forward(*args)
    model.learn(16)
    assert len(calls) == 16


def test_callbacks_see_each_step_and_may_stop():
    class Watch(BaseCallback):
        seen = 0

        def _on_step(self):
            local = self.locals
            assert local["infos"][0] is not None
            assert local["rewards"].shape == local["dones"].shape == local["values"].shape == (3,)
            assert local["actions"].shape == (3, 2)
            self.seen += 1
            return self.seen < 7

    model = FastPPO("MlpPolicy", environments(), n_steps=20, batch_size=16, device="cpu", seed=0)
    watch = Watch()
    model.set_logger(configure(None, []))
    model.learn(400, callback=watch)
    assert watch.seen == 7
    assert model.num_timesteps == 21


def test_advantages_are_those_of_the_recursion():
    rng = np.random.default_rng(1)
    rewards, values = rng.standard_normal((2, 6, 2)).astype(np.float32)
    starts = (rng.random((6, 2)) < 0.3).astype(np.float32)
    last, dones = rng.standard_normal(2).astype(np.float32), np.array([True, False])
    expected = np.zeros((6, 2))
    for env in range(2):
        running = 0.0
        for t in reversed(range(6)):
            over = dones[env] if t == 5 else starts[t + 1, env]
            following = 0.0 if over else (last[env] if t == 5 else values[t + 1, env])
            running = rewards[t, env] + 0.9 * following - values[t, env] + (0.0 if over else 0.9 * 0.8 * running)
            expected[t, env] = running
    np.testing.assert_allclose(advantages(rewards, values, starts, last, dones, 0.9, 0.8), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frozen_statistics_normalise_as_vecnormalize_does(dtype):
    ours, theirs = (
        kind(environments(dtype=dtype), training=False, clip_obs=1.5) for kind in (FrozenVecNormalize, VecNormalize)
    )
    for venv in (ours, theirs):
        venv.seed(3)
        venv.obs_rms.mean, venv.obs_rms.var = np.array([0.1, -2.0, 0.3]), np.array([0.5, 3.0, 1e-9])
    assert ours.reset().tobytes() == theirs.reset().tobytes()
    for _ in range(20):
        a, b = (venv.step(np.full((3, 2), 0.1, np.float32)) for venv in (ours, theirs))
        assert a[0].tobytes() == b[0].tobytes()
        for i in np.flatnonzero(a[2]):
            assert a[3][i]["terminal_observation"].tobytes() == b[3][i]["terminal_observation"].tobytes()
    assert ours.get_original_obs().tobytes() == theirs.get_original_obs().tobytes()
