"""Verification on toy tasks where it is known which advice is good, which is bad and which does nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

import unstuck.workspace
from unstuck.config import AgentConfig, CollectConfig, GuideConfig, RunConfig, TaskConfig, VerifyConfig
from unstuck.errors import GuidanceError, RunError
from unstuck.guidance import (
    Action,
    Advice,
    Condition,
    Evidence,
    Guidance,
    ProgressMeasure,
    Term,
    load_guidance,
    save_guidance,
)
from unstuck.methods import Setting, make_plan
from unstuck.progress import Progress as Shown
from unstuck.run import Run
from unstuck.simulators import DeepcopySnapshotter, ReplaySnapshotter
from unstuck.stages.collect import collect
from unstuck.stages.verify import verify

LEFT, STAY, RIGHT = 0, 1, 2


class Corridor(gym.Env):
    """A walk on a line with a little wind. Dense: the reward is the way gained to the right. Silent: -1 a step until
    x reaches 12, which nobody who walks at random does in 30 steps."""

    steps = 0

    def __init__(self, silent: bool = False, render_mode: str | None = None):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = gym.spaces.Discrete(3)
        self.silent, self.render_mode = silent, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-1, 1))
        return np.array([self.x]), {}

    def step(self, action: int):
        Corridor.steps += 1
        moved = int(action) - 1 + 0.1 * float(self.np_random.normal())
        self.x += moved
        if self.silent:
            return np.array([self.x]), -1.0, self.x >= 12, False, {}
        return np.array([self.x]), moved, False, False, {}


gym.register("VerifyDense-v0", Corridor, max_episode_steps=30)
gym.register("VerifySilent-v0", partial(Corridor, silent=True), max_episode_steps=30)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent that walks at random: untrained, all actions about equally likely."""
    path = tmp_path_factory.mktemp("agent") / "walker.zip"
    PPO("MlpPolicy", gym.make("VerifyDense-v0"), seed=0, n_steps=16, batch_size=16).save(path)
    return path


@pytest.fixture
def make_run(tmp_path: Path, agent: Path):
    def make(env: str = "VerifyDense-v0", name: str = "run", episodes: int = 6, **settings: Any) -> Run:
        config = RunConfig(
            task=TaskConfig(env=env),
            agent=AgentConfig(agent=str(agent)),
            collect=CollectConfig(episodes=episodes, max_steps=1000),
            verify=VerifyConfig(**settings),
        )
        run = Run.create(tmp_path / name, config, {"agent": agent})
        collect(run)
        return run

    return make


def advise(run: Run, *advice: Advice, **more: Any) -> None:
    save_guidance(
        Guidance(env_id=run.config.task.env, diagnosis="walks at random", advice=advice, **more), run.advice_path
    )


def state(name: str, action: int, hold: int = 8, episode: int = 5, step: int = 3) -> Advice:
    return Advice(
        id=name,
        kind="state",
        why="",
        evidence=Evidence(episode=episode, step=step),
        action=Action(index=action),
        hold=hold,
    )


def rule(name: str, action: int, op: str = ">", value: float = -1e6, **more: Any) -> Advice:
    when = (Condition(variable="obs_0", op=op, value=value),)
    return Advice(id=name, kind="rule", why="", when=when, action=Action(index=action), **more)


def statuses(guidance: Guidance) -> dict[str, str]:
    return {a.id: a.verdict.status for a in guidance.advice}


FURTHER = ProgressMeasure(terms=(Term(variable="obs_0", weight=1, cap=1000),))


def test_known_advice_is_told_apart(make_run) -> None:
    run = make_run()
    advise(
        run,
        state("good", RIGHT),
        state("bad", LEFT),
        state("idle", STAY, hold=1),
        rule("go", RIGHT),
        rule("back", LEFT),
    )
    guidance = verify(run)
    assert statuses(guidance) == {
        "good": "helpful", "bad": "harmful", "idle": "unresolved", "go": "helpful", "back": "harmful",
    }  # fmt: skip
    assert [a.id for a in guidance.active] == ["good", "idle", "go"]
    good, go = guidance.advice[0].verdict, guidance.advice[3].verdict
    assert good.metric == "return over 100 steps"
    assert good.pairs == 8
    assert good.low is not None
    assert 0 < good.low < good.gain < good.high
    # Held for 8 steps, right gains 1 a step over a random walk; followed to the end of 30 steps, about 30.
    assert 4 < good.gain < 12
    assert 22 < go.gain < 38
    assert guidance.set_verdict.status == "helpful"
    assert guidance.set_verdict.metric == "return over whole episodes"
    assert guidance.set_verdict.pairs == 4
    assert load_guidance(run.guidance_path) == guidance
    assert load_guidance(run.root / "verify" / "guidance.json") == guidance


def test_harmful_rules_do_not_enter_the_set(make_run) -> None:
    run = make_run()
    advise(run, rule("back", LEFT), state("bad", LEFT))
    guidance = verify(run)
    assert guidance.active == ()
    assert guidance.set_verdict.status == "untested"
    assert "no advice" in guidance.set_verdict.note
    kept = json.loads(run.guidance_path.read_text())
    assert [a["verdict"]["status"] for a in kept["advice"]] == ["harmful", "harmful"]


def test_a_silent_task_is_judged_by_progress(make_run) -> None:
    run = make_run("VerifySilent-v0")
    advise(run, rule("go", RIGHT, hold=4), rule("back", LEFT), state("bad", LEFT), progress=FURTHER)
    guidance = verify(run)
    assert statuses(guidance) == {"go": "helpful", "back": "harmful", "bad": "harmful"}
    assert guidance.advice[1].verdict.metric == "progress over 20 steps"
    assert -26 < guidance.advice[1].verdict.gain < -14
    # Executed for whole episodes, it reaches the goal, which the true return shows.
    assert guidance.set_verdict.metric == "return over whole episodes"
    assert guidance.set_verdict.status == "helpful"


@pytest.mark.parametrize("aggregate", ["last", "max", "mean"])
def test_every_aggregate_of_progress_tells_good_from_bad(make_run, aggregate: str) -> None:
    run = make_run("VerifySilent-v0", horizon=6)
    measure = FURTHER.model_copy(update={"aggregate": aggregate})
    advise(run, rule("go", RIGHT), rule("back", LEFT), progress=measure)
    guidance = verify(run)
    assert statuses(guidance) == {"go": "helpful", "back": "harmful"}
    assert guidance.advice[0].verdict.metric == "progress over 6 steps"


def test_a_silent_task_without_progress_is_not_tested(make_run) -> None:
    run = make_run("VerifySilent-v0", episode_pairs=0)
    advise(run, rule("go", RIGHT))
    guidance = verify(run)
    assert "no progress measure" in guidance.advice[0].verdict.note
    assert run.record("verify").env_steps == 0


def test_what_cannot_be_tried_says_why(make_run) -> None:
    run = make_run()
    reward = Advice(id="reward", kind="rule", why="", when=(), reward=0.5)
    off = rule("off", LEFT).model_copy(update={"enabled": False})
    advise(run, rule("never", RIGHT, ">", 1e6), reward, off)
    notes = [a.verdict.note for a in verify(run).advice]
    assert notes[0] == "its condition never held in the collected episodes"
    assert "no action" in notes[1]
    assert "disabled" in notes[2]
    assert run.record("verify").env_steps == 4 * 2 * 30  # the set check alone, which `never` is still in


def test_both_branches_meet_the_same_luck(make_run) -> None:
    run = make_run(pairs=12)
    advise(run, rule("far", RIGHT, ">", 5.0), state("one", RIGHT, hold=1))
    verify(run)
    rows = {r["id"]: r for r in json.loads((run.root / "verify" / "branches.json").read_text())["advice"]}
    # Where the policy would have gone right by itself, nothing changes, to the last bit.
    same = [p for p in rows["one"]["pairs"] if not p["with"]["changed"]]
    assert same
    assert all(p["with"]["return"] == p["without"]["return"] for p in same)
    # Elsewhere one step differs by 1 or 2. The wind of the other 26 is the same, so that whole numbers are left; and
    # so are the actions, but for one that may tip over because the policy sees another state.
    gains = np.array([p["with"]["return"] - p["without"]["return"] for p in rows["one"]["pairs"]])
    np.testing.assert_allclose(gains, gains.round(), atol=1e-4)
    assert np.abs(gains).max() <= 4
    assert gains.max() >= 1
    # Each pair has a wind of its own.
    assert len({round(p["without"]["return"] % 1, 4) for p in rows["one"]["pairs"]}) == 12


@pytest.mark.parametrize("strategy", [DeepcopySnapshotter, ReplaySnapshotter])
def test_every_environment_step_is_counted(make_run, monkeypatch: pytest.MonkeyPatch, strategy) -> None:
    run = make_run()
    monkeypatch.setattr(unstuck.workspace, "snapshotter_for", lambda factory: strategy())
    advise(run, state("good", RIGHT), rule("far", RIGHT, ">", 2.0))
    Corridor.steps = 0
    guidance = verify(run)
    taken = run.record("verify").env_steps
    assert taken == Corridor.steps > 0
    assert sum(a.verdict.steps for a in guidance.advice) + guidance.set_verdict.steps == taken
    # 8 pairs of 27 steps to the time limit, and the 3 steps before: once each where they must be replayed.
    assert guidance.advice[0].verdict.steps == 2 * 8 * 27 + (3 if strategy is DeepcopySnapshotter else 2 * 8 * 3)


def test_the_budget_is_respected(make_run) -> None:
    run = make_run(max_steps=2500)
    # An upper bound for one piece of advice is 1600 steps and 75 % of the budget is 1875: the first fits, and after
    # it (432 steps) there is no room for another; a rule that never holds costs nothing.
    advise(run, state("a", RIGHT), state("b", RIGHT), state("c", RIGHT))
    guidance = verify(run)
    assert statuses(guidance) == {"a": "helpful", "b": "untested", "c": "untested"}
    assert "budget" in guidance.advice[1].verdict.note
    assert guidance.set_verdict.status != "untested"
    assert run.record("verify").env_steps <= 2500


@pytest.mark.parametrize("limit", [0, 50, 700])
def test_no_step_beyond_the_budget(make_run, limit: int) -> None:
    run = make_run(max_steps=limit)
    advise(run, rule("go", RIGHT))
    verify(run)
    assert run.record("verify").env_steps <= limit


def test_the_budget_counts_the_way_to_a_late_step(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unstuck.workspace, "snapshotter_for", lambda factory: ReplaySnapshotter())
    run = make_run(max_steps=1900, episode_pairs=0)
    # 16 branches of 100 steps at most, and 25 steps of replay for each.
    advise(run, state("late", RIGHT, step=25), state("soon", RIGHT, step=2))
    assert statuses(verify(run)) == {"late": "untested", "soon": "helpful"}


def test_the_check_of_the_set_gets_what_is_left(make_run) -> None:
    run = make_run(max_steps=60, pairs=2, horizon=10, episode_pairs=1)
    advise(run, rule("go", RIGHT))
    guidance = verify(run)
    assert guidance.advice[0].verdict.steps == 40
    assert "budget" in guidance.set_verdict.note
    assert run.record("verify").env_steps == 40


def test_the_same_seed_gives_the_same_verdicts(make_run) -> None:
    advice = (state("one", STAY, hold=2), rule("far", RIGHT, ">", 2.0))
    results = []
    for name, seed in (("a", 10_000), ("b", 10_000), ("c", 7)):
        run = make_run(name=name, seed=seed)
        advise(run, *advice)
        results.append((verify(run), (run.root / "verify" / "branches.json").read_text()))
    assert results[0] == results[1]
    assert results[0][1] != results[2][1]


def test_other_advice_does_not_change_the_luck_but_widens_the_interval(make_run) -> None:
    alone, beside = make_run(name="alone"), make_run(name="beside")
    advise(alone, state("one", STAY, hold=2))
    advise(beside, rule("go", RIGHT), state("one", STAY, hold=2))
    one, other = verify(alone).advice[0].verdict, verify(beside).advice[1].verdict
    assert one.gain == other.gain
    assert other.low < one.low < one.high < other.high


def test_an_edited_file_is_checked_and_nothing_is_lost(make_run) -> None:
    run = make_run()
    advise(run, state("good", RIGHT))
    before = verify(run)
    held = run.guidance_path.read_text()
    data = json.loads(run.advice_path.read_text())
    data["advice"][0]["when"] = [{"variable": "obs_1", "op": ">", "value": 0}]
    run.advice_path.write_text(json.dumps(data))
    with pytest.raises(GuidanceError, match=r"advice\[0\] \(good\)\.when: there is no variable 'obs_1'"):
        verify(run)
    assert run.guidance_path.read_text() == held
    advise(run, state("good", RIGHT, step=30))
    with pytest.raises(GuidanceError, match=r"advice\[0\] \(good\)\.evidence\.step"):
        verify(run)
    advise(run, state("good", RIGHT, episode=6))
    with pytest.raises(GuidanceError, match=r"advice\[0\] \(good\)\.evidence\.episode"):
        verify(run)
    advise(run, state("good", RIGHT))
    assert verify(run) == before


def test_edited_guidance_is_kept_when_verification_is_repeated(make_run, monkeypatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(Shown, "warn", lambda self, text: warned.append(text))
    run = make_run(pairs=2, episode_pairs=0)
    advise(run, state("good", RIGHT))
    verify(run)
    edited = run.guidance_path.read_text().replace("walks at random", "walks around")
    run.guidance_path.write_text(edited)
    verify(run)
    assert run.guidance_path.read_text() == edited
    run.configure(run.config.model_copy(update={"verify": VerifyConfig(pairs=3, episode_pairs=0)}))
    verify(run)
    assert "walks at random" in run.guidance_path.read_text()
    assert (run.root / "guidance.edited-1.json").read_text() == edited
    assert len(warned) == 1
    assert "kept as guidance.edited-1.json" in warned[0]


def test_done_is_not_done_again_until_something_changes(make_run) -> None:
    run = make_run()
    advise(run, state("good", RIGHT))
    verify(run)
    finished = run.record("verify")
    Corridor.steps = 0
    verify(Run(run.root))
    assert Corridor.steps == 0
    assert run.record("verify") == finished
    advise(run, state("good", RIGHT, hold=7))
    assert verify(run).advice[0].hold == 7
    assert run.record("verify").fingerprint != finished.fingerprint


def test_switched_off_it_passes_the_advice_on(make_run) -> None:
    run = make_run(enabled=False)
    advise(run, rule("back", LEFT))
    guidance = verify(run)
    assert statuses(guidance) == {"back": "untested"}
    assert guidance.active == guidance.advice
    assert run.record("verify").env_steps == 0
    assert run.guidance_path.exists()


def test_without_advice_it_names_the_command(make_run) -> None:
    with pytest.raises(RunError, match="unstuck explain"):
        verify(make_run())


def test_reward_terms_that_never_fire_are_flagged(make_run) -> None:
    run = make_run(enabled=False)
    terms = (
        Term(variable="obs_0", above=1e5, weight=1, cap=1),
        Term(variable="obs_0", weight=2, cap=1000),
    )
    advise(run, reward_terms=terms)
    verify(run)
    never, always = json.loads((run.root / "verify" / "branches.json").read_text())["terms"]
    assert (never["fires"], never["correlation"]) == (0, None)
    assert "never fires" in never["note"]
    assert always["fires"] == 1
    # The return is the way gained, so that the best episode is further right than the worst.
    assert always["best"] > always["worst"]
    assert run.record("verify").facts["terms_that_never_fire"] == [never["term"]]


def test_hopper_with_deltas(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    agent = tmp_path / "hopper.zip"
    PPO("MlpPolicy", gym.make("Hopper-v5"), seed=0, n_steps=16, batch_size=16).save(agent)
    config = RunConfig(
        task=TaskConfig(env="Hopper-v5"),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=4, max_steps=1000),
        verify=VerifyConfig(pairs=4, horizon=30, episode_pairs=2),
    )
    run = Run.create(tmp_path / "run", config, {"agent": agent})
    collect(run)
    zero = Advice(
        id="zero", kind="state", why="", evidence=Evidence(episode=2, step=4), hold=5,
        action=Action(values=(0, 0, 0), delta=True),
    )  # fmt: skip
    push = zero.model_copy(update={"id": "push", "action": Action(values=(2, -2, 2), delta=True)})
    advise(run, zero, push)
    guidance = verify(run)
    assert guidance.advice[0].verdict.gain == 0
    assert "by itself" in guidance.advice[0].verdict.note
    assert guidance.advice[1].verdict.gain != 0
    assert run.record("verify").env_steps <= 2 * 2 * 4 * 30 + 4 * 1000


@pytest.mark.parametrize(("force", "status"), [(1.0, "helpful"), (0.1, "untested")])
def test_beside_reward_terms_forces_are_used_all_or_none(tmp_path: Path, force: float, status: str) -> None:
    from unstuck.testing import PUSH, save_stuck_agent

    agent = Path(save_stuck_agent(tmp_path / "agent.zip", PUSH))
    config = RunConfig(
        task=TaskConfig(env=PUSH), agent=AgentConfig(agent=str(agent)), collect=CollectConfig(episodes=4, max_steps=400)
    )
    run = Run.create(tmp_path / "run", config, {"agent": agent})
    collect(run)
    always = (Condition(variable="obs_0", op=">", value=-1e6),)
    push = Advice(id="push", kind="state", why="", when=always, action=Action(values=(force,)), hold=3)
    # By itself this stays unresolved or harmless; it shares the verdict of the whole.
    rare = push.model_copy(update={"id": "rare", "when": (Condition(variable="obs_0", op=">", value=1e6),)})
    off = push.model_copy(update={"id": "off", "enabled": False})
    advise(run, push, rare, off, reward_terms=(Term(variable="obs_1", weight=1, cap=1),))
    guidance = verify(run)
    assert statuses(guidance) == {"push": status, "rare": status, "off": "untested"}
    pairs = 4 if status == "helpful" else 2
    assert guidance.set_verdict.pairs == pairs
    assert run.record("verify").env_steps == pairs * 2 * 50
    used = [a.id for a in make_plan("unstuck", GuideConfig(), guidance, Setting(discrete=False)).advice(guidance)]
    assert used == (["push", "rare"] if status == "helpful" else [])
