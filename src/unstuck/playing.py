"""Agents that play whole episodes for their returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import gymnasium as gym

from unstuck.algorithms import policy_of
from unstuck.numpy_policy import numpy_policy
from unstuck.results import MODES, Mode
from unstuck.robots import apart
from unstuck.rollout import Trace, run_episodes, time_limit
from unstuck.tasks.beside import described

if TYPE_CHECKING:
    from unstuck.agents import Agent

LONGEST = 10_000
"""Steps after which an episode is cut where the task sets no time limit: a good agent may never fall."""
FEW, MANY = 8, 20
"""Environments side by side; many where they are stepped together: what a step of all of them costs beside the
simulation is nearly the same for 8 and for 20. Of still more, making them would cost what they save."""


@dataclass(frozen=True)
class Played:
    """What came of some episodes."""

    returns: tuple[float, ...]
    """In the order of their seeds."""
    steps: int
    """Environment steps that they took."""
    cut: int
    """How many were cut after `LONGEST` steps."""


class Arena:
    """Environments of one task in which agents play, one after the other. A context manager that closes them.

    An agent's returns depend on its weights and the seeds alone, not on what is played beside them.

    Args:
        make_env: makes one environment.
    """

    def __init__(self, make_env: Callable[[], gym.Env]):
        self._make_env = make_env
        self._envs: list[gym.Env] = []

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._envs:
            self._envs.pop().close()

    def play(
        self, agent: Agent, seeds: Sequence[int], modes: Sequence[Mode] = MODES,
        look: Callable[[Trace], None] | None = None,
    ) -> dict[Mode, Played]:  # fmt: skip
        """An episode for each seed and mode, on the task's true reward.

        Args:
            look: is shown each episode when it ends, with its observations and actions.

        Raises:
            EnvironmentFaultError: an environment misbehaves.
        """
        env = self._some(1)[0]
        actor = policy_of(agent, env.observation_space, env.action_space)
        player = numpy_policy(actor)
        # Episodes that are looked at fill the memory. What torch computes in float32, images and policies of users'
        # own, depends on what is beside it in the batch: those keep to batches of one kind.
        at_once = player is not None and look is None and apart(env) is None
        found: dict[Mode, Played] = {}
        for group in [tuple(modes)] if at_once else [(mode,) for mode in modes]:
            plays = [(seed, mode == "deterministic") for mode in group for seed in seeds]
            traces = run_episodes(
                self._some(min(MANY if at_once else FEW, len(plays))), player or actor, [seed for seed, _ in plays],
                deterministic=[most_likely for _, most_likely in plays], keep=look is not None, keep_as=described,
                max_length=None if time_limit(env) else LONGEST,
            )  # fmt: skip
            ended = {}
            for trace in traces:
                ended[trace.seed, trace.deterministic] = (trace.total_reward, len(trace), trace.cut)
                if look is not None:
                    look(trace)
                    trace.forget()
            for mode in group:
                returns, steps, cuts = zip(*(ended[seed, mode == "deterministic"] for seed in seeds), strict=True)
                found[mode] = Played(returns, sum(steps), sum(cuts))
        return found

    def _some(self, count: int) -> list[gym.Env]:
        while len(self._envs) < count:
            self._envs.append(self._make_env())
        return self._envs[:count]
