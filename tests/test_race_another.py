"""Beginning again with SAC: what it makes of an agent, who may be offered it, and by what it is judged in a race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from unstuck.agents import Agent, load_agent, save_agent
from unstuck.algorithms import algorithm_of, policy_of
from unstuck.config import CollectConfig, EvaluateConfig, RaceConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.contender import Chosen, files_of
from unstuck.errors import AgentError, RunError
from unstuck.guide.plan import Plan
from unstuck.pipeline import open_run
from unstuck.race import contest as contests
from unstuck.race.competitors import Patient, competitor
from unstuck.race.contest import Contest
from unstuck.race.engine import Race
from unstuck.race.entering import Outlook, Signs, entries
from unstuck.race.entry import Entry
from unstuck.race.finish import ahead_of
from unstuck.race.legs import patient
from unstuck.race.reserve import Reserve
from unstuck.race.schedule import Curve, Rungs, drawn_out
from unstuck.race.track import Track
from unstuck.results import Scores, trainings
from unstuck.rollout import first_of
from unstuck.rounds import train
from unstuck.run import Run
from unstuck.stages.collect import collect
from unstuck.stages.evaluate import SCORES, evaluate
from unstuck.stages.explain import explain
from unstuck.stages.handover import hand_over
from unstuck.stages.verify import verify
from unstuck.suspended import Suspended
from unstuck.treatments import States, quieter, sac
from unstuck.treatments.another import CLIP, DUEL, MOST, NAMES, UPDATES, is_offered

Array = np.ndarray


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> tuple[Agent, States, spaces.Space, spaces.Space]:
    """An agent of PPO without statistics, with states."""
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=32, batch_size=32, seed=0, device="cpu", gamma=0.95)
    agent = load_agent(save_agent(model, tmp_path_factory.mktemp("agent") / "agent.zip"))
    rng = np.random.default_rng(0)
    seen = rng.normal([0.5, 0.0, 3.0], [0.2, 0.5, 4.0], size=(400, 3)).astype(np.float32)
    actions = rng.uniform(-2, 2, size=(400, 1)).astype(np.float32)
    states = States(seen, actions, actions, None, np.zeros(400), np.array([399]), np.array([False]), seen[:1])
    return agent, states, model.observation_space, model.action_space


def test_it_is_a_new_agent_of_sac_on_inputs_of_one_scale(pendulum: tuple[Agent, States, spaces.Space, spaces.Space]):
    agent, states, seen, acts = pendulum
    new = sac(agent, states, seen, acts, seed=1)
    assert algorithm_of(new).name == "SAC"
    assert new.hyperparameters["gamma"] == 0.95
    assert new.normalization is not None
    np.testing.assert_allclose(new.normalization.obs_mean, states.observations.mean(axis=0), rtol=1e-3)
    assert new.normalization.clip_obs == CLIP
    assert not new.normalization.norm_reward
    act = policy_of(new, seen, acts).act(states.observations[:5], deterministic=True)
    assert act.shape == (5, 1)
    same, other = sac(agent, states, seen, acts, seed=1), sac(agent, states, seen, acts, seed=2)
    weights = [a.state_dict["actor.mu.weight"].numpy() for a in (new, same, other)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(("steps", "share"), [(0, MOST), (40_000, MOST), (400_000, UPDATES / 400_000)])
def test_a_long_training_makes_fewer_gradient_steps_for_each_step(
    steps: int, share: float, pendulum: tuple[Agent, States, spaces.Space, spaces.Space]
):
    agent, states, seen, acts = pendulum
    settings = sac(agent, states, seen, acts, seed=1, steps=steps).hyperparameters
    assert settings["n_steps"] == 1
    assert sac(agent, states, seen, acts, seed=1, steps=steps, fails=True).hyperparameters["n_steps"] == 3
    assert settings["gradient_steps"] / settings["train_freq"] == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("kind", ["image", "from one on", "several at once", "unbounded"])
def test_what_sac_cannot_learn_is_refused_with_a_word(
    kind: str, pendulum: tuple[Agent, States, spaces.Space, spaces.Space]
):
    agent, states, seen, acts = pendulum
    spaces_: dict[str, tuple[spaces.Space, spaces.Space]] = {
        "image": (spaces.Box(0, 255, (8, 8, 3), np.uint8), acts),
        "from one on": (seen, spaces.Discrete(3, start=1)),
        "several at once": (seen, spaces.MultiDiscrete([3, 3])),
        "unbounded": (seen, spaces.Box(-np.inf, np.inf, (1,), np.float32)),
    }
    with pytest.raises(AgentError, match="leave `sac` out"):
        sac(agent, states, *spaces_[kind], seed=1)


def test_its_noise_can_be_turned_down(pendulum: tuple[Agent, States, spaces.Space, spaces.Space]):
    agent, states, seen, acts = pendulum
    loud = sac(agent, states, seen, acts, seed=1)
    quiet = quieter(loud, acts, 0.1)
    assert quiet is not None

    def spread(one: Agent) -> float:
        policy = policy_of(one, seen, acts)
        rngs = [np.random.default_rng(i) for i in range(200)]
        return float(np.std(policy.act(np.repeat(states.observations[:1], 200, axis=0), False, rngs)))

    assert spread(quiet) < 0.3 * spread(loud)  # a tenth of it before the tanh
    here = states.observations[:8]
    before, after = (policy_of(one, seen, acts).act(here, deterministic=True) for one in (loud, quiet))
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_who_is_offered_it() -> None:
    stuck = Signs("stuck", budget=100_000)
    assert "sac" not in [c.name for c in entries(stuck)]
    offered = [c.name for c in entries(replace(stuck, replays=True))]
    late = [name for name in offered if competitor(name).late]
    assert late[0] == "sac"
    assert offered[:2] == ["continue", "sac"], "in the order in which they are tried"
    halfway = [c.name for c in entries(replace(stuck, replays=True, distance=0.6))]
    assert halfway.index("sac") > halfway.index("small-batches")
    guided = entries(replace(stuck, replays=True, guidances=1, long=True))
    assert [c.name for c in guided if c.late][:2] == ["sac", "afresh+guidance"]
    coached = replace(stuck, replays=True, guidances=1, terms=True)
    assert [c.name for c in entries(coached)][:3] == ["continue", "sac", "sac+guidance"]
    silent = [c.name for c in entries(replace(coached, terms=False))]
    assert "sac" in silent
    assert "sac+guidance" not in silent, "a coach who names no reward terms"
    assert "sac" in [c.name for c in entries(replace(stuck, replays=True, agent_steps=10**9))]
    for verdict in ("already good", "on its way"):
        assert [c.name for c in entries(Signs(verdict, budget=100_000, replays=True))] == ["continue"]  # type: ignore[arg-type]
        many = Signs(verdict, budget=500_000, long=True, replays=True, guidances=1, terms=True, distance=0.7)  # type: ignore[arg-type]
        new = ["sac", "sac-again"] if verdict == "on its way" else []
        assert [c.name for c in entries(many)] == ["continue", "guidance", *new]


@pytest.mark.parametrize(
    ("acts", "budget", "better", "offered"),
    [
        (spaces.Discrete(4), 100_000, False, True),
        (spaces.Discrete(4), 100_000, True, False),  # from an agent that is halfway, or with a coach
        (spaces.Box(-1.0, 1.0, (2,)), 100_000, True, True),
        (spaces.Box(-1.0, 1.0, (2,)), 700_000, False, False),
        (spaces.MultiBinary(4), 100_000, False, False),
    ],
)  # fmt: skip
def test_where_it_is_offered_unasked(acts: spaces.Space, budget: int, better: bool, offered: bool) -> None:
    assert is_offered(budget, spaces.Box(-1.0, 1.0, (8,)), acts, better=better) == offered


@pytest.mark.parametrize(
    ("means", "counts", "shown"),
    [
        ([-100.0, -90.0, -95.0, 41.0], [1, 1, 1, 1], -48.0),  # one lucky episode of BipedalWalkerHardcore
        ([-100.0, 30.0, 41.0], [2, 5, 1], 31.83),
        ([-100.0, 30.0, 41.0], [2, 5, 3], 41.0),
        ([-100.0, -120.0], [2, 2], -85.0),  # its evaluation is better
        ([], [], -85.0),
    ],
)
def test_what_a_competitor_has_shown(means: list[float], counts: list[int], shown: float) -> None:
    track = _Track({"sac": Curve("sac", 24_000, -85.0, 5.0)}, 0.0)
    rows = np.arange(len(means), dtype=float), np.array(means), np.array(counts)
    track.training_curve = lambda entry: rows  # type: ignore[method-assign]
    assert track.shown(Entry(competitor("sac"), Plan(), None)) == pytest.approx(shown, abs=0.01)


def test_gains_are_drawn_out_along_a_curve_through_them() -> None:
    # c + d·t^0.6 through (0, -200) and (10,000, 800).
    curve = Curve("sac", 10_000, 800.0, 10.0)
    assert drawn_out(-200.0, curve, 60_000) == pytest.approx(-200 + 1000 * 6**0.6)
    assert drawn_out(900.0, curve, 60_000) == 800.0
    assert drawn_out(-200.0, curve, 5_000) == 800.0
    assert drawn_out(-200.0, curve, 60_000, 1.0) == pytest.approx(-200 + 1000 * 6)


class _Track(Track):
    """One with curves that are given."""

    def __init__(self, curves: dict[str, Curve], first: float, last: float | None = None) -> None:
        self.last = last
        self.curves, self.first, self.total, self.budget = curves, first, 60_000, 90_000
        self.spent, self.episode, self.quantum, self.entries = {"train": 20_000}, 1000, 2048, []
        self.config, self.steps = RaceConfig(), {}
        self.stretches, self.episodes = (1, 1), 2

    before = (750.0, 10.0)  # type: ignore[assignment]

    def given(self, mode: str) -> dict[int, float]:
        return {}

    def curve(self, entry: Entry) -> Curve:
        return self.curves[entry.name]

    def training_curve(self, entry: Entry) -> tuple[Array, Array, Array]:
        returns = np.array([self.first, self.first if self.last is None else self.last])
        return np.array([4096.0, 8192.0]), returns, np.array([4.0, 4.0])

    def train(self, racing, stop, episodes=None) -> None:  # type: ignore[no-untyped-def]
        for entry in racing:
            self.steps[entry.name] = entry.trained = max(stop, entry.trained)

    def show(self, title: str = "") -> None:
        pass


@pytest.mark.parametrize(
    ("first", "last", "level", "goes_on"),
    [
        (-250.0, -250.0, 600.0, "sac"), (-250.0, 400.0, -240.0, "sac"), (-250.0, -200.0, -240.0, "transplant"),
        (100.0, 110.0, 120.0, "transplant"), (500.0, 600.0, 760.0, "sac"),
        # Drawn out to 712 and 652, where 750 less chance is 675.
        (660.0, 660.0, 680.0, "sac"), (600.0, 600.0, 620.0, "transplant"),
    ],
)  # fmt: skip
def test_it_goes_on_where_what_it_gained_leads_above_the_others(
    first: float, last: float, level: float, goes_on: str
) -> None:
    curves = {
        "transplant": Curve("transplant", 10_000, 750.0, 5.0, 0.0, 0.001),
        "sac": Curve("sac", 12_288, level, 50.0),
    }
    track = _Track(curves, first, last)
    base, late = (Entry(competitor(name), Plan(), None) for name in curves)
    contest = Contest(track, [base], [late], Rungs(entered=2, first=10_240, episodes=2))
    assert contest.trials.try_late(base, [late]).name == goes_on
    assert track.steps == {"sac": 12_288}, "it is judged early, not after a quarter of the budget"


@pytest.mark.parametrize(
    ("levels", "budget", "goes_on", "steps"),
    [
        ((600.0, 900.0), 500_000, "sac-again", 24_576),
        ((900.0, 600.0), 500_000, "sac", 24_576),
        ((-200.0, -220.0), 500_000, "transplant", 24_576),
        ((600.0, 900.0), 100_000, "sac", 12_288),  # no room for two: the first that leads somewhere
    ],
)
def test_where_there_is_room_the_better_of_two_goes_on(
    levels: tuple[float, float], budget: int, goes_on: str, steps: int
) -> None:
    names = ("sac", "sac-again")
    curves = {name: Curve(name, steps, level, 50.0) for name, level in zip(names, levels, strict=True)}
    curves["transplant"] = Curve("transplant", 10_000, 750.0, 5.0, 0.0, 0.001)
    track = _Track(curves, -250.0)
    track.budget, track.total, track.reserve = budget, 300_000, Reserve(10_000, (1.0,), 0, 1000)
    base, *late = (Entry(competitor(name), Plan(), None) for name in ("transplant", *names))
    contest = Contest(track, [base], late, Rungs(entered=2, first=10_240, episodes=2))
    winner = contest.trials.try_late(base, late)
    assert winner.name == goes_on
    assert set(track.steps.values()) == {steps}
    assert len(track.steps) == (2 if budget >= DUEL else 1)
    if winner is not base:
        loser = next(e for e in late if e is not winner)
        assert loser.rank.status == "dropped"
        assert ("returns 600 after as many steps" in loser.rank.note) == (budget >= DUEL)


def test_a_second_one_enters_where_there_is_room() -> None:
    def quick(**more: object) -> list[str]:
        signs = replace(Signs("stuck", budget=DUEL, long=True, replays=True), **more)  # type: ignore[arg-type]
        return [c.name for c in entries(signs) if c.quick]

    assert quick() == ["sac", "sac-again"]
    assert quick(budget=100_000) == ["sac"]
    assert quick(guidances=1, terms=True) == ["sac", "sac-again", "sac+guidance"]
    assert quick(replays=False) == []


def test_a_second_one_begins_with_other_weights(pendulum: tuple[Agent, States, spaces.Space, spaces.Space]) -> None:
    agent, states, seen, acts = pendulum
    first, again = (competitor(name).prepare(Patient(agent, states, seen, acts, seed=1)) for name in NAMES)
    assert first.hyperparameters == again.hyperparameters
    weights = [a.state_dict["actor.mu.weight"].numpy() for a in (first, again)]
    assert not np.array_equal(*weights)
    assert competitor("sac").train(TrainConfig()) == competitor("sac-again").train(TrainConfig())


def test_there_is_room_for_it_on_a_short_budget_beside_what_is_guided() -> None:
    track = _Track({}, 0.0)
    entered = [Entry(competitor(name), Plan(), None) for name in ("continue", "guidance", "sac", "afresh")]
    assert [e.name for e in contests.contest(track, entered).late] == ["sac"]
    assert entered[-1].rank.status == "dropped"


def test_its_settings_are_those_of_a_beginning() -> None:
    found = competitor("sac").train(TrainConfig())
    assert found.replay.anew
    assert competitor("sac").quick
    assert not competitor("afresh").quick


def test_what_it_hands_over_runs_without_unstuck(
    tmp_path: Path, pendulum: tuple[Agent, States, spaces.Space, spaces.Space]
) -> None:
    """By the library alone, with statistics where the agent had none; the same returns as were reported."""
    config = RunConfig(
        task=TaskConfig(env="Pendulum-v1"),
        agent={"agent": str(pendulum[0].path)},
        collect=CollectConfig(episodes=2, max_steps=400),
        train=TrainConfig(steps=1_500, seeds=(1,), method="race", control=False, n_steps=64, n_envs=8),
        race=RaceConfig(treatments=("sac",)),
        evaluate=EvaluateConfig(episodes=2, before_episodes=2),
    )  # fmt: skip
    run = open_run(config, tmp_path / "run")
    for stage in (collect, explain, verify, train, evaluate):
        stage(run)
    hand_over(run)
    facts = next(iter(trainings(run).values()))
    assert facts.engine == "fast"
    path = files_of(run, Chosen("race", 1, facts.checkpoints[-1].trained))[0]
    model = SAC.load(path, device="cpu")
    env = VecNormalize.load(
        str(path.with_suffix(".vecnormalize.pkl")), DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    )  # fmt: skip
    env.training = False
    scores = Scores.read(run.root / SCORES).arms["race"].seeds[1].checkpoints[-1]
    env.seed(first_of(run.config.evaluate.seed, 1))
    obs, total, done = env.reset(), 0.0, False
    while not done:
        obs, _, ended, _ = env.step(model.predict(obs, deterministic=True)[0])
        total, done = total + float(env.get_original_reward()[0]), bool(ended[0])
    assert total == pytest.approx(scores.deterministic[0], rel=1e-3)


@pytest.mark.parametrize(("first", "goes_on"), [(-250.0, True), (500.0, False)])
def test_as_the_winner_it_is_given_time_to_pass(first: float, goes_on: bool) -> None:
    """Also on a short budget, where others must be ahead at the first look."""
    winner = Entry(competitor("sac"), Plan(), None, 24_576, [(12_288, [600.0]), (24_576, [600.0])])
    rival = Entry(competitor("continue"), Plan(), None, 10_240, [(10_240, [750.0])])
    curves = {
        "sac": Curve("sac", 24_576, 600.0, 50.0),
        "continue": Curve("continue", 10_240, 750.0, 5.0, 0.0, 0.001),
    }
    track = _Track(curves, first)
    track.budget, track.reserve = 60_000, Reserve(10_000, (1.0,), 0, 1000)
    assert (ahead_of(track, winner, [rival], patient=True) is None) == goes_on


def ready_to_race(folder: Path, env: str, *, steps: int, **race: tuple[str, ...]) -> Run:
    """A run of a fresh agent of PPO, up to its race."""
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=0, device="cpu")
    config = RunConfig(
        task=TaskConfig(env=env), agent={"agent": str(save_agent(model, folder / "agent.zip"))},
        collect=CollectConfig(episodes=2, max_steps=400),
        train=TrainConfig(steps=steps, seeds=(1,), method="race", control=False, n_steps=32, n_envs=8),
        race=RaceConfig(**race),
    )  # fmt: skip
    run = open_run(config, folder / "run")
    for stage in (collect, explain, verify):
        stage(run)
    return run


def test_a_race_that_names_it_where_it_cannot_learn_is_refused_before_a_step(tmp_path: Path) -> None:
    run = ready_to_race(tmp_path, "FrozenLake-v1", steps=4_000, treatments=("sac", "afresh"))
    with pytest.raises(AgentError, match="leave `sac` out"):
        train(run)
    assert not list((run.root / "race").glob("*/*/states"))


def test_a_budget_too_small_for_a_race_is_said_to_be(tmp_path: Path) -> None:
    run = ready_to_race(tmp_path, "Pendulum-v1", steps=1_000)
    with pytest.raises(RunError, match="no room to train anybody"):
        train(run)


@pytest.mark.parametrize(("level", "goes_on"), [(600.0, "sac+guidance"), (120.0, "transplant")])
def test_it_comes_before_what_goes_on_from_the_agent(level: float, goes_on: str) -> None:
    curves = {
        "continue": Curve("continue", 6_144, 750.0, 5.0, 0.0, 0.001),
        "transplant": Curve("transplant", 6_144, 760.0, 5.0, 0.0, 0.001),
        "sac+guidance": Curve("sac+guidance", 12_288, level, 5.0),
    }

    class _Trains(_Track):
        def train(self, racing, stop, episodes=None) -> None:  # type: ignore[no-untyped-def]
            super().train(racing, stop)
            for one in racing:
                one.points.append((stop, [0.0]))

    track = _Trains(curves, 100.0)
    trunk, other, late = (Entry(competitor(name), Plan(), None) for name in curves)
    contest = Contest(track, [trunk, other], [late], Rungs(entered=2, first=6_144, episodes=2))
    assert contest.run().winner.name == goes_on
    assert ("transplant" in track.steps) == (goes_on == "transplant")
    near = Contest(track, [trunk, other], [late], Rungs(2, 6_144, 2), outlook=Outlook(near=True))
    assert not near.leading, "of an agent that is halfway what it has learnt comes first"


@pytest.mark.parametrize("withdraws", ["transplant", "small-batches"])
def test_others_are_made_ready_only_where_it_is_given_up(withdraws: str) -> None:
    """States with noise and a transplant are for them; who is not fit to race makes room for who waited."""
    curves = {
        "continue": Curve("continue", 6_144, 750.0, 5.0, 0.0, 0.001),
        "transplant": Curve("transplant", 6_144, 760.0, 5.0, 0.0, 0.001),
        "small-batches": Curve("small-batches", 6_144, 760.0, 5.0, 0.0, 0.001),
        "sac": Curve("sac", 12_288, 600.0, 5.0),
    }

    class _Trains(_Track):
        def train(self, racing, stop, episodes=None) -> None:  # type: ignore[no-untyped-def]
            super().train(racing, stop)
            for one in racing:
                one.points.append((stop, [0.0]))

    def raced(level: float) -> tuple[list[list[str]], Contest]:
        curves["sac"] = Curve("sac", 12_288, level, 5.0)
        trunk, other, waiting, late = (Entry(competitor(name), Plan(), None) for name in curves)
        asked = []

        def ready(racing: Sequence[Entry]) -> None:
            asked.append([e.name for e in racing])
            for one in racing:
                if one.name == withdraws:
                    one.out("withdrew")

        track_ = _Trains(curves, 100.0)
        track_.ready = ready
        contest = Contest(
            track_, [trunk, other], [late], Rungs(entered=2, first=6_144, episodes=2), waiting=[waiting]
        )  # fmt: skip
        contest.run()
        return asked, contest

    asked, _ = raced(level=600.0)
    assert asked == [["sac"]]
    asked, contest = raced(level=120.0)
    assert asked == [["sac"], ["continue", "transplant", "small-batches"]]
    assert [e.name for e in contest.early] == ["continue", ({"transplant", "small-batches"} - {withdraws}).pop()]
    assert not contest.waiting


@pytest.mark.parametrize(("env", "gathered"), [("Pendulum-v1", False), ("Hopper-v5", True)])
def test_states_are_gathered_for_it_where_failing_ends_episodes(tmp_path: Path, env: str, gathered: bool) -> None:
    """Elsewhere the collected episodes give it the scale of its observations."""
    run = ready_to_race(tmp_path, env, steps=40_000, treatments=("sac", "transplant"))
    track = Track(run, tmp_path, 1, 40_000, run.config.race)
    race = Race(track, [])
    sac, others = [e for e in track.entries if e.name == "sac"], [e for e in track.entries if e.name != "sac"]
    race.operate(sac)
    assert (track.spent["states"] > 0) == gathered
    assert not (tmp_path / "transplant").exists()
    given = patient(track.space, tmp_path, 1)
    assert (len(given.need) > sum(map(len, track.space.episodes))) == gathered
    race.operate(others)
    assert track.spent["states"] > 0
    assert (tmp_path / "transplant").exists()


def test_the_trunk_is_looked_at_once(tmp_path: Path) -> None:
    """Where it was tried first already, nobody is trained when it is asked for again."""
    run = ready_to_race(tmp_path, "Pendulum-v1", steps=4_000, treatments=("sac",))
    trunk = Entry(competitor("continue"), Plan(), None, 64, [(64, [0.0])])
    Track(run, tmp_path / "race", 1, 4_000, RaceConfig(treatments=("continue", "sac")), workers=2).train([trunk], 64)
    assert trunk.points == [(64, [0.0])]


def test_it_remembers_what_the_agent_has_seen() -> None:
    assert competitor("sac").remembers
    assert competitor("sac+guidance").remembers
    assert not competitor("afresh+guidance").remembers
    assert competitor("sac").train(TrainConfig()).replay.average


@pytest.mark.parametrize(("env", "n_steps"), [("InvertedPendulum-v5", 3), ("Pendulum-v1", 1)])
def test_where_failing_ends_episodes_it_learns_otherwise(env: str, n_steps: int, tmp_path: Path) -> None:
    """From returns of several steps, and beginning with what the agent has seen."""
    run = ready_to_race(tmp_path, env, steps=1_500, treatments=("sac",))
    train(run)
    (leg,) = run.root.glob("race/*/1/sac/*/training.pt")
    trained = int(leg.parent.name)
    assert SAC.load(leg.parent / "agent.zip", device="cpu").n_steps == n_steps
    rewards = Suspended.load(leg).trainer["buffer"]["arrays"]["rewards"]
    assert (rewards.size > trained + 50) == (n_steps == 3)


def test_with_the_coach_it_takes_his_reward_terms_and_whole_episodes() -> None:
    plan = competitor("sac+guidance").plan(Plan(terms=True, short_episodes=100, verified=True))
    assert plan.terms
    assert plan.short_episodes == 0
    assert competitor("sac").plan(Plan(terms=True)) == Plan()
