"""The episodes of the last test: the finalist, the trunk and the agent before, on the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unstuck.agents import load_agent
from unstuck.race.competitors import TRUNK
from unstuck.race.entry import Entry
from unstuck.race.legs import cell, play
from unstuck.race.track import Track

TEST_SEED = 4_000_000
"""Seed of the first test episode beyond the collected ones."""
MOST_PAIRS = 40


def play_pairs(track: Track, winner: Entry, finalist: int) -> dict[str, Any]:
    """Returns of paired episodes: finalist, trunk (unless it is the finalist), original; and their seeds."""
    if track.alone:
        return {}
    trunk = next(e for e in track.entries if e.name == TRUNK)
    deterministic = track.config.mode == "deterministic"
    known = {e.seed: e.total_reward for e in track.space.episodes if e.deterministic == deterministic}
    extra = [TEST_SEED + 1000 * (track.seed % 1000) + i for i in range(MOST_PAIRS)]
    seeds = [*known, *extra][: affordable(track, len(known), winner is trunk)]
    mark = track.mark("test", winner.name, finalist, trunk.trained, seeds)

    def work(draft: Path) -> dict[str, Any]:
        found: dict[str, list[float]] = {}
        steps = 0
        players = {"finalist": track.agent_of(winner, finalist)}
        if winner is not trunk:
            players["trunk"] = track.agent_of(trunk, trunk.trained)
        for name, path in players.items():
            found[name], taken = play(track.space, load_agent(path), seeds, track.config.mode)
            steps += taken
        more = [s for s in seeds if s not in known]
        returns, taken = play(track.space, track.space.agent, more, track.config.mode)
        found["original"] = [known[s] for s in seeds if s in known] + returns
        return {"returns": found, "seeds": seeds, "taken": steps + taken}

    tested = cell(track.home / "test", mark, work)
    track.spent["judge"] += tested["taken"]
    return tested


def affordable(track: Track, known: int, is_trunk: bool) -> int:
    """How many pairs what is left pays for; those of the agent before that were collected cost nothing."""
    players = 1 if is_trunk else 2
    best = 0
    for n in range(1, MOST_PAIRS + 1):
        if (players * n + max(0, n - known)) * track.episode <= track.left:
            best = n
    return best
