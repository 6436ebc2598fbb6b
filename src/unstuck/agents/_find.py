"""Finding an agent's files: a zip, a path without its suffix, or a folder of RL Baselines3 Zoo."""

from __future__ import annotations

import re
from pathlib import Path

from unstuck.errors import AgentError, did_you_mean

_ENV_ID = r"[A-Za-z][\w./:-]*-v\d+"
_ZOO_FOLDER = re.compile(rf"(?:(?:ppo|a2c|trpo)-)?({_ENV_ID})(?:_\d+)?", re.IGNORECASE)
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


def zoo_settings(zip_path: Path) -> dict[str, str]:
    """Scalars of RL Zoo's args.yml and config.yml, e.g. {"env": "CartPole-v1", "frame_stack": "4"}.

    The Zoo writes its dictionaries as `!!python/object/apply` lists, which a safe YAML loader refuses;
    the few lines that are needed are read as text instead, and PyYAML is not needed.
    """
    folder = zip_path if zip_path.is_dir() else zip_path.parent
    settings: dict[str, str] = {}
    for home in (folder, *_zoo_subfolders(folder)):
        for name in ("config.yml", "args.yml"):
            file = home / name
            if not file.is_file() or file.stat().st_size > 2**20:
                continue
            text = file.read_text("utf-8", "replace")
            for key, value in re.findall(r"-[ \t]+(\w+)[ \t]*\n[ \t]+-[ \t]+([^\n]+)", text):
                settings[key] = value.strip().strip("'\"")
            for key, value in re.findall(r"^(\w+):[ \t]*(\S[^\n]*)$", text, re.MULTILINE):
                settings[key] = value.strip().strip("'\"")
    return settings


def find_env_id(path: Path | str) -> str | None:
    """The environment id that RL Zoo recorded for an agent (args.yml, else the folder's name), or None."""
    path = Path(path)
    said = zoo_settings(path).get("env")
    if said and re.fullmatch(_ENV_ID, said):
        return said
    folder = path if path.is_dir() else path.parent
    for name in (folder.resolve().name, path.stem if path.suffix == ".zip" else path.name):
        match = _ZOO_FOLDER.fullmatch(name)
        if match:
            return match[1]
    return None


def zoo_notes(zip_path: Path, *, has_statistics: bool) -> list[str]:
    """What RL Zoo did to the environment that the agent's zip does not say."""
    settings, notes = zoo_settings(zip_path), []
    for key in ("env_wrapper", "frame_stack", "vec_env_wrapper"):
        value = settings.get(key, "null").lstrip("- ")
        if value not in ("null", "None", "1", ""):
            notes.append(f"RL Zoo trained it with {key}: {value}; make the environment the same way")
    normalized = settings.get("normalize", "false").lower()
    if "'norm_obs': false" in normalized:
        normalized = "false"
    if normalized not in ("false", "null", "none", "") and not has_statistics:
        notes.append(
            "RL Zoo trained it on normalised observations, but no vecnormalize.pkl is beside it: "
            "without its statistics it will act badly"
        )
    return notes
