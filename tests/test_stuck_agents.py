"""The agents that ship: they are what their manifest says, they are stuck by its numbers, and one command away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstuck.agents import check_fits, load_agent
from unstuck.algorithms import policy_of
from unstuck.cli import main
from unstuck.config import AgentConfig, RunConfig, TaskConfig
from unstuck.errors import UnstuckError
from unstuck.intake import of_shipped
from unstuck.pipeline import open_run
from unstuck.rollout import run_episodes
from unstuck.stuck import (
    Modes,
    Reference,
    Returns,
    StuckAgent,
    gain,
    judge,
    manifest,
    shipped,
    stuck_agent,
    stuck_agents,
)
from unstuck.stuck.page import updated_page
from unstuck.tasks import make_env
from unstuck.watching import watch

AGENTS = stuck_agents()
each = pytest.mark.parametrize("agent", AGENTS, ids=[a.name for a in AGENTS])
CHEAP = next(a for a in AGENTS if a.name == "mountaincar-no-flag")


def test_every_kind_of_rut_and_family_is_there():
    assert len(AGENTS) >= 12
    assert {a.rut for a in AGENTS} == {
        "reward never seen", "local optimum", "a fall ends every episode", "saturated critic", "exploration died",
    }  # fmt: skip
    names = {a.name for a in AGENTS}
    assert len(names) == len(AGENTS)
    assert not names & {t.name for t in manifest().tried}


@each
def test_the_verdict_follows_from_the_numbers(agent: StuckAgent):
    c = agent.continued
    assert len(c.seeds) >= 5
    assert len(c.deterministic) == len(c.sampled) == len(c.seeds)
    # With a replay buffer 20,000 steps are thousands of updates, and what its methods are compared at.
    assert c.steps >= (45_000 if agent.training.algorithm == "PPO" else 20_000)
    assert min(agent.before.deterministic.n, agent.before.sampled.n, c.episodes) >= 20
    again = judge(agent.before, c, agent.reference)
    assert again.stuck
    assert agent.verdict.stuck
    for mode in ("deterministic", "sampled"):
        ours, theirs = getattr(again, mode), getattr(agent.verdict, mode)
        assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high), abs=1e-3)


@each
def test_it_says_what_it_is(agent: StuckAgent):
    assert all((agent.wrong, agent.why, agent.training.how, agent.reference.how))
    assert agent.training.command.endswith(agent.name)
    assert {"stable_baselines3", "gymnasium"} <= agent.versions.keys()


@each
def test_its_files_are_small(agent: StuckAgent):
    assert agent.path.stat().st_size < 350_000
    if agent.vecnormalize is not None:
        assert agent.vecnormalize.stat().st_size < 20_000


@each
def test_it_loads_safely_and_returns_what_is_stated(agent: StuckAgent):
    loaded = load_agent(agent.path)
    assert loaded.vecnormalize_path == agent.vecnormalize
    seeds = range(1_000_000, 1_000_002 if agent.rut != "reward never seen" else 1_000_001)
    envs = [make_env(agent.task, agent.env_kwargs) for _ in seeds]
    check_fits(loaded, envs[0].observation_space, envs[0].action_space, agent.task)
    assert loaded.algorithm == agent.training.algorithm
    actor = policy_of(loaded, envs[0].observation_space, envs[0].action_space)
    returns = [t.total_reward for t in run_episodes(envs, actor, seeds, deterministic=True, keep=False)]
    for env in envs:
        env.close()
    stated = agent.before.deterministic
    # The first of the episodes behind the stated mean; other machines round otherwise.
    assert abs(np.mean(returns) - stated.mean) <= 3 * stated.sd + 0.02 * abs(stated.mean) + 1e-6


def test_an_agent_that_ppo_improves_is_not_stuck():
    held = AGENTS[0]
    before = Modes(deterministic=Returns(mean=0, sd=1, n=20), sampled=Returns(mean=0, sd=1, n=20))
    reference = Reference(mean=100, sd=1, n=20, origin="measured", how="")

    def after(*returns: float) -> bool:
        return judge(before, held.continued.model_copy(update={"deterministic": returns}), reference).stuck

    held = held.model_copy(update={"continued": held.continued.model_copy(update={"sampled": (0.0,) * 5})})
    assert after(1, 2, 3, 4, 5)
    assert not after(60, 61, 62, 63, 64)
    assert not after(0, 0, 0, 0, 90)  # One seed that got away: it is not known to be stuck.


def test_a_gain_needs_a_better_reference_and_seeds():
    assert gain(-200, [-200, -190], -100).mean == pytest.approx(0.05)
    with pytest.raises(ValueError, match="better"):
        gain(5, [5, 5], 5)
    with pytest.raises(ValueError, match="two seeds"):
        gain(0, [5], 10)


def test_names_are_found_with_and_without_the_prefix(tmp_path, monkeypatch):
    assert stuck_agent(f"stuck/{CHEAP.name}") is stuck_agent(CHEAP.name)
    assert shipped(str(CHEAP.path)) is None
    with pytest.raises(UnstuckError, match=f"Did you mean.*{CHEAP.name}"):
        stuck_agent(CHEAP.name[:-1])
    with pytest.raises(UnstuckError, match="no agent"):
        shipped("stuck/nobody")
    monkeypatch.chdir(tmp_path)
    Path(CHEAP.name + ".zip").write_bytes(b"mine")
    assert shipped(CHEAP.name) is None


def test_the_task_of_a_shipped_agent_is_filled_in(tmp_path):
    name = f"stuck/{CHEAP.name}"
    run = open_run(RunConfig(agent=AgentConfig(agent=name)), tmp_path / "run")
    assert run.config.task.env == CHEAP.task
    assert run.config.agent.agent == name
    assert run.agent_path.read_bytes() == CHEAP.path.read_bytes()
    special = next(a for a in AGENTS if a.env_kwargs)
    config, path = of_shipped(RunConfig(agent=AgentConfig(agent=special.name)))
    assert (config.task.env_kwargs, path) == (special.env_kwargs, special.path)
    given = TaskConfig(env="Other-v0", env_kwargs={"x": 1})
    config, _ = of_shipped(RunConfig(agent=AgentConfig(agent=special.name), task=given))
    assert config.task == given


def test_agents_lists_all_and_shows_one(capsys):
    main(["agents"])
    listed = capsys.readouterr().out
    assert all(a.name in listed for a in AGENTS)
    main(["agents", CHEAP.name])
    shown = capsys.readouterr().out
    assert f"unstuck refine stuck/{CHEAP.name}" in shown
    assert str(CHEAP.training.seed) in shown
    with pytest.raises(SystemExit) as stop:
        main(["agents", "nobody"])
    assert stop.value.code == 2


def test_watch_writes_a_gif_that_moves(tmp_path, capsys):
    out = tmp_path / "seen" / "it.gif"
    main(["watch", CHEAP.name, "--out", str(out), "--episodes", "2", "--width", "240", "--max-frames", "40"])
    said = capsys.readouterr().out
    returns = [float(line.split("return ")[1].split()[0]) for line in said.splitlines() if "return" in line]
    assert returns == [-200, -200]
    with Image.open(out) as image:
        assert image.n_frames == 42  # Every tenth of 400 steps, and the starts.
        assert image.width == 240
        first = np.asarray(image.convert("RGB")).astype(int)
        image.seek(6)
        assert np.abs(np.asarray(image.convert("RGB")) - first).mean() > 0.5


def test_watch_draws_long_episodes_in_steps(tmp_path):
    idle = next(a for a in AGENTS if a.task == "Acrobot-v1")
    seen = watch(idle.path, TaskConfig(env=idle.task), tmp_path / "a.gif", max_frames=10, width=100)
    assert seen.lengths == (500,)
    assert seen.frames == 11


def test_watch_says_what_it_cannot_write(tmp_path):
    task = TaskConfig(env=CHEAP.task)
    with pytest.raises(UnstuckError, match=r"\.gif or \.mp4"):
        watch(CHEAP.path, task, tmp_path / "a.avi")
    with pytest.raises(UnstuckError, match="no environment"):
        watch(CHEAP.path, TaskConfig(env="NoSuchTask-v0"), tmp_path / "a.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(UnstuckError, match="cannot write"):
        watch(CHEAP.path, task, tmp_path / "file" / "a.gif", max_frames=3)


def test_the_page_is_made_from_the_manifest():
    page = (Path(__file__).parents[1] / "docs" / "agents.md").read_text(encoding="utf-8")
    assert updated_page(page, manifest()) == page, "run `python scripts/make_agents.py --docs`"
    assert all(f"`{a.name}`" in page for a in AGENTS)
    with pytest.raises(UnstuckError, match="marks"):
        updated_page("no marks", manifest())
