"""Settings, cards, guidance and replies that no run can use: a clean error each, and at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unstuck.cli import main
from unstuck.config import RunConfig
from unstuck.errors import UnstuckError
from unstuck.guidance import load_guidance
from unstuck.llm import Recordings, import_batch
from unstuck.tasks import load_card

INF, NAN = float("inf"), float("nan")
SETTINGS: dict[str, dict[str, Any]] = {
    "negative seed": {"train": {"seeds": [-5]}},
    "no seeds": {"train": {"seeds": []}},
    "seeds twice": {"train": {"seeds": [1, 2, 1]}},
    "a seed too large": {"train": {"seeds": [2**40]}},
    "infinite learning rate": {"train": {"learning_rate": INF}},
    "huge learning rate": {"train": {"learning_rate": 1e30}},
    "NaN learning rate": {"train": {"learning_rate": NAN}},
    "infinite clip range": {"train": {"clip_range": INF}},
    "infinite entropy": {"train": {"ent_coef": INF}},
    "huge entropy": {"train": {"ent_coef": 1e30}},
    "infinite imitation": {"train": {"guide": {"imitate": INF}}},
    "negative horizon": {"verify": {"horizon": -3}},
    "no horizon": {"verify": {"horizon": 0}},
    "a million checkpoints": {"train": {"late_checkpoints": 1_000_000}},
    "a billion environments": {"train": {"n_envs": 10**9}},
    "a billion rounds": {"train": {"rounds": 10**9}},
    "a billion jobs": {"train": {"jobs": 10**9}},
    "a name that is a path": {"train": {"name": "../../x"}},
    "negative seed of collecting": {"collect": {"seed": -1}},
    "negative seed of verifying": {"verify": {"seed": -1}},
    "negative seed of evaluating": {"evaluate": {"seed": -1}},
    "infinite cost": {"llm": {"max_cost_usd": INF}},
    "NaN temperature": {"llm": {"temperature": NAN}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_out_of_reach(name: str) -> None:
    with pytest.raises(ValueError, match=r"validation error"):
        RunConfig.model_validate(SETTINGS[name])


@pytest.mark.parametrize(
    "words",
    ["--seeds -5", "--seeds 1 1", "--train.learning-rate inf", "--train.learning-rate 1e30", "--verify.horizon -3",
     "--train.late-checkpoints 1000000", "--train.name ../x", "--collect.seed -1", "--train.ent-coef nan"],
)  # fmt: skip
def test_the_command_line_says_so(words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["refine", "nothing.zip", "--env", "CartPole-v1", *words.split()])
    assert stopped.value.code in (1, 2)
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said
    assert "should not have happened" not in said


BROKEN = {
    "binary": b"\x80\x04\x95\xff\x00",
    "half a character": "ö".encode()[:1],
    "UTF-16": "{}".encode("utf-16"),
    "nothing": b"",
    "zeros": b"\x00" * 100,
    "nested lists": b"[" * 200_000,
    "nested objects": b'{"a":' * 100_000,
    "nested TOML": b"a = " + b"[" * 100_000,
    "nested tables": b"a" + b".a" * 50_000 + b" = 1",
    "a number too long": b"a = " + b"9" * 10_000,
    "a list": b"[1, 2]",
    "doubled keys": b'{"format": 1, "format": 1}',
    "a line without end": b'{"a": "' + b"x" * 100_000,
    "escape sequences": b"\x1b[2J\x1b]0;x\x07",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["card", "guidance", "replies", "config", "suite", "manifest"])
def test_broken_files_of_every_kind(tmp_path: Path, name: str, kind: str, capsys: pytest.CaptureFixture) -> None:
    names = {"card": "card.toml", "config": "s.toml", "suite": "s.toml", "manifest": "manifest.json"}
    path = tmp_path / names.get(kind, "x")
    path.write_bytes(BROKEN[name])
    if kind == "card":
        with pytest.raises(UnstuckError, match=r"card\.toml"):
            load_card(path)
    elif kind == "guidance":
        with pytest.raises(UnstuckError, match="x"):
            load_guidance(path)
    elif kind == "replies":
        try:
            summary = import_batch(path, Recordings(tmp_path / "r"), provenance="by hand")
        except UnstuckError:
            return
        assert summary.problems
        assert not summary.stored
    else:
        words = {"config": ["refine", "a.zip", "--config", str(path)], "suite": ["bench", str(path)],
                 "manifest": ["report", str(tmp_path)]}[kind]  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_doubled_fields_in_guidance_are_named(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text('{"advice": [{"id": "a", "id": "b"}]}')
    with pytest.raises(UnstuckError, match="'id' is there twice"):
        load_guidance(tmp_path / "g.json")


@pytest.mark.parametrize("created", [10**18, -(10**18), 10**400, 1e308, "soon", None, [], True, -1, 0])
def test_a_date_that_is_none_does_not_stop_an_import(tmp_path: Path, created: Any) -> None:
    from unstuck.llm import Request

    store = Recordings(tmp_path / "r")
    for text in ("one", "two"):
        store.save_pending(Request.of(text))
    good = {"custom_id": Request.of("two").key, "reply": "fine"}
    body = {"choices": [{"message": {"content": "hello"}}], "created": created, "model": "m"}
    odd = {"custom_id": Request.of("one").key, "response": {"status_code": 200, "body": body}}
    (tmp_path / "replies.jsonl").write_text(f"{json.dumps(odd)}\n{json.dumps(good)}\n")
    summary = import_batch(tmp_path / "replies.jsonl", store, provenance="by hand")
    assert Request.of("two").key in summary.stored


def test_nothing_is_left_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    from unstuck.tasks import make_env

    env = make_env("Hopper-v5")
    env.reset(seed=0)
    import mujoco

    assert mujoco.__version__
    env.unwrapped.data.qpos[:] = 1e12
    env.step(env.action_space.sample())
    env.close()
    assert list(tmp_path.iterdir()) == []
