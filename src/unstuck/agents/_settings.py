"""An agent's own settings, as far as they are of use: they decide how much memory is taken and how long it lasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Range = tuple[float, float]
_SHARE: Range = (0.0, 1.0)
_BOUNDS: dict[str, Range] = {
    "gamma": _SHARE, "gae_lambda": _SHARE, "tau": _SHARE, "exploration_fraction": _SHARE,
    "exploration_initial_eps": _SHARE, "exploration_final_eps": _SHARE, "exploration_rate": _SHARE,
    "learning_rate": (0.0, 10.0), "clip_range": (0.0, 1e3), "ent_coef": (-1.0, 1e3), "vf_coef": (0.0, 1e3),
    "n_steps": (1, 1e6), "batch_size": (1, 1e7), "n_epochs": (1, 1e4), "n_envs": (1, 1e5), "train_freq": (1, 1e6),
    "gradient_steps": (-1, 1e3), "buffer_size": (1, 1e8), "learning_starts": (0, 1e9), "num_timesteps": (0, 1e13),
    "target_update_interval": (1, 1e9), "sde_sample_freq": (-1, 1e9), "action_noise": (0.0, 10.0),
    "top_quantiles_to_drop_per_net": (0, 1e3), "seed": (-1.0, 2.0**32),
}  # fmt: skip
"""The widest ranges in which anybody trains, and more."""
_ANY: Range = (-1e9, 1e9)


def bounded(found: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The settings, None where a number is none or beyond any use; `notes` says so."""
    kept = dict(found)
    for name, value in found.items():
        low, high = _BOUNDS.get(name, _ANY)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not low <= value <= high:
            kept[name] = None
            notes.append(f"{name} in its file is beyond any use and was not read; the run's own setting is used")
    return kept
