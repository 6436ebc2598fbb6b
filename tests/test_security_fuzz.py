"""Property tests: whatever a guidance file, a card, a manifest, YAML or a reply holds, the error is a clean one.

A few thousand cases here; UNSTUCK_FUZZ=N makes N of each kind. Honest files mutated (`fuzzing.py`) are cheap enough for
a million of them: `python -m benchmarks.faults --only fuzz --count 1000000`, which goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzz_readers
import fuzzing
from unstuck.agents._pickles import read_pickle
from unstuck.agents._yaml import read_pairs
from unstuck.errors import UnstuckError
from unstuck.guidance import load_guidance
from unstuck.run import Run
from unstuck.tasks import load_card
from unstuck.tasks.plain import foreign, plain_kwargs
from unstuck.terminal import safe

CASES = int(os.environ.get("UNSTUCK_FUZZ", "300"))
many = settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
NAMES = st.sampled_from(
    ["format", "env_id", "diagnosis", "advice", "id", "when", "variable", "low", "high", "action", "values", "index",
     "delta", "why", "reward_terms", "weight", "cap", "progress", "terms", "verdict", "status", "provenance", "stages",
     "config", "task", "env", "env_kwargs", "agent_file", "round", "outer", "seals", "facts", "fingerprint", "seeds"]
)  # fmt: skip
ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NAMES
    | st.sampled_from([1e308, -1e308, 10**30, "\x1b[2J", "../..", "os:system", "\ud800", "nan", "CartPole-v1"])
)  # fmt: skip
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fuzzing.Reader]:
    return {reader.name: reader for reader in fuzz_readers.readers(tmp_path_factory.mktemp("fuzz"))}


@pytest.mark.filterwarnings("ignore")
def test_honest_files_mutated(readers: dict[str, fuzzing.Reader]) -> None:
    for reader in readers.values():
        for honest in reader.honest:
            reader.read(honest)
    faults = list(fuzzing.fuzz(list(readers.values()), CASES * 10, seed=int(os.environ.get("UNSTUCK_FUZZ_SEED", "1"))))
    assert not faults, faults[0]


def test_the_fuzzer_sees_a_reader_that_fails() -> None:
    """Of each kind that it looks for: another error than a clean one, and what a file must not get through."""

    def careless(data: bytes) -> None:
        assert json.loads(data)["weight"] < 1e300

    found = list(fuzzing.fuzz([fuzzing.Reader("careless", (b'{"weight": 1.0, "why": "x"}',), careless)], 300, seed=0))
    kinds = {fault.what.partition(":")[0] for fault in found}
    assert {"AssertionError", "JSONDecodeError", "KeyError", "TypeError"} <= kinds


def written(path: Path, value: Any) -> Path:
    path.write_bytes(json.dumps(value).encode("utf-8", "surrogatepass"))
    return path


@pytest.fixture(scope="module")
def guidance() -> dict[str, Any]:
    text = Path(__file__).parents[1] / "src/unstuck/demo/guidance.json"
    if text.is_file():
        return json.loads(text.read_text())
    return {"format": 1, "env_id": "CartPole-v1", "diagnosis": "x", "advice": [], "reward_terms": []}


@many
@given(value=VALUES, name=NAMES)
def test_guidance(tmp_path: Path, guidance: dict[str, Any], value: Any, name: str) -> None:
    for data in (value, guidance | {name: value}):
        with contextlib.suppress(UnstuckError):
            load_guidance(written(tmp_path / "g.json", data))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from unstuck.config import RunConfig, TaskConfig

    folder = tmp_path_factory.mktemp("run")
    (folder / "a.zip").write_bytes(b"agent")
    run = Run.create(folder / "run", RunConfig(task=TaskConfig(env="CartPole-v1")), {"agent": folder / "a.zip"})
    with run.stage("collect", "f") as draft:
        draft.facts = {"deterministic": [1.0]}
    return json.loads((run.root / "manifest.json").read_text())


@many
@given(value=VALUES, name=NAMES, section=st.sampled_from(["task", "agent", "train", "verify", "llm", "collect"]))
def test_manifests(tmp_path: Path, manifest: dict[str, Any], value: Any, name: str, section: str) -> None:
    config = manifest["config"]
    stage = manifest["stages"]["collect"]
    for data in (
        value,
        manifest | {name: value},
        manifest | {"config": config | {section: config[section] | {name: value}}},
        manifest | {"config": config | {section: dict.fromkeys(config[section], value)}},
        manifest | {"stages": {name: stage | {name: value}, str(value)[:30]: stage}},
    ):
        written(tmp_path / "manifest.json", data)
        try:
            run = Run(tmp_path)
        except UnstuckError:
            continue
        task = run.config.task
        assert not foreign(task.env, task.env_kwargs)
        assert task.import_module in (None, "")
        assert not run.config.agent.trust
        assert not run.config.llm.base_url
        with contextlib.suppress(UnstuckError):
            run.need("collect")


@many
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_cards_that_are_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(data)
    with contextlib.suppress(UnstuckError):
        load_card(tmp_path / "c.toml")


@many
@given(text=st.text(alphabet="!&*-[]{}:, \n\tab'\"<|>%@`#01.~", max_size=120))
def test_yaml(text: str) -> None:
    for head in ("", "!!python/object/apply:collections.OrderedDict\n- - - "):
        with contextlib.suppress(UnstuckError):
            assert isinstance(read_pairs(head + text), dict)


@many
@given(data=st.binary(max_size=120))
def test_pickles(data: bytes) -> None:
    for head in (b"", b"\x80\x04", b"\x80\x04ccollections\nOrderedDict\n"):
        with contextlib.suppress(UnstuckError):
            read_pickle(head + data, "x")


@many
@given(kwargs=st.dictionaries(NAMES | st.text(max_size=10) | st.just("env_wrapper"), VALUES, max_size=4))
def test_keyword_arguments(kwargs: dict[str, Any]) -> None:
    kept, refused = plain_kwargs(kwargs)
    assert plain_kwargs(kept) == (kept, [])
    assert len(kept) + len(refused) >= len({k: v for k, v in kwargs.items() if k != "env_wrapper"})
    assert bool(refused) == bool(foreign("CartPole-v1", kwargs))


@many
@given(text=st.text(alphabet=st.characters(), max_size=60))
def test_what_is_shown(text: str) -> None:
    assert safe(safe(text)) == safe(text)
    assert all(c in "\t\n" or (ord(c) >= 32 and not 127 <= ord(c) < 160) for c in safe(text))


@many
@given(value=VALUES, text=st.text(max_size=80))
def test_replies(value: Any, text: str) -> None:
    from unstuck.explainers.llm.reply import Reply
    from unstuck.llm.replies import read_reply

    for reply in (text, json.dumps(value), f"```json\n{json.dumps(value)}\n```", json.dumps(value)[:-1]):
        reading = read_reply(reply, Reply)
        assert reading.value is not None or reading.problems
