"""Races from end to end: within the budget, the same after a kill and elsewhere, and what is handed over loads."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unstuck import race, testing
from unstuck.agents import load_agent
from unstuck.cells import kept as kept_cell
from unstuck.config import CollectConfig, EvaluateConfig, RaceConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.guidance import load_guidance, save_guidance
from unstuck.guide.plan import Plan
from unstuck.pipeline import open_run
from unstuck.race import contest as contests
from unstuck.race import engine, quiet, spread, track
from unstuck.race.competitors import competitor
from unstuck.race.entering import Signs
from unstuck.race.entry import Entry
from unstuck.race.quiet import Quiet, quieted
from unstuck.results import RaceVerdict, TrainFacts
from unstuck.rounds import train
from unstuck.run import Run
from unstuck.stages.collect import collect
from unstuck.stages.evaluate import evaluate
from unstuck.stages.explain import explain
from unstuck.stages.handover import hand_over
from unstuck.stages.train import Job, fingerprint
from unstuck.stages.verify import verify
from unstuck.treatments import quieter
from unstuck.workspace import Workspace

BUDGET = 24_000


def begun(folder: Path, agent: Path, **settings: Any) -> Run:
    config = RunConfig(
        task=TaskConfig(env=testing.PUSH, import_module="unstuck.testing"),
        agent={"agent": str(agent)},
        collect=CollectConfig(episodes=6, max_steps=400),
        train=TrainConfig(
            steps=BUDGET, seeds=(1,), method="race", n_envs=8, n_steps=32, batch_size=64, critic_warmup=200,
            control=False,
        ),
        race=RaceConfig(**{"treatments": ("transplant", "afresh"), **settings}),
        evaluate=EvaluateConfig(episodes=2, before_episodes=2),
    )  # fmt: skip
    run = open_run(config, folder)
    collect(run)
    explain(run)
    verify(run)
    return run


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(testing.save_stuck_agent(tmp_path_factory.mktemp("agent") / "push.zip", testing.PUSH, bias=4.0))


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory, agent: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race, "free_cores", lambda: 1)
        run = begun(tmp_path_factory.mktemp("race") / "run", agent)
        train(run)
    return run


def test_the_better_one_wins_within_the_budget(raced: Run, agent: Path) -> None:
    verdict = RaceVerdict.read(raced.root / "train" / "race" / "1" / "race.json")
    assert verdict.handed == "finalist"
    assert verdict.finalist == "afresh"  # the others stay on the left, which pays a quarter
    assert verdict.over_original is not None
    assert verdict.over_original.low is not None
    assert verdict.over_original.low > 0
    assert verdict.charged.total <= BUDGET
    assert all(verdict.charged[stage] > 0 for stage in ("collect", "train", "states", "judge"))
    assert {r.name for r in verdict.ladder} == {"continue", "transplant", "afresh"}
    assert set(verdict.other) == {"finalist", "original", "trunk"}
    assert verdict.noise in (1.0, 0.3, 0.1)
    assert (f"with {verdict.noise:g} of its noise" in verdict.why) == (verdict.noise < 1)
    assert all(r.note for r in verdict.ladder if r.status == "dropped")
    facts = TrainFacts.read(raced.root / "train" / "race" / "1" / "info.json")
    assert facts.charged == verdict.charged
    # What is charged is what the cells say they took.
    cells = [json.loads(p.read_text())["found"] for p in (raced.root / "race").rglob("cell.json")]
    assert (
        sum(c.get("taken", 0) + c.get("judged", 0) for c in cells) == verdict.charged.total - verdict.charged["collect"]
    )


def test_a_transplant_that_is_not_the_agent_withdraws(raced: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, found in (("gather", {"taken": 5}), ("fit", {"agreement": 0.8, "faithful": False})):
        monkeypatch.setattr(engine, name, lambda *_, found=found: found)
    names = ("transplant", "transplant+shrink-and-perturb", "afresh")
    track_ = track.Track(raced, raced.root / "race" / "x", 1, BUDGET, RaceConfig(treatments=names))
    engine.Race(track_, []).operate(track_.entries)
    assert track_.spent["states"] == 5
    out = [e.name for e in track_.entries if e.rank.status == "dropped"]
    assert out == ["transplant"]
    assert "80% of its actions" in track_.entries[1].rank.note


def test_what_is_kept_goes_by_episodes_that_got_longer(raced: Run, tmp_path: Path) -> None:
    """The agent fails early; what was trained does not, so that the last test takes longer than was foreseen."""
    track_ = track.Track(raced, tmp_path, 1, BUDGET, RaceConfig())
    one = track_.entries = [Entry(competitor("continue"), Plan(), None)]
    track_._limit, track_.episode = 100, 20
    track_.__dict__.pop("reserve", None)
    kept, leg = track_.reserve.steps, SimpleNamespace(stop=64)
    for judged, foreseen in ((72, 20), (75, 20), (90, 60), (240, 100)):  # three episodes each; a quarter longer is near
        track_._enter(one[0], leg, {"taken": 64, "judged": judged, "returns": [1.0, 2.0, 3.0]})  # type: ignore[arg-type]
        assert track_.episode == foreseen
        assert track_.reserve.episode == foreseen
    assert track_.reserve.steps > kept
    track_._enter(one[0], leg, {"taken": 64, "judged": 0, "returns": []})  # type: ignore[arg-type]
    assert track_.episode == 100


@pytest.mark.parametrize("quiet", [False, True])
def test_noise_that_is_not_low_is_not_brought_back(raced: Run, tmp_path: Path, quiet: bool) -> None:
    """The treatment would be plain PPO once more."""
    track_ = track.Track(raced, tmp_path / "home", 1, BUDGET, RaceConfig(treatments=("thaw", "small-batches")))
    if quiet:
        space = track_.space
        vars(space)["agent"] = quieter(space.agent, space.spaces[1], 0.01)
    engine.Race(track_, []).operate(track_.entries)
    assert [e.name for e in track_.entries if e.rank.status == "dropped"] == ([] if quiet else ["thaw"])


def test_plain_ppo_that_gets_on_is_given_all_that_is_left(
    raced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(contests, "climbs", lambda *_: True)
    signs = Signs("cannot tell", budget=8000)
    monkeypatch.setattr(engine, "signs_of", lambda *_, **__: signs)
    monkeypatch.setattr(engine, "entries", lambda _: [competitor("continue"), competitor("small-batches")])
    track_ = track.Track(raced, tmp_path / "home", 1, 8000, RaceConfig())
    outcome = engine.Race(track_, []).go()
    assert outcome.winner.name == "continue"
    assert [e.rank.trained for e in track_.entries][1] == 0
    assert track_.spent["train"] >= 0.75 * track_.budget
    assert track_.left >= 0


def test_noise_is_turned_down_where_sampled_play_is_better_for_it(
    raced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track_ = track.Track(raced, tmp_path, 1, BUDGET, RaceConfig())
    path = raced.root / "train" / "race" / "1" / "agent.zip"
    played: list[float] = []

    def by_noise(space: Any, agent: Any, seeds: list[int], mode: str) -> tuple[list[float], int]:
        assert mode == "sampled"
        played.append(float(agent.state_dict["log_std"].exp().mean()))
        return [1 / played[-1]] * len(seeds), 10  # the quieter the better

    monkeypatch.setattr(quiet, "play", by_noise)
    found = quieted(track_, "finalist", path, count=3)
    assert found.share == track_.reserve.shares[-1] == 0.1
    assert len(found.sampled) == 3
    assert track_.spent["judge"] == 10 * len(track_.reserve.shares)
    before, after = load_agent(path), load_agent(found.agent)
    assert np.allclose(after.state_dict["log_std"], before.state_dict["log_std"] + np.log(0.1))
    # What it does at its most likely is the same, and it loads without Unstuck.
    from stable_baselines3 import PPO

    obs = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)
    assert np.allclose(*(PPO.load(p).predict(obs, deterministic=True)[0] for p in (path, found.agent)))
    # Once it is done it is not done again; and what is not better is not taken.
    assert quieted(track_, "finalist", path, count=3).share == 0.1
    assert len(played) == len(track_.reserve.shares)
    monkeypatch.setattr(quiet, "play", lambda *_: ([1.0, 2.0], 10))
    assert quieted(track_, "trunk", path, count=2).share == 1.0
    assert quieted(track_, "trunk", path, count=0) == Quiet(path, 1.0, ())
    # Of the agent as it was given sampled episodes were collected: these are not played again.
    played.clear()
    monkeypatch.setattr(quiet, "play", by_noise)
    collected = [0.5 / np.exp(before.state_dict["log_std"]).mean().item()] * 4
    assert quieted(track_, "original", path, count=2, given=collected).share == 0.1
    assert len(played) == len(track_.reserve.shares) - 1
    assert quieted(track_, "original", path, count=2, given=[10**6, 10**6]) == Quiet(path, 1.0, (10**6, 10**6))
    assert quieted(track_, "original", path, count=2, given=[0.0]).share == 0.1  # one is too few
    assert len(played) == 3 * len(track_.reserve.shares) - 2


def test_of_the_agent_as_it_was_given_more_is_asked() -> None:
    noisy = {1.0: [1.0, 9.0, 2.0], 0.1: [4.0, 2.0, 7.0]}
    assert quiet.best_share(noisy, proven=False) == 0.1
    assert quiet.best_share(noisy, proven=True) == 1.0
    assert quiet.best_share({1.0: [1.0, 2.0], 0.1: [4.0, 5.1]}, proven=True) == 0.1
    assert quiet.best_share({1.0: [1.0], 0.1: [4.0]}, proven=True) == 1.0
    assert quiet.best_share({1.0: [1.0, 2.0, 0.0, 1.0], 0.1: [4.0, 5.1]}, proven=True) == 0.1


def test_what_is_handed_over_loads_without_unstuck(raced: Run) -> None:
    from stable_baselines3 import PPO

    evaluate(raced)
    verdict = hand_over(raced)
    assert verdict is not None
    assert verdict.chosen == "race"
    assert verdict.race is not None
    assert verdict.race.finalist == "afresh"
    assert PPO.load(raced.root / "agent.zip").policy is not None
    assert (raced.root / "agent.vecnormalize.pkl").exists()


def test_a_race_that_was_killed_gives_the_same(
    raced: Run, tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "free_cores", lambda: 1)
    run, done = begun(tmp_path / "run", agent), spread.run_leg
    legs = 0

    def killed(leg: Any) -> dict[str, Any]:
        nonlocal legs
        legs += 1
        if legs == 5:
            raise KeyboardInterrupt
        return done(leg)

    monkeypatch.setattr(spread, "run_leg", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(spread, "run_leg", done)
    train(run)
    ours, theirs = (RaceVerdict.read(r.root / "train" / "race" / "1" / "race.json") for r in (run, raced))
    assert ours == theirs


def test_legs_that_travel_leave_the_same_behind(raced: Run, tmp_path: Path, agent: Path) -> None:
    """What machines of a cluster do, without a cluster: pack, unpack, work, pack, put in place."""
    travelled: list[str] = []

    def far(legs: Any, *_: Any) -> list[Any]:
        for leg in legs:
            spread.put(leg, spread.elsewhere(leg, spread.packed(leg)))
            travelled.append(leg.name)
        return [kept_cell(leg.folder, leg.mark) for leg in legs]

    run = begun(tmp_path / "run", agent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race, "free_cores", lambda: 1)
        patch.setattr(track, "together", far)
        train(run)
    assert {"continue", "afresh"} <= set(travelled)
    ours, theirs = (RaceVerdict.read(r.root / "train" / "race" / "1" / "race.json") for r in (run, raced))
    assert ours == theirs
    assert not list(run.root.rglob(".parcel-*"))


@pytest.mark.slow
def test_a_race_on_a_ray_cluster_gives_the_same(raced: Run, tmp_path: Path, agent: Path) -> None:
    ray = pytest.importorskip("ray")
    run = begun(tmp_path / "run", agent, backend="ray")
    ray.init("local", num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
    try:
        train(run)
    finally:
        ray.shutdown()
    ours, theirs = (RaceVerdict.read(r.root / "train" / "race" / "1" / "race.json") for r in (run, raced))
    assert ours == theirs


_TRAIN = "import sys; from unstuck.rounds import train; from unstuck.run import Run; train(Run(sys.argv[1]))"


@pytest.mark.slow
def test_a_race_that_was_killed_outright_gives_the_same(raced: Run, tmp_path: Path, agent: Path) -> None:
    run = begun(tmp_path / "run", agent)
    home = run.root / "race" / "race" / "1"
    racing = subprocess.Popen([sys.executable, "-c", _TRAIN, str(run.root)])
    try:
        for _ in range(1200):
            if len(list(home.glob("*/*/cell.json"))) >= 3 or racing.poll() is not None:
                break
            time.sleep(0.1)
    finally:
        racing.kill()  # SIGKILL: nothing can be tidied up
    assert racing.wait() == -signal.SIGKILL
    cells = {p: p.stat().st_mtime_ns for p in home.rglob("cell.json")}
    assert cells
    subprocess.run([sys.executable, "-c", _TRAIN, str(run.root)], check=True, timeout=300)
    assert all(p.stat().st_mtime_ns == when for p, when in cells.items())  # what was done is not done again
    ours, theirs = (RaceVerdict.read(r.root / "train" / "race" / "1" / "race.json") for r in (run, raced))
    assert ours == theirs


def test_opinions_beside_the_guidance_are_competitors(raced: Run, tmp_path: Path) -> None:
    space = Workspace(raced)
    guidance = load_guidance(raced.guidance_path, space.describer.card)
    job = Job("race", 1, BUDGET, {}, Plan(terms=True), guidance, race=())
    root = Path(shutil.copytree(raced.root, tmp_path / "run"))
    save_guidance(guidance.model_copy(update={"diagnosis": "another"}), root / "guidance-2.json")
    found = race.opinions(Run(root, trust=True), job)
    assert [g.diagnosis for g, _ in found] == [guidance.diagnosis, "another"]
    assert fingerprint(Run(root, trust=True), job) != fingerprint(raced, job)


def test_schedules_are_simulated_with_the_decisions_of_the_race() -> None:
    from benchmarks.race_schedule import Recorded, Replay

    def arm(name: str, end: float) -> Recorded:
        steps = np.linspace(0, 100_000, 50)
        line = 100 + (end - 100) * steps / 100_000
        return Recorded(name, steps, line, steps, line, 2.0)

    rng = np.random.default_rng(0)
    better = {"continue": arm("continue", 100), "transplant": arm("transplant", 400)}
    assert Replay(better, 92_000, 200, rng).worth() > 250
    flat = {"continue": arm("continue", 100), "transplant": arm("transplant", 50)}
    assert Replay(flat, 92_000, 200, rng).worth() == pytest.approx(100)


def test_a_single_treatment_is_not_raced(tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "free_cores", lambda: 1)
    config = RunConfig(
        task=TaskConfig(env=testing.PUSH, import_module="unstuck.testing"), agent={"agent": str(agent)},
        train=TrainConfig(steps=4096, seeds=(1,), method="afresh", n_envs=8, n_steps=32, control=False),
    )  # fmt: skip
    run = open_run(config, tmp_path / "run")
    train(run)
    facts = TrainFacts.read(run.root / "train" / "afresh" / "1" / "info.json")
    assert facts.charged["train"] > 3500
    assert facts.charged["judge"] == 0
    assert facts.charged.total <= 4096
    assert RaceVerdict.read(run.root / "train" / "afresh" / "1" / "race.json").handed == "finalist"
