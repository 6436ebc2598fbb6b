"""What `refine` does where nobody said, what it says before it begins, and what is said of a race."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import unstuck
from test_handover import finished, points, scores
from unstuck import race as racing
from unstuck.choosing import BULKY, LEAST, RACE_STEPS, REFINE, REPLAYED_STEPS, settled
from unstuck.cli import main
from unstuck.commands import stages
from unstuck.config import RaceConfig, RunConfig, TrainConfig
from unstuck.methods import ANY, label_of
from unstuck.pace import announcement, seconds_per_step
from unstuck.pipeline import open_run
from unstuck.progress import Progress
from unstuck.results import CONTROL, LADDER, RACE, Charges, Gain, Ladder, RaceVerdict, Rank, Scores
from unstuck.rounds import train
from unstuck.run import Run
from unstuck.stages.handover import hand_over
from unstuck.stages.report.outcome import outcome
from unstuck.testing import PUSH, save_stuck_agent
from unstuck.workspace import Workspace


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_stuck_agent(tmp_path_factory.mktemp("agent") / "push.zip", PUSH, bias=4.0))


@pytest.mark.parametrize(
    ("said", "on_policy", "none", "method", "steps", "seeds", "why"),
    [
        ({}, True, False, "race", RACE_STEPS, (1,), ""),
        ({"steps": 200_000}, True, False, "race", 200_000, (1,), ""),
        ({"seeds": (4, 5)}, True, False, "race", RACE_STEPS, (4, 5), ""),
        ({"method": "race", "steps": 2_000}, True, False, "race", 2_000, (1,), ""),
        ({"steps": LEAST - 1}, True, False, "unstuck", LEAST - 1, (1, 2, 3), "race needs 100,000 steps"),
        ({"rounds": 2}, True, False, "unstuck", 100_000, (1, 2, 3), "rounds"),
        ({}, False, False, "race", REPLAYED_STEPS, (1,), ""),
        ({"method": "race"}, False, False, "race", REPLAYED_STEPS, (1,), ""),
        ({"steps": LEAST - 1}, False, False, "unstuck", LEAST - 1, (1, 2, 3), "race needs 100,000 steps"),
        ({}, True, True, "unstuck", 100_000, (1, 2, 3), ""),
        ({"method": "race"}, True, True, "unstuck", 100_000, (1, 2, 3), ""),
        ({"method": "ppo"}, True, False, "ppo", 100_000, (1, 2, 3), ""),
        ({"method": "race-no-coach"}, True, False, "race-no-coach", RACE_STEPS, (1,), ""),
    ],
)
def test_what_nobody_said_suits_the_agent_and_the_rest(
    said: dict[str, Any], on_policy: bool, none: bool, method: str, steps: int, seeds: tuple[int, ...], why: str
) -> None:
    config = RunConfig(train=TrainConfig(**said), race=RaceConfig(none=none))
    found, reason = settled(config, set(said), on_policy=on_policy)
    assert (found.train.method, found.train.steps, found.train.seeds) == (method, steps, seeds)
    assert why in reason
    assert bool(why) == bool(reason)


def test_several_replay_buffers_of_images_are_not_raced_unasked() -> None:
    bulky = {"on_policy": False, "observed": BULKY}
    found, reason = settled(RunConfig(), set(), **bulky)  # type: ignore[arg-type]
    assert found.train.method == "unstuck"
    assert "replay buffers" in reason
    asked = RunConfig(train=TrainConfig(method="race"))
    assert settled(asked, {"method"}, **bulky)[0].train.method == "race"  # type: ignore[arg-type]
    assert settled(RunConfig(), set(), on_policy=True, observed=BULKY)[0].train.method == "race"


def test_the_command_line_and_python_race_by_default(
    tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "_finish", lambda run, shown: None)
    monkeypatch.setattr("unstuck.pipeline.run_stages", lambda run, progress, model=None: run)

    def said(name: str, *words: str) -> TrainConfig:
        at = ["--env", PUSH, "--import", "unstuck.testing", "--run", str(tmp_path / name)]
        main(["refine", str(agent), *at, *words])
        return Run(tmp_path / name).config.train

    one = said("a")
    assert (one.method, one.steps, one.seeds, one.control) == ("race", RACE_STEPS, (1,), True)
    assert "what will run: a race within 500,000 environment steps for seed 1" in capsys.readouterr().err
    two = said("b", "--race.none", "--no-control")
    assert (two.method, two.steps, two.seeds, two.control) == ("unstuck", 100_000, (1, 2, 3), False)
    (tmp_path / "settings.toml").write_text("[train]\nsteps = 60_000\n")
    three = said("c", "--config", str(tmp_path / "settings.toml"), "--seeds", "7")
    assert (three.method, three.steps, three.seeds) == ("unstuck", 60_000, (7,))
    assert "one training, no race: a race needs 100,000" in capsys.readouterr().err

    config = REFINE.model_copy(update={"task": REFINE.task.model_copy(update={"import_module": "unstuck.testing"})})
    four = unstuck.refine(agent, PUSH, run=tmp_path / "d", steps=150_000, config=config).config.train
    assert (four.method, four.steps, four.seeds) == ("race", 150_000, (1,))
    five = unstuck.refine(agent, PUSH, run=tmp_path / "e", method="ppo", config=config).config.train
    assert (five.method, five.steps, five.seeds) == ("ppo", 100_000, (1, 2, 3))


def test_a_run_says_how_long_it_will_take(tmp_path: Path, agent: Path) -> None:
    settings = RunConfig(
        task={"env": PUSH, "import_module": "unstuck.testing"}, agent={"agent": str(agent)},
        train=TrainConfig(method="race", steps=100_000, seeds=(1,)),
    )  # fmt: skip
    run = open_run(settings, tmp_path / "run")
    pace = seconds_per_step(Workspace(run), run.config.train, 64)
    assert pace is not None
    assert 0 < pace < 1
    assert "with as many beside it; about" in announcement(run)
    assert "more if it is begun again with SAC" in announcement(run)
    run.configure(settings.model_copy(update={"race": RaceConfig(treatments=("afresh",))}))
    assert "SAC" not in announcement(run)
    run.configure(settings.model_copy(update={"train": TrainConfig(method="ppo", seeds=(1, 2))}))
    assert "PPO continued, one training within 100,000 environment steps for each of 2 seeds; about" in announcement(
        run
    )


def test_the_ladder_says_who_is_ahead_and_who_is_out_and_why() -> None:
    ladder = Ladder(
        title="rung 1 of 2", seed=3, spent=Charges({"train": 4_000, "judge": 500}), budget=90_000, usd=0.25,
        ranks=(
            Rank(name="thaw", trained=2_000, level=12.0, forecast=20.0),
            Rank(name="guidance", reason="what the coach says"),
            Rank(name="continue", trained=2_000, level=3.0, forecast=3.0, status="dropped", note="heading for 3"),
            Rank(name="afresh", status="dropped", note="no room"),
            Rank(name="transplant", status="dropped", note="no room"),
        ),
    )  # fmt: skip
    assert ladder.lines() == [
        "race, seed 3: rung 1 of 2; 4,500 of 90,000 steps, $0.2500 for the coach",
        "  1. thaw: 12 after 2,000 steps, heading for 20",
        "  2. guidance: what the coach says",
        "  3. continue: 3 after 2,000 steps; dropped, heading for 3",
        "  afresh, transplant: no room",
    ]


def test_the_control_trains_beside_the_race(tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing, "free_cores", lambda: 1)
    settings = RunConfig(
        task={"env": PUSH, "import_module": "unstuck.testing"}, agent={"agent": str(agent)},
        train=TrainConfig(method="afresh", steps=1_024, seeds=(1,), n_envs=8, n_steps=32, critic_warmup=0),
    )  # fmt: skip
    run, out = open_run(settings, tmp_path / "run"), io.StringIO()
    arms = train(run, Progress(Console(file=out, width=200)))
    assert {arm: [path.exists() for path in paths] for arm, paths in arms.items()} == {"ppo": [True], "afresh": [True]}
    assert run.record("train/ppo/1").facts["charged"] == {"train": 1_024}
    assert "afresh: handed over: afresh" in out.getvalue()
    assert "train: 1" in out.getvalue().splitlines()[-2], "the bar counts what races train"
    assert Ladder.read(run.root / "race" / "afresh" / "1" / LADDER).ranks[0].status == "winner"
    # The same as alone.
    alone = open_run(
        settings.model_copy(update={"train": settings.train.model_copy(update={"method": "ppo"})}), tmp_path / "b"
    )
    (other,) = train(alone)["ppo"]
    ours, theirs = unstuck.load_agent(arms["ppo"][0]).state_dict, unstuck.load_agent(other).state_dict
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def race_run(root: Path, found: Scores, handed: str = "finalist", least: float = 1.0) -> Run:
    """A run whose arm `unstuck` was a race that handed over this, `least` surely better than the trunk."""
    run = finished(root, found)
    gains = {"over_original": Gain(mean=12.0, low=9.5, pairs=8), "over_trunk": Gain(mean=4.0, low=least, pairs=8)}
    RaceVerdict(
        handed=handed, name="afresh", finalist="afresh", why="it is better", mode="deterministic", level=0.05,
        budget=100_000, seed=1, **gains,
    ).write(run.root / "train" / "unstuck" / "1" / RACE)  # type: ignore[arg-type]  # fmt: skip
    return run


def test_what_is_not_surely_better_than_plain_ppo_is_not_called_so(tmp_path: Path) -> None:
    run = race_run(tmp_path, scores(ppo=[points(0)], unstuck=[points(5)]), least=-1.0)
    assert hand_over(run).chosen == "unstuck"  # type: ignore[union-attr]
    assert outcome(run).headline == "Better than before, by the race's test."


def test_one_seed_of_a_race_is_proved_by_its_test(tmp_path: Path) -> None:
    run = race_run(tmp_path, scores(ppo=[points(0)], unstuck=[points(5)]))
    assert hand_over(run).chosen == "unstuck"  # type: ignore[union-attr]
    told = outcome(run)
    assert told.headline == "Better than before and plain PPO, by the race's test."
    assert told.verdict.startswith("The race's test, 8 pairs of fresh episodes (deterministic): afresh +12 (with 95 %")
    assert "+4 (with 95 % confidence at least 1) over plain PPO" in told.verdict
    assert told.note == "PPO continued with the whole budget returns 0 (1 seed)."
    assert told.direction == "better"


def test_plain_ppo_that_got_further_with_the_whole_budget_is_handed_over(tmp_path: Path) -> None:
    run = race_run(tmp_path, scores(ppo=[points(1, 50)], unstuck=[points(5)]))
    scored = Scores.read(run.root / "evaluate" / "scores.json")
    assert scored.arms[CONTROL].seeds[1].checkpoints[-1].deterministic == (49, 51)
    # Both differ by 45 from what the race hands over in each of the two episodes.
    verdict = hand_over(run)
    assert verdict is not None
    assert (verdict.chosen, verdict.seed, verdict.trained) == (CONTROL, 1, 20)
    assert verdict.race is not None
    assert "continued with the whole budget it returns more than what the race hands over (afresh): +45" in verdict.why
    assert (run.root / "agent.zip").read_bytes() == (run.root / "train" / "ppo" / "1" / "agent.zip").read_bytes()
    assert outcome(run).headline == "PPO continued is the best: use that."


def test_a_race_that_shows_nothing_says_so(tmp_path: Path) -> None:
    run = race_run(tmp_path, scores(before=(7.0, 9.0), unstuck=[points(5)]), handed="original")
    hand_over(run)
    assert outcome(run).headline == "Nothing was shown to be better than the agent that you gave: keep it."


def test_labels_name_what_was_continued(tmp_path: Path) -> None:
    assert label_of("ppo", "SAC") == "SAC continued"
    assert label_of("ppo-small-batches") == "PPO continued, batches of 64"
    assert label_of("rice", "SAC") == "RICE"
    assert label_of("ppo", ANY) == "The agent's algorithm continued"
    found = scores(ppo=[points(0), points(1)], unstuck=[points(5), points(6)]).model_copy(update={"algorithm": "DQN"})
    run = finished(tmp_path, found)
    hand_over(run)
    told = outcome(run)
    assert [row.label for row in told.rows] == ["Before", "DQN continued", "Unstuck"]
    assert "for DQN continued at the same budget" in told.verdict
    assert "DQN continued" in told.headline
    assert "PPO" not in told.verdict + told.headline + told.before
