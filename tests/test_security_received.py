"""What received run folders say, wherever it is opened, imported, fetched or formatted.

A folder is read by the commands while every file that is opened, module that is imported, process and connection is
watched; whatever is planted outside must stay untouched, and no text may come alive in the page or in a model card.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstuck.cli import main
from unstuck.config import AgentConfig, LLMConfig, RunConfig, TaskConfig
from unstuck.episodes import Episode, save_episode
from unstuck.errors import RunError, UnstuckError
from unstuck.guidance import Action, Advice, Evidence, Guidance, Provenance, Term, Verdict, save_guidance
from unstuck.run import Run, write_json
from unstuck.testing import CORRIDOR, save_stuck_agent
from watching_cases import EVIL, harmless, watched

ALIVE = {"script", "iframe", "object", "embed", "link", "form", "base", "meta-refresh"}


def test_the_watch_sees_what_it_is_for(tmp_path: Path) -> None:
    with watched() as seen:
        (tmp_path / "x").write_text("x")
        with contextlib.suppress(ImportError):
            __import__("evil_module_that_is_not_there")
    for wrong in (tmp_path / "other", tmp_path):
        with pytest.raises(AssertionError):
            harmless(seen, wrong, tmp_path / "planted")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of somebody else, with everything in it that a run may have; written by hand."""
    from unstuck.diagnosis.panel import Finding, Panel
    from unstuck.results import RaceVerdict, RunVerdict, Scores, TrainFacts

    folder = tmp_path_factory.mktemp("whole")
    agent = save_stuck_agent(folder / "corridor.zip", CORRIDOR)
    task = TaskConfig(env=CORRIDOR, import_module="unstuck.testing")
    config = RunConfig(task=task, agent=AgentConfig(agent=str(agent)), train={"steps": 500, "seeds": (1,)})
    run = Run.create(folder / "run", config, {"agent": agent})
    with run.stage("collect", "f") as draft:
        for i in range(2):
            episode = Episode(
                index=i, seed=i, deterministic=i == 0, observations=np.linspace(0, 0.2, 5, dtype=np.float32)[:, None],
                actions=np.zeros(4, np.int64), rewards=-np.ones(4), terminated=False, truncated=True,
                signals={"value": np.arange(4.0)}, reward_parts={}, snapshots=None,
            )  # fmt: skip
            save_episode(episode, draft.folder / f"episode-{i:04d}.npz")
        draft.facts = {"deterministic": [-60.0], "sampled": [-60.0], "warnings": ["a warning"], "episodes": 2}
    state = {"x0": 0.1}
    advice = Advice(
        id="s1", kind="state", why="because", evidence=Evidence(episode=0, step=1, state=state),
        action=Action(index=1), reward=-0.5,
        verdict=Verdict(status="helpful", metric="return", gain=1.0, low=0.5, high=2.0, pairs=4, note="a note"),
    )  # fmt: skip
    guidance = Guidance(
        env_id=CORRIDOR, diagnosis="It goes left.", summary="In short.", advice=(advice,),
        reward_terms=(Term(variable="x0", weight=1.0, cap=2.0, why="nearer"),), scales={"x0": (0.0, 1.0)},
        provenance=Provenance(explainer="llm", model="a model", recordings=("x",), dropped=("left out",)),
    )  # fmt: skip
    for stage, name in (("explain", "advice.json"), ("verify", "guidance.json")):
        with run.stage(stage, "f") as draft:
            save_guidance(guidance, draft.folder / name)
            draft.publish = [(name, name)]
            draft.facts = {"model": "a model", "explainer": "llm", "calls": 1, "tokens_in": 5, "tokens_out": 7}
    for arm in ("ppo", "unstuck"):
        with run.stage(f"train/{arm}/1", "f") as draft:
            shutil.copy(agent, draft.folder / "agent.zip")
            facts = TrainFacts(
                arm=arm, seed=1, steps=100, budget=500, checkpoints=((100, "agent.zip"),), warnings=("a warning",),
                notes=("a note",), backend="gymnasium", engine="fast",
            )  # fmt: skip
            facts.write(draft.folder / "info.json")
            points = [{"steps": s, "trained": s, "return_mean": -60.0 + s, "episodes": 2} for s in (10, 20, 30)]
            (draft.folder / "curve.jsonl").write_text("\n".join(map(json.dumps, points)))
            draft.facts = facts.as_json()
    scored = {"checkpoints": [{"deterministic": [-50.0, -40.0], "sampled": [-50.0, -45.0], "trained": 100}]}
    with run.stage("evaluate", "f") as draft:
        arms = {arm: {"charged": {"train": 100}, "seeds": {1: scored}} for arm in ("ppo", "unstuck")}
        before = {"deterministic": [-60.0, -59.0], "sampled": [-60.0, -58.0]}
        Scores.model_validate({"env_id": CORRIDOR, "before": before, "arms": arms}).write(draft.folder / "scores.json")
    race = {
        "handed": "finalist", "name": "afresh", "finalist": "afresh", "why": "it is better", "mode": "deterministic",
        "level": 0.05, "returns": {"finalist": [1.0, 2.0], "original": [0.0, 0.5]}, "seeds": [1, 2], "budget": 500,
        "over_original": {"mean": 1.0, "low": 0.5, "pairs": 2},
        "ladder": [{"name": "afresh", "reason": "new", "level": 1.0, "status": "winner", "note": "a note"}],
    }  # fmt: skip
    spread = {"mean": 1.0, "low": 0.5, "high": 1.5, "n": 2}
    RunVerdict.model_validate(
        {"chosen": "unstuck", "seed": 1, "trained": 100, "subject": "unstuck", "why": "it is best",
         "returns": dict.fromkeys(("unstuck", "before", "ppo"), spread), "differences": {"before": spread},
         "race": race}
    ).write(run.root / "verdict.json")  # fmt: skip
    RaceVerdict.model_validate(race).write(run.root / "train/unstuck/1/race.json")
    run.amend("train/unstuck/1")
    shutil.copy(agent, run.root / "agent.zip")
    finding = Finding(name="entropy", value=0.0, status="fault", meaning="It tries nothing.", remedy="Raise it.")
    panel = Panel(agent="corridor.zip", env=CORRIDOR, verdict="stuck", summary="It is stuck.", findings=(finding,))
    (run.root / "diagnosis.json").write_text(panel.as_json())
    main(["report", str(run.root)])
    return run.root


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in it texts stand, keys too: those end with None."""
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(value, dict):
            yield (*path, key, None)
        yield from texts(inner, (*path, key))


def planted(value: Any, path: tuple[Any, ...], text: str) -> Any:
    value = copy.deepcopy(value)
    *outer, last = path
    if last is None:
        *outer, last = outer
        place = value
        for key in outer:
            place = place[key]
        place[text] = place.pop(last)
        return value
    place = value
    for key in outer:
        place = place[key]
    place[last] = text
    return value


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.alive: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ALIVE:
            self.alive.append(tag)
        for name, value in attrs:
            loads = name in ("src", "href", "xlink:href", "action", "srcset", "data", "formaction")
            if name.startswith("on") or (loads and not (value or "").startswith(("#", "data:image/"))):
                self.alive.append(f"{tag} {name}={value}")


FILES = (
    "advice.json", "guidance.json", "verdict.json", "diagnosis.json", "manifest.json", "evaluate/scores.json",
    "train/unstuck/1/info.json", "train/unstuck/1/race.json", "train/unstuck/1/curve.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_no_text_of_a_run_folder_comes_alive(
    whole: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    """Every text in every file of it in turn hostile: a page of dead text, or an error that says which file."""
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    honest = json.loads((root / name).read_text().splitlines()[0] if name.endswith("l") else (root / name).read_text())
    places = [p for p in texts(honest) if not {"config", "seals", "files", "inputs", "format"} & set(map(str, p))]
    assert len(places) > 3
    # In one go where the file stays valid, and one by one for those that are checked.
    made, step = 0, max(1, len(places) // 4)
    for path in places[::step]:
        data = planted(honest, path, EVIL)
        (root / name).write_text(json.dumps(data))
        try:
            run = Run(root)
            if name.partition("/")[0] in ("train", "evaluate"):
                run.amend("/".join(name.split("/")[:-1]))
            from unstuck.stages.report import report

            report(run)
            made += 1
        except UnstuckError:
            continue
        page = Page((root / "report.html").read_text())
        assert not page.alive, (path, page.alive)
    assert made or name == "manifest.json"
    shown = "".join(capsys.readouterr())
    assert "\x1b]" not in shown


@pytest.mark.parametrize("command", ["report", "watch", "push", "evaluate", "prompt", "recordings list"])
@pytest.mark.parametrize("where", ["chosen", "name", "finalist", "subject"])
def test_names_in_a_verdict_lead_nowhere(
    whole: Path, tmp_path: Path, command: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    root, outside = tmp_path / "run", tmp_path / "planted"
    shutil.copytree(whole, root)
    outside.mkdir()
    shutil.copy(root / "agent.zip", outside / "agent.zip")
    data = json.loads((root / "verdict.json").read_text())
    holder = data["race"] if where in ("name", "finalist") else data
    holder[where] = "../../../planted"
    data["returns"]["../../../planted"] = data["returns"]["unstuck"]
    (root / "verdict.json").write_text(json.dumps(data))
    if command == "evaluate":
        # It is done already: what is there is shown.
        command = "report"
    words = [*command.split(), str(root), *(["someone/x", "--dry-run"] if command == "push" else [])]
    with watched() as seen, contextlib.suppress(SystemExit):
        main(words)
    assert any(str(root) in what for _, what, _ in seen)
    harmless(seen, root, outside)


HOSTILE_FACTS: dict[str, dict[str, Any]] = {
    "a checkpoint elsewhere": {"checkpoints": [[5, "../../../../planted/agent.zip"]]},
    "a checkpoint by its full path": {"checkpoints": [[5, "/etc/passwd"]]},
    "a round elsewhere": {"rounds": [{"round": 2, "folder": "../../planted"}]},
    "an arm elsewhere": {"arm": "../../../planted"},
}


@pytest.mark.parametrize("name", HOSTILE_FACTS)
def test_paths_in_training_facts_lead_nowhere(whole: Path, tmp_path: Path, name: str) -> None:
    root, outside = tmp_path / "run", tmp_path / "planted"
    shutil.copytree(whole, root)
    outside.mkdir()
    shutil.copy(root / "agent.zip", outside / "agent.zip")
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["stages"]["train/unstuck/1"]["facts"] |= HOSTILE_FACTS[name]
    (root / "manifest.json").write_text(json.dumps(manifest))
    for command in ("report", "watch"):
        with watched() as seen, contextlib.suppress(SystemExit):
            main([command, str(root)])
        harmless(seen, root, outside)


@pytest.mark.parametrize(
    "explain",
    [{"explainer": "evil"}, {"explainer": "evil:Class"}, {"explainer": "os:system"}, {"several": ["llm", "evil"]}],
    ids=str,
)
def test_an_explainer_that_a_folder_names_is_not_imported(
    whole: Path, tmp_path: Path, explain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    (tmp_path / "evil.py").write_text("open('pwned', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = json.loads((root / "manifest.json").read_text())
    data["config"]["explain"] |= explain
    (root / "manifest.json").write_text(json.dumps(data))
    for command in ("explain", "report", "train"):
        with pytest.raises(SystemExit):
            main([command, str(root)])
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("module", ["unstuck.__main__", "unstuck.cli", "unstuck.testing", "unstuck.evil"])
def test_modules_of_this_package_do_nothing_when_they_are_named(whole: Path, tmp_path: Path, module: str) -> None:
    """They are no sender's; but importing one must not run anything."""
    root, outside = tmp_path / "run", tmp_path / "planted"
    shutil.copytree(whole, root)
    data = json.loads((root / "manifest.json").read_text())
    data["config"]["task"]["import_module"] = module
    (root / "manifest.json").write_text(json.dumps(data))
    with watched() as seen, contextlib.suppress(SystemExit):
        main(["report", str(root)])
    harmless([s for s in seen if s[1] != "unstuck.evil"], root, outside)


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}, {"OpenAI-Organization": "org-evil"}],
    ids=str,
)
def test_headers_of_a_folder_are_confirmed_first(whole: Path, tmp_path: Path, headers: dict[str, str]) -> None:
    """They travel with the user's key: with another host, to whoever answers there."""
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    data = json.loads((root / "manifest.json").read_text())
    data["config"]["llm"] |= {"model": "openai:gpt-4o", "headers": headers}
    (root / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match=rf"sends the headers? {next(iter(headers))}"):
        Run(root)
    Run(root, trust=True)
    Run(root)


# --------------------------------------------------------------------------------------- model cards


def test_no_text_of_a_run_becomes_markup_of_a_model_card(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    from unstuck.hub.pushing import push

    root = tmp_path / "run"
    shutil.copytree(whole, root)
    for name in ("guidance.json", "manifest.json", "verdict.json"):
        text = (root / name).read_text()
        for word in ("It goes left.", "a model", "it is best", "In short.", "a note", "left out"):
            text = text.replace(json.dumps(word), json.dumps(EVIL))
        (root / name).write_text(text)
    with watched() as seen:
        done = push(Run(root), "someone/x", send=False, replay=False)
    harmless(seen, root, tmp_path / "planted")
    card = (done.folder / "README.md").read_text()
    assert "alert" in card
    assert "<script" not in card
    assert "<img" not in card
    assert "![x](" not in card
    assert "\x1b" not in card


def test_settings_of_a_run_are_no_yaml_of_a_sender(tmp_path: Path) -> None:
    """Numbers and words in env_kwargs that are pushed as YAML come back as they were, and as nothing else."""
    import yaml

    from unstuck.tasks.plain import plain_kwargs

    kwargs = {"map_name": "8x8", "is_slippery": False, "size": 4}
    assert plain_kwargs(yaml.safe_load(yaml.safe_dump(kwargs)))[0] == kwargs
    for odd in ("!!python/name:os.system", "*a", "&a b", "{", "8x8\n- evil"):
        assert plain_kwargs({"map_name": odd})[0] == {}


def test_a_received_configuration_goes_nowhere_by_itself(whole: Path, tmp_path: Path) -> None:
    """What a language model would be asked, and where: nothing but the names of services that have an address."""
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    run = Run(root)
    for model in ("http://evil.example/v1", "openai:../../evil", "evil:x", "test", "../x"):
        with watched() as seen, contextlib.suppress(SystemExit):
            main(["explain", str(root), "--llm", model, "--llm.timeout-s", "1", "--llm.patience-s", "0"])
        assert not [s for s in seen if s[0] == "socket.connect" and "evil" in str(s)]
    assert run.config.llm == LLMConfig()
    write_json(root / "x.json", {})
