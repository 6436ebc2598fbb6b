"""The demo: an agent that never reached the flag of MountainCar-v0, and the recorded replies of a language model."""

from __future__ import annotations

from pathlib import Path

from unstuck.config import AgentConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.llm.config import LLMConfig
from unstuck.run import Run

HERE = Path(__file__).parent
AGENT = HERE / "mountaincar-stuck.zip"
RECORDINGS = HERE / "recordings"


def demo_config() -> RunConfig:
    """The demo's settings: three seeds, 45 000 environment steps for each arm, collecting and verifying counted."""
    return RunConfig(
        task=TaskConfig(env="MountainCar-v0"),
        agent=AgentConfig(agent=str(AGENT)),
        llm=LLMConfig(model="recorded"),
        train=TrainConfig(steps=45_000),
    )


def demo_run(root: Path) -> Run:
    """The run folder of the demo, ready for its stages."""
    from unstuck.pipeline import open_run

    return open_run(demo_config(), root)
