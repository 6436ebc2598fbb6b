"""What agents, logs beside them, episodes and ledgers of others say, wherever it is opened, unpacked or counted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN, PPO

from unstuck.agents import load_agent
from unstuck.agents.history import learning_curve
from unstuck.episodes import load_episode
from unstuck.errors import AgentError, RunError
from unstuck.llm.ledger import Ledger
from watching_cases import harmless, watched

# -------------------------------------------------------------------------------------------- agents


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
    *(("dqn", "learning_rate", v) for v in (INF, 1e30, -1.0, 10**400)),
    *(("ppo", "gamma", v) for v in (NAN, INF, -3.0, 7.0, 10**400)),
    *(("ppo", "gae_lambda", v) for v in (NAN, 1e300, -1.0)),
    *(("ppo", "n_steps", v) for v in (10**15, NAN, -1)),
    *(("ppo", "n_epochs", v) for v in (10**12, -1)),
    *(("ppo", "n_envs", v) for v in (10**12, NAN)),
    *(("ppo", "num_timesteps", v) for v in (NAN, INF, 10**400, -5)),
    *(("ppo", "sde_sample_freq", v) for v in (NAN, 10**400)),
    *(("ppo", "clip_range", v) for v in (NAN, 1e300, 10**400)),
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


# -------------------------------------------------------------------- logs beside an agent, episodes


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


# ------------------------------------------------------------------------------------------- ledgers


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
