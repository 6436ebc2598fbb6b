"""Agents from the hub and back to it, against a server that speaks its API."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from stable_baselines3 import PPO

from hub_server import Hub, running

pytest.importorskip("huggingface_hub")

from unstuck.bench.runner import make_plan
from unstuck.bench.suite import load_suite
from unstuck.cli import main
from unstuck.config import AgentConfig, RunConfig, TaskConfig
from unstuck.errors import AgentError, RunError, UnstuckError, UntrustedError
from unstuck.guidance import Guidance, save_guidance
from unstuck.hub import Address, fetch
from unstuck.hub.pushing import push
from unstuck.intake import take_in
from unstuck.pipeline import open_run
from unstuck.results import TrainFacts
from unstuck.run import StageRecord
from unstuck.stages.evaluate import SCORES
from unstuck.stages.handover import hand_over
from unstuck.stuck import stuck_agents

ARGS = "!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ppo\n  - - env\n    - CartPole-v1\n"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # The plain transfer, which the server here speaks; the hub may ask for its own.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture(scope="module")
def zip_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("agent") / "a.zip"
    env = gym.make("CartPole-v1")
    PPO("MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}, device="cpu").save(path)
    return path.read_bytes()


def publish(hub: Hub, zip_bytes: bytes, name: str = "ppo-CartPole-v1", **files: bytes) -> str:
    """Files of the kinds that RL Zoo and huggingface_sb3 push."""
    repository = f"sb3/{name}"
    hub.repositories[repository] = {
        "README.md": b"---\n---\n", f"{name}.zip": zip_bytes, "train_eval_metrics.zip": b"PK", "replay.mp4": b"v",
        f"{name}/policy.pth": b"unpacked", "results.json": b"{}", **files,
    }  # fmt: skip
    return repository


def test_an_agent_of_the_hub_is_loaded_on_its_task(hub, zip_bytes):
    repository = publish(hub, zip_bytes, **{"args.yml": ARGS.encode(), "config.yml": ARGS.encode()})
    taken = take_in(RunConfig(agent=AgentConfig(agent="hf://sb3/ppo-CartPole-v1")))
    assert taken.config.task.env == "CartPole-v1"
    assert taken.agent.path.read_bytes() == zip_bytes
    # Kept in the settings with the commit, so that a rerun means the same files.
    assert taken.config.agent.agent == f"hf://sb3/ppo-CartPole-v1@{hub.commit(repository)}"
    assert "fetched sb3/ppo-CartPole-v1" in taken.notes[0]
    # Nothing that is not read is downloaded.
    assert {p.name for p in taken.agent.path.parent.iterdir() if p.is_file()} == {
        "ppo-CartPole-v1.zip", "args.yml", "config.yml",
    }  # fmt: skip


def test_what_was_fetched_needs_no_network_again(hub, zip_bytes):
    publish(hub, zip_bytes)
    pinned = fetch(Address.parse("hf://sb3/ppo-CartPole-v1")).address
    hub.requests.clear()
    again = fetch(pinned)
    assert again.path.read_bytes() == zip_bytes
    assert hub.requests == []


def test_the_environment_is_found_in_the_name_or_the_tags(hub, zip_bytes):
    publish(hub, zip_bytes)
    assert take_in(RunConfig(agent=AgentConfig(agent="hf://sb3/ppo-CartPole-v1"))).config.task.env == "CartPole-v1"
    hub.tags[publish(hub, zip_bytes, "my-agent")] = ["reinforcement-learning", "CartPole-v1", "region:us"]
    assert take_in(RunConfig(agent=AgentConfig(agent="hf://sb3/my-agent"))).config.task.env == "CartPole-v1"


def test_statistics_come_along(hub, zip_bytes, tmp_path):
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    VecNormalize(make_vec_env("CartPole-v1")).save(str(tmp_path / "stats.pkl"))
    publish(hub, zip_bytes, **{"vec_normalize.pkl": (tmp_path / "stats.pkl").read_bytes()})
    taken = take_in(RunConfig(agent=AgentConfig(agent="hf://sb3/ppo-CartPole-v1")))
    assert taken.agent.normalization is not None
    assert set(taken.files) == {"agent", "vecnormalize"}


def test_of_several_agents_one_must_be_named(hub, zip_bytes):
    publish(hub, zip_bytes, "pair", **{"a.zip": zip_bytes, "b.zip": zip_bytes})
    del hub.repositories["sb3/pair"]["pair.zip"]
    with pytest.raises(AgentError, match=r"several agents: a\.zip, b\.zip\. Name one: hf://sb3/pair@\w+/a\.zip"):
        fetch(Address.parse("hf://sb3/pair"))
    assert fetch(Address.parse("hf://sb3/pair/b.zip")).path.name == "b.zip"
    with pytest.raises(AgentError, match=r"no such file; the repository has a\.zip"):
        fetch(Address.parse("hf://sb3/pair/c.zip"))


@pytest.mark.parametrize(
    "text",
    ["hf://sb3", "hf://../x/y", "hf://a/..", "hf://a/b/../../c.zip", "hf://a/b@../x", "hf://a/b/c/d.zip",
     "hf://a/b\n", "hf:///etc/passwd.zip", "hf://a/b/x.pkl"],
)  # fmt: skip
def test_addresses_that_lead_elsewhere_are_refused(text):
    with pytest.raises(AgentError, match="no address of an agent"):
        Address.parse(text)


@pytest.mark.parametrize("name", ["../evil.zip", "/tmp/evil.zip", "sub/evil.zip", "..\\evil.zip", ".hidden.zip"])
def test_files_outside_the_repositorys_top_are_not_touched(hub, tmp_path, name):
    hub.repositories["sb3/ppo-CartPole-v1"] = {name: b"PK"}
    with pytest.raises(AgentError, match=r"no \.zip of an agent"):
        fetch(Address.parse("hf://sb3/ppo-CartPole-v1"))
    assert not any("resolve" in line for line in hub.requests)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("claimed", "words"), [(10**12, "953,674 MiB"), (None, "unknown size")])
def test_what_is_too_large_is_not_downloaded(hub, zip_bytes, claimed, words):
    publish(hub, zip_bytes)
    hub.sizes["ppo-CartPole-v1.zip"] = claimed
    with pytest.raises(AgentError, match=f"{words}.*at most 512 MiB"):
        fetch(Address.parse("hf://sb3/ppo-CartPole-v1"))
    assert not any("resolve" in line for line in hub.requests)


def test_a_file_that_turns_out_larger_than_said_is_deleted(hub, zip_bytes, monkeypatch):
    publish(hub, zip_bytes)
    monkeypatch.setattr("unstuck.hub.fetching.MAX_AGENT", len(zip_bytes) - 1)
    hub.sizes["ppo-CartPole-v1.zip"] = 10
    with pytest.raises(AgentError, match="larger than the hub had said"):
        fetch(Address.parse("hf://sb3/ppo-CartPole-v1"))


def test_a_strangers_pickle_is_refused_like_any_other(hub, zip_bytes, tmp_path):
    import base64
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "a.zip").write_bytes(zip_bytes)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    data["policy_class"][":serialized:"] = base64.b64encode(pickle.dumps(Evil())).decode()
    parts["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    publish(hub, (tmp_path / "evil.zip").read_bytes())
    with pytest.raises(UntrustedError):
        take_in(RunConfig(agent=AgentConfig(agent="hf://sb3/ppo-CartPole-v1")))
    assert not (tmp_path / "ran").exists()


def test_what_went_wrong_is_said(hub, zip_bytes, monkeypatch):
    with pytest.raises(AgentError, match="no such repository, or it is private"):
        fetch(Address.parse("hf://sb3/nobody"))
    publish(hub, zip_bytes)
    with pytest.raises(AgentError, match="no such revision"):
        fetch(Address.parse("hf://sb3/ppo-CartPole-v1@v9"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AgentError, match="hub cannot be reached"):
        fetch(Address.parse("hf://sb3/ppo-CartPole-v1"))


def test_without_the_package_its_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnstuckError, match=r'pip install "unstuck\[hub\]"'):
        fetch(Address.parse("hf://sb3/ppo-CartPole-v1"))


def test_a_suite_takes_agents_of_the_hub(hub, zip_bytes, tmp_path):
    publish(hub, zip_bytes)
    text = 'name = "s"\nmethods = ["ppo"]\nseeds = [1]\nsteps = 100\n[[tasks]]\nname = "pole"\nreference = 500.0\n'
    (tmp_path / "s.toml").write_text(text + 'agent = "hf://sb3/ppo-CartPole-v1"\n')
    plan, _ = make_plan(load_suite(tmp_path / "s.toml"))
    assert [task.env for task in plan.tasks] == ["CartPole-v1"]


# Pushing


def scored_run(folder: Path, chosen: str = "unstuck", **task: object):
    """A run on a short MountainCar whose training left the given agent, scored better than before."""
    from test_handover import points, scores

    stuck = next(a for a in stuck_agents() if a.name == "mountaincar-no-flag")
    config = RunConfig(agent=AgentConfig(agent=f"stuck/{stuck.name}"), task=TaskConfig(**task))
    run = open_run(config, folder / "run")
    trained = run.root / "train" / "unstuck" / "1"
    trained.mkdir(parents=True)
    (trained / "agent.zip").write_bytes(run.agent_path.read_bytes())
    if run.vecnormalize_path:
        (trained / "agent.vecnormalize.pkl").write_bytes(run.vecnormalize_path.read_bytes())
    facts = TrainFacts(arm="unstuck", seed=1, budget=100_000, checkpoints=((10, "agent.zip"),))
    run.manifest.stages["train/unstuck/1"] = StageRecord(
        fingerprint="f", finished="2026-01-02T03:04:05+00:00", seconds=1.0, facts=facts.as_json()
    )
    run.configure(run.config)
    (run.root / "evaluate").mkdir()
    scores(unstuck=[points(9.0 if chosen == "unstuck" else -99.0)]).write(run.root / SCORES)
    hand_over(run)
    return run


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_a_pushed_agent_comes_back_as_it_went(hub, tmp_path, monkeypatch):
    run = scored_run(tmp_path, env="MountainCar-v0", env_kwargs={"max_episode_steps": 20, "frame_stack": 1})
    hub.tokens.add("hf_mine")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    done = push(run, "me/ppo-MountainCar-v0")
    assert done.url.startswith(f"{hub.url}/me/ppo-MountainCar-v0/commit/")
    files = hub.repositories["me/ppo-MountainCar-v0"]
    assert set(files) == {
        "README.md", "ppo-MountainCar-v0.zip", "vec_normalize.pkl", "args.yml", "config.yml", "results.json",
        "verdict.json", "replay.gif",
    }  # fmt: skip
    assert files["replay.gif"].startswith(b"GIF8")
    taken = take_in(RunConfig(agent=AgentConfig(agent="hf://me/ppo-MountainCar-v0")))
    assert taken.agent.path.read_bytes() == (run.root / "agent.zip").read_bytes()
    assert taken.agent.normalization is not None
    assert taken.config.task.env == "MountainCar-v0"
    assert taken.config.task.env_kwargs["max_episode_steps"] == 20


def test_the_card_tells_the_verdict_and_the_hub_its_data(hub, tmp_path):
    run = scored_run(tmp_path)
    text = "It <script>x</script> hovers ![p](http://evil.example/p.png) [l](http://evil.example) `c`\n# head\n| a |"
    save_guidance(Guidance(env_id="MountainCar-v0", diagnosis=text), run.guidance_path)
    push(run, "me/car", send=False, replay=False)
    card = (run.root / "push" / "README.md").read_text(encoding="utf-8")
    data = front_matter(card)
    assert {"MountainCar-v0", "reinforcement-learning", "stable-baselines3"} <= set(data["tags"])
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"]["type"] == "MountainCar-v0"
    assert result["metrics"][0]["value"] == "9"
    assert "Not proved: one seed" in card
    assert 'PPO.load("car/car.zip", device="cpu")' in card
    # What a model said is text: nothing in it is markup, and no picture or link of its is fetched.
    said = next(line for line in card.splitlines() if line.startswith("> "))
    for markup in ("<script", "![", "](", "://", "`c`", "# head\n"):
        assert markup not in said
    assert str(tmp_path) not in card
    assert hub.requests == []


def test_nothing_is_pushed_without_a_token_a_right_or_a_gain(hub, tmp_path, monkeypatch, capsys):
    run = scored_run(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("unstuck.hub.client.token", lambda: None)
    with pytest.raises(UnstuckError, match="set HF_TOKEN"):
        push(run, "me/car", replay=False)
    assert not (run.root / "push").exists()  # known before anything takes time
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UnstuckError, match=r"the hub refused \(403\); set HF_TOKEN"):
        push(run, "me/car", replay=False)
    assert hub.repositories == {}
    for name in ("car", "me/car@main", "me/../car", "hf://me/car"):
        with pytest.raises(UnstuckError, match=r"write|name of a repository"):
            push(run, name, replay=False)
    same = scored_run(tmp_path / "same", chosen="before")
    with pytest.raises(RunError, match="nothing of its own to push"):
        push(same, "me/car", replay=False)
    main(["push", str(run.root), "me/car", "--dry-run", "--no-replay"])
    assert "Not sent" in capsys.readouterr().out


def test_what_is_more_than_data_is_not_written_for_others(hub, tmp_path):
    import gymnasium

    gymnasium.register("CarHere-v0", "gymnasium.envs.classic_control:MountainCarEnv", max_episode_steps=9)
    run = scored_run(tmp_path, env="CarHere-v0", import_module="unstuck.testing")
    done = push(run, "me/car", send=False, replay=False)
    assert "a module to import" in done.notes[0]
    assert not {"args.yml", "config.yml"} & set(done.files)
    del gymnasium.registry["CarHere-v0"]
