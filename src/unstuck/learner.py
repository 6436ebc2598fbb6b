"""One training run: an algorithm's trainer with the guidance attached, its learning curve and late checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from unstuck.agents import Agent
from unstuck.agents.rescaling import rescaled
from unstuck.algorithms import Policy, Training, Update, algorithm_of
from unstuck.config import TrainConfig
from unstuck.curves import CURVE, CurvePoint
from unstuck.episodes import EpisodeSet
from unstuck.errors import RunError
from unstuck.guidance import Guidance
from unstuck.guide.assembly import Guide
from unstuck.guide.plan import Plan
from unstuck.masknet import MASK_FILE, load_mask
from unstuck.snapshots import Snapshotter
from unstuck.suspended import Suspended
from unstuck.tasks.card import Describer
from unstuck.transitions import Transitions
from unstuck.vecenvs import make_vec_env
from unstuck.vecenvs.atari import seen_by_agent
from unstuck.workspace import Workspace


class Learner:
    """A training that starts from an agent, by its algorithm, with whatever of the guidance its plan lets in.

    A training may be cut into segments, each by a `Learner` of its own, perhaps in another process: the first leaves a
    suspended state (`suspend`), the next begins from it (`resume`). Everything that fades, warms up or follows a
    schedule goes by the whole, `steps`; only episodes begin anew with each segment.

    Args:
        space: the run: its task, its episodes, and the agent that stands in where `agent` is None.
        config: optimiser settings, environments, checkpoints; its own `steps` and `seeds` are not looked at.
        plan: what of the guidance enters.
        guidance: None for none.
        seed: of the training; the same seed and settings give the same weights.
        steps: environment steps of the whole training.
        folder: for the learning curve, agent and late checkpoints; must exist.
        agent: whose weights training starts from, any agent of the run's task.
        start: the step of the whole at which this learner begins. With `resume` it is the state's own.
        stop: where it ends, at the first update at or after it; by default the end of the whole.
        resume: a state that `suspend` left, of a training with the same settings. Weights, optimiser, random numbers
            and what each modulation remembers are taken from it.
        experience: steps of the task that were taken before, with which a replay buffer begins; with `resume` the same
            as the first segment had. Who learns only from what it does now has no use for it.

    Raises:
        AgentError: the agent does not fit, or the engine that is insisted on cannot train it.
        RunError: the suspended state cannot be read or is of another training.
    """

    def __init__(
        self,
        space: Workspace,
        config: TrainConfig,
        plan: Plan,
        guidance: Guidance | None,
        seed: int,
        steps: int,
        folder: Path,
        *,
        agent: Agent | None = None,
        start: int = 0,
        stop: int | None = None,
        resume: Path | None = None,
        experience: Transitions | None = None,
    ):
        self.agent, self.config, self.plan, self.steps, self.folder = agent or space.agent, config, plan, steps, folder
        held = Suspended.load(resume) if resume is not None else None
        self.start, self.stop = start if held is None else held.steps, steps if stop is None else stop
        self.begun = self.start if held is None else held.begun
        """At which step the optimiser was fresh: the critic's warm-up begins there."""
        self.algorithm = algorithm_of(self.agent)
        n_envs, task = self.algorithm.n_envs(config), space.config.task
        self.guide = guide = Guide(
            RunSource(space), plan, guidance, seed=seed, total=steps, gamma=_gamma(self.agent), n_envs=n_envs,
            start=self.start,
        )  # fmt: skip
        self.agent = guide.agent(self.agent)
        backend = guide.backend(config.backend)
        venv: VecEnv = make_vec_env(guide.make_env, task.env, task.env_kwargs, n_envs, backend, config.threads)
        self.backend: str = venv.backend  # type: ignore[attr-defined]
        training = Training(config, guide, seed, steps, self.start, self.begun, experience)
        self.trainer = self.algorithm.trainer(self.agent, seen_by_agent(guide.wrap(venv)), training)
        if config.log:
            self.model.set_logger(configure(str(folder / "log"), list(config.log)))
        if held is not None:
            self._resume(held)

    def learn(self, first_step: int) -> dict[str, Any]:
        """Train from `start` to `stop`; write curve.jsonl, agent.zip and the late checkpoints that lie there.

        Args:
            first_step: what the arm was already charged before training, where its learning curve begins.

        Returns:
            warnings, notes, hit_rate, checkpoints ([steps, file] each), trained (steps of the whole so far), backend
            and engine.
        """
        log = _Log(self, first_step)
        self.trainer.learn(self.stop, log.add)
        log.close()
        self.trainer.save(self.folder / "agent.zip")
        self.model.get_env().close()
        facts = {
            "warnings": log.warnings(),
            "notes": self.guide.notes(),
            "hit_rate": log.mean_hit_rate(),
            "checkpoints": log.checkpoints,
            "trained": self.model.num_timesteps,
        }
        return {**facts, "backend": self.backend, "engine": self.trainer.engine}

    @property
    def model(self) -> Any:
        """The trainer's learner."""
        return self.trainer.model

    def suspend(self, path: Path) -> Path:
        """After `learn`: write what another learner needs to go on (`resume`), whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        return Suspended(_trains(self.model), self.begun, self.steps, self.trainer.state()).save(path)

    def _resume(self, held: Suspended) -> None:
        trains = _trains(self.model)
        if held.algorithm != trains or held.total != self.steps:
            raise RunError(
                f"the suspended training is one of {held.algorithm} over {held.total} steps, not of "
                f"{trains} over {self.steps}; begin it anew"
            )
        self.trainer.restore(held.trainer)


def _trains(model: Any) -> str:
    """Whose algorithm the learner is, by its class outside this package: agents of A2C and TRPO go on as PPO."""
    ours = __name__.split(".")[0]
    return next(c.__name__ for c in type(model).__mro__ if c.__module__.split(".")[0] != ours)


@dataclass(frozen=True)
class RunSource:
    """What parts may ask of a run folder (`guide.base.Source`)."""

    space: Workspace

    @property
    def describer(self) -> Describer:
        return self.space.describer

    @property
    def spaces(self) -> tuple[spaces.Space, spaces.Space]:
        return self.space.spaces

    @property
    def snapshotter(self) -> Snapshotter:
        return self.space.snapshotter

    @property
    def episodes(self) -> EpisodeSet | None:
        return self.space.episodes if self.space.collected else None

    @property
    def actor(self) -> Policy:
        return self.space.actor

    def make_env(self) -> gym.Env:
        return self.space.make_env()

    def rescaled(self, agent: Agent) -> Agent:
        return rescaled(agent, self.spaces[0])

    def importance(self) -> Callable[[Any], np.ndarray]:
        path = self.space.run.root / "explain" / MASK_FILE
        if not path.exists():
            raise RunError(
                f"{self.space.run.root}: restarts at fresh states need a mask network to find them: explain with "
                "--explain.explainer rice or statemask, or restart at the advice's states (--train.guide.restart-at "
                "advice)"
            )
        return load_mask(path, self.space).importance


def _gamma(agent: Agent) -> float:
    return float(agent.hyperparameters.get("gamma") or 0.99)


class _Log:
    """Writes a line of the learning curve after each update, and saves late checkpoints."""

    def __init__(self, learner: Learner, first_step: int):
        self._learner, self._first = learner, first_step
        self._file = open(learner.folder / CURVE, "w", encoding="utf-8")  # noqa: SIM115
        self._points: list[CurvePoint] = []
        count, steps = learner.config.late_checkpoints, learner.steps
        # The last one is the end of training itself; the others lie in its last fifth, or what else is set.
        shares = np.linspace(1.0 - learner.config.late_share, 1.0, count + 1)[1:-1]
        due = [int(steps * f) for f in shares] if count > 1 else []
        self._due = [d for d in due if learner.start < d <= learner.stop]
        self.checkpoints: list[list[Any]] = []
        self._begun = time.monotonic()

    def add(self, update: Update) -> None:
        told = self._learner.guide.line()
        begun = update.steps - self._learner.start
        point = CurvePoint(
            steps=self._first + update.steps,
            trained=update.steps,
            return_mean=_mean([total for total, _ in update.episodes]),
            episodes=len(update.episodes),
            length_mean=_mean([length for _, length in update.episodes]),
            hit_rate=told.pop("hit_rate", None),
            bonus_mean=told.pop("bonus_mean", None),
            steps_per_second=round(begun / max(time.monotonic() - self._begun, 1e-9), 1),
            signals={"imitation": None, "entropy": None, "explained_variance": None, **update.signals, **told},
        )
        self._points.append(point)
        self._file.write(point.as_line())
        self._file.flush()
        due = [d for d in self._due if d <= update.steps]
        if due:
            self._due = self._due[len(due) :]
            name = f"agent-{update.steps}.zip"
            self._learner.trainer.save(self._learner.folder / name)
            self.checkpoints.append([update.steps, name])

    def close(self) -> None:
        self._file.close()
        trained = self._learner.model.num_timesteps
        if self.checkpoints and self.checkpoints[-1][0] == trained:
            # Of two at the same number of steps the last is the agent itself: one entry, one file to be scored.
            _, name = self.checkpoints.pop()
            for file in self._learner.folder.glob(f"{Path(name).stem}.*"):
                file.unlink()
        self.checkpoints.append([trained, "agent.zip"])

    def mean_hit_rate(self) -> float | None:
        hits = [point.hit_rate for point in self._points if point.hit_rate is not None]
        return float(np.mean(hits)) if hits else None

    def warnings(self) -> list[str]:
        """Signs that guidance was farmed, or never met."""
        plan, points = self._learner.plan, self._points
        if self._learner.guide.sense is None or not plan.guided or len(points) < 6:
            return []
        if not (self.mean_hit_rate() or any(point.bonus_mean for point in points)):
            return ["no advice ever applied: its conditions or neighbourhoods never held in training"]
        if not (plan.state_reward or plan.terms):
            return []
        third = len(points) // 3
        bonus = [float(point.bonus_mean or 0.0) for point in points]
        early = [point.return_mean for point in points[:third] if point.return_mean is not None]
        late = [point.return_mean for point in points[-third:] if point.return_mean is not None]
        farmed = np.mean(bonus[-third:]) > np.mean(bonus[:third]) + 0.05 * (abs(np.mean(bonus[:third])) + 1e-9)
        if farmed and early and late and np.mean(late) <= np.mean(early):
            return ["the guidance reward rose while the true return did not: it may be farmed"]
        return []


def _mean(values: list[Any]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
