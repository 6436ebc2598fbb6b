"""What the collected episodes show: the states from which advice can be tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unstuck.branching.branches import Start
from unstuck.guidance import Advice, Guidance, scales_from
from unstuck.matching import Matcher
from unstuck.views import View


def completed(guidance: Guidance, seen: Sequence[View], names: Sequence[str]) -> Guidance:
    """The guidance with what a hand-written file may leave out: scales, and the state of each piece of evidence."""
    scales = dict(guidance.scales) or scales_from(np.concatenate([v.states for v in seen]), names)
    by_index = {v.index: v for v in seen}
    advice = []
    for a in guidance.advice:
        view = by_index.get(a.evidence.episode) if a.evidence else None
        if a.evidence and not a.evidence.state and view is not None and a.evidence.step <= len(view):
            row = view.states[a.evidence.step]
            state = {n: float(x) for n, x in zip(names, row, strict=True) if np.isfinite(x)}
            a = a.model_copy(update={"evidence": a.evidence.model_copy(update={"state": state})})
        advice.append(a)
    return guidance.model_copy(update={"scales": scales, "advice": tuple(advice)})


def starts_for(
    advice: Advice, matcher: Matcher | None, seen: Sequence[View], *, pairs: int, seed: int, early: bool
) -> list[Start]:
    """`pairs` starts for the advice, or none where its condition never held.

    Critical states start at their evidence. Rules start where their condition begins to hold: up to there, an
    episode that follows the rule is the same as one that does not. Each episode's first such step comes before
    any later one, so that starts spread over episodes; where there are fewer than `pairs`, they are used again
    with other noise.

    Args:
        matcher: None starts at the evidence.
        early: whether getting to a late step is costly, so that among equals the earliest are preferred; else the
            choice is drawn with `seed`.
    """
    points = [_evidence(advice)] if matcher is None else _onsets(matcher, seen, seed, early)[:pairs]
    by_index = {v.index: v for v in seen}
    return [
        Start(noise_seed(seed, by_index[episode].seed, step, k), episode, step)
        for k in range(pairs if points else 0)
        for episode, step in [points[k % len(points)]]
    ]


def noise_seed(*parts: int) -> int:
    """A seed that depends on where a branch starts and not on what is tried, so that all advice meets equal luck."""
    return int(np.random.SeedSequence([p % 2**63 for p in parts]).generate_state(1)[0])


def at_evidence(advice: Advice) -> bool:
    """Whether the advice is tried at the state that it comes from."""
    return advice.kind == "state" and advice.evidence is not None


def evidence_problems(guidance: Guidance, seen: Sequence[View]) -> list[str]:
    """Evidence to start at that is outside the collected episodes: one sentence each, naming the field."""
    lengths = {v.index: len(v) for v in seen}
    each = (evidence_problem(a, lengths, f"advice[{i}] ({a.id})") for i, a in enumerate(guidance.advice))
    return [problem for problem in each if problem]


def evidence_problem(advice: Advice, lengths: Mapping[int, int], where: str) -> str:
    """Why the advice cannot start at its evidence, or ''.

    Args:
        lengths: index of a collected episode → its steps.
        where: how to name the advice.
    """
    at = advice.evidence
    if at is None or not at_evidence(advice):
        return ""
    field, length = f"{where}.evidence", lengths.get(at.episode)
    if length is None:
        return f"{field}.episode: there is no episode {at.episode}; there are 0 to {max(lengths)}"
    if at.step >= length:
        return f"{field}.step: {at.step} is not one of the steps 0 to {length - 1} of its episode"
    return ""


def _evidence(advice: Advice) -> tuple[int, int]:
    if advice.evidence is None:
        raise ValueError(f"advice {advice.id} has no evidence to start at")
    return advice.evidence.episode, advice.evidence.step


def _onsets(matcher: Matcher, seen: Sequence[View], seed: int, early: bool) -> list[tuple[int, int]]:
    """(episode, step) at which the condition begins to hold: first ones of all episodes, then second ones, ..."""
    rng = np.random.default_rng(seed % 2**63)
    found: list[tuple[int, float, int, int]] = []
    for view in seen:
        holds = matcher.matrix(view.states[:-1]).any(axis=1)
        onsets = np.flatnonzero(np.diff(holds.astype(np.int8), prepend=0) == 1)
        draws = rng.random(len(onsets))
        found += [(rank, draw, view.index, int(t)) for rank, (draw, t) in enumerate(zip(draws, onsets, strict=True))]
    found.sort(key=(lambda f: (f[0], f[3], f[1])) if early else (lambda f: (f[0], f[1])))
    return [(episode, step) for _, _, episode, step in found]
