"""What somebody meets who uses Unstuck for the first time, and what one does who means it no good."""

import io
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import gymnasium as gym
import pytest
from rich.console import Console

from unstuck import tasks
from unstuck.cli import main
from unstuck.config import RunConfig, TaskConfig
from unstuck.errors import GuidanceError, RunError, TaskError
from unstuck.guidance import load_guidance
from unstuck.playing import Played
from unstuck.progress import Progress
from unstuck.run import Run
from unstuck.stages.evaluate import Scoring, play_all
from unstuck.testing import CORRIDOR, Corridor, save_stuck_agent

ENDLESS = "NewcomerEndless-v0"


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    return str(save_stuck_agent(tmp_path_factory.mktemp("agent") / "corridor.zip", CORRIDOR))


@pytest.fixture
def endless():
    """The corridor without a time limit, in which the stuck agent never ends an episode."""
    gym.register(ENDLESS, Corridor)
    yield ENDLESS
    del gym.registry[ENDLESS]


def fails(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert caught.value.code == 2
    return capsys.readouterr().err


def collect(run, agent):
    words = ["collect", agent, "--env", CORRIDOR, "--import", "unstuck.testing", "--run", str(run)]
    main([*words, "--collect.episodes", "2"])


def test_a_task_that_never_ends_is_refused_and_can_be_given_a_limit(capsys, tmp_path, agent, endless):
    words = ["collect", agent, "--env", endless, "--run", str(tmp_path / "run"), "--collect.max-steps", "400"]
    err = fails(capsys, *words)
    assert "no time limit" in err
    assert "max_episode_steps" in err
    main([*words, "--env-kwargs", '{"max_episode_steps": 20}'])
    assert "12 episodes" in capsys.readouterr().out


def test_scoring_a_task_that_never_ends_comes_to_an_end(tmp_path, agent, endless, monkeypatch):
    monkeypatch.setattr("unstuck.playing.LONGEST", 30)
    run = Run.create(tmp_path / "run", RunConfig(task=TaskConfig(env=endless)), {"agent": Path(agent)})
    (found,) = play_all(str(run.root), [Scoring(Path(agent), None, 2)])
    assert found["deterministic"] == Played((-30.0, -30.0), 60, 2)


def test_a_module_in_the_current_folder_can_be_imported(tmp_path, monkeypatch):
    name = "newcomer_module_of_my_own"
    source = "import gymnasium\ngymnasium.register('NewcomerMine-v0', 'unstuck.testing:Corridor')\n"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    tasks.make_env("NewcomerMine-v0", import_module=name).close()
    (tmp_path / f"{name}_broken.py").write_text("1 / 0\n")
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        tasks.make_env("NewcomerMine-v0", import_module=f"{name}_broken")


@pytest.mark.parametrize("text", ['{"format": "abc"}', '{"format": null}', "[1]", "{"])
def test_a_damaged_manifest_is_no_traceback(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=r"manifest\.json"):
        Run(tmp_path)


def test_a_run_folder_that_is_a_file_is_called_one(capsys, tmp_path, agent):
    (tmp_path / "file").write_text("x")
    err = fails(capsys, "collect", agent, "--env", CORRIDOR, "--run", str(tmp_path / "file"))
    assert "it is a file" in err
    assert "--run" in err


def test_other_arguments_of_the_task_are_named(capsys, tmp_path, agent):
    collect(tmp_path / "run", agent)
    err = fails(
        capsys, "collect", agent, "--env", CORRIDOR, "--run", str(tmp_path / "run"), "--env-kwargs", '{"length": 9}'
    )
    assert '"length": 9' in err


def test_stages_take_settings_from_a_file_and_keep_the_others(capsys, tmp_path, agent):
    run, toml = tmp_path / "run", tmp_path / "settings.toml"
    collect(run, agent)
    main(["explain", str(run), "--explain.search-states", "2", "--explain.sample", "3"])
    toml.write_text("[explain]\nsearch_states = 1\n")
    main(["explain", str(run), "--config", str(toml)])
    saved = json.loads((run / "manifest.json").read_text())["config"]["explain"]
    assert (saved["search_states"], saved["sample"]) == (1, 3)
    assert "needs a TOML file" in fails(capsys, "explain", str(run), "--config")
    assert "--env-kwargs" in fails(capsys, "explain", str(run), "--env-kwargs", "{}")


def test_scores_before_training_say_what_is_missing(capsys, tmp_path, agent):
    collect(tmp_path / "run", agent)
    main(["evaluate", str(tmp_path / "run"), "--evaluate.before-episodes", "2"])
    assert "unstuck train" in capsys.readouterr().out


def test_prompt_tells_the_price_for_a_model_or_asks_for_one(capsys, tmp_path, agent):
    collect(tmp_path / "run", agent)
    main(["prompt", str(tmp_path / "run"), "--quiet"])
    assert "--llm" in capsys.readouterr().err
    main(["prompt", str(tmp_path / "run"), "--quiet", "--llm", "openai:gpt-4o"])
    assert "with openai:gpt-4o" in capsys.readouterr().err


def test_deleted_guidance_says_how_to_get_it_back(tmp_path):
    with pytest.raises(GuidanceError, match="unstuck explain"):
        load_guidance(tmp_path / "advice.json")


def test_piped_progress_is_plain_lines():
    out = io.StringIO()
    progress = Progress(Console(file=out, width=40))
    with progress.task("train", 4) as bar:
        bar.advance(4)
        bar.note("[/b] a note")
    with progress.task("explain", None):
        pass
    text = out.getvalue()
    assert text.isascii()
    assert "train: 4/4" in text
    assert "?" not in text
    assert len(text.splitlines()) == 2


def test_bars_on_a_terminal_end_full_where_no_total_is_known():
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=80)).task("explain", None) as bar:
        bar.note("reply of [a model]")
    assert "0/?" not in out.getvalue()
    assert "reply of [a model]" in out.getvalue()


def test_messages_are_shown_as_they_are_and_paths_stay_whole():
    out = io.StringIO()
    long = "/a/very/long/path/" + "x" * 80 + "/[bold]/é"
    progress = Progress(Console(file=out, width=40))
    progress.say(long)
    progress.say("left out: [/nonsense] of a model")
    progress.warn("w")
    assert out.getvalue().splitlines() == [long, "left out: [/nonsense] of a model", "warning w"]


def test_gymnasium_does_not_talk_between_the_bars(tmp_path, agent):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            import gymnasium
            from unstuck.testing import Corridor
            class Mine(Corridor):
                metadata = {}
            gymnasium.register("Mine-v0", Mine, max_episode_steps=60)
            """
        )
    )
    words = ["collect", agent, "--env", "Mine-v0", "--import", "mine", "--run", "é run", "--collect.episodes", "2"]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from unstuck.cli import main; main(sys.argv[1:])", *words],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARN" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_command_leaves_no_worker(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing as mp, os, time\n"
        "from unstuck.workers import end_with_parent\n"
        "def work(path):\n"
        "    end_with_parent(0.05)\n"
        "    open(path, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        f"    mp.get_context('spawn').Process(target=work, args=({str(tmp_path / 'pid')!r},)).start()\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(script)]) as parent:
        pid = _wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        parent.kill()
    assert _wait_for(lambda: not _alive(int(pid)))


def _wait_for(look, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)
    return None


def _alive(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_a_path_that_the_system_refuses_is_no_traceback(capsys, tmp_path, agent):
    err = fails(capsys, "collect", agent, "--env", CORRIDOR, "--run", str(tmp_path / ("x" * 300)))
    assert "too long" in err
