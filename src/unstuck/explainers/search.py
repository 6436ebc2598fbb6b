"""The explainer without a language model: where the agent's own value falls, and what a search in the simulator
finds to do there. It runs where no model is configured, and is the yardstick of what a language model adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.algorithms import Policy
from unstuck.branching.acting import Holding, Suggestions
from unstuck.branching.lockstep import Row, advance, stack
from unstuck.config import SearchSettings
from unstuck.episodes import Episode
from unstuck.explainers import Explainer, Explanation
from unstuck.explainers.base import evidence_at
from unstuck.explainers.llm.facts import number
from unstuck.guidance import Action, Advice, Guidance, Near, Provenance, scales_from
from unstuck.snapshots import BranchPool
from unstuck.tasks.card import Describer, TaskCard
from unstuck.views import View, peaks, reward_scale, same_returns, views_of

SPAN = 10
"""Steps over which a fall of the value is looked for."""
HOLD_DISCRETE, HOLD_CONTINUOUS = 3, 8
HORIZON_SPARSE, HORIZON_DENSE = 20, 100
DELTA = 0.25
"""Largest random delta of a continuous action, as a share of its range."""
RADIUS = 0.15
SEED = 0
MAX_REPEATS = 4
VISITED = 4_000
"""States of the collected episodes, at most, with which the end of a branch is compared."""


@dataclass(frozen=True)
class Critical:
    """A step from which to search."""

    view: View
    step: int
    fall: float
    """How far V falls from here within `SPAN` steps; 0 where the critic sees no fall."""


@dataclass(frozen=True)
class Tried:
    """What came of one branch."""

    total: float
    novelty: float
    """How far from all collected states it got: the largest distance of a state of it to the nearest collected one,
    in variables scaled to [-1, 1]. 0 where it is not asked for."""


def places(views: Sequence[View], count: int) -> list[Critical]:
    """The largest falls of V, spread over the episodes: the largest of each episode first, then the second ones...
    Where the critic is flat, steps at even distances."""
    ranked: list[tuple[int, float, Critical]] = []
    for view in views:
        if view.td_error is None or not view.tension().any():
            continue
        # TD errors against their median: a critic that is wrong everywhere by the same amount points nowhere.
        surprise = np.median(view.td_error) - view.td_error
        score = np.maximum(view.drops(SPAN), surprise).astype(np.float64)
        score[-1] = 0.0  # the end itself is too late to do anything
        found = peaks(score, count, max(SPAN, len(view) // 20))
        ranked += [(rank, -score[t], Critical(view, t, float(score[t]))) for rank, t in enumerate(found)]
    ranked.sort(key=lambda r: (r[0], r[1], r[2].view.index, r[2].step))
    chosen = [place for _, _, place in ranked[:count]]
    if chosen:
        return chosen
    each = -(-count // len(views))
    evenly = [(v, int(t)) for v in views for t in np.linspace(0, len(v) - 1, each + 2)[1:-1]]
    return [Critical(v, t, 0.0) for v, t in evenly[:count]]


class SearchExplainer(Explainer):
    """Looks at `search_states` places; at each tries every action (discrete) or `search_candidates` random deltas
    (continuous), held for some steps, against the agent's own way with the same noise.

    The best is what gains most true return. Where the true return tells nothing (all episodes have the same), it is
    what leads farthest from where the agent has been.
    """

    Settings = SearchSettings
    label = "the LLM-free explainer (value drops for where, search in the simulator for what)"
    settings: SearchSettings

    def announce(self) -> str:
        return "value drops, then search in the simulator"

    def explain(self) -> Explanation:
        space = self.space
        episodes, describer = space.episodes, space.describer
        card = describer.card
        views = views_of(episodes, describer)
        found = places(views, self.settings.search_states)
        sparse = same_returns(views)
        horizon = HORIZON_SPARSE if sparse else HORIZON_DENSE
        brancher = _Brancher(space.actor, describer, _Visited(views) if sparse else None, horizon)
        discrete = card.action.kind == "discrete"
        plans = 1 + (len(card.action.names) if discrete else self.settings.search_candidates)
        branches = len(found) * plans * horizon
        repeats = int(np.clip(self.settings.search_steps // max(branches, 1), 1, MAX_REPEATS))
        pool = BranchPool(space.make_env, min(16, plans * repeats), space.snapshotter)
        advice: list[Advice] = []
        searched = 0
        try:
            for place in found:
                if searched and pool.steps + branches // len(found) * repeats > self.settings.search_steps:
                    break
                candidates = list(self._candidates(card, searched))
                seeds = [SEED + 1_000 * searched + r for r in range(repeats)]
                outcomes = brancher.run(pool, episodes[place.view.index], place, candidates, seeds)
                searched += 1
                best = _best(place, candidates, outcomes, horizon, card)
                if best is not None:
                    advice.append(self._advice(place, *best, f"s{len(advice) + 1}", found, card))
            steps = pool.steps
        finally:
            pool.close()
        guidance = Guidance(
            env_id=card.env_id,
            diagnosis=_diagnosis(found[:searched], advice, sparse),
            advice=tuple(advice),
            scales=scales_from(np.concatenate([v.states for v in views]), card.variable_names),
            reward_scale=reward_scale(views),
            provenance=Provenance(explainer="search"),
        )
        facts = {"places": searched, "advice": len(advice), "branches_per_candidate": repeats, "horizon": horizon}
        return Explanation(guidance, env_steps=steps, facts=facts)

    def _candidates(self, card: TaskCard, place: int) -> Iterator[Action]:
        if card.action.kind == "discrete":
            yield from (Action(index=i) for i in range(len(card.action.names)))
            return
        rng = np.random.default_rng([SEED, place])
        low, high = np.array(card.action.low), np.array(card.action.high)
        if card.action.kind == "choices":
            drawn = rng.integers(low, high, size=(self.settings.search_candidates, len(low)), endpoint=True)
            yield from (Action(values=tuple(map(float, row))) for row in np.unique(drawn, axis=0))
            return
        reach = DELTA * (high - low)
        for _ in range(self.settings.search_candidates):
            values = rng.uniform(-reach, reach)
            yield Action(values=tuple(round(float(v), 3) for v in values), delta=True)

    @staticmethod
    def _advice(
        place: Critical, action: Action, hold: int, gain: str, name: str, found: Sequence[Critical], card: TaskCard
    ) -> Advice:
        evidence = evidence_at(place.view, place.step, card)
        largest = max(p.fall for p in found)
        return Advice(
            id=name,
            kind="state",
            why=f"{_fall_words(place)} {gain}",
            evidence=evidence,
            near=Near(point=evidence.state, radius=RADIUS),
            action=action,
            hold=hold,
            reward=-round(place.fall / largest, 2) if largest > 0 else None,
        )


class _Visited:
    """The states of the collected episodes, to measure how new another state is."""

    def __init__(self, views: Sequence[View]):
        states = np.concatenate([v.states for v in views])
        low, high = states.min(axis=0), states.max(axis=0)
        self._centre, self._half = (low + high) / 2, np.maximum((high - low) / 2, 1e-9)
        self._constant = high - low < 1e-9
        stride = max(1, -(-len(states) // VISITED))
        self._states = self._scaled(states[::stride])

    def _scaled(self, states: np.ndarray) -> np.ndarray:
        # A variable that never varied has no scale of its own; any change of it counts as one whole range.
        scaled = (states - self._centre) / self._half
        return np.where(self._constant, np.clip(scaled, -2, 2), scaled)

    def distance(self, states: np.ndarray) -> np.ndarray:
        """(N, V) → (N,) Euclidean distance to the nearest collected state."""
        scaled = self._scaled(states)
        return np.array([float(np.sqrt(((self._states - s) ** 2).sum(axis=1).min())) for s in scaled])


@dataclass(eq=False)
class _Branch(Row):
    plan: int = -1
    """Number of the candidate that is tried, -1 for the agent's own way."""
    trail: list[Any] | None = None
    """The states that it gets to, where they are looked at."""

    def took(self, action: Any, observation: Any, info: dict[str, Any]) -> None:
        self.observation = observation
        if self.trail is not None:
            self.trail.append(observation)


class _Brancher:
    def __init__(self, actor: Policy, describer: Describer, visited: _Visited | None, horizon: int):
        self.actor, self.describer, self.visited, self.horizon = actor, describer, visited, horizon
        self.hold = HOLD_DISCRETE if describer.card.action.kind == "discrete" else HOLD_CONTINUOUS

    def run(
        self, pool: BranchPool, episode: Episode, place: Critical, candidates: Sequence[Action], seeds: Sequence[int]
    ) -> list[list[Tried]]:
        """What came of the agent's own way, then of each candidate, with each seed; branches with the same seed meet
        the same noise, whatever is tried."""
        todo = [(plan, seed) for seed in seeds for plan in range(-1, len(candidates))]
        found: list[list[Tried]] = [[] for _ in range(len(candidates) + 1)]
        suggestions = Suggestions(candidates, self.actor.action_space)
        for start in range(0, len(todo), len(pool.envs)):
            branches = []
            for i, (plan, seed) in enumerate(todo[start : start + len(pool.envs)]):
                pool.place(i, episode, place.step, noise_seed=seed)
                seen, rng = episode.observation(place.step), np.random.default_rng([seed, 2])
                trail: list[Any] | None = [] if self.visited is not None else None
                branches.append(_Branch(i, seen, rng, place.view.deterministic, self.horizon, plan=plan, trail=trail))
            self._follow(pool, branches, suggestions)
            for branch in branches:
                found[branch.plan + 1].append(Tried(branch.total_reward, self._novelty(branch)))
        return found

    def _novelty(self, branch: _Branch) -> float:
        if self.visited is None or not branch.trail:
            return 0.0
        return float(self.visited.distance(self.describer.variables(stack(branch.trail))).max())

    def _follow(self, pool: BranchPool, branches: Sequence[_Branch], suggestions: Suggestions) -> None:
        """All branches to their ends."""
        going, holding = list(branches), Holding([self.hold] * len(suggestions), len(branches))
        which = holding.next(np.array([b.plan for b in branches]))
        while going:
            advance(going, self.actor, pool.step, lambda _, own, which=which: suggestions.substituted(which, own))  # type: ignore[misc]
            left = np.array([not b.over for b in going])
            going = [b for b in going if not b.over]
            holding.keep(left)
            which = holding.next(np.full(len(going), -1))


def _best(
    place: Critical, candidates: Sequence[Action], outcomes: Sequence[Sequence[Tried]], horizon: int, card: TaskCard
) -> tuple[Action, int, str] | None:
    """The candidate that gains most true return over the agent's own way; where none changes the return, the one
    that leads farthest from where the agent has been. None where nothing gains."""
    own, tried = outcomes[0], outcomes[1:]
    totals = [float(np.mean([o.total - b.total for o, b in zip(t, own, strict=True)])) for t in tried]
    novelties = [float(np.mean([o.novelty - b.novelty for o, b in zip(t, own, strict=True)])) for t in tried]
    by_return = any(abs(g) > 1e-9 for g in totals)
    gains = totals if by_return else novelties
    best = int(np.argmax(gains))
    if gains[best] <= 1e-9:
        return None
    action = candidates[best]
    hold = HOLD_DISCRETE if action.index is not None else HOLD_CONTINUOUS
    if action.index is not None:
        what = f"holding action {action.index} ({card.action.names[action.index]})"
    else:
        sign = "+" if action.delta else ""
        values = ", ".join(f"{n} {v:{sign}g}" for n, v in zip(card.action.names, action.values or (), strict=True))
        what = f"adding {values} to the action" if action.delta else f"holding {values}"
    branches = f"mean of {len(own)} pair{'s' if len(own) > 1 else ''} of branches"
    if by_return:
        words = f"{what} for {hold} steps gained {number(gains[best])} over {horizon} steps ({branches})."
    else:
        words = (
            f"{what} for {hold} steps got {number(gains[best])} farther from all states visited so far "
            f"within {horizon} steps ({branches}; variables scaled to their range); the return was the same."
        )
    return action, hold, f"In a search, {words}"


def _fall_words(place: Critical) -> str:
    value, t = place.view.value, place.step
    if value is None or place.fall <= 0:
        return "The agent's value shows no fall here; a state at an even distance."
    end = min(t + SPAN, len(place.view) - 1)
    if value[t] - value[end] >= 0.5 * place.fall:
        return (
            f"The agent's value fell from {number(float(value[t]))} to {number(float(value[end]))} in {end - t} steps."
        )
    return f"The step from here went worse than the agent expected by {number(place.fall)} (TD error)."


def _diagnosis(found: Sequence[Critical], advice: Sequence[Advice], sparse: bool) -> str:
    episodes = len({p.view.index for p in found})
    judged = "led farther from the states it has visited" if sparse else "gained return in short branches"
    where = "those where the agent's own value estimate falls most"
    if not any(p.fall > 0 for p in found):
        where = "at even distances because the agent's value estimate is flat"
    return (
        f"LLM-free: nobody has read the episodes, so no reason is given. A search in the simulator looked at "
        f"{len(found)} states of {episodes} episodes, {where}; at {len(advice)} of them some other action {judged}."
    )
