"""The grid: each modulation does on toy tasks what its definition says, and each method runs by one word."""

import json
from typing import get_args

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from grid_cases import collected, config
from guide_cases import names, wrapped
from unstuck.agents import load_agent
from unstuck.config import GuideConfig, Method
from unstuck.errors import GuidanceError, RunError, TaskError
from unstuck.guidance import Action, Advice, Condition, Evidence, Guidance, Term, load_guidance, save_guidance
from unstuck.guide.assembly import Guide
from unstuck.guide.novelty import Novelty
from unstuck.guide.plan import Plan
from unstuck.guide.restarts import RestartEnv, Restarts
from unstuck.guide.roll_in import STAGES, WINDOW, RollIn, RollInEnv
from unstuck.guide.sense import ELSEWHERE
from unstuck.learner import Learner, RunSource
from unstuck.methods import METHODS, Setting, make_plan
from unstuck.pipeline import open_run, refine
from unstuck.simulators import ReplaySnapshotter
from unstuck.snapshots import snapshotter_for
from unstuck.stages.evaluate import evaluate
from unstuck.stages.report import outcome
from unstuck.stages.train import plan_jobs, train
from unstuck.stages.verify import verify
from unstuck.testing import CORRIDOR, PUSH, save_stuck_agent, scripted_model
from unstuck.workspace import Workspace

LIMIT = 60


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    return save_stuck_agent(tmp_path_factory.mktemp("agent") / "corridor.zip", CORRIDOR)


@pytest.fixture(scope="module")
def space(tmp_path_factory, agent):
    """Episodes on the corridor."""
    return Workspace(collected(tmp_path_factory.mktemp("runs") / "run", CORRIDOR, agent))


def corridor():
    return gym.make(CORRIDOR)


def steps_until_cut(env):
    """How many steps of going left the time limit leaves."""
    for taken in range(1, 2 * LIMIT):
        if env.step(0)[3]:
            return taken
    raise AssertionError("never cut")


# ---------------------------------------------------------------------------------------------- restarts


def test_a_restart_begins_where_it_says_with_the_time_that_is_left(space):
    episode = space.episodes[3]
    env = RestartEnv(corridor(), Restarts(1.0, space.snapshotter, [(episode, 17)]))
    for _ in range(3):  # by replay, then from what was kept; the time limit starts at 17 each time
        obs, _ = env.reset()
        np.testing.assert_array_equal(obs, episode.observation(17))
        assert obs.dtype == np.float32
        assert steps_until_cut(env) == LIMIT - 17


def test_the_probability_is_that_of_a_restart(space):
    shared = Restarts(0.25, space.snapshotter, [(space.episodes[0], 10)])
    env = RestartEnv(corridor(), shared)
    env.reset(seed=5)
    marked = 0
    for _ in range(400):
        env.reset()
        marked += ELSEWHERE in env.step(1)[4]
    assert shared.restarts == marked
    assert 70 <= marked <= 130
    never = Restarts(0.0, space.snapshotter, [(space.episodes[0], 10)])
    env = RestartEnv(corridor(), never)
    for _ in range(50):
        env.reset()
        assert ELSEWHERE not in env.step(1)[4]


@pytest.mark.parametrize("replayed", [False, True])
def test_a_fresh_restart_begins_at_the_most_critical_state_of_the_episode_before(replayed):
    saver = ReplaySnapshotter() if replayed else snapshotter_for(corridor)
    shared = Restarts(1.0, saver, importance=lambda obs: -np.abs(obs[:, 0] - 0.5))  # critical: the middle, cell 15
    env = RestartEnv(corridor(), shared)
    start = env.reset(seed=1)[0]
    assert start[0] < 0.2, "there is no episode before the first"
    walked = 15 - round(float(start[0]) * 30)
    while not env.step(1)[2]:
        pass
    for _ in range(2):  # the restarted episode's own states, and those before it, are the next one's trajectory
        obs, _ = env.reset()
        assert obs[0] == pytest.approx(0.5)
        assert steps_until_cut(env) == LIMIT - walked
    assert shared.steps == (2 * walked if replayed else 0), "only replays cost steps"


def test_restarts_meet_other_luck_each_time(space):
    class Noisy(gym.Wrapper):
        def step(self, action):
            *rest, info = self.env.step(action)
            return *rest, info | {"luck": self.unwrapped.np_random.normal()}

    env = RestartEnv(Noisy(corridor()), Restarts(1.0, space.snapshotter, [(space.episodes[0], 5)]))
    seen = set()
    for _ in range(5):
        env.reset()
        seen.add(env.step(1)[4]["luck"])
    assert len(seen) == 5


def guide_on(space, plan, guidance, steps=1000):
    return Guide(RunSource(space), plan, guidance, seed=1, total=steps, gamma=0.99, n_envs=2)


def test_environments_that_must_be_reached_into_are_gymnasiums(space):
    advice = Advice(id="a", kind="state", why="", evidence=Evidence(episode=0, step=4))
    guidance = Guidance(env_id=CORRIDOR, diagnosis="", advice=(advice,))
    guide = guide_on(space, Plan(restart=0.5), guidance)
    assert guide.backend("auto") == "gymnasium"
    assert guide_on(space, Plan(rnd=0.1), None).backend("auto") == "auto"
    with pytest.raises(TaskError, match="backend auto"):
        guide.backend("envpool")
    with pytest.raises(GuidanceError, match="no advice"):
        guide_on(space, Plan(restart=0.5), Guidance(env_id=CORRIDOR, diagnosis=""))
    with pytest.raises(RunError, match="mask network"):
        guide_on(space, Plan(restart=0.5, restart_at="fresh"), guidance)


def test_returns_of_restarted_episodes_are_not_taken_for_the_tasks(space):
    advice = Advice(id="a", kind="state", why="", evidence=Evidence(episode=0, step=50))
    guidance = Guidance(env_id=CORRIDOR, diagnosis="", advice=(advice,))
    for p, shown in ((1.0, 0), (0.0, 4)):
        guide = guide_on(space, Plan(restart=p or 1e-12), guidance)
        venv = guide.wrap(DummyVecEnv([lambda g=guide: Monitor(g.make_env())] * 2))
        venv.reset()
        infos = [info for _ in range(130) for info in venv.step(np.zeros(2, int))[3]]
        assert sum("episode" in info for info in infos) == shown


# ---------------------------------------------------------------------------------------------- roll-in


class GoesRight:
    """A guide."""

    def act(self, obs, deterministic, rngs):
        return np.ones(len(obs), dtype=int)


def test_the_guide_hands_over_after_h_steps():
    shared = RollIn(GoesRight(), "curriculum", total=10_000)
    shared.length = 20.0
    env = RollInEnv(Monitor(corridor()), shared)
    plain = round(float(corridor().reset(seed=3)[0][0]) * 30)
    obs, _ = env.reset(seed=3)
    assert round(float(obs[0]) * 30) == plain + 20
    assert shared.steps == 20
    assert steps_until_cut(env) == LIMIT - 20
    shared.stage = 0
    obs, _ = env.reset()
    assert obs[0] < 0.2
    assert shared.steps == 20
    assert ELSEWHERE not in env.step(1)[4]


def test_the_guides_length_is_measured_and_charged():
    shared = RollIn(GoesRight(), "random", total=10_000)
    env = RollInEnv(corridor(), shared)
    env.reset(seed=0)
    assert 26 <= shared.length <= 30, "from cells 0 to 3 to cell 30"
    assert shared.steps >= 2 * 27
    begun = {round(float(env.reset()[0][0]) * 30) for _ in range(30)}
    assert len(begun) > 10, "h is drawn anew for each episode"


def test_h_shrinks_while_the_return_holds_and_is_gone_by_the_deadline():
    shared = RollIn(GoesRight(), "curriculum", total=1_000)
    shared.length = 100.0

    def ended(total):
        for _ in range(WINDOW):
            shared.finished(total, shared.stage)

    ended(-50.0)
    assert shared.stage == STAGES - 1
    assert shared.horizon == 90
    ended(-60.0)
    assert shared.stage == STAGES - 1, "the return fell by more than the tolerance"
    ended(-51.0)
    assert shared.stage == STAGES - 2
    shared.finished(0.0, STAGES)
    assert shared.stage == STAGES - 2, "an episode of an earlier stage says nothing of this one"
    shared.own_steps = 250
    assert shared.horizon == 50
    shared.own_steps = 500
    assert shared.horizon == 0


def test_unseen_steps_are_charged_and_no_rollout_begins_that_does_not_fit(space, tmp_path):
    """The guide takes some of each episode's steps inside resets."""
    settings = space.config.train.model_copy(update={"n_envs": 2, "n_steps": 16, "batch_size": 32, "critic_warmup": 0})
    learner = Learner(space, settings, Plan(roll_in="random"), None, 1, 1_500, tmp_path)
    learner.learn(0)
    trained = [json.loads(line)["trained"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert trained[0] > 32, "what the guide's episodes took to be measured"
    unseen = learner.guide.unseen_steps
    assert trained[-1] <= 1_500
    assert unseen > 100
    assert trained[-1] in (32 * len(trained) + unseen, 1_500)


# ---------------------------------------------------------------------------------------------- novelty


def test_novelty_falls_with_visits():
    novelty = Novelty(2, seed=0)
    visited, elsewhere = np.full((256, 2), 0.5), np.full((4, 2), -2.0)
    before = novelty.errors(visited)[0]
    for _ in range(100):
        novelty.learn(visited)
    assert novelty.errors(visited)[0] < 0.02 * before
    assert novelty.errors(elsewhere)[0] > 10 * novelty.errors(visited)[0]


def test_the_bonus_is_added_with_its_coefficient_and_is_reproducible():
    def rewards(coefficient):
        _, venv = wrapped(CORRIDOR, Plan(rnd=coefficient), n=4)
        venv.reset()
        return np.array([venv.step(np.ones(4, int))[1] for _ in range(300)])

    small, double, again = rewards(0.1), rewards(0.2), rewards(0.1)
    np.testing.assert_array_equal(small, again)
    assert (small[:128] == -1).all(), "until the scale of the bonus is known there is none"
    assert (small[128:] > -1).all()
    np.testing.assert_allclose(double + 1, 2 * (small + 1), rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------------------- potentials


class Own(VecEnvWrapper):
    """Remembers the task's own reward of the last step."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        obs, self.rewards, dones, infos = self.venv.step_wait()
        return obs, self.rewards, dones, infos


@pytest.mark.parametrize("fades", [False, True])
@pytest.mark.parametrize(("env_id", "action", "terminates"), [(CORRIDOR, 1, True), (PUSH, [1.0], False)])
def test_potentials_only_take_away_that_of_the_first_state(env_id, action, terminates, fades):
    """The discounted sum of γΦ(s') - Φ(s) is -Φ(s₀), and γᵀΦ(s_T) more where the time limit cuts."""
    gamma = 0.95
    x = names(env_id)[0]
    terms = (Term(variable=x, weight=3.0, cap=100.0), Term(variable=x, above=0.2, weight=-1.0, cap=5.0))
    advice = (Advice(id="a", kind="rule", why="", when=(Condition(variable=x, op=">", value=0.1),), reward=0.5),)
    plan = Plan(terms=True, state_reward=True, potential=True, anneal="linear" if fades else "none")
    guide, venv = wrapped(
        env_id, plan, advice=advice, terms=terms, scale=2.0, gamma=gamma, total=500, n=1, around=Own
    )  # fmt: skip
    part, own = guide.part("rewards"), venv.venv
    obs = venv.reset()

    def potential(obs, now):
        return float((part.fading(now) * part.worth(venv.observe(obs)))[0])

    for _ in range(2):  # the second episode's account begins anew
        first, shaped, done, t = potential(obs, max(0, venv.now - 1)), 0.0, [False], 0
        while not done[0]:
            obs, rewards, done, infos = venv.step(np.array([action]))
            shaped += gamma**t * float(rewards[0] - own.rewards[0])
            t += 1
        last = potential(infos[0]["terminal_observation"][None], venv.now - 1)
        assert last != 0
        assert shaped == pytest.approx(-first + (0.0 if terminates else gamma**t * last), abs=1e-4)


def test_rewards_become_potentials_and_nothing_else_does():
    x = names(CORRIDOR)[0]
    rule = Advice(id="r", kind="rule", why="", when=(Condition(variable=x, op="<", value=2),), action=Action(index=1))
    plan = Plan(terms=True, imitate=0.3, potential=True, anneal="none")
    _, venv = wrapped(CORRIDOR, plan, advice=(rule,), terms=(Term(variable=x, weight=1, cap=1),), n=1)
    before = float(venv.reset()[0, 0])
    obs, rewards, *_ = venv.step(np.array([1]))
    assert rewards[0] == pytest.approx(-1 + 0.99 * float(obs[0, 0]) - before, abs=1e-5)
    found = venv.suggestions(None)
    assert found.where.all(), "the rule is still matched, to be imitated"


# ---------------------------------------------------------------------------------------------- methods


def reply(x):
    term = {"variable": x, "abs": False, "weight": 1, "cap": 2, "above": None, "below": None, "when": []}
    state = {"episode": 0, "step": 5, "why": "At the wall.", "action": 1, "hold": 3, "reward": -1}
    rule = {"when": [{"variable": x, "abs": False, "op": "<", "value": 2}], "action": 1, "why": "Go right."}
    return json.dumps({
        "analysis": "It walks left.", "diagnosis": "The agent always goes left.", "critical_states": [state],
        "rules": [rule], "reward_terms": [], "progress": {"terms": [term], "aggregate": "last", "why": "how far"},
    })  # fmt: skip


@pytest.mark.parametrize("method", [m for m, s in METHODS.items() if s.race is None])  # races: test_race.py
def test_each_method_runs_by_one_word(tmp_path, agent, space, method):
    asks = METHODS[method].explainer == "auto"
    settings = config(CORRIDOR, agent, llm="scripted" if asks else "", method=method)
    model = scripted_model(reply(space.describer.card.variable_names[0])) if asks else None
    run = refine(agent, run=tmp_path / "run", config=settings, model=model)
    scores = json.loads((run.root / "evaluate" / "scores.json").read_text())["summary"]["arms"]
    assert list(scores) == [method]
    charged = run.record(f"train/{method}/1").facts["charged"]
    spent = {s: r.env_steps for s, r in run.manifest.stages.items() if s in ("collect", "explain", "verify")}
    expected = {
        "ppo": set(), "ppo-small-batches": set(), "jsrl": set(), "unstuck": {"collect", "explain", "verify"},
        "llm-free": {"collect", "explain", "verify"},
    }.get(method, {"collect", "explain"})  # fmt: skip
    assert set(charged) == expected | {"train"}
    assert all(charged[s] == spent[s] for s in expected)
    assert sum(charged.values()) <= settings.train.steps
    name = {"statemask-r": "statemask", "rice": "rice", "llm-free": "search"}.get(method, "llm")
    if METHODS[method].explained:
        assert run.record("explain").facts["explainer"] == name
    else:
        assert "explain" not in run.manifest.stages
    curve = [json.loads(line) for line in (run.root / "train" / method / "1" / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["steps"] <= settings.train.steps
    if method == "statemask-r":
        assert {line["restarts"] for line in curve[1:]} <= {0, 1.0}
        assert any(line["restarts"] == 1.0 for line in curve)
    if method == "rice":
        assert any(line["novelty"] > 0 for line in curve)
    assert METHODS[method].label in {row.label for row in outcome(run).rows}


def test_a_setting_of_training_that_changes_nothing_tried_leaves_verification_alone(tmp_path, agent, space):
    """Guidance that a person edited would else be replaced by a new verdict on the old advice."""
    asks = config(CORRIDOR, agent, llm="scripted")
    run = refine(
        agent, run=tmp_path / "run", config=asks, model=scripted_model(reply(space.describer.card.variable_names[0]))
    )
    edited = load_guidance(run.guidance_path)
    save_guidance(edited.model_copy(update={"diagnosis": "As a person sees it."}), run.guidance_path)
    for guide, again in (({"fade": 0.5}, False), ({"thaw": 0.9}, False), ({"imitate": 0.0}, True)):
        run.configure(config(CORRIDOR, agent, llm="scripted", guide=GuideConfig(**guide)))
        found = verify(run)
        assert (found.diagnosis == "As a person sees it.") != again


@pytest.mark.parametrize("method", ["rice", "jsrl"])
def test_the_same_seed_gives_the_same_agent(tmp_path, agent, method):
    weights = []
    for name in ("a", "b"):
        settings = config(CORRIDOR, agent, method=method, steps=3_000, explain={"mask_steps": 1})
        run = refine(agent, run=tmp_path / name, config=settings)
        weights.append(load_agent(run.root / "train" / method / "1" / "agent.zip").state_dict)
    for key, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][key])


def test_small_batches_alone_are_a_control_of_their_own(tmp_path, agent):
    def trained(folder, method, batch_size):
        settings = config(CORRIDOR, agent, steps=512, method=method, batch_size=batch_size)
        run = open_run(settings, tmp_path / folder)
        (path,) = train(run)[method]
        assert run.record(f"train/{method}/1").facts["charged"] == {"train": 512}
        return np.concatenate([v.numpy().ravel() for v in load_agent(path).state_dict.values()])

    small = trained("a", "ppo-small-batches", 128)
    np.testing.assert_array_equal(small, trained("b", "ppo", 64))
    assert not np.array_equal(small, trained("c", "ppo", 128))


def test_variants_of_a_method_stand_side_by_side_under_their_own_names(tmp_path, agent):
    run = refine(agent, run=tmp_path / "run", config=config(CORRIDOR, agent, method="jsrl", steps=1_000))
    variants = [
        {"method": "jsrl", "name": "jsrl-random", "guide": GuideConfig(roll_in="random")},
        {"method": "ppo", "name": "novelty", "guide": GuideConfig(rnd=0.1)},
    ]
    for variant in variants:
        run.configure(config(CORRIDOR, agent, steps=1_000, **variant))
        train(run)
        scores = evaluate(run)
    assert set(scores.arms) == {"jsrl", "jsrl-random", "novelty"}
    rows = {row.arm: row.label for row in outcome(run).rows}
    assert rows == {"before": "Before", "jsrl": "JSRL", "jsrl-random": "jsrl-random", "novelty": "novelty"}
    assert '"novelty"' in (run.root / "train" / "novelty" / "1" / "curve.jsonl").read_text()


def test_the_name_of_the_control_is_taken(tmp_path, agent):
    run = collected(tmp_path / "run", CORRIDOR, agent, method="jsrl", name="ppo")
    with pytest.raises(RunError, match="another name"):
        plan_jobs(run)
    with pytest.raises(ValueError, match="name"):
        config(CORRIDOR, agent, name="../up")


def test_plans_of_methods():
    def plan(method, env_id="", discrete=False, **settings):
        return make_plan(method, GuideConfig(**settings), Guidance(env_id=env_id, diagnosis=""), Setting(discrete))

    assert plan("ppo") == Plan()
    assert plan("ppo", terms=True, execute=True) == Plan(), "PPO is told nothing"
    assert (plan("rice", "Hopper-v5").restart, plan("rice", "Hopper-v5").rnd) == (0.25, 0.001)
    assert (plan("rice", "UnstuckSparseHalfCheetah-v5").restart, plan("rice", "Reacher-v5").rnd) == (0.5, 0.001)
    assert plan("rice", "Hopper-v5", restart=0.9).restart == 0.9
    assert plan("statemask-r").restart == 1
    ours = Plan(verified=True, imitate=0.3, thaw=0.3)
    assert plan("llm-free", discrete=True) == plan("unstuck", discrete=True) == ours
    assert plan("unstuck", discrete=True, applies="table").kinds == ("state",), "rules name no state"
    assert repr(Plan(rnd=0.5)) == "Plan(rnd=0.5)", "what was trained stays trained when a setting is added"
    assert set(METHODS) == set(get_args(Method))
    assert {m: s.name for m, s in METHODS.items()} == {m: m for m in METHODS}
