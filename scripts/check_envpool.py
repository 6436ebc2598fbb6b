"""Compare EnvPool's tasks with Gymnasium's of the same id, and write docs/envpool.md.

    python scripts/check_envpool.py                      # all tasks that both have, about ten minutes
    python scripts/check_envpool.py --only Hopper-v5 LunarLander-v3 --no-page
    python scripts/check_envpool.py --agents FOLDER      # also with saved agents: Hopper-v5.zip, ...

Exits with 1 if `EQUAL_TASKS` in src/unstuck/vecenvs/tasks.py is not what was measured.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from envpool_page import write_page
from scipy import stats

from unstuck.tasks import make_env
from unstuck.vecenvs import proof
from unstuck.vecenvs.lean import LeanVecEnv
from unstuck.vecenvs.pool import EnvPoolVecEnv
from unstuck.vecenvs.tasks import EQUAL_TASKS

ROOT = Path(__file__).resolve().parents[1]
LEVEL = 0.01
"""Of all tests of one task together (Bonferroni)."""
RESETS = 1000
ENOUGH = 200
"""Episodes of each policy, where returns carry the proof."""
Policy = Callable[[np.ndarray], np.ndarray]


@dataclass
class Returns:
    """One policy's episodes in both: means with 95 % intervals, p of Welch's test and of Kolmogorov and Smirnov's."""

    policy: str
    episodes: int
    pool: tuple[float, float]
    gym: tuple[float, float]
    p_mean: float
    p_ks: float
    p_length: float


@dataclass
class Result:
    """What was measured of one task."""

    id: str
    problems: list[str] = field(default_factory=list)
    one_step: float | None = None
    twenty: float | None = None
    tolerance: float | None = None
    """Gymnasium against itself with a solver that converges fully: how far its own tolerance carries in 20 steps."""
    ended: int = 0
    endings: int = 0
    p_first: float | None = None
    """The smallest p of first observations, over all dimensions, times their number."""
    p_later: float | None = None
    """Likewise of observations after 1, 5 and 20 steps of fixed actions, where a task has noise of its own."""
    returns: list[Returns] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not self.problems


def check(env_id: str, steps: int, agents: Path | None) -> Result:
    """All comparisons of one task."""
    result = Result(env_id)
    env = make_env(env_id)
    try:
        if problem := _spaces(env_id, env):
            result.problems.append(problem)
            return result
        if proof.can_compare(env):
            _dynamics(env_id, env, result)
        elif hasattr(env.unwrapped, "P"):
            _table(env_id, env, result)
        else:
            _noisy(env_id, env, result)
        if result.problems:
            return result
        _first(env_id, env, result)
        # Where states cannot be set, returns carry the proof.
        _returns(env_id, env, result, steps if proof.can_compare(env) else 4 * steps, agents)
    finally:
        env.close()
    return result


def _make(env_id: str, n: int, seed: int = 0) -> Any:
    import envpool

    return envpool.make_gymnasium(env_id, num_envs=n, num_threads=1, seed=seed)


def _spaces(env_id: str, env: Any) -> str | None:
    pool = _make(env_id, 1)
    for name, theirs, ours in (
        ("observations", pool.observation_space, env.observation_space),
        ("actions", pool.action_space, env.action_space),
    ):
        if (theirs.shape, getattr(theirs, "n", None)) != (ours.shape, getattr(ours, "n", None)):
            return f"{name} are {theirs}, Gymnasium's {ours}"
    if hasattr(env.action_space, "low") and not (
        np.allclose(pool.action_space.low, env.action_space.low)
        and np.allclose(pool.action_space.high, env.action_space.high)
    ):
        return "bounds of actions differ"
    limit = env.spec.max_episode_steps or 2**31 - 1
    if pool.config["max_episode_steps"] != limit:
        return f"time limit {pool.config['max_episode_steps']}, Gymnasium's {limit}"
    return None


def _dynamics(env_id: str, env: Any, result: Result) -> None:
    """From equal states: no action, gentle, full and too large ones; 16 environments, 100 steps each."""
    n = 16
    envs = [make_env(env_id) for _ in range(n)]
    found, own = [], []
    for k, scale in enumerate((0.0, 0.3, 1.0, 1.5)):
        draw = proof.random_actions(env.action_space, n, scale, seed=k)
        found.append(proof.compare(_make(env_id, n, seed=k), envs, 100, draw))
        own.append(_own_tolerance(env_id, env.action_space, scale))
    if swing := _swing(env_id):
        found.append(proof.compare(_make(env_id, n), envs, 500, lambda _t, obs: swing(obs)))
    result.one_step = max(d.at(1) for d in found)
    result.twenty = max(d.at(20) for d in found)
    result.tolerance = max(own)
    result.ended, result.endings = sum(d.ended for d in found), sum(d.endings for d in found)
    if result.twenty > max(proof.TOLERANCE, 2 * result.tolerance):
        result.problems.append(f"same state, same actions: {result.twenty:.1g} apart within 20 steps")
    if result.endings:
        result.problems.append(f"{result.endings} of {result.ended + result.endings} episodes end at another step")
    for e in envs:
        e.close()


def _own_tolerance(env_id: str, space: Any, scale: float) -> float:
    """MuJoCo's solver stops at a tolerance: where another version stops a little earlier or later, results differ."""
    pair = [make_env(env_id) for _ in range(2)]
    if not hasattr(pair[0].unwrapped, "model"):
        return 0.0
    pair[1].unwrapped.model.opt.tolerance = 1e-14
    worst = 0.0
    for seed in range(16):
        draw = proof.random_actions(space, 1, scale, seed=seed)
        for e in pair:
            e.reset(seed=seed)
        for t in range(20):
            action = draw(t, np.zeros(0))[0]
            (a, ra, ended, *_), (b, rb, *_) = (e.step(action) for e in pair)
            worst = max(worst, proof.apart(a, b), proof.apart(ra, rb))
            if ended:
                break
    return worst


def _table(env_id: str, env: Any, result: Result) -> None:
    """Every transition against Gymnasium's table; where outcomes are random, their frequencies."""
    n, rng = 64, np.random.default_rng(0)
    pool, P = _make(env_id, n), env.unwrapped.P
    obs, _ = pool.reset()
    counts: dict[tuple[int, int], dict[int, int]] = {}
    wrong = 0
    for _ in range(3000):
        actions = rng.integers(env.action_space.n, size=n).astype(np.int32)
        after, rewards, terminated, truncated, _info = pool.step(actions)
        for s, a, to, r, ended in zip(*(x.tolist() for x in (obs, actions, after, rewards, terminated)), strict=True):
            wrong += not any(o[1] == to and abs(o[2] - r) < 1e-6 and o[3] == ended for o in P[s][a])
            seen = counts.setdefault((s, a), {})
            seen[to] = seen.get(to, 0) + 1
        obs, over = after.copy(), np.flatnonzero(terminated | truncated).astype(np.int32)
        if len(over):
            obs[over], _info = pool.reset(over)
    ps = []
    for (s, a), seen in counts.items():
        expected: dict[int, float] = {}
        for p, to, *_rest in P[s][a]:
            expected[to] = expected.get(to, 0.0) + p
        total = sum(seen.values())
        if len(expected) > 1 and total >= 100 and set(seen) <= set(expected):
            got = [seen.get(to, 0) for to in expected]
            ps.append(stats.chisquare(got, [total * p for p in expected.values()]).pvalue)
    result.p_later = min(1.0, min(ps) * len(ps)) if ps else None
    if wrong:
        result.problems.append(f"{wrong} of {3000 * n} transitions are not in Gymnasium's table")
    if ps and result.p_later < LEVEL:
        result.problems.append(f"frequencies of outcomes differ (p = {result.p_later:.1g})")


def _noisy(env_id: str, env: Any, result: Result) -> None:
    """Observations after fixed actions from the start, as distributions."""
    space, ps = env.action_space, []
    several = [lambda t, a=a: a for a in range(space.n)] if hasattr(space, "n") else []
    rng = np.random.default_rng(0)
    sequence = [space.sample() if not hasattr(space, "n") else rng.integers(space.n) for _ in range(20)]
    for actions in [*several, lambda t: sequence[t]]:
        pool = _after(EnvPoolVecEnv(env_id, 100, env.observation_space, space, max_episode_steps=None), actions)
        gym = _after(LeanVecEnv(lambda: make_env(env_id), 20), actions)
        for t in (1, 5, 20):
            ps.append(_smallest(pool[t], gym[t]))
    result.p_later = min(1.0, min(ps) * len(ps))
    if result.p_later < LEVEL:
        result.problems.append(f"states after the same actions are distributed otherwise (p = {result.p_later:.1g})")


def _after(venv: Any, actions: Callable[[int], Any]) -> dict[int, np.ndarray]:
    """Observations and rewards (RESETS, D + 1) after 1, 5 and 20 steps of the given actions."""
    venv.seed(7)
    found: dict[int, list[np.ndarray]] = {1: [], 5: [], 20: []}
    for _ in range(RESETS // venv.num_envs):
        venv.reset()
        for t in range(20):
            obs, rewards, _, _ = venv.step(np.array([actions(t)] * venv.num_envs))
            if t + 1 in found:
                found[t + 1].append(np.column_stack([obs, rewards]))
    venv.close()
    return {t: np.concatenate(rows) for t, rows in found.items()}


def _smallest(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest p of Kolmogorov and Smirnov's test over the columns, times their number."""
    ps = [_ks(a[:, d], b[:, d]) for d in range(a.shape[1])]
    return min(1.0, min(ps) * len(ps))


def _ks(a: np.ndarray, b: np.ndarray) -> float:
    # Constants are compared as such: rounding would make the test see two distributions.
    if max(np.ptp(a), np.ptp(b)) < 1e-6:
        return float(abs(a[0] - b[0]) < 1e-5)
    return float(stats.ks_2samp(np.round(a, 6), np.round(b, 6)).pvalue)


def _first(env_id: str, env: Any, result: Result) -> None:
    pool = EnvPoolVecEnv(env_id, 100, env.observation_space, env.action_space, max_episode_steps=None)
    pool.seed(3)
    theirs = np.concatenate([pool.reset() for _ in range(RESETS // 100)]).reshape(RESETS, -1)
    ours = np.array([env.reset(seed=i)[0] for i in range(RESETS)]).reshape(RESETS, -1)
    result.p_first = _smallest(theirs.astype(float), ours.astype(float))
    if result.p_first < LEVEL:
        result.problems.append(f"episodes begin elsewhere (p = {result.p_first:.1g})")


def _returns(env_id: str, env: Any, result: Result, steps: int, agents: Path | None) -> None:
    n = 16
    spec = env.spec.max_episode_steps
    policies = _policies(env_id, env, n, agents)
    for name, make in policies.items():
        venvs = (
            EnvPoolVecEnv(env_id, n, env.observation_space, env.action_space, max_episode_steps=spec or 200, threads=1),
            LeanVecEnv(lambda: make_env(env_id, None if spec else {"max_episode_steps": 200}), n),
        )
        length = 4 * steps if name == "agent" else steps
        (a, la), (b, lb) = (_play(venv, make, length) for venv in venvs)
        size = min(len(a), len(b))
        a, b, la, lb = a[:size], b[:size], la[:size], lb[:size]
        same = bool(np.ptp(np.concatenate([a, b])) < 1e-5)
        row = Returns(
            name, size, _mean(a), _mean(b), 1.0 if same else float(stats.ttest_ind(a, b, equal_var=False).pvalue),
            # Sums of float32 rewards: 89.400001 is 89.4.
            _ks(np.round(a, 3), np.round(b, 3)), _ks(la, lb),
        )  # fmt: skip
        result.returns.append(row)
        if (p := min(row.p_mean, row.p_ks, row.p_length) * 3 * len(policies)) < LEVEL:
            result.problems.append(f"returns of the policy {name!r} differ (p = {p:.1g})")
        if size < ENOUGH and not proof.can_compare(env) and not hasattr(env.unwrapped, "P"):
            result.problems.append(f"not shown: {size} episodes of the policy {name!r} are too few to tell")


def _mean(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))


def _play(venv: Any, make: Callable[[], Policy], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of the same number of episodes of each environment, so that short ones are not preferred."""
    venv.seed(11)
    obs, policy = venv.reset(), make()
    done: list[list[tuple[float, int]]] = [[] for _ in range(venv.num_envs)]
    for t in range(100_000):
        obs, _, _, infos = venv.step(policy(obs))
        for i, info in enumerate(infos):
            if "episode" in info:
                done[i].append((info["episode"]["r"], info["episode"]["l"]))
        if t * venv.num_envs >= steps and all(done):
            break
    venv.close()
    k = min(map(len, done))
    episodes = np.array([e for one in done for e in one[:k]], dtype=float)
    return episodes[:, 0], episodes[:, 1]


def _policies(env_id: str, env: Any, n: int, agents: Path | None) -> dict[str, Callable[[], Policy]]:
    space = env.action_space
    found: dict[str, Callable[[], Policy]] = {"random": lambda: _random(space, n)}
    if hasattr(space, "low"):
        found["linear"] = lambda: _linear(env)
    elif len(env.observation_space.shape or ()) == 1:
        found["linear, greedy"] = lambda: _linear(env)
    if env_id.startswith("LunarLander"):
        found["heuristic"] = lambda: _heuristic(env, 0.0)
        if hasattr(space, "n"):
            # With continuous engines it hovers until time is up: too few episodes for what they take.
            found["heuristic, 30 % random"] = lambda: _heuristic(env, 0.3)
        still = np.zeros((n, *space.shape), dtype=space.dtype)
        found["still"] = lambda: lambda obs: still
    if swing := _swing(env_id):
        found["swinging up"] = lambda: swing
    if env_id.startswith("BipedalWalker"):
        found["walking"] = lambda: _walking(n)
    if agents and (agents / f"{env_id}.zip").is_file():
        found["agent"] = lambda: _agent(agents / f"{env_id}.zip", env)
    return found


def _random(space: Any, n: int) -> Policy:
    draw = proof.random_actions(space, n, seed=5)
    return lambda obs: draw(0, obs)


def _linear(env: Any) -> Policy:
    """A fixed random linear policy, which visits other states than random actions do."""
    space = env.action_space
    size = space.n if hasattr(space, "n") else int(np.prod(space.shape))
    weights = np.random.default_rng(2).normal(size=(env.observation_space.shape[0], size)) / 2
    if hasattr(space, "n"):
        return lambda obs: np.argmax(obs @ weights, axis=1)
    return lambda obs: (np.tanh(np.clip(obs, -10, 10) @ weights) * space.high).astype(np.float32)


def _swing(env_id: str) -> Policy | None:
    """Reaches the goal where chance does not: pushes the way that it moves."""
    if env_id == "MountainCarContinuous-v0":
        return lambda obs: np.where(obs[:, 1:] >= 0, 1, -1).astype(np.float32)
    moving = {"MountainCar-v0": (1, 1), "Acrobot-v1": (4, -1)}.get(env_id)
    if moving is None:
        return None
    column, sign = moving
    return lambda obs: np.where(sign * obs[:, column] > 0, 2, 0).astype(np.int32)


def _heuristic(env: Any, random: float) -> Policy:
    """Gymnasium's own way to land."""
    from gymnasium.envs.box2d.lunar_lander import heuristic

    rng, space = np.random.default_rng(1), env.action_space
    space.seed(1)

    def act(obs: np.ndarray) -> np.ndarray:
        own = [space.sample() if rng.random() < random else heuristic(env.unwrapped, o) for o in obs]
        return np.array(own, dtype=space.dtype)

    return act


def _walking(n: int) -> Policy:
    """Gymnasium's own way to walk; its state goes on over the ends of episodes, in both simulators alike."""
    from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics

    walkers = [BipedalWalkerHeuristics() for _ in range(n)]
    return lambda obs: np.array([w.step_heuristic(o) for w, o in zip(walkers, obs, strict=True)], dtype=np.float32)


def _agent(path: Path, env: Any) -> Policy:
    from unstuck.agents import Actor, build_policy, load_agent

    pkl = path.with_suffix(".vecnormalize.pkl")
    agent = load_agent(path, vecnormalize=pkl if pkl.is_file() else None)
    actor = Actor(build_policy(agent, env.observation_space, env.action_space), agent.normalization, env.action_space)
    return lambda obs: actor.act(obs, deterministic=False)


def shared_ids() -> list[str]:
    """Ids that both have and Gymnasium can make; without its jax environments."""
    import envpool
    import gymnasium as gym

    ids = [i for i in envpool.list_all_envs() if i in gym.registry and not i.startswith(("phys2d/", "tabular/"))]
    made = []
    for i in sorted(ids):
        try:
            make_env(i).close()
            made.append(i)
        except Exception:  # older versions that Gymnasium no longer runs
            continue
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="ids")
    parser.add_argument("--steps", type=int, default=16_000, help="environment steps for each policy and simulator")
    parser.add_argument("--agents", type=Path, help="folder of agents named by id: Hopper-v5.zip, ...")
    parser.add_argument("--no-page", action="store_true")
    parser.add_argument("--json", type=Path, help="also write, and go on from, what was measured")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    known = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    wrong = 0
    for env_id in args.only or shared_ids():
        if env_id.startswith("CarRacing"):
            continue
        if env_id not in known:
            known[env_id] = asdict(check(env_id, args.steps, args.agents))
            if args.json:
                args.json.write_text(json.dumps(known))
        equal = not known[env_id]["problems"]
        wrong += equal != (env_id in EQUAL_TASKS)
        print(env_id, "equal" if equal else "; ".join(known[env_id]["problems"]), flush=True)
    if not args.no_page:
        write_page(ROOT / "docs" / "envpool.md", known)
    print(f"{wrong} verdicts differ from EQUAL_TASKS" if wrong else "EQUAL_TASKS is what was measured")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
