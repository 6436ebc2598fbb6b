"""The run folder: whole or not at all, resumes, refuses what it does not understand."""

import json
import os

import pytest

from unstuck.config import AgentConfig, CollectConfig, RunConfig, TaskConfig
from unstuck.errors import RunError
from unstuck.run import Run, digest


def make(root, tmp_path, env="CartPole-v1", content=b"agent"):
    agent = tmp_path / "a.zip"
    agent.write_bytes(content)
    return Run.create(root, RunConfig(task=TaskConfig(env=env), agent=AgentConfig(agent=str(agent))), {"agent": agent})


def test_a_stage_is_there_whole_or_not_at_all(tmp_path):
    run = make(tmp_path / "run", tmp_path)

    def killed_halfway():
        with run.stage("collect", "f") as draft:
            (draft.folder / "half.txt").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        killed_halfway()
    assert not (run.root / "collect").exists()
    assert not Run(run.root).done("collect", "f")
    with run.stage("collect", "f") as draft:
        assert list(draft.folder.iterdir()) == [], "a draft begins empty"
        (draft.folder / "whole.txt").write_text("whole")
        draft.env_steps = 7
        draft.publish.append(("whole.txt", "published.txt"))
    again = Run(run.root)
    assert again.done("collect", "f")
    assert not again.done("collect", "g")
    assert again.record("collect").env_steps == 7
    assert (run.root / "published.txt").read_text() == "whole"


def test_a_stage_that_has_not_run_names_its_command(tmp_path):
    run = make(tmp_path / "run", tmp_path)
    with pytest.raises(RunError, match="unstuck verify"):
        run.record("verify")


def test_creating_it_again_opens_it_and_takes_new_settings(tmp_path):
    run = make(tmp_path / "run", tmp_path)
    with run.stage("collect", "f"):
        pass
    config = run.config.model_copy(update={"collect": CollectConfig(episodes=4)})
    again = Run.create(run.root, config, {"agent": tmp_path / "a.zip"})
    assert again.done("collect", "f")
    assert Run(run.root).config.collect.episodes == 4


def test_another_agent_or_task_is_refused_and_nothing_lost(tmp_path):
    run = make(tmp_path / "run", tmp_path)
    before = (run.root / "manifest.json").read_bytes()
    with pytest.raises(RunError, match="another agent"):
        make(tmp_path / "run", tmp_path, content=b"other")
    (tmp_path / "a.zip").write_bytes(b"agent")
    with pytest.raises(RunError, match="is a run on CartPole-v1"):
        make(tmp_path / "run", tmp_path, env="Acrobot-v1")
    assert (run.root / "manifest.json").read_bytes() == before


def test_a_run_of_a_newer_version_is_left_alone(tmp_path):
    run = make(tmp_path / "run", tmp_path)
    path = run.root / "manifest.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"format": 99}))
    with pytest.raises(RunError, match=r"newer Unstuck.*nothing was changed"):
        Run(run.root)
    assert json.loads(path.read_text())["format"] == 99


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1, "stages": 3}'])
def test_a_damaged_manifest_is_said_to_be_so(tmp_path, text):
    run = make(tmp_path / "run", tmp_path)
    (run.root / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=r"manifest\.json"):
        Run(run.root)


def test_what_is_no_run_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="unstuck collect"):
        Run(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written_is_an_error_with_words(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(RunError, match="cannot write the run folder"):
        make(blocked / "run", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run_is_refused(tmp_path):
    run = make(tmp_path / "run", tmp_path)
    run.root.chmod(0o500)
    try:
        with pytest.raises(RunError, match="cannot be written"):
            Run(run.root)
    finally:
        run.root.chmod(0o700)


def test_digests_differ_by_content_of_files_and_settings(tmp_path):
    path = tmp_path / "f"
    path.write_text("1")
    one = digest(path, CollectConfig())
    assert one == digest(path, CollectConfig())
    assert one != digest(path, CollectConfig(episodes=4))
    path.write_text("2")
    assert one != digest(path, CollectConfig())
