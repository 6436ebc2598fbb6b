"""What is known to be reachable on standard tasks: the returns of published agents, and of random actions.

Sources, as the panel gives them:

- RL Zoo: the table of trained agents in benchmark.md of DLR-RM/rl-baselines3-zoo (deterministic, one training each).
- Gymnasium: the `reward_threshold` that a task is registered with.
- Random play was measured here: 100 episodes of uniformly drawn actions, seeds 0 to 99 (`scripts/diagnosis_table.py`);
  of Atari games it is that of Mnih et al., Human-level control through deep reinforcement learning (Nature 2015),
  extended data table 2. RL Zoo's table has Atari agents with sampled actions, and whole games.

MuJoCo tasks of versions 3, 4 and 5 share their entry: their rewards are the same but for Ant's and Humanoid's contact
costs and Walker2d's friction, which matter little beside the spread between agents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Mean returns per episode on one task."""

    random: float
    on_policy: tuple[float, str] | None
    """Of the best published agent of PPO, A2C or TRPO, and its algorithm."""
    best: tuple[float, str]
    """Of the best published agent of any algorithm."""


@dataclass(frozen=True)
class Reference:
    """How far an agent may hope to come."""

    target: float
    """Return of a good agent."""
    random: float | None
    """Return of random actions."""
    source: str
    best: float | None = None
    """The highest published return, where it is above the target."""
    solved: float | None = None
    """The return from which Gymnasium calls the task solved."""

    def share(self, value: float) -> float | None:
        """Where a return lies: 0 random play, 1 the target; None where random play is not known."""
        if self.random is None or self.target <= self.random:
            return None
        return (value - self.random) / (self.target - self.random)


_RL_ZOO = "RL Zoo's table of trained agents (benchmark.md)"
PUBLISHED: dict[str, Published] = {
    "AsteroidsNoFrameskip": Published(719.1, (2156.2, "PPO"), (2185.3, "QR-DQN")),
    "BeamRiderNoFrameskip": Published(363.9, (3397.0, "PPO"), (17122.9, "QR-DQN")),
    "BreakoutNoFrameskip": Published(1.7, (398.0, "PPO"), (398.0, "PPO")),
    "EnduroNoFrameskip": Published(0.0, (996.4, "PPO"), (3231.2, "QR-DQN")),
    "PongNoFrameskip": Published(-20.7, (21.0, "PPO"), (21.0, "PPO")),
    "QbertNoFrameskip": Published(163.9, (15627.1, "PPO"), (15627.1, "PPO")),
    "RoadRunnerNoFrameskip": Published(11.5, (40680.6, "PPO"), (42325.4, "QR-DQN")),
    "SeaquestNoFrameskip": Published(68.4, (1783.6, "PPO"), (2557.6, "QR-DQN")),
    "SpaceInvadersNoFrameskip": Published(148.0, (960.3, "PPO"), (1899.9, "QR-DQN")),
    "Acrobot": Published(-500.0, (-73.5, "PPO"), (-69.1, "QR-DQN")),
    "Ant": Published(-47.5, (4982.3, "TRPO"), (5813.3, "TD3")),
    "BipedalWalker": Published(-99.7, (299.8, "A2C"), (329.8, "TQC")),
    "BipedalWalkerHardcore": Published(-107.3, (122.4, "PPO"), (235.2, "TQC")),
    "CartPole": Published(25.0, (500.0, "PPO"), (500.0, "PPO")),
    "HalfCheetah": Published(-267.7, (5819.1, "PPO"), (12089.9, "TQC")),
    "Hopper": Published(17.0, (3618.4, "TRPO"), (3754.2, "TQC")),
    "Humanoid": Published(109.9, None, (7239.3, "TQC")),
    "LunarLander": Published(-191.0, (242.1, "PPO"), (242.1, "PPO")),
    "LunarLanderContinuous": Published(-206.7, (270.9, "PPO"), (278.0, "TQC")),
    "MountainCar": Published(-200.0, (-107.3, "TRPO"), (-100.8, "DQN")),
    "MountainCarContinuous": Published(-33.3, (92.5, "TRPO"), (96.7, "ARS")),
    "Pendulum": Published(-1197.0, (-163.0, "A2C"), (-151.9, "TD3")),
    "Swimmer": Published(3.2, (365.7, "TRPO"), (365.7, "TRPO")),
    "Walker2d": Published(1.9, (4933.1, "TRPO"), (4933.1, "TRPO")),
}


def reference_for(env_id: str, *, on_policy: bool = True, solved: float | None = None) -> Reference | None:
    """What a good agent returns on a task; None where nothing is known.

    The target of an on-policy agent is the best published on-policy one; where that one does not solve the task, the
    best of any kind. `solved` is the task's registered threshold, which alone makes a target where nothing else is
    published.
    """
    name = re.sub(r"-v\d+$", "", env_id.rpartition(":")[2])
    known = PUBLISHED.get(name)
    if known is None:
        return _of_manifest(env_id) or (
            Reference(solved, None, "the threshold that the task is registered with (Gymnasium)", None, solved)
            if solved is not None
            else None
        )
    value, algorithm = known.best
    # An agent that misses the threshold by a hundredth (A2C's BipedalWalker: 299.8 of 300) solves the task, too.
    enough = -float("inf") if solved is None else min(solved - 0.01 * abs(solved), known.best[0])
    if on_policy and known.on_policy and known.on_policy[0] >= enough:
        value, algorithm = known.on_policy
    best = known.best[0] if known.best[0] > value else None
    return Reference(value, known.random, f"{algorithm} in {_RL_ZOO}", best, solved)


def _of_manifest(env_id: str) -> Reference | None:
    """Of the agents that ship with Unstuck: the much better policy that each is measured against."""
    from unstuck.stuck import stuck_agents

    found = [a.reference for a in stuck_agents() if a.task == env_id]
    if not found:
        return None
    reference = max(found, key=lambda r: r.mean)
    return Reference(reference.mean, None, f"{reference.how} ({reference.origin}; docs/agents.md)")
