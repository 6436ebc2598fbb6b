"""Whether the critic knows what is coming, and whether only its scale is wrong."""

from __future__ import annotations

import numpy as np

from unstuck.diagnosis.evidence import Evidence, Rollout
from unstuck.diagnosis.panel import Finding, Status
from unstuck.episodes import returns_to_go

Array = np.ndarray
LOW, LITTLE = -0.1, 0.05
OVER = 0.5
SCALE_GAIN = 0.3


def learnt_returns(rollout: Rollout, gamma: float) -> Array:
    """(T,) discounted sums of what is still to come, as the agent's own training paid it and up to where that ended an
    episode; the critic's value stands for what follows a time limit."""
    return returns_to_go(rollout.learnt, rollout.last_value, gamma, rollout.learnt_ends)


def explained(targets: Array, values: Array) -> float | None:
    """1 - Var(targets - values) / Var(targets), as SB3 logs it; None where targets do not vary."""
    spread = float(np.var(targets))
    return None if spread < 1e-12 else float(1.0 - np.var(targets - values) / spread)


def fit(targets: Array, values: Array) -> tuple[float, float]:
    """(R² of the best line targets ≈ a + b values, b)."""
    if np.var(values) < 1e-12 or np.var(targets) < 1e-12:
        return 0.0, 0.0
    b = float(np.cov(values, targets, bias=True)[0, 1] / np.var(values))
    return float(np.corrcoef(values, targets)[0, 1] ** 2), b


def explained_variance(evidence: Evidence) -> Finding | None:
    """Of the returns that came, over sampled episodes: SB3 logs the same against its own estimate of them."""
    chosen = [r for r in evidence.rollouts if not r.deterministic and not r.cut and "value" in r.signals]
    if not chosen or not evidence.on_policy:
        return None
    targets = np.concatenate([learnt_returns(r, evidence.gamma) for r in chosen])
    values = np.concatenate([r.signals["value"] for r in chosen]).astype(np.float64)
    share = explained(targets, values)
    if share is None:
        return Finding(
            name="explained-variance", status="note", source="SB3's explained_variance",
            meaning="What is still to come is the same in all states: nothing to explain, and no advantage.",
            remedy="A signal is missing: guidance.", treatments=("guidance",),
        )  # fmt: skip
    line, slope = fit(targets, values)
    status: Status = "fault" if share < LOW else "note" if share < LITTLE else "ok"
    shown = max(share, -1e6)
    source = "Stable-Baselines3: below 0 is worse than predicting the mean; a margin for few episodes"
    if status == "ok":
        meaning, remedy = f"The critic explains {share:.0%} of the variance of what is still to come.", ""
    elif line - max(share, 0.0) > SCALE_GAIN and slope > 0:
        meaning = (
            f"The critic's order of states is right, only its scale is wrong: times {slope:.3g} it would explain "
            f"{line:.0%}. Advantages are mostly its error until it is corrected."
        )
        remedy = "Warm the critic up before the policy moves (Unstuck does), or learn from rewards of its scale."
    elif status == "note":
        meaning = "The critic explains hardly anything of what is still to come: advantages are mostly noise."
        remedy = "More steps for each update, or a critic started anew; where rewards are rare, guidance."
    else:
        meaning = "The critic is worse than predicting the mean: advantages are mostly its error."
        remedy = "Warm the critic up before the policy moves (Unstuck does), or start it anew."
    return Finding(
        name="explained-variance", value=shown, status=status, threshold=LOW, side="below", source=source,
        meaning=meaning, remedy=remedy, treatments=("continue",) if status == "fault" else (),
    )  # fmt: skip


def overestimation(evidence: Evidence) -> Finding | None:
    """Of critics over actions: by how much they promise more than deterministic episodes bring (Fujimoto et al.,
    "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018, figure 1)."""
    chosen = [r for r in evidence.rollouts if r.deterministic and not r.cut and "value" in r.signals]
    if not chosen or evidence.on_policy:
        return None
    targets = np.concatenate([learnt_returns(r, evidence.gamma) for r in chosen])
    values = np.concatenate([r.signals["value"] for r in chosen]).astype(np.float64)
    size = float(np.mean(np.abs(targets)))
    if size < 1e-9:
        return None
    share = float(np.mean(values - targets)) / size
    bad = share > OVER
    return Finding(
        name="overestimation", value=share, unit="of what comes", status="fault" if bad else "ok", threshold=OVER,
        source="Fujimoto et al. 2018; threshold measured on published agents, docs/diagnose.md",
        meaning=(
            "The critic promises much more than comes: the policy chases its errors."
            if bad
            else "The critic promises about what comes."
        ),
        remedy="Train on with a smaller learning rate, or afresh with two critics (TD3, SAC, TQC)." if bad else "",
        treatments=("afresh",) if bad else (),
    )  # fmt: skip
