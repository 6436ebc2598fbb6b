"""From files to an `Agent`, without running code from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unstuck.agents._archive import read_archive, read_variables, read_weights
from unstuck.agents._find import find_statistics, find_zip, zoo_notes
from unstuck.agents._kwargs import rebuild_policy_kwargs
from unstuck.agents._limits import check_sizes
from unstuck.agents._pickles import class_path, read_pickle, run_pickle, serialized, to_space
from unstuck.agents._settings import bounded
from unstuck.agents.normalization import Normalization, load_normalization
from unstuck.agents.types import Agent
from unstuck.algorithms.base import Algorithm, Archive, names, recognise
from unstuck.errors import AgentError, UntrustedError

_MAX_ZIP_BYTES = 2 * 2**30


def load_agent(path: Path | str, *, vecnormalize: Path | str | None = None, trust: bool = False) -> Agent:
    """Read a saved agent.

    Args:
        path: a .zip, a path without its .zip, or a folder of RL Baselines3 Zoo.
        vecnormalize: statistics written by `VecNormalize.save`; by default those found beside the agent.
        trust: run the pickles that cannot be read as data (custom policies and feature extractors), as
            SB3's own loader does. They can do whatever you can: only for files you trust.

    Raises:
        UntrustedError: the agent cannot be rebuilt without running code from the file.
        AgentError: no such file, damaged, no agent, or one of an algorithm that is not known.
    """
    zip_path, notes = find_zip(Path(path).expanduser())
    content = _read_bytes(zip_path)
    data, weights, version = read_archive(zip_path, content)
    algorithm, archive, policy_name, policy_class = _recognise(zip_path, data, trust)
    known = algorithm.policy_arguments
    kwargs = rebuild_policy_kwargs(zip_path, data.get("policy_kwargs"), known, trust=trust)
    held = read_weights(zip_path, weights, trust=trust)
    if policy_class is None:
        check_sizes(f"{zip_path} (policy_kwargs)", kwargs, held)
    state_dict, kwargs, changes = algorithm.modernize(held, kwargs)
    notes += changes
    hyperparameters = bounded(algorithm.hyperparameters(archive, notes), notes)
    observation_space = _space(zip_path, data, "observation_space", notes)
    action_space = _space(zip_path, data, "action_space", notes)
    normalization, stats_bytes, stats_path = _statistics(zip_path, vecnormalize, trust, notes)
    if normalization is not None and (frames := normalization.frames_in(observation_space)) > 1:
        normalization = normalization.stacked(frames, observation_space)
        notes.append(
            f"its statistics are of single observations and were repeated for a stack of {frames}; only in the first "
            f"{frames - 1} steps of an episode does the agent see something else than in training"
        )
    notes += zoo_notes(zip_path, has_statistics=normalization is not None)
    read = Agent(
        path=zip_path, algorithm=algorithm.name, policy_class_name=policy_name, policy_kwargs=kwargs,
        state_dict=state_dict, hyperparameters=hyperparameters, normalization=normalization,
        sb3_version=version, digest=hashlib.sha256(content + stats_bytes).hexdigest(), notes=tuple(notes),
        observation_space=observation_space, action_space=action_space, policy_class=policy_class,
        vecnormalize_path=stats_path, tensors=read_variables(zip_path, content),
    )  # fmt: skip
    return algorithm.completed(read)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_ZIP_BYTES:
            raise AgentError(f"{path} is larger than {_MAX_ZIP_BYTES >> 30} GiB: not an agent Unstuck can read.")
        return path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error}.") from error


def _is_serialized(value: Any) -> bool:
    return isinstance(value, Mapping) and ":serialized:" in value


def _recognise(path: Path, data: Mapping[str, Any], trust: bool) -> tuple[Algorithm, Archive, str, type | None]:
    """(algorithm, archive, policy name, class if it is a trusted custom one)."""
    stored, where = data.get("policy_class"), f"{path} (policy_class)"
    archive = Archive(path, data, None)
    if _is_serialized(stored):
        try:
            archive = replace(archive, policy_class=class_path(read_pickle(serialized(where, stored), where)))
        except UntrustedError:
            _refuse(archive)
            if not trust:
                raise
            algorithm = _algorithm(archive)
            custom, base = run_pickle(serialized(where, stored), where), algorithm.policy_base()
            if not (isinstance(custom, type) and issubclass(custom, base)):
                raise AgentError(f"{where} is {custom!r}, not an {base.__name__} of SB3.") from None
            return algorithm, archive, f"{custom.__module__}.{custom.__qualname__}", custom
    _refuse(archive)
    if archive.policy_class is None:
        raise AgentError(f"{where} is {stored!r}, not a policy's class; pass the zip that model.save() wrote.")
    algorithm = _algorithm(archive)
    return algorithm, archive, algorithm.policies[archive.policy_class], None


def _refuse(archive: Archive) -> None:
    """Agents that look like others but need more than is passed to them."""
    dotted, found = archive.policy_class or "", None
    if ".recurrent." in dotted or "lstm_hidden_state_shape" in archive.data or "_last_lstm_states" in archive.data:
        found = "a RecurrentPPO agent: its policy has a memory, which Unstuck does not carry yet"
    elif ".maskable." in dotted:
        found = "a MaskablePPO agent: it needs action masks, which Unstuck does not pass yet"
    if found and recognise(archive) is None:
        raise AgentError(f"{archive.path} is {found}.")


def _algorithm(archive: Archive) -> Algorithm:
    if (found := recognise(archive)) is not None:
        return found
    module = re.fullmatch(
        r"(?:stable_baselines3|sb3_contrib)\.(?!common)(\w+)\.policies\.\w+", archive.policy_class or ""
    )
    what = f"an agent with a policy of {module[1].upper()}" if module else f"an agent with {archive.policy_class}"
    raise AgentError(
        f"{archive.path} is {what if archive.policy_class else 'an agent'} that no algorithm here reads. "
        f"Unstuck refines agents of {', '.join(names())} with the policies MlpPolicy, CnnPolicy and MultiInputPolicy."
    )


def _space(path: Path, data: Mapping[str, Any], key: str, notes: list[str]) -> Any:
    stored, where = data.get(key), f"{path} ({key})"
    try:
        space = to_space(read_pickle(serialized(where, stored), where)) if _is_serialized(stored) else None
    except Exception:  # the environment has the space too; whatever is wrong with this one, it can be spared
        space = None
    if space is None:
        notes.append(f"{key} was not read from the file; the environment's own is used")
    return space


def _statistics(
    zip_path: Path, given: Path | str | None, trust: bool, notes: list[str]
) -> tuple[Normalization | None, bytes, Path | None]:
    file = Path(given).expanduser() if given is not None else find_statistics(zip_path)
    if file is None:
        return None, b"", None
    loaded = load_normalization(file, trust=trust)
    if given is None:
        notes.append(f"observation statistics found beside the agent: {file.name}")
    return loaded, file.read_bytes(), file
