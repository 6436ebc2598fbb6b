"""The agent to use after a run: RUN/agent.zip, with its statistics, and RUN/verdict.json.

How it is chosen, by the scores of evaluation (deterministic actions, as agents are mostly deployed):

1. The arm with the highest mean over its seeds, PPO continued included; the agent as it was given, if no arm's mean is
   above its own.
2. Of that arm the seed with the highest mean over its late checkpoints.
3. Of that seed the late checkpoint with the highest mean return; of equal ones the last.
4. It is handed over only if it passed the last test of evaluation: fresh paired episodes show that it is better than
   the agent before, and it is not worse in sampled play. Else the agent before is.

Where the run was a race, its own test chose already, within the budget of steps; of several seeds the one is taken
whose test shows the largest gain. Evaluation has a say in one case: PPO was continued beside it with the whole budget,
and returns more in evaluation, with a 95 % interval (Welch's) of the difference above zero. Then PPO continued it is.

The best of several is somewhat lucky, so the numbers that are told are the arm's over all seeds, not the file's own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from unstuck.contender import MODE, Chosen, choose, files_of, races_of, subject_of
from unstuck.errors import RunError
from unstuck.results import (
    BEFORE,
    CONTROL,
    DEPLOYED,
    STATISTICS,
    VERDICT,
    Gain,
    RaceVerdict,
    Returns,
    RunVerdict,
    Scores,
    Spread,
)
from unstuck.run import Run, digest
from unstuck.stages.evaluate import SCORES
from unstuck.stats import Interval, difference_interval


def hand_over(run: Run) -> RunVerdict | None:
    """Choose the agent to use, put it at the top of the run folder, and write the verdict; None before evaluation.

    Raises:
        RunError: if its file is gone, or the folder cannot be written.
    """
    if not (run.root / SCORES).exists():
        return None
    scores = Scores.read(run.root / SCORES)
    if not scores.arms:
        return None
    raced = _raced(run, scores)
    found, race = raced or (_tested(scores), None)
    why = race.why if race else _why(scores, found)
    if race and (better := _control_instead(scores, found, race)):
        found, why = better
    agent, statistics = files_of(run, found)
    verdict = _verdict(run, scores, found, race, why, statistics is not None)
    if _is_there(run, verdict, agent, statistics):
        return verdict
    # The verdict comes last: where there is one, its agent is in place.
    (run.root / VERDICT).unlink(missing_ok=True)
    _copy(agent, run.root / DEPLOYED)
    _copy(statistics, run.root / STATISTICS)
    verdict.write(run.root / VERDICT)
    return verdict


def _verdict(
    run: Run, scores: Scores, found: Chosen, race: RaceVerdict | None, why: str, statistics: bool
) -> RunVerdict:
    subject = subject_of(run, scores)
    return RunVerdict(
        chosen=found.arm, seed=found.seed, trained=found.trained, mode=MODE, subject=subject,
        returns={name: Spread.of(interval) for name, interval in _returns(scores).items()},
        differences={name: Spread.of(d) for name, d in differences(scores, subject).items()},
        statistics=statistics, why=why, race=race, test=None if race else scores.test,
    )  # fmt: skip


def _is_there(run: Run, verdict: RunVerdict, agent: Path, statistics: Path | None) -> bool:
    """Whether just this was handed over before."""
    held = run.root / VERDICT
    try:
        same = held.exists() and RunVerdict.read(held) == verdict
    except RunError:
        return False
    pairs = [(agent, run.root / DEPLOYED), *([(statistics, run.root / STATISTICS)] if statistics else [])]
    return same and all(there.exists() and digest(source) == digest(there) for source, there in pairs)


def _raced(run: Run, scores: Scores) -> tuple[Chosen, RaceVerdict] | None:
    """What a race of the subject handed over; None where there was none."""
    found = [(RaceVerdict.read(path), facts.checkpoints[-1].trained) for facts, path in races_of(run, scores)]
    if not found:
        return None
    arm = subject_of(run, scores)
    race, trained = max(found, key=lambda each: each[0].height)
    as_given = race.handed == "original" and race.noise == 1.0
    return (Chosen(BEFORE) if as_given else Chosen(arm, race.seed, trained)), race


def _control_instead(scores: Scores, found: Chosen, race: RaceVerdict) -> tuple[Chosen, str] | None:
    """The control's best policy and why, where it is better than what a race hands over; None where it is not."""
    if CONTROL not in scores.arms:
        return None
    seeds = scores.arms[CONTROL].seeds
    seed = max(sorted(seeds), key=lambda s: seeds[s].score(race.mode))
    point = seeds[seed].checkpoints[-1]
    handed: Returns = scores.before
    if found.seed is not None:
        handed = next(c for c in scores.arms[found.arm].seeds[found.seed].checkpoints if c.trained == found.trained)
    ours, theirs = point.of(race.mode), handed.of(race.mode)
    gain = difference_interval(ours, theirs)
    if gain.low is None or gain.low <= 0:
        return None
    return Chosen(CONTROL, seed, point.trained), (
        f"continued with the whole budget it returns more than what the race hands over ({race.name}): "
        f"{gain.mean:+.4g} [{gain.low:.4g}, {gain.high:.4g}] in {len(ours)} and {len(theirs)} episodes"
    )


def _tested(scores: Scores) -> Chosen:
    """The best of what was trained, if its last test shows that it is better; else the agent before."""
    return Chosen(BEFORE) if scores.test is not None and not scores.test.passed else choose(scores)


def differences(scores: Scores, subject: str) -> dict[str, Interval]:
    """Return of the subject less that of the agent before (Welch, seeds against episodes) and of every other arm."""
    own = scores.arms[subject].per_seed(MODE)
    others = {BEFORE: scores.before.of(MODE)}
    others |= {arm: scores.arms[arm].per_seed(MODE) for arm in scores.arms if arm != subject}
    found = {name: difference_interval(own, theirs) for name, theirs in others.items()}
    # One seed has no spread over seeds, whatever the episodes before had.
    return {name: d if len(own) > 1 else Interval(d.mean, None, None, 1) for name, d in found.items()}


def _returns(scores: Scores) -> dict[str, Interval]:
    return {BEFORE: scores.interval_before(MODE)} | {arm: scores.interval(arm, MODE) for arm in scores.arms}


def _copy(source: Path | None, target: Path) -> None:
    """In place of the target, whole or not at all; without a source, the target goes."""
    try:
        if source is None:
            target.unlink(missing_ok=True)
            return
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    except OSError as error:
        raise RunError(f"cannot put {source} at {target}: {error.strerror or error}") from error


def _why(scores: Scores, found: Chosen) -> str:
    test = scores.test
    gain = "" if test is None else f"{_gain(test.over_before)} in {test.over_before.pairs} fresh paired episodes"
    if found.arm == BEFORE:
        if test is None:
            return "no arm has a higher mean return than the agent as it was given"
        if not test.worse:
            return f"the best of what was trained ({test.arm}) was not shown to be better: {gain}"
        return f"the best of what was trained ({test.arm}, {gain}) is worse in sampled play"
    seeds, points = len(scores.arms[found.arm].seeds), len(scores.arms[found.arm].seeds[found.seed or 0].checkpoints)
    of = f"the best of {seeds} seeds" if seeds > 1 else "its only seed"
    which = "its best late checkpoint" if points > 1 else "its last policy"
    why = f"the arm with the highest mean return, {of}, {which}"
    return f"{why}; better than before: {gain}" if gain else why


def _gain(gain: Gain) -> str:
    return f"{gain.mean:+.4g}" + ("" if gain.low is None else f", lower bound {gain.low:.4g},")
