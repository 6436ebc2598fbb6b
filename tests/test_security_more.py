"""What received run folders, agents, suites and logs say, wherever it is opened, imported, fetched or formatted.

A folder is read by the commands while every file that is opened, module that is imported, process and connection is
watched; whatever is planted outside must stay untouched, and no text may come alive in the page.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN, PPO

from unstuck.agents import load_agent
from unstuck.agents.history import learning_curve
from unstuck.cli import main
from unstuck.config import AgentConfig, LLMConfig, RunConfig, TaskConfig
from unstuck.episodes import Episode, load_episode, save_episode
from unstuck.errors import AgentError, RunError, UnstuckError
from unstuck.guidance import Action, Advice, Evidence, Guidance, Provenance, Term, Verdict, save_guidance
from unstuck.llm.ledger import Ledger
from unstuck.run import Run, write_json
from unstuck.testing import CORRIDOR, save_stuck_agent

EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>'\"><a href=javascript:alert(1)>a</a>"
    "\x1b]0;x\x07$x_{\\g<0>\\1{{7*7}}{%x%}http://evil.example/x.png ![x](http://evil.example/y.png)"
)
ALIVE = {"script", "iframe", "object", "embed", "link", "form", "base", "meta-refresh"}


# --------------------------------------------------------------------------------------------- what is watched

_SEEN: list[tuple[str, str, str]] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _SEEN is None:
        return
    if event == "open" and isinstance(args[0], (str, bytes)):
        _SEEN.append((event, os.fsdecode(args[0]), str(args[1] or "")))
    elif event in ("import", "subprocess.Popen", "os.system", "os.exec", "socket.connect", "socket.getaddrinfo"):
        _SEEN.append((event, str(args[0]), str(args[1]) if len(args) > 1 else ""))


sys.addaudithook(_watch)


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[str, str, str]]]:
    global _SEEN
    _SEEN = seen = []
    try:
        yield seen
    finally:
        _SEEN = None


def harmless(seen: list[tuple[str, str, str]], root: Path, outside: Path) -> None:
    """Nothing planted was opened or imported, nothing written beside the run folder, nobody called."""
    for event, what, more in seen:
        assert event in ("open", "import"), (event, what, more)
        assert str(outside) not in what, (event, what)
        assert "evil" not in what.partition(str(root))[0], (event, what)
        if event == "open" and set(more) & set("wax+"):
            assert what.startswith((str(root), "/dev/")), f"{what} was opened to be written ({more})"


def test_the_watch_sees_what_it_is_for(tmp_path: Path) -> None:
    with watched() as seen:
        (tmp_path / "x").write_text("x")
        with contextlib.suppress(ImportError):
            __import__("evil_module_that_is_not_there")
    for wrong in (tmp_path / "other", tmp_path):
        with pytest.raises(AssertionError):
            harmless(seen, wrong, tmp_path / "planted")


# ------------------------------------------------------------------------------------- a received run folder


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


# --------------------------------------------------------------------------------------- money and addresses


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


@pytest.mark.parametrize("cost", [-1e6, float("nan"), float("-inf"), float("inf"), "free"])
@pytest.mark.parametrize("event", ["sent", "replied"])
def test_a_ledger_cannot_lift_the_caps(tmp_path: Path, cost: Any, event: str) -> None:
    sent = {"call": "a1", "event": "sent", "at": "2020", "key": "k", "model": "m", "tokens": 500, "cost_usd": 3.0}
    odd = {**sent, "call": "b2" if event == "sent" else "a1", "event": event, "tokens": 5, "cost_usd": cost}
    (tmp_path / "ledger.jsonl").write_text(f"{json.dumps(sent)}\n{json.dumps(odd)}\n")
    calls = Ledger(tmp_path).calls()
    assert sum(c.cost_usd or 0.0 for c in calls) == 3.0
    assert sum(c.tokens for c in calls) == 500


@pytest.mark.parametrize("name", ["../../planted", "/etc/hostname", "a/b", "..", "a\\b", "", "-", "x" * 500, "a\x00b"])
def test_calls_in_a_ledger_are_no_paths(tmp_path: Path, name: str) -> None:
    line = {"call": name, "event": "sent", "at": "2020", "key": "k", "model": "m", "tokens": 5, "cost_usd": 3.0}
    (tmp_path / "ledger.jsonl").write_text(json.dumps(line) + "\n")
    assert Ledger(tmp_path).calls() == []


@pytest.mark.parametrize("event", ["free", None, [], {}, 1, "x" * 5000])
def test_an_end_that_a_call_cannot_have_is_none(tmp_path: Path, event: Any) -> None:
    sent = {"call": "a1", "event": "sent", "at": "2020", "key": "k", "model": "m", "tokens": 500, "cost_usd": 3.0}
    ended = {**sent, "event": event, "tokens": 0, "cost_usd": 0.0}
    (tmp_path / "ledger.jsonl").write_text(f"{json.dumps(sent)}\n{json.dumps(ended)}\n")
    (call,) = Ledger(tmp_path).calls()
    assert (call.state, call.tokens, call.cost_usd) == ("out", 500, 3.0)


# ------------------------------------------------------------------------------------------------------- agents


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("agents")
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu").save(folder / "ppo.zip")
    DQN("MlpPolicy", "CartPole-v1", buffer_size=10, seed=0, device="cpu").save(folder / "dqn.zip")
    return {"ppo": folder / "ppo.zip", "dqn": folder / "dqn.zip"}


NAN, INF = float("nan"), float("inf")
NUMBERS = [
    *(("dqn", "buffer_size", v) for v in (10**12, 10**400, -1, 0, NAN, 1e300)),
    *(("dqn", "batch_size", v) for v in (10**12, -5, 0, INF)),
    *(("dqn", "gradient_steps", v) for v in (10**9, NAN, 10**400)),
    *(("dqn", "learning_starts", v) for v in (10**30, NAN)),
    *(("dqn", "tau", v) for v in (NAN, -1.0, 1e9)),
    *(("dqn", "target_update_interval", v) for v in (-1, NAN, 10**400)),
    *(("dqn", "learning_rate", v) for v in (INF, 1e30, -1.0)),
    *(("ppo", "gamma", v) for v in (NAN, INF, -3.0, 7.0, 10**400)),
    *(("ppo", "gae_lambda", v) for v in (NAN, 1e300, -1.0)),
    *(("ppo", "n_steps", v) for v in (10**15, NAN, -1)),
    *(("ppo", "n_epochs", v) for v in (10**12, -1)),
    *(("ppo", "n_envs", v) for v in (10**12, NAN)),
    *(("ppo", "num_timesteps", v) for v in (NAN, INF, 10**400, -5)),
    *(("ppo", "sde_sample_freq", v) for v in (NAN, 10**400)),
    *(("ppo", "clip_range", v) for v in (NAN, 1e300)),
    *(("ppo", "ent_coef", v) for v in (INF, -1e30)),
]


def with_entries(source: Path, target: Path, **entries: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, json.dumps(json.loads(content) | entries) if name == "data" else content)
    return target


@pytest.mark.parametrize(("kind", "name", "value"), NUMBERS, ids=lambda v: str(v)[:12])
def test_an_agents_own_settings_are_bounded(
    agents: dict[str, Path], tmp_path: Path, kind: str, name: str, value: Any
) -> None:
    """They decide how much memory is taken and how long an update lasts: those beyond reason are not used."""
    agent = load_agent(with_entries(agents[kind], tmp_path / "a.zip", **{name: value}))
    assert agent.hyperparameters[name] is None
    assert any(name in note for note in agent.notes)
    from unstuck.algorithms.settings import ReplaySettings

    if kind == "dqn":
        from unstuck.algorithms.replaying import cadence

        assert max(cadence(agent, ReplaySettings())) < 10**6


@pytest.mark.parametrize(
    "entries",
    [{"tensorboard_log": "{marker}"}, {"_logger": "{marker}"}, {"env": "evil:CartPole-v1"}, {"device": "cuda:99"},
     {"verbose": 10**9}, {"_vec_normalize_env": "{marker}"}, {"replay_buffer_class": "evil.Buffer"},
     {"policy_class": {":type:": "x", ":serialized:": ""}}, {"seed": -(10**400)}],
    ids=str,
)  # fmt: skip
def test_what_else_an_agents_file_names_is_left_alone(
    agents: dict[str, Path], tmp_path: Path, entries: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "planted"
    filled = json.loads(json.dumps(entries).replace("{marker}", str(marker)))
    path = with_entries(agents["ppo"], tmp_path / "a.zip", **filled)
    with watched() as seen, contextlib.suppress(AgentError):
        load_agent(path)
    harmless(seen, tmp_path, marker)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../pwned", "/pwned-by-zip", "..\\pwned", "a/../../pwned", "policy.pth/../../pwned"])
def test_members_of_an_agents_zip_are_never_unpacked(agents: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    path = folder / "a.zip"
    shutil.copy(agents["ppo"], path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "pwned")
    before = sorted(tmp_path.rglob("*"))
    with watched() as seen:
        load_agent(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert not any(set(more) & set("wax+") for event, _, more in seen if event == "open")


# --------------------------------------------------------------------------------- logs beside an agent, episodes


class Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "marker")))
    assert (tmp_path / "marker").is_dir()


def npy(shape: str, kind: str = "<f8", data: bytes = b"") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


ARRAYS = {
    "a terabyte": npy("(10**12,)".replace("10**12", str(10**12))),
    "more than there is": npy(f"({2**62},)"),
    "a negative size": npy("(-5,)"),
    "code": npy("(__import__('os').mkdir('MARKER'),)"),
    "a text": npy("(1,)", "<U4", b"a\0\0\0" * 4),
    "many axes": npy("(" + "1," * 40 + ")"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", [*ARRAYS, "a pickle"])
@pytest.mark.parametrize("kind", ["evaluations", "episode", "states"])
def test_arrays_that_are_none(tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from unstuck.treatments import States

    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "MARKER"
    if name == "a pickle":
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array([Trap(marker)], dtype=object))
        content = buffer.getvalue()
    else:
        content = ARRAYS[name]
    members = {
        "evaluations": ("timesteps", "results"), "episode": ("meta", "rewards", "actions", "observations"),
        "states": ("modes", "rewards", "ends", "terminated", "observations/", "last/"),
    }[kind]  # fmt: skip
    path = tmp_path / {"evaluations": "evaluations.npz", "episode": "episode-0000.npz", "states": "states.npz"}[kind]
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(f"{member}.npy", content)
    if kind == "evaluations":
        assert learning_curve(tmp_path) is None
    elif kind == "episode":
        with pytest.raises(RunError, match="not a readable episode"):
            load_episode(path)
    else:
        with pytest.raises(RunError, match=r"states\.npz"):
            States.load(path)
    assert not marker.exists()


def test_events_of_tensorboard_that_are_none(tmp_path: Path) -> None:
    """Records that claim to be endless, or are noise, give no curve and no error."""
    pytest.importorskip("tensorboard")
    crc = struct.pack("<I", 0)
    for content in (
        struct.pack("<Q", 2**62) + crc + b"x" * 100, struct.pack("<Q", 2**33) + crc, b"\xff" * 5000, b"",
        struct.pack("<Q", 8) + crc + pickle.dumps(Trap(tmp_path / "marker"))[:8] + crc,
    ):  # fmt: skip
        (tmp_path / "events.out.tfevents.1.x").write_bytes(content)
        assert learning_curve(tmp_path) is None
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("0.monitor.csv", b"#" + b"[" * 100_000 + b"\nr,l,t\n1,1,1\n"),
        ("0.monitor.csv", b'#{"t_start": 1e999}\nr,l,t\n1,1,1\n'),
        ("0.monitor.csv", b"#{}\nr,l,t\n" + b"1" * 200_000 + b",1,1\n"),
        ("0.monitor.csv", b'#{}\nr,l,t\n"' + b"x" * 300_000),
        ("0.monitor.csv", b"#{}\nr,l,t\n1,9e400,1\n1,-5,1\n1,nan,2\n1,inf,3\n"),
        ("progress.csv", b"time/total_timesteps,rollout/ep_rew_mean\n" + b'"' * 200_001),
        ("progress.csv", b"time/total_timesteps,rollout/ep_rew_mean\n1e999,1\n5,nan\n-5,2\n"),
        ("curve.jsonl", b'{"steps": 1e400, "return_mean": NaN}\n' * 3),
        ("curve.jsonl", b"[" * 200_000),
    ],
    ids=range(9),
)
def test_curves_that_are_none(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert learning_curve(tmp_path) is None


# ------------------------------------------------------------------------------------------------------- suites

SUITE = """
name = "x"
methods = ["ppo"]
seeds = [1]
steps = 1000
{head}
[[tasks]]
name = "cartpole"
agent = "{agent}"
env = "CartPole-v1"
reference = 500.0
{task}
"""


@pytest.fixture
def suite(tmp_path: Path, agents: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNSTUCK_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "received" / "suites"
    folder.mkdir(parents=True)
    shutil.copy(agents["ppo"], folder / "a.zip")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("how", ["above", "full path", "link"])
def test_a_suite_quotes_no_file_from_elsewhere(suite: Path, tmp_path: Path, how: str) -> None:
    """What it quotes is published with its page."""
    from unstuck.bench.suite import SuiteError, load_suite

    secret = tmp_path / "secret.md"
    secret.write_text("the secret")
    named = {"above": "../../secret.md", "full path": str(secret), "link": "remarks.md"}[how]
    if how == "link":
        (suite / "remarks.md").symlink_to(secret)
    (suite / "suite.toml").write_text(SUITE.format(head=f'remarks = "{named}"', agent="a.zip", task=""))
    with pytest.raises(SuiteError, match="remarks"):
        load_suite(suite / "suite.toml").remarks_text  # noqa: B018


@pytest.mark.parametrize(
    "head", ['out = "/tmp/elsewhere"', 'out = "../elsewhere"', 'recordings = "/tmp/elsewhere"',
             'recordings = "../../../elsewhere"'],
)  # fmt: skip
def test_where_a_suite_would_write_is_confirmed_first(
    suite: Path, tmp_path: Path, head: str, capsys: pytest.CaptureFixture
) -> None:
    (suite / "suite.toml").write_text(SUITE.format(head=head, agent="a.zip", task=""))
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(suite / "suite.toml"), *(["--out", "mine"] if "recordings" in head else [])])
    assert stopped.value.code == 2
    assert "--trust-suite" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("agent", ["$UNSTUCK_TEST_SECRET", "${UNSTUCK_TEST_SECRET}/x.zip", "~/$UNSTUCK_TEST_SECRET"])
@pytest.mark.parametrize("optional", [False, True])
def test_a_suite_shows_no_environment_variable(
    suite: Path, agent: str, optional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why an agent is missing is said, and of an optional one written into the page."""
    from unstuck.bench.suite import SuiteError, load_suite, missing_agent

    monkeypatch.setenv("UNSTUCK_TEST_SECRET", "sk-secret-of-mine")
    more = "optional = true" if optional else ""
    (suite / "suite.toml").write_text(SUITE.format(head="", agent=agent, task=more))
    try:
        loaded = load_suite(suite / "suite.toml")
        said = missing_agent(loaded, loaded.tasks[0])
    except SuiteError as error:
        said = str(error)
    assert "there is no agent" in said
    assert "sk-secret-of-mine" not in said


# --------------------------------------------------------------------------------------------------- model cards


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
