"""Memory of collecting: the largest resident size of a process that collects whole episodes with snapshots.

    python benchmarks/speed/memory.py

Each case is a process of its own. Its size with torch, the agent and the simulator loaded, but no episode, is shown
beside it. The agents are untrained: what they do does not matter, only that episodes last 1000 steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIMIT_MIB = 1024
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "100 episodes of HalfCheetah-v5 of 1000 steps": ("HalfCheetah-v5", {}, 100),
    # Falls at once, hence without its own end; episodes stream, so that ten show what a hundred would.
    "10 episodes of Humanoid-v5 of 1000 steps": ("Humanoid-v5", {"terminate_when_unhealthy": False}, 10),
    "10 episodes of ALE/Pong-v5 of 1000 steps, four frames of 84 x 84": (
        "ALE/Pong-v5", {"observation": "sb3", "max_episode_steps": 1000}, 10,
    ),
    # Its limit counts frames, of which a step skips four.
    "10 episodes of ALE/Pong-v5 of 1000 steps, raw frames of 210 x 160": (
        "ALE/Pong-v5", {"max_episode_steps": 4000}, 10,
    ),
}  # fmt: skip
QUICK: dict[str, tuple[str, dict[str, Any], int]] = {
    "2 episodes of ALE/Pong-v5 of 10 steps": ("ALE/Pong-v5", {"observation": "sb3", "max_episode_steps": 10}, 2)
}


def measure(repeats: int = 1, quick: bool = False) -> list[dict[str, Any]]:
    """One row for each case, in MiB; a case whose simulator is not installed is left out.

    Sizes hardly vary, so one repeat is enough; the largest counts.
    """
    rows = []
    for what, case in (QUICK if quick else CASES).items():
        found = [r for _ in range(repeats) if (r := _in_process(*case)) is not None]
        if not found:
            continue
        peak = max(found, key=lambda r: r["peak"])
        rows.append({
            "what": what, "unit": "MiB", "baseline": peak["before"],
            "ours": peak["peak"], "ratio": peak["peak"] / peak["before"], "limit": LIMIT_MIB,
            "spread": [min(r["peak"] for r in found), peak["peak"]],
            "note": f"{peak['stored']:.0f} MiB on disk, {peak['steps']} steps",
        })  # fmt: skip
    return rows


def _in_process(env: str, kwargs: dict[str, Any], episodes: int) -> dict[str, float] | None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, env, json.dumps(kwargs), str(episodes)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        print(f"{env}: left out: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(lines[-1])


def _peak() -> float:
    """The largest resident size of this process so far, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _collect(env_id: str, kwargs: dict[str, Any], episodes: int, folder: Path) -> dict[str, float]:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    from unstuck.config import AgentConfig, CollectConfig, RunConfig, TaskConfig
    from unstuck.run import Run
    from unstuck.stages.collect import collect
    from unstuck.tasks import make_env
    from unstuck.vecenvs.atari import seen_by_agent
    from unstuck.workspace import Workspace

    torch.set_num_threads(1)
    # The agent sees a game's pixels alone, the describer the RAM beside them.
    seen = seen_by_agent(DummyVecEnv([lambda: make_env(env_id, kwargs)]))
    images = len(seen.observation_space.shape or ()) == 3
    agent = folder / "agent.zip"
    PPO("CnnPolicy" if images else "MlpPolicy", seen, n_steps=8, batch_size=8, seed=0, device="cpu").save(agent)
    config = RunConfig(
        task=TaskConfig(env=env_id, env_kwargs=kwargs),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=episodes, max_steps=10**6),
    )
    run = Run.create(folder / "run", config, {"agent": agent})
    space = Workspace(run)
    assert space.actor is not None
    assert space.snapshotter is not None
    before = _peak()
    found = collect(run)
    peak = _peak()
    stored = sum(path.stat().st_size for path in found.paths) / 2**20
    return {"before": before, "peak": peak, "stored": stored, "steps": run.record("collect").env_steps}


if __name__ == "__main__":
    if len(sys.argv) == 4:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(_collect(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), Path(name))))
    else:
        for row in measure():
            sizes = f"{row['ours']:.0f} MiB (before: {row['baseline']:.0f}, limit {row['limit']})"
            print(f"{row['what']}: {sizes}; {row['note']}")
