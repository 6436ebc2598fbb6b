"""Failures that come first, and what a command line may say: before a step is taken, nothing is written for nothing."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys

import pytest
from stable_baselines3 import DQN

import unstuck
from unstuck.cli import _apart, main
from unstuck.commands.talk import TALK
from unstuck.config import AgentConfig, RaceConfig, RunConfig, TaskConfig, TrainConfig, VerifyConfig
from unstuck.errors import AgentError, LLMError, RunError, UnstuckError
from unstuck.guidance import Guidance, Term, save_guidance
from unstuck.llm.config import LLMConfig
from unstuck.pipeline import open_run
from unstuck.preflight import preflight
from unstuck.testing import CORRIDOR, save_stuck_agent


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    return str(save_stuck_agent(tmp_path_factory.mktemp("agent") / "corridor.zip", CORRIDOR))


def run_of(agent, folder, **parts):
    task = TaskConfig(env=CORRIDOR, import_module="unstuck.testing")
    return open_run(RunConfig(task=task, agent=AgentConfig(agent=agent), **parts), folder / "run")


def fails(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("model", "words"),
    [("openai:gpt-5", "OPENAI_API_KEY"), ("openia:gpt-5", "Unknown|unknown"), ("gpt", "provider:name")],
)
def test_a_missing_key_or_an_unknown_model_is_known_before_collecting(agent, tmp_path, model, words):
    run = run_of(agent, tmp_path, llm=LLMConfig(model=model))
    with pytest.raises(LLMError, match=words):
        preflight(run)
    assert run.manifest.stages == {}
    with pytest.raises(LLMError, match=words):
        unstuck.refine(agent, CORRIDOR, llm=model, run=tmp_path / "other")
    assert not (tmp_path / "other" / "collect").exists()


def test_none_is_no_model(agent, tmp_path):
    assert LLMConfig(model="none") == LLMConfig()
    preflight(run_of(agent, tmp_path, llm=LLMConfig(model="none")))


def test_what_is_recorded_needs_no_key(agent, tmp_path):
    run = run_of(agent, tmp_path, llm=LLMConfig(model="openai:gpt-5"))
    run.recordings_path.mkdir()
    preflight(run)
    preflight(run_of(agent, tmp_path / "b", llm=LLMConfig(model="openai:gpt-5"), train=TrainConfig(method="ppo")))
    preflight(run_of(agent, tmp_path / "c", llm=LLMConfig(model="recorded")))


def test_caps_scale_with_a_small_budget_and_are_told(agent, tmp_path):
    run = run_of(agent, tmp_path, train=TrainConfig(steps=12_000))
    notes = preflight(run)
    assert (run.config.collect.max_steps, run.config.verify.max_steps) == (2_400, 4_000)
    assert run.config.explain.search_steps == 2_400
    assert len(notes) == 3
    assert "--collect.max-steps is 2,400" in notes[0]
    assert preflight(run) == []  # told once
    assert run.config.explain.model_dump()["search_steps"] == 2_400
    usual = run_of(agent, tmp_path / "b", train=TrainConfig(steps=100_000))
    assert "search_steps" not in usual.config.explain.model_dump()
    assert preflight(usual) == []
    assert usual.config.verify.max_steps == VerifyConfig().max_steps


def test_a_cap_that_was_asked_for_stays_and_the_sum_is_checked(agent, tmp_path):
    run = run_of(agent, tmp_path, train=TrainConfig(steps=12_000), verify=VerifyConfig(max_steps=9_000))
    with pytest.raises(
        RunError, match=r"12,000 is too little.*collect may take 2,400 and .*verify may take 9,000.*18,4\d\d or more"
    ):
        preflight(run)
    with pytest.raises(RunError, match="each of 4 rounds may take 3,000"):
        preflight(run_of(agent, tmp_path / "b", train=TrainConfig(steps=12_000, rounds=4, n_envs=32)))
    preflight(run_of(agent, tmp_path / "c", train=TrainConfig(steps=3_000, method="ppo")))


@pytest.mark.parametrize(
    ("steps", "rounds", "verify"), [(3_000, 1, {}), (6_000, 1, {}), (9_000, 3, {}), (12_000, 1, {"max_steps": 9_000})]
)
def test_the_budget_that_is_named_is_enough(agent, tmp_path, steps, rounds, verify):
    def check(steps, folder):
        settings = {"train": TrainConfig(steps=steps, rounds=rounds), "verify": VerifyConfig(**verify)}
        preflight(run_of(agent, tmp_path / folder, **settings))

    with pytest.raises(RunError) as caught:
        check(steps, "a")
    enough = int(re.search(r"Raise --steps to ([\d,]+)", str(caught.value)).group(1).replace(",", ""))
    check(enough, "b")


def test_who_learns_by_replay_needs_no_rollout(agent, tmp_path):
    """3,000 steps leave 800 for training: too few for a rollout of PPO's, many updates of DQN's."""
    settings = {"train": TrainConfig(steps=3_000)}
    with pytest.raises(RunError, match=r"--train\.n-steps"):
        preflight(run_of(agent, tmp_path / "a", **settings))
    dqn = str(save_stuck_agent(tmp_path / "dqn.zip", CORRIDOR, algorithm=DQN))
    preflight(run_of(dqn, tmp_path / "b", **settings))
    given = VerifyConfig(max_steps=5_000)
    with pytest.raises(RunError, match=r"or --verify\.max-steps\.$"):
        preflight(run_of(dqn, tmp_path / "c", verify=given, **settings))


def test_missing_packages_are_named(agent, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnstuckError, match=r'pip install "unstuck\[tensorboard\]"'):
        preflight(run_of(agent, tmp_path, train=TrainConfig(log=("tensorboard",))))
    with pytest.raises(UnstuckError, match=r'pip install "unstuck\[envpool\]"'):
        preflight(run_of(agent, tmp_path / "b", train=TrainConfig(backend="envpool")))


def test_the_command_line_checks_first(capsys, agent, tmp_path):
    run = tmp_path / "run"
    words = ["refine", agent, "--env", CORRIDOR, "--import", "unstuck.testing", "--run", str(run)]
    assert "OPENAI_API_KEY" in fails(capsys, *words, "--llm", "openai:gpt-5")
    assert "is too little" in fails(capsys, *words, "--steps", "2500")
    assert not (run / "collect").exists()


# What people write


def test_lists_may_have_commas():
    assert _apart(["a.zip", "--train.seeds", "1,2", "3", "--train.steps", "5"]) == [
        "a.zip", "--train.seeds", "1", "2", "3", "--train.steps", "5",
    ]  # fmt: skip
    assert _apart(["--seeds=1,2", "--env", "a,b"]) == ["--seeds", "1", "2", "--env", "a,b"]


def test_seeds_no_control_and_settings_reach_the_run(capsys, agent, tmp_path):
    run = tmp_path / "run"
    main(
        [
            "collect",
            agent,
            "--env",
            CORRIDOR,
            "--import",
            "unstuck.testing",
            "--run",
            str(run),
            "--collect.episodes",
            "2",
        ]
    )
    with pytest.raises(SystemExit):
        main(["train", str(run), "--seeds", "4,5", "--no-control", "--log", "csv", "--steps", "1"])
    saved = json.loads((run / "manifest.json").read_text())["config"]["train"]
    assert (saved["seeds"], saved["control"], saved["log"]) == ([4, 5], False, ["csv"])


def test_typos_are_answered_with_what_was_meant(capsys, agent, tmp_path):
    toml = tmp_path / "settings.toml"
    toml.write_text("[train]\nstepz = 5\n[colect]\nseed = 1\n")
    err = fails(capsys, "refine", agent, "--config", str(toml))
    assert "line 2: train.stepz: there is no setting of this name. Did you mean steps" in err
    assert "Did you mean collect" in err
    assert "Did you mean Hopper-v5" in fails(capsys, "refine", agent, "--env", "Hoper-v5")
    assert "--log-level 'verbos': name one of debug" in fails(capsys, "agents", "--log-level", "verbos")


# What is said


def test_json_is_all_that_is_on_the_standard_output(capsys, agent, tmp_path):
    run = tmp_path / "run"
    main(["collect", agent, "--env", CORRIDOR, "--import", "unstuck.testing", "--run", str(run), "--json", "--quiet"])
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err == ""
    assert found["env_steps"] > 0
    assert set(found["facts"]["deterministic"]) == {-60.0}
    main(["describe", "CartPole-v1", "--json"])
    assert json.loads(capsys.readouterr().out)["env_id"] == "CartPole-v1"
    main(["agents", "mountaincar-no-flag", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["task"] == "MountainCar-v0"
    main(["report", str(run), "--json"])
    assert json.loads(capsys.readouterr().out)["report"].endswith("report.html")
    with pytest.raises(SystemExit):
        main(["card", "CartPole-v1", "--json"])


def test_quiet_leaves_the_result(capsys, agent, tmp_path):
    words = ["collect", agent, "--env", CORRIDOR, "--import", "unstuck.testing", "--collect.episodes", "2"]
    main([*words, "--run", str(tmp_path / "a")])
    assert "collect:" in capsys.readouterr().err
    main(["collect", "-q", *words[1:], "--run", str(tmp_path / "b")])
    said = capsys.readouterr()
    assert (said.err, "2 episodes" in said.out) == ("", True)
    main(["agents"])
    assert not TALK.quiet  # of one command only


def test_log_messages_are_written_where_they_are_asked_for(capsys):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        main(["agents", "mountaincar-no-flag", "--log-level", "info"])
        logging.getLogger("unstuck.x").info("hello")
        assert "INFO unstuck.x: hello" in capsys.readouterr().err
    finally:
        root.handlers[:], root.level = before


def test_the_help_fits_on_two_screens_and_all_of_it_is_there(capsys):
    with pytest.raises(SystemExit):
        main(["refine", "--help"])
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= 60
    assert max(map(len, short.splitlines())) <= 100
    with pytest.raises(SystemExit) as done:
        main(["refine", "--help-all"])
    assert done.value.code == 0
    everything = capsys.readouterr().out
    for flag in ("--env", "--seeds", "--llm", "--train", "learning-rate"):
        assert flag.removeprefix("--") in short
    assert "--train.learning-rate" in everything


def test_python_m_and_dir():
    done = subprocess.run([sys.executable, "-m", "unstuck", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"unstuck {unstuck.__version__}"
    assert {"refine", "load_agent", "RunConfig"} <= set(dir(unstuck))


def test_refine_takes_what_is_set_most(agent, tmp_path):
    task = TaskConfig(env=CORRIDOR, env_kwargs={"length": 6}, import_module="unstuck.testing")
    train = TrainConfig(n_envs=2, n_steps=16, batch_size=16, n_epochs=1, log=("csv", "tensorboard"), jobs=1)
    config = RunConfig(task=task, train=train, evaluate={"episodes": 1, "before_episodes": 2})
    run = unstuck.refine(agent, run=tmp_path / "run", steps=64, seeds=7, method="ppo", control=False, config=config)
    assert (run.config.train.steps, run.config.train.seeds, run.config.train.method) == (64, (7,), "ppo")
    log = run.root / "train" / "ppo" / "7" / "log"
    assert (log / "progress.csv").read_text().startswith("rollout/") or "time/" in (log / "progress.csv").read_text()
    assert list(log.glob("events.out.tfevents.*"))
    with pytest.raises(UnstuckError, match=r"seeds"):
        unstuck.refine(agent, run=tmp_path / "b", seeds=["x"], config=config)


def test_without_a_race_there_is_one_training(agent, tmp_path):
    run = run_of(agent, tmp_path, train=TrainConfig(method="race"), race=RaceConfig(none=True))
    assert run.config.train.method == "unstuck"


def test_a_race_that_needs_a_coach_says_so_before_it_begins(agent, tmp_path):
    race = RaceConfig(treatments=("transplant", "transplant+guidance"))
    run = run_of(agent, tmp_path, train=TrainConfig(method="race"), race=race)
    with pytest.raises(RunError, match=r"transplant\+guidance needs a coach"):
        preflight(run)
    # What a person wrote into the run guides as well.
    written = Guidance(env_id=CORRIDOR, diagnosis="", reward_terms=(Term(variable="obs_0", weight=1.0, cap=1.0),))
    save_guidance(written, run.advice_path)
    preflight(run)


def test_sac_is_refused_where_it_cannot_learn_before_a_step_is_taken(tmp_path):
    """FrozenLake shows the number of a field, not a vector."""
    from unstuck.stuck import stuck_agent

    config = RunConfig(
        task=TaskConfig(env="FrozenLake-v1", env_kwargs={"map_name": "8x8"}),
        agent=AgentConfig(agent=str(stuck_agent("frozenlake-top-row").path)),
        train=TrainConfig(method="race"), race=RaceConfig(treatments=("continue", "sac")),
    )  # fmt: skip
    with pytest.raises(AgentError, match="leave `sac` out"):
        preflight(open_run(config, tmp_path / "run"))
