"""Hand-made episodes and cards for the tests of explaining: small, fixed, and free of any simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unstuck.agents.history import LearningCurve
from unstuck.explainers.llm.facts import AgentFacts
from unstuck.tasks.card import ActionSpec, TaskCard, Variable
from unstuck.views import View

AGENT = AgentFacts(algorithm="PPO", trained_steps=50_000, gamma=0.99)

KNOWN = replace(
    AGENT,
    settings=("learning_rate 0.0003", "n_steps 2048"),
    curve=LearningCurve((10_000, 30_000, 50_000), (-30.0, -12.5, -12.0), "evaluations.npz"),
    panel="It is stuck.\n- entropy: 0.02 (fault, suspicious below 0.05). It tries nothing new.",
)
"""With all that may be known of an agent."""

LAMP = TaskCard(
    env_id="Lamp-v0",
    goal="Switch the lamp on.",
    reward="-1 for every step until the lamp is on.",
    termination="Ends when the lamp is on.",
    variables=(
        Variable(name="x", description="position, lamp at 5", unit="m", low=0, high=5),
        Variable(name="vx", description="velocity", unit="m/s"),
        Variable(name="gap", description="distance to the lamp", unit="m", low=0, derived=True),
    ),
    action=ActionSpec(kind="discrete", names=("left", "stay", "right"), descriptions=("walk left", "", "walk right")),
    max_episode_steps=30,
)

CART = TaskCard(
    env_id="Cart-v0",
    goal="Push the cart forward.",
    reward="Forward speed, minus 0.1 x force squared.",
    termination="Ends when |tilt| > 1 rad.",
    variables=(Variable(name="speed", unit="m/s"), Variable(name="tilt", unit="rad", low=-1, high=1)),
    action=ActionSpec(
        kind="continuous", names=("front", "back"), unit="N", low=(-1.0, -2.0), high=(1.0, 2.0),
        descriptions=("positive = forward", "positive = forward"),
    ),
    max_episode_steps=1000,
    notes="The cart starts at rest.",
)  # fmt: skip


def lamp_views() -> list[View]:
    """Four episodes of 6 to 30 steps, walking to and fro by fixed patterns."""
    return [
        _lamp(0, True, 30, [0, 1]),
        _lamp(1, True, 30, [0, 0, 2]),
        _lamp(2, False, 30, [2, 0, 1, 2]),
        _lamp(3, False, 6, [2], terminated=True),
    ]


def _lamp(index: int, deterministic: bool, steps: int, pattern: list[int], terminated: bool = False) -> View:
    actions = np.array([pattern[t % len(pattern)] for t in range(steps)])
    x = np.clip(1.0 + np.concatenate([[0.0], np.cumsum((actions - 1) * 0.6)]), 0, 5)
    vx = np.concatenate([[0.0], np.diff(x)])
    value = -8.0 + 1.5 * x[:-1]
    following = np.append(value[1:], 0.0 if terminated else value[-1])
    return View(
        index=index, deterministic=deterministic, ending="terminated" if terminated else "truncated",
        states=np.column_stack([x, vx, 5 - x]), actions=actions, rewards=np.full(steps, -1.0), value=value,
        td_error=-1 + 0.99 * following - value, confidence=np.full(steps, 0.625),
        policy={"action_prob": np.tile([0.25, 0.125, 0.625], (steps, 1))},
    )  # fmt: skip


def cart_views(steps: int = 40, variables: int = 2, episodes: int = 2) -> list[View]:
    """Continuous actions; episode 0 is deterministic and tips over at its end, the others are sampled."""
    return [_cart(i, steps + 5 * i, variables) for i in range(episodes)]


def _cart(index: int, steps: int, variables: int) -> View:
    t = np.arange(steps + 1)
    columns = [np.round(np.sin(0.2 * (k + 1) * t + index) * (k + 1) + 0.01 * k * t, 3) for k in range(variables)]
    states = np.column_stack(columns)
    actions = np.column_stack([np.round(np.cos(0.3 * t[:-1]), 2), np.round(np.sin(0.1 * t[:-1]) * 2, 2)])
    rewards = np.round(states[:-1, 0] - 0.1 * (actions**2).sum(axis=1), 3)
    value = np.round(10 * np.cos(t[:-1] / steps * 3), 2)
    following = np.append(value[1:], 0.0)
    return View(
        index=index, deterministic=index == 0, ending="terminated" if index == 0 else "truncated", states=states,
        actions=actions, rewards=rewards, value=value, td_error=rewards + 0.99 * following - value,
        policy={"action_mean": actions * 3, "action_std": np.full_like(actions, 0.4)},
        reward_parts={"reward_ctrl": -0.1 * (actions**2).sum(axis=1), "reward_forward": states[:-1, 0]},
    )  # fmt: skip


def wide_card(variables: int) -> TaskCard:
    names = tuple(Variable(name=f"joint{i}", description="angle of a joint", unit="rad") for i in range(variables))
    return CART.model_copy(update={"variables": names})
