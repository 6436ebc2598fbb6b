"""Whether the networks can still learn: saturated and dormant units, rank of the features.

A freshly initialised network of the same shape, at the same states, is the yardstick for ranks and for dormant units: a
task with two observed numbers has features of low rank in any network, and of a CNN's last layer half the units are
silent at the start, because frames of a game look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from unstuck.diagnosis.evidence import Evidence, Layer
from unstuck.diagnosis.panel import Finding

Array = np.ndarray
SATURATING = ("Tanh", "Sigmoid", "Hardtanh", "Softsign", "Hardsigmoid")
SATURATED = 0.6
DORMANT = 0.4
DORMANT_OFF_POLICY = 0.95
"""Wide ReLU networks of good published DQN agents have up to 0.94 of a layer's units dormant."""
TAU = 0.025
RANK = 0.25
CALIBRATED = "measured on published agents, docs/diagnose.md"


def saturated_share(outputs: Array) -> float:
    """(N, U) outputs of tanh → share of units that lie beyond ±0.99 in at least 95 % of the states."""
    return float(np.mean(np.mean(np.abs(outputs) > 0.99, axis=0) >= 0.95))


def dormant_share(outputs: Array, tau: float = TAU) -> float:
    """(N, U) → share of τ-dormant units: mean |h| at most τ times its mean over the layer (Sokar et al., "The Dormant
    Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023, definition 3.1), or the same at all states."""
    size = np.abs(outputs).mean(axis=0)
    quiet = size <= tau * size.mean() + 1e-12
    return float(np.mean(quiet | (outputs.std(axis=0) < 1e-6)))


def effective_rank(outputs: Array) -> float:
    """(N, U) → exp of the entropy of the normalised singular values (Roy and Vetterli, "The effective rank", 2007)."""
    values = np.linalg.svd(outputs.astype(np.float64), compute_uv=False)
    total = values.sum()
    if total <= 1e-12:
        return 1.0
    p = values / total
    p = p[p > 1e-12]
    return float(np.exp(-np.sum(p * np.log(p))))


def _worst(layers: Sequence[Layer], measure: Callable[[Layer], float], *, high: bool) -> tuple[float, Layer]:
    held = [(measure(layer), layer) for layer in layers]
    return max(held, key=lambda x: x[0]) if high else min(held, key=lambda x: x[0])


def _where(layer: Layer) -> str:
    return f"{'the critic' if layer.critic else 'the actor'}'s layer {layer.name}, {layer.outputs.shape[1]} units"


def saturated_units(evidence: Evidence) -> Finding | None:
    """Units of tanh layers that stand at their ends."""
    layers = [x for x in evidence.layers if x.kind in SATURATING and not x.image]
    if not layers:
        return None
    share, layer = _worst(layers, lambda x: saturated_share(x.outputs), high=True)
    bad = share > SATURATED
    return Finding(
        name="saturated-units", value=share, unit="of a layer's units", status="fault" if bad else "ok",
        threshold=SATURATED, source=CALIBRATED,
        meaning=(
            f"In {_where(layer)}, most stand at ±1 in nearly all states: gradients hardly pass."
            if bad
            else f"Few units stand at their ends (most in {_where(layer)})."
        ),
        remedy="Transplant into a fresh network, or shrink and perturb. Scaling weights back in place ruins it."
        if bad
        else "",
        treatments=("transplant", "shrink-and-perturb") if bad else (),
    )  # fmt: skip


def dormant_units(evidence: Evidence) -> Finding | None:
    """Units that hardly answer to any state, though they would in a fresh network."""
    layers = list(evidence.layers)
    if not layers:
        return None
    lost, layer = _worst(layers, _lost, high=True)
    share, fresh = dormant_share(layer.outputs), dormant_share(layer.fresh)
    threshold = DORMANT if evidence.on_policy else DORMANT_OFF_POLICY
    bad = lost > threshold
    if bad:
        meaning = f"In {_where(layer)}, many are silent in all states: the network has lost part of its capacity."
    elif share > threshold:
        meaning = f"In {_where(layer)}, as many are silent as in a fresh network at the same states ({fresh:.2g})."
    else:
        meaning = f"Nearly all units answer to states (fewest in {_where(layer)})."
    return Finding(
        name="dormant-units", value=share, unit="of a layer's units", status="fault" if bad else "ok",
        threshold=threshold, source=f"definition: Sokar et al. 2023, τ = {TAU}; threshold {CALIBRATED}",
        meaning=meaning,
        aside=f"All {layer.outputs.shape[1]} are: neither signal nor gradient passes this layer."
        if bad and share == 1.0
        else "",
        remedy="Shrink and perturb, or transplant into a fresh network." if bad else "",
        treatments=("shrink-and-perturb", "transplant", "afresh") if bad else (),
    )  # fmt: skip


def _lost(layer: Layer) -> float:
    """Of the units that answer in a fresh network, the share that is dormant; negative where fewer are than there."""
    fresh = dormant_share(layer.fresh)
    return (dormant_share(layer.outputs) - fresh) / (1.0 - fresh) if fresh < 1.0 else 0.0


def feature_rank(evidence: Evidence) -> Finding | None:
    """Effective rank of a hidden layer, against that of a fresh network at the same states."""
    layers = [x for x in evidence.layers if not x.image and min(x.outputs.shape) >= 8]
    if not layers:
        return None
    ranks = {x.name: (effective_rank(x.outputs), effective_rank(x.fresh)) for x in layers}
    share, layer = _worst(layers, lambda x: ranks[x.name][0] / ranks[x.name][1], high=False)
    now, fresh = ranks[layer.name]
    bad = share < RANK
    told = "States are told apart." if np.ptp(layer.outputs, axis=0).any() else "It is the same in all states."
    return Finding(
        name="feature-rank", value=share, unit="of a fresh network's effective rank", status="fault" if bad else "ok",
        threshold=RANK, side="below", source=f"effective rank: Roy and Vetterli 2007; threshold {CALIBRATED}",
        meaning=f"{_where(layer)[0].upper()}{_where(layer)[1:]}: effective rank {now:.3g}, fresh {fresh:.3g}. "
        + ("States look alike to it, so it cannot answer to them differently." if bad else told),
        remedy="Shrink and perturb, or a fresh network: transplant, afresh." if bad else "",
        treatments=("shrink-and-perturb", "transplant", "afresh") if bad else (),
    )  # fmt: skip
