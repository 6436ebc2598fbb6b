"""Whole after any fault: locks that die with their holders, lost and damaged output, links, paths that lead away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unstuck.cells import cell
from unstuck.cli import main
from unstuck.config import AgentConfig, CollectConfig, EvaluateConfig, RunConfig, TaskConfig, TrainConfig, VerifyConfig
from unstuck.errors import RunError, UnstuckError
from unstuck.files import file_digest, held, links_outside, stays_inside, weights_mark, write_whole
from unstuck.pipeline import refine
from unstuck.run import Manifest, Run, write_json
from unstuck.testing import CORRIDOR, save_stuck_agent

HOLD = """
import sys, time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unstuck.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def plain(root: Path) -> Run:
    """A run folder whose agent is no agent."""
    agent = root.parent / "a.zip"
    agent.parent.mkdir(parents=True, exist_ok=True)
    agent.write_bytes(b"agent")
    return Run.create(
        root, RunConfig(task=TaskConfig(env="CartPole-v1"), agent=AgentConfig(agent="a")), {"agent": agent}
    )


# ------------------------------------------------------------------------------------------------ locks


def test_a_folder_in_use_says_by_whom_and_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    run = plain(tmp_path / "run")
    process = holder(run.root)
    try:
        with pytest.raises(RunError, match=rf"in use by process {process.pid} since 20\d\d-"), run.held():
            pass
        with pytest.raises(RunError, match="in use"):
            run.configure(run.config)
        Run(run.root)  # looking is always possible
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with run.held(), run.held():
        run.configure(run.config)


def test_two_threads_do_not_share_it(tmp_path: Path) -> None:
    told: list[str] = []

    def other() -> None:
        try:
            with held(tmp_path):
                told.append("held")
        except RunError as error:
            told.append(str(error))

    with held(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(told) == 1
    assert f"in use by process {os.getpid()}" in told[0]
    other()
    assert told[1] == "held"


START = """
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unstuck.config import *
from unstuck.run import Run
root, agent = Path(sys.argv[1]), Path(sys.argv[2])
try:
    run = Run.create(root, RunConfig(task=TaskConfig(env="CartPole-v1")), {"agent": agent})
    with run.held():
        if not run.done("collect", "f"):
            with run.stage("collect", "f") as draft:
                for i in range(20):
                    (draft.folder / f"{i}.txt").write_text("x" * 1000)
            print("did it")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_simultaneous_starts_leave_a_whole_folder(tmp_path: Path) -> None:
    agent = tmp_path / "a.zip"
    agent.write_bytes(b"agent")
    command = [sys.executable, "-c", START, str(tmp_path / "run"), str(agent)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate()[0].strip() for process in started]
    assert said.count("did it") == 1
    assert all(line in ("did it", "") or line.startswith("RunError") for line in said), said
    run = Run(tmp_path / "run")
    assert run.done("collect", "f")
    assert not list(run.root.rglob("*.partial"))


def test_what_another_process_did_meanwhile_is_known(tmp_path: Path) -> None:
    mine, theirs = plain(tmp_path / "run"), Run(tmp_path / "run")
    with theirs.stage("collect", "f"):
        pass
    theirs.configure(theirs.config.model_copy(update={"collect": CollectConfig(episodes=99)}))
    with mine.stage("explain", "g"):
        assert mine.done("collect", "f")
    assert set(Run(mine.root).manifest.stages) == {"collect", "explain"}
    assert mine.config.collect.episodes == CollectConfig().episodes  # this process's own settings stay


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    run = plain(tmp_path / "run")
    for name in ("manifest.json.123.partial", ".manifest.json.ab12.partial", "advice.json.partial"):
        (run.root / name).write_text("half")
    with run.held():
        pass
    assert not list(run.root.glob("*.partial"))
    assert not list(run.root.glob(".*.partial"))


# ---------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "advice.json", "guidance.json", "report.html", "manifest.json.partial", "guidance.json.partial"],
)
def test_a_link_is_never_written_through(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).symlink_to(precious)
    write_whole(folder / name.removesuffix(".partial"), "new")
    write_json(folder / name.removesuffix(".partial"), {})
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("place", ["collect", "train", ".lock", "advice.json", "rounds/ppo", "agent/a.zip"])
def test_links_out_of_a_run_folder_are_refused(tmp_path: Path, place: str) -> None:
    run = plain(tmp_path / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("precious")
    link = run.root / place
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    assert links_outside(run.root) == link
    with pytest.raises(RunError, match="link that leads out"):
        Run(run.root)
    if place != ".lock":
        with pytest.raises(RunError, match="link that leads out"):
            plain(run.root)
    assert (outside / "x").read_text() == "precious"
    link.unlink()
    link.symlink_to(tmp_path / "run" / "manifest.json")  # inside it may point where it likes
    assert links_outside(run.root) is None


def test_a_stage_does_not_follow_a_link_in_its_place(tmp_path: Path) -> None:
    run = plain(tmp_path / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("precious")
    for name in ("collect", "collect.draft"):
        (run.root / name).symlink_to(outside)
    with run.stage("collect", "f") as draft:
        (draft.folder / "y").write_text("new")
    assert sorted(p.name for p in outside.iterdir()) == ["x"]
    assert [p.name for p in (run.root / "collect").iterdir()] == ["y"]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "..", "", "C:\\x", "\\\\host\\x", "a\\..\\..\\x", "x\0y", "//x"]
)
def test_paths_in_a_manifest_stay_inside(tmp_path: Path, name: str) -> None:
    assert not stays_inside(name)
    run = plain(tmp_path / "run")
    data = json.loads((run.root / "manifest.json").read_text())
    record = {"fingerprint": "f", "finished": "", "seconds": 1}
    for hostile in (
        {"agent_file": name or "../a"},
        {"vecnormalize_file": name or "../a"},
        {"stages": {f"train/{name}/../../..": record}},
        {"stages": {"collect": record | {"published": {name: "x"}}}},
        {"stages": {"collect": record | {"published": {"x": name}}}},
        {"round": {"number": 2, "outer": name}},
    ):
        if hostile.get("round") == {"number": 2, "outer": ".."}:
            continue
        (run.root / "manifest.json").write_text(json.dumps(data | hostile))
        with pytest.raises(RunError, match=r"manifest\.json is damaged"):
            Run(run.root)
    with pytest.raises(RunError):
        run.draft(f"train/{name}/../../../../x")


@pytest.mark.parametrize("seed", ["10x", "", "-1", "1.0", "\u0661", "9" * 30, "nan"])
def test_a_training_in_a_manifest_has_a_seed(tmp_path: Path, seed: str) -> None:
    run = plain(tmp_path / "run")
    data = json.loads((run.root / "manifest.json").read_text())
    data["stages"] = {f"train/ppo/{seed}": {"fingerprint": "f", "finished": "", "seconds": 1}}
    (run.root / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        Run(run.root)


def test_a_round_keeps_its_recordings_in_a_run_that_it_lies_in(tmp_path: Path) -> None:
    """`round.outer` is followed only to a run folder whose rounds/ this one is in."""
    outer = plain(tmp_path / "run")
    inner = plain(outer.root / "rounds" / "unstuck" / "1" / "2")
    stray = plain(tmp_path / "a" / "b" / "c" / "d" / "e")
    for run in (inner, stray):
        data = json.loads((run.root / "manifest.json").read_text())
        data["round"] = {"number": 2, "outer": "../../../.."}
        write_json(run.root / "manifest.json", data)
    plain(tmp_path / "a")
    assert Run(inner.root).recordings_path.resolve() == (outer.root / "recordings").resolve()
    assert Run(stray.root).recordings_path == stray.root / "recordings"


def test_an_agent_that_was_made_again_has_the_same_mark(tmp_path: Path) -> None:
    """A zip of SB3 carries the times at which its members were written, and addresses of functions in memory."""

    def made(name: str, day: int, **members: bytes) -> str:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, content in members.items():
                stem = member if member == "data" else f"{member}.pth"
                archive.writestr(zipfile.ZipInfo(stem, (2026, 1, day, 0, 0, 0)), content)
        return weights_mark(tmp_path / name)

    same = made("a.zip", 1, data=b"at 0x7f90", policy=b"\1\2", optimizer=b"\3")
    assert made("b.zip", 2, optimizer=b"\3", policy=b"\1\2", data=b"at 0x7f91") == same
    assert made("c.zip", 1, data=b"at 0x7f90", policy=b"\1\3", optimizer=b"\3") != same
    assert made("d.zip", 1, data=b"at 0x7f90", policy=b"\1\2") != same
    (tmp_path / "e.zip").write_bytes(b"no zip")
    assert weights_mark(tmp_path / "e.zip") == file_digest(tmp_path / "e.zip")


# ------------------------------------------------------------------------------------- lost and damaged


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run on a toy task."""
    folder = tmp_path_factory.mktemp("refined")
    agent = save_stuck_agent(folder / "corridor.zip", CORRIDOR)
    config = RunConfig(
        task=TaskConfig(env=CORRIDOR, import_module="unstuck.testing", env_kwargs={"length": 6}),
        collect=CollectConfig(episodes=2, max_steps=200),
        verify=VerifyConfig(pairs=2, max_steps=300, episode_pairs=0),
        train=TrainConfig(steps=1500, seeds=(1,), n_envs=2, n_steps=64, batch_size=64, n_epochs=2, jobs=1,
                          late_checkpoints=1),
        evaluate=EvaluateConfig(episodes=2, before_episodes=2),
    )  # fmt: skip
    return refine(agent, run=folder / "run", config=config)


def results(root: Path) -> dict[str, bytes]:
    """What a run comes to, without times of day."""
    kept = ("collect/*.npz", "advice.json", "guidance.json", "train/*/*/*.zip", "evaluate/scores.json")
    return {str(p.relative_to(root)): p.read_bytes() for pattern in kept for p in sorted(root.glob(pattern))}


def weights(root: Path) -> dict[str, bytes]:
    """As results, with the weights in place of the zips, whose members carry the time of day."""
    found = results(root)
    for name in [n for n in found if n.endswith(".zip")]:
        with zipfile.ZipFile(root / name) as archive:
            found[name] = archive.read("policy.pth")
    return found


DAMAGES = {
    "train gone": lambda root: shutil.rmtree(root / "train"),
    "an agent gone": lambda root: (root / "train/unstuck/1/agent.zip").unlink(),
    "an agent cut short": lambda root: cut(root / "train/unstuck/1/agent.zip"),
    "an agent of the same size": lambda root: flip(root / "train/ppo/1/agent.zip"),
    "a curve empty": lambda root: (root / "train/ppo/1/curve.jsonl").write_text(""),
    "info.json no JSON": lambda root: (root / "train/ppo/1/info.json").write_text("{"),
    "episodes gone": lambda root: shutil.rmtree(root / "collect"),
    "an episode cut short": lambda root: cut(sorted((root / "collect").glob("*.npz"))[0]),
    "an episode flipped": lambda root: flip(sorted((root / "collect").glob("*.npz"))[1]),
    "scores no JSON": lambda root: (root / "evaluate/scores.json").write_text("not json"),
    "scores of another form": lambda root: (root / "evaluate/scores.json").write_text("[1, 2]"),
    "evaluate gone": lambda root: shutil.rmtree(root / "evaluate"),
    "advice gone": lambda root: (root / "advice.json").unlink(),
    "guidance gone": lambda root: (root / "guidance.json").unlink(),
    "explain gone": lambda root: shutil.rmtree(root / "explain"),
    "verify gone": lambda root: shutil.rmtree(root / "verify"),
    "explain and advice gone": lambda root: (shutil.rmtree(root / "explain"), (root / "advice.json").unlink()),
    "a file where a folder was": lambda root: (shutil.rmtree(root / "verify"), (root / "verify").write_text("x")),
    "drafts left behind": lambda root: (root / "train.draft/unstuck").mkdir(parents=True),
    "the agent gone": lambda root: (root / "agent/corridor.zip").unlink(),
    "the agent cut short": lambda root: cut(root / "agent/corridor.zip"),
    "the agent's folder gone": lambda root: shutil.rmtree(root / "agent"),
    "a file where the agent's folder was": lambda root: (shutil.rmtree(root / "agent"), (root / "agent").touch()),
    "a folder where the agent was": lambda root: in_its_place(root / "agent/corridor.zip"),
    "the report gone": lambda root: (root / "report.html").unlink(),
}


def in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_lost_or_damaged_is_made_again(refined: Run, tmp_path: Path, name: str) -> None:
    root = tmp_path / "run"
    shutil.copytree(refined.root, root)
    before = weights(root)
    DAMAGES[name](root)
    refine(refined.root.parent / "corridor.zip", run=root, config=refined.config)
    assert weights(root) == before
    assert (root / "report.html").exists()


def test_one_stage_alone_says_which_command_makes_the_rest_again(refined: Run, tmp_path: Path, capsys) -> None:
    root = tmp_path / "run"
    shutil.copytree(refined.root, root)
    (root / "train/unstuck/1/agent.zip").unlink()
    (root / "evaluate/scores.json").write_text("{")
    with pytest.raises(SystemExit):
        main(["evaluate", str(root)])
    assert f"`unstuck train {root}` makes it again" in capsys.readouterr().err
    main(["train", str(root)])
    assert (root / "train/unstuck/1/agent.zip").exists()
    flip(sorted((root / "collect").glob("*.npz"))[0])
    shutil.rmtree(root / "explain")
    with pytest.raises(SystemExit):
        main(["explain", str(root)])
    assert f"`unstuck collect {root}` makes it again" in capsys.readouterr().err
    cut(root / "agent/corridor.zip")
    with pytest.raises(SystemExit):
        main(["collect", str(root)])
    assert "`unstuck refine AGENT --run" in capsys.readouterr().err


def test_the_same_command_again_repeats_nothing_where_caps_were_lowered(tmp_path: Path) -> None:
    """Caps that a small budget lowers are lowered to the same again, also where a kill came between."""
    agent = save_stuck_agent(tmp_path / "corridor.zip", CORRIDOR)
    words = (
        f"refine {agent} --env {CORRIDOR} --import unstuck.testing --run {tmp_path / 'run'} --steps 3000 --seeds 1 "
        "--train.n-envs 2 --train.n-steps 64 --train.jobs 1 --train.n-epochs 1 --train.late-checkpoints 1 "
        "--evaluate.episodes 1 --evaluate.before-episodes 2 --collect.episodes 2 --verify.pairs 2"
    ).split()
    main(words)
    first = Run(tmp_path / "run").manifest.stages
    assert first["explain"].settings["search_steps"] == 600
    main(words)
    again = Run(tmp_path / "run")
    assert {n: r.finished for n, r in again.manifest.stages.items()} == {n: r.finished for n, r in first.items()}
    again.configure(RunConfig(task=again.config.task, agent=again.config.agent))  # as after a kill at the beginning
    main(words)
    assert Run(tmp_path / "run").manifest.stages == first


def test_redo_does_a_stage_again(refined: Run, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(refined.root, root)
    before, times = weights(root), Run(root).manifest.stages
    time.sleep(1.1)
    main(["train", str(root), "--redo", "train"])
    after = Run(root).manifest.stages
    assert after["train/unstuck/1"].finished != times["train/unstuck/1"].finished
    assert after["collect"] == times["collect"]
    assert weights(root) == before


def test_a_damaged_manifest_says_how_to_go_on(refined: Run, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(refined.root, root)
    before = weights(root)
    for text in ("", "{", "[]", "null", '{"stages": 3}', "[" * 100_000, "\x00", '{"format": "new"}'):
        (root / "manifest.json").write_text(text)
        with pytest.raises(UnstuckError, match=r"manifest\.json"):
            Run(root)
    (root / "manifest.json").unlink()
    refine(refined.root.parent / "corridor.zip", run=root, config=refined.config)
    assert weights(root) == before


def test_folders_of_older_versions_are_read(tmp_path: Path) -> None:
    """Without inventories, a stage is done when its folder is there."""
    run = plain(tmp_path / "run")
    with run.stage("collect", "f") as draft:
        (draft.folder / "x").write_text("x")
    data = json.loads((run.root / "manifest.json").read_text())
    data.pop("inputs"), data.pop("seals")
    data["stages"]["collect"].pop("files"), data["stages"]["collect"].pop("published")
    write_json(run.root / "manifest.json", data)
    assert Run(run.root).done("collect", "f")
    shutil.rmtree(run.root / "collect")
    assert not Run(run.root).done("collect", "f")
    assert Manifest.model_validate(data).stages["collect"].files is None


# ---------------------------------------------------------------------------------------------- kept pieces


def test_a_cell_is_kept_as_long_as_it_is_whole(tmp_path: Path) -> None:
    done: list[Path] = []

    def work(draft: Path) -> dict[str, Any]:
        assert not os.path.lexists(folder), "what is not whole could be read"
        done.append(draft)
        (draft / "part").mkdir()
        (draft / "part" / "weights.npz").write_bytes(b"x" * 100)
        return {"steps": 5}

    folder = tmp_path / "a" / "cell"
    for _ in range(2):
        assert cell(folder, "mark", work)["steps"] == 5
    assert len(done) == 1
    spoil: list[Callable[[], object]] = [
        lambda: cut(folder / "part" / "weights.npz"),
        lambda: flip(folder / "part" / "weights.npz"),
        lambda: shutil.rmtree(folder / "part"),
        lambda: (folder / "cell.json").write_text("{"),
        lambda: (folder / "cell.json").write_text(
            (folder / "cell.json").read_text().replace('"steps": 5', '"steps": 6')
        ),
        lambda: (folder / "cell.json").write_text((folder / "cell.json").read_text().replace('"steps"', '"stefs"')),
        lambda: (folder / "cell.json").write_text('{"mark": "mark", "found": 3}'),
        lambda: (folder / "cell.json").write_text('{"mark": "mark", "found": {}, "files": {"../../x": "1:2"}}'),
        lambda: (folder / "cell.json").unlink(),
        lambda: (shutil.rmtree(folder), folder.write_text("x")),
        lambda: (folder.with_name("cell.draft") / "left").mkdir(parents=True),
    ]
    for number, damaging in enumerate(spoil, 2):
        damaging()
        assert cell(folder, "mark", work)["steps"] == 5
        assert len(done) == min(number, len(spoil))  # the last one leaves something beside it only
    assert cell(folder, "another", work)["steps"] == 5
    assert len(done) == len(spoil) + 1
