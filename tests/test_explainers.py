"""Explainers of other packages, found through entry points; several put together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from grid_cases import collected
from unstuck.config import ExplainConfig
from unstuck.errors import UnstuckError
from unstuck.explainers import Explanation, names
from unstuck.explainers.several import merged
from unstuck.guidance import Action, Advice, Condition, Guidance, ProgressMeasure, Provenance, Term, Treatment
from unstuck.progress import Progress as Shown
from unstuck.run import Run
from unstuck.stages.explain import explain, fingerprint
from unstuck.stages.report import report
from unstuck.testing import CORRIDOR, save_stuck_agent

ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"


def example() -> tuple[str, str]:
    """The module and the entry point that the documentation shows."""
    section = ARCHITECTURE.read_text(encoding="utf-8").split("### An explainer\n")[1].split("\n## ")[0]
    return tuple(re.search(rf"```{kind}\n(.*?)```", section, re.S)[1] for kind in ("python", "toml"))


@pytest.fixture
def package(tmp_path, monkeypatch) -> None:
    """The documentation's example, installed as another package is."""
    module, table = example()
    (name, value), *_ = re.findall(r"^(\S+) = \"(\S+)\"", table, re.M)
    folder = tmp_path / "site"
    info = folder / "bad_moments-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "bad_moments.py").write_text(module, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-moments\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[unstuck.explainers]\n{name} = {value}\nbroken = bad_moments:np\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture(scope="module")
def agent(tmp_path_factory) -> Path:
    return save_stuck_agent(tmp_path_factory.mktemp("agent") / "left.zip", CORRIDOR)


class Said(Shown):
    """Keeps what is said; draws no bars."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def with_settings(run: Run, **settings) -> Run:
    run.configure(run.config.model_copy(update={"explain": ExplainConfig(**settings)}))
    return run


def test_the_example_is_short() -> None:
    assert len(example()[0].splitlines()) < 60


def test_an_explainer_of_another_package(tmp_path, agent, package) -> None:
    assert "bad-moments" in names()
    run = with_settings(collected(tmp_path / "run", CORRIDOR, agent), explainer="bad-moments", options={"before": 2})
    said = Said()
    found = explain(run, said)
    assert said.lines == ["explain: without a language model (looking 2 steps before the lowest rewards)"]
    assert found.provenance.explainer == "bad-moments"
    assert run.record("explain").facts == {"explainer": "bad-moments", "episodes": len(found.advice)}
    mark = fingerprint(run)
    explain(run, said)
    assert len(said.lines) == 1, "done, so not done again"
    with_settings(run, explainer="bad-moments", options={"before": 2}, search_states=3, prompt_tokens=2_000)
    assert fingerprint(run) == mark, "other explainers' settings are nothing to it"
    with_settings(run, explainer="bad-moments", options={"before": 3})
    assert fingerprint(run) != mark
    assert "a search for the lowest rewards; no language model" in report(run).read_text(encoding="utf-8")


def test_what_is_wrong_with_options_and_packages_is_said(tmp_path, agent, package) -> None:
    run = collected(tmp_path / "run", CORRIDOR, agent)
    with pytest.raises(UnstuckError, match=r"explain.options of 'bad-moments':\nbefor: Extra inputs"):
        explain(with_settings(run, explainer="bad-moments", options={"befor": 2}))
    with pytest.raises(UnstuckError, match="'search' has settings of its own"):
        explain(with_settings(run, explainer="search", options={"before": 2}))
    with pytest.raises(UnstuckError, match=r"'broken' \(bad_moments:np\) is no class of"):
        explain(with_settings(run, explainer="broken"))
    with pytest.raises(ValidationError, match="no explainer 'bad-moment'"):
        ExplainConfig(explainer="bad-moment")
    with pytest.raises(UnstuckError, match="each of them once"):
        explain(with_settings(run, explainer="several", several=("search", "search")))


def test_several_are_asked_and_merged(tmp_path, agent, package) -> None:
    run = collected(tmp_path / "run", CORRIDOR, agent)
    alone = explain(with_settings(run, explainer="search", search_states=2))
    steps = run.record("explain").env_steps
    both = explain(with_settings(run, explainer="several", several=("search", "bad-moments"), search_states=2))
    assert both.advice[: len(alone.advice)] == alone.advice
    assert {a.id for a in both.advice[len(alone.advice) :]} == {f"bad-moments-b{i}" for i in range(4)}
    record = run.record("explain")
    assert record.env_steps == steps > 0
    assert list(record.facts["members"]) == ["search", "bad-moments"]
    mark = fingerprint(run)
    for changed in ({"search_states": 3}, {"options": {"before": 7}}):
        with_settings(
            run, **{"explainer": "several", "several": ("search", "bad-moments"), "search_states": 2} | changed
        )
        assert fingerprint(run) != mark


def opinion(name: str, weight: float | None, treatments: tuple[str, ...], tokens: int | None) -> Explanation:
    terms = () if weight is None else (Term(variable="x", weight=weight, cap=1.0),)
    rule = Advice(
        id="r1", kind="rule", why=name, when=(Condition(variable="x", op="<", value=0.0),), action=Action(index=1)
    )
    guidance = Guidance(
        env_id="e", diagnosis=f"{name} says.", advice=(rule,), reward_terms=terms,
        progress=ProgressMeasure(terms=terms) if terms else None,
        treatments=tuple(Treatment(name=t, reason=name) for t in treatments),
        provenance=Provenance(explainer="llm", model=name, recordings=(name,)),
    )  # fmt: skip
    return Explanation(guidance, 10, {"tokens_in": tokens, "model": name}, {"note.txt": name.encode()})


def test_opinions_together_are_worth_what_one_is() -> None:
    found = merged({
        "a": opinion("a", None, ("afresh",), 5), "b": opinion("b", 2.0, ("thaw", "afresh"), 7),
        "c": opinion("c", -4.0, (), 1),
    })  # fmt: skip
    guidance = found.guidance
    assert [a.id for a in guidance.advice] == ["r1", "b-r1", "c-r1"]
    assert [t.weight for t in guidance.reward_terms] == [1.0, -2.0]
    assert guidance.progress is not None
    assert guidance.progress.terms[0].weight == 2.0
    assert [(t.name, t.reason) for t in guidance.treatments] == [("afresh", "a"), ("thaw", "b")]
    assert guidance.diagnosis == "a: a says.\nb: b says.\nc: c says."
    assert guidance.provenance.recordings == ("a", "b", "c")
    assert (found.env_steps, found.facts["tokens_in"], found.files) == (30, 13, {"note.txt": b"a"})
    unknown = merged({"a": opinion("a", 1.0, (), None), "b": opinion("b", 1.0, (), 3)})
    assert unknown.facts["tokens_in"] is None, "a cost that is not known is not left out of the sum"
