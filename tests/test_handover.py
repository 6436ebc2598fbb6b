"""Which agent a run hands over, and what is said of it."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from test_report import make_run
from unstuck.agents import load_agent
from unstuck.cli import main
from unstuck.config import AgentConfig, RunConfig, TaskConfig
from unstuck.contender import Chosen, choose
from unstuck.diagnosis import Panel
from unstuck.pipeline import open_run
from unstuck.results import (
    BEFORE,
    DEPLOYED,
    STATISTICS,
    VERDICT,
    AgentScores,
    ArmScores,
    CheckpointScores,
    Gain,
    LastTest,
    Returns,
    RunVerdict,
    Scores,
    TrainFacts,
)
from unstuck.run import StageRecord
from unstuck.stages.evaluate import SCORES, last_test
from unstuck.stages.handover import hand_over
from unstuck.stages.report import outcome, print_outcome, report
from unstuck.stages.report.deploy import lines
from unstuck.stages.report.outcome import shortened
from unstuck.stuck import stuck_agents
from unstuck.testing import CORRIDOR, save_stuck_agent


def points(*means: float) -> AgentScores:
    """A seed whose late checkpoints, after 10, 20, ... steps, return so much, deterministic; sampled always 0."""
    return AgentScores(
        checkpoints=tuple(
            CheckpointScores(deterministic=(m - 1, m + 1), sampled=(0.0, 0.0), trained=10 * (i + 1))
            for i, m in enumerate(means)
        )
    )


def scores(before=(-10.0, -10.0), **arms: list[AgentScores]) -> Scores:
    by_arm = {arm: ArmScores(seeds=dict(enumerate(seeds, start=1))) for arm, seeds in arms.items()}
    return Scores(env_id="X-v0", before=Returns(deterministic=before, sampled=before), arms=by_arm)


def test_the_best_checkpoint_of_the_best_seed_of_the_best_arm():
    found = scores(ppo=[points(1, 9), points(0, 0)], unstuck=[points(1, 1), points(9, 7, 8), points(3, 3)])
    assert choose(found) == Chosen("unstuck", 2, 10)


def test_one_lucky_seed_does_not_make_the_better_arm():
    found = scores(ppo=[points(5), points(5)], unstuck=[points(9), points(0)])
    assert choose(found) == Chosen("ppo", 1, 10)


def test_of_equals_the_guided_arm_the_first_seed_and_the_last_checkpoint():
    found = scores(ppo=[points(5, 5)] * 2, unstuck=[points(5, 5)] * 2)
    assert choose(found) == Chosen("unstuck", 1, 20)


@pytest.mark.parametrize("mean", [-10, -11])
def test_where_nothing_is_better_the_given_agent_stays(mean):
    assert choose(scores(ppo=[points(mean)], unstuck=[points(mean)])).arm == BEFORE


def finished(root, found: Scores, normalize=False):
    """A run whose training left real agents, scored as said."""
    run = make_run(root, env=CORRIDOR)
    for arm, of in found.arms.items():
        for seed, agent in of.seeds.items():
            folder = run.root / "train" / arm / str(seed)
            folder.mkdir(parents=True)
            files = []
            for i, point in enumerate(agent.checkpoints):
                last = i == len(agent.checkpoints) - 1
                name = "agent.zip" if last else f"agent-{point.trained}.zip"
                save_stuck_agent(folder / name, CORRIDOR, seed=100 * seed + i, normalize=normalize)
                files.append((point.trained, name))
            facts = TrainFacts(arm=arm, seed=seed, budget=100_000, checkpoints=tuple(files))
            run.manifest.stages[f"train/{arm}/{seed}"] = StageRecord(
                fingerprint="f", finished="2026-01-02T03:04:05+00:00", seconds=1.0, facts=facts.as_json()
            )
    run.configure(run.config)
    (run.root / SCORES).parent.mkdir()
    found.write(run.root / SCORES)
    return run


def test_the_file_lies_at_the_top_and_the_verdict_says_which_it_is(tmp_path):
    run = finished(tmp_path, scores(ppo=[points(0), points(1)], unstuck=[points(9, 7), points(6, 6)]), normalize=True)
    verdict = hand_over(run)
    assert verdict == RunVerdict.read(run.root / VERDICT)
    assert (verdict.chosen, verdict.seed, verdict.trained, verdict.statistics) == ("unstuck", 1, 10, True)
    chosen = run.root / "train" / "unstuck" / "1" / "agent-10"
    assert (run.root / DEPLOYED).read_bytes() == chosen.with_suffix(".zip").read_bytes()
    assert (run.root / STATISTICS).read_bytes() == chosen.with_suffix(".vecnormalize.pkl").read_bytes()
    assert load_agent(run.root / DEPLOYED).normalization is not None
    # What is told is of the arm, not of the lucky file.
    assert verdict.returns["unstuck"].mean == 7
    assert {name: d.mean for name, d in verdict.differences.items()} == {"before": 17, "ppo": 6.5}


def test_another_choice_later_leaves_nothing_of_the_first(tmp_path):
    run = finished(tmp_path, scores(unstuck=[points(9)]), normalize=True)
    hand_over(run)
    scores(unstuck=[points(-99)]).write(run.root / SCORES)
    verdict = hand_over(run)
    assert (verdict.chosen, verdict.statistics) == (BEFORE, False)
    assert (run.root / DEPLOYED).read_bytes() == run.agent_path.read_bytes()
    assert not (run.root / STATISTICS).exists()


def last(mean=5.0, low=1.0, worse=False) -> LastTest:
    """The last test of unstuck, seed 1, after 10 steps."""
    return LastTest(
        arm="unstuck", seed=1, trained=10, mode="deterministic", level=0.05, seeds=(1, 2), returns=(0.0, 0.0),
        before=(-5.0, -5.0), over_before=Gain(mean=mean, low=low, pairs=2), worse=worse,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("test", "chosen", "words"),
    [
        (last(), "unstuck", "better than before: +5, lower bound 1, in 2 fresh paired episodes"),
        (last(low=-1.0), BEFORE, "(unstuck) was not shown to be better: +5, lower bound -1, in 2"),
        (last(low=0.0), BEFORE, "was not shown to be better"),
        (last(worse=True), BEFORE, "is worse in sampled play"),
    ],
)
def test_only_what_the_last_test_shows_to_be_better_is_handed_over(tmp_path, test, chosen, words):
    run = finished(tmp_path, scores(unstuck=[points(9)]).model_copy(update={"test": test}))
    verdict = hand_over(run)
    assert (verdict.chosen, verdict.test) == (chosen, test)
    assert words in verdict.why
    source = run.agent_path if chosen == BEFORE else run.root / "train" / "unstuck" / "1" / "agent.zip"
    assert (run.root / DEPLOYED).read_bytes() == source.read_bytes()
    assert RunVerdict.read(run.root / VERDICT) == verdict


def test_the_last_test_plays_fresh_episodes_of_both_agents(tmp_path):
    # Scored as much better, yet in truth both do the same: what was chosen for its luck fails.
    found = scores(unstuck=[points(9)])
    run = finished(tmp_path, found)
    run.configure(run.config.model_copy(update={"train": run.config.train.model_copy(update={"jobs": 1})}))
    save_stuck_agent(run.agent_path, CORRIDOR)
    shutil.copyfile(run.agent_path, run.root / "train" / "unstuck" / "1" / "agent.zip")
    held, steps = last_test(run, found)
    count = run.config.evaluate.before_episodes
    assert held.test.returns == held.test.before
    assert len(held.test.returns) == count == held.test.over_before.pairs
    assert held.test.seeds[0] > run.config.evaluate.seed + count
    assert steps > 0
    assert not held.test.passed


def test_nothing_is_tested_where_nothing_returns_more(tmp_path):
    found = scores(unstuck=[points(-11)])
    assert last_test(finished(tmp_path, found), found) == (found, 0)


def test_before_evaluation_there_is_nothing_to_hand_over(tmp_path):
    run = make_run(tmp_path)
    assert hand_over(run) is None
    assert outcome(run).use is None


@pytest.mark.parametrize(
    ("ppo", "guided", "words"),
    [
        ((0, 1), (9, 10), "Better than before and PPO continued."),
        ((9, 10), (0, 1), "Better than before, worse than PPO continued."),
        ((0, 1), (0, 1), "Better than before, not clearly different from PPO continued."),
        ((-10, -10), (-30, 10), "Not clearly different from before nor PPO continued."),
        ((0, 0), (-20, -21), "Worse than before and PPO continued."),
        ((0,), (9,), "Not proved: one seed has no interval."),
    ],
)
def test_the_headline_tells_both_comparisons(tmp_path, ppo, guided, words):
    run = finished(tmp_path, scores(ppo=[points(m) for m in ppo], unstuck=[points(m) for m in guided]))
    hand_over(run)
    assert outcome(run).headline == words


def test_the_console_begins_with_the_verdict_and_the_file(tmp_path):
    run = finished(tmp_path, scores(ppo=[points(0), points(1)], unstuck=[points(9), points(10)]))
    hand_over(run)
    out = io.StringIO()
    print_outcome(run, Console(file=out, width=100))
    shown = out.getvalue().splitlines()
    assert shown[1] == "Better than before and PPO continued."
    place = next(i for i, line in enumerate(shown) if line.startswith(f"Use {run.root / DEPLOYED}"))
    assert place < next(i for i, line in enumerate(shown) if "environment steps" in line)
    assert sum(line.startswith("    ") for line in shown) == 3


@pytest.mark.parametrize(
    ("verdict", "begins"),
    [
        ("already good", "The agent was not stuck. Already good."),
        ("stuck", "Why it was stuck: It returns 9."),
        ("cannot tell", "Whether it was stuck cannot be told. It returns 9."),
    ],
)
def test_an_agent_that_was_not_stuck_is_told_so(tmp_path, verdict, begins):
    run = finished(tmp_path, scores(ppo=[points(0)], unstuck=[points(9)]))
    assert outcome(run).why == ""
    panel = Panel(
        agent="a.zip", env=CORRIDOR, algorithm="PPO", verdict=verdict,
        summary=f"{verdict.capitalize()}. It returns 9.",
        treatments=(), findings=(), looked_at=1, seconds=0.1,
    )  # fmt: skip
    (run.root / "diagnosis.json").write_text(panel.as_json(), encoding="utf-8")
    assert outcome(run).why.startswith(begins)


def test_the_lines_run_and_play(tmp_path):
    """Without statistics and with, on Gymnasium's own task and on one that a module of the user's registers."""
    agent = save_stuck_agent(tmp_path / 'an "agent".zip', CORRIDOR, normalize=True)
    plain = save_stuck_agent(tmp_path / "plain.zip", CORRIDOR)
    task = TaskConfig(env=CORRIDOR, env_kwargs={"length": 6}, import_module="unstuck.testing")
    code = [
        *lines(agent, tmp_path / 'an "agent".vecnormalize.pkl', task),
        *lines(plain, None, task),
        "gym = __import__('gymnasium'); gym.register('Plain-v0', 'unstuck.testing:Corridor', max_episode_steps=9)",
        *lines(plain, None, TaskConfig(env="Plain-v0")),
    ]
    text = "\n".join(code).replace('lambda: make_env("Plain-v0")', '"Plain-v0"')
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["return -60 ± 0", "return -60 ± 0", "return -9 ± 0"], done.stderr


def test_without_unstuck_where_gymnasium_makes_the_task(tmp_path):
    agent = save_stuck_agent(tmp_path / "a.zip", CORRIDOR)
    assert "unstuck" not in "".join(lines(agent, None, TaskConfig(env="Hopper-v5"))).replace(str(tmp_path), "")
    wrapped = TaskConfig(env="Hopper-v5", env_kwargs={"frame_stack": 2})
    assert 'lambda: make_env("Hopper-v5", {"frame_stack": 2})' in lines(agent, None, wrapped)[1]


def test_a_diagnosis_in_two_lines():
    assert shortened("It hovers.") == "It hovers."
    assert shortened("It hovers. " + "And so on, ad infinitum. " * 20).startswith("It hovers. And so on")
    assert len(shortened("It hovers. " + "And so on, ad infinitum. " * 20)) <= 220
    assert shortened("word " * 100).endswith(" …")
    assert len(shortened("word " * 100)) <= 220


def test_watch_shows_a_run_before_and_after_side_by_side(tmp_path, capsys):
    from PIL import Image

    stuck = next(a for a in stuck_agents() if a.name == "mountaincar-no-flag")
    run = open_run(RunConfig(agent=AgentConfig(agent=f"stuck/{stuck.name}")), tmp_path / "run")
    with pytest.raises(SystemExit):
        main(["watch", str(run.root)])
    assert "hands over no agent yet" in capsys.readouterr().err
    folder = run.root / "train" / "unstuck" / "1"
    folder.mkdir(parents=True)
    (folder / "agent.zip").write_bytes(run.agent_path.read_bytes())
    facts = TrainFacts(arm="unstuck", seed=1, budget=100_000, checkpoints=((10, "agent.zip"),))
    run.manifest.stages["train/unstuck/1"] = StageRecord(
        fingerprint="f", finished="2026-01-02T03:04:05+00:00", seconds=1.0, facts=facts.as_json()
    )
    run.configure(run.config)
    (run.root / SCORES).parent.mkdir()
    scores(unstuck=[points(9)]).write(run.root / SCORES)
    hand_over(run)
    report(run)
    page = (run.root / "report.html").read_text(encoding="utf-8")
    assert "See it before and after" in page
    assert 'src="data:image/gif;base64,R0lGOD' in page
    drawn = (run.root / "replay.gif").stat().st_mtime_ns
    hand_over(run)
    report(run)
    assert (run.root / "replay.gif").stat().st_mtime_ns == drawn  # drawn once
    main(["watch", str(run.root), "--max-frames", "6", "--width", "120", "--seed", "3"])
    assert "seed 3: return before -200, after" in capsys.readouterr().out
    with Image.open(run.root / "before-after.gif") as seen:
        assert seen.width == 2 * 120 + 6
        assert 6 <= seen.n_frames <= 8
