"""The end of a race: the last test, what is handed over by it, and what is kept of the budget for that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unstuck.config import RaceConfig, TrainConfig
from unstuck.guide.plan import Plan
from unstuck.paired import gain, is_better, is_worse
from unstuck.playing import Arena, Played
from unstuck.race import finals, legs
from unstuck.race.competitors import competitor
from unstuck.race.entry import Entry
from unstuck.race.finals import Finals, standing
from unstuck.race.quiet import Quiet
from unstuck.race.reserve import MOST_PAIRS, Reserve, episodes_of, pairs_to_show, reserve, unshown
from unstuck.race.track import Track


def test_only_what_is_surely_better_is_better() -> None:
    assert is_better(gain([3.0, 3.1, 2.9], [1.0, 1.1, 1.0], 0.05))
    assert not is_better(gain([3.0, -1.0, 2.9], [1.0, 1.1, 1.0], 0.05))
    assert not is_better(gain([3.0], [1.0], 0.05))
    assert not is_better(gain([1.0, 1.0], [1.0, 1.0], 0.05))


@pytest.mark.parametrize(
    ("returns", "handed"),
    [
        ({"finalist": [9, 9.1, 9.2], "trunk": [5, 5.2, 5], "original": [1, 1.1, 1]}, ["finalist", "trunk", "original"]),
        # Better than the agent before, but not than plain PPO: plain PPO it is.
        ({"finalist": [9, 1, 9], "trunk": [5, 5.2, 5], "original": [1, 1.1, 1]}, ["trunk", "original"]),
        ({"finalist": [9, 1, 9], "trunk": [0, 0, 0], "original": [1, 1.1, 1]}, ["original"]),
        # Better than the agent before, and it returns more than plain PPO, by how little or surely ever.
        ({"finalist": [9, 9, 9.1], "trunk": [9, 5, 9], "original": [1, 1.1, 1]}, ["finalist", "trunk", "original"]),
        ({"finalist": [9, 9, 9.1], "trunk": [1, 0, 15], "original": [1, 1.1, 1]}, ["finalist", "original"]),
        ({"finalist": [9, 9, 9.1], "trunk": [9, 9.1, 9.1], "original": [1, 1.1, 1]}, ["trunk", "original"]),
        # It returns more, but in episodes as different as these that says nothing.
        ({"finalist": [9, 1, 9], "trunk": [90, 10, 35], "original": [40, 30, 40]}, ["original"]),
        # The finalist is plain PPO itself.
        ({"finalist": [3, 1, 2], "original": [1, 1.1, 1]}, ["trunk", "original"]),
        ({"finalist": [3, 0, 1], "original": [1, 1.1, 1]}, ["original"]),
        ({"finalist": [3], "original": [1]}, ["original"]),
        ({"finalist": [0, 0, 0.1], "original": [1, 1.1, 1]}, ["original"]),
    ],
)
def test_never_worse(returns: dict[str, list[float]], handed: list[str]) -> None:
    over = gain(returns["finalist"], returns["original"], 0.05)
    over_trunk = gain(returns["finalist"], returns["trunk"], 0.05) if "trunk" in returns else None
    assert standing(returns, over, over_trunk, "afresh")[0] == handed


@pytest.mark.parametrize(
    ("trunk", "rise", "handed"),
    [
        ([90, 10, 35], 0.0, "original"),  # some gain, by less than its standard error
        ([90, 10, 35], 3.0, "trunk"),  # and it surely returns more in training
        ([90, 10, 10], 3.0, "original"),  # no gain at all
        ([70, 20, 65], 0.0, "trunk"),
        ([70, 20, 65], -3.0, "original"),  # it surely returns less in training
    ],
)
def test_many_episodes_in_training_say_what_few_pairs_do_not(trunk: list[float], rise: float, handed: str) -> None:
    original = [40.0, 30.0, 40.0]
    returns = {"finalist": trunk, "original": original}
    assert standing(returns, gain(trunk, original, 0.05), None, "continue", rise=rise)[0][0] == handed


@pytest.mark.parametrize(("level", "handed"), [(0.05, "trunk"), (0.01, "original")])
def test_how_sure_episodes_in_training_must_be_is_the_level_of_the_race(level: float, handed: str) -> None:
    trunk, original = [90.0, 10.0, 35.0], [40.0, 30.0, 40.0]
    returns = {"finalist": trunk, "original": original}
    found = standing(returns, gain(trunk, original, level), None, "continue", rise=2.0, level=level)
    assert found[0][0] == handed


@pytest.mark.parametrize(
    ("late", "sign"), [([250.0, 240.0, 260.0], 1), ([150.0, 160.0, 140.0], 0), ([50.0, 60.0, 40.0], -1)]
)
def test_episodes_in_training_are_compared_with_those_of_the_agent(late: list[float], sign: int) -> None:
    """The agent's are the collected sampled ones, and those in which only the critic learns."""

    class _Trained(Track):
        run = SimpleNamespace(config=SimpleNamespace(train=TrainConfig(critic_warmup=6_000)))  # type: ignore[assignment]
        space = SimpleNamespace(agent=SimpleNamespace(algorithm="PPO"))  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

        def given(self, mode: Any) -> dict[int, float]:
            return {0: 130.0, 1: 170.0} if mode == "sampled" else {0: 1e6}

        def training_curve(self, entry: Entry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            steps = [2_000, 4_000, 6_000, 10_000, 81_000, 90_000, 100_000, 110_000]
            means = [150.0, 140.0, 160.0, -1e6, *late, 1e6]
            return np.array(steps), np.array(means), np.array([2, 3, 2, 9, 4, 4, 5, 9])

    rise = _Trained().rise(Entry(competitor("continue"), Plan(), None), 100_000)
    assert np.sign(rise) == sign if abs(rise) > 1.645 else sign == 0


@pytest.mark.parametrize(
    ("modes", "missing", "shown"),
    [
        ([[219.0, 196.0, 224.0, 216.0, 220.0, 238.0], [250.0, 68.0, 240.0, 276.0, 232.0, 62.0]], 90.0, False),
        ([[219.0, 196.0, 224.0, 216.0, 220.0, 238.0], [210.0, 220.0, 190.0]], 90.0, True),
        ([[250.0, 68.0, 240.0, 276.0, 232.0, 62.0], []], 90.0, False),
        ([[250.0, 68.0, 240.0, 276.0, 232.0, 62.0], []], 900.0, True),
        # It returned 131 deterministic by luck, as an A2C agent of LunarLander does that returns -41 in twenty.
        ([[250.0, 68.0, 240.0, 276.0, 232.0, 62.0], [60.0, -120.0, 100.0, -150.0, 90.0, -92.0]], 90.0, True),
        ([[250.0, 68.0], [250.0, 68.0]], 90.0, True),  # too few to say by how much they vary
        ([[250.0, 68.0, 240.0], []], -5.0, True),  # it lacks nothing
        ([[250.0, 68.0, 240.0], []], float("nan"), True),  # as a file may say that others made
        ([[250.0, float("inf"), 240.0], []], 90.0, True),
        ([[250.0, 68.0, 240.0], []], 1e-300, False),
    ],
)
def test_whether_half_of_what_is_missing_could_be_shown(modes: Any, missing: float, shown: bool) -> None:
    """In which mode they vary more counts: six episodes may be alike by chance."""
    kept = reserve(90_000, 1_000, 0.06)
    found, whole = unshown(modes, 400.0, missing, kept)
    assert (not found) == shown
    assert whole or not shown
    assert shown or "vary by" in found
    many = reserve(2_000_000, 1_000, 0.06)
    assert not unshown(modes, 40.0, max(450.0, 5 * missing), many)[0], "a budget that pays for many pairs"


@pytest.mark.parametrize(
    ("missing", "half", "whole"), [(40.0, False, False), (110.0, False, True), (900.0, True, True)]
)
def test_all_that_is_missing_is_shown_where_half_of_it_is_not(missing: float, half: bool, whole: bool) -> None:
    why, found = unshown([[250.0, 68.0, 240.0, 276.0, 232.0, 62.0], []], 400.0, missing, reserve(90_000, 1_000, 0.06))
    assert (not why, found) == (half, whole)


def test_only_what_is_surely_worse_is_worse() -> None:
    assert is_worse([1.0, 1.1, 0.9], [3.0, 3.1, 2.9], 0.05)
    assert not is_worse([3.0, 3.1, 2.9], [1.0, 1.1, 0.9], 0.05)
    assert not is_worse([1.0, 5.0, 0.9], [3.0, 3.1, 2.9], 0.05)
    assert not is_worse([1.0], [3.0, 3.1], 0.05)
    assert is_worse([1.0, 1.0], [2.0, 2.0], 0.05)
    assert not is_worse([2.0, 2.0], [2.0, 2.0], 0.05)


class _Finals(Finals):
    """One whose episodes are given."""

    def __init__(self, paired: dict[str, list[float]], other: dict[str, list[float]], shares: dict[str, float]) -> None:
        class _T:
            config, alone, left, episode = RaceConfig(treatments=("continue", "afresh")), False, 10**6, 10
            trainer, reserve = "SAC", Reserve(10**6, (1.0, 0.3, 0.1), 5, 10)

        super().__init__(_T(), Entry(competitor("afresh"), Plan(), None), 1)  # type: ignore[arg-type]
        self.others, self.shares, self.returns, self.kept_steps = other, shares, paired, []

    def play_pairs(self, kept: int) -> None:
        self.kept_steps.append(kept)

    def rise(self) -> float:
        return 0.0

    def _quieted(self, who: Any) -> Quiet:
        return Quiet(Path(who), self.shares.get(who, 1.0), tuple(self.others[who]))

    def other(self, who: Any) -> list[float]:
        return self.others[who]


@pytest.mark.parametrize(
    ("finalist", "trunk", "original", "handed"),
    [
        ([9, 9.1, 9.2], [8, 8, 8.1], [1, 1.1, 1.0], "finalist"),
        # Plain PPO is better in sampled play.
        ([5, 5.1, 5.2], [8, 8, 8.1], [1, 1.1, 1.0], "trunk"),
        # So is the agent as it was given, and than plain PPO too.
        ([5, 5.1, 5.2], [8, 8, 8.1], [9, 9.1, 9.2], "original"),
        ([5, 9.0, 1.0], [8, 8, 8.1], [9, 9.1, 1.0], "finalist"),  # not surely worse
    ],
)
def test_never_worse_in_the_other_mode(
    finalist: list[float], trunk: list[float], original: list[float], handed: str
) -> None:
    paired = {"finalist": [9, 9.1, 9.2], "trunk": [5, 5.2, 5], "original": [1, 1.1, 1]}
    other = {"finalist": finalist, "trunk": trunk, "original": original}
    test = _Finals(paired, other, {"trunk": 0.3})
    outcome = test.run()
    assert outcome.handed == handed
    # At first all is kept for the other mode; then five episodes of the trunk, and two for each share of who leads.
    assert test.kept_steps == [200, 50 + 60]
    assert outcome.quiet.share == (0.3 if handed == "trunk" else 1.0)
    assert ("0.3 of its noise" in outcome.why) == (handed == "trunk")
    assert ("in sampled play" in outcome.why) == (handed != "finalist")
    assert "plain SAC" in outcome.why


@pytest.mark.parametrize("budget", [10_000, 24_000, 92_000, 500_000])
@pytest.mark.parametrize("episode", [50, 1000])
def test_what_is_kept_for_the_end(budget: int, episode: int) -> None:
    kept = reserve(budget, episode, 0.06)
    assert kept.other <= 0.07 * budget
    assert kept.pairs <= max(2 * episode, 0.12 * budget)
    if budget >= 90_000:
        assert kept.sampled >= 2


def test_where_returns_vary_more_pairs_are_kept() -> None:
    assert pairs_to_show(2000.0, 100.0) == 1
    assert pairs_to_show(50.0, 100.0) == 25
    assert pairs_to_show(10.0, 100.0) == 0  # 625: no test has as many, so nothing is kept for them
    assert pairs_to_show(30.0, 100.0) == 0  # 70
    assert pairs_to_show(50.0, 100.0, long=True) == MOST_PAIRS  # 44
    assert pairs_to_show(100.0, 100.0, long=True) == 11
    assert pairs_to_show(30.0, 100.0, long=True) == MOST_PAIRS  # they show it in every other test
    assert pairs_to_show(25.0, 100.0, long=True) == 0  # 100
    assert pairs_to_show(0.0, 100.0) == pairs_to_show(-5.0, 1.0) == pairs_to_show(5.0, float("nan")) == 0
    kept = reserve(100_000, 1000, 0.06)
    assert kept.needed(1000) == kept.needed(1000, 2) == kept.needed(1000, 5, known=6) == kept.steps
    assert kept.needed(1000, 8, known=8) == kept.steps + 6_000
    assert kept.needed(1000, 8, players=1, known=8) == kept.steps  # plain PPO is the winner, so one plays less
    assert kept.needed(1000, 40) == kept.steps + 10_000  # a fifth of the budget at most
    assert kept.needed(300, 8, known=8) == kept.needed(1000, 8, known=8)


def test_where_the_gain_is_sure_fewer_pairs_are_kept() -> None:
    kept = reserve(100_000, 1000, 0.06)
    assert kept.needed(1000, 1, known=6) == kept.steps - 4_000 == 6_000 + kept.other
    assert kept.needed(1000, 1, players=1, known=6) == 3_333 + kept.other
    long = reserve(500_000, 1000, 0.06)
    assert long.needed(1000, 1, known=6) == 10_000 + long.other


def test_what_the_agent_has_played_already_costs_nothing() -> None:
    assert episodes_of(8, players=1, known=6) == 10  # plain PPO is the winner: it and the agent before
    assert episodes_of(8, players=2, known=6) == 18
    assert episodes_of(4, players=2, known=6) == 8


class _Paying:
    """A track that counts what is played."""

    def __init__(self, left: int, episode: int, collected: int) -> None:
        self.budget, self.episode, self.seed = left, episode, 1
        self.spent = {"judge": 0}
        self.reserve = Reserve(left, (1.0,), 1, episode)
        self.config, self.alone = RaceConfig(treatments=("continue", "afresh")), False

        class _Episode:
            deterministic = True

            def __init__(self, seed: int, whole: bool = True) -> None:
                self.seed, self.whole, self.total_reward = seed, whole, 5.0 if whole else -1.0

        class _Space:
            # What collecting cut has no return to be compared with.
            episodes, agent = [_Episode(900, whole=False), *map(_Episode, range(collected))], "original"

        self.space, self.home = _Space, Path("race")

    @property
    def left(self) -> int:
        return self.budget - sum(self.spent.values())

    given = Track.given

    def mark(self, *parts: Any) -> str:
        return repr(parts)


def _paying(left: int, length: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Finals, list[int]]:
    """A race with so many steps left for pairs, 1,000 for the other mode and episodes of so many steps, which may be of
    500; and, as they are played, the pairs of each round."""
    track, played = _Paying(left + 1_000, 500, collected=3), []

    def play(space: Any, agent: str, seeds: list[int], mode: str) -> tuple[list[float], int]:
        if agent != "original":
            played.append(len(seeds))
        return [9.0 if agent != "original" else 5.0 for _ in seeds], length * len(seeds)

    monkeypatch.setattr(finals, "play", play)
    monkeypatch.setattr(finals, "load_agent", str)
    monkeypatch.setattr(finals, "weights_mark", str)
    monkeypatch.setattr(finals, "cell", lambda folder, mark, work: work(folder))
    trunk = Entry(competitor("continue"), Plan(), None)
    track.entries = [trunk]  # type: ignore[attr-defined]
    monkeypatch.setattr(Finals, "path", lambda self, who: Path(who))
    return track, Finals(track, trunk, 1), played  # type: ignore[arg-type]


@pytest.mark.parametrize(("left", "pairs"), [(400, [2]), (-400, [1]), (-800, [])])
def test_where_nothing_is_left_for_pairs_they_come_before_the_other_mode(
    monkeypatch: pytest.MonkeyPatch, left: int, pairs: list[int]
) -> None:
    """Episodes got longer than was foreseen."""
    track, test, played = _paying(left, 500, monkeypatch)
    test.play_pairs(track.reserve.other)
    assert played == pairs
    assert track.left >= 0


@pytest.mark.parametrize(
    ("left", "length", "pairs"),
    [
        (6_000, 500, [7]),  # episodes as long as they may be: all is paid for at once
        (6_000, 100, [7, 4, 4, 3, 2, 2, 1, 1, 1, 1, 1]),  # and where they are short, what they left is played with too
        (200_000, 100, [40]),  # but not more than anybody needs
    ],
)
def test_pairs_are_played_until_what_is_kept_for_them_is_spent(
    monkeypatch: pytest.MonkeyPatch, left: int, length: int, pairs: list[int]
) -> None:
    track, test, played = _paying(left, length, monkeypatch)
    test.play_pairs(track.reserve.other)
    assert played == pairs
    assert len(test.seeds) == len(set(test.seeds)) == sum(pairs)
    assert 900 not in test.seeds
    assert test.returns == {"finalist": [9.0] * sum(pairs), "original": [5.0] * sum(pairs)}
    assert track.left >= track.reserve.other  # the other mode has what was kept for it
    played.clear()
    test.play_pairs(track.reserve.other)
    assert not played
    test.play_pairs(0)
    assert len(test.seeds) == len(set(test.seeds)) == sum(pairs) + sum(played)
    assert sum(pairs) < len(test.seeds) <= MOST_PAIRS or sum(pairs) == MOST_PAIRS, "what is not needed pays for more"


@pytest.mark.parametrize(("length", "kept"), [(500, 1.0), (100, 0.4), (300, 1.0)])
def test_what_is_kept_for_the_other_mode_goes_by_how_long_the_pairs_were(
    monkeypatch: pytest.MonkeyPatch, length: int, kept: float
) -> None:
    """Twice as long, and no longer than they may be."""
    track, test, _ = _paying(6_000, length, monkeypatch)
    whole = test._kept
    test.play_pairs(track.reserve.other)
    assert whole > 0
    assert test._kept == int(kept * whole)


@pytest.mark.parametrize(("length", "episodes"), [(1000, 2), (600, 2), (300, 4), (100, 5)])
def test_where_episodes_are_short_more_are_evaluated_and_never_more_than_is_kept(
    length: int, episodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class _Arena(Arena):
        def play(self, agent: Any, seeds: Any, modes: Any = (), look: Any = None) -> dict[Any, Played]:
            return dict.fromkeys(modes, Played(tuple(map(float, seeds)), length * len(seeds), 0))

    monkeypatch.setattr(legs, "Arena", _Arena)
    space: Any = SimpleNamespace(make_env=None)
    leg: Any = SimpleNamespace(seeds=(1, 2), spare=(3, 4, 5), longest=1000, mode="deterministic")
    returns, steps = legs._evaluated(space, None, leg, None)  # type: ignore[arg-type]
    assert returns == [1.0, 2.0, 3.0, 4.0, 5.0][:episodes]
    assert steps == length * episodes <= 2000
