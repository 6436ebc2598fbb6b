"""The stage: advice.json → branches of the simulator → guidance.json with a verdict for each piece of advice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from unstuck.branching.branches import Attempt, Start
from unstuck.config import VerifyConfig
from unstuck.errors import GuidanceError
from unstuck.guidance import Advice, Guidance, Verdict, load_guidance, save_guidance
from unstuck.matching import Matcher, Terms
from unstuck.methods import make_plan, setting_of
from unstuck.progress import Bar, Progress
from unstuck.run import Draft, Run, alone, digest, write_json
from unstuck.stages.verify.brancher import Brancher
from unstuck.stages.verify.judge import Trial, counts, judge
from unstuck.stages.verify.starts import (
    at_evidence,
    completed,
    evidence_problems,
    noise_seed,
    starts_for,
)
from unstuck.stages.verify.terms import check_terms
from unstuck.views import View, same_returns, views_of
from unstuck.workspace import Workspace

NOT_TOGETHER = (
    "executed together in whole episodes, the suggested actions do not raise the return; so only reward terms enter "
    "training (--verify.what all tries each by itself)"
)
RETURN_STEPS, PROGRESS_STEPS = 100, 20
"""Default horizons. Over more than about 20 steps a policy that is stuck undoes what an action brought."""
SET_SHARE = 0.25
"""Part of the budget that is kept for the check of the set."""
SCREENING = 2
"""Pairs of whole episodes after which a set that does not raise every return is given up."""
BRANCHES = 16
"""Environments in lockstep, at most."""


def fingerprint(run: Run) -> str:
    """What the verdicts depend on."""
    config = run.config
    collected = run.record("collect").fingerprint
    try:
        # What is tried hangs on how it is to be used, and on no other setting of training.
        use = _trial(Workspace(run), load_guidance(run.advice_path))
    except GuidanceError:
        use = "unknown"  # the stage itself says what is wrong
    return digest(run.advice_path, config.verify, use, config.task, collected, run.agent_path, run.vecnormalize_path)


@alone
def verify(run: Run, progress: Progress | None = None) -> Guidance:
    """Try the advice of RUN/advice.json in the simulator and write RUN/guidance.json.

    Beside it, RUN/verify/branches.json has every pair of branches, and where the reward terms fire.

    Raises:
        RunError: if there are no episodes or no advice yet.
        GuidanceError: if the advice (which may have been edited) is not valid or does not fit the task or the
            collected episodes; names the field.
    """
    space, progress = Workspace(run), progress or Progress.silent()
    mark = fingerprint(run)
    card = space.describer.card
    if run.done("verify", mark) and run.guidance_path.exists():
        return load_guidance(run.guidance_path, card)
    if not run.advice_path.exists():
        run.record("explain")  # says which command to run
    guidance = load_guidance(run.advice_path, card)
    seen = views_of(space.episodes, space.describer)
    if found := evidence_problems(guidance, seen):
        raise GuidanceError(f"{run.advice_path} does not fit the collected episodes:\n" + "\n".join(found))
    guidance = completed(guidance, seen, card.variable_names)
    with run.stage("verify", mark) as draft, progress.task("verify", len(guidance.advice) + 1) as bar:
        judged, details = _try(space, guidance, seen, draft, bar)
        terms = check_terms(guidance.reward_terms, seen, card.variable_names)
        save_guidance(judged, draft.folder / "guidance.json")
        write_json(draft.folder / "branches.json", details | {"terms": terms})
        draft.facts = _facts(judged, details, terms)
        draft.publish.append(("guidance.json", "guidance.json"))
    for sentence in draft.kept_words():
        progress.warn(sentence)
    return judged


def _try(
    space: Workspace, guidance: Guidance, seen: list[View], draft: Draft, bar: Bar
) -> tuple[Guidance, dict[str, Any]]:
    """The guidance with verdicts, and what is to be told of the branches."""
    config = space.config.verify
    if reason := _needless(space, guidance):
        off = Verdict(status="untested", note=reason)
        advice = tuple(a.model_copy(update={"verdict": off}) for a in guidance.advice)
        return guidance.model_copy(update={"advice": advice, "set_verdict": off}), {"enabled": False}
    measure = Terms(guidance.progress.terms, space.describer.card.variable_names) if guidance.progress else None
    size = min(BRANCHES, 2 * max(config.pairs, config.episode_pairs))
    each = 2 * config.pairs * (config.horizon or RETURN_STEPS)
    expected = min(config.max_steps, each * len(guidance.advice))
    brancher = Brancher(space, size, measure, expected=expected)
    try:
        trials = _Trials(space, guidance, seen, brancher)
        if _trial(space, guidance) == "together":
            return trials.together(bar)
        tried, notes = trials.each(bar)
        judged = trials.judged(tried, notes)
        whole, note = trials.whole(judged)
        judged = judged.model_copy(update={"set_verdict": trials.set_verdict(whole, note)})
        bar.advance()
    finally:
        brancher.close()
        draft.env_steps += brancher.steps
        bar.note(f"{brancher.steps} steps")
    return judged, trials.details(judged, tried, whole)


def _needless(space: Workspace, guidance: Guidance) -> str:
    """Why nothing is to be tried, or ''. Steps of the budget are not spent on advice that will not touch training."""
    config = space.config.verify
    if not config.enabled:
        return "verification is switched off"
    if _trial(space, guidance) == "nothing":
        return (
            "on this task reward terms enter training, not suggested actions, so no environment steps are spent on "
            "trying them (--verify.what all does)"
        )
    return ""


def _trial(space: Workspace, guidance: Guidance) -> str:
    """What of the advice is tried: nothing, together or each (`Plan.trial`)."""
    config = space.config
    if config.verify.what == "all":
        return "each"
    plan = make_plan(config.train.method, config.train.guide, guidance, setting_of(space.agent, space.describer.card))
    return plan.trial(guidance)


class _Trials:
    """Trying all advice of one guidance within the step budget."""

    def __init__(self, space: Workspace, guidance: Guidance, seen: list[View], brancher: Brancher) -> None:
        self.guidance, self.seen, self.brancher = guidance, seen, brancher
        self.config: VerifyConfig = space.config.verify
        self.card = space.describer.card
        self.silent = same_returns(seen)
        self._costly = not space.snapshotter.storable
        self.limit = self.config.max_steps

    def horizon(self, hold: int = 1) -> int:
        """Steps of a branch; by default at least twice as long as an action is held."""
        if self.config.horizon is not None:
            return max(1, self.config.horizon)
        return max(PROGRESS_STEPS if self.silent else RETURN_STEPS, 2 * hold)

    def each(self, bar: Bar) -> tuple[dict[str, Trial], dict[str, str]]:
        """A trial for each piece of advice that can be tried, and for the others the reason, by id."""
        tried: dict[str, Trial] = {}
        notes: dict[str, str] = {}
        reserved = int(SET_SHARE * self.limit) if self.config.episode_pairs else 0
        for advice in self.guidance.advice:
            bar.advance()
            bar.note(f"{self.brancher.steps} steps")
            if note := self._cannot(advice):
                notes[advice.id] = note
                continue
            matcher = None if at_evidence(advice) else self._matcher([advice])
            starts = starts_for(
                advice, matcher, self.seen, pairs=self.config.pairs, seed=self.config.seed, early=self._costly
            )
            horizon = self.horizon(advice.hold)
            if not starts:
                notes[advice.id] = "its condition never held in the collected episodes"
            elif self.brancher.steps + self.brancher.bound(starts, horizon) > self.limit - reserved:
                notes[advice.id] = f"the budget of {self.limit} environment steps was used up"
            else:
                window = min(horizon, max(PROGRESS_STEPS, 2 * advice.hold)) if self.config.horizon is None else horizon
                tried[advice.id] = self._trial(starts, horizon, window, Attempt([advice], matcher))
        return tried, notes

    def _cannot(self, advice: Advice) -> str:
        if not advice.enabled:
            return "it is disabled"
        if advice.action is None:
            return "it suggests no action; a reward acts through training and cannot be tried in a branch"
        if self.silent and self.guidance.progress is None:
            return "all collected episodes have the same return, and the guidance has no progress measure to judge by"
        return ""

    def _matcher(self, advice: Sequence[Advice]) -> Matcher:
        return Matcher(advice, self.guidance, self.card.variable_names)

    def _trial(self, starts: list[Start], horizon: int, window: int, attempt: Attempt) -> Trial:
        before = self.brancher.steps
        pairs = self.brancher.run(starts, horizon, attempt)
        return Trial(tuple(starts), tuple(pairs), self.brancher.steps - before, horizon, window)

    def judged(self, tried: dict[str, Trial], notes: dict[str, str]) -> Guidance:
        """The guidance with a verdict for each piece of advice, corrected for how many were tried."""
        level = self.config.level
        verdicts = {
            i: judge(t, self.guidance.progress, silent=self.silent, tests=len(tried), level=level)
            for i, t in tried.items()
        }
        verdicts |= {i: Verdict(status="untested", note=note) for i, note in notes.items()}
        advice = tuple(a.model_copy(update={"verdict": verdicts[a.id]}) for a in self.guidance.advice)
        return self.guidance.model_copy(update={"advice": advice})

    def together(self, bar: Bar) -> tuple[Guidance, dict[str, Any]]:
        """One verdict for all advice: whether executing it raises the return of whole episodes.

        Over some steps even good advice may only cost: the first swing away from the goal pays when the goal is
        reached. So where actions are an extra beside reward terms, they are tried as the plan that they are, and used
        all or none. Most plans for torques fail, and few episodes show it.
        """
        trial, note = self.whole(self.guidance, 0, SCREENING)
        if trial is not None and (trial.returns() > 0).all():
            rest, _ = self.whole(self.guidance, SCREENING, self.config.episode_pairs)
            trial = trial.and_more(rest) if rest is not None else trial
        verdict = self.set_verdict(trial, note)
        if verdict.status == "helpful" and verdict.metric.startswith("return"):
            each = verdict.model_copy(update={"note": "together with all other advice"})
        else:
            each = Verdict(status="untested", note=NOT_TOGETHER)
        advice = tuple(
            a.model_copy(update={"verdict": Verdict(status="untested", note=n) if (n := self._cannot(a)) else each})
            for a in self.guidance.advice
        )
        bar.advance(len(advice) + 1)
        judged = self.guidance.model_copy(update={"advice": advice, "set_verdict": verdict})
        return judged, self.details(judged, {}, trial)

    def whole(self, judged: Guidance, first: int = 0, end: int | None = None) -> tuple[Trial | None, str]:
        """Paired episodes from the reset, in which all advice that is left is executed, or why there are none.

        Of the configured pairs, those from `first` to before `end`.
        """
        advice = [a for a in judged.active if a.action is not None]
        places = range(self.config.episode_pairs)[first:end]
        pairs = len(places)
        if not advice or not pairs:
            return None, "no advice with an action is left" if not advice else "the check of the set is switched off"
        longest = max(len(v) for v in self.seen)
        limit = max(self.card.max_episode_steps or 1000, longest)
        horizon = min(limit, (self.limit - self.brancher.steps) // (2 * pairs))
        if horizon < min(limit, RETURN_STEPS):
            return None, f"the budget of {self.limit} environment steps was used up"
        starts = [Start(noise_seed(self.config.seed, k) % 2**31) for k in places]
        attempt = Attempt(advice, self._matcher(advice))
        trial = self._trial(starts, horizon, horizon, attempt)
        done = all(b.ending != "horizon" for pair in trial.pairs for b in pair)
        return dataclasses.replace(trial, whole=done), ""

    def set_verdict(self, trial: Trial | None, note: str) -> Verdict:
        if trial is None:
            return Verdict(status="untested", note=note)
        level = self.config.level
        verdict = judge(trial, self.guidance.progress, silent=self.silent, tests=1, level=level)
        if verdict.status != "harmful":
            return verdict
        what = "return" if verdict.metric.startswith("return") else "progress"
        text = f"executing all of it everywhere lowers the {what}; training may still imitate it where it applies"
        return verdict.model_copy(update={"note": text})

    def details(self, judged: Guidance, tried: dict[str, Trial], whole: Trial | None) -> dict[str, Any]:
        progress = self.guidance.progress
        rows = []
        for advice in judged.advice:
            row: dict[str, Any] = {"id": advice.id, "verdict": advice.verdict.model_dump(mode="json")}
            if trial := tried.get(advice.id):
                row |= {"horizon": trial.horizon, "pairs": trial.record(progress)}
            rows.append(row)
        return {
            "enabled": True,
            "silent": self.silent,
            "steps": self.brancher.steps,
            "advice": rows,
            "set": {
                "advice": [a.id for a in judged.active if a.action is not None],
                "verdict": judged.set_verdict.model_dump(mode="json"),
                "pairs": whole.record(progress) if whole else [],
            },
        }


def _facts(judged: Guidance, details: dict[str, Any], terms: list[dict[str, Any]]) -> dict[str, Any]:
    """What the manifest says of the stage."""
    return {
        "enabled": details["enabled"],
        "why_not": "" if details["enabled"] else judged.set_verdict.note,
        "silent": details.get("silent"),
        **counts([a.verdict for a in judged.advice]),
        "metrics": sorted({a.verdict.metric for a in judged.advice if a.verdict.metric}),
        "set": judged.set_verdict.status,
        "set_gain": judged.set_verdict.gain,
        "terms_that_never_fire": [t["term"] for t in terms if not t["fires"]],
    }
