"""The winner's training with what is left: in stretches, and whoever is not ahead after one gives way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unstuck.race.competitors import TRUNK
from unstuck.race.entry import Entry
from unstuck.race.reserve import pairs_to_show
from unstuck.race.schedule import optimistic
from unstuck.race.track import Track


def finish(track: Track, winner: Entry, rivals: list[Entry], untried: Sequence[Entry] = ()) -> tuple[Entry, int]:
    """Train the winner with what is left; where it is not ahead at a check, the best of its rivals goes on in its
    place. Where it goes on from the agent and is still no better after the first of several stretches, what begins from
    the bottom has the rest, if it was not tried.

    Returns:
        whose agent is the finalist, and after how many steps of its training: the best of all that were evaluated.
    """
    raced = [winner, *rivals]
    count, stretches = (0, (1,)) if track.alone else (track.episodes, track.stretches)
    for number, part in enumerate(stretches):
        points = len(stretches) - number
        room = track.left if track.alone else track.left - kept(track, winner) - points * count * track.episode
        steps = track.at_most(room * part / sum(stretches[number:]))
        if steps < track.quantum:
            continue
        track.train([winner], winner.trained + steps, count)
        checked = part == max(stretches) and points > 1
        time = points > 2 or winner.competitor.quick  # to pass those that it is still below
        if checked and rivals and (better := ahead_of(track, winner, rivals, patient=number == 0 and time)):
            winner, rivals = better, []
        if number == 0 and track.long and untried and _flat(track, winner):
            winner, rivals = _from_the_bottom(track, winner, untried[0]), []
            raced.append(winner)
    if track.alone:
        return winner, winner.trained
    judged = [(float(np.mean(r)), e is winner, stop, e) for e in raced for stop, r in e.points if r]
    if not judged:
        return winner, winner.trained
    level, _, stop, best = max(judged, key=lambda each: each[:3])
    best.rank = best.rank.model_copy(update={"status": "winner", "level": level, "note": ""})
    if best is not winner:
        winner.out(f"returns {float(np.mean(winner.points[-1][1])):.4g}, {best.name} {level:.4g}")
    return best, stop


def kept(track: Track, winner: Entry) -> int:
    """Environment steps that are not trained with: what the end needs, by how long the winner's episodes are."""
    length = winner.episode_length
    players, known = 1 if winner.name == TRUNK else 2, len(track.given(track.config.mode))
    pairs = pairs_to_show(*_gained(track, winner), track.long)
    return track.reserve.needed(track.episode if length is None else length, pairs, players, known)


def _gained(track: Track, winner: Entry) -> tuple[float, float]:
    """What the winner returns more than the agent before, by its latest episodes, and the standard deviation of such a
    difference between two episodes; it varies as it did at all of its points."""
    points = [np.asarray(returns) for _, returns in winner.points if returns]
    before = np.asarray(list(track.given(track.config.mode).values()))
    if not points or len(before) < 2:
        return 0.0, 0.0
    free = sum(len(p) - 1 for p in points)
    own = sum(float(((p - p.mean()) ** 2).sum()) for p in points) / free if free else 0.0
    return float(points[-1].mean()) - track.before[0], float(np.sqrt(own + before.var(ddof=1)))


def _flat(track: Track, entry: Entry) -> bool:
    """Whether it goes on from the agent, and returns no more than that did."""
    if entry.competitor.late or not entry.points:
        return False
    return float(np.mean(entry.points[-1][1])) <= track.before[0] + track.slack


def _from_the_bottom(track: Track, winner: Entry, late: Entry) -> Entry:
    level = float(np.mean(winner.points[-1][1]))
    winner.out(f"still returns {level:.4g} after {winner.trained:,} steps, the agent before {track.before[0]:.4g}")
    late.back()
    track.ready([late])
    track.show(f"{late.name} is tried after all")
    return late


def ahead_of(track: Track, winner: Entry, rivals: Sequence[Entry], patient: bool) -> Entry | None:
    """The rival that is heading higher than the winner has come; None where there is none. What began from the bottom
    may still be below, where `patient`, as long as it climbs fast enough to pass."""
    heading, rival = max(((track.heading(e), e) for e in rivals), key=lambda each: each[0])
    returns = [r for _, some in winner.points[-2:] for r in some]
    if winner.competitor.late:
        reach = _reach(track, winner) if patient else float(np.mean(winner.points[-1][1]))
    else:
        # What it did at its two latest points; to be a little below by chance is no reason to turn back.
        reach = float(np.mean(returns)) + track.slack
    if reach >= heading:
        return None
    winner.out(f"at best heading for {reach:.4g}, {rival.name} for {heading:.4g}")
    rival.back()
    track.show(f"{rival.name} goes on after all")
    return rival


def _reach(track: Track, entry: Entry) -> float:
    """Where it would be after all that is left, by its own curve at best, or by its last two evaluations."""
    end = entry.trained + max(0, track.left - kept(track, entry))
    points = [(stop, float(np.mean(returns))) for stop, returns in entry.points]
    (x, before), (y, level) = points[-2:] if len(points) > 1 else (points[-1], points[-1])
    line = level + max(0.0, (level - before) / max(1, y - x)) * (end - y)
    return max(line, track.reach(entry) if entry.competitor.quick else optimistic(track.curve(entry), end))
