"""The verdict in a sentence, the closing table, and numbers in words."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from test_report import GUIDED, add_scores, full_run, make_run
from unstuck.curves import CurvePoint
from unstuck.errors import RunError
from unstuck.guidance import Action, AnyOf, Condition, Term
from unstuck.results import Charges, StageKey, TrainFacts
from unstuck.run import read_json, write_json
from unstuck.stages.evaluate import SCORES
from unstuck.stages.report import outcome, print_outcome, words
from unstuck.stages.report.data import Curve
from unstuck.stages.report.figures import curves_figure, median_curve
from unstuck.tasks.card import ActionSpec, TaskCard, Variable

NOISY = ((-190.0, -150.0, -199.0), (-140.0, -195.0, -150.0))


def verdict(root, *args, **kwargs):
    run = make_run(root)
    add_scores(run, *args, **kwargs)
    return outcome(run)


def test_clear_gain(tmp_path):
    found = verdict(tmp_path)
    assert found.verdict == (
        "Unstuck is better: -142 [-149, -135] against -200 for PPO continued at the same budget "
        "(deterministic, 3 seeds); difference 58.1 [51.1, 65.1]."
    )
    assert (found.direction, found.note) == ("better", "")


def test_clear_loss_is_said(tmp_path):
    found = verdict(tmp_path, (-140.0, -141.0, -142.0), (-200.0, -199.0, -198.0))
    assert found.verdict.startswith("Unstuck is worse: -199 ")
    assert found.direction == "worse"


def test_overlapping_intervals_are_no_difference(tmp_path):
    found = verdict(tmp_path, *NOISY)
    assert found.verdict.startswith("No clear difference: Unstuck -162 [")
    assert "which includes zero" in found.verdict
    assert "better" not in found.verdict
    assert found.direction == "unclear"


def test_equal_scores_without_spread_are_no_difference(tmp_path):
    assert verdict(tmp_path, (-200.0,) * 3, (-200.0,) * 3).direction == "unclear"


def test_one_seed_proves_nothing(tmp_path):
    found = verdict(tmp_path, (-200.0,), (-140.0,))
    assert "-140 against -200" in found.verdict
    assert "1 seed)" in found.verdict
    assert "proves nothing" in found.verdict
    assert "better" not in found.verdict


def test_sampled_policy_that_disagrees_is_noted(tmp_path):
    found = verdict(tmp_path, sampled=((-140.0, -141.0, -142.0), (-200.0, -199.0, -198.0)))
    assert found.verdict.startswith("Unstuck is better")
    assert "sampled" in found.note
    assert "Unstuck is worse" in found.note


def test_no_control_claims_nothing(tmp_path):
    found = verdict(tmp_path, ppo=None)
    assert "-142 [-149, -135] against -200 before" in found.verdict
    assert "does not show" in found.note
    assert found.direction == "unknown"


def test_only_the_control(tmp_path):
    found = verdict(tmp_path, guided=None)
    assert found.verdict.startswith("Only PPO was continued")
    assert [r.arm for r in found.rows] == ["before", "ppo"]


def test_the_summary_is_for_people_only(tmp_path):
    run = make_run(tmp_path)
    add_scores(run)
    scores = read_json(run.root / SCORES)
    assert scores["summary"]["arms"]["unstuck"]["sampled"]["per_seed"] == list(GUIDED)
    assert scores["summary"]["difference"]["unstuck"]["deterministic"]["mean"] == pytest.approx(58.1)
    write_json(run.root / SCORES, {k: v for k, v in scores.items() if k != "summary"})
    assert outcome(run).direction == "better"


def test_charges_add_up_and_average():
    collected, trained = Charges({"collect": 3, "train": 4}), Charges({"train": 7})
    assert (collected.total, collected.before_training, trained["collect"]) == (7, 3, 0)
    assert (collected + trained).root == {"collect": 3, "train": 11}
    assert Charges.mean([collected, trained]).root == {"collect": 2, "train": 6}
    assert dict(Charges({"explain": 0, "train": 1}).items()) == {"train": 1}


@pytest.mark.parametrize("name", ["collect", "train/unstuck/1", "score/a.b+c/-3"])
def test_stage_keys_are_the_names_of_stages(name):
    assert str(StageKey.parse(name)) == name
    assert str(StageKey("train", "unstuck", 1).to("score")) == "score/unstuck/1"


def test_a_damaged_result_names_its_file(tmp_path):
    path = tmp_path / "info.json"
    write_json(path, {"arm": "unstuck", "seed": "one"})
    with pytest.raises(RunError, match=r"info\.json is damaged:\n.*seed"):
        TrainFacts.read(path)
    write_json(path, {"arm": "unstuck", "seed": 1, "charged": {"train": 3}, "of_a_later_version": True})
    assert TrainFacts.read(path).charged.total == 3


def test_not_evaluated_names_the_command(tmp_path):
    run = make_run(tmp_path)
    assert f"unstuck evaluate {run.root}" in outcome(run).verdict
    (run.root / "evaluate").mkdir()
    (run.root / "evaluate" / "scores.json").write_text("{ damaged")
    assert outcome(run).rows == ()


def test_rows_charge_collecting_and_verifying(tmp_path):
    rows = {r.arm: r for r in verdict(tmp_path).rows}
    assert {a: r.steps for a, r in rows.items()} == {"before": 0, "ppo": 28672, "unstuck": 29376}


def test_closing_table(tmp_path):
    run = full_run(tmp_path)
    out = io.StringIO()
    print_outcome(run, Console(file=out, width=140))
    text = out.getvalue()
    for part in (
        "PPO continued",
        "Unstuck",
        "-142 [-149, -135]",
        "28,672",
        "Why it was stuck: The car pushes right",
        "is better",
    ):
        assert part in text
    assert "Report:" not in text  # not written yet


def test_words_of_a_model_are_not_the_consoles_markup(tmp_path):
    run = full_run(tmp_path)
    data = read_json(run.guidance_path)
    data["diagnosis"] = "[red]it[/] is [link=http://example.org]stuck[/link] [/nonsense]"
    write_json(run.guidance_path, data)
    out = io.StringIO()
    print_outcome(run, Console(file=out, width=200))
    assert data["diagnosis"] in out.getvalue()


@pytest.mark.parametrize(
    ("x", "shown"),
    [(741.34, "741"), (-0.012345, "-0.0123"), (2044.2, "2,044"), (1.1, "1.1"), (0.0, "0"), (-200.0, "-200"),
     (12.0, "12"), (None, "not known"), (999.7, "1,000"), (1234567.8, "1,234,568")],
)  # fmt: skip
def test_number(x, shown):
    assert words.number(x) == shown


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_number_is_near_what_it_shows(x):
    assert float(words.number(x).replace(",", "")) == pytest.approx(x, rel=6e-3)


def test_interval_without_bounds_or_spread():
    assert words.interval(-142.0, None, None, 1) == "-142 (one value, no interval)"
    assert words.interval(-200.0, -200.0, -200.0) == "-200"
    assert (
        words.minus("-142 [-150, -134] of Hopper-v5, 1-2, step-size")
        == "−142 [−150,\u00a0−134] of Hopper-v5, 1-2, step-size"
    )


CARD = TaskCard(
    env_id="Toy-v0", goal="", reward="", termination="",
    variables=(Variable(name="pitch", unit="rad"), Variable(name="vx", unit="m/s")),
    action=ActionSpec(kind="continuous", names=("hip", "knee"), unit="N·m", low=(-1, -1), high=(1, 1)),
)  # fmt: skip


def test_terms_conditions_and_actions_in_words():
    text = words.Words(CARD)
    fast = Condition(variable="vx", op=">=", value=0.5)
    tilted = Condition(variable="pitch", abs=True, op=">", value=0.4)
    assert text.when((fast, AnyOf(any=(tilted, fast)))) == (
        "vx is at least 0.5 m/s, and either the size of pitch is above 0.4 rad or vx is at least 0.5 m/s"
    )
    assert text.when(()) == "always"
    above = Term(variable="pitch", abs=True, above=0.4, weight=-2, cap=1, when=(fast,))
    assert text.term(above) == (
        "-2 for each rad by which the size of pitch exceeds 0.4 rad, up to 1 rad, while vx is at least 0.5 m/s"
    )
    assert text.term(Term(variable="vx", below=1, weight=-0.5, cap=2)) == (
        "-0.5 for each m/s by which vx falls short of 1 m/s, up to 2 m/s"
    )
    assert text.term(Term(variable="vx", weight=1, cap=3)) == "+1 for each m/s of vx, up to 3 m/s either way"
    assert text.action(Action(values=(0.5, 0.0), delta=True), hold=8) == (
        "add +0.5 N·m to hip (to the agent's own action), held for 8 steps"
    )
    assert text.action(Action(values=(0.5, -1.0))) == "set hip to 0.5 N·m, knee to -1 N·m"


def test_words_without_a_card():
    text = words.Words(None)
    assert text.action(Action(index=2)) == "action 2"
    assert text.term(Term(variable="x", above=1, weight=1, cap=2)) == "+1 for each unit by which x exceeds 1, up to 2"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(4.23, "4.2 s"), (59.9, "60 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_duration(seconds, shown):
    assert words.duration(seconds) == shown


def test_money_not_known_is_not_free():
    assert [words.money(x) for x in (None, 0.0, 0.002, 1.5)] == ["not known", "$0", "under $0.01", "$1.50"]


def test_a_thin_run_does_not_take_the_line_away():
    grid, middle = median_curve([([0, 10, 20], [0, 10, 20]), ([5, 15], [1, 1])])
    assert grid.tolist() == [0, 5, 10, 15, 20]
    assert middle.tolist() == [0, 3, 5.5, 8, 20]
    grid, middle = median_curve([([0, 10], [0, 10]), ([0, 10], [2, 12]), ([5], [60])])
    assert (grid.tolist(), middle.tolist()) == ([0, 5, 10], [1, 7, 11])
    grid, middle = median_curve([([0, 10, 20], [0, 1, 2]), ([0, 10], [0, 1]), ([0, 10], [0, 1])])
    assert grid.tolist() == [0, 10], "one of three says nothing of them"


def test_curves_begin_after_what_was_charged_before(tmp_path):
    points = tuple(CurvePoint(steps=4800 + 2048 * i, trained=2048 * i, return_mean=float(i)) for i in range(1, 4))
    facts = TrainFacts(arm="unstuck", seed=1, charged={"collect": 4800, "train": 6144})
    curve = Curve(facts, points)
    assert curve.begin == 4800
    assert curve.series("return_mean")[0] == [6848, 8896, 10944]
    assert curve.series("hit_rate") == ([], [])
    assert curves_figure([curve], "hit_rate", "y", "n") == ""
    figure = curves_figure([curve], "return_mean", "y", "n")
    lone = curves_figure([Curve(facts, points[:1])], "return_mean", "y", "n")
    assert lone.count("<use ") > figure.count("<use "), "a line of a single point has a mark"
    assert figure.startswith("<svg")
    assert "<metadata" not in figure
    assert "<!DOCTYPE" not in figure
