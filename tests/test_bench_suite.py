"""Suites: what is wrong in one is said with its line and field, and what may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from unstuck.bench.layout import Arm, adopt
from unstuck.bench.suite import SuiteError, load_suite
from unstuck.config import RunConfig
from unstuck.demo import AGENT
from unstuck.run import Run

GOOD = """\
name = "smoke"
methods = ["ppo", "unstuck", "mild"]
seeds = [1, 2]
steps = 45_000

[[tasks]]
name = "one"
agent = "demo"
reference = -110.0

[[tasks]]
name = "two"
agent = "demo"
reference = -110.0
steps = 60_000
train.learning_rate = 1e-4

[variants.mild]
base = "unstuck"
train.guide.imitate = 0.1

[train]
n_envs = 8
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_go_from_the_suite_to_the_task_to_the_variant(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, GOOD))
    one, two = suite.tasks
    config = suite.config(two, "mild")
    assert config.task.env == "MountainCar-v0"
    assert (config.train.n_envs, config.train.learning_rate, config.train.guide.imitate) == (8, 1e-4, 0.1)
    assert (config.train.steps, config.train.method, config.train.name) == (60_000, "unstuck", "mild")
    assert not config.train.control
    plain = suite.config(one, "unstuck")
    assert (plain.train.steps, plain.train.learning_rate, plain.train.guide.imitate) == (45_000, 3e-4, None)


def test_variants_of_training_share_an_explanation_and_variants_of_explaining_do_not(tmp_path: Path) -> None:
    text = GOOD.replace('"mild"]', '"mild", "other-reply", "ultra-a", "llm-free"]')
    text += '\n[variants.other-reply]\nbase = "unstuck"\nexplain.sample = 1\n'
    suite = load_suite(write(tmp_path, text))
    sources = {m: Arm(suite, tmp_path, suite.tasks[0], m).source.name for m in suite.methods}
    assert sources["unstuck"] == sources["mild"] == sources["ultra-a"] == "llm"
    assert sources["llm-free"] == "search"
    assert sources["other-reply"].startswith("llm-")
    verified = {m: Arm(suite, tmp_path, suite.tasks[0], m).config.verify.enabled for m in suite.methods}
    assert verified == {m: m in ("unstuck", "mild", "other-reply", "llm-free") for m in suite.methods}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps = 45_000", "step = 45_000", r"suite.toml, line 4: step: .*Did you mean steps"),
        ("seeds = [1, 2]", "seeds = [1, 1]", r"line 3: seeds has 1 twice"),
        ("seeds = [1, 2]", "seeds = [1, 'x']", r"line 3: seeds.1: .*integer"),
        ('"unstuck", "mild"', '"unstck"', r"line 2: there is no method 'unstck'. Did you mean unstuck"),
        ('base = "unstuck"', 'base = "ultra"', r"line 19: there is no method 'ultra'.*ultra-"),
        ("steps = 60_000", "refrence = 3.0", r"line 15: tasks.1.refrence: .*Did you mean reference"),
        ('name = "two"', 'name = "one"', r"tasks has one twice"),
        ('name = "two"\nagent = "demo"', 'name = "two"\nagent = "no.zip"', r"line 13: task 'two': there is no agent"),
        ('"two"\nagent = "demo"\nreference = -110.0', '"two"\nagent = "demo"', r"'two' needs `reference`"),
        ("n_envs = 8", "n_env = 8", r"train.n_env: .*Did you mean n_envs"),
        ("guide.imitate = 0.1", "guide.imitat = 0.1", r"'mild' on 'one'.*train.guide.imitat: .*Did you mean imitate"),
        ("guide.imitate = 0.1", "steps = 5", r"line 20: .*train.steps \(set `steps` of the suite instead\)"),
        ("[train]", "[train", r"not valid TOML: .*line 22"),
        ('agent = "demo"', 'agent = "stuck/nothing"', r"line 8: task 'one': no agent 'nothing' ships"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(SuiteError, match=says):
        load_suite(write(tmp_path, GOOD.replace(old, new, 1)))


def test_a_task_without_its_agent_can_be_left_out(tmp_path: Path) -> None:
    from unstuck.bench.runner import make_plan

    text = GOOD.replace(
        'name = "two"\nagent = "demo"', 'name = "two"\nenv = "Hopper-v5"\nagent = "no.zip"\noptional = true'
    )
    plan, gone = make_plan(load_suite(write(tmp_path, text)), tmp_path / "out", methods=["ppo"])
    assert [t.name for t in plan.tasks] == ["one"]
    assert plan.methods == ("ppo",)
    assert "two is left out" in gone[0]
    with pytest.raises(SuiteError, match=r"--methods: the suite has no 'pp'. Did you mean ppo"):
        make_plan(load_suite(write(tmp_path, text)), methods=["pp"])


def test_shipped_suites_are_valid() -> None:
    suites = sorted((Path(__file__).parents[1] / "benchmarks" / "suites").glob("*.toml"))
    assert suites
    for path in suites:
        load_suite(path)


def test_a_variant_may_have_more_opinions_and_then_has_an_explanation_of_its_own(tmp_path: Path) -> None:
    text = GOOD.replace('"mild"]', '"mild", "four"]')
    text += '\n[variants.four]\nbase = "unstuck"\nllm.samples = 4\nrace.mode = "sampled"\n'
    suite = load_suite(write(tmp_path, text))
    plain, four = (Arm(suite, tmp_path, suite.tasks[0], method) for method in ("unstuck", "four"))
    assert (plain.config.llm.samples, four.config.llm.samples) == (1, 4)
    assert four.config.llm.model == plain.config.llm.model == "recorded"
    assert four.config.race.mode == "sampled"
    assert plain.source.name == "llm"
    assert four.source != plain.source


def test_opinions_come_to_an_arm_with_the_explanation(tmp_path: Path) -> None:
    source, arm = (Run.create(tmp_path / name, RunConfig(), {"agent": AGENT}) for name in ("source", "arm"))
    with source.stage("collect", "mark"):
        pass
    with source.stage("explain", "mark") as draft:
        for name in ("advice.json", "guidance-2.json", "guidance-10.json"):
            (draft.folder / name).write_text(name)
            draft.publish.append((name, name))
    (arm.root / "guidance-3.json").write_text("of before")
    adopt(arm, source)
    assert [p.read_text() for p in arm.opinion_paths] == ["guidance-2.json", "guidance-10.json"]
