"""What a learner with a replay buffer begins with, and the average of its weights that it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.vec_env import DummyVecEnv

from grid_cases import collected
from unstuck import tasks
from unstuck.agents import load_agent
from unstuck.algorithms.averaging import Averaging, acting
from unstuck.algorithms.settings import ReplaySettings
from unstuck.guidance import Guidance, Term
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.run import Run
from unstuck.tasks import describer_for
from unstuck.testing import CORRIDOR, PUSH, save_stuck_agent
from unstuck.transitions import Transitions, rows_of
from unstuck.treatments.states import States, of_episodes, visit
from unstuck.workspace import Workspace

TOTAL = 600


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("sac")
    return collected(folder / "run", PUSH, save_stuck_agent(folder / "a.zip", PUSH, algorithm=SAC))


@pytest.fixture(scope="module")
def lived(run: Run) -> Transitions:
    space = Workspace(run)
    return of_episodes(space.episodes, space.actor).transitions()


def learner(run: Run, folder: Path, held: Transitions | None = None, told: Guidance | None = None, **more) -> Learner:
    folder.mkdir(exist_ok=True)
    average = more.pop("average", None)
    replay = ReplaySettings(
        n_envs=2, batch_size=16, learning_starts=40, critic_warmup=0, train_freq=4, gradient_steps=4,
        average=average,
    )  # fmt: skip
    settings = run.config.train.model_copy(update={"late_checkpoints": 1, "replay": replay})
    plan = Plan() if told is None else Plan(terms=True)
    return Learner(Workspace(run), settings, plan, told, 3, TOTAL, folder, experience=held, **more)


def test_what_came_after_each_step_by_hand() -> None:
    states = States(
        np.array([[0.0], [1.0], [10.0], [11.0], [12.0]]), np.zeros((5, 1)), np.arange(5.0)[:, None], None,
        np.arange(5.0), np.array([1, 4]), np.array([True, False]), np.array([[2.0], [13.0]]),
    )  # fmt: skip
    steps = states.transitions()
    np.testing.assert_array_equal(steps.next_observations[:, 0], [1, 2, 11, 12, 13])
    np.testing.assert_array_equal(steps.terminated, [False, True, False, False, False])
    np.testing.assert_array_equal(steps.cut, [False, False, False, False, True])
    np.testing.assert_array_equal(steps.actions[:, 0], np.arange(5.0))
    with pytest.raises(ValueError, match="same length"):
        Transitions(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2), np.zeros(3), np.zeros(2), np.zeros(2))
    assert rows_of({"a": np.arange(3)}, slice(1, 3))["a"].tolist() == [1, 2]


def test_steps_with_noise_are_kept_with_what_was_really_done(run: Run) -> None:
    """Played again from the same state, each action leads to where the next observation says."""
    space = Workspace(run)
    venv = DummyVecEnv([space.make_env for _ in range(4)])
    states = visit(space.actor, venv, 80, seed=5, noises=(0.5,))
    venv.close()
    assert not np.allclose(states.actions, states.modes)
    steps, env = states.transitions(), tasks.make_env(PUSH)
    venv = DummyVecEnv([lambda: env])
    venv.seed(5)
    np.testing.assert_allclose(venv.reset()[0], steps.observations[0])
    for row in range(20):  # the first environment's
        after, reward, done, _ = venv.step(steps.actions[row : row + 1])
        assert reward[0] == pytest.approx(steps.rewards[row], abs=1e-5)
        if done[0]:
            break
        np.testing.assert_allclose(after[0], steps.next_observations[row], atol=1e-6)
    venv.close()


def test_a_replay_buffer_begins_with_them(run: Run, lived: Transitions, tmp_path: Path) -> None:
    one = learner(run, tmp_path / "a", lived)
    buffer = one.model.replay_buffer
    whole = len(lived) // 2
    assert buffer.size() == whole
    scaled = one.model.policy.scale_action(lived.actions)
    for env in range(2):  # what followed one another does so in the column of an environment
        part = slice(env * whole, (env + 1) * whole)
        np.testing.assert_allclose(buffer.observations[:whole, env], lived.observations[part])
        np.testing.assert_allclose(buffer.next_observations[:whole, env], lived.next_observations[part])
        np.testing.assert_allclose(buffer.rewards[:whole, env], lived.rewards[part], rtol=1e-6)
        np.testing.assert_allclose(buffer.actions[:whole, env], scaled[part], rtol=1e-6)
        ended = (buffer.dones * (1 - buffer.timeouts))[:whole, env].astype(bool)
        np.testing.assert_array_equal(ended, lived.terminated[part])
    assert buffer.dones[whole - 1].all(), "what comes next there is of another episode"
    assert one.model.num_timesteps == 0, "they were counted when they were taken"
    assert one.learn(0)["trained"] == TOTAL
    assert buffer.size() == whole + TOTAL // 2, "nothing was thrown away"


def test_terms_pay_for_them_too(run: Run, lived: Transitions, tmp_path: Path) -> None:
    name = describer_for(PUSH).card.variable_names[0]
    told = Guidance(env_id=PUSH, diagnosis="", reward_terms=(Term(variable=name, above=-1e6, weight=1, cap=1),))
    paid, plain = (learner(run, tmp_path / str(i), lived, t).model for i, t in enumerate((told, None)))
    sums = []
    for model in (paid, plain):
        np.random.seed(0)
        sums.append(float(model.replay_buffer.sample(64).rewards.sum()))
    assert sums[0] == pytest.approx(sums[1] + 64, rel=1e-4)


def test_a_suspended_training_goes_on_with_them_and_with_its_average(run: Run, lived, tmp_path: Path) -> None:
    first = learner(run, tmp_path / "a", lived, average=0.1, stop=300)
    first.learn(0)
    state, size = first.suspend(tmp_path / "state.pt"), first.model.replay_buffer.size()
    found = []
    for name in ("b", "c"):
        second = learner(run, tmp_path / name, lived, average=0.1, resume=state, agent=load_agent(
            tmp_path / "a" / "agent.zip"))  # fmt: skip
        assert second.model.replay_buffer.size() == size
        raw = first.model.policy.state_dict()
        assert all(torch.equal(raw[k], v) for k, v in second.model.policy.state_dict().items()), "not the average"
        second.learn(0)
        found.append(load_agent(tmp_path / name / "agent.zip").state_dict)
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def test_what_is_saved_is_the_average_and_training_goes_on_with_the_weights(run: Run, tmp_path: Path) -> None:
    """Over all rounds of gradient steps alike: their mean, kept by hand."""
    one = learner(run, tmp_path / "a", average=1.0)
    seen, train = [], one.model.train

    def counted(*args, **more):
        train(*args, **more)
        seen.append({k: v.clone() for k, v in one.model.actor.state_dict().items()})

    one.model.train = counted
    one.learn(0)
    assert len(seen) > 20
    saved = load_agent(tmp_path / "a" / "agent.zip").state_dict
    for name, now in one.model.actor.state_dict().items():
        mean = torch.stack([s[name] for s in seen]).mean(dim=0)
        torch.testing.assert_close(saved[f"actor.{name}"], mean, rtol=1e-4, atol=1e-6)
        assert torch.equal(now, seen[-1][name])
    held = one.model.critic.state_dict()
    assert all(torch.equal(saved[f"critic.{name}"], value) for name, value in held.items()), "only of what acts"


def test_an_average_reaches_back_over_a_share_of_the_training() -> None:
    module, model = torch.nn.Linear(1, 1, bias=False), type("Model", (), {"_n_updates": 0})()
    average = Averaging(module, share=0.25)
    average.model = model
    expected = 0.0
    for seen, value in enumerate((8.0, 0.0, 4.0, 4.0, 12.0, 0.0), 1):
        module.weight.data.fill_(value)
        model._n_updates += 1
        average.on_rollout_start()
        average.on_rollout_start()  # nothing was learnt in between: it does not count again
        expected += (value - expected) * 4 / (seen + 3)  # (eta + 1) / (t + eta), with eta = 3
        with average.in_place():
            assert module.weight.item() == pytest.approx(expected)
        assert module.weight.item() == value


def test_what_acts(tmp_path: Path) -> None:
    sac, dqn = SAC("MlpPolicy", tasks.make_env(PUSH)), DQN("MlpPolicy", tasks.make_env(CORRIDOR))
    assert acting(sac.policy) is sac.policy.actor
    assert acting(dqn.policy) is dqn.policy.q_net
