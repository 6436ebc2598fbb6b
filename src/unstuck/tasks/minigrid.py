"""MiniGrid and BabyAI: one describer for all of them, from the symbols of the grid that the agent sees.

`make` is what `unstuck.tasks.make_env` uses for `MiniGrid-...` and `BabyAI-...`. Their own observation holds a text
that no policy of Stable-Baselines3 takes, hence keyword argument `observation`:

- `flat` (default for MiniGrid): `minigrid.wrappers.FlatObsWrapper`, as RL Zoo's agents see it: the 7 x 7 x 3 numbers of
  the view, then the mission's letters, (2835,) uint8.
- `onehot` (default for BabyAI, whose missions the former cannot encode): kind, colour and state of each cell of the
  view one-hot, then the direction, (984,) float32 of 0 and 1. Multilayer perceptrons learn best from it.
- `image`: `ImgObsWrapper`, the view alone, (7, 7, 3) uint8.
- `full`: `FullyObsWrapper` and `ImgObsWrapper`, the whole grid, (width, height, 3) uint8.
- `rgb`: `RGBImgPartialObsWrapper` and `ImgObsWrapper`, the view drawn in pixels, (56, 56, 3) uint8.
- `rgb-full`: `RGBImgObsWrapper` and `ImgObsWrapper`, the whole grid in pixels, (8 height, 8 width, 3) uint8.

Beside pixels lie the symbols of what is drawn (`with_grid`), which only the describer reads.
- `raw`: as MiniGrid gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from unstuck.errors import TaskError, did_you_mean
from unstuck.tasks.beside import GRID, SEEN, Beside
from unstuck.tasks.builder import discrete, env_id, flag, var
from unstuck.tasks.card import Obs, TaskCard, Variable

OBSERVATIONS = ("flat", "onehot", "image", "full", "rgb", "rgb-full", "raw")
DRAWN, DRAWN_WHOLE = "RGBImgPartialObsWrapper", "RGBImgObsWrapper"
"""MiniGrid's wrappers that draw the view, and the grid."""

# Numbers of MiniGrid's encoding of a cell: (kind, colour, state).
KINDS = ("unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent")
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
DOOR_STATES = ("open", "closed", "locked")
_K = {name: i for i, name in enumerate(KINDS)}
_SIZES = (len(KINDS), len(COLOURS), len(DOOR_STATES))

Decode = Callable[[np.ndarray], np.ndarray]
"""Observations (N, *obs_shape) → grids (N, columns, rows, 3) of (kind, colour, state)."""


def make(name: str, env_kwargs: Mapping[str, Any], **rendering: Any) -> Any:
    """Make an environment; see the module's text for `observation`.

    Raises:
        TaskError: if `observation` is unknown.
    """
    import minigrid  # noqa: F401  (registers its environments)
    from minigrid import wrappers

    kwargs = dict(env_kwargs)
    chosen = kwargs.pop("observation", "onehot" if name.startswith("BabyAI-") else "flat")
    if chosen not in OBSERVATIONS:
        raise TaskError(
            f"{name} has no observation {chosen!r}.{did_you_mean(str(chosen), OBSERVATIONS)} "
            f"There are: {', '.join(OBSERVATIONS)}"
        )
    env: Any = gym.make(name, **rendering, **kwargs)
    wrap: dict[str, Callable[[Any], Any]] = {
        "flat": wrappers.FlatObsWrapper, "onehot": OneHotView, "image": wrappers.ImgObsWrapper,
        "full": lambda e: wrappers.ImgObsWrapper(wrappers.FullyObsWrapper(e)), "raw": lambda e: e,
        "rgb": lambda e: wrappers.ImgObsWrapper(wrappers.RGBImgPartialObsWrapper(e)),
        "rgb-full": lambda e: wrappers.ImgObsWrapper(wrappers.RGBImgObsWrapper(e)),
    }  # fmt: skip
    return wrap[chosen](env)


class OneHotView(gym.ObservationWrapper):
    """The agent's view, one-hot: for each cell 11 kinds, 6 colours, 3 states; then the 4 directions."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        view: Any = env.observation_space
        self._cells = int(np.prod(view["image"].shape[:2]))
        self.observation_space = spaces.Box(0.0, 1.0, (self._cells * sum(_SIZES) + 4,), np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        cells = observation["image"].reshape(self._cells, 3)
        parts = [np.eye(n, dtype=np.float32)[cells[:, i]] for i, n in enumerate(_SIZES)]
        direction = np.eye(4, dtype=np.float32)[int(observation["direction"])]
        return np.concatenate([np.concatenate(parts, axis=1).ravel(), direction])


class WithGrid(gym.ObservationWrapper):
    """The view or the grid in pixels, and in symbols: see `unstuck.tasks.beside`."""

    def __init__(self, env: Any, whole: bool) -> None:
        super().__init__(env)
        core, self._whole = env.unwrapped, whole
        shape = (core.width, core.height) if whole else (core.agent_view_size,) * 2
        self.observation_space = Beside({SEEN: env.observation_space, GRID: spaces.Box(0, 255, (*shape, 3), np.uint8)})

    def observation(self, observation: Any) -> dict[str, np.ndarray]:
        core: Any = self.env.unwrapped
        if not self._whole:
            return {SEEN: observation, GRID: np.asarray(core.gen_obs()["image"], np.uint8)}
        grid = np.array(core.grid.encode(), np.uint8)
        grid[tuple(core.agent_pos)] = (_K["agent"], 0, core.agent_dir)
        return {SEEN: observation, GRID: grid}


def with_grid(env: Any) -> Any:
    """The environment with its symbols beside the observation, where it is a MiniGrid drawn in pixels; else itself."""
    space = env.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or not hasattr(env.unwrapped, "gen_obs"):
        return env
    whole = _has_layer(env, DRAWN_WHOLE)
    return WithGrid(env, whole) if whole or _has_layer(env, DRAWN) else env


# ---------------------------------------------------------------------------------------------- describing


@dataclass(frozen=True)
class GridDescriber:
    """What is where, seen from the agent: `_ahead` cells in the direction that it faces, `_right` to its right."""

    card: TaskCard
    decode: Decode
    objects: tuple[str, ...]
    coloured: tuple[str, ...]
    """Objects of which there is more than one colour."""
    full: bool

    def variables(self, obs: Obs) -> np.ndarray:
        """(N, *obs_shape) → (N, V) float64."""
        grid = (np.asarray(obs[GRID]) if isinstance(obs, Mapping) else self.decode(np.asarray(obs))).astype(np.int64)
        position, direction = _agent_in(grid) if self.full else _agent_of_view(grid)
        forward, right = _compass(grid.shape, position, direction)
        own = _own(grid.shape[:3], position)
        columns: list[np.ndarray] = []
        if self.full:
            columns += [position[:, 0], position[:, 1], direction]
        else:
            columns += [_held(grid, position, name) for name in self._carried()]
        for f, r in ((1, 0), (0, -1), (0, 1)):  # in front, to the left, to the right
            columns.append(_blocked(grid, forward == f, right == r))
        ahead = (forward == 1) & (right == 0)
        columns += [(_is(grid, name) & ahead).any(axis=(1, 2)) for name in self.objects]
        for name in self.objects:
            there = _is(grid, name) & ~own
            columns += _nearest(grid, there, forward, right, name in self.coloured)
        return np.column_stack(columns).astype(np.float64)

    def _carried(self) -> list[str]:
        return [name for name in self.objects if name in _CARRIABLE]


_CARRIABLE = ("key", "ball", "box")
_OBJECTS = ("key", "ball", "box", "goal", "lava", "locked_door", "closed_door", "open_door")


def _is(grid: np.ndarray, name: str) -> np.ndarray:
    """(N, C, R, 3) → (N, C, R) bool: cells that hold such an object."""
    state, _, door = name.partition("_")
    if door:
        return (grid[..., 0] == _K["door"]) & (grid[..., 2] == DOOR_STATES.index(state))
    return grid[..., 0] == _K[name]


def _agent_of_view(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In its view the agent stands in the middle of the last row and faces up, to falling rows (direction 3)."""
    n, columns, rows = grid.shape[:3]
    return np.tile([columns // 2, rows - 1], (n, 1)), np.full(n, 3)


def _agent_in(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, rows = len(grid), grid.shape[2]
    flat = (grid[..., 0] == _K["agent"]).reshape(n, -1).argmax(axis=1)
    position = np.column_stack([flat // rows, flat % rows])
    return position, grid[np.arange(n), position[:, 0], position[:, 1], 2]


def _compass(shape: tuple[int, ...], position: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, R) each: how many cells ahead of the agent and to its right every cell is.

    Directions: 0 right (columns grow), 1 down (rows grow), 2 left, 3 up; the right hand is the next of them.
    """
    column, row = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    dx = column[None] - position[:, 0, None, None]
    dy = row[None] - position[:, 1, None, None]
    turn = direction[:, None, None]
    east, south = np.array([1, 0, -1, 0])[turn], np.array([0, 1, 0, -1])[turn]
    return dx * east + dy * south, -dx * south + dy * east


def _own(shape: tuple[int, ...], position: np.ndarray) -> np.ndarray:
    """(N, C, R): the agent's own cell, in which a view shows what it carries."""
    own = np.zeros(shape, dtype=bool)
    own[np.arange(len(own)), position[:, 0], position[:, 1]] = True
    return own


def _held(grid: np.ndarray, position: np.ndarray, name: str) -> np.ndarray:
    return grid[np.arange(len(grid)), position[:, 0], position[:, 1], 0] == _K[name]


_PASSABLE = [_K["empty"], _K["floor"], _K["goal"], _K["lava"]]


def _blocked(grid: np.ndarray, forward: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N,): whether the cell where both hold keeps the agent out. What lies outside of the grid does."""
    free = np.isin(grid[..., 0], _PASSABLE) | _is(grid, "open_door")
    return ~(free & forward & right).any(axis=(1, 2))


def _nearest(
    grid: np.ndarray, there: np.ndarray, forward: np.ndarray, right: np.ndarray, coloured: bool
) -> list[np.ndarray]:
    """Visible, ahead, right (and colour) of the nearest such object by steps; zeros where there is none."""
    n = len(grid)
    steps = np.where(there, np.abs(forward) + np.abs(right), 10_000).reshape(n, -1)
    best = steps.argmin(axis=1)
    seen = there.reshape(n, -1).any(axis=1)
    picked: list[Any] = [np.where(seen, a.reshape(n, -1)[np.arange(n), best], 0) for a in (forward, right)]
    if coloured:
        picked.append(np.where(seen, grid[..., 1].reshape(n, -1)[np.arange(n), best], -1))
    found: list[Any] = [seen, *picked]
    return found


# ------------------------------------------------------------------------------------------------- the card


def describer(env: Any) -> GridDescriber | None:
    """A describer of any MiniGrid environment whose observation is one of `OBSERVATIONS` but `raw`, else None."""
    core = env.unwrapped
    size = core.agent_view_size
    drawn = isinstance(env.observation_space, Beside)
    full = _has_layer(env, DRAWN_WHOLE if drawn else "FullyObsWrapper")
    grid_shape = (core.width, core.height) if full else (size, size)
    decode = _as_it_is if drawn else _decoder(env.observation_space, grid_shape, full)
    if decode is None or not hasattr(core, "grid") or not isinstance(env.action_space, spaces.Discrete):
        return None
    sampled = _sample(env)
    coloured = tuple(n for n in sampled.objects if len(sampled.colours.get(n, ())) > 1)
    card = TaskCard(
        env_id=env_id(env),
        goal=_goal(sampled.missions),
        reward=_reward(core, sampled.max_steps),
        termination=_termination(core, sampled.objects),
        variables=tuple(_variables(sampled.objects, coloured, grid_shape, full)),
        action=discrete(**dict(list(_ACTIONS.items())[: int(env.action_space.n)])),
        max_episode_steps=sampled.max_steps,
        notes=_notes(full, grid_shape, coloured) + (DRAWN_NOTE if drawn else ""),
    )
    return GridDescriber(card, decode, sampled.objects, coloured, full)


_ACTIONS = {
    "left": "turn left on the spot", "right": "turn right on the spot", "forward": "one cell ahead, if it is free",
    "pickup": "take the object in front", "drop": "put what is carried into the free cell in front",
    "toggle": "open or close the door in front (a locked one only with the key of its colour), open the box in front",
    "done": "say that the mission is done; does nothing in most tasks",
}  # fmt: skip


def _has_layer(env: Any, name: str) -> bool:
    while isinstance(env, gym.Wrapper):
        if type(env).__name__ == name:
            return True
        env = env.env
    return False


def _as_it_is(obs: np.ndarray) -> np.ndarray:
    return obs


def _decoder(space: Any, shape: tuple[int, int], full: bool) -> Decode | None:
    numbers = shape[0] * shape[1] * 3
    onehot = shape[0] * shape[1] * sum(_SIZES)
    if space.shape == (*shape, 3):
        return lambda obs: obs
    if full or space.shape is None or len(space.shape) != 1:
        return None
    if space.dtype == np.uint8 and space.shape[0] > numbers:
        return lambda obs: obs[:, :numbers].reshape(-1, *shape, 3)
    if space.dtype == np.float32 and space.shape[0] == onehot + 4:
        return lambda obs: _from_onehot(obs[:, :onehot].reshape(-1, *shape, sum(_SIZES)))
    return None


def _from_onehot(cells: np.ndarray) -> np.ndarray:
    ends = np.cumsum((0, *_SIZES))
    return np.stack([cells[..., a:b].argmax(axis=-1) for a, b in pairwise(ends)], axis=-1)


@dataclass(frozen=True)
class _Sampled:
    """What there is in some episodes of a task."""

    objects: tuple[str, ...]
    colours: Mapping[str, set[int]]
    missions: tuple[str, ...]
    max_steps: int
    """The longest of their time limits; BabyAI sets one for each episode."""


def _sample(env: Any, episodes: int = 8) -> _Sampled:
    """Look at the grids of some fresh episodes, in an environment of its own."""
    twin: Any = gym.make(env.spec.id, **{k: v for k, v in env.spec.kwargs.items() if k != "render_mode"})
    kinds: set[str] = set()
    colours: dict[str, set[int]] = {}
    missions: list[str] = []
    limits: set[int] = set()
    for seed in range(episodes):
        twin.reset(seed=seed)
        missions.append(str(twin.unwrapped.mission))
        limits.add(int(twin.unwrapped.max_steps))
        for cell in _contents(twin.unwrapped.grid.grid):
            names = [f"{s}_door" for s in DOOR_STATES if s != "locked" or cell.is_locked] if cell.type == "door" else [
                cell.type]  # fmt: skip
            for name in names:
                kinds.add(name)
                colours.setdefault(name, set()).add(COLOURS.index(cell.color))
    twin.close()
    many = {n: c for n, c in colours.items() if n not in ("goal", "lava")}
    return _Sampled(tuple(n for n in _OBJECTS if n in kinds), many, tuple(sorted(set(missions))), max(limits))


def _contents(cells: Any) -> list[Any]:
    """All objects, those in boxes included."""
    found = [c for c in cells if c is not None]
    return found + [c.contains for c in found if getattr(c, "contains", None) is not None]


def _goal(missions: tuple[str, ...]) -> str:
    if len(missions) == 1:
        return f"Mission: {missions[0]}."
    return f"Do what the mission of the episode says, such as: {'; '.join(missions[:4])}."


def _reward(core: Any, limit: int) -> str:
    text = f"1 - 0.9 x (steps taken / {limit}) on success; 0 in every other step."
    if type(core).__name__ == "DynamicObstaclesEnv":
        return text + " -1 for moving into an obstacle (a ball)."
    return text


def _termination(core: Any, objects: tuple[str, ...]) -> str:
    text = "Ends with success."
    if "lava" in objects:
        text += " Ends without reward on stepping into lava."
    if type(core).__name__ == "DynamicObstaclesEnv":
        text += " Ends on moving into an obstacle."
    elif type(core).__name__ in _FAILS:
        text += " Ends without reward on " + _FAILS[type(core).__name__] + "."
    return text


_FAILS = {
    "FetchEnv": "picking up another object than the mission's",
    "PutNearEnv": "picking up another object than the mission's, or dropping it elsewhere",
    "MemoryEnv": "walking to the wrong one of both objects",
    "RedBlueDoorEnv": "opening the blue door before the red one",
    "GoToDoorEnv": "toggling",
    "GoToObjectEnv": "toggling",
}


def _variables(
    objects: tuple[str, ...], coloured: tuple[str, ...], shape: tuple[int, int], full: bool
) -> list[Variable]:
    far = max(shape) - 1
    found: list[Variable] = []
    if full:
        found += [
            var("agent_col", "0 = left", "", 0, shape[0] - 1), var("agent_row", "0 = top", "", 0, shape[1] - 1),
            var("agent_direction", "0 = right, 1 = down, 2 = left, 3 = up", "", 0, 3),
        ]  # fmt: skip
    else:
        found += [flag(f"carrying_{n}", f"1 if the agent carries a {n}") for n in objects if n in _CARRIABLE]
    for place in ("front", "left", "right"):
        what = "in front of the agent" if place == "front" else f"to the agent's {place}"
        found.append(flag(f"blocked_{place}", f"1 if the cell {what} cannot be entered (wall, object, closed door)"))
    found += [flag(f"front_is_{n}", f"1 if the cell in front holds a {n.replace('_', ' ')}") for n in objects]
    low, side = (-far, far) if full else (0, shape[0] // 2)
    for n in objects:
        words = n.replace("_", " ")
        found += [
            flag(f"{n}_visible", f"1 if a {words} is in {'the grid' if full else 'view'}"),
            var(f"{n}_ahead", f"of the nearest {words}: cells ahead of the agent; 0 if none is visible", "cells",
                low, far),
            var(f"{n}_right", "of the same: cells to the agent's right, negative = left; 0 if none is visible",
                "cells", -side, side),
        ]  # fmt: skip
        if n in coloured:
            found.append(var(f"{n}_color", "of the same: " + _COLOUR_KEY + "; -1 if none is visible", "", -1, 5))
    return [v.model_copy(update={"derived": True}) for v in found]


DRAWN_NOTE = " It sees them drawn in pixels; the variables are read from the simulator, which says what is drawn."
_COLOUR_KEY = ", ".join(f"{i} = {name}" for i, name in enumerate(COLOURS))


def _notes(full: bool, shape: tuple[int, int], coloured: tuple[str, ...]) -> str:
    if full:
        text = f"The agent sees the whole grid of {shape[0]} x {shape[1]} cells, but not what it carries."
    else:
        text = (
            f"The agent sees {shape[0]} x {shape[1]} cells: its own row and {shape[1] - 1} ahead, {shape[0] // 2} to "
            "each side, nothing behind it and nothing behind walls and closed doors."
        )
    return text + (" The variables do not hold the mission's text." if coloured else "")
