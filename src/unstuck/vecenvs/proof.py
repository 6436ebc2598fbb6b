"""Whether EnvPool's task of an id is Gymnasium's: the same actions from the same state, compared step by step.

Each simulator starts where it likes, so EnvPool is reset, its state is read from its observation, and Gymnasium's
simulator is put there. Where a robot stands along the track is not observed, and does not change how it moves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TOLERANCE = 1e-4
"""Of `quick_deviation`. Solvers of contacts stop within about 1e-5; another reward or model is off by far more."""


@dataclass
class Deviation:
    """How far two simulators are apart after the same actions, in units of `scale` = max(1, |value|)."""

    observation: list[float] = field(default_factory=list)
    """Of each step since the reset, the largest over all environments and dimensions."""
    reward: list[float] = field(default_factory=list)
    endings: int = 0
    """Steps at which one simulator ended the episode and the other did not."""
    ended: int = 0
    """Episodes that both simulators ended, at the same step."""

    def at(self, step: int) -> float:
        """The largest deviation of observation or reward in the first `step` steps."""
        return max([*self.observation[:step], *self.reward[:step]], default=float("nan"))


def quick_deviation(env_id: str, envs: int = 4, steps: int = 10) -> float:
    """The largest deviation in a few steps of random actions, NaN if episodes end differently; takes about 0.1 s."""
    from unstuck.tasks import make_env

    made = [make_env(env_id) for _ in range(envs)]
    pool = make_pool(env_id, num_envs=envs, num_threads=1, seed=1)
    found = compare(pool, made, steps, random_actions(made[0].action_space, envs))
    for env in made:
        env.close()
    return float("nan") if found.endings else found.at(steps)


def make_pool(pool_id: str, **settings: Any) -> Any:
    """`envpool.make_gymnasium`, without what it warns of: bounds of its spaces, in place of which Gymnasium's stand."""
    import envpool

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return envpool.make_gymnasium(pool_id, **settings)


def random_actions(space: Any, n: int, scale: float = 1.0, seed: int = 0) -> Callable[[int, np.ndarray], np.ndarray]:
    """Uniform actions; of a Box within `scale` times its bounds."""
    rng = np.random.default_rng(seed)

    def draw(_t: int, _obs: np.ndarray) -> np.ndarray:
        if hasattr(space, "n"):
            return rng.integers(space.n, size=n).astype(np.int32)
        return (scale * rng.uniform(space.low, space.high, (n, *space.shape))).astype(np.float32)

    return draw


def compare(pool: Any, envs: list[Any], steps: int, actions: Callable[[int, np.ndarray], np.ndarray]) -> Deviation:
    """Roll `pool` (EnvPool, freshly made, of len(envs) environments) and Gymnasium's `envs` side by side.

    Args:
        actions: step, observations (N, ...) of EnvPool → actions (N, ...).

    Raises:
        KeyError: if there is no way to put this task's simulator into a state (`can_compare`).
    """
    put = _setter(envs[0])
    assert put is not None
    obs, _ = pool.reset()
    for env, o in zip(envs, obs, strict=True):
        env.reset()
        _forget(env.unwrapped)
        put(env.unwrapped, np.asarray(o, dtype=np.float64))
    alive = np.ones(len(envs), dtype=bool)
    found = Deviation()
    for t in range(steps):
        acts = actions(t, obs)
        obs, rewards, terminated, truncated, _ = pool.step(acts)
        worst_obs, worst_reward = 0.0, 0.0
        for i in np.flatnonzero(alive):
            o, r, ended, _, _ = envs[i].step(acts[i])
            worst_obs = max(worst_obs, apart(obs[i], o))
            worst_reward = max(worst_reward, apart(rewards[i], r))
            found.endings += bool(ended) != bool(terminated[i])
            found.ended += bool(ended) and bool(terminated[i])
            alive[i] = not (ended or terminated[i] or truncated[i])
        found.observation.append(worst_obs)
        found.reward.append(worst_reward)
        if not alive.any():
            break
    return found


def _forget(env: Any) -> None:
    """MuJoCo's solver starts from the accelerations of the step before; after a reset there are none."""
    if hasattr(env, "data"):
        import mujoco

        mujoco.mj_resetData(env.model, env.data)


def apart(a: Any, b: Any) -> float:
    """The largest difference of two observations or rewards, relative where they are larger than 1."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b))))


def can_compare(env: Any) -> bool:
    """Whether Gymnasium's simulator can be put into the state that an observation tells."""
    return _setter(env) is not None


def _setter(env: Any) -> Callable[[Any, np.ndarray], None] | None:
    return _SETTERS.get(env.spec.id.rpartition("-")[0])


def _robot(unseen: int) -> Callable[[Any, np.ndarray], None]:
    """Observations are joint positions, without the first `unseen`, then velocities; what follows is computed."""

    def put(env: Any, obs: np.ndarray) -> None:
        seen = env.model.nq - unseen
        env.set_state(np.concatenate([np.zeros(unseen), obs[:seen]]), obs[seen : seen + env.model.nv])

    return put


def _reacher(env: Any, obs: np.ndarray) -> None:
    angles = np.arctan2(obs[2:4], obs[:2])
    env.goal = obs[4:6]
    env.set_state(np.concatenate([angles, obs[4:6]]), np.concatenate([obs[6:8], np.zeros(2)]))


def _pusher(env: Any, obs: np.ndarray) -> None:
    """The object lies still after a reset; it slides on two joints, y before x."""
    body = env.model.body("object")
    qpos = np.concatenate([obs[:7], (obs[17:19] - body.pos[:2])[::-1], np.zeros(2)])
    env.set_state(qpos, np.concatenate([obs[7:14], np.zeros(4)]))


def _double_pendulum(env: Any, obs: np.ndarray) -> None:
    env.set_state(np.concatenate([obs[:1], np.arctan2(obs[1:3], obs[3:5])]), obs[5:8])


def _state(env: Any, obs: np.ndarray) -> None:
    env.state = np.array(obs)


def _pendulum(env: Any, obs: np.ndarray) -> None:
    env.state = np.array([np.arctan2(obs[1], obs[0]), obs[2]])


def _acrobot(env: Any, obs: np.ndarray) -> None:
    env.state = np.array([np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2]), obs[4], obs[5]])


_SETTERS: dict[str, Callable[[Any, np.ndarray], None]] = {
    **dict.fromkeys(("Hopper", "Walker2d", "HalfCheetah"), _robot(1)),
    **dict.fromkeys(("Swimmer", "Ant", "Humanoid", "HumanoidStandup"), _robot(2)),
    "InvertedPendulum": _robot(0),
    "InvertedDoublePendulum": _double_pendulum,
    "Reacher": _reacher,
    "Pusher": _pusher,
    **dict.fromkeys(("CartPole", "MountainCar", "MountainCarContinuous"), _state),
    "Pendulum": _pendulum,
    "Acrobot": _acrobot,
}
