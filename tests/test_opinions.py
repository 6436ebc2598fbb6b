"""Several opinions of one run: samples, models, fallbacks; and the command that shows, discards and exports them."""

from __future__ import annotations

import copy
import json

import pytest

from test_explain_stage import REPLY, Script, agent, make_run  # noqa: F401  # `agent` is a fixture
from unstuck.cli import main
from unstuck.errors import LLMError
from unstuck.explainers.llm.facts import Wanted
from unstuck.explainers.llm.form import reply_schema
from unstuck.guidance import load_guidance
from unstuck.llm import LLMConfig
from unstuck.progress import Progress
from unstuck.run import Run
from unstuck.stages.explain import explain, prompts, recordings_of
from unstuck.workspace import Workspace

FIRST, SECOND = "openai:gpt-4o-mini", "openai:gpt-4o"


class Models:
    """One model for each name in the configuration, in the order in which they are asked."""

    def __init__(self, *replies):
        from pydantic_ai.models.function import FunctionModel

        self.script = Script(*replies)
        self.model = FunctionModel(self.script)


def said(words):
    return {**copy.deepcopy(REPLY), "diagnosis": words}


@pytest.fixture
def run(tmp_path, agent):  # noqa: F811
    return make_run(tmp_path / "run", agent, llm=LLMConfig(model=FIRST))


def configured(run, **llm):
    run.configure(run.config.model_copy(update={"llm": LLMConfig(**{"model": FIRST, **llm})}))
    return run


def opinions(run):
    return [load_guidance(p).diagnosis for p in sorted(run.root.glob("guidance-[0-9]*.json"))]


def test_samples_are_recorded_each_and_stand_side_by_side(run, capsys):
    models = Models(said("one"), said("two"), said("three"))
    configured(run, samples=3)
    assert [r.sample for r in prompts(run)] == [0, 1, 2]
    lines = []
    assert explain(run, model=models.model).diagnosis == "one"
    assert opinions(run) == ["two", "three"]
    assert len(recordings_of(run).all(writable_only=True)) == 3
    assert run.record("explain").facts["opinions"] == 3
    explain(run, model=models.model)  # not asked again
    configured(run, samples=2)
    assert explain(run, model=models.model).diagnosis == "one"
    assert opinions(run) == ["two"]
    assert not lines


def test_all_models_are_asked_or_the_first_that_gives_a_reply(run):
    models = Models("no", "no", said("of the second"))
    configured(run, models=(SECOND,))
    told = []
    progress = Progress.silent()
    progress.say = told.append
    assert explain(run, progress, model=models.model).provenance.model == SECOND
    assert any("one opinion less" in t for t in told)
    assert any("calls" in t or "call" in t for t in told)
    both = Models(said("of the first"))
    configured(run, models=(SECOND,), ask="all")
    assert explain(run, model=both.model).diagnosis == "of the first"
    assert opinions(run) == ["of the second"]


def test_opinions_can_be_merged(run):
    models = Models(said("one"), said("two"))
    guidance = explain(configured(run, samples=2, opinions="merged"), model=models.model)
    assert guidance.diagnosis == "opinion 1: one\nopinion 2: two"
    assert [a.kind for a in guidance.advice] == ["rule", "state", "rule", "state"]
    assert len({a.id for a in guidance.advice}) == 4
    assert opinions(run) == []


def test_no_usable_reply_at_all_is_the_first_error(run):
    models = Models("no", "no", "no", "no")
    with pytest.raises(LLMError, match="gpt-4o-mini gave no usable reply"):
        explain(configured(run, models=(SECOND,)), model=models.model)


def test_fresh_explains_again(run):
    models = Models(said("one"), said("two"))
    explain(run, model=models.model)
    run.configure(run.config.model_copy(update={"llm": LLMConfig(model=FIRST, fresh=True)}))
    assert explain(run, model=models.model).diagnosis == "two"
    assert not Run(run.root).config.llm.fresh


def test_rules_alone_are_put_to_use(run):
    reply = {**said("rules"), "critical_states": [{"episode": 99, "step": 1, "why": "", "action": 1}]}
    models = Models(reply, reply)
    guidance = explain(run, model=models.model)
    assert [a.kind for a in guidance.advice] == ["rule"]
    assert any("99" in d for d in guidance.provenance.dropped)


def test_the_form_of_a_reply_allows_what_the_prompt_asks_for(run):
    card = Workspace(run).describer.card
    schema = reply_schema(card, Wanted(terms=False))
    assert set(schema["properties"]) >= set(REPLY)
    assert "reward_terms" not in schema["properties"]
    state = schema["properties"]["critical_states"]["items"]["properties"]
    assert state["action"]["enum"] == [0, 1]
    assert "reward" not in state
    names = schema["properties"]["rules"]["items"]["properties"]["when"]["items"]["anyOf"][0]["properties"]["variable"]
    assert names["enum"] == list(card.variable_names)


def test_the_command_lists_shows_discards_exports_and_imports(run, capsys, tmp_path):
    models = Models(said("bad"), said("good"))
    explain(run, model=models.model)
    root = str(run.root)
    main(["recordings", "list", root])
    shown = capsys.readouterr().out
    key = prompts(run)[0].key
    assert key in shown
    assert "Spent: 1 call" in shown
    main(["recordings", "show", root, key[:6]])
    shown = capsys.readouterr().out
    assert "# QUESTION" in shown
    assert '"bad"' in shown
    main(["recordings", "export", root, str(tmp_path / "none.jsonl")])
    assert "Every prompt has its reply" in capsys.readouterr().err
    main(["recordings", "discard", root, key])
    main(["recordings", "export", root, str(tmp_path / "out.jsonl"), "--format", "anthropic"])
    line = json.loads((tmp_path / "out.jsonl").read_text())
    assert line["custom_id"] == key
    capsys.readouterr()
    main(["recordings", "list", root])
    shown = capsys.readouterr().out
    assert "(discarded)" in shown
    assert "waits for a reply" in shown
    reply = {"custom_id": key, "reply": json.dumps(said("relayed")), "provenance": "by hand"}
    (tmp_path / "in.jsonl").write_text(json.dumps(reply) + "\n")
    main(["recordings", "import", root, str(tmp_path / "in.jsonl"), "--model", FIRST])
    assert explain(Run(root), model=models.model).diagnosis == "relayed"


@pytest.mark.parametrize(
    ("args", "words"),
    [(["shoW"], "is none of"), (["show"], "needs a key"), (["import"], "needs a file"), (["show", "ff"], "no reply")],
)
def test_mistakes_in_the_command_are_named(run, capsys, args, words):
    with pytest.raises(SystemExit):
        main(["recordings", args[0], str(run.root), *args[1:]])
    assert words in capsys.readouterr().err
