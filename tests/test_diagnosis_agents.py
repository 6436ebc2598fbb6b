"""The diagnosis from end to end, on small agents made in the test: command, Python, run folder, shadow update."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC

import diagnosis_cases as cases
import unstuck
from unstuck.cli import main
from unstuck.config import CollectConfig, RunConfig, TaskConfig
from unstuck.diagnosis import Panel, diagnose_run, gather, read_panel
from unstuck.errors import RunError
from unstuck.pipeline import open_run
from unstuck.run import Run
from unstuck.stages.collect import collect
from unstuck.workspace import Workspace

FEW = CollectConfig(episodes=8, max_steps=600)


def config(**kwargs):
    task = TaskConfig(env=cases.REACH, env_kwargs=kwargs, import_module="diagnosis_cases")
    return RunConfig(task=task, collect=FEW)


def panel_of(tmp_path, change=None, *, settings=None, **kwargs):
    path = cases.save_agent(
        tmp_path / "agent.zip", change=change, discrete=kwargs.get("discrete", False), **(settings or {})
    )
    return unstuck.diagnose(path, config=config(**kwargs), run=tmp_path / "run")


def faults(panel):
    return {f.name for f in panel.faults}


@pytest.mark.parametrize("discrete", [False, True])
def test_an_agent_that_was_just_made_is_healthy_but_untrained(tmp_path, discrete):
    panel = panel_of(tmp_path, discrete=discrete)
    assert faults(panel) <= {"same-action"}
    assert panel.verdict in ("cannot tell", "stuck")
    assert panel.finding("progress").status == "unknown"
    assert panel.finding("update-kl").status == "ok"
    assert 0 < panel.env_steps == panel.looked_at <= 600


def bang_bang(policy):
    policy.action_net.weight.mul_(4000.0)
    policy.action_net.bias.fill_(-20.0)
    policy.log_std.fill_(-0.5)


def silent(policy):
    policy.log_std.fill_(-6.0)


def saturated(policy):
    policy.mlp_extractor.policy_net[2].weight.mul_(0.01)
    policy.mlp_extractor.policy_net[2].bias.copy_(torch.where(torch.arange(64) % 2 == 0, 4.0, -4.0))


def one_action(policy):
    policy.action_net.bias.copy_(torch.tensor([30.0, 0.0, 0.0]))


def wrong_critic(policy):
    policy.value_net.weight.normal_(0, 300.0)
    policy.mlp_extractor.value_net[0].weight.mul_(20.0)


@pytest.mark.parametrize(
    ("change", "kwargs", "expected"),
    [
        (bang_bang, {}, {"means-beyond-bounds", "noise-left-by-clipping"}),
        (silent, {}, {"noise"}),
        (saturated, {}, {"saturated-units"}),
        (one_action, {"discrete": True}, {"entropy", "update-kl"}),
        # Episodes that end: what follows a time limit would be the critic's own word.
        (wrong_critic, {"limit": 50}, {"explained-variance", "update-kl"}),
    ],
)
def test_a_fault_that_was_put_into_an_agent_is_found(tmp_path, change, kwargs, expected):
    healthy, ill = tmp_path / "healthy", tmp_path / "ill"
    healthy.mkdir()
    ill.mkdir()
    found, before = faults(panel_of(ill, change, **kwargs)), faults(panel_of(healthy, **kwargs))
    assert expected <= found
    assert not expected & before


def test_large_observations_a_hidden_limit_and_odd_settings(tmp_path):
    panel = panel_of(tmp_path, scale=200.0, limit=30, settings={"learning_rate": 0.1, "gamma": 0.5})
    assert {"raw-observations", "terminated-at-one-step"} <= faults(panel)
    assert "learning_rate 0.1" in panel.finding("settings").meaning
    assert "gamma 0.5" in panel.finding("settings").meaning


def test_a_run_is_diagnosed_from_its_episodes_without_a_step(tmp_path):
    path = cases.save_agent(tmp_path / "agent.zip")
    np.savez(tmp_path / "evaluations.npz", timesteps=np.arange(10) * 100 + 100, results=np.ones((10, 2)))
    run = open_run(config().model_copy(update={"agent": RunConfig().agent.model_copy(update={"agent": str(path)})}),
                   tmp_path / "run")  # fmt: skip
    collect(run)
    left = read_panel(run.root)
    assert left is not None
    assert left.env_steps == 0  # the stage's own steps are charged to the run
    again = diagnose_run(Workspace(run))
    assert again.findings == left.findings
    asked = unstuck.diagnose(run.root)
    assert (asked.findings, asked.env_steps) == (left.findings, 0)
    (run.root / "diagnosis.json").unlink()
    collect(run)
    assert read_panel(run.root).findings == left.findings


def test_a_diagnosis_that_was_changed_is_made_again(tmp_path, caplog):
    path = cases.save_agent(tmp_path / "agent.zip")
    run = open_run(config().model_copy(update={"agent": RunConfig().agent.model_copy(update={"agent": str(path)})}),
                   tmp_path / "run")  # fmt: skip
    collect(run)
    file = run.root / "diagnosis.json"
    whole = file.read_bytes()
    left, stamp = read_panel(run.root), file.stat().st_mtime_ns
    collect(Run(run.root))
    assert file.stat().st_mtime_ns == stamp
    summary = json.loads(whole)["summary"].encode()
    for damaged in (whole.replace(summary[:1], b"#", 1), whole.replace(summary, b"#" + summary[1:]), whole[:50], b""):
        assert damaged != whole
        caplog.clear()
        file.write_bytes(damaged)
        collect(Run(run.root))
        assert read_panel(run.root).model_copy(update={"seconds": left.seconds}) == left
        assert "diagnosis.json was changed" in caplog.text
    file.unlink()
    (file / "x").mkdir(parents=True)
    unstuck.diagnose(run.root)  # and what is left there later counts as well
    caplog.clear()
    collect(Run(run.root))
    assert not caplog.text
    # Older versions noted nothing down.
    run = Run(run.root)
    del run.record("collect").facts["panel"]
    run.configure(run.config)
    file.write_bytes(whole.replace(summary, b"#" + summary[1:]))
    collect(Run(run.root))
    assert read_panel(run.root).summary.startswith("#")


def test_neither_the_agent_nor_random_numbers_are_touched(tmp_path):
    path = cases.save_agent(tmp_path / "agent.zip")
    unstuck.diagnose(path, config=config(), run=tmp_path / "run")
    space = Workspace(unstuck.Run(tmp_path / "run"))
    before = {k: v.clone() for k, v in space.agent.state_dict.items()}
    state = np.random.get_state()[1].copy()
    drawn = torch.random.get_rng_state().clone()
    evidence = gather(space)
    assert evidence.shadow.steps > 100
    assert all(torch.equal(v, space.agent.state_dict[k]) for k, v in before.items())
    assert (np.random.get_state()[1] == state).all()
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert {x.critic for x in evidence.layers} == {True, False}
    assert {x.kind for x in evidence.layers} == {"Tanh"}


def test_a_trunk_of_ppo_tells_whether_it_improves(tmp_path):
    path = cases.save_agent(tmp_path / "agent.zip")
    held = config()
    held = held.model_copy(update={"train": held.train.model_copy(update={"n_envs": 4, "n_steps": 64})})
    panel = unstuck.diagnose(path, config=held, run=tmp_path / "run", trunk=4096)
    progress = panel.finding("progress")
    assert progress.meaning.startswith("PPO continued on a copy")
    assert progress.value is not None
    assert panel.env_steps >= 4096


def test_an_off_policy_agent_gets_the_checks_that_make_sense_for_it(tmp_path):
    import gymnasium as gym

    model = SAC("MlpPolicy", gym.make(cases.REACH), seed=0, device="cpu", policy_kwargs={"net_arch": [16, 16]})
    model.save(tmp_path / "sac.zip")
    panel = unstuck.diagnose(tmp_path / "sac.zip", config=config(), run=tmp_path / "run")
    names = {f.name for f in panel.findings}
    assert {"actions-at-bounds", "overestimation", "dormant-units", "feature-rank", "noise"} <= names
    assert not names & {"means-beyond-bounds", "explained-variance", "update-kl", "saturated-units"}


def test_the_command_prints_the_panel_or_its_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cases.save_agent(tmp_path / "agent.zip", change=bang_bang)
    words = ["diagnose", "agent.zip", "--env", cases.REACH, "--import", "diagnosis_cases",
             "--collect.episodes", "8", "--collect.max-steps", "600"]  # fmt: skip
    main([*words, "--json"])
    panel = Panel.from_json(capsys.readouterr().out)
    assert panel.has_fault("means-beyond-bounds")
    assert not (tmp_path / "runs").exists()
    main([*words, "--run", "r"])
    shown = capsys.readouterr().out
    assert "agent.zip (PPO)" in shown
    assert "means beyond bounds" in shown
    assert "environment steps taken" in shown
    main(["diagnose", "r", "--json"])
    assert json.loads(capsys.readouterr().out)["env_steps"] == 0
    main(["diagnose", "r", "--all"])
    assert "✓ settings" in capsys.readouterr().out


def test_what_is_no_run_and_no_agent_is_said(tmp_path):
    with pytest.raises(unstuck.UnstuckError):
        unstuck.diagnose(tmp_path / "none.zip", "CartPole-v1")
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError):
        unstuck.diagnose(tmp_path)
