"""Acting with a policy: reproducibly, whatever the batch, and with noise that a branch can own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor

from unstuck.agents.normalization import Normalization
from unstuck.errors import AgentError
from unstuck.numpy_policy import Categorical, Gaussian, Head, NumpyPolicy, linear_policy
from unstuck.tasks.beside import seen

Array = np.ndarray
_KNOWN = (ActorCriticPolicy, ActorCriticCnnPolicy, MultiInputActorCriticPolicy)
_DISTRIBUTIONS = (
    DiagGaussianDistribution,
    StateDependentNoiseDistribution,
    CategoricalDistribution,
    MultiCategoricalDistribution,
    BernoulliDistribution,
)


class Actor:
    """A frozen copy of a policy that takes raw observations.

    The weights are copied on construction, and computed with in float64 (except images and custom
    policies): rounded back to float32, results then do not depend on which other rows are in the batch,
    which float32 matrix products do not promise. They differ from SB3's `predict` by float32 rounding.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        normalization: Normalization | None,
        action_space: spaces.Space,
        seed: int = 0,
    ) -> None:
        """Copy the policy.

        Args:
            seed: of the generator that `act` draws from when it is given none.

        Raises:
            AgentError: the policy's action distribution is none of SB3's.
        """
        if not isinstance(policy.action_dist, _DISTRIBUTIONS):
            raise AgentError(
                f"The policy samples from a {type(policy.action_dist).__name__}, which Unstuck cannot sample "
                "from; it knows the action distributions of Stable-Baselines3."
            )
        self.policy = _copy(policy)
        self._exact = type(policy) in _KNOWN and not any(p.dim() > 3 for p in policy.parameters())
        if self._exact:
            self.policy.double()
        self.normalization = normalization
        self.action_space = action_space
        self._rng = np.random.default_rng(seed)

    def _features(self, obs_raw: Any) -> tuple[Any, Any]:
        """Features for actor and critic, or the observations themselves for custom policies."""
        policy = self.policy
        ready = network_input(policy, self.normalization, obs_raw, exact=self._exact)
        if not self._exact:
            return ready, ready
        return policy.pi_features_extractor(ready), policy.vf_features_extractor(ready)

    def distribution(self, obs_raw: Any) -> Distribution:
        """SB3's action distribution at raw observations (N, *obs_shape), or a dict of such arrays."""
        with torch.no_grad():
            features, _ = self._features(obs_raw)
            return self._distribution(features)

    def _distribution(self, features: Any) -> Distribution:
        if not self._exact:
            return self.policy.get_distribution(features)
        return self.policy._get_action_dist_from_latent(self.policy.mlp_extractor.forward_actor(features))

    def values(self, obs_raw: Any) -> Array:
        """V(s) of raw observations: (N,) float64, in the reward's unit as the critic was trained.

        Where rewards were normalised during training (`Normalization.norm_reward`), that is the unit of
        the normalised reward.
        """
        with torch.no_grad():
            _, features = self._features(obs_raw)
            return self._values(features)

    def _values(self, features: Any) -> Array:
        policy = self.policy
        if self._exact:
            out = policy.value_net(policy.mlp_extractor.forward_critic(features))
        else:
            out = policy.predict_values(features)
        return out.float().double().numpy().reshape(-1)

    def act(self, obs_raw: Any, deterministic: bool = True, rngs: Sequence[np.random.Generator] | None = None) -> Array:
        """Actions to execute, inside the bounds.

        Args:
            obs_raw: (N, *obs_shape), or a dict of such arrays; before normalisation.
            deterministic: the most likely action; else a sample.
            rngs: N generators; row i draws from the i-th alone, so that two branches with equal generators
                meet the same luck however their rows are batched. By default all rows draw from the
                actor's own generator.

        Returns:
            (N, *action_shape) of the action space's dtype. With gSDE, noise is drawn afresh at each step
            from the right distribution, while SB3 holds its exploration matrix for some steps.

        Raises:
            ValueError: the number of generators is not N.
        """
        distribution = self.distribution(obs_raw)
        rows = self._rows(distribution)
        if rngs is None:
            rngs = [self._rng] * rows
        if len(rngs) != rows:
            raise ValueError(f"{rows} observations need as many generators, got {len(rngs)}")
        return self._execute(_choose(distribution, deterministic, rngs))

    @staticmethod
    def _rows(distribution: Distribution) -> int:
        inner = distribution.distribution
        first = inner[0] if isinstance(inner, list) else inner
        return int(first.batch_shape[0])

    def _execute(self, raw: Array) -> Array:
        space = self.action_space
        if isinstance(space, spaces.Box):
            raw = raw.astype(np.float32)
            if self.policy.squash_output:
                raw = self._stretch(np.tanh(raw))
            return np.clip(raw.reshape(-1, *space.shape), space.low, space.high).astype(space.dtype)
        return raw.reshape(-1, *(space.shape or ())).astype(space.dtype or np.int64)

    def _stretch(self, squashed: Array) -> Array:
        """From [-1, 1] to the bounds of the action space."""
        low, high = self.action_space.low, self.action_space.high  # type: ignore[attr-defined]
        return low + 0.5 * (squashed + 1.0) * (high - low)

    def plain(self) -> NumpyPolicy | None:
        """The same policy in numpy; None where it is of a kind that only torch computes (images, dicts, gSDE...)."""
        policy, head = self.policy, self._head()
        plain = type(policy) is ActorCriticPolicy and not policy.squash_output
        if head is None or not plain or type(policy.features_extractor) is not FlattenExtractor:
            return None
        if type(policy.mlp_extractor) is not MlpExtractor:
            return None
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
        return linear_policy(modules, head, self.normalization, policy.observation_space, self.action_space)

    def _head(self) -> Head | None:
        kind = type(self.policy.action_dist)
        if kind is CategoricalDistribution:
            return Categorical()
        if kind is not DiagGaussianDistribution:
            return None
        std = np.exp(self.policy.log_std.detach().double().numpy())
        return Gaussian(std.astype(np.float32).astype(np.float64))

    def signals(self, obs_raw: Any, actions: Array | None = None) -> dict[str, Array]:
        """What the agent thinks of raw observations, by name. Its critic knows no actions, so none are needed.

        Returns:
            `value` (N,); for Box actions `action_mean` and `action_std` (N, A), before clipping, in the
            action's unit (squashed gSDE: to first order); for Discrete `action_prob` (N, n), for
            several choices at once those of all one after the other, for MultiBinary (N, n) that of a one. All float64.
        """
        with torch.no_grad():
            for_actor, for_critic = self._features(obs_raw)
            found = {"value": self._values(for_critic)}
            distribution = self._distribution(for_actor)
        if isinstance(self.action_space, spaces.Box):
            inner: Any = distribution.distribution
            mean, std = _float(inner.mean), _float(inner.stddev)
            if self.policy.squash_output:
                squashed = np.tanh(mean)
                half = 0.5 * (self.action_space.high - self.action_space.low).reshape(-1)
                mean, std = self._stretch(squashed), std * (1 - squashed**2) * half
            found |= {"action_mean": mean, "action_std": std}
        elif isinstance(distribution, CategoricalDistribution):
            found["action_prob"] = _float(distribution.distribution.probs)
        elif isinstance(distribution, MultiCategoricalDistribution):
            found["action_prob"] = np.concatenate([_float(d.probs) for d in distribution.distribution], axis=1)
        elif isinstance(distribution, BernoulliDistribution):
            found["action_prob"] = _float(distribution.distribution.probs)
        return found


def network_input(policy: Any, normalization: Normalization | None, obs_raw: Any, *, exact: bool) -> Any:
    """Raw observations (N, *obs_shape), or a dict of such arrays, as the features extractors take them: normalised,
    images scaled and turned, states one-hot, in float64. Where not `exact`, as the policy's own methods take them."""
    obs_raw = seen(obs_raw)
    obs = normalization.apply(obs_raw) if normalization else obs_raw
    tensor, _ = policy.obs_to_tensor(obs)
    if not exact:
        return tensor
    ready = preprocess_obs(tensor, policy.observation_space, normalize_images=policy.normalize_images)
    if isinstance(ready, dict):
        return {key: value.double() for key, value in ready.items()}
    return ready.double()


def _copy(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    """A copy on the CPU in evaluation mode, without the optimiser."""
    noise = copy.copy(policy.action_dist)
    for name, value in vars(noise).items():
        # gSDE keeps results of its last step, whose gradients torch refuses to copy.
        if isinstance(value, (torch.Tensor, torch.distributions.Distribution)):
            setattr(noise, name, value.detach() if isinstance(value, torch.Tensor) else None)
    memo: dict[int, Any] = {id(policy.action_dist): noise, id(policy.optimizer): None}
    made = copy.deepcopy(policy, memo).to("cpu")
    made.set_training_mode(False)
    return made


def _float(tensor: torch.Tensor) -> Array:
    """Rounded to float32, where the batch no longer shows, as float64."""
    return tensor.detach().float().double().numpy()


def _choose(distribution: Distribution, deterministic: bool, rngs: Sequence[np.random.Generator]) -> Array:
    """Modes or samples (N, A) or (N,); Gaussians before squashing and clipping."""
    inner: Any = distribution.distribution
    if isinstance(distribution, (DiagGaussianDistribution, StateDependentNoiseDistribution)):
        mean = _float(inner.mean)
        if deterministic:
            return mean
        noise = np.stack([rng.standard_normal(mean.shape[1]) for rng in rngs])
        return mean + _float(inner.stddev) * noise
    if isinstance(distribution, CategoricalDistribution):
        return _pick(_float(inner.probs), None if deterministic else np.array([r.random() for r in rngs]))
    if isinstance(distribution, MultiCategoricalDistribution):
        draws = None if deterministic else np.stack([rng.random(len(inner)) for rng in rngs])
        columns = [_pick(_float(d.probs), None if draws is None else draws[:, k]) for k, d in enumerate(inner)]
        return np.stack(columns, axis=1)
    probs = _float(inner.probs)
    if deterministic:
        return np.round(probs)
    return np.stack([rng.random(probs.shape[1]) for rng in rngs]) < probs


def _pick(probs: Array, uniforms: Array | None) -> Array:
    """Row-wise argmax, or the inverse of the cumulative distribution at one uniform number per row."""
    if uniforms is None:
        return np.argmax(probs, axis=1)
    cumulative = np.cumsum(probs, axis=1)
    return np.sum(uniforms[:, None] * cumulative[:, -1:] >= cumulative, axis=1).clip(max=probs.shape[1] - 1)
