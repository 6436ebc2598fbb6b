"""Strategies to save and restore one simulator exactly, one for each family of simulators.

A restored environment is to continue bit for bit as the original did: observations, rewards, termination
and the time limit, the random numbers it draws. `unstuck.snapshots` proves that before it uses one.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from unstuck.errors import RunError, TaskError


class Snapshotter(Protocol):
    """Saves and restores one environment, wrappers included."""

    name: str
    """'mujoco', 'ale', 'deepcopy' or 'replay'."""
    storable: bool
    """Whether `save` gives a flat vector, float64 of one length or uint8 of any, which `Episode.snapshots` can hold."""

    def save(self, env: gym.Env) -> Any:
        """The state of an environment that was reset. Leaves the environment as it is."""
        ...

    def restore(self, env: gym.Env, state: Any) -> None:
        """Put an environment of the same make into a saved state, at the cost of no environment step."""
        ...


class ReplayPoint(NamedTuple):
    """The state after `reset(seed=seed)` and then `actions`."""

    seed: int
    actions: np.ndarray


def layers(env: gym.Env) -> list[gym.Env]:
    """The wrappers from the outside in, then the environment itself. The checker that `gym.make` puts in
    between is left out: it only looks on, and its notes belong to its own environment."""
    chain = [env]
    while isinstance(chain[-1], gym.Wrapper):
        chain.append(chain[-1].env)
    return [layer for layer in chain if not isinstance(layer, PassiveEnvChecker)]


def make_ready(env: gym.Env) -> None:
    """Reset once if that never happened, because wrappers create attributes only then."""
    if any(isinstance(layer, OrderEnforcing) and not layer.has_reset for layer in layers(env)):
        env.reset(seed=0)


# ---------------------------------------------------------------------------------------------- deepcopy

_FIXED = frozenset({
    "env", "spec", "metadata", "_metadata", "observation_space", "_observation_space", "action_space",
    "_action_space", "_cached_spec", "render_mode",
    # transition tables and maps of the toy-text family: large and constant
    "P", "desc", "initial_state_distrib", "_cliff",
    # windows and images
    "screen", "clock", "window", "window_surface", "surf", "viewer", "mujoco_renderer",
})  # fmt: skip


def _is_picture(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and value:
        return _is_picture(value[0])
    return type(value).__module__.partition(".")[0] == "pygame"


def _is_rng(value: Any) -> bool:
    return isinstance(value, np.random.Generator)


class _Layer:
    """Stands in a saved state for the layer of the environment it came from, so that a reference from one
    layer to another is restored as a reference within the environment that is restored into."""


class DeepcopySnapshotter:
    """Copies the attributes of every layer. Copying attributes and not the environment avoids EzPickle, whose
    `deepcopy` silently builds a new environment that was never reset."""

    name = "deepcopy"
    storable = False

    def _moving(self, layer: gym.Env) -> dict[str, Any]:
        return {k: v for k, v in vars(layer).items() if k not in _FIXED and not _is_picture(v)}

    def save(self, env: gym.Env) -> Any:
        env.unwrapped.np_random  # noqa: B018  (made on first use)
        chain = layers(env)
        stands = [_Layer() for _ in chain]
        memo: dict[int, Any] = {id(layer): stand for layer, stand in zip(chain, stands, strict=True)}
        moving = [self._moving(layer) for layer in chain]
        # Copying a generator takes longer than all the rest, its state as a dict does not.
        random = [
            {name: attributes.pop(name).bit_generator.state for name in list(attributes) if _is_rng(attributes[name])}
            for attributes in moving
        ]
        return stands, copy.deepcopy(moving, memo), random

    def restore(self, env: gym.Env, state: Any) -> None:
        make_ready(env)
        env.unwrapped.np_random  # noqa: B018
        chain = layers(env)
        stands, saved, random = state
        memo = {id(stand): layer for stand, layer in zip(stands, chain, strict=True)}
        for layer, attributes, generators in zip(chain, copy.deepcopy(saved, memo), random, strict=True):
            for name in self._moving(layer).keys() - attributes.keys() - generators.keys():
                delattr(layer, name)
            vars(layer).update(attributes)
            for name, inner in generators.items():
                vars(layer)[name].bit_generator.state = inner


# ------------------------------------------------------------------------------------------------ mujoco

_DERIVED = ("xpos", "xquat", "xipos", "subtree_com", "site_xpos", "sensordata")
"""Results of the last substep that environments read before they step again. They lag behind the positions
(Reacher-v4 computes its reward from such an `xpos`), so that `mj_forward` alone does not restore them."""

_WORDS = 4  # 128-bit integers as exact floats of 32 bits each


class MujocoSnapshotter:
    """MuJoCo's full integration state (with solver warm start), the numbers that layers keep in attributes
    (elapsed steps of time limits among them), and their random number generators, as one flat vector."""

    name = "mujoco"
    storable = True

    def save(self, env: gym.Env) -> np.ndarray:
        """(S,) float64.

        Raises:
            TaskError: if an attribute is an integer too large for a float, or a generator is not PCG64.
        """
        import mujoco

        core: Any = env.unwrapped
        state = np.empty(mujoco.mj_stateSize(core.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(core.model, core.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        parts = [state, *(np.ravel(getattr(core.data, name)) for name in _DERIVED)]
        numbers: list[float] = []
        for layer, name in packed_attributes(env):
            pack(vars(layer)[name], name, numbers)
        return np.concatenate([*parts, numbers])

    def restore(self, env: gym.Env, state: np.ndarray) -> None:
        """Raises:
        RunError: if the vector is of another length, so of another environment or other wrappers.
        """
        import mujoco

        make_ready(env)
        core: Any = env.unwrapped
        vector = np.ascontiguousarray(state, dtype=np.float64)
        physics = mujoco.mj_stateSize(core.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        lengths = [physics, *(getattr(core.data, name).size for name in _DERIVED)]
        attributes = packed_attributes(env)
        sizes = [size_of(vars(layer)[name]) for layer, name in attributes]
        if vector.shape != (sum(lengths) + sum(sizes),):
            raise RunError(
                f"the snapshot has shape {vector.shape}, this environment needs ({sum(lengths) + sum(sizes)},): it was "
                "saved with another environment, other wrappers or another MuJoCo; collect the episodes again"
            )
        head = vector[:physics]
        mujoco.mj_setState(core.model, core.data, head, mujoco.mjtState.mjSTATE_INTEGRATION)
        # Contacts and geometry for rendering; it may touch the warm start, hence set the state once more.
        mujoco.mj_forward(core.model, core.data)
        mujoco.mj_setState(core.model, core.data, head, mujoco.mjtState.mjSTATE_INTEGRATION)
        at = physics
        for name in _DERIVED:
            field = getattr(core.data, name)
            field[...] = vector[at : at + field.size].reshape(field.shape)
            at += field.size
        numbers = vector[at:].tolist()
        at = 0
        for (layer, name), size in zip(attributes, sizes, strict=True):
            unpack(numbers[at : at + size], vars(layer), name)
            at += size


_PACKED = (bool, int, float, np.bool_, np.integer, np.floating, np.ndarray, np.random.Generator)


def packed_attributes(env: gym.Env) -> list[tuple[gym.Env, str]]:
    """Layer and name of all attributes that are packed into a snapshot, in a fixed order."""
    env.unwrapped.np_random  # noqa: B018  (made on first use)
    return [
        (layer, name)
        for layer in layers(env)
        for name, value in sorted(vars(layer).items())
        if isinstance(value, _PACKED) and name not in _FIXED and name != "_np_random_seed" and size_of(value)
    ]


def size_of(value: Any) -> int:
    """How many floats an attribute packs into; 0 if it is not of a kind that packs."""
    if isinstance(value, np.ndarray):
        return value.size if value.dtype.kind in "biuf" else 0
    return 2 * _WORDS + 2 if isinstance(value, np.random.Generator) else 1


def pack(value: Any, name: str, into: list[float]) -> None:
    if isinstance(value, np.random.Generator):
        into += _pack_rng(value)
        return
    items = value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
    packed = [float(item) for item in items]
    if any(isinstance(item, int) and int(number) != item for item, number in zip(items, packed, strict=True)):
        raise TaskError(f"the environment's attribute {name} holds an integer too large for an exact snapshot")
    into += packed


def unpack(numbers: list[float], attributes: dict[str, Any], name: str) -> None:
    like = attributes[name]
    if isinstance(like, np.random.Generator):
        _unpack_rng(like, numbers)
    elif isinstance(like, np.ndarray):
        attributes[name] = np.array(numbers).astype(like.dtype).reshape(like.shape)
    else:
        attributes[name] = type(like)(numbers[0])


def _pack_rng(generator: np.random.Generator) -> list[float]:
    state: Any = generator.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise TaskError(f"cannot pack a random number generator of kind {state['bit_generator']}")
    words = [
        float((number >> (32 * i)) & 0xFFFFFFFF)
        for number in (state["state"]["state"], state["state"]["inc"])
        for i in range(_WORDS)
    ]
    return [*words, float(state["has_uint32"]), float(state["uinteger"])]


def _unpack_rng(generator: np.random.Generator, packed: list[float]) -> None:
    words = [int(w) for w in packed]
    low, inc = (sum(w << (32 * i) for i, w in enumerate(words[k : k + _WORDS])) for k in (0, _WORDS))
    generator.bit_generator.state = {
        "bit_generator": "PCG64", "state": {"state": low, "inc": inc},
        "has_uint32": words[-2], "uinteger": words[-1],
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ replay


def as_action(env: gym.Env, action: Any) -> Any:
    """A stored action in the type that the environment expects: a Python int, or an array of its dtype."""
    if isinstance(env.action_space, gym.spaces.Discrete):
        return int(action)
    return np.asarray(action, dtype=env.action_space.dtype)


class ReplaySnapshotter:
    """Resets with the episode's seed and takes its actions again; exact wherever the environment is a function
    of its seed and actions, but costs one environment step for each step replayed."""

    name = "replay"
    storable = False

    def save(self, env: gym.Env) -> Any:
        raise TaskError("an environment that is restored by replay cannot be saved; use restore_episode_step")

    def restore(self, env: gym.Env, state: ReplayPoint) -> None:
        replay(env, state)


def reset_exactly(env: gym.Env, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
    """`env.reset(seed=seed)`, with nothing left over from earlier episodes.

    A Box2D world remembers: BipedalWalker and CarRacing reuse theirs, so that the same seed and actions give
    other results in a used environment. Episodes that are to be replayed must be collected with this.
    """
    core: Any = env.unwrapped
    world = vars(core).get("world")
    if type(world).__module__.startswith("Box2D"):
        # The environment destroys its bodies with the world that it created them in, hence not a new one first.
        if hasattr(core, "_destroy"):
            core._destroy()
        core.world = type(world)(gravity=world.gravity)
    return env.reset(seed=seed)


def replay(env: gym.Env, point: ReplayPoint) -> Any:
    """Reset with the seed, take the actions, and give the last observation."""
    obs, _ = reset_exactly(env, point.seed)
    for action in point.actions:
        obs, *_ = env.step(as_action(env, action))
    return obs


def reseed(env: gym.Env, seed: int) -> None:
    """Give the environment new random numbers from here on, for branches that are to differ in their luck."""
    env.unwrapped.np_random = gym.utils.seeding.np_random(seed)[0]
