"""From files to an `Agent`, without running code from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.policies import ActorCriticPolicy

from unstuck.agents._archive import read_archive, read_weights
from unstuck.agents._find import find_statistics, find_zip, zoo_notes
from unstuck.agents._kwargs import rebuild_policy_kwargs
from unstuck.agents._pickles import class_path, read_pickle, run_pickle, serialized, to_number, to_space
from unstuck.agents._weights import modernize
from unstuck.agents.normalization import Normalization, load_normalization
from unstuck.agents.types import Agent
from unstuck.errors import AgentError, UntrustedError

_POLICY_NAMES = {
    "stable_baselines3.common.policies.ActorCriticPolicy": "MlpPolicy",
    "stable_baselines3.common.policies.ActorCriticCnnPolicy": "CnnPolicy",
    "stable_baselines3.common.policies.MultiInputActorCriticPolicy": "MultiInputPolicy",
}
_PLAIN = (
    "gamma", "gae_lambda", "n_steps", "batch_size", "n_epochs", "ent_coef", "vf_coef", "max_grad_norm",
    "normalize_advantage", "target_kl", "use_sde", "sde_sample_freq", "num_timesteps", "n_envs", "seed",
)  # fmt: skip
_SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf")
_MAX_ZIP_BYTES = 2 * 2**30


def load_agent(path: Path | str, *, vecnormalize: Path | str | None = None, trust: bool = False) -> Agent:
    """Read a saved on-policy agent.

    Args:
        path: a .zip, a path without its .zip, or a folder of RL Baselines3 Zoo.
        vecnormalize: statistics written by `VecNormalize.save`; by default those found beside the agent.
        trust: run the pickles that cannot be read as data (custom policies and feature extractors), as
            SB3's own loader does. They can do whatever you can: only for files you trust.

    Raises:
        UntrustedError: the agent cannot be rebuilt without running code from the file.
        AgentError: no such file, damaged, no agent, or not an on-policy actor-critic one.
    """
    zip_path, notes = find_zip(Path(path).expanduser())
    content = _read_bytes(zip_path)
    data, weights, version = read_archive(zip_path, content)
    algorithm, policy_name, policy_class = _policy_class(zip_path, data, trust)
    kwargs = rebuild_policy_kwargs(zip_path, data.get("policy_kwargs"), trust=trust)
    state_dict, kwargs, changes = modernize(read_weights(zip_path, weights, trust=trust), kwargs)
    notes += changes
    hyperparameters = _hyperparameters(zip_path, data, notes)
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
    return Agent(
        path=zip_path, algorithm=algorithm, policy_class_name=policy_name, policy_kwargs=kwargs,
        state_dict=state_dict, hyperparameters=hyperparameters, normalization=normalization,
        sb3_version=version, digest=hashlib.sha256(content + stats_bytes).hexdigest(), notes=tuple(notes),
        observation_space=observation_space, action_space=action_space, policy_class=policy_class,
        vecnormalize_path=stats_path,
    )  # fmt: skip


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_ZIP_BYTES:
            raise AgentError(f"{path} is larger than {_MAX_ZIP_BYTES >> 30} GiB: not an agent Unstuck can read.")
        return path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error}.") from error


def _is_serialized(value: Any) -> bool:
    return isinstance(value, Mapping) and ":serialized:" in value


def _policy_class(path: Path, data: Mapping[str, Any], trust: bool) -> tuple[str, str, type | None]:
    """(algorithm, policy name, class if it is a trusted custom one)."""
    stored, where = data.get("policy_class"), f"{path} (policy_class)"
    dotted: str | None = None
    if _is_serialized(stored):
        try:
            dotted = class_path(read_pickle(serialized(where, stored), where))
        except UntrustedError:
            _refuse_other_algorithms(path, data, "")
            if not trust:
                raise
            custom = run_pickle(serialized(where, stored), where)
            if not (isinstance(custom, type) and issubclass(custom, ActorCriticPolicy)):
                raise AgentError(f"{where} is {custom!r}, not an ActorCriticPolicy of SB3.") from None
            return _algorithm(path, data), f"{custom.__module__}.{custom.__qualname__}", custom
    _refuse_other_algorithms(path, data, dotted or "")
    algorithm = _algorithm(path, data)
    if dotted not in _POLICY_NAMES:
        raise AgentError(
            f"{where} is {dotted or stored!r}. Unstuck refines on-policy actor-critic agents with the policies "
            f"{', '.join(_POLICY_NAMES.values())} of Stable-Baselines3."
        )
    return algorithm, _POLICY_NAMES[dotted], None


def _refuse_other_algorithms(path: Path, data: Mapping[str, Any], dotted: str) -> None:
    found = None
    if ".recurrent." in dotted or "lstm_hidden_state_shape" in data or "_last_lstm_states" in data:
        found = "a RecurrentPPO agent: its policy has a memory, which Unstuck does not carry yet"
    elif ".maskable." in dotted:
        found = "a MaskablePPO agent: it needs action masks, which Unstuck does not pass yet"
    else:
        module = re.fullmatch(r"(?:stable_baselines3|sb3_contrib)\.(?!common)(\w+)\.policies\.\w+", dotted)
        if module:
            # SAC's and TD3's relatives share policy modules; DDPG saves a TD3 policy.
            found = f"a {module[1].upper()} agent"
        elif {"buffer_size", "replay_buffer_class", "learning_starts"} & data.keys():
            found = "an agent with a replay buffer (DQN, SAC, TD3 or the like)"
    if found:
        raise AgentError(f"{path} is {found}. Unstuck refines on-policy actor-critic agents (PPO, A2C).")


def _algorithm(path: Path, data: Mapping[str, Any]) -> str:
    if "cg_max_steps" in data:
        return "TRPO"
    if "n_epochs" in data and "clip_range" in data:
        return "PPO"
    if "gae_lambda" in data and "vf_coef" in data:
        return "A2C"
    raise AgentError(
        f"{path} has neither PPO's nor A2C's settings. Unstuck refines on-policy actor-critic agents (PPO, A2C)."
    )


def _hyperparameters(path: Path, data: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    values = {key: data.get(key) for key in _PLAIN if isinstance(data.get(key), (int, float, bool, type(None)))}
    for key in _SCHEDULES:
        stored = data.get(key)
        if not _is_serialized(stored):
            values[key] = to_number(stored)
            continue
        where = f"{path} ({key})"
        try:
            values[key] = to_number(read_pickle(serialized(where, stored), where))
        except AgentError:
            values[key] = None
        if values[key] is None:
            notes.append(f"{key} is a schedule pickled as code and was not read; the run's own setting is used")
    return values


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
