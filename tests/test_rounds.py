"""Iterated rounds on the toy corridor: one budget, one result, nothing done twice, and replies that come later."""

from __future__ import annotations

import itertools
import json
import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

import unstuck
from test_bench import TOY, numbers, plan_in, suite_in
from unstuck import rounds
from unstuck.agents import load_agent
from unstuck.bench import pool
from unstuck.bench.exchange import export_prompts, import_replies
from unstuck.bench.results import read_results
from unstuck.bench.runner import run_suite
from unstuck.cli import main
from unstuck.config import (
    AgentConfig,
    CollectConfig,
    EvaluateConfig,
    ExplainConfig,
    RunConfig,
    TaskConfig,
    TrainConfig,
    VerifyConfig,
)
from unstuck.errors import BudgetError, NoRecordingError, RunError
from unstuck.llm import LLMConfig, Recordings
from unstuck.llm.requests import Message, Request
from unstuck.pipeline import open_run, run_stages
from unstuck.results import trainings
from unstuck.rounds import later_rounds, waiting
from unstuck.run import Run
from unstuck.stages import train as training
from unstuck.stages.collect import collect
from unstuck.stages.evaluate import evaluate
from unstuck.stages.explain import explain, prompts
from unstuck.stages.verify import verify
from unstuck.testing import CORRIDOR, save_stuck_agent, scripted_model

ROLLOUT = 4 * 32
BUDGET = 3_000
REPLY = {
    "analysis": "It walks left into the wall.",
    "diagnosis": "The agent <b>always</b> goes left.",
    "critical_states": [{"episode": 0, "step": 1, "why": "Left again.", "action": 1, "reward": -0.5}],
    "rules": [{"when": [], "action": 1, "why": "The end is on the right."}],
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    path = Path(save_stuck_agent(folder / "corridor.zip", CORRIDOR, bias=0.05, normalize=True))
    model = PPO.load(path)
    model.num_timesteps = 5_000
    model.save(path)
    return path


def settings(agent: Path, llm: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    small = {
        "n_envs": 4, "n_steps": 32, "batch_size": 64, "n_epochs": 2, "learning_rate": 0.003, "critic_warmup": 0,
        "jobs": 1, "steps": BUDGET, "seeds": (1,), "rounds": 2, "control": False,
    }  # fmt: skip
    return RunConfig(
        task=TaskConfig(env=CORRIDOR, import_module="unstuck.testing", env_kwargs={"length": 6}),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=4, max_steps=300),
        explain=ExplainConfig(search_states=1, search_candidates=2),
        llm=LLMConfig(**(llm or {})),
        verify=VerifyConfig(pairs=2, max_steps=200, episode_pairs=0),
        train=TrainConfig(**(small | train)),
        evaluate=EvaluateConfig(episodes=2, before_episodes=2),
    )


def explained(root: Path, agent: Path, model: Any = None, **more: Any) -> Run:
    """A run up to training."""
    run = open_run(settings(agent, **more), root)
    collect(run)
    explain(run, model=model)
    verify(run)
    return run


def info(run: Run, seed: int = 1) -> dict[str, Any]:
    return json.loads((run.root / f"train/unstuck/{seed}/info.json").read_text())


def curve(run: Run, seed: int = 1) -> list[dict[str, Any]]:
    lines = (run.root / f"train/unstuck/{seed}/curve.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "steps_per_second"} for line in lines]


def weights(path: Path) -> dict[str, Any]:
    return {k: np.asarray(v) for k, v in load_agent(path).state_dict.items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(np.array_equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, agent: Path) -> Run:
    """All stages, three rounds, beside PPO."""
    run = open_run(settings(agent, rounds=3, control=True, steps=4_000), tmp_path_factory.mktemp("done") / "run")
    return run_stages(run)


def test_the_budget_is_shared_and_its_charges_add_up(done: Run) -> None:
    facts, result = done.record("train/unstuck/1").facts, info(done)
    assert 4_000 - ROLLOUT < sum(facts["charged"].values()) <= 4_000
    assert [r["round"] for r in result["rounds"]] == [1, 2, 3]
    for stage, steps in facts["charged"].items():
        assert steps == sum(r["charged"][stage] for r in result["rounds"])
    first, second, third = later = [done, *later_rounds(done)]
    for run, told in zip(later, result["rounds"], strict=True):
        for stage in ("collect", "explain", "verify"):
            assert told["charged"][stage] == run.record(stage).env_steps
        assert told["before"]["deterministic"] == pytest.approx(np.mean(run.record("collect").facts["deterministic"]))
    spent = [sum(r["charged"].values()) for r in result["rounds"]]
    assert 4_000 // 3 - ROLLOUT < spent[0] <= 4_000 // 3
    assert second.config.train.steps == (4_000 - spent[0]) // 2
    assert third.config.train.steps == 4_000 - spent[0] - spent[1]
    assert len({r.config.collect.seed for r in (first, second, third)}) == 3
    assert done.record("train/ppo/1").facts["charged"] == {"train": 4_000 // ROLLOUT * ROLLOUT}
    assert "rounds" not in done.record("train/ppo/1").facts
    took = done.record("train/unstuck/1").env_steps + sum(first.record(s).env_steps for s in ("collect", "explain"))
    assert took + first.record("verify").env_steps == sum(facts["charged"].values())


def test_the_result_is_one_training_with_gaps(done: Run) -> None:
    lines, result = curve(done), info(done)
    assert [line["trained"] for line in lines] == [ROLLOUT * (i + 1) for i in range(len(lines))]
    assert lines[-1]["trained"] == result["charged"]["train"]
    assert lines[-1]["steps"] == sum(result["charged"].values())
    between = [b["steps"] - a["steps"] - ROLLOUT for a, b in itertools.pairwise(lines)]
    later = [sum(v for k, v in r["charged"].items() if k != "train") for r in result["rounds"][1:]]
    assert [gap for gap in between if gap] == later
    whole = result["charged"]["train"]
    assert len(result["checkpoints"]) == 3
    assert result["checkpoints"][-1] == [whole, "agent.zip"]
    for trained, file in result["checkpoints"]:
        assert trained >= 0.8 * whole
        assert (done.root / "train/unstuck/1" / file).exists()
    control = json.loads((done.root / "train/ppo/1/info.json").read_text())
    shares = [[t / i["steps"] for t, _ in i["checkpoints"]] for i in (result, control)]
    assert shares[0] == pytest.approx(shares[1], abs=ROLLOUT / whole), "as late as the control's"
    scores = evaluate(done).arms["unstuck"].seeds[1].checkpoints
    assert [p.trained for p in scores] == [t for t, _ in result["checkpoints"]]


def test_each_round_begins_with_the_agent_of_the_one_before(done: Run) -> None:
    folder, (second, third) = done.root / "rounds/unstuck/1", later_rounds(done)
    assert same(weights(second.agent_path), weights(folder / "1/agent.zip"))
    trained = folder / "2/train/unstuck/100001/agent.zip"
    assert same(weights(third.agent_path), weights(trained))
    assert not same(weights(trained), weights(folder / "1/agent.zip"))
    last = weights(folder / "3/train/unstuck/200001/agent.zip")
    assert same(last, weights(done.root / "train/unstuck/1/agent.zip"))
    assert second.vecnormalize_path is not None
    assert (done.root / "train/unstuck/1/agent.vecnormalize.pkl").exists()
    ends = [second.manifest.round.trained, third.manifest.round.trained]  # type: ignore[union-attr]
    charged = [r["charged"]["train"] for r in info(done)["rounds"]]
    assert ends == [5_000 + charged[0], 5_000 + charged[0] + charged[1]]


def test_values_of_a_critic_that_learnt_from_true_rewards_are_not_scaled(done: Run) -> None:
    from unstuck.workspace import Workspace

    for run, scaled in ((done, True), (later_rounds(done)[0], False)):
        space = Workspace(run)
        episode = space.episodes[0]
        bare = space.actor.signals(episode.observations)["value"][:-1]
        assert np.allclose(episode.signals["value"], bare, rtol=1e-4) is not scaled


def test_the_page_tells_of_each_round(done: Run) -> None:
    page = (done.root / "report.html").read_text()
    assert "<h2>Rounds</h2>" in page
    assert "rounds/unstuck/1/3" in page


def test_the_same_twice_after_a_kill_too_and_nothing_is_repeated(
    tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = explained(tmp_path / "a", agent)
    unstuck.train(whole)
    real, calls = training.train_one, []

    def killed_at_the_second(root: str, job: training.Job, folder: str) -> tuple[str, float]:
        calls.append(job.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(root, job, folder)

    monkeypatch.setattr(training, "train_one", killed_at_the_second)
    run = explained(tmp_path / "b", agent)
    with pytest.raises(KeyboardInterrupt):
        unstuck.train(run)
    (later,) = later_rounds(run)
    stages = later.manifest.stages
    assert set(stages) == {"collect", "explain", "verify"}
    kept = (run.root / "rounds/unstuck/1/1/agent.zip").stat().st_mtime_ns
    again = Run(tmp_path / "b")
    unstuck.train(again)
    assert calls == [1, 100_001, 100_001]
    assert (run.root / "rounds/unstuck/1/1/agent.zip").stat().st_mtime_ns == kept
    assert {s: r for s, r in later_rounds(again)[0].manifest.stages.items() if s in stages} == stages
    path = "train/unstuck/1/agent.zip"
    assert same(weights(whole.root / path), weights(again.root / path))
    assert curve(whole) == curve(again)
    assert info(whole)["charged"] == info(again)["charged"]
    unstuck.train(again)
    assert len(calls) == 3


def test_one_round_is_trained_as_ever_and_several_are_another_training(tmp_path: Path, agent: Path) -> None:
    run = explained(tmp_path / "run", agent, rounds=1)
    (job,) = training.plan_jobs(run)
    mark, rate = training.fingerprint(run, job), run.config.train.learning_rate

    def marked(**settings) -> str:
        run.configure(run.config.model_copy(update={"train": run.config.train.model_copy(update=settings)}))
        (job,) = training.plan_jobs(run)
        return training.fingerprint(run, job)

    # What a single round does not depend on: several rounds' guidance, and how the work is spread.
    folder = run.root / "rounds/unstuck/1/2"
    folder.mkdir(parents=True)
    (folder / "guidance.json").write_text("{}")
    assert marked(jobs=7, threads=3, control=False) == mark
    assert marked(learning_rate=1e-5) != mark
    two = marked(learning_rate=rate, rounds=2)
    assert two != mark
    assert marked(rounds=1) == mark
    (folder / "guidance.json").write_text('{"edited": true}')
    assert marked(rounds=2) != two, "people may edit later rounds' guidance"
    with pytest.raises(RunError, match=r"unstuck\.train"):
        training.train(run)


def test_edited_advice_of_a_later_round_is_verified_and_trained_anew(tmp_path: Path, agent: Path) -> None:
    model = scripted_model(*[json.dumps(REPLY)] * 2)
    run = explained(tmp_path / "run", agent, model, llm={"model": "scripted"})
    unstuck.train(run, model=model)
    (later,) = later_rounds(run)
    first, stages = (run.root / "rounds/unstuck/1/1/agent.zip").stat().st_mtime_ns, later.manifest.stages
    assert info(run)["rounds"][1]["advice"] == 2
    data = json.loads(later.advice_path.read_text())
    data["advice"] = []
    later.advice_path.write_text(json.dumps(data))
    unstuck.train(run)
    now = Run(later.root).manifest.stages
    assert now["explain"] == stages["explain"]
    assert now["verify"].fingerprint != stages["verify"].fingerprint
    assert info(run)["rounds"][1]["advice"] == 0
    (warning,) = info(run)["warnings"]
    assert warning.startswith("round 2: nothing in its guidance could be used")
    assert run.record("train/unstuck/1").facts["warnings"] == [warning]
    assert (run.root / "rounds/unstuck/1/1/agent.zip").stat().st_mtime_ns == first


def test_a_round_without_room_ends_the_training_and_is_told(tmp_path: Path, agent: Path) -> None:
    run = open_run(settings(agent), tmp_path / "run")
    collect(run)
    spent = run.record("collect").env_steps
    explain(run)
    verify(run)
    spent += run.record("explain").env_steps + run.record("verify").env_steps
    run.configure(settings(agent, rounds=9, steps=9 * spent))
    with pytest.raises(RunError, match="first of 9 rounds' share"):
        unstuck.train(run)
    run.configure(settings(agent, steps=2 * (spent + ROLLOUT)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unstuck.rounds.round_settings", longer)
        unstuck.train(run)
    result = info(run)
    assert len(result["rounds"]) == 1
    assert "only 1 of 2 rounds were trained" in result["warnings"][-1]
    assert sum(result["charged"].values()) <= 2 * (spent + ROLLOUT)


def longer(*args: Any, real: Any = rounds.round_settings) -> RunConfig:
    """Settings of later rounds in which collecting alone takes more than there is."""
    config = real(*args)
    collecting = config.collect.model_copy(update={"episodes": 400, "max_steps": 5_000})
    return config.model_copy(update={"collect": collecting})


# ------------------------------------------------------------------------------------------------ the language model


def test_the_caps_hold_over_all_rounds_together(tmp_path: Path, agent: Path) -> None:
    model = scripted_model(*[json.dumps(REPLY)] * 3)
    run = explained(tmp_path / "run", agent, model, llm={"model": "scripted", "max_calls": 2}, seeds=(1, 2))
    with pytest.raises(BudgetError, match="Spent so far: 2 calls"):
        unstuck.train(run, model=model)
    assert len(list((run.root / "recordings").glob("*.json"))) == 2
    assert not list((run.root / "rounds").rglob("recordings"))
    assert "train/unstuck/1" in run.manifest.stages
    assert "train/unstuck/2" not in run.manifest.stages
    run.configure(settings(agent, llm={"model": "scripted", "max_calls": 3}, seeds=(1, 2)))
    unstuck.train(run, model=model)
    assert info(run, 2)["rounds"][1]["tokens_in"] > 0


def test_seeds_ask_a_live_model_one_after_the_other(tmp_path: Path, agent: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="such locks are POSIX's")
    for model, held in (("openai:some", True), ("recorded", False)):
        run = open_run(settings(agent, llm={"model": model}), tmp_path / f"run-{held}")
        with rounds.one_at_a_time(run):
            path = run.recordings_path / ".lock"
            assert path.exists() is held
            if held:
                with path.open() as other, pytest.raises(BlockingIOError):
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if held:
            with path.open() as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("method", ["rice", "jsrl"])
def test_methods_of_the_grid_in_rounds(tmp_path: Path, agent: Path, method: str) -> None:
    """A mask network is trained anew in each round; what is not explained trains in one."""
    config = settings(agent, method=method, steps=5_500)
    run = open_run(config.model_copy(update={"explain": ExplainConfig(mask_steps=200)}), tmp_path / "run")
    collect(run)
    if method == "rice":
        explain(run)
        verify(run)
    unstuck.train(run)
    (facts,) = trainings(run).values()
    assert len(facts.rounds) == (2 if method == "rice" else 0)
    assert 5_500 - ROLLOUT < facts.charged.total <= 5_500
    assert len(later_rounds(run)) == (1 if method == "rice" else 0)


def test_a_run_waits_for_replies_of_its_rounds_and_goes_on_with_them(
    tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(settings(agent, llm={"model": "recorded"}, seeds=(1, 2)), tmp_path / "run")
    root = str(run.root)
    collect(run)
    answer(tmp_path, root)
    explain(run)
    verify(run)
    real, calls = training.train_one, []
    monkeypatch.setattr(training, "train_one", lambda *args: (calls.append(args[1].seed), real(*args))[1])
    with pytest.raises(NoRecordingError, match="2 training runs got no reply"):
        unstuck.train(run)
    assert calls == [1, 2], "one seed that waits does not hold up the other"
    assert len(waiting(run)) == 2
    keys = answer(tmp_path, root)
    assert sorted(keys) == sorted(prompts(later)[0].key for later in later_rounds(run))
    capsys.readouterr()
    main(["train", root])
    assert calls == [1, 2, 100_001, 100_002]
    assert waiting(run) == []
    assert info(Run(root), 2)["rounds"][1]["diagnosis"] == REPLY["diagnosis"]
    main(["prompt", root, "--quiet"])
    assert "1 prompt(s)" in capsys.readouterr().err


def answer(folder: Path, root: str) -> list[str]:
    """Export what waits and import a reply to each."""
    out, back = folder / "prompts.jsonl", folder / "replies.jsonl"
    main(["prompt", root, "--quiet", "--export", str(out)])
    keys = [json.loads(line)["custom_id"] for line in out.read_text().splitlines()]
    back.write_text("".join(json.dumps({"custom_id": key, "reply": json.dumps(REPLY)}) + "\n" for key in keys))
    main(["recordings", "import", root, str(back), "--model", "a person"])
    return keys


# -------------------------------------------------------------------------------------------------------- benchmarks

ROUNDS = TOY.replace("weak", "again").replace("train.guide.imitate = 0.01", "train.rounds = 2")
SUITE = ROUNDS.replace("1_800", "3_000").replace("[1, 2]", "[1]")


def test_a_bench_variant_in_rounds_at_home_and_on_another_machine(tmp_path: Path, agent: Path) -> None:
    plan = plan_in(tmp_path / "home", agent, SUITE)
    assert run_suite(plan), plan.failures
    found = {row["method"]: row for row in numbers(plan) if row.get("mode") == "sampled"}
    assert set(found) == {"before", "ppo", "unstuck", "again"}
    assert 3_000 - ROLLOUT < found["again"]["steps"] <= 3_000  # type: ignore[operator]
    assert "rounds" not in Run(plan.out / "corridor/arms/unstuck").record("train/unstuck/1").facts
    away = plan_in(tmp_path / "away", agent, SUITE)
    travelling: queue.Queue[Any] = queue.Queue()

    def far(jobs: list[pool.BenchJob], *_: object) -> Any:
        for job in jobs:
            pool.elsewhere(travelling, job, pool.pack_run(job))
            outcome = travelling.get()
            pool.unpack(outcome, job)
            yield outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unstuck.bench.runner.run_jobs", far)
        assert run_suite(away), away.failures
    assert numbers(away) == numbers(plan)
    third = plan_in(tmp_path / "away", agent, SUITE)
    third.on_outcome = lambda outcome: pytest.fail(f"{outcome.job.name} was done again")
    assert run_suite(third)
    assert list((away.out / "corridor/arms/again/rounds").rglob("guidance.json"))


def test_missing_replies_of_a_suites_rounds_go_out_and_come_back(
    tmp_path: Path, agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ROUNDS.replace('llm = ""', 'llm = "recorded"\nrecordings = "replies"').replace('"unstuck", ', "")
    suite_in(tmp_path, agent, text.replace("1_800", "3_000"))
    command = ["bench", str(tmp_path / "toy.toml"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    prompts_file, replies = tmp_path / "prompts.jsonl", tmp_path / "replies.jsonl"

    def exchange() -> int:
        main([*command, "--export", str(prompts_file)])
        keys = [json.loads(line)["custom_id"] for line in prompts_file.read_text().splitlines()]
        lines = [json.dumps({"custom_id": key, "reply": json.dumps(REPLY)}) + "\n" for key in keys]
        replies.write_text("".join(lines))
        if keys:
            main([*command, "--import", str(replies), "--provenance", "by hand", "--model", "a person"])
        return len(keys)

    assert exchange() == 1
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 3
    err = capsys.readouterr().err
    assert "no reply recorded: corridor again train seed 1" in err
    assert "no reply recorded: corridor again train seed 2" in err
    arm = tmp_path / "out/corridor/arms/again"
    kept = [(arm / f"rounds/again/{seed}/1/agent.zip").stat().st_mtime_ns for seed in (1, 2)]
    assert exchange() == 2
    recorded = Recordings(tmp_path / "replies").all()
    (first,) = {r.key for r in recorded if not r.follows}
    assert [r.follows for r in recorded if r.follows] == [first, first]  # the lineage of each round
    main(command)
    assert kept == [(arm / f"rounds/again/{seed}/1/agent.zip").stat().st_mtime_ns for seed in (1, 2)]
    rows = [row for row in read_results(tmp_path / "out")[1] if row["method"] == "again"]
    assert {row["seed"] for row in rows} == {1, 2}
    assert all(sum(row["charged"].values()) <= 3_000 for row in rows)
    once = Run(arm).record("explain").facts["tokens_in"]
    assert all(row["tokens"]["in"] > once for row in rows)
    assert exchange() == 0


def test_a_corrected_reply_repeats_the_round_that_it_is_for(tmp_path: Path, agent: Path) -> None:
    text = ROUNDS.replace('llm = ""', 'llm = "recorded"\nrecordings = "replies"').replace('"unstuck", ', "")
    wrong = {**REPLY, "rules": [*REPLY["rules"], {"when": [], "action": 7, "why": "There is no such action."}]}

    def exchange(reply: dict[str, Any]) -> int:
        keys = export_prompts(plan_in(tmp_path, agent, suite), tmp_path / "prompts.jsonl")
        lines = [json.dumps({"custom_id": key, "reply": json.dumps(reply)}) + "\n" for key in keys]
        (tmp_path / "replies.jsonl").write_text("".join(lines))
        import_replies(plan_in(tmp_path, agent, suite), tmp_path / "replies.jsonl", provenance="by hand", model="me")
        return len(keys)

    suite = text.replace("1_800", "3_000").replace("[1, 2]", "[1]").replace('"ppo", ', "").replace('"ppo"', '"again"')
    suite = 'control = "again"\nours = "again"\n' + suite
    assert exchange(REPLY) == 1
    run_suite(plan_in(tmp_path, agent, suite))
    assert exchange(wrong) == 1
    assert run_suite(plan_in(tmp_path, agent, suite)), "what is valid of a reply is used"
    arm = tmp_path / "out/corridor/arms/again"
    (told,) = Run(arm).record("train/again/1").facts["rounds"][1:]
    assert told["calls"] + told["replayed"] == 1
    first = (arm / "rounds/again/1/1/agent.zip").stat().st_mtime_ns
    assert exchange(REPLY) == 1
    plan, names = plan_in(tmp_path, agent, suite), []
    plan.on_outcome = lambda outcome: names.append(outcome.job.name)
    assert run_suite(plan)
    assert names == ["corridor again train seed 1"]
    (told,) = Run(arm).record("train/again/1").facts["rounds"][1:]
    assert told["replayed"] == 2
    assert (arm / "rounds/again/1/1/agent.zip").stat().st_mtime_ns == first


@pytest.mark.parametrize("asks", [True, False])
def test_what_a_race_asks_again_goes_out_with_the_prompts_of_a_suite(tmp_path: Path, agent: Path, asks: bool) -> None:
    text = SUITE.replace('llm = ""', 'llm = "recorded"\nrecordings = "replies"').replace('"unstuck", ', "")
    text = text.replace("train.rounds = 2", f"race.feedback = {str(asks).lower()}")
    prompts = tmp_path / "prompts.jsonl"
    (key,) = export_prompts(plan_in(tmp_path, agent, text), prompts)
    prompts.write_text(json.dumps({"custom_id": key, "reply": json.dumps(REPLY)}) + "\n")
    import_replies(plan_in(tmp_path, agent, text), prompts, provenance="by hand", model="me")
    assert run_suite(plan_in(tmp_path, agent, text))
    turns = [Message(role=role, content=f"{role} speaks") for role in ("user", "assistant", "user")]  # type: ignore[arg-type]
    question = Request(tuple(turns))
    Run(tmp_path / "out/corridor/arms/again").recordings_path.mkdir(parents=True, exist_ok=True)
    Recordings(Run(tmp_path / "out/corridor/arms/again").recordings_path).save_pending(question)
    assert export_prompts(plan_in(tmp_path, agent, text), prompts) == ([question.key] if asks else [])
