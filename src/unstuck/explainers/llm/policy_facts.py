"""What a prompt says of the policy and of the reward beyond the episodes' course: noise, clipped means, entropy, and
the parts of the reward that the task tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unstuck.agents import Agent
from unstuck.algorithms import algorithm_of
from unstuck.explainers.llm.facts import MODES, number
from unstuck.tasks.card import ActionSpec
from unstuck.views import View

SETTINGS = (
    "learning_rate", "n_envs", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range", "ent_coef",
    "vf_coef", "max_grad_norm", "target_kl", "use_sde", "buffer_size", "learning_starts", "train_freq",
    "gradient_steps", "tau", "target_update_interval", "exploration_fraction", "exploration_final_eps",
)  # fmt: skip
"""Hyper-parameters that are named, in this order, where the agent's file tells them as plain values."""


def settings_words(agent: Agent) -> tuple[str, ...]:
    """`learning_rate 0.0003`, `n_steps 2048`...; then what is normalised."""
    held: Mapping[str, Any] = agent.hyperparameters
    found = [f"{name} {_plain(held[name])}" for name in SETTINGS if isinstance(held.get(name), bool | int | float)]
    architecture = agent.policy_kwargs.get("net_arch")
    if isinstance(architecture, list | tuple | dict):
        found.append(f"net_arch {architecture}")
    statistics = agent.normalization
    if statistics is not None:
        on = (("observations", statistics.norm_obs), ("rewards", statistics.norm_reward))
        what = " and ".join(name for name, normalised in on if normalised)
        found.append(f"{what or 'nothing'} normalised by running statistics")
    if added := algorithm_of(agent).added:
        found.append(f"it has {added}")
    return tuple(found)


def _plain(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def exploration_words(views: Sequence[View], spec: ActionSpec) -> tuple[str, ...]:
    """Of discrete actions: entropy and confidence. Of continuous ones, for each: the noise, and how often the mean lies
    beyond the bounds, where noise is clipped away."""
    probabilities = _signal(views, "action_prob")
    if spec.kind == "discrete" and probabilities is not None and probabilities.shape[1] == len(spec.names):
        p = np.clip(probabilities, 1e-12, 1.0)
        entropy, most = -(p * np.log(p)).sum(axis=1), p.max(axis=1)
        full = number(float(np.log(p.shape[1])))
        return (
            f"entropy mean {number(float(entropy.mean()))} of at most {full} (ln {p.shape[1]}); "
            f"probability of its most likely action: median {number(float(np.median(most)))}",
        )
    mean, std = _signal(views, "action_mean"), _signal(views, "action_std")
    if spec.kind == "discrete" or mean is None or std is None or mean.shape[1] != len(spec.names):
        return ()
    low, high = np.array(spec.low, dtype=np.float64), np.array(spec.high, dtype=np.float64)
    half, centre = (high - low) / 2, (high + low) / 2
    lines = []
    for i, name in enumerate(spec.names):
        line = f"{name}: std median {number(float(np.median(std[:, i])))}"
        if np.isfinite(half[i]) and half[i] > 0:
            size = np.abs(mean[:, i] - centre[i]) / half[i]
            line += f", mean beyond its bounds in {(size > 1).mean():.0%} of the steps"
            if (size > 1).any():
                line += f" (95th percentile {number(float(np.percentile(size, 95)))} times the bound)"
        lines.append(line)
    if np.isfinite(half).all() and (half > 0).all():
        share = (np.abs(mean - centre) > half).mean()
        lines.append(f"all actions together: {share:.0%} of the means lie beyond the bounds and are clipped")
    return tuple(lines)


def _signal(views: Sequence[View], name: str) -> np.ndarray | None:
    """(N, A) of all steps, None where not every episode has it."""
    found = [v.policy.get(name) for v in views]
    if any(f is None or np.ndim(f) != 2 for f in found):
        return None
    return np.concatenate([np.asarray(f, dtype=np.float64) for f in found])


def part_names(views: Sequence[View]) -> tuple[str, ...]:
    """The parts that all episodes tell, in the order of their size; those that are always 0 are left out."""
    names = set.intersection(*(set(v.reward_parts) for v in views))
    size = {n: float(np.mean([np.abs(v.reward_parts[n]).mean() for v in views])) for n in names}
    return tuple(sorted((n for n in names if size[n] > 1e-9), key=lambda n: (-round(size[n], 9), n)))


def part_words(views: Sequence[View]) -> tuple[str, ...]:
    """`reward_forward: mean sum of an episode 812 (deterministic), 640 (sampled); one step 5/50/95 percentiles ...`."""
    lines = []
    for name in part_names(views):
        sums = []
        for mode in MODES:
            those = [float(v.reward_parts[name].sum()) for v in views if v.mode == mode]
            if those:
                sums.append(f"{number(float(np.mean(those)))} ({mode})")
        steps = np.percentile(np.concatenate([v.reward_parts[name] for v in views]), [5, 50, 95])
        lines.append(
            f"{name}: mean sum of an episode {', '.join(sums)}; one step, 5/50/95 percentiles "
            + " / ".join(number(float(x)) for x in steps)
        )
    return tuple(lines)
