"""What parts do inside Stable-Baselines3's PPO: actions in place of the policy's own, and a loss towards suggestions.

`FastPPO` asks by itself (`unstuck.ppo.hooks`). Where SB3's own loops train, they are left as they are. The policy's
`forward`, which is called only while rollouts are collected, takes other actions. The rollout buffer also remembers
which suggestion applied in each state, and the policy's `evaluate_actions`, which PPO calls on each minibatch, attaches
the imitation loss to the values that it returns: `_Attach` passes values through unchanged and hands the loss its
gradient on the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage

from unstuck.errors import AgentError
from unstuck.guide.assembly import Guide
from unstuck.guide.base import Part, Suggestions
from unstuck.guide.memory import Memory
from unstuck.guide.parts.imitation import WHOLE_PULL, pulls
from unstuck.guide.sense import Sense, imitating
from unstuck.ppo.fast import FastPPO


class Attached:
    """Everything of a guide that takes part in one PPO, attached to it before it learns.

    Args:
        model: made with environments that `Guide.wrap` was put around.
        guide: whose parts take part.

    Attributes:
        imitation: the loss towards suggestions; None where nothing is imitated.
        memory: looks at whole rollouts in place of steps; None where guidance is computed at each step, or not at all.
    """

    def __init__(self, model: PPO, guide: Guide):
        self.imitation: ImitationLoss | None = None
        self.memory: Memory | None = None
        sense = guide.sense
        if sense is None:
            return
        if (part := imitating(sense.parts)) is not None:
            self.imitation = ImitationLoss(model, sense, part)
        log_prob = guide.plan.log_prob
        sense.executes = log_prob == "own"
        if any(p.acts for p in sense.parts):
            if log_prob != "own":
                attach_actions(model, sense, log_prob)
        elif _looks_back(model, sense):
            model.hindsight = self.memory = Memory(sense)  # type: ignore[attr-defined]


def _looks_back(model: PPO, sense: Sense) -> bool:
    """Whether it makes no difference to look at whole rollouts: our own loops train, and no wrapper in between looks at
    rewards. Callbacks then see a step's rewards without guidance. Parts that must be asked at each step are."""
    if not isinstance(model, FastPPO) or model.slow_because is not None:
        return False
    venv: VecEnv | None = model.get_env()
    while isinstance(venv, VecEnvWrapper) and venv is not sense:
        scaled = isinstance(venv, VecNormalize) and (venv.norm_reward or venv.training)
        if scaled or not isinstance(venv, VecNormalize | VecTransposeImage):
            return False
        venv = venv.venv
    pure = [p for p in sense.parts if p.rewards and "each_step" not in p.needs]
    return venv is sense and not any("observations" in p.needs for p in pure)


class _Actions:
    """What `FastPPO` asks for the actions to take (`unstuck.ppo.hooks.Substitution`)."""

    def __init__(self, sense: Sense, log_prob: Literal["suggestion", "mixed"]):
        self.substitute, self.log_prob = sense.substitute, log_prob


def attach_actions(model: PPO, sense: Sense, log_prob: Literal["suggestion", "mixed"]) -> None:
    """Make rollouts take the actions that parts put in the place of the policy's.

    Args:
        log_prob: `suggestion` stores the suggestion's log-prob under the policy, `mixed` that of the action which
            the policy itself had chosen. (The third way, `own`, needs only the wrapper: PPO never learns of the
            substitution.)
    """
    if isinstance(model, FastPPO) and model.slow_because is None:
        model.substitution = _Actions(sense, log_prob)
    else:
        _hook(model.policy, sense, log_prob)


def _hook(policy: Any, sense: Sense, log_prob: Literal["suggestion", "mixed"]) -> None:
    """`policy.forward` is called only while SB3's PPO collects rollouts: substitute there."""
    forward = policy.forward

    def guided_forward(obs: Any, deterministic: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        actions, values, own = forward(obs, deterministic)
        if not sense.suggesting.any():
            return actions, values, own
        taken = torch.as_tensor(sense.substitute(actions.cpu().numpy()), device=actions.device, dtype=actions.dtype)
        if log_prob == "mixed":
            return taken, values, own
        # SB3 keeps the distribution that it has just sampled from in `action_dist`.
        return taken, values, policy.action_dist.log_prob(taken)

    policy.forward = guided_forward


class _Attach(torch.autograd.Function):
    """Identity on `values` whose backward pass also gives `loss` a gradient of 1."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return grad[0], torch.ones((), dtype=grad[0].dtype, device=grad[0].device)


class _Remembered:
    """The suggestion for each state that a rollout buffer stores, and where there is one, kept beside the buffer. Its
    methods are overlaid on the instance: who holds the buffer goes on to hold it, also in the middle of `learn`.

    Attributes:
        advised: (n_steps, n_envs) bool; flattened environment by environment once minibatches have been asked for.
        suggested: (n_steps, n_envs, *action shape) float32.
        minibatch: suggestions, and how hard they pull, of the minibatch given last.
    """

    NAMES = ("reset", "add", "get", "_get_samples")

    def __init__(self, buffer: RolloutBuffer, owner: ImitationLoss):
        self._buffer, self._owner = buffer, owner
        self.minibatch: tuple[np.ndarray, np.ndarray] | None = None
        self._own = {name: getattr(buffer, name) for name in self.NAMES}
        for name in self.NAMES:
            setattr(buffer, name, getattr(self, name))
        buffer.reset()

    def detach(self) -> None:
        for name in self.NAMES:
            delattr(self._buffer, name)

    def reset(self) -> None:
        self._own["reset"]()
        shape = (self._buffer.buffer_size, self._buffer.n_envs)
        self.advised: np.ndarray = np.zeros(shape, dtype=bool)
        self.suggested: np.ndarray = np.zeros((*shape, *(self._buffer.action_space.shape or ())), dtype=np.float32)
        self.minibatch = None

    def add(self, obs: Any, *args: Any, **kwargs: Any) -> None:
        found = self._owner.suggestions(self._owner.policy_mode() if self._owner.wants_own else None)
        if found is not None:
            self.advised[self._buffer.pos] = found[0]
            self.suggested[self._buffer.pos][found[0]] = found[1]
            if self._owner.lessons is not None:
                self._owner.lessons.add(obs[found[0]], found[1])
        self._own["add"](obs, *args, **kwargs)

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        if not self._buffer.generator_ready:
            # The order that `swap_and_flatten` gives everything else: environment by environment.
            self.advised = self.advised.swapaxes(0, 1).reshape(-1)
            self.suggested = self.suggested.swapaxes(0, 1).reshape(-1, *self.suggested.shape[2:])
            self.pulls = self._owner.pulls(self.advised, self.suggested)
        yield from self._own["get"](batch_size)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        self.minibatch = self.suggested[batch_inds], self.pulls[batch_inds]
        return self._own["_get_samples"](batch_inds, env)


class Lessons:
    """States in which something was suggested, and what: all of a training so far, or as many of them as there is room
    for, each with the same probability (reservoir sampling). Learning from all of them, and not from the last rollout
    alone, is DAgger's aggregation (Ross, Gordon and Bagnell, AISTATS 2011): in a rollout neighbouring frames are nearly
    the same, and a network learns them by heart and forgets those before.

    Args:
        room: how many states.
        space: of the observations as they are learnt from.
        actions: discrete.
    """

    def __init__(self, room: int, space: spaces.Space, actions: spaces.Space, seed: int):
        if not isinstance(space, spaces.Box) or not isinstance(actions, spaces.Discrete):
            raise AgentError("--train.guide.imitate-memory is for images and discrete actions: leave it out")
        self._obs = np.zeros((room, *space.shape), space.dtype)
        self._suggested = np.zeros(room, np.int64)
        self._held = self._seen = 0
        self._rng = np.random.default_rng([seed, 80])

    def __len__(self) -> int:
        return self._held

    def add(self, obs: np.ndarray, suggested: np.ndarray) -> None:
        """(M, *shape) states and (M,) what is suggested there."""
        for state, action in zip(obs, np.asarray(suggested).reshape(-1), strict=True):
            at = self._seen if self._seen < len(self._obs) else int(self._rng.integers(self._seen + 1))
            self._seen += 1
            if at < len(self._obs):
                self._obs[at], self._suggested[at] = state, action
                self._held = max(self._held, at + 1)

    def draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(count, *shape) states and (count,) suggestions, with repetition."""
        some = self._rng.integers(self._held, size=count)
        return self._obs[some], self._suggested[some]


class Suggesting(Protocol):
    """What knows the states that a model acts in."""

    def suggestions(self, own: np.ndarray | None) -> Suggestions | None:
        """What is to be imitated in the states from which the last step was taken; `own`: the policy's most likely
        actions there, (n_envs, ...)."""


class ImitationLoss:
    """Attaches the imitation loss to a PPO that is about to learn.

    Discrete: cross-entropy towards the suggested action. Continuous: half the squared distance of the mean action
    from the suggestion in units of the policy's standard deviation. Averaged over the *matched* samples of the
    minibatch, so that rare advice is not diluted, and multiplied with `coefficient`; but where less than `WHOLE_PULL`
    of the minibatch matches, the pull shrinks in proportion: a mean over two samples in a thousand would pull the whole
    policy with full force.

    Args:
        sense: asked for suggestions.
        part: whose suggestions they are; its `imitate` is the coefficient, which may fall over training.
    """

    def __init__(self, model: PPO, sense: Suggesting, part: Part):
        self._part, self._sense, self.wants_own = part, sense, part.wants_own
        self.whole_pull = WHOLE_PULL
        self._policy: Any = model.policy
        self._discrete = isinstance(model.action_space, spaces.Discrete)
        self._box = isinstance(model.action_space, spaces.Box)
        self._losses: list[float] = []
        self.lessons: Lessons | None = None
        """All suggestions so far, where they are remembered."""
        self.remembered: _Remembered | None = None
        """Suggestions for the rollout, where SB3's own loops train."""
        if isinstance(model, FastPPO) and model.slow_because is None:
            if part.memory:
                raise AgentError(
                    "--train.guide.imitate-memory is for policies that see images; others are trained by loops that do "
                    "not remember states: leave it out"
                )
            model.target = self
        else:
            if part.memory:
                self.lessons = Lessons(part.memory, model.observation_space, model.action_space, int(model.seed or 0))
            self._hook(model)

    @property
    def coefficient(self) -> float:
        """What the loss is multiplied with now."""
        return self._part.imitate

    def suggestions(self, mode: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Suggestions for the states from which the last step was taken.

        Args:
            mode: (n_envs, ...) the policy's most likely actions in these states; only looked at if `wants_own`.

        Returns:
            (n_envs,) bool, where there is a suggestion, and (M, ...) the suggested actions there; None for nowhere.
        """
        found = self._sense.suggestions(mode)
        return None if found is None else (found.where, found.actions)

    def pulls(self, advised: np.ndarray, suggested: np.ndarray) -> np.ndarray:
        """(N,) float32, how hard each sample is pulled: (N,) bool, where there is a suggestion, and (N, ...) these."""
        return pulls(advised, suggested, self._part.balance)

    def record(self, losses: list[float]) -> None:
        """Takes the losses of minibatches, before `coefficient`."""
        self._losses += losses

    def _hook(self, model: PPO) -> None:
        """Attach to SB3's own loops."""
        self._evaluate = model.policy.evaluate_actions
        self.remembered = _Remembered(model.rollout_buffer, self)
        model.policy.evaluate_actions = self._evaluate_and_attach  # type: ignore[method-assign]

    def detach(self) -> None:
        """Take the loss off a model that SB3's own loops train, between two rollouts."""
        if self.remembered is not None:
            self.remembered.detach()
        del self._policy.evaluate_actions

    def policy_mode(self) -> np.ndarray:
        """The policy's most likely actions in the states just acted in: SB3 keeps the distribution that it has just
        sampled from in `action_dist`."""
        with torch.no_grad():
            return self._policy.action_dist.mode().cpu().numpy()

    def _evaluate_and_attach(self, obs: Any, actions: torch.Tensor) -> Any:
        values, log_prob, entropy = self._evaluate(obs, actions)
        assert self.remembered is not None
        assert self.remembered.minibatch is not None
        suggested, pulls = self.remembered.minibatch
        if pulls.any() or self.lessons:
            loss = self._recalled(len(pulls)) if self.lessons else self._loss(suggested, pulls)
            if loss.requires_grad:
                values = _Attach.apply(values, self.coefficient * loss)
            self.record([float(loss.detach())])
        return values, log_prob, entropy

    def _recalled(self, count: int) -> torch.Tensor:
        """The loss over states drawn from all that are remembered, in place of the minibatch's own."""
        assert self.lessons is not None
        obs, suggested = self.lessons.draw(count)
        pull = torch.as_tensor(self.pulls(np.ones(count, bool), suggested), device=self._policy.device)
        actions = torch.as_tensor(suggested, device=self._policy.device)
        _, log_prob, _ = self._evaluate(torch.as_tensor(obs, device=self._policy.device), actions)
        return -(log_prob * pull).mean()

    def _loss(self, suggested: np.ndarray, pulls: np.ndarray) -> torch.Tensor:
        # SB3 keeps the distribution that it has just evaluated in `action_dist`: no second forward pass is needed.
        inner = self._policy.action_dist.distribution
        target = torch.as_tensor(suggested, device=self._policy.device)
        if self._discrete:
            each = -inner.log_prob(target.long())
        elif not self._box:
            each = -self._policy.action_dist.log_prob(target)  # several choices at once
        else:
            each = 0.5 * (((inner.mean - target) / inner.stddev.detach()) ** 2).sum(dim=1)
        matched = torch.as_tensor(pulls, dtype=each.dtype, device=each.device)
        return (each * matched).sum() / matched.sum().clamp(min=self.whole_pull * len(each))

    def take_loss(self) -> float | None:
        """Mean loss since the last call, None if no sample matched."""
        losses, self._losses = self._losses, []
        return float(np.mean(losses)) if losses else None
