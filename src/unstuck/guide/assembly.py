"""The parts of one training run, made from its plan and put around its environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unstuck.errors import TaskError
from unstuck.guide.base import Context, Part, Source, Steps, Times, parts
from unstuck.guide.sense import Sense, WholeEpisodes

if TYPE_CHECKING:
    import gymnasium as gym
    import numpy as np
    from stable_baselines3.common.vec_env import VecEnv

    from unstuck.guidance import Guidance
    from unstuck.guide.plan import Plan


class Guide:
    """Everything of a plan, for one training run.

    Args:
        source: the run's task, agent and episodes.
        plan: which parts are on.
        guidance: None for none; parts that need an explanation are then left out.
        seed: of the training.
        total: environment steps of the whole training.
        gamma: discount of the learner.
        n_envs: environments that are trained in side by side.
        start: the step of the whole at which it begins.

    Attributes:
        parts: those that are on, in the order in which they are asked.
        sense: the wrapper around all environments, once `wrap` has made it; None where no part needs one.

    Raises:
        UnstuckError: what a part needs is not there; says what to do.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        guidance: Guidance | None,
        *,
        seed: int,
        total: int,
        gamma: float,
        n_envs: int,
        start: int = 0,
    ):
        self.source, self.plan, self.guidance, self.start = source, plan, guidance, start
        self.context = Context(source, plan.selection, guidance, seed, total, gamma, n_envs)
        kinds = parts()
        self.parts: tuple[Part, ...] = tuple(
            kinds[name](plan.settings[name], self.context)
            for name in plan.on()
            if guidance is not None or not kinds[name].explained
        )
        self.sense: Sense | None = None

    def part(self, name: str) -> Any:
        """The part of this name, None if it is off."""
        return next((p for p in self.parts if p.name == name), None)

    @property
    def single_env(self) -> bool:
        """Whether a part reaches into single environments."""
        return any("single_env" in p.needs for p in self.parts)

    def backend(self, wanted: Any) -> Any:
        """The simulator to use where `wanted` was asked for.

        Raises:
            TaskError: if EnvPool is insisted on where a part reaches into single environments.
        """
        if not self.single_env:
            return wanted
        if wanted == "envpool":
            raise TaskError(
                "restarts and roll-ins reach into single environments, which EnvPool does not allow: use "
                "--train.backend auto or gymnasium"
            )
        return "gymnasium"

    def agent(self, agent: Any) -> Any:
        """An `unstuck.agents.Agent` as training begins with it."""
        for part in self.parts:
            agent = part.agent(agent)
        return agent

    def make_env(self) -> gym.Env:
        """One environment of the task, with what parts put around it."""
        env = self.source.make_env()
        for part in self.parts:
            env = part.env(env)
        return env

    def wrap(self, venv: VecEnv) -> VecEnv:
        """Monitor-wrapped environments → with everything that parts do to them and their rewards."""
        for part in self.parts:
            venv = part.wrap(venv)
        if self.single_env:
            venv = WholeEpisodes(venv)
        if any(p.rewards or p.acts or p.imitate > 0 for p in self.parts):
            venv = self.sense = Sense(venv, self.source.describer, self.parts, self.start)
        return venv

    def reward(self, steps: Steps, now: Times) -> np.ndarray | float:
        """(B,) what steps are worth at this time by all parts that can be asked again and in any order; for replayed
        experience. Environment steps of the whole training, not of the sample, say the time."""
        asked = [p for p in self.parts if p.rewards and "each_step" not in p.needs]
        return sum((p.reward(steps, now) for p in asked), start=0.0)

    @property
    def unseen_steps(self) -> int:
        """Environment steps so far that no learner has seen: replays of restarts, the guide's part of episodes."""
        return sum(part.unseen_steps for part in self.parts)

    def on_update(self, model: Any) -> None:
        """The algorithm has what it needs for an update: parts may look at it, or change the policy before it."""
        for part in self.parts:
            part.on_update(model)

    def notes(self) -> list[str]:
        """What was done to this agent beyond the guidance, for people."""
        return [note for part in self.parts for note in part.notes()]

    def line(self) -> dict[str, Any]:
        """For a line of the learning curve: what happened since the last call. Where several parts give a number of the
        same name, the last one's stands."""
        if self.sense is not None and self.sense.memory is not None:
            self.sense.memory.settle()
        return {k: v for part in self.parts for k, v in part.line().items()}

    def state(self) -> dict[str, Any]:
        """What the parts remember, as plain values, arrays and tensors, for a training that goes on elsewhere."""
        now = self.sense.now if self.sense is not None else 0
        return {"now": now, "parts": {part.name: part.state() for part in self.parts}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            KeyError: it is of other parts.
        """
        if set(state["parts"]) != {part.name for part in self.parts}:
            raise KeyError(f"parts {sorted(state['parts'])}, not {sorted(p.name for p in self.parts)}")
        if self.sense is not None:
            self.sense.now = state["now"]
        for part in self.parts:
            part.restore(state["parts"][part.name])
