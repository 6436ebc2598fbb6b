"""Collect: episodes of the stuck agent, with what it thought of each state and a way back to every step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from unstuck.agents.history import learning_curve
from unstuck.algorithms import Policy
from unstuck.branching.lockstep import stack
from unstuck.diagnosis.panel import FILE, Panel, read_panel
from unstuck.emulators import AleSnapshotter
from unstuck.episodes import Episode, EpisodeSet, as_snapshots
from unstuck.errors import RunError, TaskError
from unstuck.files import remove
from unstuck.progress import Progress
from unstuck.rollout import LIMIT_HINT, Trace, run_episodes, time_limit
from unstuck.run import Run, alone, digest, write_json
from unstuck.simulators import Snapshotter
from unstuck.tasks.beside import bytes_of
from unstuck.workers import one_thread
from unstuck.workspace import Workspace

CURVE = "learning-curve.json"
"""In RUN/collect: the agent's own training, where files beside it tell."""
CURVE_POINTS = 40
PANEL = "panel"
"""In the stage's facts: a fingerprint of what RUN/diagnosis.json says, which lies outside of the stage's folder."""
IN_MEMORY = 128 * 2**20
"""Bytes of observations and snapshots that episodes under way may hold, about."""
OF_REWARDS = {"value", "q", "action_value"}
"""Signals in the reward's unit."""
AT_ONCE = 8 * 2**20
"""Bytes of observations of which the agent's signals are computed at once, about."""


def fingerprint(run: Run) -> str:
    """What the episodes depend on."""
    return digest(run.agent_path, run.vecnormalize_path, run.config.task, run.config.collect)


@alone
@one_thread()
def collect(run: Run, progress: Progress | None = None) -> EpisodeSet:
    """Run the agent and write its episodes to RUN/collect. Half of them deterministic, half sampled: a stuck agent
    can fail differently in the two (an agent that hovers when deterministic may crash when sampled).

    Each episode is written when it ends, so that only those under way are in memory.

    Raises:
        AgentError, TaskError: if the agent or the task cannot be loaded, do not fit, or no episode ends.
    """
    space, config = Workspace(run), run.config.collect
    progress = progress or Progress.silent()
    mark = fingerprint(run)
    if run.done("collect", mark):
        if not _diagnosed(run):
            _diagnose(run, progress)
        return space.episodes
    snapshotter = space.snapshotter
    with run.stage("collect", mark) as draft, progress.task("collect", config.episodes) as bar:
        episodes = EpisodeSet(draft.folder)
        returns: dict[int, float | None] = {}
        """None of those that were cut."""
        envs = [space.make_env() for _ in range(min(8, (config.episodes + 1) // 2))]
        size = _size(envs[0], snapshotter)
        for deterministic in (True, False):
            count = config.episodes // 2 if deterministic else config.episodes - config.episodes // 2
            first = config.seed + (0 if deterministic else config.episodes // 2)
            allowed = config.max_steps // 2 if deterministic else config.max_steps - draft.env_steps
            endless = time_limit(envs[0]) is None
            counter = _Counter(allowed, config.max_steps if deterministic and endless else None)
            # Fewer environments than the step limit has room for, so that it can stop new episodes in time.
            used = envs[: max(1, min(len(envs), allowed // (time_limit(envs[0]) or 1000)))]
            used = used[: _room(size, min(allowed, time_limit(envs[0]) or allowed))]
            begun = len(returns)
            split = begun  # in the end: how many were deterministic
            traces = run_episodes(
                used,
                space.actor,
                range(first, first + count),
                deterministic=deterministic,
                snapshot=snapshotter.save if snapshotter.storable else None,
                on_step=counter.add,
                go_on=counter.has_room,
                max_length=None if time_limit(envs[0]) else max(1, allowed // len(used)),
                first=begun,
            )
            for trace in traces:
                draft.facts["cut"] = draft.facts.get("cut", 0) + trace.cut
                counter.ended(len(trace))
                # Seeds are begun in their order, and what is begun is finished.
                index = begun + trace.seed - first
                episodes.add(_episode(trace, index, deterministic, space.actor, _gamma(space), _value_scale(space)))
                returns[index] = None if trace.cut else round(trace.total_reward, 3)
                trace.forget()
                bar.advance()
            draft.env_steps += counter.taken
        for env in envs:
            env.close()
        curve = learning_curve(Path(run.config.agent.agent)) if run.config.agent.agent else None
        if curve is not None:  # kept with the run, which may be read where the agent's folder is not
            write_json(draft.folder / CURVE, asdict(curve.thinned(CURVE_POINTS)))
        cut = draft.facts.pop("cut", 0)
        if cut == len(returns):
            raise TaskError(_endless(run, cut))
        draft.facts = {"deterministic": [], "sampled": [], "snapshots": snapshotter.name}
        for index, held in sorted(returns.items()):
            if held is not None:
                draft.facts["deterministic" if index < split else "sampled"].append(held)
    if cut:
        progress.say(
            f"collect: {cut} of {len(returns)} episodes cut, because the {config.max_steps:,} steps of "
            "--collect.max-steps were taken; no return of theirs counts. Raise it, or if episodes of "
            f"{run.config.task.env} may never end, {LIMIT_HINT}"
        )
    _diagnose(run, progress)
    return Workspace(run).episodes


def _diagnosed(run: Run) -> bool:
    """Whether RUN/diagnosis.json is there and says what was left in it; older versions noted nothing down of it."""
    path = run.root / FILE
    if not path.exists():
        return False
    with contextlib.suppress(RunError):
        panel = read_panel(run.root)
        if panel is not None and run.record("collect").facts.get(PANEL) in (None, _mark(panel)):
            return True
    logging.getLogger("unstuck").warning("%s was changed or damaged; it is made again", path)
    return False


def _mark(panel: Panel) -> str:
    return digest(panel.model_dump(mode="json", exclude={"seconds"}, exclude_defaults=True))


def _diagnose(run: Run, progress: Progress) -> None:
    """Leave RUN/diagnosis.json. It only looks at what was collected, and must not be what a run fails of."""
    from unstuck.diagnosis import leave_panel

    try:
        remove(run.root / FILE)
        panel = leave_panel(Workspace(run))
    except Exception as error:
        progress.say(f"collect: no diagnosis ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
    else:
        run.note("collect", {PANEL: _mark(panel)})


class _Counter:
    """Environment steps taken, and how many may be.

    Args:
        allowed: steps after which no episode is begun.
        total: steps of both modes, where the other is still to come and episodes have no limit: one that would leave it
            less than such an episode is not begun either, because that would be cut to no use.
    """

    def __init__(self, allowed: int, total: int | None = None):
        self.taken, self._allowed, self._total = 0, allowed, total
        self._lengths: list[int] = []

    def add(self, steps: int) -> None:
        self.taken += steps

    def ended(self, length: int) -> None:
        self._lengths.append(length)

    def has_room(self) -> bool:
        if self._total is not None and self._lengths:
            usual = sum(self._lengths) // len(self._lengths)
            if self.taken + 2 * usual > self._total:
                return False
        return self.taken < self._allowed


def _endless(run: Run, count: int) -> str:
    return (
        f"none of {count} episodes of {run.config.task.env} ended within {run.config.collect.max_steps} environment "
        f"steps, and the task sets no time limit: {LIMIT_HINT}; or raise --collect.max-steps if it ends later"
    )


def _gamma(space: Workspace) -> float:
    return float(space.agent.hyperparameters.get("gamma") or 0.99)


def _episode(trace: Trace, index: int, deterministic: bool, actor: Policy, gamma: float, scale: float) -> Episode:
    observations = stack(trace.observations)
    actions = np.stack([np.asarray(a) for a in trace.actions])
    signals = _signals(actor, observations, np.concatenate([actions, actions[-1:]]))
    signals |= {name: signals[name] * scale for name in OF_REWARDS & signals.keys()}
    rewards = np.array(trace.rewards)
    learnt, ends = (np.array(column) for column in zip(*trace.learnt, strict=True)) if trace.learnt else (None, None)
    episode = Episode(
        index=index,
        seed=trace.seed,
        deterministic=deterministic,
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminated=trace.terminated,
        truncated=trace.truncated and not trace.cut,
        snapshots=as_snapshots(trace.snapshots) if trace.snapshots else None,
        reward_parts=_parts_of(rewards, trace.reward_parts),
        learnt_rewards=None if learnt is None or np.array_equal(learnt, rewards) else learnt,
        learnt_ends=None if ends is None or not ends.any() else ends,
    )
    return replace(episode, signals=_with_surprise(episode, signals, gamma))


def _with_surprise(episode: Episode, signals: Mapping[str, np.ndarray], gamma: float) -> dict[str, np.ndarray]:
    """Signals of the T + 1 states → those of the T steps, with the critic's surprise at each."""
    values, expected = signals["value"], signals.get("q", signals["value"])
    rewards, ends = episode.as_learnt()
    surprise = rewards + gamma * np.where(ends, 0.0, values[1:]) - expected[:-1]
    return {k: v[:-1].astype(np.float32) for k, v in signals.items()} | {"td_error": surprise.astype(np.float32)}


def _parts_of(rewards: np.ndarray, told: Mapping[str, list[float]]) -> dict[str, np.ndarray]:
    """The parts that are not the reward itself."""
    parts = {name: np.array(part) for name, part in told.items()}
    return {name: part for name, part in parts.items() if not np.array_equal(part, rewards)}


def _signals(actor: Policy, observations: Any, actions: np.ndarray) -> dict[str, np.ndarray]:
    """`Policy.signals`, some rows at a time: networks for images need many times the memory of their input."""
    parts = observations if isinstance(observations, dict) else {"": observations}
    length = len(next(iter(parts.values())))
    rows = max(64, AT_ONCE * length // max(1, sum(part.nbytes for part in parts.values())))
    found = []
    for first in range(0, length, rows):
        some = {k: part[first : first + rows] for k, part in parts.items()}
        taken = actions[first : first + rows]
        found.append(actor.signals(some if isinstance(observations, dict) else some[""], taken))
    return {name: np.concatenate([f[name] for f in found]) for name in found[0]}


def _size(env: gym.Env, snapshotter: Snapshotter) -> int:
    """Bytes that a step takes while its episode is under way: of the observation, and of the emulator's state."""
    size = bytes_of(env.observation_space)
    if isinstance(snapshotter, AleSnapshotter):
        env.reset(seed=0)
        size += snapshotter.save(env).nbytes
    return size


def _room(size: int, longest: int) -> int:
    """How many episodes of so many steps, of so many bytes each, fit into memory at once; at least one."""
    return max(1, IN_MEMORY // max(1, size * longest))


def _value_scale(space: Workspace) -> float:
    """Turns a critic's values back into the task's reward where it learnt from normalised rewards. Agents that rounds
    before trained have learnt from the task's own, whatever their statistics hold."""
    n = space.actor.normalization
    if space.run.manifest.round is not None:
        return 1.0
    return float(np.sqrt(n.ret_var + n.epsilon)) if n is not None and n.norm_reward else 1.0
