"""Going on with an agent that learns from a replay buffer.

No file holds the experience an agent had, so each training begins with an empty buffer: the agent first collects, with
its own policy as it explored last, then learns; where there is an actor beside the critic, the critic alone at first.

Guidance takes part without a change of the library's loops. Rewards are added where batches are drawn
(`unstuck.guide.replay`), actions are replaced where they are chosen, and losses towards suggestions hook themselves to
an optimiser (`unstuck.algorithms.imitating`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from unstuck.agents import Agent
from unstuck.agents.policy import build_arguments, load_weights, policy_class
from unstuck.algorithms.averaging import Averaging, acting
from unstuck.algorithms.base import Training
from unstuck.algorithms.imitating import Conservation, Imitation
from unstuck.algorithms.sb3 import first
from unstuck.algorithms.settings import ReplaySettings
from unstuck.algorithms.training import SB3Trainer, later_seed, normalized
from unstuck.errors import AgentError, RunError
from unstuck.guide.replay import guided
from unstuck.guide.sense import Sense, imitating
from unstuck.tasks.beside import bytes_of, seen_space
from unstuck.transitions import Transitions, rows_of

if TYPE_CHECKING:
    from unstuck.config import TrainConfig

REPORT_EVERY = 1_000
"""Environment steps between two lines of the learning curve, about."""
MOST_BETWEEN = 100_000
"""Environment steps between two updates at most, whatever a file says."""
WORTH_SAYING = 2.0
"""Gigabytes of a replay buffer from which on it is told of."""


class Replaying(Protocol):
    """What is asked of an algorithm that learns from a replay buffer."""

    @property
    def rate(self) -> float:
        """Learning rate where the agent's file names none."""
        ...

    @property
    def tau(self) -> float | None:
        """The same for the share that targets take over; None where there are no targets."""
        ...

    def model_class(self) -> type: ...

    def learner_class(self) -> type:
        """What learns in its place, and why torch makes its gradient steps (`slow_because`), if it does."""
        ...

    def arguments(self, agent: Agent, settings: ReplaySettings) -> dict[str, Any]:
        """Of the learner's class, those that not every algorithm with a replay buffer has."""
        ...

    def imitation(self, model: Any, part: Any, training: Training) -> Imitation:
        """The loss towards a part's suggestions that suits it, attached to a learner."""
        ...

    def conservation(self, model: Any, coefficient: float, training: Training) -> Conservation | None:
        """The loss that keeps what the agent does, attached to a learner; None where there is none for it."""
        ...

    def optimisers(self) -> tuple[str, ...]: ...


class _Continued:
    """What is added to a learner's class: it acts by its policy from the first step on, unless it begins anew, and
    parts may put other actions in the place of its own; then these are what the buffer keeps."""

    sense: Sense | None = None
    anew: bool = False

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1) -> Any:
        actions, stored = super()._sample_action(  # type: ignore[misc]
            learning_starts if self.anew else 0, action_noise, n_envs
        )
        if self.sense is None:
            return actions, stored
        taken = self.sense.substitute(actions)
        if taken is actions:
            return actions, stored
        squashed = self.policy.squash_output or hasattr(self.action_space, "low")  # type: ignore[attr-defined]
        return taken, self.policy.scale_action(taken) if squashed else taken  # type: ignore[attr-defined]


@cache
def continued(kind: type) -> Any:
    """A learner's class with that."""
    return type(kind.__name__, (_Continued, kind), {"__module__": __name__})


def cadence(agent: Agent, settings: ReplaySettings) -> tuple[int, int]:
    """Steps of the vector environment between two updates, and gradient steps in each: as many gradient steps for each
    environment step as in the agent's own training."""
    stored = agent.hyperparameters
    freq: Any = settings.train_freq
    if freq is None and isinstance(stored.get("train_freq"), int):
        beside = int(first(stored.get("n_envs"), 1))  # the file counts steps of its vector environment
        freq = min(stored["train_freq"] * max(1, beside), MOST_BETWEEN)
    gradient = settings.gradient_steps
    if freq is None:
        freq = settings.n_envs  # after whole episodes: how long they are is not known here
        gradient = gradient or freq
    gradient = gradient or int(first(stored.get("gradient_steps"), 1))
    share = 1.0 if gradient < 0 else gradient / freq
    steps = max(1, round(freq / settings.n_envs))
    return steps, max(1, round(share * steps * settings.n_envs))


def transitions_kept(agent: Agent, settings: ReplaySettings, steps: int) -> int:
    """Of a replay buffer: as many as the settings or the agent's file say, and no more than are trained."""
    kept = int(first(settings.buffer_size, agent.hyperparameters.get("buffer_size"), 1_000_000))
    return max(settings.n_envs, min(kept, steps))


def memory_note(agent: Agent, space: spaces.Space, config: TrainConfig) -> str:
    """What a user should know of a large replay buffer before it is filled; '' of a small one."""
    kept = transitions_kept(agent, config.replay, config.steps)
    size = 2 * bytes_of(seen_space(space)) * kept / 2**30
    if size < WORTH_SAYING:
        return ""
    return (
        f"its replay buffer of {kept:,} transitions takes {size:.1f} GB of memory in each training, and several train "
        "side by side; --train.replay.buffer-size and --train.jobs make that less"
    )


def _buffer(space: spaces.Space, n_steps: int, gamma: float) -> tuple[type, dict[str, Any]]:
    """The class of a replay buffer, and its arguments: of returns over so many steps, where the library has them (not
    of dictionaries)."""
    if hasattr(space, "spaces"):
        return guided(DictReplayBuffer), {}
    if n_steps == 1:
        return guided(ReplayBuffer), {}
    return guided(NStepReplayBuffer), {"n_steps": n_steps, "gamma": gamma}


class ReplayTrainer(SB3Trainer):
    """A learner with a replay buffer that goes on from an agent.

    Args:
        algorithm: the agent's.
        agent: whose weights it begins with, target networks included.
        venv: raw observations; `training.guide` is wrapped around it.

    Raises:
        AgentError: it cannot go on in these environments.
    """

    def __init__(self, algorithm: Replaying, agent: Agent, venv: VecEnv, training: Training):
        settings = training.config.replay
        steps, gradient = cadence(agent, settings)
        stored, space, held = agent.hyperparameters, venv.observation_space, training.experience
        kept = transitions_kept(agent, settings, training.steps) + (0 if held is None else len(held))
        gamma = float(first(stored.get("gamma"), 0.99))
        buffer, more = _buffer(space, int(first(stored.get("n_steps"), 1)), gamma)
        until = training.begun + min(settings.learning_starts, training.steps // 10)
        self._critic_until = until + (0 if settings.anew else min(settings.critic_warmup, training.steps // 5))
        try:
            kind = algorithm.model_class() if training.config.engine == "sb3" else algorithm.learner_class()
            model = continued(kind)(
                policy_class(agent), normalized(venv, agent, rewards=True),
                learning_rate=float(first(settings.learning_rate, stored.get("learning_rate"), algorithm.rate)),
                batch_size=int(first(settings.batch_size, stored.get("batch_size"), 256)),
                buffer_size=kept, replay_buffer_class=buffer, replay_buffer_kwargs=more,
                learning_starts=until, train_freq=steps, gradient_steps=gradient,
                gamma=gamma,
                policy_kwargs=build_arguments(agent), seed=later_seed(training.seed, training.start),
                device=training.config.device,
                **({} if algorithm.tau is None else {"tau": float(first(stored.get("tau"), algorithm.tau))}),
                **algorithm.arguments(agent, settings),
            )  # fmt: skip
        except (ValueError, TypeError, AssertionError) as error:
            raise AgentError(f"{agent.path}: {agent.algorithm} cannot go on with it here ({error}).") from error
        load_weights(model.policy, agent)
        self._gradient_steps = gradient
        model.anew, model.n_steps = settings.anew, more.get("n_steps", 1)
        super().__init__(model, agent, training)
        self.optimisers = algorithm.optimisers()
        self.imitation: Imitation | None = None
        self._averaging: Averaging | None = None
        if settings.average is not None:
            self._averaging = Averaging(acting(model.policy), settings.average)
        if (conserving := self.guide.part("conserving")) is not None:
            algorithm.conservation(model, conserving.settings.conserve, training)
        if (sense := self.guide.sense) is not None:
            model.replay_buffer.attach(self.guide, self._unscale())
            if any(p.acts for p in sense.parts):
                model.sense = sense
            if (part := imitating(sense.parts)) is not None:
                self.imitation = algorithm.imitation(model, part, training)
        if held is not None:
            self._remember(held)
        self.engine = "sb3" if getattr(model, "slow_because", "it is the library's own") else "fast"

    def _unscale(self) -> Callable[[np.ndarray], np.ndarray] | None:
        return self.model.policy.unscale_action if hasattr(self.model.action_space, "low") else None

    def _remember(self, held: Transitions) -> None:
        """Fill the replay buffer with steps that were taken before. Where parts of guidance read what is no part of the
        learner's observations, there is nothing that they could read, and it stays empty."""
        buffer = self.model.replay_buffer
        if self.guide.sense is not None and self.guide.sense.tells:
            return
        actions = held.actions
        if hasattr(self.model.action_space, "low"):
            actions = self.model.policy.scale_action(actions)
        # Each environment's column holds steps that follow one another, so that returns of several steps can be made.
        length = len(held) // buffer.n_envs
        for k in range(length):
            rows = np.arange(buffer.n_envs) * length + k
            cut = (held.cut[rows] | (k == length - 1)) & ~held.terminated[rows]
            infos = [{"TimeLimit.truncated": bool(c)} for c in cut]
            obs, after = rows_of(held.observations, rows), rows_of(held.next_observations, rows)
            buffer.add(obs, after, actions[rows], held.rewards[rows], held.terminated[rows] | cut, infos)

    def save(self, path: Path) -> Path:
        """As `Trainer.save`, with averaged weights where they are averaged."""
        with self._averaging.in_place() if self._averaging is not None else nullcontext():
            return super().save(path)

    def cadence(self) -> int:
        return REPORT_EVERY

    def callbacks(self) -> list[BaseCallback]:
        actor = getattr(self.model.policy, "actor", None)
        found: list[BaseCallback] = [_CriticFirst(actor, self._critic_until)] if actor is not None else []
        if (early := self.training.config.replay.early) is not None:
            found.append(_MoreAtFirst(self.training.begun + early[0], early[1], self._gradient_steps))
        return [*found, self._averaging] if self._averaging is not None else found

    def signals(self) -> dict[str, float | None]:
        """Losses as the library logs them, `ent_coef` where there is one, and `imitation`."""
        held = self.model.logger.name_to_value
        found = {name.split("/")[1]: float(value) for name, value in held.items() if name.startswith("train/")}
        found.pop("n_updates", None)
        found.pop("learning_rate", None)
        return {**found, "imitation": self.imitation.take_loss() if self.imitation else None}

    def state(self) -> dict[str, Any]:
        """With what is in the replay buffer, the price of entropy, and where the target networks' clock stands."""
        price = getattr(self.model, "log_ent_coef", None)
        return {
            **super().state(),
            "buffer": _buffer_state(self.model.replay_buffer),
            "tensors": {} if price is None else {"log_ent_coef": price.detach().clone()},
            "calls": int(getattr(self.model, "_n_calls", 0)),
            "averaging": {} if self._averaging is None else self._averaging.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        try:
            _restore_buffer(self.model.replay_buffer, state["buffer"])
            for name, held in state["tensors"].items():
                getattr(self.model, name).data.copy_(held)
            if self._averaging is not None:
                self._averaging.restore(state["averaging"])
        except (RuntimeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise RunError(f"the suspended training is of another agent or plan ({error}); begin it anew") from error
        self.model._n_calls = state["calls"]


_BUFFERED = (
    "observations", "next_observations", "actions", "rewards", "dones", "timeouts", "values", "next_values",
)  # fmt: skip


def _buffer_state(buffer: Any) -> dict[str, Any]:
    count = buffer.size()
    arrays = {name: getattr(buffer, name, None) for name in _BUFFERED}
    held: dict[str, Any] = {
        name: {k: v[:count] for k, v in array.items()} if isinstance(array, dict) else array[:count]
        for name, array in arrays.items()
        if array is not None
    }
    return {"pos": buffer.pos, "full": buffer.full, "arrays": held}


def _restore_buffer(buffer: Any, state: Mapping[str, Any]) -> None:
    for name, held in state["arrays"].items():
        parts = held.items() if isinstance(held, dict) else [("", held)]
        for key, array in parts:
            mine = getattr(buffer, name)[key] if key else getattr(buffer, name)
            mine[: len(array)] = array
    buffer.pos, buffer.full = state["pos"], state["full"]


class _MoreAtFirst(BaseCallback):
    """More gradient steps in each update for a while.

    Args:
        until: environment steps of the training.
        first: gradient steps up to there, at least.
        later: from there on.
    """

    def __init__(self, until: int, first: int, later: int):
        super().__init__()
        self._until, self._first, self._later = until, first, later

    def _on_rollout_start(self) -> None:
        more = self.model.num_timesteps < self._until
        self.model.gradient_steps = max(self._first, self._later) if more else self._later  # type: ignore[attr-defined]

    def _on_training_end(self) -> None:
        self.model.gradient_steps = self._later  # type: ignore[attr-defined]  # what a zip says of it

    def _on_step(self) -> bool:
        return True


class _CriticFirst(BaseCallback):
    """The actor stays as it is until the critic has seen something of what the agent does now."""

    def __init__(self, actor: torch.nn.Module, until: int):
        super().__init__()
        self._actor, self._until = actor, until

    def _on_rollout_start(self) -> None:
        self._actor.requires_grad_(self.model.num_timesteps > self._until)

    def _on_step(self) -> bool:
        return True
