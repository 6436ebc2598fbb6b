"""The coach asked again after the first rung: what it is told, that its answer races, and that it is asked once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import models

from unstuck import race, testing
from unstuck.config import CollectConfig, EvaluateConfig, RaceConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.errors import NoRecordingError
from unstuck.explainers.llm.feedback import follow_up
from unstuck.guidance import Guidance, Provenance
from unstuck.llm import LLMConfig
from unstuck.llm.recordings import Recordings, record
from unstuck.llm.requests import Request
from unstuck.pipeline import open_run
from unstuck.race import feedback, spread
from unstuck.results import RaceVerdict
from unstuck.rounds import train
from unstuck.run import Run
from unstuck.stages.collect import collect
from unstuck.stages.explain import explain, prompts
from unstuck.stages.verify import verify
from unstuck.workspace import Workspace

BUDGET = 16_000


def reply(run: Run, weight: float) -> str:
    name = Workspace(run).describer.card.variable_names[1]
    term = {"variable": name, "weight": weight, "cap": 5, "when": [], "why": "Speed to the right."}
    states = [{"episode": 0, "step": 5, "why": "Left.", "action_delta": [0.5], "hold": 5, "when": None}]
    said = {"analysis": "Left.", "diagnosis": f"Weight {weight}.", "critical_states": states, "reward_terms": [term]}
    return json.dumps({**said, "progress": {"terms": [term]}, "treatments": []})


def answer(store: Recordings, request: Request, text: str) -> None:
    store.save(record(request, text, model="by hand", provenance="by hand", created="2026-01-01"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(race, "free_cores", lambda: 1)
    agent = testing.save_stuck_agent(tmp_path / "push.zip", testing.PUSH, bias=4.0)
    config = RunConfig(
        task=TaskConfig(env=testing.PUSH, import_module="unstuck.testing"),
        agent={"agent": str(agent)},
        llm=LLMConfig(model="recorded"),
        collect=CollectConfig(episodes=6, max_steps=400),
        train=TrainConfig(
            steps=BUDGET, seeds=(1,), method="race", n_envs=8, n_steps=32, batch_size=64, critic_warmup=200,
            control=False,
        ),
        race=RaceConfig(treatments=("continue", "guidance", "small-batches"), feedback=True),
        evaluate=EvaluateConfig(episodes=2, before_episodes=2),
    )  # fmt: skip
    found = open_run(config, tmp_path / "run")
    collect(found)
    answer(Recordings(found.recordings_path), prompts(found)[0], reply(found, 1.0))
    explain(found)
    verify(found)
    return found


def test_it_is_told_what_came_of_its_guidance_and_asked_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store, home = Recordings(run.recordings_path), run.root / "race" / "race" / "1"
    with pytest.raises(NoRecordingError, match=r"turn 2"), models.override_allow_model_requests(False):
        train(run)
    (asked,) = store.pending()
    assert [m.role for m in asked.messages] == ["user", "assistant", "user"]
    assert asked.parent == prompts(run)[0].key
    text = asked.messages[-1].content
    assert all(f"## {name}" in text for name in ("continue", "guidance"))
    assert "term 1: +1 · " in text
    assert "rank correlation" in text
    rung = {p: p.stat().st_mtime_ns for p in home.rglob("cell.json")}
    assert rung
    answer(store, asked, reply(run, 2.0))

    # Killed in the leg of the newcomer, and gone on with: nobody is asked a second time.
    done = spread.run_leg

    def killed(leg: Any) -> dict[str, Any]:
        if leg.name == "guidance@2":
            raise KeyboardInterrupt
        return done(leg)

    monkeypatch.setattr(spread, "run_leg", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(spread, "run_leg", done)
    monkeypatch.setattr(feedback, "ask_again", lambda *_, **__: pytest.fail("it was asked again"))
    train(run)
    assert all(p.stat().st_mtime_ns == when for p, when in rung.items())
    verdict = RaceVerdict.read(run.root / "train" / "race" / "1" / "race.json")
    (newcomer,) = (r for r in verdict.ladder if r.name.endswith("guidance@2"))
    assert newcomer.trained > 0
    assert "asked again" in newcomer.reason
    assert verdict.charged.total <= BUDGET
    found = json.loads((home / "feedback" / "cell.json").read_text())["found"]
    assert found["guidance"]["provenance"]["recordings"] == [asked.key]
    assert found["guidance"]["reward_terms"][0]["weight"] == 2.0


def test_a_coach_that_cannot_be_asked_holds_up_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from unstuck.errors import BudgetError

    def refuse(*_: Any, **__: Any) -> Any:
        raise BudgetError("the cap")

    monkeypatch.setattr(feedback, "ask_again", refuse)
    train(run)
    verdict = RaceVerdict.read(run.root / "train" / "race" / "1" / "race.json")
    assert not any("@2" in r.name for r in verdict.ladder)
    assert "the cap" in (run.root / "race" / "race" / "1" / "feedback" / "cell.json").read_text()


def test_guidance_of_a_person_has_no_conversation_to_go_on_with(tmp_path: Path) -> None:
    store = Recordings(tmp_path)
    by_hand = Guidance(env_id="X", diagnosis="d")
    assert follow_up(store, by_hand, "what came of it") is None
    first = Request.of("prompt", sample=3)
    answer(store, first, "reply")
    asked = by_hand.model_copy(update={"provenance": Provenance(explainer="llm", recordings=(first.key,))})
    request = follow_up(store, asked, "what came of it")
    assert request is not None
    assert (request.sample, request.parent, len(request.messages)) == (3, first.key, 3)


def test_races_without_feedback_keep_their_fingerprint() -> None:
    assert "feedback" not in RaceConfig().model_dump()
    assert RaceConfig(feedback=True).model_dump()["feedback"] is True
