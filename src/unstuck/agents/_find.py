"""Finding an agent's files: a zip, a path without its suffix, or a folder of RL Baselines3 Zoo."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unstuck.agents._yaml import MAX_CHARACTERS, read_pairs
from unstuck.errors import AgentError, did_you_mean
from unstuck.tasks.ids import is_atari, is_minigrid
from unstuck.tasks.plain import ENV_ID, plain_kwargs, plain_wrappers, wrapper_name

_ENV_ID = ENV_ID.pattern
_ZOO_FOLDER = re.compile(rf"(?:(?:ppo|a2c|trpo|dqn|qrdqn|sac|td3|ddpg|tqc)-)?({_ENV_ID})(?:_\d+)?", re.IGNORECASE)
_DRAWN = {"RGBImgObsWrapper", "RGBImgPartialObsWrapper", "ViewSizeWrapper", "OneHotPartialObsWrapper"}
"""Wrappers of MiniGrid that `make_env` has no word for, so that they stay wrappers."""
_STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")


def find_zip(path: Path) -> tuple[Path, list[str]]:
    """The agent's zip, and notes on how it was chosen.

    Raises:
        AgentError: nothing there, or more than one agent and no telling which.
    """
    if path.is_file():
        return path, []
    if path.is_dir():
        return _zip_in(path)
    with_suffix = path.with_name(path.name + ".zip")
    if with_suffix.is_file():
        return with_suffix, []
    near: list[str] = []
    if path.parent.is_dir():
        near = [p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix == ".zip"]
    hint = did_you_mean(path.name, near)
    raise AgentError(f"No agent at {path}: no such file or folder.{hint}")


def _zip_in(folder: Path) -> tuple[Path, list[str]]:
    found = sorted(folder.glob("*.zip"))
    if not found:
        inside = sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*.zip"))[:8]
        hint = f" Deeper inside there are {', '.join(inside)}: name one." if inside else ""
        raise AgentError(f"The folder {folder} holds no .zip of an agent.{hint}")
    if len(found) == 1:
        return found[0], []
    # RL Zoo itself plays the last agent, named after the environment, unless told otherwise.
    last = [p for p in found if (folder / p.stem).is_dir()]
    if len(last) == 1:
        others = ", ".join(p.name for p in found if p != last[0])
        return last[0], [f"took {last[0].name}, the last one of training; beside it: {others}"]
    names = ", ".join(p.name for p in found)
    raise AgentError(f"The folder {folder} holds several agents: {names}. Name one of them.")


def find_statistics(zip_path: Path) -> Path | None:
    """VecNormalize statistics saved beside an agent, by the names SB3, RL Zoo and Unstuck use."""
    folder, stem = zip_path.parent, zip_path.stem
    candidates = [folder / f"{stem}.vecnormalize.pkl"]
    steps = re.fullmatch(r"(.+)_(\d+)_steps", stem)  # CheckpointCallback
    if steps:
        candidates.append(folder / f"{steps[1]}_vecnormalize_{steps[2]}_steps.pkl")
    for home in (*_zoo_subfolders(folder), folder):
        candidates += [home / name for name in _STATISTICS]
    return next((p for p in candidates if p.is_file()), None)


def _zoo_subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and (p / "config.yml").is_file())


def zoo_settings(zip_path: Path) -> dict[str, Any]:
    """What RL Zoo's args.yml and config.yml say, e.g. {"env": "CartPole-v1", "frame_stack": 4}; of a file that is not
    understood, the scalars alone, as text."""
    folder = zip_path if zip_path.is_dir() else zip_path.parent
    settings: dict[str, Any] = {}
    for home in (folder, *_zoo_subfolders(folder)):
        for name in ("config.yml", "args.yml"):
            file = home / name
            if not file.is_file() or file.stat().st_size > MAX_CHARACTERS:
                continue
            text = file.read_text("utf-8", "replace")
            try:
                settings |= read_pairs(text)
            except AgentError:
                settings |= _scalars(text)
    return settings


def _scalars(text: str) -> dict[str, str]:
    pairs = re.findall(r"-[ \t]+(\w+)[ \t]*\n[ \t]+-[ \t]+([^\n]+)", text)
    pairs += re.findall(r"^(\w+):[ \t]*(\S[^\n]*)$", text, re.MULTILINE)
    return {key: value.strip().strip("'\"") for key, value in pairs}


def find_env_id(path: Path | str) -> str | None:
    """The environment id that RL Zoo recorded for an agent (args.yml, else the folder's name), or None."""
    path = Path(path)
    said = zoo_settings(path).get("env")
    if isinstance(said, str) and len(said) <= 200 and ENV_ID.fullmatch(said):
        return said
    folder = path if path.is_dir() else path.parent
    for name in (folder.resolve().name, path.stem if path.suffix == ".zip" else path.name):
        match = _ZOO_FOLDER.fullmatch(name)
        if match:
            return match[1]
    return None


def zoo_env_kwargs(path: Path | str, env_id: str) -> dict[str, Any]:
    """Keyword arguments for `unstuck.tasks.make_env` that make the environment as RL Zoo made it for this agent:
    its own `env_kwargs`, `env_wrapper` and `frame_stack`; {} for an agent that is not RL Zoo's.

    Wrappers that are in `make_env` anyway (AtariWrapper and its frames, FlatObsWrapper) are left out. What is not data
    (`unstuck.tasks.plain`) is left out too, wrappers that are not listed among it; `load_agent` notes it.
    """
    return _zoo_env_kwargs(zoo_settings(Path(path).expanduser()), env_id)[0]


def _zoo_env_kwargs(settings: Mapping[str, Any], env_id: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The keyword arguments, and what in the file is not data: (keyword, value)."""
    kwargs = settings.get("env_kwargs")
    kwargs = kwargs if isinstance(kwargs, Mapping) else {}
    said = {str(k): v for k, v in kwargs.items() if k not in ("env_wrapper", "frame_stack")}
    found, names = plain_kwargs(said)
    wrappers, foreign = plain_wrappers(_wrappers(settings, kwargs))
    refused = [(name, said.get(name)) for name in names] + [("env_wrapper", [item]) for item in foreign]
    frames = settings.get("frame_stack") or kwargs.get("frame_stack")
    frames = frames if type(frames) is int and 1 < frames <= 64 else None
    classes = {wrapper_name(w).rpartition(".")[2] for w in wrappers}
    atari = next((w for w in wrappers if wrapper_name(w).endswith(".AtariWrapper")), None)
    if atari is not None and is_atari(env_id):
        found |= dict(next(iter(atari.values()))) if isinstance(atari, Mapping) else {}
        found |= {"observation": "sb3"} if env_id.startswith("ALE/") else {}
        found |= {"frame_stack": frames or 1} if frames != 4 else {}
        wrappers, frames = [w for w in wrappers if w is not atari], None
    if is_minigrid(env_id) and not classes & _DRAWN:
        if "ImgObsWrapper" in classes:
            found["observation"] = "full" if "FullyObsWrapper" in classes else "image"
        wrappers = [w for w in wrappers if not wrapper_name(w).startswith(("minigrid.", "gym_minigrid."))]
    elif is_minigrid(env_id):
        found["observation"] = "raw"  # what they are put around
    if wrappers:
        found["env_wrapper"] = wrappers
    if frames:
        found["frame_stack"] = frames
    return found, refused


def _wrappers(*settings: Any) -> list[Any]:
    """What they say of wrappers, one after the other."""
    found: list[Any] = []
    for part in settings:
        said = part.get("env_wrapper") if isinstance(part, Mapping) else None
        items = said if isinstance(said, list) else [] if said in (None, "null", "None", "") else [said]
        found += [item for item in items if isinstance(item, (str, Mapping)) and item]
    return found


def zoo_notes(zip_path: Path, *, has_statistics: bool) -> list[str]:
    """What RL Zoo did to the environment that the agent's zip does not say."""
    settings, notes = zoo_settings(zip_path), []
    kwargs, refused = _zoo_env_kwargs(settings, find_env_id(zip_path) or "")
    if kwargs:
        notes.append(
            "RL Zoo trained it with " + ", ".join(f"{key}: {value}" for key, value in kwargs.items())
            + f"; the same by hand is {_as_flag(kwargs)}"
        )  # fmt: skip
    for key, value in refused:
        what = wrapper_name(value[0]) if key == "env_wrapper" else json.dumps(value, default=str)
        notes.append(
            f"RL Zoo trained it with {key}: {what}"[:200] + ", which is not applied unless you name it, because a file "
            f"may not choose what is run or opened: {_as_flag({key: value})}"
        )
    outer = settings.get("vec_env_wrapper")
    if outer not in (None, "null", "None", "", []):
        notes.append(
            f"RL Zoo trained it with vec_env_wrapper: {outer}, which is not applied; where it changes what the agent "
            "sees or is paid, give the environment a wrapper that does the same (--env-kwargs, env_wrapper)"
        )
    if _normalizes(settings.get("normalize")) and not has_statistics:
        notes.append(
            "RL Zoo trained it on normalised observations, but no vecnormalize.pkl is beside it: "
            "without its statistics it will act badly"
        )
    return notes


def _as_flag(kwargs: Mapping[str, Any]) -> str:
    return f"--env-kwargs {shlex.quote(json.dumps(kwargs, default=str))}"


def _normalizes(said: Any) -> bool:
    """Whether RL Zoo's `normalize` (a truth value, or keyword arguments as text) normalises observations."""
    if isinstance(said, str):
        text = said.lower()
        return text not in ("false", "null", "none", "") and not re.search(r"norm_obs'?\"?\s*[:=]\s*false", text)
    return bool(said)
