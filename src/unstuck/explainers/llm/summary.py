"""What a prompt says of an agent's episodes, as plain data: statistics of all of them first, then a few of them in
windows. Everything is a function of the episodes alone, so the same episodes give the same text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unstuck.agents.history import LearningCurve
from unstuck.episodes import returns_to_go
from unstuck.explainers.llm.facts import (
    BLOCK_PARTS,
    BLOCK_VARIABLES,
    BLOCKS,
    CURVE_POINTS,
    ENDINGS,
    MODES,
    AgentFacts,
    ModeFacts,
    PromptData,
    ShownEpisode,
    VariableFacts,
    Wanted,
    decimals,
    fixed,
    number,
)
from unstuck.explainers.llm.policy_facts import exploration_words, part_names, part_words
from unstuck.explainers.llm.selection import SELECTIONS, ranges_of
from unstuck.tasks.card import ActionSpec, TaskCard
from unstuck.views import DROP_SPAN, View, peaks, reward_scale, same_returns, whole_of


class Summary:
    """Statistics of the episodes, computed once; `data` adds rows at a chosen level of detail."""

    def __init__(self, views: Sequence[View], card: TaskCard, agent: AgentFacts, version: int = 2):
        self.views, self.card, self.agent = tuple(views), card, agent
        self._version, self._selection = version, SELECTIONS[version]
        states = np.concatenate([v.states[:-1] for v in self.views])
        self._percentiles = np.percentile(states, [5, 50, 95], axis=0).T
        self._constant = np.ptp(states, axis=0) < 1e-9
        self._places = [decimals(states[:, i]) for i in range(states.shape[1])]
        rewards = np.concatenate([v.rewards for v in self.views])
        self._reward_places = decimals(rewards)
        self._value_places = decimals(np.concatenate([v.value for v in self.views if v.value is not None] or [rewards]))
        td_errors = [v.td_error for v in self.views if v.td_error is not None]
        self._td_places = decimals(np.concatenate(td_errors or [rewards]))
        self._action_places = [decimals(a) for a in np.concatenate([_two_d(v.actions) for v in self.views]).T]
        self._ranges = ranges_of(states)
        self._chosen = self._selection.episodes(self.views, self._ranges)
        self._parts = part_names(self.views)[:BLOCK_PARTS] if version > 1 else ()
        self._ranking = trend_ranking([v for _, v in self._chosen], self._constant)

    def data(self, rows: int, columns: int, described: int) -> PromptData:
        """With at most `rows` rows for each episode shown, `columns` variables in them, `described` in full."""
        shown_columns = sorted(self._ranking[:columns])
        full = sorted(self._ranking[:described]) if described < len(self._places) else list(range(len(self._places)))
        names = self.card.variable_names
        return PromptData(
            card=self.card,
            agent=self.agent,
            modes=tuple(_mode_facts(m, of, self.card.action) for m in MODES if (of := _of(self.views, m))),
            variables=tuple(self._variable(i) for i in full),
            named_only=tuple(n for i, n in enumerate(names) if i not in set(full)),
            reward=_percentiles([v.rewards for v in self.views]),
            learnt=_percentiles([v.learnt for v in self.views]),
            reward_scale=reward_scale(self.views),
            same_returns=same_returns(self.views),
            critic=critic_words(self.views, self.agent.gamma),
            signals=signal_words(self.views),
            all_episodes=tuple(_one_line(v) for v in self.views),
            shown=tuple(self._episode(title, v, rows, shown_columns) for title, v in self._chosen),
            exploration=exploration_words(self.views, self.card.action),
            reward_parts=part_words(self.views),
            curve=curve_words(self.agent.curve),
            wanted=self.agent.wanted or Wanted(terms=self.card.action.kind == "continuous"),
            columns=tuple(names[i] for i in shown_columns),
            omitted=len(names) - len(shown_columns),
            header=self._header(shown_columns),
            example=(self._chosen[0][1].index, len(self._chosen[0][1]) // 2),
        )  # fmt: skip

    def _variable(self, i: int) -> VariableFacts:
        v = self.card.variables[i]
        low, high = (None if b is None or not np.isfinite(b) else b for b in (v.low, v.high))
        bounds = f"from {number(low)} to {number(high)}" if low is not None and high is not None else (
            f"at least {number(low)}" if low is not None else f"at most {number(high)}" if high is not None else ""
        )  # fmt: skip
        derived = "computed from the others" if v.derived else ""
        text = "; ".join(t for t in (v.description, bounds, derived) if t)
        p5, p50, p95 = (float(x) for x in self._percentiles[i])
        return VariableFacts(v.name, v.unit, text, (p5, p50, p95), bool(self._constant[i]))

    def _header(self, columns: Sequence[int]) -> str:
        names = " ".join(self.card.variable_names[i] for i in columns)
        discrete = self.card.action.kind == "discrete"
        action = "action (probability of it)" if discrete else " ".join(self.card.action.names)
        q = " Q(s,a)" if any(v.q is not None for v in self.views) else ""
        return f"step | {names} | {action} | reward V(s){q} TD"

    def _episode(self, title: str, view: View, rows: int, columns: Sequence[int]) -> ShownEpisode:
        at_end = view is self._chosen[0][1] or view is self._chosen[-1][1]
        rows = rows if at_end else max(4, round(rows * self._selection.share))
        steps = self._selection.steps(view, rows, self._ranges)
        blocks, length = self._blocks(view, min(BLOCK_VARIABLES, len(columns)))
        return ShownEpisode(
            title=title,
            index=view.index,
            mode=view.mode,
            total=view.total_reward,
            steps=len(view),
            ending=ENDINGS[view.ending],
            blocks=blocks,
            block_length=length,
            falls=self._falls(view),
            rows=tuple(self._row(view, t, columns) for t in steps),
        )

    def _blocks(self, view: View, count: int) -> tuple[tuple[str, ...], int]:
        """Means of the variables that drift most, and sums of the reward, over parts of the episode."""
        length = max(1, -(-len(view) // BLOCKS))
        starts = range(0, len(view), length)
        drifting = [i for i in self._ranking[:count] if not self._constant[i]]
        lines = []
        for i in sorted(drifting):
            column, places = view.states[:-1, i], self._places[i] or 2
            means = [fixed(float(column[s : s + length].mean()), places) for s in starts]
            lines.append(f"mean {self.card.variable_names[i]}: {' '.join(means)}")
        for name, of in [("reward", view.rewards), *((n, view.reward_parts[n]) for n in self._parts)]:
            sums = [number(float(of[s : s + length].sum())) for s in starts]
            lines.append(f"sum of {name}: {' '.join(sums)}")
        return tuple(lines), length

    def _falls(self, view: View) -> tuple[str, ...]:
        if view.value is None:
            return ()
        value, drops = view.value, view.drops()
        deviation = float(np.std(value))
        steps = [t for t in sorted(peaks(drops, 3, 2 * DROP_SPAN)) if drops[t] > 0.25 * deviation]
        if not view.tension().any():
            return ()
        ends = [min(t + DROP_SPAN, len(view) - 1) for t in steps]
        return tuple(
            f"from {fixed(float(value[t]), self._value_places)} at step {t} to "
            f"{fixed(float(value[e]), self._value_places)} at step {e}"
            for t, e in zip(steps, ends, strict=True)
        )

    def _row(self, view: View, t: int, columns: Sequence[int]) -> str:
        state = " ".join(fixed(float(view.states[t, i]), self._places[i]) for i in columns)
        if self.card.action.kind == "discrete":
            sure = "" if view.confidence is None else f" ({fixed(float(view.confidence[t]), 2)})"
            action = f"{int(view.actions[t])}{sure}"
        else:
            pairs = zip(_two_d(view.actions)[t], self._action_places, strict=True)
            action = " ".join(fixed(float(a), min(p, 2)) for a, p in pairs)
        ends = [fixed(float(view.rewards[t]), self._reward_places)]
        signals = [(view.value, self._value_places), (view.td_error, self._td_places)]
        if view.q is not None:
            signals.insert(1, (view.q, self._value_places))
        for signal, places in signals:
            ends.append("-" if signal is None else fixed(float(signal[t]), places))
        return f"{t} | {state} | {action} | {' '.join(ends)}"


def _two_d(actions: np.ndarray) -> np.ndarray:
    return np.asarray(actions, dtype=np.float64).reshape(len(actions), -1)


def _of(views: Sequence[View], mode: str) -> list[View]:
    return [v for v in views if v.mode == mode]


def _mode_facts(mode: str, those: Sequence[View], spec: ActionSpec) -> ModeFacts:
    returns = np.array([v.total_reward for v in whole_of(those)])
    lengths = np.array([len(v) for v in whole_of(those)])
    counts = [(sum(v.ending == e for v in those), words) for e, words in ENDINGS.items()]
    actions = np.concatenate([_two_d(v.actions) for v in those])
    if spec.kind == "discrete":
        shares = [float((actions[:, 0] == i).mean()) for i in range(len(spec.names))]
        lines = [f"{i} {name}: {share:.1%}" for i, (name, share) in enumerate(zip(spec.names, shares, strict=True))]
    else:
        lines = [
            f"{name}: mean {number(float(a.mean()))}, std {number(float(a.std()))}"
            for name, a in zip(spec.names, actions.T, strict=True)
        ]
    return ModeFacts(
        mode, len(those), _mean_min_max(returns), _mean_min_max(lengths),
        ", ".join(f"{n} {words}" for n, words in counts if n), tuple(lines),
    )  # fmt: skip


def _mean_min_max(x: np.ndarray) -> tuple[float, float, float]:
    return float(x.mean()), float(x.min()), float(x.max())


def _one_line(view: View) -> str:
    return f"{view.index}: {view.mode}, return {number(view.total_reward)}, {len(view)} steps, {ENDINGS[view.ending]}"


def trend_ranking(views: Sequence[View], constant: np.ndarray) -> list[int]:
    """Variables by how much of their variation lies between parts of episodes rather than within them, most first:
    what drifts tells more of a behaviour than what oscillates at every step. Constant ones come last."""
    parts = [p for v in views for p in np.array_split(v.states[:-1], min(BLOCKS, len(v)))]
    means = np.stack([p.mean(axis=0) for p in parts])
    weights = np.array([len(p) for p in parts], dtype=np.float64)
    everything = np.concatenate(parts)
    total = everything.var(axis=0)
    between = np.average((means - everything.mean(axis=0)) ** 2, axis=0, weights=weights)
    share = np.where(constant | (total < 1e-12), -1.0, np.round(between / np.maximum(total, 1e-12), 9))
    return [int(i) for i in np.argsort(-share, kind="stable")]


def curve_words(curve: LearningCurve | None) -> tuple[str, ...]:
    """`50,000: -102`, some twenty of them."""
    shown = curve.thinned(CURVE_POINTS) if curve else None
    return tuple(f"{s:,}: {number(r)}" for s, r in zip(shown.steps, shown.returns, strict=True)) if shown else ()


def _percentiles(rewards: Sequence[np.ndarray]) -> tuple[float, float, float, float, float]:
    least, p5, p50, p95, most = np.percentile(np.concatenate(rewards), [0, 5, 50, 95, 100]).tolist()
    return least, p5, p50, p95, most


def signal_words(views: Sequence[View]) -> str:
    """What V(s) and TD stand for; of a critic of actions, Q(s, a) too."""
    return _signals(views) + _learnt_words(views)


def _learnt_words(views: Sequence[View]) -> str:
    """In which unit they are, where that is not the task's."""
    clipped = " of rewards clipped to -1, 0 and 1" * any(v.learnt_rewards is not None for v in views)
    lives = " up to the loss of a life" * any(v.learnt_ends is not None for v in views)
    return f" They are{clipped}{lives}, as the agent learnt." if clipped or lives else ""


def _signals(views: Sequence[View]) -> str:
    if any(v.q is not None for v in views):
        return (
            "The agent's critic rates actions: Q(s,a) is the return that it expects from there on (discounted) after "
            "the action taken, V(s) the same after the action that it prefers, so V(s) - Q(s,a) is what it thinks the "
            "action costs; TD is the surprise r + gamma V(s') - Q(s,a)."
        )
    return (
        "V(s) is the return that the agent expects from there on (discounted), TD the surprise r + gamma V(s') - V(s)."
    )


def critic_words(views: Sequence[View], gamma: float) -> str:
    """How well V(s) predicts what follows: the explained variance 1 - Var(G - V) / Var(G) of the discounted returns
    G, of rewards and episodes as the agent learnt from them, with V at the last state standing in for what a time limit
    cut off. Empty where there is no critic."""
    actual, predicted = [], []
    for view in views:
        if view.value is None:
            continue
        following = 0.0 if view.ending == "terminated" else float(view.value[-1])
        actual.append(returns_to_go(view.learnt, following, gamma, view.learnt_ends))
        predicted.append(np.asarray(view.value, dtype=np.float64))
    if not actual:
        return ""
    g, v = np.concatenate(actual), np.concatenate(predicted)
    p5, p50, p95 = np.percentile(v, [5, 50, 95])
    words = f"V(s) 5/50/95 percentiles: {number(p5)} / {number(p50)} / {number(p95)}"
    if np.var(g) < 1e-9:
        return f"{words}; the discounted returns do not vary, so nothing can be said of how well V predicts them"
    explained = max(-9.99, 1 - float(np.var(g - v) / np.var(g)))
    what = f"share of the variance of the discounted returns (gamma {number(gamma)}) that V explains"
    return f"{words}; {what}: {explained:.2f}"
