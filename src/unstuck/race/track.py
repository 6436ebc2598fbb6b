"""Where a race is run: the budget and what it is spent on, legs trained and evaluated, and their curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.algorithms import algorithm_of, continued_by
from unstuck.config import RaceConfig
from unstuck.playing import LONGEST
from unstuck.race.entry import Entry, place
from unstuck.race.legs import Leg, curve_of
from unstuck.race.reserve import LONG, Reserve, reserve
from unstuck.race.schedule import (
    EXPONENT,
    FEWEST,
    RISE,
    Curve,
    climbs,
    difference,
    drawn_out,
    forecast,
    optimistic,
    rank,
    slope_of,
)
from unstuck.race.spread import together
from unstuck.results import LADDER, MODES, Charges, Ladder, Mode
from unstuck.rollout import first_of, time_limit
from unstuck.run import Run, digest
from unstuck.workspace import Workspace

RUNG_SEED = 3_000_000
"""Seed of the first evaluation episode of the rungs."""
EVALUATED, EVALUATED_LONG = 5, 40
"""Episodes of an evaluation, as far as they fit into what is kept for the fewer that are laid out; and where the budget
is long, because the best of some ten points is a lucky one where few are played."""
LAST_EPISODES = 3
"""Of training, that say what a competitor returns by now: a single one may be lucky."""
LEARNS = 4.0
"""Standard errors by which returns rise in 12,000 steps where SAC learns a task: 7 to 15 on LunarLanderContinuous,
Hopper and InvertedDoublePendulum, 2 to 3 on BipedalWalkerHardcore, where it comes to nothing."""
WINNER_SHARE = 0.65
"""Of the budget, what the winner trains, about."""
LONGER, MORE = 1.25, 2
"""Times as long as was foreseen, evaluated episodes are taken to be longer than that: those of a good agent may be many
times as long as the agent's own. Then that many times their mean length is foreseen, up to the time limit."""
STRETCHES, FEWER_STRETCHES = (3, 3, 1, 1, 1), (1, 1)
"""Parts in which the winner trains on, and is evaluated after each; fewer where the budget is short. They are short at
the end, because many policies are good at one point and bad some thousand steps later: the best is the finalist."""

Say = Callable[[str], None]


class Track:
    """What all parts of a race share.

    Args:
        run: whose episodes are collected, and explained if anybody is to be guided.
        home: the folder of this race.
        budget: environment steps that it may take in all.
        say: told what happens, a line each.
        workers: competitors trained at once.
    """

    entries: list[Entry]
    """All who race, the trunk in front; set when it is known who does."""
    ready: Callable[[Sequence[Entry]], None] = staticmethod(lambda _: None)
    """Called before any of these is trained for the first time; who is dropped by it does not race."""

    def __init__(
        self,
        run: Run,
        home: Path,
        seed: int,
        budget: int,
        config: RaceConfig,
        *,
        say: Say = lambda _: None,
        workers: int = 1,
    ):
        self.run, self.home, self.seed, self.budget, self.config = run, home, seed, budget, config
        self.space, self.say, self.workers = Workspace(run), say, workers
        self.spent = {"train": 0, "states": 0, "judge": 0}
        self.episode = self._longest()
        self.quantum = self.space.quantum
        self._lay_out()

    def _lay_out(self) -> None:
        self.entries, self.episodes = [], FEWEST
        self.asked_usd: float | None = 0.0
        self.stretches = STRETCHES if self.long else FEWER_STRETCHES
        share = 1.0 if self.alone else WINNER_SHARE
        # What the winner trains, about: schedules and fading go by it.
        self.total = max(self.quantum, self.at_most(share * self.budget))

    def _longest(self) -> int:
        env = self.space.make_env()
        self._limit = limit = time_limit(env)
        env.close()
        if not self.collected:
            return limit or LONGEST
        longest = max(len(e) for e in self.space.episodes)
        # Better agents may go on for longer where failing ends an episode.
        return min(limit or LONGEST, max(2 * longest, 200)) if limit is None else min(limit, max(4 * longest, 200))

    def _foresee(self, length: float) -> None:
        """What is kept for the end goes by how long episodes may be: by these, if they are longer than was thought."""
        if length > LONGER * self.episode:
            self.episode = min(self._limit or LONGEST, math.ceil(MORE * length))
            self.__dict__.pop("reserve", None)

    # ------------------------------------------------------------------------------------------------ the budget

    @cached_property
    def trainer(self) -> str:
        """The name of the algorithm that trains the agent on, if nothing else is done."""
        return continued_by(self.space.agent)

    @property
    def collected(self) -> bool:
        """Whether there are episodes of the agent."""
        return self.space.collected

    @property
    def alone(self) -> bool:
        """A single treatment that was asked for: nothing is compared, and it is handed over."""
        return len(self.config.treatments) == 1

    @property
    def long(self) -> bool:
        """Whether the budget is worth many episodes."""
        return self.budget >= LONG * self.episode

    @property
    def left(self) -> int:
        return self.budget - sum(self.spent.values())

    @cached_property
    def reserve(self) -> Reserve:
        """What is kept for the end."""
        if self.alone:
            return Reserve(0, (), 0, self.episode)
        return reserve(self.budget, self.episode, self.config.reserve)

    @property
    def room(self) -> int:
        """Environment steps left to train with."""
        return self.left - self.reserve.steps - len(self.stretches) * self.episodes * self.episode

    def at_least(self, steps: int) -> int:
        """Environment steps in whole rollouts, no fewer than these."""
        return -(-steps // self.quantum) * self.quantum

    def at_most(self, steps: float) -> int:
        """Environment steps in whole rollouts, no more than these."""
        return int(steps) // self.quantum * self.quantum

    # ------------------------------------------------------------------------------------------------ the legs

    def train(self, racing: Sequence[Entry], stop: int, episodes: int | None = None) -> None:
        """Train those that are not there yet up to `stop`, and evaluate them."""
        if not (racing := [e for e in racing if e.trained < stop]):
            return
        legs = [self._leg(entry, stop, episodes) for entry in racing]
        for entry, leg, found in zip(racing, legs, together(legs, self.workers, self.config), strict=True):
            self._enter(entry, leg, found)

    def _enter(self, entry: Entry, leg: Leg, found: dict[str, Any]) -> None:
        self.spent["train"] += found["taken"]
        self.spent["judge"] += found["judged"]
        entry.trained, entry.facts = leg.stop, found
        entry.points.append((leg.stop, found["returns"]))
        level = float(np.mean(found["returns"])) if found["returns"] else None
        if (length := entry.episode_length) is not None:
            self._foresee(length)
        entry.rank = entry.rank.model_copy(update={"trained": leg.stop, "level": level})

    def _leg(self, entry: Entry, stop: int, episodes: int | None = None) -> Leg:
        count = self.episodes if episodes is None else episodes
        first = first_of(RUNG_SEED, self.seed)
        seeds = tuple(range(first, first + count))
        most = max(count, EVALUATED_LONG if self.long else EVALUATED) if count else 0
        spare = tuple(range(first + count, first + most))
        config = entry.competitor.train(self.run.config.train)
        guidance = entry.guidance.model_dump(mode="json") if entry.guidance else None
        measured = ["measured"] if self.config.feedback else []
        mark = self.mark(
            entry.name, entry.trained, stop, self.total, repr(entry.plan), guidance, config, seeds, spare, *measured
        )
        return Leg(
            str(self.run.root), str(self.home), entry.name, self.seed, entry.trained, stop, self.total, entry.plan,
            config, entry.guidance, seeds, spare, self.episode, self.config.mode, mark, self.config.feedback,
        )  # fmt: skip

    def mark(self, *parts: Any) -> str:
        """Fingerprint of a cell: of the agent, the task, the collected episodes, and what it is about."""
        run = self.run
        collected = run.record("collect").fingerprint if self.collected else ""
        return digest(
            run.agent_path, run.vecnormalize_path, run.config.task, collected, self.seed, self.config.mode, *parts
        )

    def agent_of(self, entry: Entry, stop: int) -> Path:
        return self.home / entry.name / str(stop) / "agent.zip"

    # ------------------------------------------------------------------------------------------------ the numbers

    @property
    def modes(self) -> list[Mode]:
        """The mode in which the agent will be run, then the other one."""
        return sorted(MODES, key=lambda mode: mode != self.config.mode)

    def given(self, mode: Mode) -> dict[int, float]:
        """Seed → return of the collected episodes in a mode; without those that collecting cut."""
        those = [e for e in self.space.episodes if e.deterministic == (mode == MODES[0])]
        return {e.seed: e.total_reward for e in those if e.whole}

    @cached_property
    def before(self) -> tuple[float, float]:
        """Mean return of the agent as it was given, in its collected episodes, and its standard error; of the other
        mode where no episode of the mode was whole."""
        returns = next(held for mode in self.modes if (held := list(self.given(mode).values())))
        return float(np.mean(returns)), float(np.std(returns) / np.sqrt(max(1, len(returns) - 1)))

    @property
    def slack(self) -> float:
        """Differences of a few episodes' returns that may be chance."""
        mean, error = self.before
        return max(2 * error, RISE / 2 * abs(mean))

    def curve(self, entry: Entry) -> Curve:
        """What is known of a competitor after its latest leg."""
        trained, returns = entry.points[-1]
        steps, means, counts = self.training_curve(entry)
        late = steps > self.run.config.train.critic_warmup
        slope, noise = slope_of(*(column[late].tolist() for column in (steps, means, counts)))
        level = float(np.mean(returns))
        error = float(np.std(returns, ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else float("inf")
        if entry.competitor.noisy and not entry.competitor.late and level <= self.before[0] + self.before[1]:
            # Its own episodes get better as the noise that it was given goes down, whatever it does without noise.
            slope, noise = 0.0, float("inf")
        return Curve(entry.name, trained, level, error, slope, noise)

    def heading(self, entry: Entry) -> float:
        """Where a competitor is heading. On a long budget only what surely gets on is drawn out: it would be drawn out
        over many times the steps that were seen, and a rise that is noise would outbid everybody."""
        curve = self.curve(entry)
        if self.long and not climbs(curve, *self.before, self.total):
            return curve.level
        return forecast(curve, self.total)

    def reach(self, entry: Entry, exponent: float = EXPONENT) -> float:
        """The return that may be expected of what begins from the bottom. Of what is quick, by what it has gained so
        far, drawn out with this exponent; of others, the best that is not ruled out, because their first steps say
        little."""
        curve = self.curve(entry)
        if not entry.competitor.quick:
            return optimistic(curve, self.total)
        means = self.training_curve(entry)[1]
        first = float(means[0]) if len(means) else curve.level
        return drawn_out(first, replace(curve, level=self.shown(entry)), self.total, exponent)

    def shown(self, entry: Entry) -> float:
        """The return that a competitor has shown: in its latest evaluation, or, if that is higher, in its last episodes
        in training, three at least, with its noise, because its most likely actions may be late to follow."""
        (_, means, counts), level = self.training_curve(entry), self.curve(entry).level
        later = np.cumsum(counts[::-1])[::-1] - counts  # episodes after those of each row
        last = later < LAST_EPISODES
        return max(level, float(np.average(means[last], weights=counts[last]))) if len(means) else level

    def gains(self, entry: Entry) -> bool:
        """Whether a competitor returns more by now than in its first episodes."""
        means = self.training_curve(entry)[1]
        return bool(len(means)) and self.shown(entry) > float(means[0])

    def learns(self, entry: Entry) -> bool:
        """Whether what began from the bottom surely learns: its returns in training rise, by many times their noise."""
        slope, noise = slope_of(*(column.tolist() for column in self.training_curve(entry)))
        return slope > LEARNS * noise

    def rise(self, entry: Entry, stop: int) -> float:
        """How much more its episodes in training return in the last fifth up to `stop` than those of the agent as it
        was, in standard errors of the difference: the collected sampled ones, and those in which only the critic
        learns. They cost nothing, and are many. 0 where either are too few, and of what learns by replay, which
        explores otherwise than it plays."""
        if not algorithm_of(self.space.agent).on_policy:
            return 0.0
        steps, means, counts = self.training_curve(entry)
        unchanged, late = steps <= self.run.config.train.critic_warmup, _last_fifth(steps, stop)
        given = list(self.given(MODES[1]).values())
        before = np.concatenate([means[unchanged], given]), np.concatenate([counts[unchanged], np.ones(len(given))])
        return difference(before, (means[late], counts[late]))

    def of_late(self, entry: Entry, stop: int) -> float:
        """Mean return of its episodes in training in the last fifth up to `stop`; NaN where none ended there."""
        steps, means, counts = self.training_curve(entry)
        late = _last_fifth(steps, stop)
        return float(np.average(means[late], weights=counts[late])) if late.any() else float("nan")

    def training_curve(self, entry: Entry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(L,) steps, mean returns and numbers of its episodes in training."""
        parts = [curve_of(self.home / entry.name / str(stop)) for stop, _ in entry.points]
        steps, means, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        return steps, means, counts

    def drop(self, racing: Sequence[Entry], survivors: int, when: str) -> list[Entry]:
        """The best of them, in order; the others are out."""
        order = rank([self.curve(e) for e in racing], self.total)
        by_name = {e.name: e for e in racing}
        best, best_heading = order[0]
        for number, (curve, heading) in enumerate(order):
            entry = by_name[curve.name]
            entry.rank = entry.rank.model_copy(update={"forecast": round(heading, 3)})
            if number >= survivors:
                entry.out(f"{when}: heading for {heading:.4g}, {best.name} for {best_heading:.4g}")
            else:
                entry.back()
        return [by_name[curve.name] for curve, _ in order[:survivors]]

    # ------------------------------------------------------------------------------------------------ the ladder

    def show(self, title: str) -> None:
        """The ladder, to the user and to ladder.json."""
        ranks = tuple(e.rank for e in sorted(self.entries, key=place))
        spent = Charges(dict(self.spent))
        ladder = Ladder(
            title=title, seed=self.seed, spent=spent, budget=self.budget, usd=self._paid(), ranks=ranks
        )  # fmt: skip
        ladder.write(self.home / LADDER)
        for line in ladder.lines():
            self.say(line)

    def _paid(self) -> float | None:
        """What the coach has cost in dollars; None where nobody knows."""
        record = self.run.manifest.stages.get("explain")
        explained = None if record is None else record.facts.get("spent_usd")
        return None if explained is None or self.asked_usd is None else explained + self.asked_usd


def _last_fifth(steps: np.ndarray, stop: int) -> np.ndarray:
    """Which of these are in the last fifth of a training up to `stop`."""
    return np.asarray((steps > 0.8 * stop) & (steps <= stop))
