"""Whether the policy still tries anything: noise, entropy, means beyond the bounds, one action everywhere."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from scipy import stats

from unstuck.diagnosis.evidence import Evidence
from unstuck.diagnosis.panel import Finding, Status
from unstuck.stats import difference_interval

Array = np.ndarray
CALIBRATED = "measured on published agents, docs/diagnose.md"

ENTROPY_LOW, ENTROPY_HIGH = 0.01, 0.95
NOISE_LOW = 0.05
BEYOND, BEYOND_SOME = 0.6, 0.4
LEFT = 0.25
AT_BOUNDS = 0.9
SAME = 0.98
SAME_SPREAD = 0.02


def entropy(evidence: Evidence) -> Finding | None:
    """Of discrete actions: mean over visited states of the entropy, as a share of ln(number of actions)."""
    probs = evidence.signal("action_prob")
    space = evidence.action_space
    if probs is None or not isinstance(space, spaces.Discrete) or space.n < 2 or not evidence.on_policy:
        return None
    held = np.clip(probs, 1e-12, 1.0)
    share = float(np.mean(-np.sum(held * np.log(held), axis=1)) / np.log(probs.shape[1]))
    status: Status = "fault" if share < ENTROPY_LOW else "note" if share > ENTROPY_HIGH else "ok"
    if share < ENTROPY_LOW:
        meaning = "The policy takes nearly always the same action in the same state, so it meets nothing new."
        remedy = "Thaw: raise the entropy without changing the most likely actions; or an entropy bonus."
    elif share > ENTROPY_HIGH:
        meaning = "The policy is nearly uniform: it has not learnt yet, or has found no reason to prefer an action."
        remedy = "A signal is missing rather than noise: guidance, or longer training where returns rise."
    else:
        meaning, remedy = "The policy has preferences and still tries other actions.", ""
    high = share > ENTROPY_HIGH
    return Finding(
        name="entropy", value=share, unit="of ln(number of actions)", status=status,
        threshold=ENTROPY_HIGH if high else ENTROPY_LOW, side="above" if high else "below",
        source=f"{CALIBRATED}; near-uniform: 95 % of the maximum", meaning=meaning, remedy=remedy,
        treatments=() if status == "ok" else ("guidance",) if high else ("thaw", "guidance"),
    )  # fmt: skip


def noise(evidence: Evidence) -> Finding | None:
    """Of continuous actions: the standard deviation as a share of half the range, mean over states and actions."""
    std, half = evidence.signal("action_std"), evidence.half_range
    if std is None or half is None or not np.any(std > 0):  # a policy without noise of its own: TD3, DDPG
        return None
    each = (std.reshape(len(std), -1) / half).mean(axis=0)
    value = float(each.mean())
    low = value < NOISE_LOW
    dims = f" (by action: {', '.join(f'{x:.2g}' for x in each)})" if 1 < len(each) <= 8 else ""
    return Finding(
        name="noise", value=value, unit="of half the range", status="fault" if low else "ok", threshold=NOISE_LOW,
        side="below", source=CALIBRATED,
        meaning=(
            f"The standard deviation of actions has nearly vanished{dims}: PPO compares actions that hardly differ."
            if low
            else f"The standard deviation of actions leaves room to explore{dims}."
        ),
        remedy="Thaw: set the standard deviation to 0.1 to 0.3 of half the range." if low else "",
        treatments=("thaw",) if low else (),
    )  # fmt: skip


def beyond_bounds(evidence: Evidence) -> Finding | None:
    """Of a Gaussian that is clipped, not squashed: the share of action means outside the bounds."""
    mean, half = evidence.signal("action_mean"), evidence.half_range
    if mean is None or half is None or not evidence.on_policy:
        return None
    z = (mean.reshape(len(mean), -1) - evidence.centre) / half
    each = np.mean(np.abs(z) > 1.0 + 1e-6, axis=0)
    share, size = float(each.mean()), float(np.quantile(np.abs(z), 0.95))
    status: Status = "fault" if share > BEYOND else "note" if share > BEYOND_SOME else "ok"
    dims = f" (by action: {', '.join(f'{x:.0%}' for x in each)})" if 1 < len(each) <= 8 else ""
    facts = f"the 95th percentile of |mean| is {size:.2g} times the bound."
    if status == "ok":
        return Finding(
            name="means-beyond-bounds", value=share, unit="of action means", status=status, threshold=BEYOND,
            source=CALIBRATED, meaning=f"Most action means lie inside the bounds{dims}; {facts}",
        )  # fmt: skip
    return Finding(
        name="means-beyond-bounds", value=share, unit="of action means", status=status, threshold=BEYOND,
        source=CALIBRATED,
        meaning=(
            f"Bang-bang: the policy asks for more than the bounds allow{dims}; {facts} "
            "What noise or rewards change beyond the bounds has no effect, so neither PPO nor reward terms can act."
        ),
        remedy=(
            "Transplant: fit a fresh network to the clipped actions; or train afresh."
            if status == "fault"
            else "If training on does not help: transplant."
        ),
        treatments=("transplant", "shrink-and-perturb", "afresh") if status == "fault" else ("transplant",),
    )  # fmt: skip


def noise_left(evidence: Evidence) -> Finding | None:
    """Of a Gaussian that is clipped: how much of its standard deviation the bounds leave."""
    mean, std, half = evidence.signal("action_mean"), evidence.signal("action_std"), evidence.half_range
    if mean is None or std is None or half is None or not evidence.on_policy:
        return None
    z, s = (mean.reshape(len(mean), -1) - evidence.centre) / half, std.reshape(len(std), -1) / half
    share = float(np.mean(clipped_std(z, s)) / max(1e-12, np.mean(s)))
    bad = share < LEFT
    return Finding(
        name="noise-left-by-clipping", value=share, unit="of the standard deviation",
        status="fault" if bad else "ok", threshold=LEFT, side="below", source=CALIBRATED,
        meaning=(
            f"The standard deviation is {np.mean(s):.2g} of half the range, but the bounds cut most of it away: the "
            "agent executes nearly the same whatever it samples, and does not explore."
            if bad
            else "What is sampled is mostly executed."
        ),
        remedy="Transplant: a fresh network fitted to the clipped actions, with new noise; or afresh." if bad else "",
        treatments=("transplant", "shrink-and-perturb", "afresh") if bad else (),
    )  # fmt: skip


def at_bounds(evidence: Evidence) -> Finding | None:
    """Of a policy behind a tanh: the share of most likely actions at the bounds."""
    mean, half = evidence.signal("action_mean"), evidence.half_range
    if mean is None or half is None or evidence.on_policy:
        return None
    share = float(np.mean(np.abs((mean.reshape(len(mean), -1) - evidence.centre) / half) > 0.98))
    some = share > AT_BOUNDS
    return Finding(
        name="actions-at-bounds", value=share, unit="of actions", status="note" if some else "ok",
        threshold=AT_BOUNDS, source=CALIBRATED,
        meaning=(
            "Nearly all most likely actions lie at the bounds, where the tanh before them lets no gradient through."
            if some
            else "Most likely actions use the range between the bounds."
        ),
        remedy="Shrink and perturb, or train afresh, if it is stuck." if some else "",
        treatments=("shrink-and-perturb", "afresh") if some else (),
    )  # fmt: skip


def clipped_std(z: Array, s: Array) -> Array:
    """Standard deviation of clip(N(z, s²), -1, 1), elementwise: moments of the censored normal distribution (Greene,
    Econometric Analysis, theorem 19.3, for both tails)."""
    s = np.maximum(s, 1e-12)
    a, b = (-1.0 - z) / s, (1.0 - z) / s
    pa, pb = stats.norm.cdf(a), stats.norm.cdf(b)
    da, db = stats.norm.pdf(a), stats.norm.pdf(b)
    inside = pb - pa
    first = z * inside + s * (da - db) - pa + (1.0 - pb)
    square = inside + a * da - b * db
    second = z**2 * inside + 2 * z * s * (da - db) + s**2 * square + pa + (1.0 - pb)
    return np.sqrt(np.maximum(second - first**2, 0.0))


def same_action(evidence: Evidence) -> Finding | None:
    """Whether the most likely action is the same in all states."""
    chosen = [r for r in evidence.rollouts if r.deterministic]
    if not chosen:
        return None
    actions = np.concatenate([r.actions for r in chosen])
    if len(actions) < 20:
        return None
    space, aside = evidence.action_space, ""
    if isinstance(space, spaces.Discrete):
        values, counts = np.unique(actions, return_counts=True)
        aside = _named(evidence, int(values[counts.argmax()]))
        share = float(counts.max() / counts.sum())
        found, threshold, side, unit = share > SAME, SAME, "above", "of the steps are one action"
        what = f"Action {values[counts.argmax()]} is taken in {share:.1%} of the steps when it takes the most likely"
    elif evidence.half_range is not None:
        flat = actions.reshape(len(actions), -1) / evidence.half_range
        share = float(flat.std(axis=0).mean())
        found, threshold, side, unit = (
            share < SAME_SPREAD,
            SAME_SPREAD,
            "below",
            "of half the range, spread over states",
        )
        what = "The most likely action hardly depends on the state"
    else:
        return None
    return Finding(
        name="same-action", value=share, unit=unit, status="fault" if found else "ok", threshold=threshold,
        side=side, source=CALIBRATED,  # type: ignore[arg-type]
        meaning=f"{what}: the policy does not look at where it is." if found else "Actions depend on the state.",
        aside=aside if found else "",
        remedy="The policy has collapsed: train afresh, or guide it where another action pays." if found else "",
        treatments=("guidance", "afresh") if found else (),
    )  # fmt: skip


def _named(evidence: Evidence, action: int) -> str:
    names = evidence.action_names
    known = 0 <= action < len(names) and names[action] != f"action_{action}"
    return f"(Action {action} is “{names[action]}”.)" if known else ""


def modes(evidence: Evidence) -> Finding | None:
    """Deterministic against sampled returns."""
    a, b = evidence.returns(True), evidence.returns(False)
    if len(a) < 2 or len(b) < 2:
        return None
    gap = difference_interval(a.tolist(), b.tolist())
    if gap.low is None or gap.high is None:
        return None
    scale = max(abs(a.mean()), abs(b.mean()), 1e-9)
    resolved = gap.low > 0 or gap.high < 0
    # Noise costs something in most good agents; that sampling beats the most likely actions is a sign of loops.
    large = resolved and abs(gap.mean) > (0.2 if gap.mean < 0 else 0.5) * scale
    better, worse = ("sampled", "deterministic") if gap.mean < 0 else ("deterministic", "sampled")
    numbers = f"deterministic {a.mean():.4g}, sampled {b.mean():.4g}; difference {gap}"
    if not large:
        meaning, remedy = f"Both modes return about the same ({numbers}).", ""
    elif gap.mean < 0:
        meaning = f"The {better} policy returns more than the {worse} one ({numbers}): the most likely action loops."
        remedy = "Deploy it sampled, or train on with less entropy until the modes agree."
    else:
        meaning = f"The {better} policy returns more than the {worse} one ({numbers}): noise costs it much."
        remedy = (
            "Training sees the sampled returns; a smaller standard deviation or entropy coefficient closes the gap."
        )
    return Finding(
        name="deterministic-against-sampled", value=gap.mean, unit="return", status="note" if large else "ok",
        source="Welch's 95 % interval without zero, and a fifth of the return (a half where noise costs)",
        meaning=meaning, remedy=remedy,
    )  # fmt: skip
