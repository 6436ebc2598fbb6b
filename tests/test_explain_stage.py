"""The stage on a run folder: a corridor in which an agent goes left and right is right."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from stable_baselines3 import PPO

from unstuck.config import AgentConfig, CollectConfig, ExplainConfig, RunConfig, TaskConfig
from unstuck.errors import LLMError, NoRecordingError, RunError
from unstuck.explainers.llm.recordings import SHIPPED
from unstuck.explainers.search import places
from unstuck.guidance import load_guidance
from unstuck.llm import LLMConfig
from unstuck.llm.recordings import Recordings, record
from unstuck.pipeline import take_recorded
from unstuck.progress import Progress
from unstuck.run import Run
from unstuck.stages.collect import collect
from unstuck.stages.explain import explain, fingerprint, prompts, recordings_of
from unstuck.views import View

LENGTH = 30


class Corridor(gym.Env):
    """Cells 0 to 30, start at 1. Dense: the reward is the share of the way. Sparse: 1 at the right end."""

    observation_space = gym.spaces.Box(0, LENGTH, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, dense: bool = True, render_mode: str | None = None):
        self.dense, self.cell, self.render_mode = dense, 1, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 1
        return np.array([self.cell], np.float32), {}

    def step(self, action):
        self.cell = int(np.clip(self.cell + (1 if action == 1 else -1), 0, LENGTH))
        end = self.cell == LENGTH
        reward = self.cell / LENGTH if self.dense else float(end)
        return np.array([self.cell], np.float32), reward, end, False, {}


gym.register("unstuck-test/Corridor-v0", entry_point=lambda **kwargs: Corridor(**kwargs), max_episode_steps=40)


@pytest.fixture(scope="module")
def agent(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    model = PPO("MlpPolicy", Corridor(), policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")
    with torch.no_grad():
        for layer in (model.policy.action_net, model.policy.value_net):
            layer.weight.zero_()
        model.policy.action_net.bias.copy_(torch.tensor([2.0, -2.0]))  # left
        model.policy.value_net.bias.fill_(-5.0)
    path = tmp_path_factory.mktemp("agent") / "left.zip"
    model.save(path)
    return path


def make_run(root: Path, agent: Path, **config) -> Run:
    dense = config.pop("dense", True)
    settings = {
        "task": TaskConfig(env="unstuck-test/Corridor-v0", env_kwargs={"dense": dense}),
        "agent": AgentConfig(agent=str(agent)),
        "collect": CollectConfig(episodes=4),
    }
    run = Run.create(root, RunConfig(**(settings | config)), {"agent": agent})
    collect(run)
    return run


REPLY = {
    "analysis": "It goes left.",
    "diagnosis": "It goes left and stays at the wall.",
    "critical_states": [{"episode": 0, "step": 5, "why": "Left again.", "action": 1, "reward": -0.5}],
    "rules": [{"when": [], "action": 1, "why": "The end is on the right."}],
}


class Script:
    def __init__(self, *replies):
        self.replies, self.asked = list(replies), []

    def __call__(self, messages, info):
        self.asked.append([str(p.content) for m in messages for p in m.parts])
        return ModelResponse([TextPart(json.dumps(self.replies.pop(0)))])


LIVE = LLMConfig(model="openai:gpt-4o-mini")


def with_step(step):
    reply = copy.deepcopy(REPLY)
    reply["critical_states"].append({"episode": 1, "step": step, "why": "?", "action": 1, "reward": 0.5})
    return reply


def test_llm_stage_writes_advice_records_and_is_not_asked_twice(tmp_path, agent):
    run, script = make_run(tmp_path / "run", agent, llm=LIVE), Script(REPLY)
    guidance = explain(run, model=FunctionModel(script))
    assert script.asked == [[prompts(run)[0].text]]
    assert [a.id for a in guidance.advice] == ["r1", "s1"]
    assert load_guidance(run.advice_path) == guidance
    assert (run.root / "explain" / "advice.json").exists()
    entry = run.record("explain")
    assert entry.env_steps == 0
    assert entry.facts["explainer"] == "llm"
    assert (entry.facts["calls"], entry.facts["replayed"], entry.facts["dropped"]) == (1, 0, [])
    assert entry.facts["recordings"] == [prompts(run)[0].key]
    assert explain(Run(run.root), model=FunctionModel(Script())) == guidance


def test_edited_advice_is_kept_when_another_model_is_asked(tmp_path, agent):
    run = make_run(tmp_path / "run", agent, llm=LIVE)
    explain(run, model=FunctionModel(Script(REPLY)))
    edited = run.advice_path.read_text().replace("Left again.", "Left again, I think.")
    run.advice_path.write_text(edited)
    said = Said()
    explain(run, said)  # done with these settings: not asked, and the edited file stays
    assert (run.advice_path.read_text(), said.warned) == (edited, [])
    for number in (1, 2):
        run.configure(run.config.model_copy(update={"llm": LLMConfig(model=f"openai:another-{number}")}))
        said = Said()
        explain(run, said, model=FunctionModel(Script(REPLY)))
        assert "Left again." in run.advice_path.read_text()
        assert [line for line in said.warned if f"kept as advice.edited-{number}.json" in line] == said.warned != []
        assert (run.root / f"advice.edited-{number}.json").read_text() == edited
        run.advice_path.write_text(edited)
    run.advice_path.write_bytes((run.root / "explain" / "advice.json").read_bytes())
    run.configure(run.config.model_copy(update={"llm": LLMConfig(model="openai:a-third")}))
    explain(run, said := Said(), model=FunctionModel(Script(with_step(7))))
    assert said.warned == [], "nobody edited it"
    assert not (run.root / "advice.edited-3.json").exists()


def test_reply_with_a_step_outside_is_sent_back_once(tmp_path, agent):
    run, script = make_run(tmp_path / "run", agent, llm=LIVE), Script(with_step(310), with_step(7))
    guidance = explain(run, model=FunctionModel(script))
    assert "critical_states[1]: step 310 is outside episode 1, which has steps 0 to 39" in script.asked[1][-1]
    assert [a.evidence.step for a in guidance.advice[1:]] == [5, 7]
    assert run.record("explain").facts["dropped"] == []


def test_what_stays_wrong_is_dropped_and_counted(tmp_path, agent):
    run = make_run(tmp_path / "run", agent, llm=LIVE)
    guidance = explain(run, model=FunctionModel(Script(with_step(310), with_step(311))))
    assert len(guidance.advice) == 2
    [sentence] = guidance.provenance.dropped
    assert sentence.startswith("critical_states[1]: step 311 is outside")
    assert run.record("explain").facts["dropped"] == [sentence]
    assert len(guidance.provenance.recordings) == 2


def test_unusable_reply_leaves_no_stage_behind(tmp_path, agent):
    run = make_run(tmp_path / "run", agent, llm=LIVE)
    with pytest.raises(LLMError, match="critical_states"):
        explain(run, model=FunctionModel(Script({"diagnosis": "?"}, {"diagnosis": "?"})))
    assert not run.advice_path.exists()
    with pytest.raises(RunError, match="explain"):
        run.record("explain")


def test_recorded_mode_names_the_missing_prompt_and_replays_from_other_folders(tmp_path, agent, monkeypatch):
    run = make_run(tmp_path / "run", agent, llm=LLMConfig(model="recorded"))
    [request] = prompts(run)
    with pytest.raises(NoRecordingError, match=f"key {request.key}"):
        explain(run)
    shelf = tmp_path / "shelf"
    monkeypatch.setenv("UNSTUCK_RECORDINGS", str(shelf))
    recordings = type(recordings_of(run))([shelf])
    recordings.save(record(request, json.dumps(REPLY), model="by hand", provenance="test", created="2026-01-01"))
    guidance = explain(run)
    assert guidance.provenance.model == "by hand"
    assert run.record("explain").facts["replayed"] == 1
    assert recordings_of(run).folders[:2] == (run.root / "recordings", shelf)


def test_fingerprint_follows_the_prompt_and_the_model_but_no_caps(tmp_path, agent):
    run = make_run(tmp_path / "run", agent, llm=LIVE)
    before = fingerprint(run)

    def changed(**update):
        run.configure(run.config.model_copy(update=update))
        return fingerprint(run)

    assert changed(llm=LIVE.model_copy(update={"timeout_s": 7.0, "max_calls": 3})) == before
    assert changed(llm=LLMConfig(model="openai:other")) != before
    assert changed(llm=LIVE, explain=ExplainConfig(sample=1)) != before
    assert changed(llm=LIVE, explain=ExplainConfig()) == before


def test_without_collected_episodes_it_says_what_to_run(tmp_path, agent):
    config = RunConfig(task=TaskConfig(env="unstuck-test/Corridor-v0"), llm=LIVE)
    run = Run.create(tmp_path / "run", config, {"agent": agent})
    for stage in (explain, prompts):
        with pytest.raises(RunError, match="unstuck collect"):
            stage(run)


class Said(Progress):
    """Keeps what is said; draws no bars."""

    def __init__(self):
        super().__init__()
        self.lines, self.warned = [], []

    def say(self, text):
        self.lines.append(text)

    def warn(self, text):
        self.warned.append(text)


@pytest.mark.parametrize("dense", [True, False])
def test_search_finds_that_right_is_right(tmp_path, agent, dense):
    run = make_run(tmp_path / "run", agent, dense=dense)
    progress = Said()
    guidance = explain(run, progress)
    assert any("without a language model" in line for line in progress.lines)
    assert guidance.diagnosis.startswith("LLM-free")
    helpful = [a for a in guidance.advice if a.action is not None]
    assert helpful
    assert {a.action.index for a in helpful} == {1}
    assert all(a.near is not None and a.hold == 3 for a in helpful)
    assert ("gained" if dense else "farther from all states visited") in helpful[0].why
    entry = run.record("explain")
    assert entry.facts["explainer"] == "search"
    assert 0 < entry.env_steps <= 10_000
    assert not (run.root / "recordings").exists()


def falling(index: int, at: int, depth: float) -> View:
    """60 steps in which V falls by `depth` right after step `at`, and is level otherwise."""
    value = np.where(np.arange(60) <= at, 10.0, 10.0 - depth)
    td_error = np.append(np.diff(value), -99.0)  # what is lost at the very end is lost already
    zeros = np.zeros(60)
    return View(index, True, "terminated", np.zeros((61, 1)), zeros.astype(int), zeros, value, td_error)


def test_places_are_the_largest_falls_one_of_each_episode_first():
    found = places([falling(0, 20, 4.0), falling(1, 40, 9.0), falling(2, 30, 6.0)], 2)
    assert [(p.view.index, p.fall) for p in found] == [(1, 9.0), (2, 6.0)]
    assert 30 < found[0].step <= 40
    assert 20 < found[1].step <= 30


def test_a_flat_critic_gives_places_at_even_distances_and_no_rewards():
    level = [replace(falling(i, 20, 0.0), td_error=np.full(60, -1.0)) for i in range(2)]
    assert [(p.view.index, p.step, p.fall) for p in places(level, 4)] == [
        (0, 19, 0.0), (0, 39, 0.0), (1, 19, 0.0), (1, 39, 0.0),
    ]  # fmt: skip


def test_search_is_the_same_again(tmp_path, agent):
    first = explain(make_run(tmp_path / "a", agent))
    assert explain(make_run(tmp_path / "b", agent)) == first


def test_a_reply_to_an_older_prompt_is_taken_where_the_new_one_has_none(tmp_path, agent, monkeypatch):
    run = make_run(tmp_path / "run", agent, llm=LLMConfig(model="recorded"))
    asked = run.config
    take_recorded(run)
    assert run.config == asked  # nothing is recorded to any version
    old = asked.explain.model_copy(update={"prompt_version": 1})
    run.configure(asked.model_copy(update={"explain": old}))
    [request] = prompts(run)
    run.configure(asked)
    shelf = tmp_path / "shelf"
    monkeypatch.setenv("UNSTUCK_RECORDINGS", str(shelf))
    type(recordings_of(run))([shelf]).save(
        record(request, json.dumps(REPLY), model="by hand", provenance="test", created="2026-01-01")
    )
    said = []
    shown = Progress.silent()
    shown.say = said.append
    take_recorded(run, shown)
    assert run.config.explain.prompt_version == 1
    assert "version 1 of the prompt" in said[0]
    assert explain(run).provenance.model == "by hand"


def test_replies_that_ship_can_be_read():
    folders = [folder for folder in SHIPPED if folder.is_dir()]
    assert len(folders) == 2
    assert all(Recordings([folder]).all() for folder in folders)
