"""Modulations, one at a time: what the wrapper adds and replaces, what the loss gets, what PPO stores."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from guide_cases import guide_of, names, wrapped
from unstuck.config import GuideConfig
from unstuck.guidance import Action, Advice, Condition, Evidence, Guidance, Near, Term, Verdict
from unstuck.guide.on_policy import Attached
from unstuck.guide.plan import Plan
from unstuck.guide.sense import computing
from unstuck.methods import Setting, make_plan
from unstuck.tasks import describer_for
from unstuck.testing import CORRIDOR, PUSH

ALWAYS_RIGHT = Advice(id="r", kind="rule", why="", when=(), action=Action(index=1))


def test_terms_are_added_to_the_state_a_step_leads_to_and_fade_out():
    x = names(CORRIDOR)[0]
    _, venv = wrapped(CORRIDOR, Plan(terms=True), terms=(Term(variable=x, weight=30, cap=10),), total=4, n=1)
    start = venv.reset()[0, 0]
    rewards = []
    for _ in range(3):
        venv.step_async(np.array([1]))
        rewards.append(venv.step_wait()[1][0])
    positions = start + np.array([1, 2, 3]) / 30
    np.testing.assert_allclose(rewards, -1 + 30 * positions * np.array([1, 0.75, 0.5]), rtol=1e-4)


def test_rewards_are_gone_after_the_share_of_training_that_is_asked_for():
    x = names(CORRIDOR)[0]
    _, venv = wrapped(
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
    _, venv = wrapped(CORRIDOR, Plan(terms=True, anneal="none"), terms=(Term(variable=x, weight=1, cap=10),), n=1)
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
    plan = make_plan("ultra-r", GuideConfig(), Guidance(env_id=CORRIDOR, diagnosis=""), Setting())
    _, venv = wrapped(CORRIDOR, plan, advice=(spot,), scale=4.0, n=1, scales={x: (0.0, 1.0)})
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
    guide, venv = wrapped(CORRIDOR, plan, advice=(ALWAYS_RIGHT,))
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor([1.0, -1.0]))
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    Attached(model, guide)
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
    _, venv = wrapped(CORRIDOR, Plan(execute=True), advice=(rule,), n=1)
    venv.executes = True
    cell, path = round(venv.reset()[0, 0] * 30), []
    for _ in range(12):
        venv.step_async(np.array([0]))
        path.append(round(venv.step_wait()[0][0, 0] * 30))
    at_wall = path.index(0)
    assert cell - at_wall - 1 == 0, "until the wall the policy's own way"
    assert path[at_wall : at_wall + 8] == [0, 1, 2, 3, 2, 1, 0, 1]


@pytest.mark.parametrize("kind", ["when", "near", "table"])
@pytest.mark.parametrize("hold", [1, 3])
@pytest.mark.parametrize("delta", [False, True, None])
def test_what_is_executed_is_what_a_plain_loop_over_advice_and_environments_says(kind, hold, delta):
    rng, task, n = np.random.default_rng(0), "Pendulum-v1", 6
    of, bins, radius = names(task), 8, 0.3
    scales = {name: (-1.0, 1.0 + k) for k, name in enumerate(of)}
    centre, half = np.array([[(low + high) / 2, (high - low) / 2] for low, high in scales.values()]).T

    def piece(i):
        state = dict(zip(of, rng.uniform(-1, 1, len(of)).tolist(), strict=True))
        where = {
            "when": {"kind": "rule", "when": (Condition(variable=of[i % len(of)], op=">", value=0.3 + 0.02 * i),)},
            "near": {"kind": "state", "near": Near(point=state, radius=radius)},
            "table": {"kind": "state", "evidence": Evidence(episode=0, step=0, state=state)},
        }[kind]
        action = Action(values=(float(rng.normal(scale=2)),), delta=bool(i % 2) if delta is None else delta)
        return Advice(id=f"a{i}", why="", hold=1 + i % hold, action=action, **where)

    def applies(advice, row):
        if kind == "when":
            (c,) = advice.when
            return row[of.index(c.variable)] > c.value
        here = (row - centre) / half
        if kind == "near":
            there = (np.array([advice.near.point[name] for name in of]) - centre) / half
            return (np.abs(here - there) <= radius).all()
        there = (np.array([advice.evidence.state[name] for name in of]) - centre) / half
        return (np.floor((here + 1) * (bins / 2)) == np.floor((there + 1) * (bins / 2))).all()

    advice = tuple(piece(i) for i in range(40))
    guide = guide_of(task, Plan(execute=True, bins=bins), advice=advice, scales=scales, n=n)
    part, space = guide.part("execution"), guide.context.action_space
    held, left, taken = [None] * n, [0] * n, 0
    for t in range(120):
        values, begun = rng.uniform(-1, 1, (n, len(of))), rng.random(n) < 0.1
        own = rng.normal(size=(n, 1)).astype(np.float32)
        part.see(values, np.ones(n, dtype=bool) if t == 0 else begun)
        found, expected = part.act(own), own.copy()
        for i in range(n):
            left[i] -= 1
            if t == 0 or begun[i] or held[i] is None or left[i] <= 0:
                held[i] = next((a for a in advice if applies(a, values[i])), None)
                left[i] = held[i].hold if held[i] is not None else 0
            if held[i] is not None:
                wanted = np.float32(held[i].action.values[0])
                expected[i] = np.clip(own[i] + wanted if held[i].action.delta else wanted, space.low, space.high)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(part.acting, [h is not None for h in held])
        taken += sum(h is not None for h in held)
    assert 0 < taken < 120 * n


def test_suggestions_are_executed_in_a_share_of_the_environments_that_falls_to_zero():
    plan = Plan(execute=True, execute_share=0.5, execute_fade=0.5)
    made, _ = wrapped(CORRIDOR, plan, advice=(ALWAYS_RIGHT,), total=4000, n=200)
    part = made.part("execution")
    values, guided = np.zeros((200, len(names(CORRIDOR)))), []
    for step in range(12):
        part.see(values, np.full(200, step % 2 == 0))  # an episode begins at every second step
        guided.append(part.acting.copy())
    for first, second in zip(guided[::2], guided[1::2], strict=True):
        np.testing.assert_array_equal(first, second, "not within an episode")
    shares = [float(g.mean()) for g in guided[::2]]
    np.testing.assert_allclose(shares, [0.5, 0.4, 0.3, 0.2, 0.1, 0.0], atol=0.005)
    assert all(g[: g.sum()].all() for g in guided), "the first ones"
    assert shares[-1] == 0
    own = np.zeros(200, dtype=np.int64)
    part.see(values, np.zeros(200, bool))
    assert part.act(own) is own, "none are left"


def test_imitation_falls_to_zero_over_the_share_of_training_that_is_asked_for():
    made, _ = wrapped(CORRIDOR, Plan(imitate=0.4, imitate_fade=0.5), advice=(ALWAYS_RIGHT,), total=1000, n=1)
    part, found = made.part("imitation"), []
    for steps in (0, 250, 500, 1000):
        part.on_update(SimpleNamespace(num_timesteps=steps))
        found.append(part.imitate)
    assert found == pytest.approx([0.4, 0.2, 0.0, 0.0])
    again, _ = wrapped(CORRIDOR, Plan(imitate=0.4, imitate_fade=0.5), advice=(ALWAYS_RIGHT,), total=1000, n=1)
    again.part("imitation").restore(part.state())
    assert again.part("imitation").imitate == 0.0
    assert not Plan(imitate_fade=0.5).on(), "without a coefficient there is nothing to fade"


def test_where_execution_stood_is_remembered():
    plan = Plan(execute=True, execute_share=0.5, execute_fade=1.0)
    first, again = (
        wrapped(CORRIDOR, plan, advice=(ALWAYS_RIGHT,), total=100, n=4)[0].part("execution") for _ in range(2)
    )
    values, begun = np.zeros((4, len(names(CORRIDOR)))), np.ones(4, bool)
    for _ in range(5):
        first.see(values, begun)
    again.restore(first.state())
    for _ in range(3):
        first.see(values, begun)
        again.see(values, begun)
        np.testing.assert_array_equal(first.acting, again.acting)


def test_deltas_are_added_to_the_own_action_and_clipped():
    push = Advice(id="r", kind="rule", why="", when=(), action=Action(values=(1.5,), delta=True))
    _, venv = wrapped(PUSH, Plan(execute=True), advice=(push,))
    venv.reset()
    own = np.array([[-0.9], [0.3]], dtype=np.float32)
    np.testing.assert_allclose(venv.substitute(own), [[0.6], [1.0]], rtol=1e-6)


def test_imitation_teaches_the_suggestion_only_where_it_applies():
    x = names(CORRIDOR)[0]
    rule = ALWAYS_RIGHT.model_copy(update={"when": (Condition(variable=x, op="<", value=0.05),)})
    guide, venv = wrapped(CORRIDOR, Plan(imitate=1.0), advice=(rule,), n=4)
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=32, seed=0, device="cpu", vf_coef=0.0, learning_rate=3e-3)
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor([1.5, -1.5]))
    imitation = Attached(model, guide).imitation
    model.learn(128)
    first = imitation.take_loss()
    model.learn(128 * 6, reset_num_timesteps=False)
    assert imitation.take_loss() < first - 0.5
    advised = imitation.remembered.advised.reshape(-1)
    observed = model.rollout_buffer.observations.reshape(-1)
    np.testing.assert_array_equal(advised, observed < 0.05)


@pytest.mark.parametrize(("op", "bound", "few"), [("<", 0.05, False), (">", 0.09, True)])
def test_the_imitation_loss_is_the_cross_entropy_averaged_over_matched_samples_unless_few_match(op, bound, few):
    """A minibatch that is the whole rollout, an advantage of nothing, and plain gradient descent: the step taken is
    that of the loss. Where few samples match, the pull is as much less as they are fewer than a tenth."""
    x = names(CORRIDOR)[0]
    rule = ALWAYS_RIGHT.model_copy(update={"when": (Condition(variable=x, op=op, value=bound),)})
    guide, venv = wrapped(CORRIDOR, Plan(imitate=0.3), advice=(rule,))
    model = PPO(
        "MlpPolicy", venv, n_steps=64, batch_size=128, n_epochs=1, seed=0, device="cpu", learning_rate=1.0,
        vf_coef=0.0, ent_coef=0.0, normalize_advantage=False, max_grad_norm=1e9,
        policy_kwargs={"optimizer_class": torch.optim.SGD},
    )  # fmt: skip
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor([0.4, -0.4]))
    Attached(model, guide)
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    compute = model.rollout_buffer.compute_returns_and_advantage

    def nothing(*args, **kwargs):
        compute(*args, **kwargs)
        model.rollout_buffer.advantages[:] = 0.0

    model.rollout_buffer.compute_returns_and_advantage = nothing
    model.learn(128)
    step = before["action_net.weight"] - model.policy.action_net.weight.detach()
    model.policy.load_state_dict(before)
    model.policy.zero_grad()
    obs = torch.as_tensor(model.rollout_buffer.observations)
    rows = obs[obs[:, 0] < bound] if op == "<" else obs[obs[:, 0] > bound]
    assert 0 < len(rows) < len(obs)
    assert (len(rows) < 12.8) == few
    (-0.3 * model.policy.get_distribution(rows).log_prob(torch.ones(len(rows))).mean()).backward()
    pull = model.policy.action_net.weight.grad * min(1.0, len(rows) / 12.8)
    torch.testing.assert_close(step, pull, rtol=1e-4, atol=1e-6)


def test_plans_say_which_advice_may_touch_training():
    def piece(name, kind, status):
        return Advice(id=name, kind=kind, why="", when=(), action=Action(index=1), verdict=Verdict(status=status))

    guidance = Guidance(
        env_id="T", diagnosis="",
        advice=(piece("r", "rule", "unresolved"), piece("s", "state", "helpful"), piece("h", "state", "harmful")),
    )  # fmt: skip

    def used(method, discrete=True, **config):
        plan = make_plan(method, GuideConfig(**config), guidance, Setting(discrete))
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


def test_advice_in_doubt_is_left_out_where_true_returns_could_judge():
    def verdict(status, metric):
        return Verdict(status=status, metric=metric)

    def used(together, **settings):
        pieces = {
            "helps": verdict("helpful", "return over 100 steps"),
            "doubted": verdict("unresolved", "return over 100 steps"),
            "silent": verdict("unresolved", "progress over 20 steps"),
            "untried": verdict("untested", ""),
        }
        advice = tuple(
            Advice(id=name, kind="rule", why="", when=(), action=Action(index=1), verdict=v)
            for name, v in pieces.items()
        )
        guidance = Guidance(
            env_id="T", diagnosis="", advice=advice, set_verdict=Verdict(status=together, metric="return of episodes")
        )
        return [a.id for a in make_plan("unstuck", GuideConfig(**settings), guidance, Setting()).advice(guidance)]

    assert used("unresolved") == ["helps", "silent", "untried"]
    assert used("harmful") == ["helps", "silent", "untried"]
    assert used("helpful") == ["helps", "doubted", "silent", "untried"], "all of it together was found to help"
    assert used("unresolved", unresolved=True) == ["helps", "doubted", "silent", "untried"]
    assert used("helpful", only_helpful=True) == ["helps"]


def test_imitated_deltas_are_added_to_what_the_policy_would_do_there():
    push = Advice(id="r", kind="rule", why="", when=(), action=Action(values=(0.25,), delta=True))
    guide, venv = wrapped(PUSH, Plan(imitate=1.0), advice=(push,))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=16, n_epochs=1, seed=0, device="cpu", learning_rate=0.0)
    imitation = Attached(model, guide).imitation
    model.learn(16)
    buffer = model.rollout_buffer
    with torch.no_grad():
        means = model.policy.get_distribution(torch.as_tensor(buffer.observations)).mode().numpy()
    np.testing.assert_allclose(imitation.remembered.suggested, np.clip(means + 0.25, -1, 1), atol=1e-6)


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
        guide, venv = wrapped("Hopper-v5", Plan(imitate=1.0, terms=True), advice=(rule,), terms=(term,), n=2)
        values = venv.observe(obs)
        found = guide.part("imitation").target(values, None)
        holds = all_of_them[:, every.index(used)] < where.value
        np.testing.assert_array_equal(found.where, holds)
        np.testing.assert_allclose(
            guide.part("rewards").worth(values), np.minimum(all_of_them[:, every.index(used)], 10) * holds
        )
