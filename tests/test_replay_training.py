"""Agents with a replay buffer go on learning, with guidance, by their own algorithm."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG, DQN, PPO, SAC, TD3

from grid_cases import collected
from unstuck.agents import load_agent
from unstuck.algorithms import algorithm_of, policy_of
from unstuck.algorithms.imitating import MarginLoss, ModeLoss
from unstuck.algorithms.replaying import cadence
from unstuck.algorithms.settings import ReplaySettings
from unstuck.config import GuideConfig
from unstuck.errors import AgentError, RunError
from unstuck.guidance import Action, Advice, Guidance, Term, Treatment, Verdict
from unstuck.guide.base import Suggestions
from unstuck.guide.plan import Plan
from unstuck.guide.replay import Batch
from unstuck.learner import Learner
from unstuck.methods import Setting, make_plan
from unstuck.race.entering import Signs, entries
from unstuck.stages.train import plan_jobs, train
from unstuck.tasks import describer_for, make_env
from unstuck.testing import CORRIDOR, PUSH, save_stuck_agent
from unstuck.treatments import afresh, transplant
from unstuck.workspace import Workspace

sb3_contrib = pytest.importorskip("sb3_contrib")
KINDS = {
    "DQN": (DQN, CORRIDOR), "QRDQN": (sb3_contrib.QRDQN, CORRIDOR), "SAC": (SAC, PUSH),
    "TQC": (sb3_contrib.TQC, PUSH), "CrossQ": (sb3_contrib.CrossQ, PUSH), "TD3": (TD3, PUSH), "DDPG": (DDPG, PUSH),
}  # fmt: skip
TOTAL = 600
RIGHT = {CORRIDOR: Action(index=1), PUSH: Action(values=(1.0,))}


def guidance(env_id: str) -> Guidance:
    """Right everywhere; a term that pays 1 everywhere."""
    name = describer_for(env_id).card.variable_names[0]
    return Guidance(
        env_id=env_id, diagnosis="", advice=(Advice(id="r", kind="rule", why="", when=(), action=RIGHT[env_id]),),
        reward_terms=(Term(variable=name, above=-1e6, weight=1, cap=1),),
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made: dict[str, object] = {}

    def of(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            kind, env_id = KINDS[name]
            made[name] = collected(folder / "run", env_id, save_stuck_agent(folder / "a.zip", env_id, algorithm=kind))
        return made[name]

    return of


def learner(run, folder, plan=None, told=None, total=TOTAL, seed=3, late=2, **replay) -> Learner:
    folder.mkdir(exist_ok=True)
    more = {k: replay.pop(k) for k in ("start", "stop", "resume", "agent") if k in replay}
    given = {"n_envs": 2, "batch_size": 16, "learning_starts": 40, "critic_warmup": 100, "train_freq": 4} | replay
    settings = run.config.train.model_copy(update={"late_checkpoints": late, "replay": ReplaySettings(**given)})
    return Learner(Workspace(run), settings, plan or Plan(), told, seed, total, folder, **more)


def weights(one: Learner) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in one.model.policy.state_dict().items()}


def same(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", KINDS)
def test_it_begins_with_the_agent_and_leaves_one_of_the_same_class(name, runs, tmp_path):
    run = runs(name)
    one = learner(run, tmp_path / "a")
    agent = load_agent(run.agent_path)
    assert same(agent.state_dict, weights(one)), "target networks included"
    assert one.model.replay_buffer.size() == 0
    outcome = one.learn(50)
    assert outcome["trained"] == TOTAL
    assert not same(agent.state_dict, weights(one))
    made = KINDS[name][0].load(tmp_path / "a" / "agent.zip")
    assert type(made) is KINDS[name][0]
    assert made.num_timesteps == TOTAL
    again = load_agent(tmp_path / "a" / "agent.zip")
    assert again.algorithm == name
    assert same(weights(one), again.state_dict)
    lines = [json.loads(line) for line in (tmp_path / "a" / "curve.jsonl").read_text().splitlines()]
    assert lines[-1]["trained"] == TOTAL
    assert lines[-1]["steps"] == TOTAL + 50
    assert sum(line["episodes"] for line in lines) > 5


@pytest.mark.parametrize("name", KINDS)
def test_the_same_seed_gives_the_same_agent_and_plain_training_is_the_librarys(name, runs, tmp_path):
    plan, found = Plan(imitate=0.3, terms=True), []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        one = learner(runs(name), tmp_path / folder, plan, guidance(KINDS[name][1]), seed=seed, total=240)
        one.learn(0)
        found.append(weights(one))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("name", ["DQN", "SAC", "TD3"])
def test_a_suspended_training_goes_on_with_its_buffer(name, runs, tmp_path):
    plan, told = Plan(imitate=0.3, terms=True), guidance(KINDS[name][1])
    first = learner(runs(name), tmp_path / "a", plan, told, stop=300)
    assert first.learn(0)["trained"] == 300
    state = first.suspend(tmp_path / "state.pt")
    held, found = [], first.model.replay_buffer
    for folder in ("b", "c"):
        second = learner(runs(name), tmp_path / folder, plan, told, resume=state)
        mine = second.model.replay_buffer
        assert (mine.pos, mine.full) == (found.pos, found.full)
        np.testing.assert_array_equal(mine.observations, found.observations)
        np.testing.assert_array_equal(mine.next_values, found.next_values)
        assert same(weights(first), weights(second))
        assert second.guide.sense.now == 300
        assert second.learn(0)["trained"] == TOTAL
        held.append(weights(second))
    assert same(*held)
    if name == "SAC":
        assert torch.equal(torch.load(state)["trainer"]["tensors"]["log_ent_coef"], first.model.log_ent_coef)
    with pytest.raises(RunError, match="begin it anew"):
        learner(runs(name), tmp_path / "d", resume=state)


def test_rewards_fade_in_what_is_replayed_and_are_not_stored(runs, tmp_path):
    plan, told = Plan(terms=True, anneal="linear", fade=0.5), guidance(CORRIDOR)
    one = learner(runs("DQN"), tmp_path / "a", plan, told, stop=300)
    one.learn(0)
    buffer = one.model.replay_buffer
    stored = buffer.rewards[: buffer.pos]
    assert (stored == -1.0).all(), "only the task's own rewards are kept"
    for now, worth in ((0, 1.0), (TOTAL // 4, 0.5), (TOTAL // 2, 0.0), (TOTAL, 0.0)):
        one.guide.sense.now = now
        rewards = buffer.sample(30, env=one.model._vec_normalize_env).rewards.numpy()
        np.testing.assert_allclose(rewards, -1.0 + worth, atol=1e-6)
    assert one.guide.line()["bonus_mean"] == pytest.approx(1.0), "what they are worth before fading"


@pytest.fixture(scope="module")
def three_steps(runs, tmp_path_factory):
    """Agents that learn from returns of three steps, and runs of them."""

    def of(name: str):
        made, folder = runs(name), tmp_path_factory.mktemp("three")
        model = KINDS[name][0].load(made.agent_path)
        model.n_steps = 3
        model.save(folder / "a.zip")
        return collected(folder / "run", KINDS[name][1], folder / "a.zip")

    return of


@pytest.mark.parametrize("name", KINDS)
def test_returns_go_over_as_many_steps_as_the_agents_own(name, three_steps, tmp_path):
    one = learner(three_steps(name), tmp_path / "a")
    buffer = one.model.replay_buffer
    one.learn(0)
    rewards, ends = buffer.rewards[:9, 0], buffer.dones[:9, 0]
    samples = buffer._get_samples(np.zeros(8, dtype=int))
    count = 1 + int(np.argmax(ends[:3])) if ends[:3].any() else 3
    expected = [sum(0.99**k * column[k] for k in range(count)) for column in buffer.rewards[:9].T]
    assert set(np.round(samples.rewards.numpy()[:, 0], 4)) <= set(np.round(expected, 4)), rewards
    assert KINDS[name][0].load(tmp_path / "a" / "agent.zip").n_steps == 3


def test_what_terms_pay_is_in_all_steps_of_a_return(three_steps, tmp_path):
    """Of a term that pays for where a step began, by hand: discounted, and not beyond the end of an episode, nor beyond
    what was stored last."""
    name = describer_for(PUSH).card.variable_names[0]
    told = Guidance(env_id=PUSH, diagnosis="", reward_terms=(Term(variable=name, above=-2.0, weight=1, cap=3),))
    one = learner(three_steps("SAC"), tmp_path / "a", Plan(terms=True), told, stop=200)
    one.learn(0)
    buffer, places = one.model.replay_buffer, np.arange(100).repeat(8)
    np.random.seed(0)
    envs = np.random.randint(0, 2, size=len(places))
    steps = buffer._steps(tuple(a.reshape(-1) for a in np.meshgrid(np.arange(100), [0, 1], indexing="ij")))
    paid = one.guide.reward(steps, buffer._now()).reshape(100, 2)
    assert len(np.unique(paid.round(3))) > 30
    expected = []
    for place, env in zip(places, envs, strict=True):
        total = 0.0
        for k in range(3):
            total += 0.99**k * (buffer.rewards[place + k, env] + paid[place + k, env])
            if buffer.dones[place + k, env] or place + k == buffer.pos - 1:
                break
        expected.append(total)
    np.random.seed(0)
    np.testing.assert_allclose(buffer._get_samples(places).rewards.numpy()[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
def test_parts_see_the_raw_transition_of_each_row(normalize, tmp_path):
    """With several environments the library draws which one a row is of: values must be of the same."""
    agent = save_stuck_agent(tmp_path / "a.zip", CORRIDOR, algorithm=DQN, normalize=normalize)
    run = collected(tmp_path / "run", CORRIDOR, agent)
    one = learner(run, tmp_path / "l", Plan(terms=True), guidance(CORRIDOR), total=300, n_envs=3)
    one.learn(0)
    buffer, held = one.model.replay_buffer, one.model._vec_normalize_env
    assert (held is not None) == normalize
    samples = buffer.sample(64, env=held)
    raw = buffer.last.values.astype(np.float32)
    expected = held.normalize_obs(raw) if normalize else raw
    np.testing.assert_allclose(samples.observations.numpy(), expected, atol=1e-5)
    assert len(np.unique(raw)) > 2
    assert raw.min() >= 0
    assert raw.max() <= 1


def test_nothing_is_learnt_before_experience_and_the_actor_waits_for_its_critic(runs, tmp_path):
    one = learner(runs("SAC"), tmp_path / "a", total=800, late=1, learning_starts=60, critic_warmup=100, stop=60)
    before = weights(one)
    one.learn(0)
    assert same(before, weights(one)), "the buffer was being filled"
    state = one.suspend(tmp_path / "s.pt")
    two = learner(
        runs("SAC"), tmp_path / "b", total=800, late=1, learning_starts=60, critic_warmup=100, resume=state, stop=156
    )
    two.learn(0)
    after = weights(two)
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("actor."))
    assert not all(torch.equal(before[k], after[k]) for k in before if k.startswith("critic."))


def test_in_the_warm_up_it_acts_by_its_own_policy(runs, tmp_path):
    """SB3 would act at random; this agent goes left, but for its exploration."""
    one = learner(runs("DQN"), tmp_path / "a", total=400, learning_starts=400, exploration=0.0, stop=40)
    one.learn(0)
    assert (one.model.replay_buffer.actions[:20] == 0).all()


@pytest.mark.parametrize(("early", "updates"), [(None, 99), ((100, 6), 99 + 5 * 15), ((100, 1), 99), ((0, 6), 99)])
def test_at_first_there_may_be_more_gradient_steps_in_each_update(early, updates, runs, tmp_path):
    """Updates every 4 steps after the first 40; of those up to step 100, 15 begin before it."""
    agent = load_agent(runs("SAC").agent_path)
    agent = replace(agent, hyperparameters={**agent.hyperparameters, "train_freq": 4, "gradient_steps": 1, "n_envs": 2})
    more = {"early": early, "total": 436}
    whole = learner(runs("SAC"), tmp_path / "a", agent=agent, **more)
    whole.learn(0)
    assert whole.model._n_updates == updates
    first = learner(runs("SAC"), tmp_path / "b", stop=80, agent=agent, **more)
    first.learn(0)
    agent = load_agent(tmp_path / "b" / "agent.zip")
    second = learner(runs("SAC"), tmp_path / "c", resume=first.suspend(tmp_path / "s.pt"), agent=agent, **more)
    second.learn(0)
    assert second.model._n_updates == updates, "of the whole, also where it was suspended in between"


@pytest.mark.parametrize("name", ["DQN", "SAC"])
def test_what_is_executed_is_what_is_kept(name, runs, tmp_path):
    env_id = KINDS[name][1]
    one = learner(runs(name), tmp_path / "a", Plan(execute=True), guidance(env_id), stop=40)
    one.learn(0)
    assert (one.model.replay_buffer.actions[:20] == 1).all()
    gone_right = one.model.replay_buffer.next_observations[:20, :, 0].max()
    assert gone_right > (0.4 if name == "DQN" else 0.0)


def test_one_that_begins_anew_explores_as_one_who_knows_nothing(runs, tmp_path):
    one = learner(runs("DQN"), tmp_path / "a", anew=True, learning_starts=60)
    assert one.model.exploration_schedule(1.0) == 1.0
    assert one.model.exploration_schedule(0.5) == one.algorithm.epsilon(one.agent)
    later = learner(runs("SAC"), tmp_path / "b", anew=True, learning_starts=60)
    later.trainer.learn(80, lambda _: None)
    spread = later.model.replay_buffer.actions[:30]
    assert np.abs(spread).max() > 0.9, "uniform, though the agent's own are small"
    assert all(p.requires_grad for p in later.model.actor.parameters())


@pytest.mark.parametrize("name", ["DQN", "SAC"])
def test_advice_is_executed_for_a_while_by_default(name, runs, tmp_path):
    setting = Setting(discrete=name == "DQN", replays=True)
    plan = make_plan("unstuck", GuideConfig(), guidance(KINDS[name][1]), setting)
    assert plan.execute
    assert 0 < plan.execute_share < 1
    one = learner(runs(name), tmp_path / "a", plan.having(only_helpful=False), guidance(KINDS[name][1]))
    one.learn(0)
    lines = [json.loads(line) for line in (tmp_path / "a" / "curve.jsonl").read_text().splitlines()]
    assert lines[-1]["executed"] == 0
    state = one.suspend(tmp_path / "state.pt")
    learner(runs(name), tmp_path / "b", plan.having(only_helpful=False), guidance(KINDS[name][1]), resume=state)


@pytest.mark.parametrize(("whole", "used"), [("helpful", ["a", "b"]), ("unresolved", ["b"]), ("untested", ["b"])])
def test_advice_that_was_not_tried_counts_only_where_all_of_it_helped(whole, used):
    advice = tuple(
        Advice(id=i, kind="rule", why="", when=(), action=Action(index=1), verdict=Verdict(status=status))
        for i, status in (("a", "untested"), ("b", "helpful"))
    )
    told = Guidance(env_id=CORRIDOR, diagnosis="", advice=advice, set_verdict=Verdict(status=whole))
    plan = make_plan("llm-free", GuideConfig(), told, Setting(discrete=True, replays=True))
    assert [a.id for a in plan.advice(told)] == used


@pytest.mark.parametrize("enabled", [True, False])
def test_terms_that_are_switched_off_are_as_none(enabled):
    term = Term(variable="position", weight=1.0, cap=1.0, enabled=enabled)
    told = Guidance(env_id=CORRIDOR, diagnosis="", reward_terms=(term,), treatments=(Treatment(name="short-episodes"),))
    setting = Setting(discrete=False, replays=True)
    without = make_plan("unstuck", GuideConfig(), told.model_copy(update={"reward_terms": ()}), setting)
    assert (make_plan("unstuck", GuideConfig(), told, setting) == without) == (not enabled)


def episode(path, env_id: str) -> float:
    agent, env = load_agent(path), make_env(env_id, {}, "unstuck.testing")
    policy = policy_of(agent, env.observation_space, env.action_space)
    obs, _ = env.reset(seed=5)
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy.act(obs[None])[0])
        total, over = total + float(reward), terminated or truncated
    return total


@pytest.mark.parametrize(("name", "steps"), [("DQN", 400), ("QRDQN", 1_000)])
def test_a_rule_is_learnt_that_rewards_do_not_teach(name, steps, runs, tmp_path):
    """The agent goes left for ever; each step pays the same."""
    found = {}
    for what, plan in (("guided", Plan(imitate=0.3)), ("plain", Plan())):
        one = learner(runs(name), tmp_path / what, plan, guidance(CORRIDOR), total=steps, learning_rate=3e-3)
        one.learn(0)
        found[what] = episode(tmp_path / what / "agent.zip", CORRIDOR)
    assert found["plain"] == -60.0
    assert found["guided"] >= -30.0


@pytest.mark.parametrize("name", ["SAC", "TQC", "CrossQ", "TD3"])
def test_with_the_filter_a_suggestion_is_imitated_where_the_critic_rates_it_higher(name, runs, tmp_path):
    one = learner(runs(name), tmp_path / "a", Plan(imitate=0.5), guidance(PUSH), stop=100, q_filter=True)
    one.learn(0)
    loss, model = one.trainer.imitation, one.model
    assert isinstance(loss, ModeLoss)
    samples = model.replay_buffer.sample(20)
    batch, told = Batch(np.zeros((20, 2)), samples), Suggestions(np.ones(20, bool), np.ones((20, 1), np.float32))
    for likes_right in (1.0, -1.0):
        loss._q = lambda obs, actions, sign=likes_right: 3.0 * sign * actions[:, 0]
        value = loss.loss(batch, told)
        assert loss.kept == (likes_right > 0)
        assert (float(value) > 0) == (likes_right > 0)
    few = Suggestions(np.arange(20) < 5, np.ones((5, 1), np.float32))
    loss._q = lambda obs, actions: 3.0 * actions[:, 0]
    assert float(loss.loss(batch, few)) < 0.5 * float(loss.loss(batch, told)), "rare suggestions pull less"
    plain = learner(runs(name), tmp_path / "b", Plan(imitate=0.5), guidance(PUSH), stop=100)
    plain.learn(0)
    plain.trainer.imitation._q = lambda obs, actions: -3.0 * actions[:, 0]
    assert float(plain.trainer.imitation.loss(batch, told)) > 0, "without it everywhere"


def test_the_margin_is_what_the_paper_says(runs, tmp_path):
    one = learner(runs("DQN"), tmp_path / "a", Plan(imitate=0.3), guidance(CORRIDOR), stop=100)
    loss = one.trainer.imitation
    assert isinstance(loss, MarginLoss)
    assert loss.margin == pytest.approx(0.8)
    q = torch.tensor([[2.0, 1.0], [0.0, 0.5], [0.0, 5.0]])
    loss._q = lambda obs: q
    batch = Batch(np.zeros((3, 1)), type("S", (), {"observations": None}))
    # max(2.8, 1) - 1 = 1.8; max(0.8, 0.5) - 0.5 = 0.3; satisfied: 0
    assert float(loss.loss(batch, Suggestions(np.ones(3, bool), np.array([1, 1, 1])))) == pytest.approx(2.1 / 3)
    assert float(loss.loss(batch, Suggestions(np.array([True, False, False]), np.array([1])))) == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["DQN", "QRDQN"])
def test_conserving_rates_what_was_done_above_all_else(name, runs, tmp_path):
    gaps = {}
    for conserve in (0.0, 1.0):
        folder = tmp_path / str(conserve)
        one = learner(runs(name), folder, Plan(conserve=conserve), total=400, exploration=0.0, learning_rate=1e-2)
        one.learn(0)
        batch = one.model.replay_buffer.sample(200)
        with torch.no_grad():
            q = one.algorithm.ratings(one.model, batch.observations)
        taken = batch.actions.long()
        others = q.scatter(1, taken, -np.inf).max(dim=1).values
        gaps[conserve] = float((q.gather(1, taken).squeeze(1) - others).mean())
    assert gaps[1.0] > gaps[0.0] + 0.1


def test_where_nothing_of_the_guidance_counts_a_value_based_agent_keeps_to_what_it_does():
    told = guidance(CORRIDOR)
    none = told.model_copy(update={"advice": (), "reward_terms": ()})
    setting = Setting(discrete=True, replays=True)
    assert make_plan("unstuck", GuideConfig(), none, setting).conserve > 0
    helpful = told.advice[0].model_copy(update={"verdict": Verdict(status="helpful")})
    proven = told.model_copy(update={"advice": (helpful,)})
    assert make_plan("unstuck", GuideConfig(), proven, setting).conserve == 0
    assert make_plan("ppo", GuideConfig(), none, setting).conserve == 0


@pytest.mark.parametrize(
    ("freq", "gradient", "n_envs", "expected"),
    [(1, 1, 1, (1, 1)), (1, 1, 4, (1, 4)), (16, 8, 4, (4, 8)), (256, 128, 4, (64, 128)), (4, -1, 4, (1, 4)),
     ("episode", -1, 4, (1, 4)), (None, None, 2, (1, 2))],
)  # fmt: skip
def test_gradient_steps_for_each_step_are_the_agents_own(freq, gradient, n_envs, expected, runs, tmp_path):
    agent = load_agent(runs("DQN").agent_path)
    stored = {**agent.hyperparameters, "train_freq": freq, "gradient_steps": gradient}
    agent = type(agent)(**{**vars(agent), "hyperparameters": stored})
    assert cadence(agent, ReplaySettings(n_envs=n_envs)) == expected


def test_an_agent_that_was_trained_in_several_environments_goes_on_at_its_pace(runs):
    """Its file counts steps of all of them together, so one that was saved here goes on as it was trained."""
    agent = load_agent(runs("SAC").agent_path)
    stored = {**agent.hyperparameters, "train_freq": 8, "gradient_steps": 32, "n_envs": 4}
    agent = replace(agent, hyperparameters=stored)
    assert cadence(agent, ReplaySettings(n_envs=4)) == (8, 32)
    assert cadence(agent, ReplaySettings(n_envs=2)) == (16, 32)


def test_sac_goes_on_with_the_entropy_it_had_come_to(runs, tmp_path):
    run = runs("SAC")
    one = learner(run, tmp_path / "a", stop=100)
    one.learn(0)
    saved = load_agent(tmp_path / "a" / "agent.zip")
    two = learner(run, tmp_path / "b", agent=saved)
    assert float(two.model.log_ent_coef.detach()) == pytest.approx(float(saved.tensors["log_ent_coef"]), abs=1e-5)


def test_the_stages_train_with_it(runs, tmp_path):
    agent = save_stuck_agent(tmp_path / "a.zip", CORRIDOR, algorithm=DQN)
    replay = ReplaySettings(n_envs=2, batch_size=16, learning_starts=20)
    run = collected(tmp_path / "run", CORRIDOR, agent, method="ppo", steps=401, replay=replay)
    assert [job.steps for job in plan_jobs(run)] == [400]
    (path,) = train(run)["ppo"]
    assert algorithm_of(load_agent(path)).name == "DQN"
    assert not isinstance(DQN.load(path), PPO)
    small = run.config.model_copy(update={"train": run.config.train.model_copy(update={"method": "ppo-small-batches"})})
    run.configure(small)
    with pytest.raises(RunError, match=r"batch_size, which nothing reads .* train\.replay"):
        plan_jobs(run)


@pytest.mark.parametrize("name", ["DQN", "SAC"])
def test_it_can_begin_afresh_but_not_be_transplanted(name, runs):
    space = Workspace(runs(name))
    agent, (observed, acts) = space.agent, space.spaces
    new = [afresh(agent, None, observed, acts, seed) for seed in (1, 1, 2)]
    assert same(new[0].state_dict, new[1].state_dict)
    assert not same(new[0].state_dict, new[2].state_dict)
    assert not same(new[0].state_dict, agent.state_dict)
    assert "log_ent_coef" not in new[0].tensors
    policy_of(new[0], observed, acts).act(observed.sample()[None])
    with pytest.raises(AgentError, match=f"not of {name}"):
        transplant(agent, None, observed, acts, 1)


def test_a_race_of_such_agents_leaves_out_what_treats_an_actor():
    signs = Signs("stuck", ("transplant", "thaw"), on_policy=False, guidances=2, agent_steps=1_000, budget=5_000)
    assert [c.name for c in entries(signs)] == ["continue", "guidance", "guidance@2", "afresh"]
