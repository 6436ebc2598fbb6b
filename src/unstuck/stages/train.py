"""Train: refine the agent with PPO under guidance, and continue plain PPO beside it at an equal budget.

Both arms share everything but the guidance: optimiser, learning rate, critic warm-up, entropy, environments, seeds.
The budget counts every environment step; what collecting, searching and verifying took, the guided arm does not
train. Each training run (arm and seed) is a stage of its own, so a killed run repeats at most those under way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unstuck.algorithms import algorithm_of, continued_by
from unstuck.algorithms.settings import ReplaySettings
from unstuck.config import RaceConfig, TrainConfig
from unstuck.curves import last_point
from unstuck.errors import EnvironmentFaultError, LLMError, RunError
from unstuck.guidance import Guidance, load_guidance
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.masknet import MASK_FILE
from unstuck.methods import METHODS, MethodSpec, Setting, make_plan, setting_of
from unstuck.progress import Bar, Progress
from unstuck.results import StageKey, TrainFacts
from unstuck.run import Draft, Run, alone, digest
from unstuck.vecenvs.choice import missed_speed
from unstuck.workers import end_with_parent, one_thread
from unstuck.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """One training run: an arm and a seed."""

    arm: str
    seed: int
    steps: int
    """Environment steps to train, a multiple of n_envs · n_steps."""
    charged: dict[str, int]
    """Environment steps by stage, training included: what the arm is charged in all."""
    plan: Plan
    guidance: Guidance | None
    rounds: int = 1
    """Rounds in all; with more than one, steps and charges are the first's, and `unstuck.rounds` does the others."""
    race: tuple[str, ...] | None = None
    """Treatments that race, () for those that suit the agent; None: no race. `unstuck.race` does it."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Settings of training that its method changes."""

    @property
    def expected(self) -> int:
        """Environment steps of all rounds, about: later ones collect and verify anew."""
        return self.steps * self.rounds

    @property
    def stage(self) -> str:
        return str(StageKey("train", self.arm, self.seed))


def fingerprint(run: Run, job: Job) -> str:
    """What a trained agent depends on."""
    shared = run.config.train.model_dump(
        exclude={"steps", "seeds", "method", "name", "control", "guide", "jobs", "threads", "rounds", "log", "device"}
    )
    if shared["replay"] == ReplaySettings().model_dump():
        del shared["replay"]
    if shared["late_share"] == TrainConfig.model_fields["late_share"].default:
        del shared["late_share"]  # what was trained before there was this setting stays trained
    return digest(
        run.agent_path, run.vecnormalize_path, run.config.task, shared, job.arm, job.seed, job.steps,
        job.plan.changed(), job.guidance.as_used() if job.guidance else None,
        *([run.root / "explain" / MASK_FILE] if job.plan.restart_at == "fresh" else []),
        *(_later(run, job) if job.rounds > 1 else []),
        *([_race_settings(run), job.race, *run.opinion_paths] if job.race is not None else []),
        *([dict(job.train)] if job.train else []),
    )  # fmt: skip


def _race_settings(run: Run) -> RaceConfig:
    """Without where it is computed, on which nothing depends."""
    return run.config.race.model_copy(update={"backend": "loky", "ray_address": None})


def _later(run: Run, job: Job) -> list[Any]:
    """What rounds after the first depend on beside it. Their guidance is among it: people may edit that too."""
    marks = [run.record(stage).fingerprint for stage in ("collect", "explain", "verify")]
    folders = [round_folder(run.root, job, number) for number in range(2, job.rounds + 1)]
    files = [folder / name for folder in folders for name in ("advice.json", "guidance.json")]
    return [job.rounds, run.config.train.steps, run.config.llm.model, marks, *files]


def round_folder(root: Path, job: Job, number: int) -> Path:
    """Of the first round, what it trained; of a later one, a run folder."""
    return root / str(StageKey("rounds", job.arm, job.seed)) / str(number)


def plan_jobs(run: Run) -> list[Job]:
    """The training runs that the configuration asks for, control first.

    Raises:
        NoRoomError: if the budget leaves no room for training.
        RunError: if a stage before has not run.
        GuidanceError: if the guidance file was edited into something invalid; names the field.
    """
    config = run.config.train
    spec, name = METHODS[config.method], config.name or config.method
    jobs = [*_arm(run, "ppo", PPO_PLAN, None, {})] if config.control or name == "ppo" else []
    if name == "ppo":
        if config.method != "ppo":
            raise RunError(f"--train.name ppo is the control's; give {config.method!r} another name")
        return jobs
    if not spec.explained:
        alone = _arm(run, name, make_plan(config.method, config.guide, None, Setting()), None, {})
        return jobs + [replace(job, race=spec.race, train=_changed(run, spec)) for job in alone]
    run.record("verify")
    space = Workspace(run)
    card = space.describer.card
    guidance = load_guidance(run.guidance_path, card)
    plan = make_plan(config.method, config.guide, guidance, setting_of(space.agent, card))
    stages = ("collect", "explain", "verify") if plan.verified else ("collect", "explain")
    charged = {s: run.record(s).env_steps for s in stages}
    if spec.race is not None:
        racing = _arm(run, name, plan, guidance, charged)
        return jobs + [replace(job, race=run.config.race.treatments or spec.race) for job in racing]
    return jobs + _arm(run, name, plan, guidance, charged, config.rounds)


def _changed(run: Run, spec: MethodSpec) -> Mapping[str, Any]:
    """The settings of training that the method changes."""
    if spec.train and not algorithm_of(Workspace(run).agent).on_policy:
        raise RunError(
            f"{spec.name} sets {', '.join(spec.train)}, which nothing reads for an agent that learns by replay; "
            "train.replay has its settings, and --method ppo continues it"
        )
    return spec.train


PPO_PLAN = Plan()


class NoRoomError(RunError):
    """The budget leaves less than one rollout to train."""


def _arm(
    run: Run, arm: str, plan: Plan, guidance: Guidance | None, charged: dict[str, int], rounds: int = 1
) -> list[Job]:
    config = run.config.train
    rollout = Workspace(run).quantum
    spent, share = sum(charged.values()), config.steps // rounds
    steps = (share - spent) // rollout * rollout
    if steps < rollout:
        spent_on = ", ".join(charged) or "nothing"
        whose = f"first of {rounds} rounds' share ({share}) of the budget" if rounds > 1 else "budget"
        raise NoRoomError(
            f"The {whose} of {config.steps} environment steps leaves {share - spent} to train {arm!r} after "
            f"{spent} for {spent_on}; one rollout takes {rollout}. Raise --train.steps, or lower --collect.max-steps, "
            f"--verify.max-steps, {'--train.rounds, ' if rounds > 1 else ''}--train.n-envs or --train.n-steps."
        )
    return [Job(arm, seed, steps, {**charged, "train": steps}, plan, guidance, rounds) for seed in config.seeds]


Work = Callable[[str, Job, str], tuple[str, float]]
"""What trains one job: (root, job, draft folder) → (stage, seconds)."""


@alone
def train(
    run: Run,
    progress: Progress | None = None,
    *,
    work: Work | None = None,
    workers: int = 0,
    beside: Callable[[Job], bool] | None = None,
) -> dict[str, list[Path]]:
    """Train all arms and seeds that are not done yet; returns the refined agents of each arm, by seed.

    Args:
        work: what trains a job; by default `train_one`, which knows one round only.
        workers: training runs at once; 0: as configured.
        beside: which jobs `train_one` trains in processes of their own, while `work` does the others.

    Raises:
        RunError: if verifying has not run, or the budget leaves no room for training.
        GuidanceError: if the guidance file is not valid.
        LLMError: if a later round gets no reply; the other training runs have then been done.
    """
    from joblib import Parallel, delayed

    progress, work = progress or Progress.silent(), work or train_one
    jobs = plan_jobs(run)
    if work is train_one and any(job.rounds > 1 or job.race is not None for job in jobs):
        raise RunError("races and several rounds are trained by unstuck.train, or `unstuck train`")
    todo = [job for job in jobs if not run.done(job.stage, fingerprint(run, job))]
    _warn_if_unguided(jobs, progress)
    drafts = {job.stage: run.draft(job.stage) for job in todo}
    workers = min(workers or run.config.train.jobs or os.cpu_count() or 1, max(1, len(todo)))
    total = sum(job.expected for job in todo)
    task, backend = run.config.task, run.config.train.backend
    if todo and (slower := missed_speed(task.env, task.env_kwargs, backend)):
        progress.say(slower)
    waiting: list[Waiting] = []

    def take(result: Result) -> None:
        stage, seconds, error = result
        if error is not None:
            waiting.append(error)
        else:
            commit(run, next(j for j in todo if j.stage == stage), drafts[stage], seconds)

    if todo:
        others = [job for job in todo if beside is not None and beside(job)]
        calls = {j.stage: (str(run.root), j, str(drafts[j.stage].folder)) for j in todo}
        with progress.task("train", total) as bar, _watching(run, todo, bar):
            # One worker needs no other process; results come as they are ready, so that a kill loses only what runs.
            parallel = Parallel(n_jobs=workers, return_as="generator_unordered")
            with _meanwhile([calls[job.stage] for job in others], take):
                for result in parallel(delayed(_attempt)(work, *calls[j.stage]) for j in todo if j not in others):
                    take(result)
    if waiting:
        raise _together(waiting)
    for job in jobs:
        for warning in run.record(job.stage).facts.get("warnings", []):
            progress.warn(f"{job.arm}, seed {job.seed}: {warning}")
    _say_notes(run, jobs, progress)
    arms: dict[str, list[Path]] = {}
    for job in jobs:
        arms.setdefault(job.arm, []).append(run.root / job.stage / "agent.zip")
    return arms


def _say_notes(run: Run, jobs: list[Job], progress: Progress) -> None:
    """What was done to the agent before it was trained, once for all seeds."""
    said = set()
    for job in jobs:
        for note in run.record(job.stage).facts.get("notes", []):
            if (job.arm, note) not in said:
                progress.say(f"{job.arm}: {note}")
            said.add((job.arm, note))


Waiting = LLMError | EnvironmentFaultError


Result = tuple[str, float, Waiting | None]
"""Of one job: its stage, the seconds that it took, and what stopped it."""


def _attempt(work: Work, root: str, job: Job, folder: str) -> Result:
    """In a worker process. A round without a reply, or an environment that fails, is told, not raised: it must not
    hold up other seeds."""
    try:
        return *work(root, job, folder), None
    except (LLMError, EnvironmentFaultError) as error:
        return job.stage, 0.0, error


@contextmanager
def _meanwhile(calls: list[tuple[str, Job, str]], take: Callable[[Result], None]) -> Iterator[None]:
    """Train these jobs one after the other in a process of its own while the block runs, and wait for them at its end;
    then `take` gets the results."""
    if not calls:
        yield
        return
    # A pool of its own: joblib's only one is for the competitors of a race.
    from joblib.externals.loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(max_workers=1)
    try:
        results = [pool.submit(_attempt, train_one, *call) for call in calls]
        yield
        for result in results:
            take(result.result())
    finally:
        pool.shutdown(kill_workers=True)


def _together(errors: list[Waiting]) -> Waiting:
    first = next((e for e in errors if isinstance(e, EnvironmentFaultError)), errors[0])
    if len(errors) == 1 or isinstance(first, EnvironmentFaultError):
        return first
    return type(first)(f"{len(errors)} training runs got no reply, and go on when it is there; one of them: {first}")


def _warn_if_unguided(jobs: list[Job], progress: Progress) -> None:
    for job in jobs:
        if job.race is not None or job.guidance is None:
            continue
        if not job.plan.advice(job.guidance) and not job.plan.reward_terms(job.guidance):
            progress.warn(
                f"nothing in the guidance applies to {job.arm!r}: it trains without any "
                "(all advice was dropped, disabled, or found harmful)"
            )
            return


def commit(run: Run, job: Job, draft: Draft, seconds: float) -> None:
    """In the main process: put what `train_one` left in place, and enter it as done."""
    facts = TrainFacts.read(draft.folder / "info.json").model_copy(update={"budget": run.config.train.steps})
    # All that this stage took: of later rounds, what they collected, searched and verified too.
    draft.env_steps = facts.charged.total - (sum(job.charged.values()) - job.steps)
    draft.facts = facts.as_json()
    run.commit(draft, fingerprint(run, job), seconds)


@one_thread()
def train_one(root: str, job: Job, folder: str) -> tuple[str, float]:
    """In a worker process: train and leave everything in the draft folder."""
    end_with_parent()
    begun = time.monotonic()
    run = Run(root)
    space = Workspace(run)
    config = run.config.train.model_copy(update=dict(job.train))
    learner = Learner(space, config, job.plan, job.guidance, job.seed, job.steps, Path(folder))
    try:
        outcome = learner.learn(first_step=sum(job.charged.values()) - job.steps)
    except EnvironmentFaultError as error:
        raise _kept(error, learner, run.root / "kept" / f"{job.arm}-{job.seed}.zip") from error
    facts = {"arm": job.arm, "seed": job.seed, "steps": job.steps, "charged": job.charged, **outcome}
    facts["algorithm"] = continued_by(space.agent)
    TrainFacts.model_validate(facts).write(Path(folder) / "info.json")
    return job.stage, time.monotonic() - begun


def _kept(error: EnvironmentFaultError, learner: Learner, path: Path) -> EnvironmentFaultError:
    """The same error; the policy as it was trained so far lies in a file that it names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    learner.trainer.save(path)
    told = EnvironmentFaultError(f"{error}\nThe policy as it was trained until then is in {path}")
    told.trace = error.trace
    return told


@contextmanager
def _watching(run: Run, jobs: list[Job], bar: Bar) -> Iterator[None]:
    """Advance the bar by what the workers write to their learning curves."""
    stop = threading.Event()

    def watch() -> None:
        shown, ended = 0, False
        while not ended:
            ended = stop.wait(0.5)  # what was trained since the last look counts too
            now = sum(trained_so_far(run.root, job) for job in jobs)
            if now > shown:
                bar.advance(now - shown)
                shown = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def trained_so_far(root: Path, job: Job) -> int:
    """Steps that a job under way, or just done, has trained; by its learning curves."""
    if job.race is not None:
        legs = (root / str(StageKey("race", job.arm, job.seed))).glob("*/*/curve.jsonl")
        last: dict[str, int] = {}
        for path in legs:
            last[path.parts[-3]] = max(last.get(path.parts[-3], 0), trained_steps(path.parent))
        return sum(last.values())
    if job.rounds > 1:
        rounds = round_folder(root, job, 1).parent
        parts = (
            [rounds / "1.draft", rounds / "1"],
            *(list((rounds / str(n) / "train" / job.arm).glob("*")) for n in range(2, job.rounds + 1)),
        )
        return sum(max((trained_steps(folder) for folder in part), default=0) for part in parts)
    draft = root / f"{job.stage}.draft"
    return trained_steps(draft if draft.is_dir() else root / job.stage)


def trained_steps(folder: Path) -> int:
    """Training steps by the last line of a learning curve; 0 when there is none yet."""
    point = last_point(folder)
    return int(point.trained) if point is not None else 0
