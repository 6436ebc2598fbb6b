"""Write docs/tasks.md: what `unstuck check-env` finds on every built-in task, and one described state of each family.

    python scripts/make_task_table.py                   # all that is installed, writes docs/tasks.md
    python scripts/make_task_table.py --seeds 1 Hopper-v5    # prints the rows of these tasks alone

Costs depend on the machine and on what else it does; everything else is the same wherever the versions are.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from unstuck import tasks
from unstuck.checks import EnvCheck, check_env
from unstuck.errors import TaskError

TARGET = Path(__file__).parents[1] / "docs" / "tasks.md"

FAMILIES = {
    "Classic control": ("CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1"),
    "Box2D": ("LunarLander-v3", "LunarLanderContinuous-v3", "BipedalWalker-v3", "BipedalWalkerHardcore-v3"),
    "MuJoCo": (
        "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5", "HumanoidStandup-v5", "Swimmer-v5",
        "Reacher-v5", "Pusher-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "SparseHopper-v5",
        "SparseWalker2d-v5", "SparseHalfCheetah-v5",
    ),
    "Atari": (
        "UnstuckPong-v0", "PongNoFrameskip-v4", "ALE/Pong-v5", "ALE/Breakout-v5", "ALE/Freeway-v5", "ALE/Boxing-v5",
        "ALE/SpaceInvaders-v5",
    ),
    "MiniGrid": (
        "MiniGrid-Empty-8x8-v0", "MiniGrid-DoorKey-8x8-v0", "MiniGrid-UnlockPickup-v0", "MiniGrid-KeyCorridorS3R2-v0",
        "MiniGrid-FourRooms-v0", "MiniGrid-MultiRoom-N4-S5-v1", "MiniGrid-LavaCrossingS9N2-v0",
        "MiniGrid-Dynamic-Obstacles-6x6-v0", "MiniGrid-ObstructedMaze-1Dlhb-v0", "BabyAI-GoToLocal-v0",
    ),
    "Toy text": ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4"),
}  # fmt: skip
KWARGS = {f"ALE/{game}-v5": {"obs_type": "ram"} for game in ("Breakout", "Freeway", "Boxing", "SpaceInvaders")}
"""Keyword arguments of those that are described only with them."""
PACKAGES = ("gymnasium", "mujoco", "Box2D", "ale-py", "minigrid", "numpy")

HEAD = """\
# Tasks

Made by `{command}` with {versions}; do not edit it by hand.

`unstuck check-env ID` runs an environment with random actions over whole episodes ({seeds} seeds here), branches each
run at its start, in its middle and just before its end, and compares every observation, reward and flag after a
restore with the original, bit by bit, over the end of the episode and into the next. It holds the card against
{states} states of random play (and as many of an agent with `--agent`; here of the stuck agents that ship with
Unstuck, on their tasks): every variable finite and within the range that the card gives, the same value for the same
state. It exits with 1 if anything is wrong. From Python: `unstuck.checks.check_env`. For an environment of your own see
[own-tasks.md](own-tasks.md).

- **snapshots**: how a state is saved and restored; `replay` means from the seed, step by step.
- **compared**: results compared bit by bit. **limit**: whether random play *reached* the time limit in a compared run,
  or the environment's own limit was *shortened* for one more run (because random play ends earlier, or the limit is
  above 2,000 steps), or there is *none*, or none that was reached.
- **tokens**: of the longest state in words, estimated at 3.5 characters each.
- **card**: whether it is true of all states looked at, and of whose play: an agent's (*and agent*) or random alone.
- **step, save, restore, describe**: microseconds, on two shared CPU cores; describing is for one state in a batch.
  **steps**: what a restore costs in steps of the environment.

"""

NOTES = """\
## Choosing what an agent sees

MuJoCo, Box2D, classic control and toy text are made as Gymnasium makes them. For MiniGrid and Atari the keyword
argument `observation` of `--env-kwargs` chooses, because agents see them through wrappers:

| ids | `observation` | what it is |
|---|---|---|
| `MiniGrid-...` | `flat` (default) | `FlatObsWrapper`: view and mission's letters, as RL Zoo's agents see it |
| both | `onehot` (default of `BabyAI-...`) | the view one-hot, and the direction; good for multilayer perceptrons |
| both | `image` | `ImgObsWrapper`: the view alone, (7, 7, 3) |
| both | `full` | `FullyObsWrapper` + `ImgObsWrapper`: the whole grid |
| both | `rgb` | `RGBImgPartialObsWrapper` + `ImgObsWrapper`: the view in pixels, (56, 56, 3), and its symbols |
| both | `rgb-full` | `RGBImgObsWrapper` + `ImgObsWrapper`: the whole grid in pixels, and its symbols |
| both | `raw` | as MiniGrid gives it; Stable-Baselines3 takes no text, and nothing describes it |
| `...NoFrameskip-v4` | `sb3` (default) | `AtariWrapper`, 4 frames, (4, 84, 84), and the RAM; true scores of games |
| `ALE/...` | `raw` (default) | the emulator's frames |
| `UnstuckPong-v0` | | Pong as its objects, from the RAM, scaled; actions stay, up, down; every 4th frame, sticky |

Pong is described from the objects of `UnstuckPong-v0`; Pong, Breakout, Freeway, Boxing and Space Invaders from the
RAM. Every address is held against frames in tests/test_tasks_atari.py and tests/test_pixels_games.py. `UnstuckPong-v0`
takes `frameskip` (4) and `repeat_action_probability` (0.25).

## MiniGrid from images

    unstuck refine agent.zip --env MiniGrid-DoorKey-8x8-v0 --llm openai:gpt-5

Which wrappers an agent saw the grid through is found from its zip, by the shape of what it sees. Pixels come with the
symbols of what is drawn beside them, as those of Atari come with the RAM: the coach is told of keys, doors and walls,
its rules are conditions over them, and what learns gets the pixels alone. The same holds where `env_wrapper` names
`RGBImgPartialObsWrapper` or `RGBImgObsWrapper`. A zip with a features extractor of your own, which the small symbolic
images (7, 7, 3) need, is read with `--trust`, and its module must be importable.

## Atari from pixels

    unstuck refine ppo-PongNoFrameskip-v4/ --llm openai:gpt-5        # a folder of RL Zoo names its task itself
    unstuck refine agent.zip --env PongNoFrameskip-v4 --llm openai:gpt-5

- **Found from the agent**: how many frames it sees and how large, and whether it sees pixels, the whole screen or the
  RAM, are read from its zip; arguments of `AtariWrapper` from RL Zoo's `config.yml`. By hand they are `--env-kwargs`:
  `observation`, `frame_stack`, `screen_size`, `noop_max`, `frame_skip`, `terminal_on_life_loss`, `clip_reward`,
  `action_repeat_probability`. `ALE/Pong-v5` holds an action for 4 frames itself and `AtariWrapper` for 4 of these, 16
  in all, as Stable-Baselines3's `make_atari_env` has it; `{"frameskip": 1}` makes it 4.
- **The coach is told of objects, the agent sees pixels.** An observation of these five games is `{"seen": pixels,
  "ram": the console's RAM before the last step and after it}`. The describer reads the RAM, so that advice and reward
  terms are conditions over ball, paddles and so on; whatever acts or learns is given `seen` alone. What is trained so
  plays from pixels, in Stable-Baselines3 without Unstuck: the report has the lines. `{"objects": false}` leaves the
  RAM out; then Pong's objects are found by colour, on the screen (210, 160, 3) or in 84 x 84 grey frames.
- **Returns are true scores of whole games**, before, after and in learning curves, although training clips rewards to
  -1, 0 and 1 and ends an episode with a life, as the agent's own training did (`reward_as_trained` and `life_lost` in
  the infos). Where a life is lost, the game is served again within that step, as the vector environment does it in
  training. tests/test_pixels_games.py holds frames, rewards and ends against Stable-Baselines3's own, bit by bit.
  What is said of the critic (values, surprises, the panel, what a transplant's critic is fitted to) goes by clipped
  rewards and lives, because that is what it has learnt; the prompt says so.
- **Other games** are played, measured and trained the same way. The coach is told the game's name and actions, and
  the newest frame's brightness in 4 x 4 patches, on which few rules can be built: show it frames, `--llm.frames 5`. You
  are told so.
- **Verification** branches from stored states: each step of a collected episode is kept with the emulator's state, its
  random numbers and all that wrappers keep (frames, buffers, lives), 2 kB a step on disk. Restoring one takes no
  environment step and goes on bit for bit as a replay does, to the end of a life (tests/test_pixels_games.py).
  Points are rare, so one rule in a few pairs of 100 steps is often unresolved, and the set of all rules decides: for a
  Breakout agent that returned 1 to 4 points a coach's advice brought 13 in both pairs of 450 steps, and 0 without it.
- **A stuck one to try**: `benchmarks/agents/pong-pixels-dead.zip`, which `python scripts/make_pixel_agent.py` makes in
  two updates of PPO: a learning rate a hundred times too high killed every unit of its first convolution. What gets it
  moving, and how far: [pixels.md](pixels.md).
- **Imitation from pixels**: a new network's convolutions are scaled to what they see
  (`src/unstuck/treatments/initial.py`); as they come, Stable-Baselines3's CNN learnt nothing of a coach's rules for
  Pong in 40,000 steps. `--train.guide.imitate-memory 40000` imitates all suggestions of a training and not those of
  the last rollout alone; `--train.guide.imitate-balance` makes rare ones count as much as frequent ones.
- **The refined zip plays from pixels alone**: Stable-Baselines3's `PPO.load` in `make_atari_env` with `VecFrameStack`
  has the very returns that are reported, which a test holds it to.
- **Memory**: frames stay bytes in rollouts, episodes and replay buffers. A step of 4 frames has 28 kB, so 8,000
  collected steps have 226 MB, of which one episode at a time is in memory, and a replay buffer of 100,000 steps 5.6
  GB. In a race each process that begins with a transplant, afresh or thawed holds all of them, and 128 MB more, until
  it has begun. A game that lasts longer than half of `--collect.max-steps` is cut, which is said.
- **Time**: convolutions are trained on the CPU unless `--train.device cuda` says otherwise.

Actions of Atari games are made sticky by Unstuck and not by the emulator: its saved state leaves out which action it
repeats, so that its own sticky actions cannot be branched exactly. An environment made with `gymnasium.make` and
branched without `unstuck.tasks.make_env` has that fault; with `repeat_action_probability=0` it has not.

MiniGrid 3.2.0 lacks the pattern files of its `MiniGrid-WFC-...` environments; these cannot be made.
"""


def check(env_id: str, seeds: int, states: int) -> EnvCheck | str:
    """The check of one task, or why there is none."""
    warnings.simplefilter("ignore")
    make_env = partial(tasks.make_env, env_id, KWARGS.get(env_id))
    try:
        describer = tasks.describer_for(env_id, **KWARGS.get(env_id, {}))
        return check_env(make_env, describer, seeds=range(seeds), states=states, actor=shipped_actor(env_id, make_env))
    except TaskError as error:
        return str(error)


def shipped_actor(env_id: str, make_env: Callable[[], Any]) -> Any:
    """The first stuck agent that ships for a task, ready to play; None where there is none."""
    from unstuck.agents import Actor, build_policy, load_agent
    from unstuck.stuck import stuck_agents

    entry = next((a for a in stuck_agents() if a.task == env_id and not a.env_kwargs), None)
    if entry is None:
        return None
    env = make_env()
    try:
        agent = load_agent(entry.path, vecnormalize=entry.vecnormalize)
        return Actor(
            build_policy(agent, env.observation_space, env.action_space), agent.normalization, env.action_space
        )
    finally:
        env.close()


def row(env_id: str, c: EnvCheck | str) -> str:
    """One line of the table."""
    if isinstance(c, str):
        return f"| {env_id} | not checked: {c} | | | | | | | | | | |"
    exact = "exact" if c.exact else "**NOT EXACT**"
    card = ("true, and agent" if c.agent_states else "true") if not c.problems else "**" + "; ".join(c.problems) + "**"
    costs = (c.step_seconds, c.save_seconds, c.restore_seconds, c.describe_seconds)
    shown = " | ".join(f"{1e6 * s:.0f}" if s > 2e-6 else f"{1e6 * s:.1f}" for s in costs)
    name = f"{env_id} (RAM)" if env_id in KWARGS else env_id
    return (
        f"| {name} | {c.strategy}: {exact} | {c.compared:,} | {c.limit} | {c.variables} | {card} | {c.state_tokens} "
        f"| {shown} | {c.restore_steps:.2g} |"
    )


def page(found: dict[str, EnvCheck | str], seeds: int, states: int, command: str) -> str:
    """The text of docs/tasks.md."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    parts = [HEAD.format(command=command, versions=versions, seeds=seeds, states=f"{states:,}")]
    for family, ids in FAMILIES.items():
        parts.append(f"## {family}\n\n{TABLE_HEAD}\n" + "\n".join(row(i, found[i]) for i in ids) + "\n\n")
        shown = next((i for i in ids if isinstance(found[i], EnvCheck)), None)
        if family == "MiniGrid":
            shown = "MiniGrid-DoorKey-8x8-v0"
        if shown is not None and isinstance(c := found[shown], EnvCheck):
            parts.append(f"A state of {shown}, as the language model reads it:\n\n> {c.example}\n\n")
    parts.append(costs_by_family(found))
    ok = sum(isinstance(c, EnvCheck) and c.ok for c in found.values())
    parts.append(f"{ok} of {len(found)} are ok.\n\n{NOTES}")
    return "".join(parts)


def costs_by_family(found: dict[str, EnvCheck | str]) -> str:
    """What a snapshot costs in each family: medians over its tasks."""
    lines = [
        "## What a snapshot costs\n",
        "Medians over the tasks of a family; restoring in steps of the environment is what verification pays for each "
        "branch.\n",
        "| family | snapshots | step | save | restore | restore in steps |",
        "|---|---|---|---|---|---|",
    ]
    for family, ids in FAMILIES.items():
        checks = [c for i in ids if isinstance(c := found[i], EnvCheck)]
        if not checks:
            continue
        kinds = ", ".join(sorted({c.strategy for c in checks}))
        times = [
            statistics.median(getattr(c, f"{what}_seconds") for c in checks) for what in ("step", "save", "restore")
        ]
        shown = " | ".join(f"{1e6 * t:.0f}" for t in times)
        lines.append(f"| {family} | {kinds} | {shown} | {statistics.median(c.restore_steps for c in checks):.2g} |")
    return "\n".join(lines) + "\n\n"


TABLE_HEAD = (
    "| task | snapshots | compared | limit | variables | card | tokens | step | save | restore | describe | steps |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ids", nargs="*", help="only these, printed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--states", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    ids = options.ids or [i for family in FAMILIES.values() for i in family]
    found: dict[str, EnvCheck | str] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = {i: pool.submit(check, i, options.seeds, options.states) for i in ids}
        for env_id, job in jobs.items():
            found[env_id] = job.result()
            print(row(env_id, found[env_id]), flush=True)
    if not options.ids:
        command = " ".join(["python scripts/make_task_table.py", *sys.argv[1:]])
        TARGET.write_text(page(found, options.seeds, options.states, command), encoding="utf-8")


if __name__ == "__main__":
    main()
