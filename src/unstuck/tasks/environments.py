"""Making environments by id, with errors that say what to do."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import re
import sys
import traceback
import warnings
from collections.abc import Mapping
from typing import Any

from unstuck.errors import EnvironmentFaultError, TaskError, did_you_mean
from unstuck.tasks.guarded import Place, guarded

_EXTRAS = {"mujoco": "mujoco", "box2d": "box2d", "atari": "atari", "ale": "atari", "minigrid": "minigrid"}


_OWN = ("Hopper", "Walker2d", "HalfCheetah")

_FAMILIES = {
    "atari": re.compile(r"ALE/|.*NoFrameskip-v\d|UnstuckPong-v\d"),
    "minigrid": re.compile(r"MiniGrid-|BabyAI-"),
}
"""Environments that a module of ours makes, because agents see them through wrappers."""
_PACKAGES = {"atari": "ale_py", "minigrid": "minigrid"}


def register() -> None:
    """Register Unstuck's own environments with Gymnasium: SparseHopper-v5, SparseWalker2d-v5, SparseHalfCheetah-v5,
    and Pong as its objects, UnstuckPong-v0."""
    import gymnasium as gym

    for name in _OWN:
        if f"Sparse{name}-v5" not in gym.registry:
            gym.register(f"Sparse{name}-v5", f"unstuck.tasks.sparse:Sparse{name}", max_episode_steps=1000)
    if "UnstuckPong-v0" not in gym.registry:
        gym.register("UnstuckPong-v0", "unstuck.tasks.atari:object_pong", max_episode_steps=10_000)


def is_ours(env_id: str) -> bool:
    """Whether an id means an environment that Gymnasium alone would make otherwise, or not at all."""
    ours = {f"Sparse{name}-v5" for name in _OWN}
    return env_id in ours or any(ids.match(env_id) for ids in _FAMILIES.values())


def known_ids() -> list[str]:
    """The ids that Gymnasium has registered, without the internal ones."""
    import gymnasium as gym

    register()
    return sorted(i for i in gym.registry if not i.startswith(("GymV", "phys2d/", "tabular/")))


OBJECTS = "objects"
"""Keyword argument: False leaves what lies beside pixels out of observations: the RAM of Atari games, the symbols of
MiniGrid."""


def _stacks_itself(env_id: str, kwargs: Mapping[str, Any], wrappers: Any) -> bool:
    if wrappers or not _FAMILIES["atari"].match(env_id):
        return False
    from unstuck.tasks.atari import takes_frames

    return takes_frames(env_id, kwargs)


def make_env(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    import_module: str | None = None,
    render_mode: str | None = None,
) -> Any:
    """`gymnasium.make`, after importing the module that registers the environment, if one is named.

    MiniGrid and Atari are made with the observations that agents are trained on; their keyword argument
    `observation` chooses: see `unstuck.tasks.minigrid` and `unstuck.tasks.atari`. `env_wrapper` and `frame_stack`, as
    in RL Zoo's files, put wrappers around any environment: see `unstuck.tasks.wrapping`. Pixels of Atari games whose
    objects are known come with the game's RAM beside them, and those of MiniGrid with its symbols, unless `objects` is
    false: see `unstuck.tasks.beside`.

    Args:
        env_id: as `gymnasium.make` takes it, `module:Name-v0` included; or `module:function`, a function that takes
            `env_kwargs` and makes an environment.

    Raises:
        TaskError: if there is no such environment (names the nearest), its simulator is not installed (names what
            to install), a module cannot be imported, or keyword arguments or wrappers do not fit.
    """
    from unstuck.tasks import wrapping

    register()
    if import_module:
        import_user_module(import_module)
    given = dict(env_kwargs or {})
    beside = given.pop(OBJECTS, True)
    kwargs, wrappers, frames = wrapping.take_out(env_id, given)
    if wrapping.FRAMES in given and _stacks_itself(env_id, kwargs, wrappers):
        kwargs, frames = {**kwargs, wrapping.FRAMES: frames}, 1
    with guarded(Place(env_id, what="__init__")):
        env = _make(env_id, kwargs, render_mode)
    if "mujoco" in sys.modules:  # of a user's own environment, too
        _mujoco_warnings_to_log()
    for name, arguments in wrappers:
        env = wrapping.wrap(env, name, arguments, import_user_module)
    env = wrapping.StackFrames(env, frames) if frames > 1 else env
    return _with_objects(env) if beside else env


def _with_objects(env: Any) -> Any:
    if "ale_py" in sys.modules:  # else there is no emulator in it
        from unstuck.tasks.atari_ram import with_ram

        env = with_ram(env)
    if "minigrid" in sys.modules:
        from unstuck.tasks.minigrid import with_grid

        env = with_grid(env)
    return env


def _make(env_id: str, env_kwargs: Mapping[str, Any], render_mode: str | None) -> Any:
    """The environment without the wrappers that the user named."""
    import gymnasium as gym

    from unstuck.tasks import wrapping

    _log_mujoco_warnings(env_id)
    try:
        if factory := wrapping.factory_of(env_id, import_user_module):
            return wrapping.call_factory(env_id, factory, env_kwargs, render_mode)
        # Only when it is wanted: environments of users often know no render_mode.
        rendering: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        if family := next((name for name, ids in _FAMILIES.items() if ids.match(env_id)), None):
            return _family(family, env_id).make(env_id, env_kwargs, **rendering)
        with warnings.catch_warnings():
            # What Gymnasium thinks of a user's environment is said once for each one made, in every process.
            warnings.filterwarnings("ignore", module="gymnasium")
            return gym.make(env_id, **rendering, **env_kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise TaskError(_missing(env_id, error)) from error
    except (ImportError, gym.error.NameNotFound, gym.error.NamespaceNotFound, gym.error.VersionNotFound,
            gym.error.DeprecatedEnv, gym.error.UnregisteredEnv) as error:  # fmt: skip
        raise TaskError(_unknown(env_id, error)) from error
    except gym.error.Error as error:
        raise TaskError(f"environment {env_id!r} cannot be made: {error}") from error
    except TypeError as error:
        if env_kwargs:
            given = ", ".join(f"{k}={v!r}" for k, v in env_kwargs.items())
            raise TaskError(f"environment {env_id} does not take these arguments ({given}): {error}") from error
        raise TaskError(f"environment {env_id} cannot be made: {error}") from error
    except (TaskError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        fault = EnvironmentFaultError(f"environment {env_id} cannot be made: {type(error).__name__}: {error}")
        fault.trace = traceback.format_exc()
        raise fault from error


def _family(name: str, env_id: str) -> Any:
    """The module of ours that makes environments of this family."""
    try:
        importlib.import_module(_PACKAGES[name])
    except ModuleNotFoundError as error:
        raise TaskError(
            f'environment {env_id} needs a simulator that is not installed: pip install "unstuck[{name}]"'
        ) from error
    return importlib.import_module(f"unstuck.tasks.{name}")


def _log_mujoco_warnings(env_id: str) -> None:
    """MuJoCo prints its warnings (on Gymnasium's own models, one for each environment made) and writes a file of them
    into the working folder; they go to the log instead."""
    import gymnasium as gym

    spec = gym.registry.get(env_id)
    if spec is None or not ("mujoco" in str(spec.entry_point) or "unstuck.tasks.sparse" in str(spec.entry_point)):
        return
    _mujoco_warnings_to_log()


def _mujoco_warnings_to_log() -> None:
    try:
        import mujoco

        mujoco.set_mju_user_warning(logging.getLogger("unstuck.mujoco").info)
    except (ImportError, AttributeError):
        return  # Not installed (said when the environment is made), or a version without this.


def import_user_module(module: str) -> None:
    """Import a module of the user's. The current folder counts, as it does for `python -m`: that is where a user's own
    module mostly lies.

    Raises:
        TaskError: if it cannot be imported, or fails.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise TaskError(
            f"cannot import {module} ({error}); it must be installed, or lie in the current folder or one on PYTHONPATH"
        ) from error
    except Exception as error:
        raise TaskError(f"importing {module} failed: {type(error).__name__}: {error}") from error


def _missing(env_id: str, error: Exception) -> str:
    text = str(error)
    extra = next((name for word, name in _EXTRAS.items() if word in text.lower()), None)
    what = f'pip install "unstuck[{extra}]"' if extra in ("mujoco", "box2d") else text
    return f"environment {env_id} needs a simulator that is not installed: {what}"


def _unknown(env_id: str, error: Exception) -> str:
    from gymnasium.error import DeprecatedEnv

    if isinstance(error, ModuleNotFoundError) and ":" in env_id:
        module = env_id.partition(":")[0]
        return f"cannot import {module}, which {env_id!r} names: {error}. Is it installed, or on PYTHONPATH?"
    if isinstance(error, ImportError):
        return f"environment {env_id} cannot be made: {error}"
    if isinstance(error, DeprecatedEnv):
        return f"there is no environment {env_id!r} any more: {error}"
    if env_id.startswith("ALE/"):
        return f"ale-py has no environment {env_id!r}.{did_you_mean(env_id, known_ids())}"
    name = env_id.rpartition(":")[2]
    if multiprocessing.parent_process() is not None:
        return (
            f"a worker process does not know the environment {env_id!r}: registering it in your script is not enough. "
            "Register it in a module, and name that with --import (import_module)."
        )
    hint = did_you_mean(name, known_ids()) or _same_letters(name)
    return (
        f"there is no environment {env_id!r}.{hint} An environment of your own must be registered first: name its "
        "module with --import, write the id as module:Name-v0, or name a function that makes it, module:function."
    )


def _same_letters(name: str) -> str:
    """did_you_mean looks at case; this does not."""
    lowered = {i.lower(): i for i in known_ids()}
    near = did_you_mean(name.lower(), lowered)
    for low, proper in lowered.items():
        near = near.replace(low, proper)
    return near
