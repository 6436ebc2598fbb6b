"""The runner on toy tasks: the same numbers twice, after a kill too; what fails or waits holds up nothing else."""

from __future__ import annotations

import json
import queue
import shutil
from pathlib import Path

import pytest

from unstuck import cluster as parcels
from unstuck.bench import pool
from unstuck.bench.exchange import export_prompts, import_replies
from unstuck.bench.results import read_results, write_results
from unstuck.bench.runner import SuitePlan, make_plan, run_suite
from unstuck.bench.suite import Suite, SuiteError, load_suite
from unstuck.cli import main
from unstuck.playing import Played
from unstuck.stages.evaluate import Scoring
from unstuck.testing import CORRIDOR, save_stuck_agent

TOY = f"""
name = "toy"
methods = ["ppo", "unstuck", "weak"]
seeds = [1, 2]
steps = 1_800
llm = ""

[[tasks]]
name = "corridor"
env = "{CORRIDOR}"
env_kwargs = {{ length = 6 }}
import_module = "unstuck.testing"
agent = "corridor.zip"
reference = -4.0

[variants.weak]
base = "unstuck"
note = "little imitation"
train.guide.imitate = 0.01

[collect]
episodes = 4
max_steps = 300

[explain]
search_states = 1
search_candidates = 2

[verify]
pairs = 2
max_steps = 400
episode_pairs = 0

[train]
n_envs = 4
n_steps = 32
batch_size = 64
n_epochs = 2
learning_rate = 0.003
critic_warmup = 0

[evaluate]
episodes = 2
before_episodes = 2
"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_stuck_agent(tmp_path_factory.mktemp("agent") / "corridor.zip", CORRIDOR, bias=0.05))


def suite_in(folder: Path, agent: Path, text: str = TOY) -> Suite:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(agent, folder / "corridor.zip")
    (folder / "toy.toml").write_text(text, encoding="utf-8")
    return load_suite(folder / "toy.toml")


def plan_in(folder: Path, agent: Path, text: str = TOY, **only: object) -> SuitePlan:
    plan, _ = make_plan(suite_in(folder, agent, text), folder / "out", **only)  # type: ignore[arg-type]
    plan.workers = 1
    return plan


def finished(folder: Path, agent: Path) -> SuitePlan:
    plan = plan_in(folder, agent)
    assert run_suite(plan), plan.failures
    return plan


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, agent: Path) -> SuitePlan:
    return finished(tmp_path_factory.mktemp("toy"), agent)


def numbers(plan: SuitePlan) -> list[dict[str, object]]:
    """All that does not depend on the clock."""
    write_results(plan)
    _, rows, curves = read_results(plan.out)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows + curves]


def test_a_suite_that_was_killed_goes_on_and_ends_with_the_same_numbers(
    tmp_path: Path, agent: Path, done: SuitePlan
) -> None:
    plan, ended = plan_in(tmp_path, agent), []

    def kill(outcome: object) -> None:
        ended.append(outcome)
        if sum(o.job.kind == "train" for o in ended) == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    plan.on_outcome = kill
    with pytest.raises(KeyboardInterrupt):
        run_suite(plan)
    again, names = plan_in(tmp_path, agent), []
    again.on_outcome = lambda outcome: names.append(outcome.job.name)
    assert run_suite(again)
    assert sorted(names) == sorted(
        ["corridor weak train seed 1", *(f"corridor {m} train seed 2" for m in ("ppo", "unstuck", "weak"))]
    )
    assert numbers(again) == numbers(done)
    curves = {str(row["returns"]) for row in numbers(done) if "mode" not in row}
    assert len(curves) == 6, "runs that are all the same would agree whatever happened"
    third = plan_in(tmp_path, agent)
    third.on_outcome = lambda outcome: pytest.fail(f"{outcome.job.name} was done again")
    assert run_suite(third)


def test_rows_say_what_each_arm_was_charged(done: SuitePlan) -> None:
    rows = [row for row in write_results(done) if row["method"] != "before"]
    # Methods, seeds, modes, checkpoints; of three checkpoints of so short a run two fall on its last step, and are one.
    assert len(rows) == 3 * 2 * 2 * 2
    assert len({(row["method"], row["seed"], row["mode"], row["trained"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["steps"] == sum(row["charged"].values()) - row["charged"]["train"] + row["trained"]
        assert 1_800 - 4 * 32 < sum(row["charged"].values()) <= 1_800
    assert {tuple(r["charged"]) for r in rows if r["method"] == "ppo"} == {("train",)}
    assert {tuple(r["charged"]) for r in rows if r["method"] == "weak"} == {("collect", "explain", "verify", "train")}
    last = [r for r in rows if r["method"] == "unstuck" and r["trained"] == r["charged"]["train"]]
    assert {r["steps"] for r in last} == {sum(last[0]["charged"].values())}


def test_methods_with_the_same_explainer_share_its_episodes(done: SuitePlan) -> None:
    task = done.out / "corridor"
    assert [p.name for p in (task / "explain").iterdir()] == ["search"]
    first, second = (task / "arms" / m / "collect" / "episode-0000.npz" for m in ("unstuck", "weak"))
    assert first.samefile(second)
    assert not (task / "arms" / "ppo" / "collect").exists()


def test_a_job_that_fails_is_told_and_holds_up_no_other(tmp_path: Path, agent: Path) -> None:
    text = TOY.replace("train.guide.imitate = 0.01", "train.n_steps = 4096").replace("[1, 2]", "[1]")
    plan = plan_in(tmp_path, agent, text)
    assert not run_suite(plan)
    (name,) = plan.failures
    assert name.startswith("corridor weak train")
    assert "leaves" in plan.failures[name].error
    assert {row["method"] for row in write_results(plan)} == {"before", "ppo", "unstuck"}
    (noted,) = json.loads((plan.out / "failures.json").read_text())
    assert noted["status"] == "failed"


def test_a_worker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    def die(job: object) -> None:
        raise TerminatedWorkerError("killed")

    monkeypatch.setattr(pool, "perform", die)
    job = pool.BenchJob("collect", "corridor", "nowhere")
    (outcome,) = pool.run_jobs([job], 1)
    assert outcome.status == "failed"
    assert "memory" in outcome.error


def test_an_unexpected_error_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"config": 3}')
    outcome = pool.perform(pool.BenchJob("collect", "corridor", str(tmp_path)))
    assert outcome.status == "failed"
    assert "damaged" in outcome.error


REPLY = {
    "analysis": "It walks left into the wall.",
    "diagnosis": "The agent always goes left.",
    "critical_states": [{"episode": 0, "step": 5, "why": "Left again.", "action": 1, "reward": -0.5}],
    "rules": [{"when": [], "action": 1, "why": "The end is on the right."}],
}


def test_missing_replies_go_out_come_back_and_are_used(
    tmp_path: Path, agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TOY.replace('llm = ""', 'llm = "recorded"\nrecordings = "replies"').replace("[1, 2]", "[1]")
    suite_in(tmp_path, agent, text)
    command = ["bench", str(tmp_path / "toy.toml"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 3
    assert "no reply recorded: corridor by llm explain" in capsys.readouterr().err
    assert {r["method"] for r in read_results(tmp_path / "out")[1]} == {"before", "ppo"}

    prompts = tmp_path / "prompts.jsonl"
    main([*command, "--export", str(prompts)])
    (line,) = [json.loads(text) for text in prompts.read_text().splitlines()]
    replies = tmp_path / "replies.jsonl"
    replies.write_text(json.dumps({"custom_id": line["custom_id"], "reply": json.dumps(REPLY)}) + "\n")
    main([*command, "--import", str(replies), "--provenance", "by hand", "--model", "a person"])
    assert list((tmp_path / "replies").glob("*.json"))
    main([*command, "--export", str(prompts)])
    assert prompts.read_text() == ""
    main(command)
    rows = read_results(tmp_path / "out")[1]
    assert {r["method"] for r in rows} == {"before", "ppo", "unstuck", "weak"}
    assert {r["tokens"]["model"] for r in rows if r["method"] == "unstuck"} == {"a person"}


def test_import_into_a_suite_without_recordings_says_what_to_add(tmp_path: Path, agent: Path) -> None:
    plan = plan_in(tmp_path, agent)
    with pytest.raises(SuiteError, match="recordings = "):
        export_prompts(plan, tmp_path / "prompts.jsonl")
    with pytest.raises(SuiteError, match="recordings = "):
        import_replies(plan, tmp_path / "replies.jsonl", provenance="by hand")


def test_unequal_comparisons_are_refused_unless_asked_for(tmp_path: Path, agent: Path, done: SuitePlan) -> None:
    shutil.copytree(done.out, tmp_path / "out")
    more = plan_in(tmp_path, agent, TOY.replace("1_800", "3_000"))
    with pytest.raises(SuiteError, match=r"1,800 steps, and the suite has 3,000(.|\n)*--allow-unequal"):
        run_suite(more)
    save_stuck_agent(tmp_path / "corridor.zip", CORRIDOR, seed=5)
    plan, _ = make_plan(load_suite_as(tmp_path, TOY), tmp_path / "out")
    with pytest.raises(SuiteError, match="another starting agent"):
        run_suite(plan)
    fresh = plan_in(tmp_path / "fresh", agent, TOY.replace('base = "unstuck"', 'base = "unstuck"\nsteps = 5000'))
    with pytest.raises(SuiteError, match=r"different budgets.*weak 5,000"):
        run_suite(fresh)
    # Asked for, the older results are shown, and marked.
    shown = plan_in(tmp_path, agent, TOY.replace("1_800", "3_000"), methods=["ppo"])
    shown.allow_unequal, shown.methods = True, ()
    assert run_suite(shown)
    from unstuck.bench.summary import SuiteSummary

    head, rows = (write_results(shown), *read_results(shown.out))[1:3]
    assert {r["budget"] for r in rows if r["method"] != "before"} == {1_800}
    assert not SuiteSummary(head, rows, allow_unequal=True).unequal
    rows[-1]["budget"] = 9
    assert SuiteSummary(head, rows, allow_unequal=True).unequal
    with pytest.raises(SuiteError, match="different budgets"):
        SuiteSummary(head, rows)


def load_suite_as(folder: Path, text: str) -> Suite:
    (folder / "toy.toml").write_text(text, encoding="utf-8")
    return load_suite(folder / "toy.toml")


def test_seeds_or_settings_of_an_older_suite_are_not_mixed_in(tmp_path: Path, agent: Path, done: SuitePlan) -> None:
    shutil.copytree(done.out, tmp_path / "out")
    fewer = plan_in(tmp_path, agent, TOY.replace("[1, 2]", "[2]"))
    assert {r["seed"] for r in write_results(fewer)} == {None, 2}
    other = plan_in(tmp_path, agent, TOY.replace("n_epochs = 2", "n_epochs = 3"))
    assert {r["method"] for r in write_results(other)} == {"before"}
    assert len(read_results(other.out)[0]["stale"]) == 6


def test_each_seed_is_scored_in_episodes_of_its_own_the_same_for_all_arms(
    tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the interval over seeds of an agent that all of them come to would be no interval at all."""
    played: list[tuple[str, str, int]] = []

    def episodes(root: str, scorings: list[Scoring]) -> list[dict[str, Played]]:
        played.extend((Path(root).name, s.agent.parent.name.removesuffix(".draft"), s.later) for s in scorings)
        return [{mode: Played((0.0,) * s.episodes, s.episodes, 0) for mode in s.modes} for s in scorings]

    monkeypatch.setattr("unstuck.stages.evaluate.play_all", episodes)
    monkeypatch.setattr("unstuck.bench.runner.run_jobs", lambda jobs, *_: map(pool.perform, jobs))
    plan = plan_in(tmp_path, agent, methods=["ppo", "weak"])
    assert run_suite(plan), plan.failures
    seeds = {(arm, seed): {s for a, n, s in played if (a, n) == (arm, seed)} for arm, seed, _ in played}
    assert seeds["ppo", "1"] == seeds["weak", "1"] == {1_000}
    assert seeds["ppo", "2"] == seeds["weak", "2"] == {2_000}
    assert seeds["before", "agent"] == {0}


def test_a_job_that_travels_leaves_the_same_behind(tmp_path: Path, agent: Path, done: SuitePlan) -> None:
    """What a machine of a cluster does, without a cluster: pack, unpack, work, pack, unpack."""
    plan = plan_in(tmp_path, agent)
    travelling: queue.Queue[object] = queue.Queue()

    def far(jobs: list[pool.BenchJob], *_: object) -> object:
        for job in jobs:
            pool.elsewhere(travelling, job, pool.pack_run(job))
            outcome = travelling.get()
            pool.unpack(outcome, job)  # type: ignore[arg-type]
            yield outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unstuck.bench.runner.run_jobs", far)
        assert run_suite(plan), plan.failures
    assert numbers(plan) == numbers(done)
    assert not list(plan.out.rglob("*.draft"))
    assert not list(plan.out.rglob(".parcel-*"))


def test_what_is_just_arriving_from_elsewhere_does_not_travel(tmp_path: Path) -> None:
    """Jobs are packed while results of others are put in place, in the same run folder."""
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "guidance.json").write_text("{}")
    with parcels.opened(parcels.pack([(tmp_path / "guide", "run/train/x")]), tmp_path) as folder:
        assert [p.name for p in folder.rglob("*.json")] == ["guidance.json"]
        (tmp_path / "score.draft").mkdir()
        assert [name for _, name in parcels.of_run(tmp_path, ())] == ["run/guide"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["guide", "score.draft"]


@pytest.mark.slow
def test_on_a_ray_cluster_of_two_machines(tmp_path: Path, agent: Path, done: SuitePlan) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    memory = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=memory)
    cluster.add_node(**memory)
    try:
        plan = plan_in(tmp_path, agent)
        plan.workers, plan.backend, plan.address = 0, "ray", cluster.address
        machines = set()
        plan.on_outcome = lambda outcome: machines.add(outcome.machine)
        assert run_suite(plan), plan.failures
        assert len(machines) == 2
        assert numbers(plan) == numbers(done)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_the_live_table_counts_and_estimates(done: SuitePlan, tmp_path: Path, agent: Path) -> None:
    from rich.console import Console

    from unstuck.bench.board import Board, duration

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    plan, _ = make_plan(done.suite, done.out)
    board = Board(plan, console)
    job = pool.BenchJob("train", "corridor", str(done.out), "unstuck", 9, steps=1_000)
    board.speed = {"corridor": [(0.01, 2.0)]}
    board.workers = 1
    plan.on_jobs([job, pool.BenchJob("train", "corridor", str(done.out), "weak", 9, steps=1_000)])
    assert board.seconds_left() == pytest.approx(24.0)
    plan.on_outcome(pool.JobResult(job, "failed", "no luck"))
    assert board.seconds_left() == pytest.approx(12.0)
    console.print(board.table())
    text = console.export_text()
    assert "2/2" in text
    assert "no luck" in text
    assert board.headline() == "toy: train 1/2, 12 s left"
    assert [duration(s) for s in (45, 600, 12_000)] == ["45 s", "10 min", "3 h 20 min"]
