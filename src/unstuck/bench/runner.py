"""The runner: which jobs of a suite are due, in which order, and what becomes of each.

First every stuck agent is scored and every explanation made, then advice is verified, then all arms train, seed by
seed, so that a suite that is stopped early has all methods on all tasks with fewer seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unstuck.bench.jobs import BenchJob, JobResult, Kind, before_mark, score_mark, score_stage
from unstuck.bench.layout import Arm, adopt, agent_digest, agent_files, held_digest, settled_task
from unstuck.bench.pool import Backend, run_jobs
from unstuck.bench.suite import DEMO, Suite, SuiteError, SuiteTask, missing_agent
from unstuck.config import RunConfig, TrainConfig
from unstuck.errors import AgentError, TaskError, UnstuckError
from unstuck.files import held
from unstuck.results import AgentScores, trainings
from unstuck.run import Draft, Run, write_json
from unstuck.stages.train import commit, fingerprint, plan_jobs

FAILURES = "failures.json"
UNEQUAL = "Such results cannot be compared. --allow-unequal shows them all the same."


@dataclass
class SuitePlan:
    """What one call is to do."""

    suite: Suite
    out: Path
    tasks: tuple[SuiteTask, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    workers: int = 0
    backend: Backend = "loky"
    address: str | None = None
    allow_unequal: bool = False
    on_jobs: Callable[[Sequence[BenchJob]], None] = lambda jobs: None
    """Told of the jobs of each phase before they begin."""
    on_outcome: Callable[[JobResult], None] = lambda outcome: None
    """Told of each job when it ends."""
    failures: dict[str, JobResult] = field(default_factory=dict)
    """By the job's name; an arm whose explanation failed is one entry."""

    def arms(self) -> list[Arm]:
        """Those that this call is about."""
        return [Arm(self.suite, self.out, task, method) for task in self.tasks for method in self.methods]


def make_plan(
    suite: Suite,
    out: Path | None = None,
    *,
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> tuple[SuitePlan, list[str]]:
    """A plan of all or some of the suite, and a sentence on each task that is left out because its agent is not here.

    Raises:
        SuiteError: if a name is not in the suite, or no task has its agent.
    """
    from unstuck.errors import did_you_mean

    wanted = {"tasks": (tasks, [t.name for t in suite.tasks]), "methods": (methods, list(suite.methods))}
    wanted["seeds"] = ([str(s) for s in seeds], [str(s) for s in suite.seeds])
    for what, (named, known) in wanted.items():
        for name in named:
            if name not in known:
                raise SuiteError(f"--{what}: the suite has no {name!r}.{did_you_mean(name, known)}")
    why = {t.name: missing_agent(suite, t) for t in suite.tasks}
    here = [t for t in suite.tasks if not why[t.name]]
    gone = [f"{name} is left out: {problem}" for name, problem in why.items() if problem]
    if not here:
        raise SuiteError("no task can be run:\n" + "\n".join(gone))
    plan = SuitePlan(
        suite,
        out or suite.out or Path("runs") / "bench" / suite.name,
        tuple(t for t in here if not tasks or t.name in tasks),
        tuple(m for m in suite.methods if not methods or m in methods),
        tuple(s for s in suite.seeds if not seeds or s in seeds),
    )
    return plan, gone + _settle(plan)


def _settle(plan: SuitePlan) -> list[str]:
    """Put the environments that run now in place of those that tasks name; returns what stands in for what."""
    notes = []
    for task in plan.tasks:
        try:
            settled, note = settled_task(plan.suite, task)
        except UnstuckError as error:
            _leave_out(plan, task, error)
            continue
        if note:
            notes.append(f"{task.name}: {note}")
        plan.tasks = tuple(settled if t is task else t for t in plan.tasks)
        tasks = tuple(settled if t is task else t for t in plan.suite.tasks)
        plan.suite = plan.suite.model_copy(update={"tasks": tasks})
    return notes


def _leave_out(plan: SuitePlan, task: SuiteTask, error: UnstuckError) -> None:
    """Note that a task cannot be run; the others go on."""
    job = BenchJob("before", task.name, str(plan.out / task.name / "before"))
    _ended(plan, JobResult(job, "failed", str(error)))
    plan.tasks = tuple(t for t in plan.tasks if t.name != task.name)


def check_equal(plan: SuitePlan) -> None:
    """Refuse what cannot be compared: arms with different budgets, and results in OUT of another budget or another
    agent than the suite's.

    Raises:
        SuiteError: names them.
    """
    if plan.allow_unequal:
        return
    problems = []
    for task in plan.tasks:
        budgets = {m: plan.suite.budget(task, m) for m in plan.suite.methods}
        if len(set(budgets.values())) > 1:
            listed = ", ".join(f"{m} {steps:,}" for m, steps in budgets.items())
            problems.append(f"{task.name}: the arms have different budgets of environment steps: {listed}")
        digest = agent_digest(agent_files(plan.suite, task))
        for method in plan.suite.methods:
            problems += _older(Arm(plan.suite, plan.out, task, method), digest)
    if problems:
        raise SuiteError("\n".join([*problems, f"{UNEQUAL} Or choose another folder with --out."]))


def _older(arm: Arm, digest: str) -> list[str]:
    if not (arm.root / "manifest.json").exists():
        return []
    held = Run(arm.root)
    words = f"{arm.task.name}, {arm.method}: {arm.root} holds results"
    if held_digest(held) != digest:
        return [f"{words} of another starting agent"]
    wanted = arm.suite.budget(arm.task, arm.method)
    budgets = {facts.budget for facts in trainings(held).values() if facts.budget is not None}
    return [f"{words} at a budget of {b:,} steps, and the suite has {wanted:,}" for b in sorted(budgets - {wanted})]


def run_suite(plan: SuitePlan) -> bool:
    """Do all that is not done yet; returns whether everything is there now.

    What fails is kept in `plan.failures` and in OUT/failures.json, and holds up nothing but what hangs on it.

    Raises:
        SuiteError: if the comparison would be unequal.
        UnstuckError: if the folder cannot be used, or the cluster cannot be reached.
    """
    _open_agents(plan)
    check_equal(plan)
    plan.out.mkdir(parents=True, exist_ok=True)
    with held(plan.out):
        try:
            prepare(plan, explain=True)
            _go(plan, _verify_jobs(plan))
            _go(plan, _train_jobs(plan))
        finally:
            _note_failures(plan)
    return not plan.failures


def _open_agents(plan: SuitePlan) -> None:
    """Load every agent once; a task whose agent cannot be loaded is left out."""
    for task in plan.tasks:
        try:
            agent_files(plan.suite, task)
        except UnstuckError as error:
            _leave_out(plan, task, error)


def prepare(plan: SuitePlan, *, explain: bool) -> None:
    """Score the stuck agents, collect their episodes, and (with `explain`) have them explained."""
    jobs: dict[str, BenchJob] = {}
    _open_agents(plan)
    for task in plan.tasks:
        try:
            before = _open(plan, task, plan.out / task.name / "before", _plain(plan, task))
        except (AgentError, TaskError) as error:
            _leave_out(plan, task, error)
            continue
        if explain and not before.done("score", before_mark(before)):
            jobs[str(before.root)] = BenchJob("before", task.name, str(before.root))
    for arm in plan.arms():
        if arm.explained:
            source = _open(plan, arm.task, arm.source, arm.source_config)
            kind: Kind = "explain" if explain else "collect"
            name = f"by {source.root.name}"
            jobs.setdefault(
                str(source.root),
                BenchJob(
                    kind,
                    arm.task.name,
                    str(source.root),
                    name,
                    recordings=_recordings(plan),
                    demo=arm.task.agent == DEMO,
                ),
            )
    _go(plan, [job for job in jobs.values() if not _settled(job)])


def _settled(job: BenchJob) -> bool:
    """Whether a job would find nothing to do; looking is much cheaper than a worker that does."""
    from unstuck.stages import collect, explain

    run = Run(job.root)
    if job.kind not in ("collect", "explain") or not run.done("collect", collect.fingerprint(run)):
        return False
    if job.kind == "collect":
        return True
    return run.done("explain", explain.fingerprint(run)) and run.advice_path.exists()


def _plain(plan: SuitePlan, task: SuiteTask) -> RunConfig:
    config = plan.suite.config(task, plan.suite.methods[0])
    return config.model_copy(update={"train": TrainConfig()})


def _open(plan: SuitePlan, task: SuiteTask, root: Path, config: RunConfig) -> Run:
    """Make or open a run folder; the agent and the task are checked against each other the first time."""
    if not (root / "manifest.json").exists() and root.name == "before":
        from unstuck.pipeline import open_run

        return open_run(config, root)
    return Run.create(root, config, agent_files(plan.suite, task))


def _recordings(plan: SuitePlan) -> str:
    folder = plan.suite.recordings_folder
    return str(folder.resolve()) if folder is not None and folder.is_dir() else ""


def _ready(plan: SuitePlan) -> Iterator[tuple[Arm, Run]]:
    """Arms whose explanation is there, with their run folders brought up to it."""
    for arm in plan.arms():
        if not arm.explained:
            yield arm, _open(plan, arm.task, arm.root, arm.config)
        elif _source_of(plan, arm) not in plan.failures:
            run = _open(plan, arm.task, arm.root, arm.config)
            adopt(run, Run(arm.source))
            yield arm, run


def _source_of(plan: SuitePlan, arm: Arm) -> str:
    return BenchJob("explain", arm.task.name, "", f"by {arm.source.name}").name


def _verify_jobs(plan: SuitePlan) -> list[BenchJob]:
    from unstuck.stages import verify

    return [
        BenchJob("verify", arm.task.name, str(run.root), arm.method)
        for arm, run in _ready(plan)
        if arm.explained and not (run.done("verify", verify.fingerprint(run)) and run.guidance_path.exists())
    ]


def _train_jobs(plan: SuitePlan) -> list[BenchJob]:
    jobs = []
    for arm, run in _ready(plan):
        name = BenchJob("verify", arm.task.name, "", arm.method).name
        if name in plan.failures:
            continue
        try:
            trainings = plan_jobs(run)
        except UnstuckError as error:
            job = BenchJob("train", arm.task.name, str(run.root), arm.method)
            _ended(plan, JobResult(job, "failed", str(error)))
            continue
        for training in trainings:
            if training.seed not in plan.seeds:
                continue
            mark = fingerprint(run, training)
            train = not run.done(training.stage, mark)
            if train or not run.done(score_stage(training), score_mark(run, mark)):
                steps = training.expected if train else 0
                # Later rounds, and races with feedback, ask a language model while they train.
                asks = training.rounds > 1 or run.config.race.feedback
                replies = _recordings(plan) if asks else ""
                where = (arm.task.name, str(run.root), arm.method)
                jobs.append(BenchJob("train", *where, training.seed, steps, training, train, recordings=replies))
    order = {seed: i for i, seed in enumerate(plan.seeds)}
    return sorted(jobs, key=lambda job: order[job.seed])


def _go(plan: SuitePlan, jobs: Sequence[BenchJob]) -> None:
    plan.on_jobs(jobs)
    for outcome in run_jobs(jobs, plan.workers, plan.backend, plan.address):
        if outcome.status == "done" and outcome.job.kind == "train":
            _enter(outcome)
        _ended(plan, outcome)


def _enter(outcome: JobResult) -> None:
    """Enter a trained and scored agent in its run folder's manifest."""
    job, training = outcome.job, outcome.job.training
    assert training is not None
    run = Run(job.root)
    if job.train:
        draft = Draft(training.stage, run.root / f"{training.stage}.draft")
        commit(run, training, draft, outcome.seconds["train"])
    name = score_stage(training)
    draft = Draft(name, run.root / f"{name}.draft")
    draft.env_steps = AgentScores.read(draft.folder / "scores.json").env_steps or 0
    run.commit(draft, score_mark(run, fingerprint(run, training)), outcome.seconds["score"])


def _ended(plan: SuitePlan, outcome: JobResult) -> None:
    if outcome.status != "done":
        plan.failures[outcome.job.name] = outcome
    plan.on_outcome(outcome)


def _note_failures(plan: SuitePlan) -> None:
    noted = [{"job": name, "status": o.status, "error": o.error, "trace": o.trace} for name, o in plan.failures.items()]
    write_json(plan.out / FAILURES, noted)
