"""Environments that misbehave: what they raise or return is told with the place where it happened.

`step` and `reset` here are the environment's own, with what comes back checked. An environment that takes too long is
told of, and in the end stopped where the system can (not on Windows, not inside compiled code).
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from unstuck.errors import EnvironmentFaultError, UnstuckError

LIMIT_VARIABLE = "UNSTUCK_STEP_SECONDS"
LIMIT, WORD = 600.0, 30.0
"""Seconds that one step, reset or construction may take (UNSTUCK_STEP_SECONDS sets another limit), and after which
something is said."""


class Place(NamedTuple):
    """Where in a run an environment is."""

    env_id: str
    seed: int | None = None
    episode: int | None = None
    step: int | None = None
    what: str = "step"

    def words(self) -> str:
        parts = [("seed", self.seed), ("episode", self.episode), ("step", self.step)]
        where = ", ".join(f"{name} {value}" for name, value in parts if value is not None)
        return f"{self.env_id}{f' ({where})' if where else ''}"


def name_of(env: Any) -> str:
    """The environment's id, or the name of its class."""
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(getattr(env, "unwrapped", env)).__name__


def step(env: Any, action: Any, place: Place) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """`env.step(action)`.

    Raises:
        EnvironmentFaultError: it raises, ends the process, hangs, or gives something else than (observation, reward,
            terminated, truncated, info) of finite numbers and the observation space's shape.
    """
    _watchdog.begin(place)
    try:  # not `with guarded`: this is done for every step
        result = env.step(action)
    except (Exception, SystemExit) as error:
        raise failed(place, error) from error
    finally:
        _watchdog.end()
    return checked_step(result, env.observation_space, place)


def reset(env: Any, how: Callable[[], Any], place: Place) -> Any:
    """`how()`, which resets the environment; (observation, info). Raises as `step` does."""
    with guarded(place):
        result = how()
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise _fault(place, f"reset() must give (observation, info), not {_kind(result)}")
    check_observation(result[0], env.observation_space, place)
    return result


def checked_step(result: Any, space: gym.Space, place: Place) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """What a step gave, if it is in order. Raises EnvironmentFaultError otherwise."""
    if not (isinstance(result, tuple) and len(result) == 5):
        raise _fault(place, f"step() must give (observation, reward, terminated, truncated, info), not {_kind(result)}")
    observation, reward, terminated, truncated, info = result
    if type(reward) is not float:
        reward = _number(reward, place)
    if not math.isfinite(reward):
        raise _fault(place, f"the reward is {reward}")
    for flag in (terminated, truncated):
        if type(flag) is not bool and not isinstance(flag, (bool, np.bool_)):
            raise _fault(place, f"terminated and truncated must be true or false, not {_kind(flag)}")
    if not isinstance(info, dict):
        raise _fault(place, f"info must be a dictionary, not {_kind(info)}")
    check_observation(observation, space, place)
    return observation, reward, bool(terminated), bool(truncated), info


def _number(reward: Any, place: Place) -> float:
    try:
        if np.ndim(reward) == 0 and reward is not None and not isinstance(reward, (str, bytes)):
            return float(reward)
    except (TypeError, ValueError):
        pass
    raise _fault(place, f"the reward must be a number, not {_kind(reward)}")


def check_observation(observation: Any, space: gym.Space, place: Place) -> None:
    """Raises EnvironmentFaultError if an observation is not of the space's shape, or not finite."""
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
            raise _fault(
                place, f"the observation is {_kind(observation)}, not a dictionary of {', '.join(space.spaces)}"
            )
        for key, part in space.spaces.items():
            check_observation(observation[key], part, place)
    elif isinstance(space, gym.spaces.Box):
        try:
            array = np.asarray(observation)
        except Exception as error:
            raise _fault(place, f"the observation is no array ({type(error).__name__}: {error})") from error
        if array.shape != space.shape:
            raise _fault(place, f"the observation has shape {array.shape}, its space says {space.shape}")
        if array.dtype.kind not in "biuf":
            raise _fault(place, f"the observation is of {array.dtype}, not of numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = "NaN" if np.isnan(array).any() else "infinity"
            raise _fault(place, f"the observation holds {bad}")
    elif isinstance(space, gym.spaces.Discrete) and not space.contains(observation):
        raise _fault(place, f"the observation {str(observation)[:60]} is not in {space}")


def check_batch(observations: Any, rewards: np.ndarray, place: Callable[[], Place]) -> None:
    """For many environments at once: raises EnvironmentFaultError if an observation or a reward is not finite."""
    if not np.isfinite(rewards).all():
        raise _fault(place(), f"the reward is {rewards[~np.isfinite(rewards)][0]}")
    for part in observations.values() if isinstance(observations, dict) else [observations]:
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise _fault(place(), f"the observation holds {'NaN' if np.isnan(part).any() else 'infinity'}")


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values" + (": the form of before Gym 0.26" if len(value) == 4 else "")
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return "None" if value is None else f"a {type(value).__name__}"


def _fault(place: Place, words: str) -> EnvironmentFaultError:
    return EnvironmentFaultError(f"the environment {place.words()}: {words}")


def failed(place: Place, error: BaseException) -> UnstuckError:
    """What the environment raised, as an error with its traceback; an error of ours stays as it is."""
    if isinstance(error, UnstuckError):
        return error
    fault = _fault(place, f"{place.what}() failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    fault.trace = "".join(traceback.format_exception(error))
    return fault


@contextmanager
def guarded(place: Place | Callable[[], Place]) -> Iterator[None]:
    """Tell what the environment raises in the block, or that it hangs.

    Args:
        place: where it is, or a function that is asked for it when there is something to tell.

    Raises:
        EnvironmentFaultError: with the environment's own traceback in `trace`.
    """
    _watchdog.begin(place)
    try:
        yield
    except UnstuckError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(_now(place), error) from error
    finally:
        _watchdog.end()


def _now(place: Place | Callable[[], Place]) -> Place:
    return place if isinstance(place, Place) else place()


class _Watchdog:
    """A thread that looks every second at what the process's main thread waits for; begun when it is first needed."""

    def __init__(self) -> None:
        self._place: Place | Callable[[], Place] | None = None
        self._since = 0.0
        self._thread: threading.Thread | None = None
        self._process = 0
        self._main = 0

    def begin(self, place: Place | Callable[[], Place]) -> None:
        if self._process != os.getpid():
            self._start()
        if self._place is None:
            self._since, self._place = time.monotonic(), place

    def end(self) -> None:
        self._place = None

    def _start(self) -> None:
        self._process, self._main = os.getpid(), threading.get_ident()
        self._place = None
        self._thread = threading.Thread(target=self._look, daemon=True, name="unstuck-environments")
        self._thread.start()

    def _look(self) -> None:
        warned: float | None = None
        while True:
            time.sleep(min(1.0, limit() / 4))
            place, since = self._place, self._since
            if place is None:
                continue
            waited = time.monotonic() - since
            if waited > WORD and warned != since:
                warned = since
                logging.getLogger("unstuck").warning(
                    "the environment %s: %s() has taken %.0f s so far; it is stopped after %.0f s (%s)",
                    _now(place).words(), _now(place).what, waited, limit(), LIMIT_VARIABLE,
                )  # fmt: skip
            if waited > limit() and self._place is place:
                self._stop(_now(place))

    def _stop(self, place: Place) -> None:
        if not hasattr(signal, "pthread_kill") or self._main != threading.main_thread().ident:
            return
        _late.append(place)
        signal.pthread_kill(self._main, signal.SIGALRM)
        self._since = time.monotonic()  # if it goes on regardless, it is told again


_watchdog = _Watchdog()
_late: list[Place] = []


def limit() -> float:
    """Seconds that an environment may take for one thing."""
    try:
        return max(0.1, float(os.environ.get(LIMIT_VARIABLE) or LIMIT))
    except ValueError:
        return LIMIT


def _too_late(number: int, frame: Any) -> None:
    if _late:
        place = _late.pop()
        fault = _fault(place, f"{place.what}() did not end within {limit():g} s ({LIMIT_VARIABLE} sets another limit)")
        fault.trace = "Stopped here, the innermost call last:\n" + "".join(traceback.format_stack(frame))
        raise fault


def _install() -> None:
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and hasattr(signal, "SIGALRM") and signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, None):
        signal.signal(signal.SIGALRM, _too_late)


_install()
