"""Actions of several choices at once (MultiDiscrete, MultiBinary), from card to imitation."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from grid_cases import SMALL, config
from unstuck.checks import check_env
from unstuck.explainers.llm.facts import AgentFacts, Wanted
from unstuck.explainers.llm.form import reply_schema
from unstuck.explainers.llm.prompt import build_prompt
from unstuck.explainers.llm.reply import Reply, ReplyReader
from unstuck.guidance import Action, Advice, Guidance, action_problems
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.pipeline import open_run
from unstuck.stages.collect import collect
from unstuck.stages.evaluate import evaluate
from unstuck.stages.explain import explain
from unstuck.stages.train import train
from unstuck.stages.verify import verify
from unstuck.tasks import describer_for
from unstuck.views import views_of
from unstuck.workspace import Workspace


class Levers(gym.Env):
    """A corridor of 20 cells. Two levers: the first moves (0 left, 1 right), the second must be at 1 for it to move at
    all. -1 a step; ends at the right end."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode=None, binary=False):
        self.render_mode, self.cell = render_mode, 0
        self.action_space = spaces.MultiBinary(2) if binary else spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = int(self.np_random.integers(0, 3))
        return self._obs(), {}

    def step(self, action):
        move, gear = (int(a) for a in action)
        if gear == 1:
            self.cell = max(0, self.cell + (1 if move else -1))
        return self._obs(), -1.0, self.cell >= 20, False, {}

    def _obs(self):
        return np.array([self.cell / 20], dtype=np.float32)


TASKS = {"UnstuckLevers-v0": False, "UnstuckSwitches-v0": True}
for name, binary in TASKS.items():
    if name not in gym.registry:
        gym.register(name, Levers, max_episode_steps=40, kwargs={"binary": binary})


def stuck(path, env_id):
    """Stays where it is: its second lever is at 0."""
    model = PPO("MlpPolicy", gym.make(env_id), seed=0, device="cpu", n_steps=64, batch_size=64)
    with torch.no_grad():
        bias = [-1.0, -1.0] if TASKS[env_id] else [1.0, -1.0, 2.0, -1.0, -1.0]
        model.policy.action_net.bias.copy_(torch.tensor(bias))
    model.save(path)
    return path


@pytest.fixture(params=TASKS)
def run(request, tmp_path):
    settings = config(request.param, stuck(tmp_path / "a.zip", request.param), explain={"search_states": 2})
    made = open_run(settings, tmp_path / "run")
    collect(made)
    return made


def test_all_stages_go_through(run):
    episodes = Workspace(run).episodes
    assert episodes[0].actions.shape == (40, 2)
    assert episodes[0].signals["action_prob"].shape == (40, 2 if TASKS[run.config.task.env] else 5)
    explain(run)
    verify(run)
    train(run)
    scores = evaluate(run)
    assert scores


def test_the_card_says_what_may_be_chosen(run):
    env = Workspace(run).make_env()
    card = describer_for(env).card
    assert card.action.kind == "choices"
    assert (card.action.low, card.action.high) == ((0.0, 0.0), (1.0, 1.0 if TASKS[card.env_id] else 2.0))
    assert check_env(Workspace(run).make_env, describer_for(env), seeds=range(1), steps=20, states=1).ok


@pytest.mark.parametrize(
    ("action", "wrong"),
    [(Action(values=(1, 1)), ""), (Action(values=(1, 0.5)), "whole numbers"), (Action(values=(1, 9)), "out of bounds"),
     (Action(values=(1, 0), delta=True), "no delta"), (Action(index=1), "several choices"),
     (Action(values=(1,)), "expected 2 values")],
)  # fmt: skip
def test_advice_is_checked(action, wrong):
    card = describer_for(gym.make("UnstuckLevers-v0")).card
    found = action_problems(action, card.action, "advice[0]")
    assert (wrong in found[0]) if wrong else not found


def test_a_prompt_asks_for_whole_numbers_and_a_reply_with_them_is_read(run):
    space = Workspace(run)
    views, card = views_of(space.episodes, space.describer), space.describer.card
    text = build_prompt(views, card, AgentFacts("PPO", 100, 0.99), 12_000)
    assert "2 whole numbers in each step" in text
    assert '"action": [2 whole numbers]' in text
    assert "action_delta" not in text.split("# QUESTION")[1].split('"reward_terms" (')[0].split("EXAMPLE")[0]
    state = reply_schema(card, Wanted())["properties"]["critical_states"]["items"]["properties"]
    assert state["action"]["items"] == {"type": "integer"}
    raw = {"diagnosis": "It stands.", "critical_states": [{"episode": 0, "step": 1, "why": "", "action": [1, 1]}]}
    reply, reader = Reply.model_validate(raw), ReplyReader(views, card)
    assert not reader.check(reply)
    assert reader.guidance(reply).advice[0].action == Action(values=(1, 1))


def test_suggestions_are_imitated(run, tmp_path):
    env_id = run.config.task.env
    told = Guidance(
        env_id=env_id, diagnosis="",
        advice=(Advice(id="r", kind="rule", why="", when=(), action=Action(values=(1, 1))),),
    )  # fmt: skip
    settings = run.config.train.model_copy(update={"critic_warmup": 0, "learning_rate": 3e-3, "n_epochs": 4})
    found = {}
    for what, plan in (("guided", Plan(imitate=1.0)), ("plain", Plan())):
        (tmp_path / what).mkdir()
        one = Learner(Workspace(run), settings, plan, told, 1, SMALL["n_envs"] * SMALL["n_steps"] * 12, tmp_path / what)
        one.learn(0)
        found[what] = one.model.predict(np.array([[0.1], [0.5]], np.float32), deterministic=True)[0].tolist()
    assert found["guided"] == [[1, 1], [1, 1]]
    assert found["plain"] != found["guided"]


def test_suggestions_are_executed(run, tmp_path):
    told = Guidance(
        env_id=run.config.task.env, diagnosis="",
        advice=(Advice(id="r", kind="rule", why="", when=(), action=Action(values=(1, 1))),),
    )  # fmt: skip
    one = Learner(Workspace(run), run.config.train, Plan(execute=True), told, 1, 256, tmp_path)
    one.learn(0)
    assert (one.model.rollout_buffer.actions == 1).all()
