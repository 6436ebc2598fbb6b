"""What the agent gets to learn from: rewards that differ, of a size that networks like, and observations likewise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from unstuck.diagnosis.evidence import Evidence, Rollout
from unstuck.diagnosis.panel import Finding

Array = np.ndarray
LARGE, SMALL = 300.0, 0.01
OBSERVATION = 30.0
Z_SCORE = 5.0
CALIBRATED = "measured on published agents, docs/diagnose.md"


def reward_signal(evidence: Evidence) -> Finding | None:
    """Whether any episode returned more than another."""
    returns = evidence.returns()
    if len(returns) < 4:
        return None
    spread = float(np.std(returns))
    rewards = np.concatenate([r.rewards for r in evidence.rollouts])
    flat = spread <= 1e-6 * max(1.0, float(np.abs(returns).max()))
    constant = bool(np.all(rewards == rewards[0]))
    meaning = f"All {len(returns)} episodes returned {returns[0]:.4g}" + (
        f", and every step paid {rewards[0]:.4g}: nothing tells a good action from a bad one."
        if constant
        else ": no episode was better than another."
    )
    return Finding(
        name="reward-signal", value=spread, unit="return, standard deviation over episodes",
        status="fault" if flat else "ok", threshold=1e-6, side="below", source="equal returns leave no gradient",
        meaning=meaning if flat else "Episodes differ in what they return.",
        remedy="It must first reach what is paid: guidance (reward terms, rules), or starts nearer to it."
        if flat
        else "",
        treatments=("guidance", "short-episodes") if flat else (),
    )  # fmt: skip


def running_returns(rollout: Rollout, gamma: float) -> Array:
    """(T,) G ← γG + r of the rewards that the agent learnt from, whose spread VecNormalize scales them by."""
    out, following = np.empty(len(rollout)), 0.0
    for t, reward in enumerate(rollout.learnt):
        following = gamma * following + reward
        out[t] = following
    return out


def reward_size(evidence: Evidence) -> Finding | None:
    """Standard deviation of the discounted return where rewards were not normalised."""
    if evidence.normalized_rewards or not evidence.on_policy:
        return None
    spread = float(np.std(np.concatenate([running_returns(r, evidence.gamma) for r in evidence.rollouts])))
    large, small = spread > LARGE, 0 < spread < SMALL
    bad = large or small
    return Finding(
        name="reward-size", value=spread, unit="standard deviation of the discounted return",
        status="note" if bad else "ok", threshold=SMALL if small else LARGE, side="below" if small else "above",
        source=f"VecNormalize scales it to 1; {CALIBRATED}",
        meaning=(
            f"Rewards are very {'large' if large else 'small'} and not normalised: "
            + ("the critic's loss drowns the policy's where they share layers, and clipping of gradients cuts it."
               if large else "the critic's errors are as large as what it should tell apart.")
            if bad
            else "Rewards have a size that networks learn well."
        ),
        remedy="Train afresh with VecNormalize(norm_reward=True), or scale the rewards." if bad else "",
        treatments=("afresh",) if bad else (),
    )  # fmt: skip


def observation_size(evidence: Evidence) -> Finding | None:
    """Raw observations that are large where no statistics scale them; else whether the statistics fit."""
    if isinstance(evidence.states, Mapping) or not isinstance(evidence.observation_space, spaces.Box):
        return None
    raw = np.asarray(evidence.states)
    if raw.dtype == np.uint8 or raw.ndim != 2 or len(raw) < 8:
        return None
    n = evidence.normalization
    if n is not None and n.norm_obs:
        return _statistics(evidence, raw)
    size = np.sqrt(np.mean(np.square(raw.astype(np.float64)), axis=0))
    spread = raw.astype(np.float64).std(axis=0)
    moving = size[spread > 0]
    largest = float(size.max())
    bad = largest > OBSERVATION
    ratio = float(moving.max() / max(moving.min(), 1e-12)) if len(moving) else 1.0
    return Finding(
        name="raw-observations", value=largest, unit="root mean square of the largest component",
        status="fault" if bad else "ok", threshold=OBSERVATION, source=CALIBRATED,
        meaning=(
            f"Observations are not scaled by statistics, and component {int(size.argmax())} is large "
            f"(largest to smallest: {ratio:.3g}): it drives the first layer into its ends, and the others go unheard."
            if bad
            else f"Observations are of moderate size without statistics (largest to smallest: {ratio:.3g})."
        ),
        remedy="Train afresh with VecNormalize(norm_obs=True); a transplant may take the policy over." if bad else "",
        treatments=("afresh", "transplant") if bad else (),
    )  # fmt: skip


def _statistics(evidence: Evidence, raw: Array) -> Finding:
    n = evidence.normalization
    assert n is not None
    z = np.asarray(n.apply(raw), dtype=np.float64)
    size = np.sqrt(np.mean(np.square(z), axis=0))
    worst, edge = float(size.max()), float(np.mean(np.abs(z) >= n.clip_obs * 0.999))
    bad = worst > Z_SCORE
    return Finding(
        name="observation-statistics", value=worst, unit="root mean square of the largest scaled component",
        status="fault" if bad else "ok", threshold=Z_SCORE, source=f"1 where statistics fit; {CALIBRATED}",
        meaning=(
            f"The VecNormalize statistics do not fit what the agent sees ({edge:.1%} of the numbers are clipped): "
            "they may be of another agent or task, or frozen too early."
            if bad
            else "The VecNormalize statistics fit what the agent sees."
        ),
        remedy="Check which statistics belong to it (--vecnormalize); else train afresh." if bad else "",
        treatments=("afresh",) if bad else (),
    )  # fmt: skip
