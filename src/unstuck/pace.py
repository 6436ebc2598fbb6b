"""How long a run will take, roughly, and what it is: one sentence before it begins."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from unstuck.algorithms import algorithm_of, continued_by
from unstuck.config import TrainConfig
from unstuck.errors import EnvironmentFaultError
from unstuck.methods import METHODS, SMALL_BATCH
from unstuck.run import Run
from unstuck.tasks.guarded import Place, guarded
from unstuck.treatments.another import EARLY, MOST, NAMES, UPDATES, is_offered
from unstuck.treatments.transplant import BATCH, passes_of_images
from unstuck.workers import cores, one_thread
from unstuck.workspace import Workspace

WATCHED, MOST_STEPS = 0.25, 1000
"""Seconds, and environment steps, for which one environment is watched; random actions, which nothing learns from."""
CONVOLVED = 3
"""Passes through convolutions that are timed."""
GRADIENT_STEP = 0.0015
"""Seconds of one of SAC's, with the steps of the environment and the sampling for it, about."""
TOLD = 20
"""Seconds from which what a transplant takes is said."""
ALONE = 0.6
"""Share of a race's budget in which only one competitor trains, about: one core has work then."""


def announcement(run: Run) -> str:
    """What is about to be trained, with how many steps, and about how long; '' where all of it is done."""
    config = run.config.train
    spec, name = METHODS[config.method], config.name or config.method
    if all(f"train/{name}/{seed}" in run.manifest.stages for seed in config.seeds):
        return ""
    space = Workspace(run)
    seeds = f"seed {config.seeds[0]}" if len(config.seeds) == 1 else f"each of {len(config.seeds)} seeds"
    what = "a race" if spec.race == () else f"{spec.label}, one training"
    control = config.control and name != "ppo"
    beside = f" and {continued_by(space.agent)} continued with as many beside it" if control else ""
    try:
        pace = seconds_per_step(space, config, SMALL_BATCH if spec.race == () else config.batch_size)
    except EnvironmentFaultError:
        pace = None  # what is wrong with it is told where it matters, with the episode and the step
    long = "" if pace is None else f"; about {_words(pace * _chain(config, spec.race == (), control))} here"
    if long and spec.race == () and may_replay(run, space):
        updates = min(UPDATES + MOST * EARLY[0], MOST * ALONE * config.steps) * len(config.seeds)
        long += f", {_words(updates * GRADIENT_STEP)} more if it is begun again with SAC"
    if long and spec.race == () and (fitting := seconds_of_transplant(run, space)) > TOLD:
        long += f", {_words(fitting)} more if it is transplanted"
    return f"what will run: {what} within {config.steps:,} environment steps for {seeds}{beside}{long}"


@one_thread()
def seconds_of_transplant(run: Run, space: Workspace) -> float:
    """What it takes to fit a new network for images to what the agent does, about; 0 where no transplant may take part,
    or what is fitted is small."""
    race = run.config.race
    if race.treatments and not race.names("transplant"):
        return 0.0
    if (each := _passed(space, BATCH, learns=True)) is None:
        return 0.0
    count = run.config.collect.max_steps
    return each * count * passes_of_images(count)


def _chain(config: TrainConfig, races: bool, control: bool) -> float:
    """Environment steps that are trained one after the other, at best."""
    there = cores()
    work = config.steps * len(config.seeds) * (2 if control else 1) / min(there, config.jobs or there)
    alone = config.steps * (ALONE + (1 - ALONE) / there if races else 1)
    return max(work, alone)


def _words(seconds: float) -> str:
    """`40 seconds`, `6 minutes`, `3 hours`: one digit or two, as that is all that is known."""
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * size:
            count = round(seconds / size)
            return f"{count} {unit}s"
    return "a minute" if seconds > 45 else f"{max(10, round(seconds, -1)):.0f} seconds"


def may_replay(run: Run, space: Workspace) -> bool:
    """Whether SAC may take part in the run's race: it is named, or it can learn the task and is not ruled out."""
    if run.config.race.treatments:
        return run.config.race.names(*NAMES)
    return is_offered(run.config.train.steps, *space.spaces)


@one_thread()
def seconds_per_step(space: Workspace, config: TrainConfig, batch_size: int) -> float | None:
    """Seconds that one environment step of training takes on one core, about: the simulation's share by some steps of
    one environment, the update's by some minibatches through matrices of the networks' shapes, or, where there are
    convolutions, through the network itself, and what it takes to act. None where neither can be measured.

    Raises:
        EnvironmentFaultError: the environment misbehaves.
    """
    agent = space.agent
    shapes = [tuple(t.shape) for name, t in agent.state_dict.items() if name.endswith("weight") and t.ndim > 1]
    if any(len(shape) > 2 for shape in shapes):
        return _convolved(space, config, batch_size)
    passes = config.n_epochs / batch_size if algorithm_of(agent).on_policy else 1.0
    return _simulation(space) + passes * _minibatch(shapes, batch_size)


def _simulation(space: Workspace) -> float:
    env = space.make_env()
    try:
        with guarded(Place(space.config.task.env, what="watched step")):
            env.action_space.seed(0)
            env.reset(seed=0)
            begun, steps = time.perf_counter(), 0
            while steps < MOST_STEPS and time.perf_counter() - begun < WATCHED:
                over: Any = env.step(env.action_space.sample())
                steps += 1
                if over[2] or over[3]:
                    env.reset()
            return (time.perf_counter() - begun) / steps
    finally:
        env.close()


def _convolved(space: Workspace, config: TrainConfig, batch_size: int) -> float | None:
    acts, learns = _passed(space, config.n_envs, learns=False), _passed(space, batch_size, learns=True)
    return None if acts is None or learns is None else _simulation(space) + acts + config.n_epochs * learns


def _passed(space: Workspace, count: int, *, learns: bool) -> float | None:
    """Seconds that an observation takes through the agent's convolutions, in batches of so many; and back, where it is
    learnt from. None where there are no convolutions."""
    policy = getattr(space.actor, "policy", None)
    if not isinstance(policy, ActorCriticPolicy) or not any(isinstance(m, torch.nn.Conv2d) for m in policy.modules()):
        return None
    policy = copy.deepcopy(policy).float().requires_grad_(True)
    seen: Any = policy.observation_space
    if not seen.shape:
        return None
    states = torch.zeros((count, *seen.shape), dtype=torch.uint8 if seen.dtype == np.uint8 else torch.float32)
    times = []
    for _ in range(CONVOLVED):
        begun = time.perf_counter()
        with torch.set_grad_enabled(learns):
            latent: Any = policy.extract_features(states, policy.pi_features_extractor)
            if learns:
                latent.sum().backward()
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) / count


def _minibatch(shapes: list[tuple[int, ...]], size: int) -> float:
    layers = [torch.nn.Linear(shape[1], shape[0]) for shape in shapes]
    data = [torch.zeros(size, shape[1]) for shape in shapes]
    times = []
    for _ in range(12):
        begun = time.perf_counter()
        sum(torch.tanh(layer(x)).sum() for layer, x in zip(layers, data, strict=True)).backward()  # type: ignore[union-attr]
        times.append(time.perf_counter() - begun)
    return 2 * float(np.median(times))  # as much again for the loss and the optimiser
