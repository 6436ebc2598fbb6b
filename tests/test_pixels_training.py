"""Training from pixels, guided by what only describers read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack

pytest.importorskip("ale_py")

from pixel_cases import BREAKOUT, DOWN, PONG, small, trained
from unstuck.agents import build_policy, load_agent
from unstuck.algorithms import policy_of
from unstuck.config import AgentConfig, CollectConfig, RaceConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.diagnosis import gather as evidence_of
from unstuck.diagnosis.references import reference_for
from unstuck.errors import AgentError, UnstuckError
from unstuck.guidance import Action, Advice, Condition
from unstuck.guide.on_policy import Lessons
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.pace import announcement, seconds_per_step
from unstuck.pipeline import open_run
from unstuck.preflight import check_device
from unstuck.race.competitors import competitor
from unstuck.race.legs import Leg, fit, gather, patient, play, run_leg
from unstuck.run import Run
from unstuck.stages.collect import collect
from unstuck.tasks import make_env
from unstuck.tasks.beside import SEEN
from unstuck.testing import CORRIDOR
from unstuck.treatments import States, afresh, quieter
from unstuck.workspace import Workspace


def test_ram_guides_what_learns_from_pixels(tmp_path: Path, pong: Path) -> None:
    learner, outcome = trained(tmp_path, pong, Plan(terms=True, imitate=1.0))
    assert outcome["hit_rate"] == 1.0
    line = (tmp_path / "trained" / "curve.jsonl").read_text().splitlines()[-1]
    assert '"imitation": null' not in line
    assert '"bonus_mean": 0.0,' not in line
    model = PPO.load(tmp_path / "trained" / "agent.zip", device="cpu")
    assert model.observation_space.shape == (4, 84, 84)
    assert model.rollout_buffer is None or model.rollout_buffer.observations.dtype == np.uint8
    assert learner.model.rollout_buffer.observations.dtype == np.uint8


def test_what_is_refined_plays_from_pixels_alone_what_was_measured(tmp_path: Path) -> None:
    """Loaded by Stable-Baselines3 into its own games, without Unstuck, it has the returns that are reported."""
    model = small(BREAKOUT)
    with torch.no_grad():
        model.policy.action_net.weight *= 3_000  # acts by what it sees
    model.save(tmp_path / "breakout.zip")
    trained(tmp_path, tmp_path / "breakout.zip", Plan(), BREAKOUT)
    zipped, seeds = tmp_path / "trained" / "agent.zip", (1, 2, 3)
    task = TaskConfig(env=BREAKOUT)
    space = SimpleNamespace(make_env=lambda: make_env(task.env, task.env_kwargs))
    measured, _ = play(space, load_agent(zipped), seeds, "deterministic")
    plain = PPO.load(zipped, device="cpu")
    found = [
        evaluate_policy(plain, VecFrameStack(make_atari_env(BREAKOUT, 1, seed=seed), 4), n_eval_episodes=1)[0]
        for seed in seeds
    ]
    assert found == measured
    assert len(set(measured)) > 1, "it plays otherwise from other starts"


def test_how_long_training_takes_is_said_of_convolutions_too(tmp_path: Path, pong: Path) -> None:
    task = TaskConfig(env=PONG)
    config = RunConfig(agent=AgentConfig(agent=str(pong)), task=task, train=TrainConfig(n_epochs=1, steps=100_000))
    run = open_run(config, tmp_path / "run")
    once = seconds_per_step(Workspace(run), run.config.train, 32)
    often = seconds_per_step(Workspace(run), run.config.train.model_copy(update={"n_epochs": 40}), 32)
    assert once is not None
    assert often is not None
    assert often > 3 * once > 0
    assert "; about" in announcement(run)
    races = config.model_copy(update={"train": TrainConfig(method="race", steps=100_000, n_epochs=1)})
    assert "more if it is transplanted" in announcement(open_run(races, tmp_path / "races"))
    named = races.model_copy(update={"race": RaceConfig(treatments=("afresh",))})
    assert "transplanted" not in announcement(open_run(named, tmp_path / "named"))


def test_the_noise_of_an_agent_from_pixels_can_be_turned_down(pong: Path) -> None:
    agent = load_agent(pong)
    states = np.random.default_rng(0).integers(0, 255, (6, 4, 84, 84), dtype=np.uint8)
    spaces = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), gym.spaces.Discrete(6)
    loud, quiet = (policy_of(a, *spaces) for a in (agent, quieter(agent, spaces[1], 0.01)))
    np.testing.assert_array_equal(loud.act(states), quiet.act(states))
    chosen = [p.signals(states)["action_prob"].max(axis=1) for p in (loud, quiet)]
    assert (chosen[1] > chosen[0] + 0.05).all()


def test_new_convolutions_answer_to_what_is_seen(pong: Path) -> None:
    env = make_env(PONG)
    frames = [env.reset(seed=0)[0][SEEN], *(env.step(i % 6)[0][SEEN] for i in range(99))]
    n = len(frames)
    states = States(np.array(frames), np.zeros(n, np.int64), np.zeros(n, np.int64), np.full((n, 6), 1 / 6), np.zeros(n),
                    np.array([n - 1]), np.array([False]), np.array(frames[-1:]))  # fmt: skip
    agent, shown = load_agent(pong), torch.as_tensor(states.observations)
    spread = {}
    for name, given in (("as it comes", None), ("fitted", states)):
        new = afresh(agent, given, env.observation_space, env.action_space, seed=1)
        policy = build_policy(new, env.observation_space, env.action_space)
        with torch.no_grad():
            first = policy.features_extractor.cnn[0](shown.float() / 255)
            spread[name] = policy.extract_features(shown).std(dim=0).mean()
    np.testing.assert_allclose(first.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(first.std(dim=(0, 2, 3)), 1, atol=1e-3)
    assert spread["fitted"] > 3 * spread["as it comes"]


def test_convolutions_are_kept_as_they_are_quick_and_saved_as_they_are_usual(tmp_path: Path, pong: Path) -> None:
    learner, _ = trained(tmp_path, pong, Plan())
    weight = learner.model.policy.features_extractor.cnn[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    saved = PPO.load(tmp_path / "trained" / "agent.zip", device="cpu").policy.features_extractor.cnn[0].weight
    assert saved.is_contiguous()
    torch.testing.assert_close(saved, weight)


def test_what_was_suggested_in_earlier_rollouts_is_remembered(tmp_path: Path, pong: Path) -> None:
    learner, _ = trained(tmp_path, pong, Plan(imitate=1.0, imitate_memory=40))
    lessons = learner.trainer.attached.imitation.lessons
    assert len(lessons) == 40, "64 steps, of which 40 have room"
    obs, suggested = lessons.draw(500)
    assert obs.shape == (500, 4, 84, 84)
    assert obs.dtype == np.uint8
    assert set(suggested) == {3}
    assert '"imitation": null' not in (tmp_path / "trained" / "curve.jsonl").read_text().splitlines()[-1]


def test_each_state_is_as_likely_to_be_remembered() -> None:
    kept = []
    for seed in range(300):
        lessons = Lessons(5, spaces.Box(0, 255, (1,), np.uint8), spaces.Discrete(2), seed)
        for i in range(0, 20, 4):
            lessons.add(np.arange(i, i + 4, dtype=np.uint8)[:, None], np.zeros(4))
        assert len(lessons) == 5
        kept += lessons.draw(50)[0].ravel().tolist()
    shares = np.bincount(kept, minlength=20) / len(kept)
    np.testing.assert_allclose(shares, 1 / 20, atol=0.02)


def test_remembering_is_refused_where_nothing_would_remember(tmp_path: Path) -> None:
    PPO("MlpPolicy", make_env(CORRIDOR), n_steps=8, batch_size=8, device="cpu").save(tmp_path / "agent.zip")
    config = RunConfig(agent=AgentConfig(agent=str(tmp_path / "agent.zip")), task=TaskConfig(env=CORRIDOR))
    run = open_run(config, tmp_path / "run")
    guidance = DOWN.model_copy(update={"env_id": CORRIDOR, "advice": (), "reward_terms": ()})
    always = Advice(id="r", kind="rule", why="", when=(Condition(variable="obs_0", op="<", value=9.0),),
                    action=Action(index=1))  # fmt: skip
    guidance = guidance.model_copy(update={"advice": (always,)})
    with pytest.raises(AgentError, match="leave it out"):
        Learner(Workspace(run), TrainConfig(), Plan(imitate=1.0, imitate_memory=5), guidance, 1, 64, tmp_path)


def test_a_device_that_is_not_there_is_said_before_anything_runs() -> None:
    check_device("cpu")
    with pytest.raises(UnstuckError, match=r"--train\.device cuda:99: torch .* finds no such device"):
        check_device("cuda:99")


def test_a_replay_buffer_keeps_pixels_and_the_variables_of_ram(tmp_path: Path) -> None:
    small(algorithm=DQN, learning_starts=4).save(tmp_path / "dqn.zip")
    learner, _ = trained(
        tmp_path, tmp_path / "dqn.zip", Plan(terms=True, imitate=1.0), replay={"n_envs": 2, "batch_size": 8}
    )
    buffer = learner.model.replay_buffer
    assert buffer.observations.dtype == np.uint8
    assert buffer.observations.shape[2:] == (4, 84, 84)
    at = learner.guide.source.describer.card.variable_names.index("player_y")
    assert (buffer.values[: buffer.pos, :, at] > 20).all()


@pytest.fixture(scope="module")
def racing(tmp_path_factory: pytest.TempPathFactory, pong: Path) -> Run:
    """A run with episodes, states for treatments, and a transplant that is fitted to them."""
    folder = tmp_path_factory.mktemp("racing")
    sizes = {"n_envs": 2, "n_steps": 16, "batch_size": 32, "n_epochs": 2, "critic_warmup": 0}
    config = RunConfig(
        agent=AgentConfig(agent=str(pong)), task=TaskConfig(env=PONG, env_kwargs={"max_episode_steps": 20}),
        collect=CollectConfig(episodes=2, max_steps=100), train=TrainConfig(**sizes),
    )  # fmt: skip
    run = open_run(config, folder / "run")
    collect(run)
    gather(str(run.root), str(folder), 1, 60, "")
    fit(str(run.root), str(folder), 1, "")
    return run


@pytest.mark.parametrize("name", [
    "transplant", "shrink-and-perturb", "afresh", "thaw", "short-episodes", "transplant+small-batches+guidance",
])  # fmt: skip
def test_each_treatment_of_a_race_trains_and_goes_on_with_pixels(racing: Run, pong: Path, name: str) -> None:
    one, home = competitor(name), racing.root.parent
    plan = one.plan(Plan(terms=True, imitate=1.0))
    for begin, stop in ((0, 32), (32, 64)):
        leg = Leg(
            str(racing.root), str(home), name, 1, begin, stop, 64, plan, one.train(racing.config.train),
            DOWN if one.guided else None, (1,) if begin else (), (), 100, "deterministic", "",
        )  # fmt: skip
        facts = run_leg(leg)
    assert facts["trained"] == 64
    assert len(facts["returns"]) == 1
    first, then = (load_agent(home / name / str(stop) / "agent.zip").state_dict for stop in (32, 64))
    layer = "features_extractor.cnn.0.weight"
    assert not torch.equal(first[layer], then[layer]), "it learns"
    before = load_agent(pong).state_dict[layer]
    kept = float(torch.nn.functional.cosine_similarity(first[layer].flatten(), before.flatten(), dim=0))
    new = {"afresh": kept < 0.5, "transplant": kept < 0.5, "shrink-and-perturb": 0.3 < kept < 0.9}
    assert new.get(name.partition("+")[0], kept > 0.9), kept


def test_a_transplant_of_what_always_does_the_same_can_learn(racing: Run) -> None:
    """Where nothing is to be told apart, too large steps silenced the units that it is to learn with."""
    found = patient(Workspace(racing), racing.root.parent, seed=1)
    assert found.transplanted is not None
    policy = build_policy(found.transplanted, found.observation_space, found.action_space)
    with torch.no_grad():
        features = policy.extract_features(policy.obs_to_tensor(found.need.observations)[0])
    assert (features > 0).any(dim=0).float().mean() > 0.5


def test_games_cut_short_are_not_held_against_whole_ones(racing: Run) -> None:
    assert reference_for(PONG) is not None
    assert evidence_of(Workspace(racing)).reference is None


def test_who_needs_no_states_does_not_fill_the_memory_with_them(racing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path) -> States:
        raise MemoryError(path)

    monkeypatch.setattr(States, "load", load)
    config = competitor("small-batches").train(racing.config.train)
    for name in ("small-batches", "afresh+short-episodes"):
        leg = Leg(str(racing.root), str(racing.root.parent), name, 1, 0, 32, 32, Plan(), config, None, (), (),
                  100, "deterministic", "")  # fmt: skip
        with contextlib.nullcontext() if name == "small-batches" else pytest.raises(MemoryError):
            run_leg(leg)
