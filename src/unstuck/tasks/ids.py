"""Ids of environments as older files name them, and what runs today in their place.

Gymnasium gives an environment a new version number when its behaviour changes, and drops old ones. A published agent
still names the version that it was trained on. Here the *nearest later version that the agent fits* takes its place:
the nearest, because it differs least; that it fits is asked of the agent. So MuJoCo's `-v2` and `-v3` become `-v4`
where it has the same observations (its models and rewards are those of `-v3`), and `-v5` else.

What `-v5` changes is not only the observation: the feet of Walker2d-v5 have another friction. A PPO agent of RL Zoo
that had 2581 ± 1560 on Walker2d-v3 at the end of its training has 2382 ± 1284 on v4 and 3765 ± 256 on v5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unstuck.errors import TaskError

Fits = Callable[[Any, str], str]
"""(environment, its id) → '' if the agent can act in it, else what differs, in words."""

_ID = re.compile(r"(?P<name>(?:[\w.-]+/)?[\w.-]+?)-v(?P<version>\d+)")
_ALSO: dict[str, dict[str, Any]] = {"Ant-v4": {"use_contact_forces": True}}
"""Keyword arguments with which a later version shows what an older one showed, where without them it shows less."""
_ELSEWHERE = (
    (r"\w+BulletEnv-v\d+", "pybullet_envs_gymnasium", "pybullet_envs_gymnasium"),
    (r"Panda[A-Z]\w*-v\d+", "panda-gym", "panda_gym"),
    (r"(Fetch|Hand|Adroit|AntMaze|PointMaze|FrankaKitchen)\w*-v\d+", "gymnasium-robotics", "gymnasium_robotics"),
    (r"(highway|parking|merge|roundabout|intersection|racetrack)(-\w+)*-v\d+", "highway-env", "highway_env"),
)
"""(ids, the package that has them, the module that registers them)."""


def is_atari(env_id: str) -> bool:
    """Whether the id is one of the ALE's games."""
    return env_id.startswith("ALE/") or "NoFrameskip-v" in env_id


def is_minigrid(env_id: str) -> bool:
    """Whether the id is one of MiniGrid's."""
    return env_id.startswith(("MiniGrid-", "BabyAI-"))


@dataclass(frozen=True)
class TaskFound:
    """An environment that could be made. Whoever gets this closes it."""

    env: Any
    env_id: str
    env_kwargs: dict[str, Any]
    note: str = ""
    """What stands in for what, and why; '' where the id was used as it was given."""


def make_fitting(
    env_id: str, env_kwargs: Mapping[str, Any], import_module: str | None = None, fits: Fits = lambda env, name: ""
) -> TaskFound:
    """`make_env`; where the id is of a version that no longer runs, the nearest later one that fits.

    An id that runs is used as it is, whether the agent fits or not.

    Raises:
        TaskError: as `make_env`; where no later version fits, it says what differs in each.
    """
    from unstuck.tasks.environments import make_env

    try:
        return TaskFound(make_env(env_id, env_kwargs, import_module), env_id, dict(env_kwargs))
    except TaskError as error:
        first = error
    missing, problems = "", []
    for later, more in _candidates(env_id):
        kwargs = {**more, **env_kwargs}
        try:
            env = make_env(later, kwargs)
        except TaskError as error:
            missing = missing or str(error)
            continue
        problem = fits(env, later)
        if not problem:
            return TaskFound(env, later, kwargs, _note(env_id, later, more))
        env.close()
        problems.append(problem)
    if problems:
        raise TaskError(f"{env_id} no longer runs, and no later version fits. {' '.join(problems)}") from first
    if missing:
        raise TaskError(f"{env_id} no longer runs, and no later version can be made: {missing}") from first
    raise TaskError(f"{first}{where_to_get(env_id)}") from first


def _candidates(env_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [(later, more) for later in later_versions(env_id) for more in ({}, _ALSO.get(later)) if more is not None]


def later_versions(env_id: str) -> list[str]:
    """Registered ids of the same name with a higher version, the nearest first."""
    import gymnasium as gym

    match = _ID.fullmatch(env_id)
    if match is None:
        return []
    found = [other for other in map(_ID.fullmatch, gym.registry) if other and other["name"] == match["name"]]
    versions = sorted(int(other["version"]) for other in found if int(other["version"]) > int(match["version"]))
    return [f"{match['name']}-v{version}" for version in versions]


def _note(old: str, new: str, more: Mapping[str, Any]) -> str:
    extra = f" with {', '.join(f'{k}={v}' for k, v in more.items())}" if more else ""
    later = later_versions(new)
    other = f"; another version is chosen with --env, e.g. {later[-1]}" if later else ""
    return f"{old} no longer runs here: {new}{extra}, the nearest later version that fits the agent, stands in{other}"


def where_to_get(env_id: str) -> str:
    """A sentence on the package that has an environment that Gymnasium does not know, or ''."""
    for ids, package, module in _ELSEWHERE:
        if re.fullmatch(ids, env_id):
            return f" It belongs to {package}: pip install {package}, and name its module with --import {module}."
    return ""
