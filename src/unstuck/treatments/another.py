"""Beginning again with SAC: an algorithm that learns from a replay buffer needs a fraction of PPO's steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from gymnasium import spaces

from unstuck.agents import Agent
from unstuck.errors import AgentError
from unstuck.tasks.beside import seen_space
from unstuck.treatments.fresh import discount_of, fresh_policy, statistics_of, with_policy
from unstuck.treatments.states import States

WIDTH = 64
"""Units in each of two layers: a gradient step then takes less than a millisecond (`unstuck.sac`)."""
SETTINGS: Mapping[str, float | int | str] = {
    "learning_rate": 7e-4,  # as RL Zoo has it for such networks
    "batch_size": 128,
    "train_freq": 32,
    "tau": 0.005,
    "ent_coef": "auto",
}
MOST, UPDATES = 2.0, 200_000
"""Gradient steps for each environment step at most, and about how many in all: those of a long training are fewer for
each step, so that it takes minutes."""
EARLY = (50_000, round(MOST * int(SETTINGS["train_freq"])))
"""Environment steps at first for which they are not fewer, and gradient steps in each update: by what it comes to there
it is judged (docs/race-measured.md)."""
NAMES = ("sac", "sac-again")
"""As treatments of a race."""
REPLAYED = 600_000
"""Environment steps of a budget up to which a race tries it unasked: of a longer one so few gradient steps are too few
for each step."""
DUEL = 240_000
"""Environment steps of a budget from which on there is room for two of it, of which the better goes on."""
STEPS_WHERE_FAILING = 3
"""Environment steps of a return where failing ends episodes; elsewhere one (docs/race-measured.md)."""
HORIZON = 0.99
"""Discount for a choice among actions at most: with 0.995 and 0.999, as agents of PPO have it, LunarLander hovers for
longer before it lands (docs/race-measured.md)."""
CLIP = 1e6
"""Bound on rescaled observations: none is clipped, as what a better agent sees lies outside of what this one saw."""


def can_be_sac(observation_space: spaces.Space, action_space: spaces.Space) -> bool:
    """Whether observations are a vector of numbers, and actions continuous and bounded, or a choice."""
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
        return False
    if isinstance(action_space, spaces.Discrete):
        return int(action_space.start) == 0
    return isinstance(action_space, spaces.Box) and action_space.is_bounded()


def is_offered(
    budget: int, observation_space: spaces.Space, action_space: spaces.Space, *, better: bool = False
) -> bool:
    """Whether a race of so many environment steps may try it unasked in these spaces.

    Args:
        better: whether there is what is better to go on with where actions are a choice: an agent that is known to be
            halfway to a good one, or a coach, whose rules are imitated (docs/race-measured.md).
    """
    choice = isinstance(action_space, spaces.Discrete)
    return 0 < budget <= REPLAYED and can_be_sac(observation_space, action_space) and not (better and choice)


def check_sac(where: Path, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Whether SAC can learn in these spaces.

    Raises:
        AgentError: it cannot.
    """
    if not can_be_sac(observation_space, action_space):
        raise AgentError(
            f"{where}: SAC needs a vector of numbers to see, and bounded continuous actions or a choice from 0 on, not "
            f"{seen_space(observation_space)} and {action_space}; leave `sac` out of --race.treatments"
        )


def sac(
    agent: Agent, states: States | None, observation_space: spaces.Space, action_space: spaces.Space, seed: int,
    steps: int = 0, *, fails: bool = False,
) -> Agent:  # fmt: skip
    """An agent of SAC (Haarnoja et al. 2018, arXiv 1812.05905; for discrete actions Christodoulou 2019, arXiv
    1910.07207) with new networks for the task of this one, and of it only the discount and the scale of its
    observations; where it has none, that of the states.

    Args:
        steps: for which it will be trained, by which the number of its gradient steps goes; 0 if that is not known.
        fails: whether failing ends episodes: then it learns from returns of several steps.

    Raises:
        AgentError: observations or actions are of a kind that SAC here does not learn from.
    """
    check_sac(agent.path, observation_space, action_space)
    normalization = agent.normalization
    if (normalization is None or not normalization.norm_obs) and states is not None:
        normalization = statistics_of(states, observation_space, discount_of(agent))
    if normalization is not None:
        normalization = replace(normalization, norm_reward=False, clip_obs=CLIP)
    widths, blank = [WIDTH, WIDTH], replace(
        agent, policy_class_name="MlpPolicy", policy_class=None, tensors={}, observation_space=observation_space,
        action_space=action_space,
    )  # fmt: skip
    if isinstance(action_space, spaces.Discrete):
        chooses = {"net_arch": {"pi": widths, "vf": widths}, "activation_fn": torch.nn.ReLU}
        blank = again(replace(blank, algorithm="PPO", policy_kwargs=chooses), steps, fails=fails)
    else:
        settings = _settings(discount_of(agent), steps, fails)
        blank = replace(blank, algorithm="SAC", policy_kwargs={"net_arch": widths}, hyperparameters=settings)
    policy = fresh_policy(blank, observation_space, action_space, seed)
    note = "begun again with SAC: a new network, learning from a replay buffer"
    return with_policy(blank, policy, note, normalization)


def again(agent: Agent, steps: int, *, fails: bool = False) -> Agent:
    """An agent that SAC has begun, and goes on with, as its file was read: of continuous actions that is one of SAC,
    of discrete ones one of PPO, which says nothing of how it was trained."""
    if agent.algorithm != "PPO":
        return agent
    settings = _settings(min(discount_of(agent), HORIZON), steps, fails)
    return replace(agent, algorithm="SACDiscrete", hyperparameters=settings)


def _settings(gamma: float, steps: int, fails: bool) -> dict[str, float | int | str]:
    freq = int(SETTINGS["train_freq"])
    each = max(1, round(freq * min(MOST, UPDATES / max(1, steps))))
    returns = STEPS_WHERE_FAILING if fails else 1
    return {**SETTINGS, "gamma": gamma, "gradient_steps": each, "n_steps": returns}
