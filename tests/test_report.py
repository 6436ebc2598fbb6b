"""The report page, from fake run folders at every stage."""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from html import unescape
from html.parser import HTMLParser

import gymnasium as gym
import numpy as np
import pytest

from unstuck.config import AgentConfig, RunConfig, TaskConfig
from unstuck.diagnosis import Finding, Panel
from unstuck.episodes import Episode, EpisodeSet
from unstuck.guidance import (
    Action,
    Advice,
    AnyOf,
    Condition,
    Evidence,
    Guidance,
    Near,
    ProgressMeasure,
    Provenance,
    Term,
    Verdict,
    save_guidance,
)  # fmt: skip
from unstuck.results import (
    VERDICT,
    AgentScores,
    ArmScores,
    Charges,
    CheckpointScores,
    Gain,
    RaceVerdict,
    Rank,
    Returns,
    RunVerdict,
    Scores,
    TrainFacts,
)  # fmt: skip
from unstuck.run import Run, StageRecord
from unstuck.stages.evaluate import SCORES
from unstuck.stages.report import outcome, report
from unstuck.stages.report.reproduce import toml

EVIL = "<script>alert('x')</script><img src=http://example.org/a.png>"
PPO = (-200.0, -200.0, -200.0)
GUIDED = (-141.2, -145.0, -139.5)


def make_run(root, env="MountainCar-v0", **config) -> Run:
    root.mkdir(parents=True, exist_ok=True)
    agent = root / "stuck-agent.zip"
    with zipfile.ZipFile(agent, "w") as archive:
        archive.writestr(zipfile.ZipInfo("data"), "{}")
    settings = RunConfig(task=TaskConfig(env=env), agent=AgentConfig(agent="stuck-agent.zip"), **config)
    return Run.create(root / "run", settings, {"agent": agent})


def enter(run: Run, stage: str, env_steps=0, seconds=1.0, **facts) -> None:
    """Put a finished stage into the manifest."""
    run.manifest.stages[stage] = StageRecord(
        fingerprint="f", finished="2026-01-02T03:04:05+00:00", seconds=seconds, env_steps=env_steps, facts=facts
    )
    run.configure(run.config)


def add_episodes(run: Run, steps=60) -> None:
    """Episodes of a car that pushes left, then right."""
    folder = run.root / "collect"
    folder.mkdir()
    env = gym.make("MountainCar-v0")
    for index in range(2):
        obs, _ = env.reset(seed=index)
        seen, actions = [obs], [0 if t < steps // 2 else 2 for t in range(steps)]
        seen += [env.step(a)[0] for a in actions]
        episode = Episode(index, index, True, np.stack(seen), np.array(actions), np.full(steps, -1.0), False, False)
        EpisodeSet(folder).add(episode)
    env.close()
    enter(run, "collect", 2400, 2.5, deterministic=[-200.0] * 6, sampled=[-200.0] * 6, snapshots="deepcopy")


def judged(status, gain, low, high, steps=320) -> Verdict:
    return Verdict(status=status, metric="progress", gain=gain, low=low, high=high, pairs=8, steps=steps)


def guidance() -> Guidance:
    slow = Condition(variable="velocity", abs=True, op="<", value=0.01)
    right = Condition(variable="velocity", op=">", value=0.001)
    edge = AnyOf(any=(Condition(variable="position", op="<=", value=-1.1), right))
    return Guidance(
        env_id="MountainCar-v0",
        diagnosis=f"The car pushes right all the time and never gathers speed. {EVIL}",
        summary="Every episode ends at the time limit in the valley.",
        advice=(
            Advice(id="s1", kind="state", why=f"At the turning point it should let itself fall back. {EVIL}",
                   evidence=Evidence(episode=0, step=20, state={"position": -0.71, "velocity": -0.0123}),
                   near=Near(point={"position": -0.71}, radius=0.1), action=Action(index=0), hold=4, reward=0.5,
                   verdict=judged("helpful", 0.31, 0.12, 0.5)),
            Advice(id="s2", kind="state", why="Pushing against its own speed wastes the swing.", when=(slow,),
                   evidence=Evidence(episode=1, step=55, state={"position": -0.4, "velocity": 0.01}),
                   action=Action(index=2), reward=-0.25,
                   verdict=judged("harmful", -0.2, -0.3, -0.1)),
            Advice(id="r1", kind="rule", why="Push the way it moves.", when=(right,), action=Action(index=2),
                   verdict=judged("unresolved", 0.02, -0.1, 0.14, 160)),
            Advice(id="r2", kind="rule", why="Else push left.", when=(edge,), action=Action(index=0), enabled=False),
        ),
        reward_terms=(Term(variable="velocity", abs=True, above=0.02, weight=2, cap=0.05, why="Speed is height."),),
        progress=ProgressMeasure(
            terms=(Term(variable="position", weight=1, cap=1.2),), aggregate="max", why="The flag."
        ),
        set_verdict=Verdict(status="helpful", metric="return", gain=30.0, low=None, high=None, pairs=4, steps=1600),
        provenance=Provenance(explainer="llm", model="some:model", dropped=(f"rule 3: no variable 'speed' {EVIL}",)),
    )  # fmt: skip


def add_training(run: Run, arms=("ppo", "unstuck"), seeds=(1, 2, 3)) -> None:
    for arm in arms:
        charged = {"train": 28672} if arm == "ppo" else {"collect": 2400, "explain": 0, "verify": 2400, "train": 24576}
        offset = sum(charged.values()) - charged["train"]
        for seed in seeds:
            folder = run.root / "train" / arm / str(seed)
            folder.mkdir(parents=True)
            lines = []
            for i, trained in enumerate(range(2048, charged["train"] + 1, 2048)):
                gained = 0 if arm == "ppo" else min(55, 7 * i) + seed
                lines.append({
                    "steps": offset + trained, "trained": trained, "return_mean": None if i == 0 else -200.0 + gained,
                    "hit_rate": None if arm == "ppo" else 0.4 - 0.01 * i, "episodes": 10,
                })  # fmt: skip
            (folder / "curve.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"steps": 9')
            facts = TrainFacts(
                arm=arm, seed=seed, charged=charged, budget=run.config.train.steps, warnings=(f"odd {EVIL}",)
            )
            enter(run, str(facts.key), charged["train"], 20.0, **facts.as_json())


def add_scores(run: Run, ppo=PPO, guided=GUIDED, sampled=None) -> None:
    """`sampled`: (ppo, guided), by default the same as deterministic. An arm that is None is left out."""
    by_mode = {"ppo": (ppo, (sampled or (ppo, guided))[0]), "unstuck": (guided, (sampled or (ppo, guided))[1])}
    charged = {"ppo": {"train": 28672}, "unstuck": {"collect": 2400, "verify": 2400, "train": 24576}}
    arms = {
        arm: ArmScores(
            charged=charged[arm], seeds={i: one_score(d, s) for i, (d, s) in enumerate(zip(*each, strict=True), 1)}
        )
        for arm, each in by_mode.items()
        if each[0] is not None
    }
    before = Returns(deterministic=[-200.0] * 20, sampled=[-200.0] * 20)
    (run.root / "evaluate").mkdir(exist_ok=True)
    Scores(env_id="MountainCar-v0", before=before, arms=arms).write(run.root / SCORES)
    enter(run, "evaluate", 36000, 12.0)


def one_score(deterministic: float, sampled: float) -> AgentScores:
    point = CheckpointScores(trained=24576, deterministic=[deterministic], sampled=[sampled])
    return AgentScores(checkpoints=(point,))


def full_run(root) -> Run:
    run = make_run(root)
    add_episodes(run)
    enter(
        run, "explain", 0, 31.0, explainer="llm", tokens_in=8123, tokens_out=1954, cost_usd=0.0412, calls=1, replayed=0
    )
    enter(run, "verify", 2400, 4.0, enabled=True)
    save_guidance(guidance(), run.guidance_path)
    add_training(run)
    add_scores(run)
    return run


class Page(HTMLParser):
    """What a browser would do with the page: tags, addresses, visible text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.addresses, self.text, self._stack = [], [], "", []
        self.html = html
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._stack.append(tag)
        self.addresses += [
            v for k, v in attrs if k in ("src", "href", "xlink:href", "action", "srcset", "data", "poster")
        ]

    def handle_endtag(self, tag):
        while self._stack and self._stack.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._stack:
            self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = full_run(tmp_path_factory.mktemp("full"))
    path = report(run)
    assert path == run.root / "report.html"
    assert not list(run.root.glob("*.partial"))
    return Page(path.read_text(encoding="utf-8"))


def test_nothing_comes_from_outside(page):
    assert page.addresses, "frames and figures have addresses of their own"
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in page.addresses)
    assert "url(http" not in page.html
    assert "@import" not in page.html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:;")


def test_untrusted_text_is_shown_and_never_run(page):
    assert not {"script", "iframe", "object", "link", "form"} & set(page.tags)
    assert page.text.count("<script>alert('x')</script>") >= 4  # diagnosis, rationale, dropped, warnings
    assert not re.search(r"\son\w+=", page.html)


def test_sections_in_order(page):
    headings = re.findall(r"<h2>(.*?)</h2>", page.html)
    assert headings == [
        "Before and after", "Learning curves", "Diagnosis", "Critical states", "Rules", "Reward terms",
        "Progress measure", "What verification found", "What the coach said that was dropped",
        "How often advice applied in training", "Cost", "Caveats", "How to reproduce this",
    ]  # fmt: skip


def test_every_piece_of_advice_is_there_in_words(page):
    for advice in guidance().advice:
        assert advice.why in page.text
    assert page.tags.count("img") == 2
    assert "velocity −0.0123" in page.text
    assert "held for 4 steps" in page.text
    assert "the size of velocity is below 0.01" in page.text
    assert "either position is at most −1.1" in page.text
    assert "velocity is above 0.001" in page.text
    assert "switched off" in page.text
    assert "+2 for each unit by which" in page.text
    assert "the size of velocity exceeds 0.02" in page.text
    assert "taken at its highest on a branch" in page.text
    assert "some:model" in page.text


def test_verdicts_have_words_and_numbers(page):
    assert "helpful gain 0.31 [0.12, 0.5] in progress, 8 pairs, 320 steps" in page.text
    assert "harmful gain −0.2 [−0.3, −0.1]" in page.text
    assert "unresolved" in page.text
    assert "not tested" in page.text
    assert "gain 30 (no interval) in return" in page.text


def test_shares_are_of_the_collected_states(page, tmp_path):
    run = make_run(tmp_path)
    add_episodes(run)
    velocity = np.concatenate([e.observations[:, 1] for e in EpisodeSet(run.root / "collect")])
    assert f"Applies in {100 * np.mean(np.abs(velocity) > 0.02):.0f} % of the collected states" in page.text
    assert f"holds in {100 * np.mean(velocity > 0.001):.0f} % of the collected states" in page.text


def test_cost_and_reproduction(page):
    for text in ("8,123", "1,954", "$0.04", "collect 2,400, verify 2,400, train 24,576", "29,376", "36,000"):
        assert text in page.text
    assert "unstuck refine stuck-agent.zip --env MountainCar-v0" in page.text
    assert "Fewer than five seeds" in page.text
    for name in ("python", "stable-baselines3", "torch", "gymnasium"):
        assert name in page.text
    settings = unescape(re.search(r"--config.*?<pre[^>]*>(.*?)</pre>", page.html, re.S)[1])
    assert RunConfig.model_validate(tomllib.loads(settings)).train.late_checkpoints == 3


def test_settings_read_back_as_they_were():
    odd = {"a b": [1, 2.5, {"c": "d"}], "deep": {"x": True, "é": "ü\n", "y": {"z": []}}, "none": {}}
    task = TaskConfig(env='A "b"-v0\\', env_kwargs=odd)
    config = RunConfig(task=task, agent=AgentConfig(agent="x'y"))
    text = toml(config.model_dump(mode="json", exclude_none=True))
    assert RunConfig.model_validate(tomllib.loads(text)) == config


def test_same_run_same_page(tmp_path):
    run = full_run(tmp_path)
    first = report(run).read_bytes()
    assert report(run).read_bytes() == first


def test_ids_of_figures_are_not_shared(page):
    ids = re.findall(r'\bid="([^"]+)"', page.html)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("stages", range(6))
def test_every_stage_may_be_missing(tmp_path, stages):
    run = make_run(tmp_path)
    steps = [
        lambda: add_episodes(run),
        lambda: (enter(run, "explain"), save_guidance(guidance(), run.advice_path)),
        lambda: enter(run, "verify"),
        lambda: add_training(run, seeds=(1,)),
        lambda: add_scores(run, PPO[:1], GUIDED[:1]),
    ]
    for step in steps[:stages]:
        step()
    page = Page(report(run).read_text(encoding="utf-8"))
    for i, stage in enumerate(("collect", "explain", "verify", "train", "evaluate")):
        missing = f"unstuck {stage} {run.root}" in page.text
        if (stage == "verify" and stages < 2) or stage == "collect":
            continue  # said together with the stage before
        assert missing == (i >= stages), stage


def test_guidance_that_was_edited_badly_is_named(tmp_path):
    run = full_run(tmp_path)
    run.guidance_path.write_text('{"env_id": 3}')
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "guidance.json cannot be shown" in text
    assert "env_id" in text


def test_guidance_of_unknown_variables_and_episodes_is_shown(tmp_path):
    run = full_run(tmp_path)
    odd = Term(variable="moon_phase", weight=1, cap=1)
    gone = Advice(id="s9", kind="state", why="Long gone.", evidence=Evidence(episode=77, step=3))
    save_guidance(guidance().model_copy(update={"reward_terms": (odd,), "advice": (gone,)}), run.guidance_path)
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "moon_phase" in text
    assert "Long gone." in text


def test_task_that_cannot_be_made_here(tmp_path):
    run = full_run(tmp_path)
    task = run.config.task.model_copy(update={"env": "NoSuchTask-v0"})
    run.configure(run.config.model_copy(update={"task": task}))
    page = Page(report(run).read_text(encoding="utf-8"))
    assert "could not be drawn here" in page.text
    assert "img" not in page.tags
    assert all(a.why in page.text for a in guidance().advice)


def test_without_a_language_model_it_says_so(tmp_path):
    run = make_run(tmp_path)
    found = guidance().model_copy(update={"provenance": Provenance(explainer="search")})
    save_guidance(found, run.guidance_path)
    enter(run, "explain", 500, explainer="search")
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "LLM-free" in text
    assert "none was used" in text


def test_unknown_cost_is_not_called_free(tmp_path):
    run = full_run(tmp_path)
    enter(run, "explain", explainer="llm", tokens_in=10, cost_usd=None)
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "Money not known" in text or "Moneynot known" in text


def test_an_unwritable_folder_keeps_the_old_page(tmp_path, monkeypatch):
    import os

    from unstuck.errors import RunError

    run = make_run(tmp_path)
    old = report(run).read_bytes()
    add_scores(run)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left"):
        report(run)
    assert (run.root / "report.html").read_bytes() == old
    assert not list(run.root.glob("report*.partial"))


def test_outcome_is_public(tmp_path):
    assert outcome(full_run(tmp_path)).report.name == "report.html"


def test_the_diagnosis_of_the_agent_is_shown_and_a_damaged_one_is_not(tmp_path):
    run = make_run(tmp_path)
    fault = Finding(
        name="noise", value=0.01, unit="of half the range", status="fault", threshold=0.05, side="below",
        meaning=EVIL, remedy="Thaw.",
    )  # fmt: skip
    fine = Finding(name="settings", status="ok", meaning="Common.")
    panel = Panel(agent="a", env="E-v0", verdict="stuck", summary="Stuck, it is.", findings=(fault, fine))
    (run.root / "diagnosis.json").write_text(panel.as_json(), encoding="utf-8")
    page = report(run).read_text("utf-8")
    assert "Stuck, it is." in page
    assert "below 0.05" in page
    assert "In order: settings" in page
    assert "<script>" not in page
    (run.root / "diagnosis.json").write_text("{", encoding="utf-8")
    assert "The agent as it was given" not in report(run).read_text("utf-8")


def panel(**more) -> Panel:
    findings = (
        Finding(name="saturated-units", value=0.9, unit="of a layer's units", status="fault", threshold=0.6,
                source="measured", meaning=f"Gradients hardly pass. {EVIL}", remedy="Transplant it.",
                treatments=("transplant",)),
        Finding(name="entropy", value=0.5, status="ok", meaning="It explores."),
    )  # fmt: skip
    given = {"agent": "a.zip", "env": "MountainCar-v0", "verdict": "stuck", "summary": "Stuck. It stands still."}
    return Panel(**(given | {"findings": findings} | more))


def test_the_panel_is_shown_on_top_and_in_full(tmp_path):
    run = full_run(tmp_path)
    (run.root / "diagnosis.json").write_text(panel().as_json())
    page = Page(report(run).read_text(encoding="utf-8"))
    head = page.text[: page.text.index("Before and after")]
    assert "Why it was stuck: The car pushes right all the time and never gathers speed." in head
    assert "Measured: saturated units 0.9 of a layer's units." in head
    assert "Stuck. It stands still." in page.text
    assert "fault saturated units: 0.9 of a layer's units (suspicious above 0.6)" in page.text
    assert "Transplant it. Threshold: measured." in page.text
    assert "In order: entropy" in page.text
    assert not {"script", "iframe", "object", "link", "form"} & set(page.tags)
    (run.root / "diagnosis.json").write_text('{"format": 1}')
    assert "diagnosis.json cannot be shown" in Page(report(run).read_text(encoding="utf-8")).text


def test_the_panel_says_why_where_nobody_explained(tmp_path):
    run = make_run(tmp_path)
    (run.root / "diagnosis.json").write_text(panel().as_json())
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "Why it was stuck: It stands still. Measured: saturated units" in text


def test_a_race_shows_its_ladder(tmp_path):
    run = full_run(tmp_path)
    ladder = (
        Rank(name="transplant", reason="means beyond bounds", trained=40_960, level=-120.5, status="winner"),
        Rank(name="plain PPO", trained=20_480, level=-200.0, forecast=-199.0, status="dropped", note=f"behind {EVIL}"),
    )
    race = RaceVerdict(
        handed="finalist", name="transplant", finalist="transplant", why="It is better than the agent before.",
        mode="deterministic", level=0.05, ladder=ladder, charged=Charges({"collect": 2_000, "train": 61_440}),
        over_original=Gain(mean=79.5, low=70.25, pairs=16), over_trunk=Gain(mean=80.0, low=None, pairs=16),
        budget=100_000,
    )  # fmt: skip
    nothing = {"mean": -200.0, "low": None, "high": None, "n": 1}
    RunVerdict(
        chosen="unstuck", seed=1, trained=40_960, subject="unstuck", returns={"before": nothing},
        differences={"before": nothing}, why="the race", race=race,
    ).write(run.root / VERDICT)  # fmt: skip
    page = Page(report(run).read_text(encoding="utf-8"))
    assert "The race It is better than the agent before." in page.text.replace("race It", "race It")
    assert (
        "transplant over the agent before: 79.5 per episode in 16 pairs, at least 70.2 with 95 % confidence."
        in page.text
    )
    assert "transplant over plain PPO, continued for as long: 80 per episode in 16 pairs." in page.text
    assert "63,440 of 100,000 environment steps: collect 2,000, train 61,440." in page.text
    for text in ("winner", "dropped", "40,960", "−199", "means beyond bounds"):
        assert text in page.text
    assert not {"script", "iframe", "object", "link", "form"} & set(page.tags)


def test_figures_are_images_with_a_title_and_the_page_has_a_main(page):
    assert page.tags.count("main") == 1
    titles = re.findall(
        r'<svg role="img" aria-labelledby="([^"]+)"[^>]*><title id="([^"]+)">([^<]+)</title>', page.html
    )
    assert len(titles) == page.tags.count("svg") == 3
    assert all(a == b for a, b, _ in titles)
    assert titles[0][2] == "Return per episode, deterministic: Before -200; PPO continued -200; Unstuck -142"
    tables = re.findall(r"<table", page.html)
    assert len(re.findall(r'<div class="scroll"[^>]*><table', page.html)) == len(tables), "each scrolls by itself"


def test_a_training_in_which_no_episode_ended_was_recorded_all_the_same(tmp_path):
    run = full_run(tmp_path)
    for path in run.root.glob("train/*/*/curve.jsonl"):
        path.write_text('{"steps": 2048, "trained": 2048, "return_mean": null, "hit_rate": null, "episodes": 0}\n')
    assert "No episode ended in training" in Page(report(run).read_text(encoding="utf-8")).text


def test_advice_written_into_the_empty_file_is_a_persons(tmp_path):
    run = full_run(tmp_path)
    save_guidance(guidance().model_copy(update={"provenance": Provenance(explainer="nothing")}), run.guidance_path)
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "In the words of the coach, a person (guidance written by hand):" in text
