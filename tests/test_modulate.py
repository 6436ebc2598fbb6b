"""Modulations, one at a time: what the wrapper adds and replaces, what the loss gets, what PPO stores."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from unstuck.config import GuideConfig
from unstuck.guidance import Action, Advice, Condition, Evidence, Guidance, Term, Verdict
from unstuck.methods import make_plan
from unstuck.modulate.execution import attach_execution
from unstuck.modulate.imitation import Imitation, _Attach
from unstuck.modulate.plan import Plan
from unstuck.modulate.venv import GuidanceVecEnv, computing
from unstuck.tasks import describer_for
from unstuck.testing import CORRIDOR, PUSH

ALWAYS_RIGHT = Advice(id="r", kind="rule", why="", when=(), action=Action(index=1))


def names(env_id):
    return describer_for(env_id).card.variable_names


def wrapped(env_id, plan, *, advice=(), terms=(), total=1000, n=2, scale=1.0, scales=None):
    guidance = Guidance(
        env_id=env_id, diagnosis="", advice=advice, reward_terms=terms, reward_scale=scale, scales=scales or {}
    )
    venv = DummyVecEnv([lambda: gym.make(env_id) for _ in range(n)])
    venv.seed(0)
    return GuidanceVecEnv(venv, guidance, describer_for(env_id), plan, total)


def test_terms_are_added_to_the_state_a_step_leads_to_and_fade_out():
    x = names(CORRIDOR)[0]
    venv = wrapped(CORRIDOR, Plan(terms=True), terms=(Term(variable=x, weight=30, cap=10),), total=4, n=1)
    start = venv.reset()[0, 0]
    rewards = []
    for _ in range(3):
        venv.step_async(np.array([1]))
        rewards.append(venv.step_wait()[1][0])
    positions = start + np.array([1, 2, 3]) / 30
    np.testing.assert_allclose(rewards, -1 + 30 * positions * np.array([1, 0.75, 0.5]), rtol=1e-4)


def test_rewards_are_gone_after_the_share_of_training_that_is_asked_for():
    x = names(CORRIDOR)[0]
    venv = wrapped(
        CORRIDOR, Plan(terms=True, fade=0.5), terms=(Term(variable=x, above=-1, weight=1, cap=1),), total=8, n=1
    )
    venv.reset()
    rewards = []
    for _ in range(5):
        venv.step_async(np.array([0]))
        rewards.append(float(venv.step_wait()[1][0]))
    assert rewards == pytest.approx([0, -0.25, -0.5, -0.75, -1])


def test_the_terminal_state_and_not_the_next_reset_earns_the_reward():
    x = names(CORRIDOR)[0]
    venv = wrapped(CORRIDOR, Plan(terms=True, anneal="none"), terms=(Term(variable=x, weight=1, cap=10),), n=1)
    venv.reset()
    done = [False]
    while not done[0]:
        venv.step_async(np.array([1]))
        _, rewards, done, _ = venv.step_wait()
    assert rewards[0] == pytest.approx(-1 + 1.0)


def test_state_rewards_use_the_table_and_the_tasks_scale():
    x = names(CORRIDOR)[0]
    spot = Advice(
        id="s", kind="state", why="", evidence=Evidence(episode=0, step=0, state={x: 11 / 30}), reward=-0.5
    )  # fmt: skip
    plan = make_plan("ultra-r", GuideConfig(), Guidance(env_id=CORRIDOR, diagnosis=""), True)
    venv = wrapped(CORRIDOR, plan, advice=(spot,), scale=4.0, n=1, scales={x: (0.0, 1.0)})
    cell = round(venv.reset()[0, 0] * 30)
    for _ in range(15):
        venv.step_async(np.array([1]))
        reward = venv.step_wait()[1][0]
        cell += 1
        # 20 cells over [0, 1]: 11/30 is alone in [0.35, 0.4).
        assert reward == pytest.approx(-1 - 2.0 if cell == 11 else -1), cell


@pytest.mark.parametrize("log_prob", ["suggestion", "own", "mixed"])
def test_execution_takes_the_suggestion_and_stores_what_was_asked_for(log_prob):
    plan = Plan(execute=True, log_prob=log_prob)
    venv = wrapped(CORRIDOR, plan, advice=(ALWAYS_RIGHT,))
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor([1.0, -1.0]))
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    if log_prob != "own":
        attach_execution(model, venv, log_prob)
    model.learn(32)
    buffer = model.rollout_buffer
    travelled = np.diff(buffer.observations.reshape(2, 16, 1)[:, :, 0])
    assert (travelled > 0).all(), "the car went right in every step, whatever the policy wanted"
    policy = PPO("MlpPolicy", venv, seed=0, device="cpu").policy
    policy.load_state_dict(before)
    obs, actions = torch.as_tensor(buffer.observations), torch.as_tensor(buffer.actions[:, 0])
    with torch.no_grad():
        stored = torch.as_tensor(buffer.log_probs.reshape(-1))
        of_stored = policy.get_distribution(obs).log_prob(actions)
    if log_prob == "suggestion":
        assert (actions == 1).all()
        torch.testing.assert_close(stored, of_stored)
    elif log_prob == "own":
        assert (actions == 0).any(), "the policy's own actions are stored"
        torch.testing.assert_close(stored, of_stored)
    else:
        assert (actions == 1).all()
        assert (stored - of_stored).abs().max() > 0.5, "log-probs are those of the policy's own actions"


def test_suggestions_are_held_and_dropped_at_the_end_of_an_episode():
    x = names(CORRIDOR)[0]
    rule = Advice(
        id="r", kind="rule", why="", hold=3, action=Action(index=1), when=(Condition(variable=x, op="==", value=0.0),)
    )
    venv = wrapped(CORRIDOR, Plan(execute=True, log_prob="own"), advice=(rule,), n=1)
    cell, path = round(venv.reset()[0, 0] * 30), []
    for _ in range(12):
        venv.step_async(np.array([0]))
        path.append(round(venv.step_wait()[0][0, 0] * 30))
    at_wall = path.index(0)
    assert cell - at_wall - 1 == 0, "until the wall the policy's own way"
    assert path[at_wall : at_wall + 8] == [0, 1, 2, 3, 2, 1, 0, 1]


def test_deltas_are_added_to_the_own_action_and_clipped():
    push = Advice(id="r", kind="rule", why="", when=(), action=Action(values=(1.5,), delta=True))
    venv = wrapped(PUSH, Plan(execute=True), advice=(push,))
    venv.reset()
    own = np.array([[-0.9], [0.3]], dtype=np.float32)
    np.testing.assert_allclose(venv.substitute(own), [[0.6], [1.0]], rtol=1e-6)


def test_attach_leaves_values_alone_and_gives_the_loss_its_gradient():
    values, weight = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3.0, requires_grad=True)
    out = _Attach.apply(values * 2, 0.5 * weight**2)
    assert out.tolist() == [2.0, 4.0]
    (out.sum() * 7).backward()
    assert values.grad.tolist() == [14.0, 14.0]
    assert weight.grad.item() == pytest.approx(3.0)


def test_imitation_teaches_the_suggestion_only_where_it_applies():
    x = names(CORRIDOR)[0]
    rule = ALWAYS_RIGHT.model_copy(update={"when": (Condition(variable=x, op="<", value=0.05),)})
    venv = wrapped(CORRIDOR, Plan(imitate=1.0), advice=(rule,), n=4)
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=32, seed=0, device="cpu", vf_coef=0.0, learning_rate=3e-3)
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor([1.5, -1.5]))
    imitation = Imitation(model, venv, 1.0)
    model.learn(128)
    first = imitation.take_loss()
    model.learn(128 * 6, reset_num_timesteps=False)
    assert imitation.take_loss() < first - 0.5
    advised = model.rollout_buffer._advised.reshape(-1)
    observed = model.rollout_buffer.observations.reshape(-1)
    np.testing.assert_array_equal(advised, observed < 0.05)


def test_the_imitation_gradient_is_that_of_the_cross_entropy_averaged_over_matched_samples():
    venv = wrapped(CORRIDOR, Plan(imitate=0.3), advice=(ALWAYS_RIGHT,))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=16, seed=0, device="cpu")
    imitation = Imitation(model, venv, 0.3)
    obs = torch.rand(6, 1)
    advised = np.array([True, False, True, False, False, False])
    imitation._buffer.minibatch = (np.ones(6, dtype=np.float32), advised)
    values, _, _ = model.policy.evaluate_actions(obs, torch.zeros(6))
    (values.sum() * 0).backward()
    got = model.policy.action_net.weight.grad.clone()
    model.policy.zero_grad()
    rows = obs[torch.as_tensor(advised)]
    (-0.3 * model.policy.get_distribution(rows).log_prob(torch.ones(2)).mean()).backward()
    torch.testing.assert_close(got, model.policy.action_net.weight.grad)


def test_plans_say_which_advice_may_touch_training():
    def piece(name, kind, status):
        return Advice(id=name, kind=kind, why="", when=(), action=Action(index=1), verdict=Verdict(status=status))

    guidance = Guidance(
        env_id="T", diagnosis="",
        advice=(piece("r", "rule", "unresolved"), piece("s", "state", "helpful"), piece("h", "state", "harmful")),
    )  # fmt: skip

    def used(method, discrete=True, **config):
        plan = make_plan(method, GuideConfig(**config), guidance, discrete)
        return [a.id for a in plan.advice(guidance)], plan

    assert used("unstuck")[0] == ["r", "s"]
    assert used("unstuck")[1].imitate == 0.3
    assert not used("unstuck")[1].execute
    assert used("unstuck", discrete=False)[0] == ["s"], "without terms, continuous advice must have proved helpful"
    ids, paper = used("ultra-ra")
    assert ids == ["s", "h"], "the paper verifies nothing and has no rules"
    assert (paper.execute, paper.state_reward, paper.applies, paper.anneal) == (True, True, "table", "none")
    assert used("ultra-a", log_prob="own")[1].log_prob == "own"
    assert not used("ppo")[1].guided


def test_imitated_deltas_are_added_to_what_the_policy_would_do_there():
    push = Advice(id="r", kind="rule", why="", when=(), action=Action(values=(0.25,), delta=True))
    venv = wrapped(PUSH, Plan(imitate=1.0), advice=(push,))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=16, n_epochs=1, seed=0, device="cpu", learning_rate=0.0)
    imitation = Imitation(model, venv, 1.0)
    model.learn(16)
    buffer = imitation._buffer
    with torch.no_grad():
        means = model.policy.get_distribution(torch.as_tensor(buffer.observations)).mode().numpy()
    np.testing.assert_allclose(buffer._suggested, np.clip(means + 0.25, -1, 1), atol=1e-6)


def test_variables_that_no_advice_looks_at_are_not_computed_and_make_no_difference():
    pytest.importorskip("mujoco")
    describer = describer_for("Hopper-v5")
    obs = np.random.default_rng(0).normal(size=(16, 11))
    all_of_them, every = describer.variables(obs), describer.card.variable_names
    derived = every[-1]
    np.testing.assert_array_equal(computing(describer, set(every))(obs), all_of_them)
    some = computing(describer, {"z"})(obs)
    assert np.isnan(some[:, -1]).all()
    np.testing.assert_array_equal(some[:, :-1], all_of_them[:, :-1])
    for used in (derived, "z"):
        where = Condition(variable=used, op="<", value=float(np.median(all_of_them[:, every.index(used)])))
        rule = Advice(id="r", kind="rule", why="", when=(where,), action=Action(values=(0, 0, 0)))
        term = Term(variable=used, weight=1, cap=10, when=(where,))
        venv = wrapped("Hopper-v5", Plan(imitate=1.0, terms=True), advice=(rule,), terms=(term,), n=2)
        np.testing.assert_array_equal(
            venv._matcher.first(venv._variables(obs)) >= 0, all_of_them[:, every.index(used)] < where.value
        )
        np.testing.assert_allclose(
            venv._terms(venv._variables(obs)),
            np.minimum(all_of_them[:, every.index(used)], 10) * (all_of_them[:, every.index(used)] < where.value),
        )
