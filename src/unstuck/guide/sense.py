"""The one VecEnv wrapper through which parts meet the simulator.

It sits between the environments (and their Monitor, so that logged returns stay the task's own) and VecNormalize,
and so sees raw observations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from unstuck.guide.base import Part, Steps, Suggestions
from unstuck.tasks.builder import ColumnDescriber
from unstuck.tasks.card import Describer

ELSEWHERE = "began_elsewhere"
"""Key in the infos of an episode that did not begin as the task's do."""


class Remembers(Protocol):
    """What is told of each step, to look at later."""

    def begin_episodes(self, values: np.ndarray) -> None:
        """All environments were reset: (n_envs, V) of where the next step begins."""

    def remember(self, obs: Any, actions: Any, dones: np.ndarray, infos: list[dict[str, Any]], now: int) -> None:
        """A vector step: raw observations (n_envs, ...) after it, and when in training it was."""

    def settle(self) -> None:
        """Look at all that nobody has looked at yet."""


class Sense(VecEnvWrapper):
    """Turns what environments do into `Steps`, and asks the parts: for rewards, and for actions in place of the
    policy's.

    Rewards are given for the state that a step leads to, the terminal one included, as the task gives its own.

    Args:
        venv: Monitor-wrapped environments.
        describer: gives the named variables of raw observations.
        parts: in the order in which they are asked.
        start: the step of the whole training at which these environments begin.

    Attributes:
        memory: if set, steps are only told to it: of the rewards, only those of parts that need "each_step" are added.
        later: rewards of other parts are added by somebody else (a replay buffer that asks when it is sampled).
        executes: whether this wrapper itself executes suggestions, and the learner never hears of it.
        tells: whether values are kept at each step (`transition`), for a learner that does not see all that they are
            read from.
    """

    memory: Remembers | None = None
    later: bool = False
    executes: bool = False
    tells: bool = False

    def __init__(self, venv: VecEnv, describer: Describer, parts: Sequence[Part], start: int = 0):
        super().__init__(venv)
        self.parts = tuple(parts)
        self._rewarding = [p for p in self.parts if p.rewards]
        self._acting = [p for p in self.parts if p.acts]
        self._keeps_obs = any("observations" in p.needs for p in self._rewarding)
        used = frozenset[str]().union(*(p.variables for p in self.parts))
        self.observe = computing(describer, used)
        """Raw observations (N, ...) → (N, V) the variables that some part looks at."""
        self.now = start
        """Environment steps of the whole training so far."""
        self._values: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._after: np.ndarray | None = None
        self._actions: Any = None
        self._asked: list[Part] = []
        self._watched = True

    @property
    def values(self) -> np.ndarray:
        """(n_envs, V) of the states from which the next step will be taken."""
        assert self._values is not None
        return self._values

    @property
    def asked(self) -> list[Part]:
        """The parts whose rewards are added at each step."""
        if self.memory is None and not self.later:
            return self._rewarding
        return [p for p in self._rewarding if "each_step" in p.needs]

    def _watches(self, asked: Sequence[Part]) -> bool:
        """Whether values must be known at each step."""
        if self.tells or self._acting or any(p.variables for p in asked):
            return True
        return self.memory is None and not self.later and imitating(self.parts) is not None

    def reset(self) -> Any:
        obs = self.venv.reset()
        # Who takes part stays as it is while environments run; to look at each step would cost as much as matching.
        self._asked = self.asked
        self._watched = self._watches(self._asked)
        self._values = self.observe(obs)
        if self.memory is not None:
            self.memory.begin_episodes(self._values)
        for part in self._acting:
            part.see(self._values, np.ones(self.num_envs, dtype=bool))
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        if self.executes:
            actions = self.substitute(actions)
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        if self.memory is not None:
            self.memory.remember(obs, self._actions, dones, infos, self.now)
        if self._watched:
            self._before, self._values = self._values, self.observe(obs)
        if self.tells:
            self._after = self._ends(dones, infos)
        if self._asked:
            steps = self._steps(obs, dones, infos)
            for part in self._asked:
                rewards = rewards + part.reward(steps, self.now).astype(rewards.dtype)
        self.now += self.num_envs
        for part in self._acting:
            part.see(self.values, dones)
        return obs, rewards, dones, infos

    def _ends(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray:
        """The values after a step, of ended episodes those of their last state."""
        if not dones.any():
            return self.values
        ended, after = np.flatnonzero(dones), self.values.copy()
        after[ended] = self.observe(stacked([infos[i]["terminal_observation"] for i in ended]))
        return after

    @property
    def transition(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_envs, V) values before and after the last step, episodes' last states included; where it `tells`."""
        assert self._before is not None
        assert self._after is not None
        return self._before, self._after

    def _steps(self, obs: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> Steps:
        before = after = np.zeros((self.num_envs, 0))
        if self._watched:
            assert self._before is not None
            before, after = self._before, self._ends(dones, infos)
        return Steps(
            values=before,
            next_values=after,
            actions=self._actions,
            terminated=terminated(dones, infos),
            next_obs=with_ends(obs, dones, infos) if self._keeps_obs else None,
        )

    def substitute(self, actions: np.ndarray) -> np.ndarray:
        """(n_envs, ...) the policy's actions → with suggestions in place of those where parts have some."""
        for part in self._acting:
            actions = part.act(actions)
        return actions

    @property
    def suggesting(self) -> np.ndarray:
        """(n_envs,) whether something stands in for the policy's action in the step to come."""
        found = np.zeros(self.num_envs, dtype=bool)
        for part in self._acting:
            found |= part.acting
        return found

    def suggestions(self, own: np.ndarray | None) -> Suggestions | None:
        """What the policy is to imitate in the states from which the last step was taken; None for nowhere.

        Args:
            own: (n_envs, ...) its most likely actions there.
        """
        part = imitating(self.parts)
        if part is None or self._before is None:
            return None
        return part.target(self._before, own)


def imitating(parts: Sequence[Part]) -> Part | None:
    """The part whose suggestions are imitated."""
    return next((p for p in parts if p.imitate > 0), None)


def terminated(dones: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray:
    """(n_envs,) whether the task ended the episode, and not only a time limit."""
    cut = np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
    return dones & ~cut


def stacked(observations: Sequence[Any]) -> Any:
    """Single observations → a batch (N, ...), or a dict of batches."""
    if isinstance(observations[0], dict):
        return {k: np.stack([np.asarray(o[k]) for o in observations]) for k in observations[0]}
    return np.stack([np.asarray(o) for o in observations])


def with_ends(obs: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> Any:
    """Observations after a vector step, with the last ones of ended episodes in place of the next ones' first."""
    ended = np.flatnonzero(dones)
    if not ended.size:
        return obs
    last = stacked([infos[i]["terminal_observation"] for i in ended])
    if isinstance(obs, dict):
        held = {k: np.array(v) for k, v in obs.items()}
        for k, part in held.items():
            part[ended] = last[k]
        return held
    obs = np.array(obs)
    obs[ended] = last
    return obs


class WholeEpisodes(VecEnvWrapper):
    """Keeps Monitor's return from being reported where an episode did not begin as the task's do, or where somebody
    else began it: it is no return of the policy on the task."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            if infos[i].get(ELSEWHERE):
                infos[i].pop("episode", None)
        return obs, rewards, dones, infos


def computing(describer: Describer, used: frozenset[str] | set[str]) -> Callable[[Any], np.ndarray]:
    """The describer's `variables`, without those that it derives and nobody looks at, which are NaN instead.

    Deriving the height of a foot takes longer than matching; a describer of another kind computes all as ever.
    """
    names = describer.card.variable_names
    if not isinstance(describer, ColumnDescriber):
        return describer.variables
    count = len(describer.columns)
    whole = describer.columns == tuple(range(count))
    columns: Any = slice(count) if whole else np.array(describer.columns)
    derived = [(i, f) for i, f in enumerate(describer.derived, start=count) if names[i] in used]
    all_known = count + len(derived) == len(names)

    def variables(obs: Any) -> np.ndarray:
        flat = np.asarray(obs, dtype=np.float64)
        flat = flat.reshape(len(flat), -1)
        values = np.empty((len(flat), len(names)))
        values[:, :count] = flat[:, columns]
        if not all_known:
            values[:, count:] = np.nan
        for i, function in derived:
            values[:, i] = function(flat)
        return values

    return variables
