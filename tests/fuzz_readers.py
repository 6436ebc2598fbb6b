"""Every reader of a file that somebody else may have written, with honest files of its kind and what it keeps to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing import Reader


def readers(folder: Path) -> list[Reader]:
    """All of them; their files are written into a folder."""
    made = [_guidance, _card, _manifest, _reply, _results, _panel, _recordings, _suite, _config, _yaml, _agents, _logs]
    return [reader for make in made for reader in make(folder)]


def _guidance(folder: Path) -> Iterator[Reader]:
    from explain_cases import CART, LAMP
    from unstuck.guidance import (
        Action,
        Advice,
        Guidance,
        Near,
        ProgressMeasure,
        Term,
        load_guidance,
        problems,
        save_guidance,
    )
    from unstuck.matching import Matcher, Terms

    for card, action in ((LAMP, Action(index=2)), (CART, Action(values=(0.5, -1.0), delta=True))):
        names, path = card.variable_names, folder / f"{card.env_id}.json"
        reply = _honest_reply(card.env_id)
        near = Near(point=dict.fromkeys(names, 0.5), radius=0.2)
        beside = Advice(id="n1", kind="state", why="x", near=near, action=action, reward=-0.5)
        whole = reply.model_copy(
            update={
                "advice": (*reply.advice, beside),
                "reward_terms": (*reply.reward_terms, Term(variable=names[0], weight=2.0, cap=3.0, why="x")),
                "progress": ProgressMeasure(terms=(Term(variable=names[0], weight=1.0, cap=5.0, why="x"),), why="x"),
            }
        )
        assert isinstance(whole, Guidance)
        save_guidance(whole, path)

        def read(data: bytes, card=card, names=names, path=path) -> None:
            path.write_bytes(data)
            held = load_guidance(path, card)
            assert not problems(held, card)
            rows = np.array([[0.0] * len(names), [1e30] * len(names), [-3.5] * len(names)])
            with np.errstate(invalid="raise", over="ignore"):
                if acting := tuple(a for a in held.advice if a.action is not None):
                    Matcher(acting, held, names).first(rows)
                if held.reward_terms:
                    paid = Terms(held.reward_terms, names)(rows[[0, 2]])
                    assert np.isfinite(paid).all(), paid
            save_guidance(held, path)
            written = path.read_bytes()
            save_guidance(load_guidance(path, card), path)
            assert path.read_bytes() == written

        yield Reader(f"guidance of {card.env_id}", (path.read_bytes(),), read)


@cache
def _honest_reply(env_id: str) -> Any:
    from explain_cases import CART, LAMP, cart_views, lamp_views
    from unstuck.explainers.llm.reply import Reply, ReplyReader

    card, views = (LAMP, lamp_views()) if env_id == LAMP.env_id else (CART, cart_views())
    return ReplyReader(views, card).guidance(Reply.model_validate(REPLIES[env_id]))


REPLIES: dict[str, dict[str, Any]] = {
    "Lamp-v0": {
        "analysis": "It walks to and fro.", "diagnosis": "It never gets there.",
        "critical_states": [
            {"episode": 0, "step": 3, "why": "turns back", "action": 2, "hold": 3, "reward": -0.5,
             "when": [{"variable": "x", "op": "<", "value": 5}]},
        ],
        "rules": [
            {"when": [{"variable": "x", "op": "<", "value": 4.5}], "action": 2, "why": "right is the lamp"},
            {"when": [{"any": [{"variable": "vx", "abs": True, "op": ">", "than": {"variable": "gap", "times": 2}},
                               {"variable": "gap", "op": "<=", "value": 0.1}]}], "action": 1, "why": "stay"},
        ],
        "reward_terms": [{"variable": "gap", "weight": -0.5, "cap": 5, "why": "nearer"}],
        "progress": {"terms": [{"variable": "x", "weight": 1, "cap": 5, "why": "x"}], "aggregate": "max", "why": "far"},
        "treatments": [{"name": "thaw", "why": "stiff"}],
    },
    "Cart-v0": {
        "analysis": "It stands.", "diagnosis": "It does not move.",
        "critical_states": [{"episode": 0, "step": 2, "why": "stands", "action_delta": [0.5, 0.0], "hold": 2}],
        "reward_terms": [{"variable": "speed", "weight": 1.0, "cap": 2, "why": "move",
                          "when": [{"variable": "tilt", "abs": True, "op": "<", "value": 0.8}]}],
    },
}  # fmt: skip


def _reply(folder: Path) -> Iterator[Reader]:
    from explain_cases import CART, LAMP, cart_views, lamp_views
    from unstuck.explainers.llm.reply import Reply, ReplyReader
    from unstuck.guidance import problems
    from unstuck.llm.replies import read_reply

    for card, views in ((LAMP, lamp_views()), (CART, cart_views())):
        reader = ReplyReader(views, card)
        text = json.dumps(REPLIES[card.env_id], indent=1)

        def read(data: bytes, reader=reader, card=card) -> None:
            reading = read_reply(data.decode("utf-8", "surrogateescape"), Reply, reader.check)
            value = reading.value
            if value is None:
                assert reading.problems
                value, _ = reader.salvage(reading.raw)
                if value is None:
                    return
            assert not problems(reader.guidance(value), card)

        yield Reader(f"reply on {card.env_id}", (text.encode(),), read)
        prose = f"Let me think: {{x}} first.\n\n```json\n{text}\n```\nThat is all."
        yield Reader(f"reply in prose on {card.env_id}", (prose.encode(),), read, json=False)


def _card(folder: Path) -> Iterator[Reader]:
    from explain_cases import CART, LAMP
    from unstuck.tasks import load_card
    from unstuck.tasks.cards import card_to_toml

    path = folder / "card.toml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        card = load_card(path)
        path.write_text(card_to_toml(card), encoding="utf-8")
        assert load_card(path) == card

    yield Reader("card", (card_to_toml(LAMP).encode(), card_to_toml(CART).encode()), read, json=False)


def _manifest(folder: Path) -> Iterator[Reader]:
    from unstuck.config import RunConfig, TaskConfig
    from unstuck.llm.config import DEFAULT_COST_USD
    from unstuck.results import trainings
    from unstuck.run import Run
    from unstuck.tasks.plain import foreign

    root, agent = folder / "run", folder / "a.zip"
    agent.write_bytes(b"agent")
    run = Run.create(root, RunConfig(task=TaskConfig(env="CartPole-v1")), {"agent": agent})
    for stage in ("collect", "explain", "train/ppo/1"):
        with run.stage(stage, "f") as draft:
            (draft.folder / "x.json").write_text("{}")
            draft.facts = (
                {"arm": "ppo", "seed": 1, "steps": 5} if stage.startswith("train") else {"deterministic": [1.0]}
            )
    path = root / "manifest.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        held = Run(root)
        config, task = held.config, held.config.task
        assert not foreign(task.env, task.env_kwargs)
        assert not task.import_module or task.import_module.startswith("unstuck.")
        assert not any((config.agent.trust, config.llm.base_url, config.llm.headers, task.card))
        assert (config.llm.max_cost_usd or 0) <= DEFAULT_COST_USD
        assert held.agent_path.resolve().is_relative_to(root.resolve())
        assert held.recordings_path.resolve().is_relative_to(folder.resolve())
        trainings(held)
        for stage in list(held.manifest.stages):
            held.done(stage, held.manifest.stages[stage].fingerprint)

    yield Reader("manifest", (path.read_bytes(),), read)


RESULTS: dict[str, Any] = {
    "Scores": {
        "env_id": "CartPole-v1", "before": {"deterministic": [1.0, 2.0], "sampled": [1.0, 3.0]},
        "arms": {arm: {"charged": {"train": 5}, "seeds": {"1": {"checkpoints": [
            {"deterministic": [5.0], "sampled": [4.0], "trained": 5}]}}} for arm in ("ppo", "unstuck")},
    },
    "TrainFacts": {
        "arm": "ppo", "seed": 1, "steps": 5, "charged": {"train": 5}, "budget": 9, "checkpoints": [[5, "agent.zip"]],
        "warnings": ["x"], "rounds": [{"round": 1, "before": {"sampled": 1.0}, "folder": "rounds/ppo/1/2"}],
    },
    "RaceVerdict": {
        "handed": "finalist", "name": "afresh", "finalist": "afresh", "why": "x", "mode": "deterministic",
        "level": 0.05, "returns": {"finalist": [1.0, 2.0], "original": [0.0, 0.5]}, "seeds": [1, 2],
        "over_original": {"mean": 1.0, "low": 0.5, "pairs": 2}, "charged": {"train": 5}, "budget": 9,
        "ladder": [{"name": "afresh", "reason": "x", "trained": 5, "level": 1.0, "forecast": 2.0, "status": "winner"}],
    },
    "RunVerdict": {
        "chosen": "unstuck", "seed": 1, "trained": 5, "subject": "unstuck", "statistics": True, "why": "x",
        "returns": {n: {"mean": 1.0, "low": 0.5, "high": 1.5, "n": 3} for n in ("unstuck", "before", "ppo")},
        "differences": {"before": {"mean": 1.0, "low": 0.5, "high": 1.5, "n": 3}},
    },
}  # fmt: skip


def _results(folder: Path) -> Iterator[Reader]:
    from unstuck import results

    for name, honest in RESULTS.items():
        path, model = folder / f"{name}.json", getattr(results, name)

        def read(data: bytes, path=path, model=model, name=name) -> None:
            path.write_bytes(data)
            held = model.read(path)
            held.write(path)
            assert model.read(path) == held
            if name == "Scores":
                assert held.summary

        yield Reader(name, (json.dumps(honest).encode(),), read)


def _panel(folder: Path) -> Iterator[Reader]:
    from unstuck.diagnosis.panel import Finding, Panel, read_panel

    finding = Finding(
        name="entropy",
        value=0.02,
        unit="nats",
        status="fault",
        threshold=0.05,
        source="policy",
        meaning="x",
        remedy="y",
    )
    panel = Panel(
        agent="a.zip", env="CartPole-v1", verdict="stuck", summary="x", findings=(finding,), deterministic=1.0
    )

    def read(data: bytes) -> None:
        (folder / "diagnosis.json").write_bytes(data)
        held = read_panel(folder)
        assert held is not None
        assert held.as_text()
        assert Panel.from_json(held.as_json()) == held

    yield Reader("diagnosis.json", (panel.as_json().encode(),), read)


def _recordings(folder: Path) -> Iterator[Reader]:
    import unstuck.llm
    from unstuck.llm import Recordings, import_batch
    from unstuck.llm.bodies import read_body
    from unstuck.llm.ledger import Ledger
    from unstuck.llm.recordings import record
    from unstuck.llm.requests import Request

    store = Recordings(folder / "recordings")
    request = unstuck.llm.Request.of("What?")
    path = store.save(record(request, '{"a": 1}', model="m", provenance="p", created="2020-01-01"))

    def one(data: bytes) -> None:
        path.write_bytes(data)
        for held in store.all():
            assert held.request.key == request.key
            assert (held.cost_usd or 0) >= 0
            assert (held.tokens_in or 0) >= 0
            assert (held.tokens_out or 0) >= 0
        store.find(request, "m")

    yield Reader("recording", (path.read_bytes(),), one)

    others = Recordings(folder / "others")
    others.save_pending(Request.of("one"))
    batch = folder / "replies.jsonl"
    key = Request.of("one").key
    body = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}], "created": 5, "model": "m",
            "usage": {"prompt_tokens": 5, "completion_tokens": 7}}  # fmt: skip
    lines = [{"custom_id": key, "response": {"status_code": 200, "body": body}}, {"custom_id": key, "reply": "fine"}]

    def many(data: bytes) -> None:
        batch.write_bytes(data)
        import_batch(batch, others, provenance="by hand")
        for left in (folder / "others").glob("*.json"):
            left.unlink()

    yield Reader("batch", ("\n".join(map(json.dumps, lines)).encode(),), many)

    messages = {"content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn", "model": "m",
                "usage": {"input_tokens": 5, "output_tokens": 7}}  # fmt: skip
    responses = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "hello"}]}], "model": "m"}
    google = {"candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}]}

    def reply(data: bytes) -> None:
        held = read_body(data)
        assert held is None or ((held.tokens_in or 0) >= 0 and (held.tokens_out or 0) >= 0)

    yield Reader("body", tuple(json.dumps(b).encode() for b in (body, messages, responses, google)), reply)
    events = b"".join(b"data: " + json.dumps(b).encode() + b"\n\n" for b in (body, messages)) + b"data: [DONE]\n"
    yield Reader("events", (events,), reply, json=False)

    ledger = Ledger(folder)
    sent = {"call": "abc", "event": "sent", "at": "2020", "key": "k", "model": "m", "tokens": 5, "cost_usd": 0.1}
    ended = {"call": "abc", "event": "replied", "tokens": 5, "cost_usd": 0.1}

    def calls(data: bytes) -> None:
        ledger.path.write_bytes(data)
        for call in ledger.calls():
            assert call.tokens >= 0
            assert call.id[0].isalnum()
            assert call.id.replace("-", "").isalnum()
            assert call.state in ("out", "replied", "refused", "lost")
            assert call.cost_usd is None or call.cost_usd >= 0

    yield Reader("ledger", ("\n".join(map(json.dumps, (sent, ended))).encode(),), calls)


def _suite(folder: Path) -> Iterator[Reader]:
    from unstuck.bench.suite import load_suite

    path = folder / "suite.toml"
    honest = b"""
name = "x"
methods = ["ppo", "unstuck", "other"]
seeds = [1, 2]
steps = 1000
remarks = "remarks.md"
llm = {model = "recorded", samples = 2}
[train]
n_envs = 2
[variants.other]
base = "unstuck"
note = "another"
[variants.other.train]
learning_rate = 0.001
[[tasks]]
name = "cart"
agent = "a.zip"
env = "CartPole-v1"
env_kwargs = {frame_stack = 2}
reference = 500.0
"""

    def read(data: bytes) -> None:
        path.write_bytes(data)
        suite = load_suite(path)
        for task in suite.tasks:
            suite.config(task, suite.methods[0])

    yield Reader("suite", (honest,), read, json=False)


def _config(folder: Path) -> Iterator[Reader]:
    from unstuck.commands.arguments import load_config

    path = folder / "settings.toml"
    honest = b"""
[task]
env = "CartPole-v1"
env_kwargs = {gravity = 9.8}
[train]
steps = 1000
seeds = [1, 2]
late_checkpoints = 2
[train.guide]
short_episodes = 100
[verify]
horizon = 20
[llm]
model = "openai:gpt-5"
headers = {"X-Y" = "z"}
[llm.prices]
input = 1.5
output = 2.5
[race]
treatments = ["transplant+guidance"]
"""

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_config(path)

    yield Reader("settings", (honest,), read, json=False)


def _yaml(folder: Path) -> Iterator[Reader]:
    from unstuck.agents._yaml import read_pairs
    from unstuck.tasks.plain import foreign, plain_kwargs

    honest = b"""!!python/object/apply:collections.OrderedDict
- - - env_wrapper
    - - sb3_contrib.common.wrappers.TimeFeatureWrapper
      - gymnasium.wrappers.TimeLimit:
          max_episode_steps: 100
  - - n_envs
    - 4
  - - env_kwargs
    - {gravity: 9.8, size: [1, 2]}
  - - policy_kwargs
    - "dict(log_std_init=-2, net_arch=[64, 64])"
  - - normalize
    - "{'norm_obs': True, 'norm_reward': False}"
"""

    def read(data: bytes) -> None:
        pairs = read_pairs(data.decode("utf-8", "replace"))
        kwargs = pairs.get("env_kwargs")
        given = {**(kwargs if isinstance(kwargs, dict) else {}), "env_wrapper": pairs.get("env_wrapper")}
        kept, _ = plain_kwargs(given)
        assert not foreign("CartPole-v1", kept)

    yield Reader("config.yml", (honest,), read, json=False)


def _agents(folder: Path) -> Iterator[Reader]:
    import io
    import zipfile

    import gymnasium as gym
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    from unstuck.agents import load_agent, load_normalization
    from unstuck.episodes import Episode, load_episode, save_episode

    zipped, stats, stored = folder / "ppo.zip", folder / "stats.pkl", folder / "episode-0000.npz"
    PPO(
        "MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu", policy_kwargs={"net_arch": [4]}
    ).save(zipped)
    VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")])).save(str(stats))
    parts = {n: zipfile.ZipFile(zipped).read(n) for n in zipfile.ZipFile(zipped).namelist()}

    def packed(name: str) -> Callable[[bytes], None]:
        def read(data: bytes) -> None:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for other, content in parts.items():
                    archive.writestr(other, data if other == name else content)
            zipped.write_bytes(buffer.getvalue())
            agent = load_agent(zipped)
            assert all(bool(np.isfinite(w.numpy()).all()) for w in agent.state_dict.values())

        return read

    def whole(data: bytes) -> None:
        zipped.write_bytes(data)
        load_agent(zipped)

    def statistics(data: bytes) -> None:
        stats.write_bytes(data)
        held = load_normalization(stats)
        if held.obs_mean is not None and not isinstance(held.obs_mean, dict):
            assert np.isfinite(held.apply(np.ones((1, *held.obs_mean.shape), np.float32))).all()

    episode = Episode(
        index=0, seed=1, deterministic=True, observations=np.zeros((4, 2), np.float32), actions=np.zeros(3, np.int64),
        rewards=np.ones(3), terminated=True, truncated=False, signals={"value": np.zeros(3)}, reward_parts={},
        snapshots=np.zeros((4, 3)),
    )  # fmt: skip
    save_episode(episode, stored)

    def episodes(data: bytes) -> None:
        stored.write_bytes(data)
        held = load_episode(stored)
        assert held.total_reward == held.total_reward
        if held.snapshots is not None:
            held.snapshots[0]

    yield Reader("an agent's data", (parts["data"],), packed("data"))
    yield Reader("an agent's weights", (parts["policy.pth"],), packed("policy.pth"), json=False)
    yield Reader("an agent's zip", (zipped.read_bytes(),), whole, json=False)
    yield Reader("statistics", (stats.read_bytes(),), statistics, json=False)
    yield Reader("episode", (stored.read_bytes(),), episodes, json=False)


def _logs(folder: Path) -> Iterator[Reader]:
    import io

    from unstuck.agents.history import learning_curve
    from unstuck.curves import read_curve
    from unstuck.results import TrainFacts
    from unstuck.stages.report.data import Curve

    arrays = io.BytesIO()
    np.savez(arrays, timesteps=np.arange(3), results=np.ones((3, 2)), ep_lengths=np.ones((3, 2)))
    points = [{"steps": i, "trained": i, "return_mean": 1.0, "episodes": 2, "hit_rate": None} for i in (5, 9, 20)]
    files = {
        "evaluations.npz": (arrays.getvalue(), False),
        "0.monitor.csv": (b'#{"t_start": 1.5, "env_id": "X"}\nr,l,t\n1.0,5,0.1\n2.0,6,0.2\n3.0,7,0.3\n', False),
        "progress.csv": (b"time/total_timesteps,rollout/ep_rew_mean\n5,1.0\n9,2.0\n20,3.0\n", False),
        "curve.jsonl": ("\n".join(map(json.dumps, points)).encode(), True),
    }
    for name, (honest, values) in files.items():
        place = folder / name.replace(".", "-")
        place.mkdir()

        def read(data: bytes, path=place / name, place=place) -> None:
            path.write_bytes(data)
            held = learning_curve(place)
            assert held is None or all(r == r for r in held.returns)
            if path.name == "curve.jsonl":
                curve = Curve(TrainFacts(arm="ppo", seed=1), read_curve(path))
                assert curve.begin is not None
                curve.series("return_mean")

        yield Reader(name, (honest,), read, json=values)
