"""Policies that do much better than the stuck agents: written by hand, planned, or searched for.

Each is a function (env) -> act, called after each reset; act(observation) is what to do. Some read the simulator: they
show what can be reached, not what can be learnt from the observation alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

Act = Callable[[Any], Any]


def push_along(env: Any) -> Act:
    """MountainCar, both: push in the direction of motion, which adds energy at each step."""
    if hasattr(env.action_space, "n"):
        return lambda obs: 2 if obs[1] >= 0 else 0
    return lambda obs: np.array([1.0 if obs[1] >= 0 else -1.0], np.float32)


def swing_up(env: Any) -> Act:
    """Pendulum: pump energy towards that of the upright rest; near it, a linear controller."""

    def act(obs: Any) -> np.ndarray:
        angle, speed = math.atan2(obs[1], obs[0]), float(obs[2])
        if abs(angle) < 0.5 and abs(speed) < 3.0:
            torque = -12.0 * angle - 3.0 * speed
        else:
            # Per unit of m l²: E = speed²/6 + (g/2) cos(angle) of a rod, with g = 10.
            missing = 5.0 - (speed**2 / 6 + 5.0 * math.cos(angle))
            torque = 2.0 * math.copysign(1.0, speed) * (1.0 if missing > 0 else -1.0)
        return np.array([np.clip(torque, -2.0, 2.0)], np.float32)

    return act


def balance(env: Any) -> Act:
    """CartPole: push towards where the pole falls, with a little pull to the middle."""
    return lambda obs: int(0.05 * obs[0] + 0.2 * obs[1] + obs[2] + 0.4 * obs[3] > 0)


def swing_acrobot(env: Any) -> Act:
    """Acrobot: torque on the elbow against the swing of the first link, which pumps energy."""
    return lambda obs: 0 if obs[4] > 0 else 2


def planned(env: Any) -> Act:
    """Toy text: value iteration on the environment's own table of transitions (discount 0.999)."""
    return _planned(env.spec.id)(env)


@cache
def _best_actions(env_id: str) -> np.ndarray:
    from unstuck.tasks import make_env

    table = make_env(env_id).unwrapped.P
    values = np.zeros(len(table))
    q = np.zeros((len(table), len(table[0])))
    for _ in range(5000):
        for s, actions in table.items():
            for a, outcomes in actions.items():
                q[s, a] = sum(p * (r + 0.999 * (0.0 if done else values[to])) for p, to, r, done in outcomes)
        best = q.max(axis=1)
        if np.abs(best - values).max() < 1e-9:
            break
        values = best
    return q.argmax(axis=1)


def _planned(env_id: str) -> Callable[[Any], Act]:
    best = _best_actions(env_id)
    return lambda env: lambda obs: int(best[int(obs)])


def heuristic_lander(env: Any) -> Act:
    """LunarLander: the controller that Gymnasium ships with the task (`lunar_lander.heuristic`)."""
    from gymnasium.envs.box2d.lunar_lander import heuristic

    return lambda obs: heuristic(env.unwrapped, obs)


def heuristic_walker(env: Any) -> Act:
    """BipedalWalker: the gait that Gymnasium ships with the task (`BipedalWalkerHeuristics`)."""
    from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics

    gait = BipedalWalkerHeuristics()
    return lambda obs: np.clip(np.asarray(gait.step_heuristic(obs), np.float32), -1, 1)


def reach(env: Any) -> Act:
    """Reacher: the joint angles at which the fingertip is on the target (of two, the nearer), by a damped spring."""
    upper, lower = 0.1, 0.11

    def act(obs: Any) -> np.ndarray:
        angles, (x, y), speeds = np.arctan2(obs[2:4], obs[0:2]), obs[4:6], obs[6:8]
        cosine = np.clip((x * x + y * y - upper**2 - lower**2) / (2 * upper * lower), -1.0, 1.0)
        ways = []
        for elbow in (math.acos(cosine), -math.acos(cosine)):
            shoulder = math.atan2(y, x) - math.atan2(lower * math.sin(elbow), upper + lower * math.cos(elbow))
            ways.append((np.array([shoulder, elbow]) - angles + math.pi) % (2 * math.pi) - math.pi)
        way = min(ways, key=lambda w: np.abs(w).max())
        return np.clip(0.2 * way - 0.03 * speeds, -1, 1).astype(np.float32)

    return act


def follow_ball(env: Any) -> Act:
    """Pong as its objects: move the paddle to where the ball will cross it."""
    from unstuck.tasks.atari import CENTRE_Y, FIELD_BOTTOM, FIELD_TOP, SCALE, SHIFT

    low, high = FIELD_TOP + 2.0, FIELD_BOTTOM - 2.0
    before: list[float] = []

    def act(obs: Any) -> int:
        playing, x, y, dx, dy, player, *_ = np.asarray(obs, float) * SCALE + SHIFT
        target = CENTRE_Y
        if playing and dx > 0:
            target = y + dy * (138.0 - x) / dx
            # Reflected at the walls as often as it takes.
            span = high - low
            phase = (target - low) % (2 * span)
            target = low + (phase if phase <= span else 2 * span - phase)
        # The paddle slides on for half as far again as it moved in the last step.
        slide = 0.5 * (player - before[-1]) if before else 0.0
        before[:] = [player]
        off = target - player - slide
        return 0 if abs(off) < 6.0 else (2 if off > 0 else 1)

    return act


def swim(env: Any) -> Act:
    """Swimmer: linear feedback on joint angles and speeds, by random search (best of 32 draws, then 12 rounds of 32
    small changes, one episode each)."""
    return lambda obs: np.clip(SWIM @ np.asarray(obs), -1, 1).astype(np.float32)


SWIM = np.array(
    [
        [0.750, -0.685, -0.919, -0.065, 0.122, 0.080, 0.805, -0.009],
        [-0.193, 0.143, -0.228, 0.572, 0.104, -0.306, 0.767, 0.369],
    ]
)

_TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def key_and_door(env: Any) -> Act:
    """MiniGrid DoorKey: the shortest plan over (cell, direction, key in hand, door open), by breadth-first search."""
    core = env.unwrapped
    grid = core.grid
    cells = {(x, y): grid.get(x, y) for x in range(grid.width) for y in range(grid.height)}
    start = (*map(int, core.agent_pos), int(core.agent_dir), False, False)
    came: dict[Any, Any] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if _kind(cells, state[:2], state) == "goal":
            break
        for action, after in _moves(cells, state):
            if after not in came:
                came[after] = (state, action)
                queue.append(after)
    plan: list[int] = []
    while came[state] is not None:
        state, action = came[state]
        plan.append(action)
    return lambda obs: plan.pop() if plan else 6


def _kind(cells: Any, at: Any, state: Any) -> str:
    thing = cells[tuple(at)]
    kind = "empty" if thing is None else thing.type
    if kind == "key" and state[3]:
        return "empty"
    return "empty" if kind == "door" and state[4] else kind


def _moves(cells: Any, state: Any) -> list[tuple[int, Any]]:
    x, y, direction, key, door = state
    step = _TURNS[direction]
    ahead = (x + step[0], y + step[1])
    kind = _kind(cells, ahead, state)
    found = [(0, (x, y, (direction - 1) % 4, key, door)), (1, (x, y, (direction + 1) % 4, key, door))]
    if kind in ("empty", "goal"):
        found.append((2, (*ahead, direction, key, door)))
    if kind == "key":
        found.append((3, (x, y, direction, True, door)))
    if kind == "door" and key:
        found.append((5, (x, y, direction, key, True)))
    return found


SCRIPTED: dict[str, Callable[[Any], Act]] = {
    f.__name__: f
    for f in (push_along, swing_up, balance, swing_acrobot, planned, heuristic_lander, heuristic_walker, reach,
              follow_ball, swim, key_and_door)
}  # fmt: skip


def play(make: Callable[[Any], Act], env: Any, seeds: range, longest: int = 10_000) -> list[float]:
    """Returns of one episode for each seed."""
    from unstuck.snapshots import reset_exactly

    returns = []
    for seed in seeds:
        obs, _ = reset_exactly(env, seed)
        act, total = make(env), 0.0
        for _ in range(longest):
            obs, reward, terminated, truncated, _ = env.step(act(obs))
            total += float(reward)
            if terminated or truncated:
                break
        returns.append(total)
    return returns
