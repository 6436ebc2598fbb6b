"""The last test, and what is handed over: the finalist, plain PPO or the agent before, with how much noise.

In the mode in which the agent will be run, all three play the same episodes, and the finalist must be shown to be
better than the agent before, and return no less than plain PPO. Else plain PPO is, if its gain over the agent before
stands out of the noise of these few episodes, and its many episodes in training do not say the contrary; or if it is
some gain, and those surely say so. Else the agent stays as it was. In the other mode what is handed over must not be
shown to be worse than what it takes the place of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from unstuck.agents import load_agent
from unstuck.cells import cell
from unstuck.files import weights_mark
from unstuck.paired import gain, is_better, is_worse, stands_out
from unstuck.race.competitors import TRUNK
from unstuck.race.entry import Entry
from unstuck.race.legs import play
from unstuck.race.quiet import Quiet, episode_seeds, quieted
from unstuck.race.reserve import MOST_PAIRS, MOST_SAMPLED, TIMES_LONGER, episodes_of
from unstuck.race.track import Track
from unstuck.results import MODES, Gain, Mode
from unstuck.rollout import first_of

TEST_SEED = 4_000_000
"""Seed of the first test episode beyond the collected ones."""
FEW_SAMPLED = 2
"""Episodes for each share of the noise that are kept for who leads after all, once more pairs were played."""

Who = Literal["finalist", "trunk", "original"]


@dataclass
class Finals:
    """The last test of one race.

    Args:
        finalist: the point of the winner's training that is tested.
    """

    track: Track
    winner: Entry
    finalist: int
    quiet: dict[str, Quiet] = field(default_factory=dict)
    returns: dict[str, list[float]] = field(default_factory=dict)
    """Of the paired episodes."""
    seeds: Sequence[int] = ()
    """Of these."""
    played: int = 0
    taken: int = 0
    """Episodes that were played for them, and their environment steps."""

    def run(self) -> Outcome:
        """Play what the test needs, and decide."""
        if self.track.alone:
            why = "one treatment was asked for, so nothing was compared"
            return Outcome(self.winner, self.finalist, "finalist", why, Quiet(self.path("finalist"), 1.0, ()))
        if self.track.config.mode != MODES[0]:
            self._quieted("finalist")  # its noise counts in the very test
        self.play_pairs(self.track.reserve.other)
        if self.track.config.mode == MODES[0]:
            # Its noise is looked at first: what was kept for that and is left then pays for more pairs.
            self._quieted(self._standing()[0][0])
            self.play_pairs(self._kept)
        order, why = self._standing()
        returns, level, names = self.returns, self.track.config.level, self.name
        other: dict[str, list[float]] = {}
        for handed in order:
            chosen = self._quieted(handed)
            if handed == "original":
                break
            other = {who: self.other(who) for who in dict.fromkeys([handed, *_rest(handed, returns)])}
            worse = [who for who in _rest(handed, returns) if is_worse(other[handed], other[who], level)]
            if not worse:
                break
            than = " and ".join(names(who) for who in worse)
            why = f"{why}; but it is worse than {than} in {self._other} play"
        return Outcome(
            self.winner, self.finalist, handed, why + _noise(chosen), chosen, returns, tuple(self.seeds), other,
            *self._gains,
        )  # fmt: skip

    @property
    def _gains(self) -> tuple[Gain, Gain | None]:
        """Of the finalist, over the agent before and over the trunk."""
        ours, level = self.returns["finalist"], self.track.config.level
        trunk = self.returns.get("trunk")
        return gain(ours, self.returns["original"], level), None if trunk is None else gain(ours, trunk, level)

    def _standing(self) -> tuple[list[Who], str]:
        level = self.track.config.level
        return standing(self.returns, *self._gains, self.winner.name, self._plain, self.rise(), level)

    @property
    def trunk(self) -> Entry:
        return next(e for e in self.track.entries if e.name == TRUNK)

    def rise(self) -> float:
        """How much more plain PPO returned in training at the point that is tested; see `Track.rise`."""
        stop = self.finalist if self.winner is self.trunk else self.trunk.trained
        return self.track.rise(self.trunk, stop) if self.trunk.points else 0.0

    @property
    def _plain(self) -> str:
        return f"plain {self.track.trainer}"

    @property
    def _other(self) -> Mode:
        return MODES[1] if self.track.config.mode == MODES[0] else MODES[0]

    def name(self, who: str) -> str:
        """In words."""
        return {"finalist": self.winner.name, "trunk": self._plain, "original": "the agent before"}[who]

    def path(self, who: Who) -> Path:
        """The zip, with the noise that it was trained with."""
        if who == "original":
            return self.track.run.agent_path
        if who == "trunk" and self.trunk is not self.winner:
            return self.track.agent_of(self.trunk, self.trunk.trained)
        return self.track.agent_of(self.winner, self.finalist)

    # ------------------------------------------------------------------------------------------------ who plays

    def _quieted(self, who: Who) -> Quiet:
        if who not in self.quiet:
            track, kept = self.track, self.track.reserve
            shares, most, given = len(kept.shares), kept.sampled, None
            if who == "original":  # the last who may be handed over, so what is left is left for it
                given = list(track.given("sampled").values())
                shares, most = shares - (len(given) > 1), MOST_SAMPLED if kept.sampled else 0
            count = min(most, track.left // (max(1, shares) * track.episode))
            self.quiet[who] = quieted(track, who, self.path(who), count=count, given=given)
        return self.quiet[who]

    @property
    def _kept(self) -> int:
        """Environment steps for the other mode once the noise of who leads was looked at: the trunk's episodes, and
        some for whoever leads in the end. As long as those of the pairs, about: fewer are played where they get
        longer."""
        kept = self.track.reserve
        count = min(FEW_SAMPLED, kept.sampled) * len(kept.shares) + (kept.sampled if "trunk" in self.returns else 0)
        likely = min(kept.episode, TIMES_LONGER * self.taken / self.played) if self.played else kept.episode
        return int(count * likely)

    def play_pairs(self, kept: int) -> None:
        """Paired episodes in the mode in which the agent will be run: finalist, original, and the trunk unless it is
        the finalist. As many as can be paid for, by how long episodes may be, and then as many more as these left room
        for: whatever they returned, so that the test stays one test.

        Args:
            kept: environment steps that are left for what comes after.
        """
        track, mode = self.track, self.track.config.mode
        known = track.given(mode)
        extra = [first_of(TEST_SEED, track.seed) + i for i in range(MOST_PAIRS)]
        order = [*known, *extra][:MOST_PAIRS]
        held = self.quiet.get("finalist")
        players = {"finalist": self.path("finalist") if held is None else held.agent}
        if self.winner is not self.trunk:
            players["trunk"] = self.path("trunk")
        self.returns = self.returns or {name: [] for name in (*players, "original")}
        done, room = len(self.seeds), track.left - kept
        if not done and not affordable(room, track.episode, len(players), len(known), len(order)):
            room = track.left  # episodes got longer than was foreseen: the test comes before all else
        while (more := affordable(room, track.episode, len(players), len(known) - done, len(order) - done)) > 0:
            some, done = order[done : done + more], done + more
            returns = self._played(players, some, known)
            for name, each in self.returns.items():
                each += returns[name]
            room = track.left - kept
        self.seeds = order[:done]

    def _played(self, players: dict[str, Path], seeds: list[int], known: dict[int, float]) -> dict[str, list[float]]:
        """Some of the pairs."""
        track, mode = self.track, self.track.config.mode

        def work(_: Path) -> dict[str, Any]:
            found: dict[str, list[float]] = {}
            steps = 0
            for name, path in players.items():
                found[name], taken = play(track.space, load_agent(path), seeds, mode)
                steps += taken
            returns, taken = play(track.space, track.space.agent, [s for s in seeds if s not in known], mode)
            found["original"] = [known[s] for s in seeds if s in known] + returns
            return {"returns": found, "taken": steps + taken}

        mark = track.mark("test", *map(weights_mark, players.values()), seeds)
        tested = cell(track.home / "test" / str(seeds[0]), mark, work)
        track.spent["judge"] += tested["taken"]
        self.taken += tested["taken"]
        self.played += len(players) * len(seeds) + sum(seed not in known for seed in seeds)
        return dict(tested["returns"])

    def other(self, who: Who) -> list[float]:
        """Its returns in the other mode, as it would be handed over, or as it is if it would not."""
        track, mode = self.track, self._other
        if who == "original" and "original" not in self.quiet:
            return list(track.given(mode).values())
        held = self.quiet.get(who)
        if held is not None and mode != MODES[0]:
            return list(held.sampled)
        path = self.path(who)
        seeds = episode_seeds(track, max(0, min(track.reserve.sampled, track.left // track.episode)))

        def work(_: Path) -> dict[str, Any]:
            returns, taken = play(track.space, load_agent(path), seeds, mode)
            return {"returns": returns, "taken": taken}

        found = cell(track.home / "other" / who, track.mark("other", weights_mark(path), mode, seeds), work)
        track.spent["judge"] += found["taken"]
        return list(found["returns"])


@dataclass(frozen=True)
class Outcome:
    """What a race came to."""

    winner: Entry
    finalist: int
    """The point of the winner's training that was tested."""
    handed: Who
    why: str
    quiet: Quiet
    """What is handed over."""
    returns: dict[str, list[float]] = field(default_factory=dict)
    """Of the paired episodes."""
    seeds: tuple[int, ...] = ()
    other: dict[str, list[float]] = field(default_factory=dict)
    """Returns in the other mode, of what is handed over and of what it was compared with."""
    over: Gain | None = None
    """Over the agent before."""
    over_trunk: Gain | None = None
    """None where the finalist is the trunk, or nothing was tested."""


def standing(
    returns: dict[str, list[float]],
    over: Gain,
    over_trunk: Gain | None,
    winner: str,
    plain: str = "plain PPO",
    rise: float = 0.0,
    level: float = 0.05,
) -> tuple[list[Who], str]:
    """Who may be handed over by the paired episodes, the best first, the agent before last; and why the first.

    Args:
        rise: by how many standard errors plain PPO's episodes in training return more in the end than the agent's.
        level: one-sided, from which that is evidence.
    """
    gains = [g for g in (over, over_trunk) if g is not None]
    plain_returns = returns.get("trunk", returns["finalist"])
    pairs = stands_out(plain_returns, returns["original"])
    bound = float(stats.norm.isf(level))
    trained = rise > bound and float(np.mean(plain_returns)) > float(np.mean(returns["original"]))
    better = rise > -bound and (pairs or trained)
    rest: list[Who] = ["trunk", "original"] if better else ["original"]
    if is_better(over) and (over_trunk is None or over_trunk.mean >= 0):
        surely = over_trunk is not None and is_better(over_trunk)
        than = "the agent before" + (f" and {plain}" if surely else "")
        no_less = "" if over_trunk is None or surely else f", and it returns no less than {plain}"
        return ["finalist", *rest], f"in paired episodes it is better than {than}: {_words(over)}{no_less}"
    why = f"{winner} was not shown to be better ({_words(*gains)})"
    if trained and not pairs:
        return rest, f"{why}; {plain} returns more than the agent before, and surely so in its episodes in training"
    if pairs and not better:
        return rest, f"{why}; {plain} returns more, but surely less than the agent before in its episodes in training"
    does = "returns" if better else "does not return"
    return rest, f"{why}; {plain} {does} more than the agent before by over a standard error of the difference"


def _rest(handed: Who, returns: dict[str, list[float]]) -> list[Who]:
    """Who must not be better than what is handed over in the other mode."""
    return ["original", "trunk"] if handed == "finalist" and "trunk" in returns else ["original"]


def affordable(room: int, episode: int, players: int, known: int, most: int) -> int:
    """How many pairs so many environment steps pay for, if episodes are as long as they may be.

    Args:
        players, known: as `episodes_of` takes them.
        most: no more than these.
    """
    return max((n for n in range(1, most + 1) if episodes_of(n, players, max(0, known)) * episode <= room), default=0)


def _noise(quiet: Quiet) -> str:
    if quiet.share == 1.0:
        return ""
    return f"; with {quiet.share:g} of its noise, which is best in sampled play"


def _words(*gains: Gain) -> str:
    return ", ".join(
        f"{g.mean:+.4g}, lower bound {g.low:.4g}, {g.pairs} pairs" if g.low is not None else f"{g.mean:+.4g}, one pair"
        for g in gains
    )
