"""A describer for any environment: names from its spaces or its MuJoCo model, nothing known of its purpose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np

from unstuck.errors import TaskError
from unstuck.tasks.builder import env_id, max_episode_steps
from unstuck.tasks.card import ActionSpec, Describer, Obs, TaskCard, Variable

UNKNOWN = "unknown; judge from the rewards"
_LARGEST = 512  # a part of the observation with more numbers is an image and is summarised
_PATCHES = 4


def action_spec(env: Any) -> ActionSpec:
    """Names and bounds of the actions; of a MuJoCo robot from its actuators.

    Raises:
        TaskError: if the action space is neither Discrete (from 0), nor a one-dimensional Box, MultiDiscrete or
            MultiBinary.
    """
    from gymnasium import spaces

    space = env.action_space
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return ActionSpec(kind="discrete", names=tuple(f"action_{i}" for i in range(space.n)))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        names = _actuators(env, space.shape[0]) or [f"action_{i}" for i in range(space.shape[0])]
        return ActionSpec(
            kind="continuous", names=tuple(names),
            low=tuple(map(float, space.low)), high=tuple(map(float, space.high)),
        )  # fmt: skip
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary) and len(space.shape) == 1:
        low = np.zeros(space.shape) if isinstance(space, spaces.MultiBinary) else space.start
        high = np.ones(space.shape) if isinstance(space, spaces.MultiBinary) else space.start + space.nvec - 1
        return ActionSpec(
            kind="choices", names=tuple(f"action_{i}" for i in range(space.shape[0])),
            low=tuple(map(float, low)), high=tuple(map(float, high)),
        )  # fmt: skip
    raise TaskError(
        f"{env_id(env)} has actions of kind {space}; Unstuck can advise on Discrete actions that count from 0 and on "
        "one-dimensional Box, MultiDiscrete and MultiBinary actions. Wrap the environment so that it has one of these."
    )


def _actuators(env: Any, count: int) -> list[str]:
    model: Any = getattr(env.unwrapped, "model", None)
    if not type(model).__module__.startswith("mujoco") or model.nu != count:
        return []
    names = []
    for i in range(count):
        joint = int(model.actuator_trnid[i, 0])
        name = model.actuator(i).name or (model.joint(joint).name if 0 <= joint < model.njnt else "")
        names.append(name or f"actuator_{i}")
    return names if len(set(names)) == count else []


@dataclass(frozen=True)
class FlatDescriber:
    """All numbers of an observation, in order; of a Dict the parts in the order of their keys, of an image the
    mean brightness of 4 × 4 patches."""

    card: TaskCard
    parts: tuple[tuple[str, bool], ...]
    """(key, is an image) of each part; the key is '' where the observation is no Dict."""
    newest: bool = False
    """The observation is a stack of frames (C, H, W), of which the last is looked at."""

    def variables(self, obs: Obs) -> np.ndarray:
        """(N, *obs_shape) or a dict of such → (N, V) float64."""
        columns = []
        if self.newest:
            obs = np.asarray(obs)[:, -1:]
        for key, image in self.parts:
            part = np.asarray(obs[key] if key else obs, dtype=np.float64)
            columns.append(_patches(part) if image else part.reshape(len(part), -1))
        return np.concatenate(columns, axis=1)


def _patches(images: np.ndarray) -> np.ndarray:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) → (N, 16) means; channels are the shortest axis."""
    if images.ndim == 4:
        images = images.mean(axis=1 + int(np.argmin(images.shape[1:])))
    bands = (band for band in np.array_split(images.reshape(len(images), images.shape[1], -1), _PATCHES, axis=1))
    return np.stack(
        [patch.mean(axis=(1, 2)) for band in bands for patch in np.array_split(band, _PATCHES, axis=2)], axis=1
    )


def generic(env: Any, action: ActionSpec | None = None) -> FlatDescriber:
    """The describer of last resort.

    Args:
        action: the actions, where they are not the environment's own.

    Raises:
        TaskError: if a space is of a kind that cannot be described; says which.
    """
    variables, parts = [], []
    for key, space in _leaves(env):
        found, image = _variables(env, key, space)
        variables += found
        parts.append((key, image))
    card = TaskCard(
        env_id=env_id(env), goal=UNKNOWN, reward=UNKNOWN, termination=UNKNOWN, variables=tuple(variables),
        action=action or action_spec(env), max_episode_steps=max_episode_steps(env),
    )  # fmt: skip
    return FlatDescriber(card, tuple(parts))


def _leaves(env: Any) -> Iterator[tuple[str, Any]]:
    from gymnasium import spaces

    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        yield "", space
        return
    for key, part in space.spaces.items():
        if isinstance(part, (spaces.Dict, spaces.Tuple)):
            raise TaskError(f"{env_id(env)}: observation {key!r} is nested; flatten it with a wrapper")
        yield key, part


def _variables(env: Any, key: str, space: Any) -> tuple[list[Variable], bool]:
    """The variables of one part of the observation, and whether it is summarised as an image."""
    from gymnasium import spaces

    prefix = _word(key) if key else "obs"
    if isinstance(space, spaces.Discrete):
        low, high = int(space.start), int(space.start + space.n - 1)
        name = prefix if key else "state"
        return [Variable(name=name, description="number of the state", low=low, high=high)], False
    if not isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)):
        raise TaskError(
            f"{env_id(env)}: observations of kind {type(space).__name__} cannot be described; wrap the environment so "
            "that it gives Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these"
        )
    size = int(np.prod(space.shape))
    if isinstance(space, spaces.Box) and size > _LARGEST and len(space.shape) in (2, 3):
        names = [f"{prefix}_patch_{r}_{c}" for r in range(_PATCHES) for c in range(_PATCHES)]
        what = "mean brightness of the image in this row and column of 4 x 4 patches"
        return [Variable(name=n, description=what, low=float(np.min(space.low)), high=float(np.max(space.high)))
                for n in names], True  # fmt: skip
    bounds = _bounds(space, size)
    names = _model_names(env, size) if not key else []
    names = names or ([prefix] if key and size == 1 else [f"{prefix}_{i}" for i in range(size)])
    return [Variable(name=name, low=low, high=high) for name, (low, high) in zip(names, bounds, strict=True)], False


def _bounds(space: Any, size: int) -> list[tuple[float | None, float | None]]:
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        low, high = space.low.ravel(), space.high.ravel()
    elif isinstance(space, spaces.MultiBinary):
        low, high = np.zeros(size), np.ones(size)
    else:
        low, high = np.ravel(space.start), np.ravel(space.start + space.nvec - 1)
    # A bound as large as the dtype's is no bound.
    return [
        (float(a) if abs(a) < 1e30 else None, float(b) if abs(b) < 1e30 else None)
        for a, b in zip(low, high, strict=True)
    ]


def _word(text: str) -> str:
    word = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return word if re.match(r"[A-Za-z_]", word) else f"v_{word}"


_FREE_Q = ("x", "y", "z", "quat_w", "quat_x", "quat_y", "quat_z")
_FREE_V = ("vx", "vy", "vz", "wx", "wy", "wz")


def _model_names(env: Any, size: int) -> list[str]:
    """Names from the joints of a MuJoCo model, where the environment says how its observation is made up
    (`observation_structure`); else none."""
    structure = getattr(env.unwrapped, "observation_structure", None)
    model = getattr(env.unwrapped, "model", None)
    if not structure or model is None:
        return []
    positions: list[str] = []
    velocities: list[str] = []
    for j in range(model.njnt):
        name, kind = _word(model.joint(j).name or f"joint_{j}"), int(model.jnt_type[j])
        if kind == 0:  # free
            positions += [f"{name}_{q}" for q in _FREE_Q]
            velocities += [f"{name}_{v}" for v in _FREE_V]
        elif kind == 1:  # ball
            positions += [f"{name}_{q}" for q in _FREE_Q[3:]]
            velocities += [f"{name}_{v}" for v in _FREE_V[3:]]
        else:
            positions.append(name)
            velocities.append(f"v_{name}")
    names = positions[structure.get("skipped_qpos", 0) :] + velocities
    for part, count in structure.items():
        if part not in ("skipped_qpos", "qpos", "qvel"):
            names += [f"{_word(part)}_{i}" for i in range(count)]
    return names if len(names) == size and len(set(names)) == size else []


def with_card(env: Any, card: TaskCard, known: Describer) -> Describer:
    """A describer with the names and texts of a card: the known one where the card has the same variables, else
    the numbers of the observation as they come.

    Raises:
        TaskError: if the card does not fit: other derived variables, another number of them, other actions.
    """
    base = generic(env)
    ours, theirs = card.action, base.card.action
    if ours.kind != theirs.kind or len(ours.names) != len(theirs.names):
        raise TaskError(
            f"the card of {card.env_id} has {len(ours.names)} {ours.kind} actions, but {env_id(env)} has "
            f"{len(theirs.names)} {theirs.kind} ones"
        )
    if (is_dataclass(known) and not isinstance(known, type)
            and [v.derived for v in card.variables] == [v.derived for v in known.card.variables]):  # fmt: skip
        return replace(known, card=card)  # type: ignore[type-var]
    if derived := [v.name for v in card.variables if v.derived]:
        raise TaskError(
            f"the card of {card.env_id} has derived variables ({', '.join(derived)}) other than those that Unstuck "
            "computes; a card alone cannot compute them. Remove them, or write a describer class."
        )
    if len(card.variables) != len(base.card.variables):
        raise TaskError(
            f"the card of {card.env_id} names {len(card.variables)} variables, but an observation of {env_id(env)} has "
            f"{len(base.card.variables)}; name them all, in order"
        )
    return replace(base, card=card)
