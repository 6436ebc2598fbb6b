"""LunarLander-v3 once more, with fresh seeds: 1000 episodes of Gymnasium's own way to land in each simulator.

Asked because the first comparison left p = 0.01 before correction. Fixed before it was run: the task stays in
`EQUAL_TASKS` only if Welch's p is at least 0.01 and the 95 % interval of the difference lies within ±15.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from check_envpool import _heuristic
from scipy import stats

from unstuck.tasks import make_env
from unstuck.vecenvs.lean import LeanVecEnv
from unstuck.vecenvs.pool import EnvPoolVecEnv

ID, ENVS, EPISODES = "LunarLander-v3", 50, 20


def play(venv: Any, env: Any, seed: int) -> np.ndarray:
    """(ENVS · EPISODES,) returns of the first episodes of each environment."""
    venv.seed(seed)
    obs, policy = venv.reset(), _heuristic(env, 0.0)
    returns: list[list[float]] = [[] for _ in range(ENVS)]
    while min(map(len, returns)) < EPISODES:
        obs, _, _, infos = venv.step(policy(obs))
        for own, info in zip(returns, infos, strict=True):
            if "episode" in info:
                own.append(info["episode"]["r"])
    return np.array([r for own in returns for r in own[:EPISODES]])


def main() -> int:
    warnings.filterwarnings("ignore")
    env = make_env(ID)
    pool = EnvPoolVecEnv(ID, ENVS, env.observation_space, env.action_space, max_episode_steps=1000)
    theirs, ours = play(pool, env, 987654), play(LeanVecEnv(lambda: make_env(ID), ENVS), env, 456789)
    test = stats.ttest_ind(theirs, ours, equal_var=False)
    low, high = test.confidence_interval()
    print(f"EnvPool {theirs.mean():.1f}, Gymnasium {ours.mean():.1f}; p = {test.pvalue:.2f}, {low:.1f} to {high:.1f}")
    return 0 if test.pvalue >= 0.01 and max(-low, high) <= 15 else 1


if __name__ == "__main__":
    raise SystemExit(main())
