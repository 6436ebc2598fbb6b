"""Returns of whole episodes: the same to the bit, however many are played at once and whatever was played before."""

from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from unstuck import playing
from unstuck.agents import load_agent
from unstuck.algorithms import policy_of
from unstuck.playing import Arena
from unstuck.results import MODES
from unstuck.rollout import run_episodes
from unstuck.tasks import make_env

SEEDS = range(3, 8)


def hopper() -> gym.Env:
    return make_env("Hopper-v5", {"max_episode_steps": 60})


def hill() -> gym.Env:
    return make_env("MountainCarContinuous-v0", {"max_episode_steps": 40})


def saved(folder: Path, make, seed: int):
    model = PPO("MlpPolicy", make(), seed=seed, device="cpu", policy_kwargs={"log_std_init": -0.5})
    model.save(folder / f"{seed}.zip")
    return load_agent(folder / f"{seed}.zip")


def one_by_one(make, agent, mode) -> list[float]:
    """By torch, in one new environment for each episode."""
    found = []
    for seed in SEEDS:
        env = make()
        actor = policy_of(agent, env.observation_space, env.action_space)
        (trace,) = run_episodes([env], actor, [seed], deterministic=mode == "deterministic")
        found.append(trace.total_reward)
        env.close()
    return found


@pytest.mark.parametrize("make", [hopper, hill])
def test_returns_do_not_depend_on_what_is_played_beside_or_before(tmp_path, make, monkeypatch):
    agents = [saved(tmp_path, make, seed) for seed in (0, 1)]
    alone = [{mode: one_by_one(make, agent, mode) for mode in MODES} for agent in agents]
    assert alone[0]["deterministic"] != alone[0]["sampled"]
    for many in (playing.MANY, 3):
        monkeypatch.setattr(playing, "MANY", many)
        with Arena(make) as arena:
            together = [arena.play(agent, SEEDS) for agent in agents]
            again = arena.play(agents[0], SEEDS[2:], ("sampled",))
        assert [{m: list(p.returns) for m, p in each.items()} for each in together] == alone
        assert again["sampled"].returns == together[0]["sampled"].returns[2:]


def test_many_at_once_only_where_it_is_nearly_free(tmp_path):
    """Other simulators take as long for each environment, and some are slow to make."""
    made = []

    def counted(make):
        made.append(make())
        return made[-1]

    for make, count in ((hopper, 2 * len(SEEDS)), (hill, len(SEEDS))):
        made.clear()
        with Arena(lambda make=make: counted(make)) as arena:
            arena.play(saved(tmp_path, make, 0), SEEDS)
        assert len(made) == count


def test_steps_and_cuts_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(playing, "LONGEST", 25)
    monkeypatch.setattr(playing, "time_limit", lambda env: None)
    seen = []
    with Arena(hill) as arena:
        played = arena.play(saved(tmp_path, hill, 0), SEEDS, ("sampled",), seen.append)["sampled"]
    assert (played.steps, played.cut, len(seen)) == (25 * len(SEEDS), len(SEEDS), len(SEEDS))
