"""What can be known to fail before the first environment step is taken: key, model, extras, budget.

The agent, the task and the run folder are checked when the run is opened (`unstuck.intake`, `unstuck.run`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import Any

from unstuck.config import RunConfig
from unstuck.errors import GuidanceError, RunError, UnstuckError
from unstuck.guidance import load_guidance
from unstuck.methods import METHODS, Setting
from unstuck.run import Run

CAPS = {"collect": ("max_steps", 5), "verify": ("max_steps", 3), "explain": ("search_steps", 5)}
"""Of a small budget at most one step in so many goes into collecting, into the search, and into verifying."""


def preflight(run: Run, *, model: Any = None) -> list[str]:
    """Check a run, before any stage of it. Caps that were left at their defaults are lowered to fit a small budget.

    Args:
        model: a model object that is asked instead of the configured one.

    Returns:
        what was changed, a sentence each.

    Raises:
        LLMError: the model is not known, or its key or client is missing.
        RunError: collecting and verifying may leave nothing of the budget to train; or a race needs a coach.
        AgentError: SAC is to race where it cannot learn.
        UnstuckError: a package that a setting needs is not installed.
    """
    check_extras(run.config)
    check_device(run.config.train.device)
    if model is None and not run.recordings_path.exists() and "UNSTUCK_RECORDINGS" not in os.environ:
        check_model(run.config)
    config, notes = scaled(run)
    if config != run.config:
        run.configure(config)
    check_budget(run)
    check_race(run)
    check_begun_with_sac(run)
    return notes


def check_race(run: Run) -> None:
    """Raises RunError where treatments race that need a coach, there is none to be asked, and nobody has written advice
    into the run."""
    config = run.config
    if METHODS[config.train.method].race != () or _explainer(config) != "nothing" or _is_advised(run):
        return
    if guided := [name for name in config.race.treatments if "guidance" in name]:
        raise RunError(
            f"--race.treatments {guided[0]} needs a coach: name a language model with --llm MODEL, or another "
            "explainer with --explain.explainer search"
        )


def _is_advised(run: Run) -> bool:
    """Whether the run's advice has something in it; of a file that is not valid its stage says what is wrong."""
    if not run.advice_path.exists():
        return False
    with contextlib.suppress(GuidanceError):
        guidance = load_guidance(run.advice_path)
        return bool(guidance.advice or guidance.reward_terms)
    return True


def check_begun_with_sac(run: Run) -> None:
    """Raises AgentError where SAC was asked to race on a task that it cannot learn here."""
    from unstuck.treatments.another import NAMES

    config = run.config
    if METHODS[config.train.method].race == () and config.race.names(*NAMES):
        from unstuck.treatments import check_sac
        from unstuck.workspace import Workspace

        check_sac(run.agent_path, *Workspace(run).spaces)


def check_extras(config: RunConfig) -> None:
    """Raises UnstuckError for the first package that is missing, with what to install."""
    needs = {
        "tensorboard": ("tensorboard" in config.train.log, "--log tensorboard"),
        "envpool": (config.train.backend == "envpool", "--train.backend envpool"),
    }
    for package, (needed, why) in needs.items():
        if needed and importlib.util.find_spec(package) is None:
            raise UnstuckError(f'{why} needs {package}: pip install "unstuck[{package}]"')


def check_device(device: str) -> None:
    """Raises UnstuckError if networks are to be trained on a GPU that is not there."""
    if device in ("cpu", "auto"):
        return
    import torch

    there = torch.backends.mps.is_available() if device == "mps" else torch.cuda.is_available()
    index = int(device.partition(":")[2] or 0)
    if not there or (device != "mps" and index >= torch.cuda.device_count()):
        raise UnstuckError(
            f"--train.device {device}: torch {torch.__version__} finds no such device here; use cpu, or a torch "
            "that knows it"
        )


def check_model(config: RunConfig) -> None:
    """Make the client of each live model, as asking it would; no request is made.

    Raises:
        LLMError: the model is not known, or its key or client is missing.
    """
    if config.llm.is_none or config.llm.is_recorded or _explainer(config) != "llm":
        return
    from unstuck.llm.models import build_model

    for name in config.llm.every_model:
        build_model(config.llm.of(name))


def _explainer(config: RunConfig) -> str:
    """What the settings come to; '' for a method that needs no explanation."""
    spec = METHODS[config.train.method]
    if not spec.explained:
        return ""
    wanted = spec.explainer if config.explain.explainer == "auto" else config.explain.explainer
    if wanted in ("auto", "none"):
        return "llm" if not config.llm.is_none else "search" if spec.race is None else "nothing"
    return wanted


def scaled(run: Run) -> tuple[RunConfig, list[str]]:
    """The settings, caps that were left at their defaults lowered to fit the budget; of stages that are not done."""
    config = run.config
    if not METHODS[config.train.method].explained:
        return config, []
    steps, notes = config.train.steps // config.train.rounds, []
    parts: dict[str, Any] = {}
    caps = {name: cap for name, cap in CAPS.items() if name != "explain" or _explainer(config) == "search"}
    for name, (field, share) in caps.items():
        held, most = getattr(config, name), _most(steps, share)
        usual = type(held).model_fields[field].default
        # What is done stays so, with the cap that it was done with: the same command again must not repeat it.
        done = run.manifest.stages.get(name)
        if getattr(held, field) == usual > most and (done is None or done.settings.get(field) == most):
            parts[name] = held.model_copy(update={field: most})
            flag = f"--{name}.{field.replace('_', '-')}"
            notes.append(f"{flag} is {most:,} here, a part of the small budget; {usual:,} is usual")
    return config.model_copy(update=parts), notes


def _most(steps: int, share: int) -> int:
    """A cap in a budget of so many steps."""
    return max(100, steps // share)


def _explain_steps(config: RunConfig) -> int:
    """Environment steps that the explainer may take; a language model takes none."""
    name = _explainer(config)
    if name == "search":
        return config.explain.search_steps
    return config.explain.mask_steps if name in ("statemask", "rice") else 0


def _enough(run: Run, caps: dict[str, int], rollout: int) -> int:
    """A budget that leaves a rollout to train. Caps that were lowered to fit a small one (`scaled`) rise with it."""
    rounds, steps = run.config.train.rounds, run.config.train.steps
    rising = {}
    for name, (field, share) in CAPS.items():
        held = getattr(run.config, name)
        usual = type(held).model_fields[field].default
        if caps.get(name) == getattr(held, field) == _most(steps // rounds, share) < usual:
            rising[name] = (share, usual)
    while True:
        risen = {n: min(usual, _most(steps // rounds, share)) for n, (share, usual) in rising.items()}
        needed = (sum((caps | risen).values()) + rollout) * rounds
        if needed <= steps:
            return steps
        steps = needed


def check_budget(run: Run) -> None:
    """See that what may be spent before training leaves a rollout to train.

    Raises:
        RunError: says what takes how much.
    """
    from unstuck.algorithms import algorithm_of
    from unstuck.workspace import Workspace

    config, train = run.config, run.config.train
    if not METHODS[train.method].explained:
        return
    space, share = Workspace(run), train.steps // train.rounds
    rollout, replays = space.quantum, not algorithm_of(space.agent).on_policy
    verifies = config.verify.enabled and METHODS[train.method].plan(None, Setting()).verified
    caps = {"collect": config.collect.max_steps, "explain": _explain_steps(config)}
    caps["verify"] = config.verify.max_steps if verifies else 0
    for name in caps:
        if name in run.manifest.stages:
            caps[name] = run.record(name).env_steps
    left = share - sum(caps.values())
    if left < rollout:
        of = f"each of {train.rounds} rounds may take {share:,} of them, of which" if train.rounds > 1 else "of these"
        taken = " and ".join(f"{name} may take {n:,}" for name, n in caps.items() if n)
        enough = _enough(run, caps, rollout)
        lower = "--collect.max-steps or --verify.max-steps"
        if not replays:
            lower = "--collect.max-steps, --verify.max-steps, --train.n-envs or --train.n-steps"
        raise RunError(
            f"--train.steps {train.steps:,} is too little: {of} {taken}, and one rollout of training takes "
            f"{rollout:,}. Raise --steps to {enough:,} or more, or lower {lower}."
        )
