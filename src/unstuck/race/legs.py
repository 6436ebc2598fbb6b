"""The work of a race: legs of training, each in a folder of its own, and episodes by which competitors are compared.

    RUN/race/ARM/SEED/states/            states that the agent visits, for treatments that are fitted to them
    RUN/race/ARM/SEED/transplant/        the agent in a new network, for all who go on from it
    RUN/race/ARM/SEED/NAME/STOP/         one leg of one competitor: agent, suspended training, curve, leg.json
    RUN/race/ARM/SEED/test/              the last test: returns of the finalist, the trunk and the agent before

A folder is put in place when all of it is there, and never changed. So a race that was killed goes on where it stood,
and gives what it would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstuck.agents import Agent, load_agent
from unstuck.algorithms import algorithm_of
from unstuck.cells import cell
from unstuck.config import TrainConfig
from unstuck.curves import read_curve
from unstuck.errors import RunError
from unstuck.files import check_arrays
from unstuck.guidance import Guidance
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.playing import Arena
from unstuck.race.competitors import Patient, competitor
from unstuck.race.measure import Measure
from unstuck.results import Mode
from unstuck.rollout import Trace
from unstuck.run import Run
from unstuck.tasks.beside import bytes_of, seen_space
from unstuck.treatments import NOTE, States, of_episodes, transplant, visit, with_weights
from unstuck.vecenvs import make_vec_env
from unstuck.workers import end_with_parent, one_thread
from unstuck.workspace import Workspace

NOISES = (0.1, 0.3, 0.5)
"""Of states beside the collected ones, which have none."""
MOST_BYTES = 128 * 2**20
"""Of the observations that are gathered for treatments beside the collected episodes'."""
SUSPENDED = "training.pt"
WEIGHTS = "weights.npz"


@dataclass(frozen=True)
class Leg:
    """A piece of one competitor's training, and its evaluation. Plain data: it travels to worker processes."""

    root: str
    """The run folder."""
    home: str
    """The folder of the race."""
    name: str
    """Of the competitor."""
    seed: int
    begin: int
    stop: int
    """Environment steps of its training, from and up to which this leg goes."""
    total: int
    """Of the whole training, by which schedules and fading go."""
    plan: Plan
    config: TrainConfig
    guidance: Guidance | None
    seeds: tuple[int, ...]
    """Of the evaluation episodes; the same for all competitors."""
    spare: tuple[int, ...]
    """Of more of them, as many as fit into the steps that those of `seeds` may take."""
    longest: int
    """Environment steps that an episode may take."""
    mode: Mode
    mark: str
    measured: bool = False
    """Whether it is kept what its guidance does in the evaluation episodes."""

    @property
    def folder(self) -> Path:
        return Path(self.home) / self.name / str(self.stop)


@one_thread()
def run_leg(leg: Leg) -> dict[str, Any]:
    """In a worker process or this one: train and evaluate, unless that has been done.

    Returns:
        trained (of the whole), taken (environment steps that training took), returns of the evaluation episodes,
        judged (steps that they took), notes, warnings, backend, engine, hit_rate, seconds; of a leg that is measured
        also `measured` (see `Measure`).
    """
    end_with_parent()
    return cell(leg.folder, leg.mark, lambda draft: _train(leg, draft))


def _train(leg: Leg, draft: Path) -> dict[str, Any]:
    run, entry, home = Run(leg.root), competitor(leg.name), Path(leg.home)
    space = Workspace(run)
    resume = None
    fails = entry.remembers and space.fails
    needed = not leg.begin and entry.needs_states(algorithm_of(space.agent).on_policy)
    given = replace(patient(space, home, leg.seed, leg.total, states=needed), fails=fails)
    if leg.begin:
        before = home / leg.name / str(leg.begin)
        resume = before / SUSPENDED
        agent = entry.resume(given.changed(load_agent(before / "agent.zip")))
    else:
        agent = entry.prepare(given)
    states = gathered(home) if fails else None
    learner = Learner(
        space, leg.config, leg.plan, leg.guidance, leg.seed, leg.total, draft,
        agent=agent, stop=leg.stop, resume=resume, experience=states.transitions() if states is not None else None,
    )  # fmt: skip
    outcome = learner.learn(first_step=0)
    learner.suspend(draft / SUSPENDED)
    found = {k: outcome[k] for k in ("warnings", "notes", "hit_rate", "backend", "engine", "trained")}
    measure = Measure(space.describer, leg.guidance, leg.plan) if leg.measured else None
    returns, steps = _evaluated(space, load_agent(draft / "agent.zip"), leg, measure.add if measure else None)
    more = {"measured": measure.facts()} if measure else {}
    return {**found, "taken": outcome["trained"] - leg.begin, "returns": returns, "judged": steps, **more}


def _evaluated(
    space: Workspace, agent: Agent, leg: Leg, look: Callable[[Trace], None] | None
) -> tuple[list[float], int]:
    """Returns of the evaluation episodes, and the steps that they took: few of them are mostly luck where returns vary,
    and where they are short more can be had for what is kept for them anyway."""
    with Arena(space.make_env) as arena:
        returns, steps = _played(arena, agent, leg.seeds, leg.mode, look)
        for seed in leg.spare:
            if steps + leg.longest > len(leg.seeds) * leg.longest:
                break
            more, taken = _played(arena, agent, [seed], leg.mode, look)
            returns, steps = returns + more, steps + taken
    return returns, steps


def patient(space: Workspace, home: Path, seed: int, steps: int = 0, *, states: bool = True) -> Patient:
    """The agent, and the states that were gathered for this race, or those of the collected episodes where nobody has
    needed more; none where they are not needed: of images they fill hundreds of megabytes."""
    env = space.make_env()
    observation_space, action_space = env.observation_space, env.action_space
    env.close()
    held = gathered(home) if states else None
    if held is None and states and space.collected:
        held = of_episodes(space.episodes, space.actor)
    return Patient(
        space.agent, held, observation_space, action_space, seed, steps, transplanted=_transplanted(space.agent, home)
    )


def gathered(home: Path) -> States | None:
    """What `gather` left."""
    path = home / "states" / "states.npz"
    return States.load(path) if path.exists() else None


def _transplanted(agent: Agent, home: Path) -> Agent | None:
    """What `fit` left."""
    path = home / "transplant" / WEIGHTS
    if not path.exists():
        return None
    try:
        check_arrays(path, path.stat().st_size)  # nothing in it is compressed
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); delete its folder, and it is made again") from error
    with np.load(path, allow_pickle=False) as file:
        weights = {name: torch.as_tensor(file[name]) for name in file.files}
    return with_weights(agent, weights, NOTE, agent.normalization)


@one_thread()
def fit(root: str, home: str, seed: int, mark: str) -> dict[str, Any]:
    """The agent in a new network, fitted to the states that were gathered; takes no environment steps.

    Returns:
        agreement (share of held-out actions that are the same) and faithful.
    """

    def work(draft: Path) -> dict[str, Any]:
        p = patient(Workspace(Run(root)), Path(home), seed)
        new, found = transplant(p.agent, p.need, p.observation_space, p.action_space, seed=seed)
        np.savez(draft / WEIGHTS, **{k: v.numpy() for k, v in new.state_dict.items()})  # type: ignore[arg-type]
        return {"agreement": round(found.agreement, 4), "faithful": found.faithful}

    return cell(Path(home) / "transplant", mark, work)


@one_thread()
def gather(root: str, home: str, seed: int, steps: int, mark: str) -> dict[str, Any]:
    """States for the treatments: of the collected episodes, if there are any, and about `steps` more with noise.

    Returns:
        taken: the environment steps of the latter.
    """

    def work(draft: Path) -> dict[str, Any]:
        space = Workspace(Run(root))
        task, config = space.config.task, space.config.train
        venv = make_vec_env(space.make_env, task.env, task.env_kwargs, config.n_envs, config.backend, config.threads)
        most = max(config.n_envs, MOST_BYTES // max(1, bytes_of(seen_space(venv.observation_space))))
        try:
            seen = visit(space.actor, venv, min(steps, most), seed, NOISES if space.collected else (0.0, *NOISES))
        finally:
            venv.close()
        whole = of_episodes(space.episodes, space.actor) + seen if space.collected else seen
        whole.save(draft / "states.npz")
        return {"taken": len(seen)}

    return cell(Path(home) / "states", mark, work)


def play(
    space: Workspace, agent: Agent, seeds: Sequence[int], mode: Mode, look: Callable[[Trace], None] | None = None
) -> tuple[list[float], int]:
    """The agent's returns in whole episodes on the task's true reward, in the order of the seeds, and the environment
    steps that they took. `look` is shown each episode, with its observations and actions."""
    with Arena(space.make_env) as arena:
        return _played(arena, agent, seeds, mode, look)


def _played(
    arena: Arena, agent: Agent, seeds: Sequence[int], mode: Mode, look: Callable[[Trace], None] | None
) -> tuple[list[float], int]:
    if not seeds:
        return [], 0
    found = arena.play(agent, seeds, (mode,), look)[mode]
    return list(found.returns), found.steps


def curve_of(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(L,) steps, mean returns and numbers of episodes of the lines of a learning curve in which any ended."""
    held = [(point.trained, point.return_mean, point.episodes) for point in read_curve(folder) if point.episodes]
    steps, returns, counts = np.asarray(held, dtype=float).reshape(-1, 3).T
    return steps, returns, counts
