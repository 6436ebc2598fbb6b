"""The demo: an agent that never reached the flag of MountainCar-v0, and the recorded reply of a language model."""

from __future__ import annotations

import shutil
from pathlib import Path

from unstuck.config import AgentConfig, ExplainConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.llm.config import LLMConfig
from unstuck.progress import Progress
from unstuck.run import Run

HERE = Path(__file__).parent
AGENT = HERE / "mountaincar-stuck.zip"
EPISODES = HERE / "episodes"
"""The episodes that the recorded reply speaks of."""


def demo_config() -> RunConfig:
    """The demo's settings: one race within 100 000 environment steps, collecting and verifying counted, and PPO
    continued with as many beside it."""
    return RunConfig(
        task=TaskConfig(env="MountainCar-v0"),
        agent=AgentConfig(agent=str(AGENT)),
        # The recorded reply answers this version of the prompt.
        explain=ExplainConfig(prompt_version=1),
        llm=LLMConfig(model="recorded"),
        # With or without EnvPool, the same numbers.
        train=TrainConfig(method="race", steps=100_000, seeds=(1,), backend="gymnasium"),
    )


def demo_run(root: Path, progress: Progress | None = None) -> Run:
    """The run folder of the demo with its episodes collected."""
    from unstuck.pipeline import open_run
    from unstuck.stages.collect import collect

    run = open_run(demo_config(), root)
    collect(run, progress)
    match_recording(run, progress)
    return run


def match_recording(run: Run, progress: Progress | None = None) -> None:
    """Let a run of the demo's agent have the episodes that its recorded reply speaks of.

    The recorded reply answers one exact prompt. Where this machine's arithmetic gives episodes that differ in a
    digit, the prompt differs too and has no reply; then the episodes that ship with the reply take their place.
    """
    from unstuck.stages.explain import prompts, recordings_of

    recordings = recordings_of(run)
    if any(recordings.find(request) is None for request in prompts(run)):
        (progress or Progress.silent()).say("this machine's episodes differ in a digit: using those of the recording")
        for path in sorted(EPISODES.glob("*.npz")):
            shutil.copyfile(path, run.root / "collect" / path.name)
        run.amend("collect")
