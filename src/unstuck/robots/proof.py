"""Whether environments may be stepped at once: what they are made of, and a comparison with their own `step`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from numbers import Number
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from unstuck.robots.families import changed, family_of

_PASSING = (OrderEnforcing, PassiveEnvChecker, TimeLimit)
"""What `gymnasium.make` puts around every environment."""


_compared: dict[tuple[Any, ...], str | None] = {}


def not_together(env: gym.Env) -> str | None:
    """Why environments of this make cannot be stepped together, a clause; None if they can.

    What its class and settings allow is compared, with others that are made like it, with their own `step`; once in a
    process for each make.
    """
    if (why := refused(env)) is not None:
        return why
    if env.spec is None:
        return "it has no spec by which to make another"
    make = (type(env.unwrapped), repr(env.spec), *(type(layer) for layer in _layers(env)))
    if make not in _compared:
        _compared[make] = differs(lambda: _like(env))
    what = _compared[make]
    return None if what is None else f"with the versions installed here, {what} is not the same"


def _like(env: gym.Env) -> gym.Env:
    """Another one."""
    assert env.spec is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(env.spec)


def _layers(env: gym.Env) -> list[gym.Env]:
    chain = [env]
    while isinstance(chain[-1], gym.Wrapper):
        chain.append(chain[-1].env)
    return chain[:-1]


def refused(env: gym.Env) -> str | None:
    """Why environments of this make cannot be stepped together, as far as their classes and settings tell; or None."""
    core: Any = env.unwrapped
    found = family_of(type(core))
    if found is None:
        return f"{type(core).__name__} is none of Gymnasium's MuJoCo tasks, and extends none"
    family, base = found
    if (name := changed(core, base)) is not None:
        return f"{type(core).__name__} has a {name} of its own"
    if (name := _wrapped(env)) is not None:
        return f"the environment is wrapped in {name}"
    if core.render_mode == "human":
        return "it shows each step in a window"
    for name in family.settings:
        if not _plain(getattr(core, name, None)):
            return f"its {name} is {getattr(core, name, None)!r}, not a number"
    return None


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_plain(v) for v in value)
    return isinstance(value, Number | str) and not isinstance(value, np.generic)


def _wrapped(env: gym.Env) -> str | None:
    """The first wrapper that does something with a step."""
    limits = 0
    for layer in _layers(env):
        if type(layer) in _PASSING:
            limits += type(layer) is TimeLimit
        elif inspect.getattr_static(type(layer), "step") is not gym.Wrapper.step or "step" in vars(layer):
            return type(layer).__name__
    return "two time limits" if limits > 1 else None


def differs(
    env_factory: Callable[[], gym.Env],
    steps: int = 40,
    envs: int = 2,
    seed: int = 0,
    ended: Callable[[], None] = lambda: None,
) -> str | None:
    """What is not the same, bit by bit, when environments are stepped at once and each by itself; None if nothing is.

    Takes a few hundredths of a second for most tasks.

    Args:
        steps: of random actions, from half to one and a half times as large as the bounds; over ends of episodes.
        ended: called at the end of each episode.
    """
    from unstuck.robots.stepping import Together

    ours, theirs = ([env_factory() for _ in range(envs)] for _ in range(2))
    try:
        if len({type(env.unwrapped) for env in ours}) > 1 or refused(ours[0]) is not None:
            return "what is made"
        together = Together(ours)
        rng, shape = np.random.default_rng(seed), ours[0].observation_space.shape
        space: Any = ours[0].action_space
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if not same(a.reset(seed=seed + i), b.reset(seed=seed + i)):
                return "what a reset gives"
        for t in range(steps):
            scale = (0.5, 1.0, 1.5)[t % 3]
            actions = (scale * rng.uniform(space.low, space.high, (envs, *space.shape))).astype(space.dtype)
            found = together.step(actions)
            if found.obs.shape[1:] != shape:
                return "the shape of observations, in the space and in what is given,"
            for i in range(envs):
                own = theirs[i].step(actions[i])
                if (name := difference([part[i] for part in found], own)) is not None:
                    return f"{name} after {t + 1} steps"
                if own[2] or own[3]:
                    ended()
                    if not same(ours[i].reset(), theirs[i].reset()):
                        return "what a reset gives"
        return None
    finally:
        for env in (*ours, *theirs):
            env.close()


_PARTS = ("the observation", "the reward", "whether it ends", "whether it is cut", "the info")


def difference(ours: Any, theirs: Any) -> str | None:
    """Which part of a step's result is not the same."""
    return next((name for name, a, b in zip(_PARTS, ours, theirs, strict=True) if not same(a, b)), None)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, floating-point numbers bit by bit; a number's type does not matter, nor an array's
    precision where it holds the same numbers."""
    if isinstance(a, dict) or isinstance(b, dict):
        return isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return x.shape == y.shape and x.tobytes() == y.tobytes()
