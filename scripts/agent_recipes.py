"""The stuck agents: how each is trained, and what to compare it with.

All are of Stable-Baselines3 with MlpPolicy, most of them PPO with the settings below; most mistakes are ones that users
really make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COMMON: dict[str, Any] = {"n_steps": 128, "batch_size": 256, "n_epochs": 10}
N_ENVS = 16


@dataclass(frozen=True)
class Training:
    """One training run of Stable-Baselines3."""

    steps: int
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    """Over `COMMON` for PPO, over the library's own for others."""
    algorithm: str = "PPO"
    """A learner of Stable-Baselines3; those with a replay buffer train in one environment."""
    normalize: bool = False
    """VecNormalize for observations."""
    norm_reward: bool = False
    task: str = ""
    """Where it is trained, if that is not the agent's own task."""
    fast: bool = False
    """With Unstuck's own PPO and EnvPool where they serve, which learn alike but not bit by bit."""


@dataclass(frozen=True)
class Recipe:
    name: str
    task: str
    rut: str
    training: Training
    reference: str | Training
    """A scripted policy of agent_references.py, or how a better agent is trained."""
    reference_how: str
    wrong: str
    """What it does wrong, as seen in frames of its episodes."""
    why: str
    """Why more of the same training does not help it."""
    how: str = ""
    """In a line, how it came to this."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    continue_steps: int = 100_000
    replay: dict[str, Any] = field(default_factory=dict)
    """With what it is continued, where it learns from a replay buffer: settings of `train.replay` over its own."""


TWO_LAYERS = {"net_arch": [64, 64]}
SMALL = {"policy_kwargs": {"net_arch": [32, 32]}}
DQN: dict[str, Any] = {
    "learning_rate": 1e-3, "buffer_size": 50_000, "batch_size": 64, "learning_starts": 1000, "train_freq": 4,
    "exploration_fraction": 0.1, "exploration_final_eps": 0.05, "target_update_interval": 500,
    "policy_kwargs": TWO_LAYERS,
}  # fmt: skip
CONTINUOUS: dict[str, Any] = {
    "buffer_size": 50_000, "batch_size": 128, "learning_starts": 1000, "train_freq": 32, "gradient_steps": 8,
    "policy_kwargs": TWO_LAYERS,
}  # fmt: skip
"""SAC and TD3: small networks, a gradient step for every fourth step."""


def better(task: str, seed: int = 1) -> Training:
    """PPO with normalised observations and rewards, for long."""
    return Training(1_000_000, seed, normalize=True, norm_reward=True, task=task, fast=True)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "mountaincar-no-flag", "MountainCar-v0", "reward never seen",
        Training(60_000, 3, normalize=True),
        "push_along", "scripted: pushes in the direction of motion",
        "Rocks about at the bottom of the valley and never reaches the flag; every episode pays -200.",
        "Every episode that it has ever seen paid the same, so its advantages are noise.",
        "PPO with the usual settings; the flag was never reached by chance.",
    ),
    Recipe(
        "frozenlake-top-row", "FrozenLake8x8-v1", "reward never seen",
        Training(60_000, 1),
        "planned", "value iteration on the task's table of transitions",
        "Walks to and fro in the top row, far from all holes, until time is up; it never gets near the goal.",
        "It never saw the goal, and ending in a hole pays as much as not ending.",
        "PPO with the usual settings.",
    ),
    Recipe(
        "doorkey-lost", "MiniGrid-DoorKey-8x8-v0", "reward never seen",
        Training(60_000, 1, SMALL),
        "key_and_door", "shortest plan by breadth-first search on the grid",
        "Walks a few steps, then turns to a wall or stands beside the key until time is up.",
        "Key, door and goal must come in this order before anything is paid; it never saw a reward.",
        "PPO with the usual settings.", env_kwargs={"observation": "onehot"},
    ),
    Recipe(
        "taxi-no-passenger", "Taxi-v4", "local optimum",
        Training(60_000, 1),
        "planned", "value iteration on the task's table of transitions",
        "Drives into a wall or to and fro until time is up and never picks the passenger up: -1 for each of 200 steps.",
        "Picking up and dropping cost -10 in the wrong place, which is nearly everywhere: it has unlearnt both, and "
        "the 20 for a delivery was hardly ever seen.",
        "PPO with the usual settings.",
    ),
    Recipe(
        "mountaincar-idle", "MountainCarContinuous-v0", "local optimum",
        Training(150_000, 1),
        "push_along", "scripted: pushes in the direction of motion",
        "Stands still at the bottom of the valley and saves the cost of pushing.",
        "Force costs at each step, and the flag's 100 was never seen: doing nothing pays most of all it knows. Its "
        "noise has shrunk, too.",
        "PPO with the usual settings; observations not normalised.",
    ),
    Recipe(
        "lunarlander-hover", "LunarLander-v3", "local optimum",
        Training(300_000, 1, fast=True),
        "heuristic_lander", "the controller that Gymnasium ships with the task (lunar_lander.heuristic)",
        "Hovers beside the pad about as high as it came in until time is up, or drifts out of the picture at the side.",
        "Touching the ground has cost it 100 so often that it stays away; hovering only costs fuel.",
        "PPO with the usual settings (Unstuck's own, on EnvPool): its returns lie between -65 and -30 from 140k steps "
        "on.",
    ),
    Recipe(
        "halfcheetah-on-back", "HalfCheetah-v5", "local optimum",
        Training(250_000, 3, normalize=True),
        Training(300_000, 1, normalize=True, norm_reward=True, task="HalfCheetah-v5"),
        "PPO, 300k steps, seed 1, with normalised observations and rewards",
        "Flips over in the first 50 steps and slides forward on its back (pitch 3.3 rad) to the end of the episode.",
        "Sliding pays for each step, and getting up costs before it pays.",
        "PPO with normalised observations; this seed flipped.",
    ),
    Recipe(
        "pendulum-spins", "Pendulum-v1", "saturated critic",
        Training(100_000, 1),
        "swing_up", "scripted: pumps energy towards that of the upright rest, then a linear controller",
        "Lets the pendulum spin round and round; it never stops it at the top.",
        "Its critic, trained on raw rewards of down to -16 a step, says nearly the same for all states (explained "
        "variance 0.0004), so that advantages are returns with all their noise.",
        "PPO with the usual settings; rewards not scaled.",
    ),
    Recipe(
        "acrobot-one-action", "Acrobot-v1", "exploration died",
        Training(30_000, 1, {"learning_rate": 0.1}),
        "swing_acrobot", "scripted: torque on the elbow against the swing of the first link",
        "Gives the same torque at every step and hangs there, trembling.",
        "Its logits are so far apart that no other action is ever sampled, so nothing can be compared.",
        "A learning rate of 0.1 threw the policy into a corner.",
    ),
    Recipe(
        "cartpole-one-action", "CartPole-v1", "exploration died",
        Training(22_528, 1, {"learning_rate": 0.05}),
        "balance", "scripted: a linear controller",
        "Pushes to the same side at every step; the pole falls at once.",
        "Its logits are so far apart that the other action is never sampled.",
        "A learning rate of 0.05 threw the policy into a corner.",
    ),
    Recipe(
        "sparsehopper-dive", "SparseHopper-v5", "a fall ends every episode",
        Training(200_000, 1, normalize=True),
        better("Hopper-v5"), "PPO on Hopper-v5, 1M steps with normalised observations and rewards",
        "Crouches, throws itself forward over the line from which speed is paid, and falls at about step 137.",
        "A longer, faster dive pays more than the first steps of any hop, so it perfects the dive: more PPO makes it "
        "last longer, and it still falls.",
        "PPO with normalised observations.",
    ),
    Recipe(
        "walker2d-lean", "Walker2d-v5", "a fall ends every episode",
        Training(100_000, 1, normalize=True),
        better("Walker2d-v5"), "PPO, 1M steps with normalised observations and rewards",
        "Stands on one foot, leans farther and farther forward without a step, and falls at about step 250.",
        "Leaning pays speed and life for as long as it lasts; a step that fails ends the episode sooner.",
        "PPO with normalised observations.",
    ),
    Recipe(
        "reacher-no-noise", "Reacher-v5", "exploration died",
        Training(60_000, 1, {"policy_kwargs": {"log_std_init": -7.0}}, normalize=True),
        "reach", "scripted: inverse kinematics and a damped spring",
        "Folds its arm slowly up to the same place, whatever the target, with torques below 0.1.",
        "Its actions scatter by 0.001 of a torque that goes to 1: what it tries hardly differs, and an update may move "
        "the mean by a fraction of that only.",
        "PPO that began with log_std_init=-7, too little noise.",
    ),
    Recipe(
        "pong-one-action", "UnstuckPong-v0", "exploration died",
        Training(20_480, 1, {"learning_rate": 0.3}),
        "follow_ball", "scripted: goes to where the ball will cross the paddle's line",
        "Pulls the paddle down into the corner and leaves it there; loses every game 0 to 21.",
        "Its logits are so far apart that no other action is ever sampled.",
        "A learning rate of 0.3 threw the policy into a corner.",
    ),
    Recipe(
        "swimmer-curled", "Swimmer-v5", "local optimum",
        Training(200_000, 1, normalize=True),
        "swim", "scripted: linear feedback on joint angles and speeds, found by random search",
        "Curls up within 50 steps and stays like that; what little it moves is the first stroke.",
        "With a discount of 0.99 the way from here to a stroke costs more than it sees of what the stroke will pay.",
        "PPO with normalised observations.",
    ),
    Recipe(
        "sparsehalfcheetah-short", "SparseHalfCheetah-v5", "reward never seen",
        Training(60_000, 1, normalize=True),
        Training(300_000, 1, normalize=True, norm_reward=True, task="HalfCheetah-v5"),
        "PPO on HalfCheetah-v5, 300k steps, seed 1, with normalised observations and rewards",
        "Stands still where it began.",
        "Speed is paid only beyond 5 m, where it never came; all that it could learn is to save the cost of torque.",
        "PPO with normalised observations.",
    ),
    # With a replay buffer.
    Recipe(
        "mountaincar-dqn-no-flag", "MountainCar-v0", "reward never seen",
        Training(60_000, 1, DQN | {"learning_rate": 1e-4, "batch_size": 32, "target_update_interval": 1000}, "DQN"),
        "push_along", "scripted: pushes in the direction of motion",
        "Pushes right in nearly every step, which brakes its own swing, until time is up.",
        "Every step that it has ever seen paid -1 and none ended an episode: all actions are worth the same.",
        "DQN with the library's learning rate; the flag was never reached by chance.",
        continue_steps=20_000, replay={"learning_rate": 1e-3},
    ),
    Recipe(
        "mountaincar-sac-idle", "MountainCarContinuous-v0", "local optimum",
        Training(20_000, 1, CONTINUOUS | {"gamma": 0.999, "tau": 0.01}, "SAC"),
        "push_along", "scripted: pushes in the direction of motion",
        "Stands still at the bottom of the valley and saves the cost of pushing.",
        "Force costs at each step, and the flag's 100 was never seen: its noise changes sign at each step, so that the "
        "car trembles where it is. (RL Zoo gives SAC noise that depends on the state here.)",
        "SAC with the library's noise.",
        continue_steps=20_000,
    ),
    Recipe(
        "lunarlander-dqn-hover", "LunarLander-v3", "local optimum",
        Training(60_000, 1, DQN | {
            "learning_rate": 6.3e-4, "exploration_fraction": 0.12, "exploration_final_eps": 0.1,
            "target_update_interval": 250,
        }, "DQN"),
        "heuristic_lander", "the controller that Gymnasium ships with the task (lunar_lander.heuristic)",
        "Takes out its speed and tilt, then hovers beside the pad a few tenths above the ground until time is up.",
        "Sinking costs at once, and the 100 for coming to rest lie at the end of actions that it never takes in a row.",
        "DQN with small networks and few updates; no leg touches the ground in its episodes.",
        continue_steps=30_000,
    ),
    Recipe(
        "frozenlake-dqn-lost", "FrozenLake8x8-v1", "reward never seen",
        Training(30_000, 1, DQN | {"buffer_size": 30_000, "learning_starts": 500}, "DQN"),
        "planned", "value iteration on the task's table of transitions",
        "Wanders down the left side and falls into the hole at row 6, column 1 after some 130 steps.",
        "Every reward that it has ever seen was 0: all actions are worth the same.",
        "DQN with the usual settings; the goal was never reached by chance.",
        continue_steps=20_000,
    ),
    Recipe(
        "halfcheetah-td3-on-back", "HalfCheetah-v5", "local optimum",
        Training(50_000, 1, CONTINUOUS | {"learning_starts": 5000, "train_freq": 8, "gradient_steps": 2}, "TD3"),
        Training(300_000, 1, normalize=True, norm_reward=True, task="HalfCheetah-v5"),
        "PPO, 300k steps, seed 1, with normalised observations and rewards",
        "Kicks itself over in the first 30 steps, lies on its back and thrashes to the end of the episode.",
        "The lunge pays about 1 a step and nothing ends the fall; from then on no action changes its speed, so 97 of "
        "100 transitions in its buffer teach nothing.",
        "TD3 with small networks and a gradient step for every fourth step.",
        continue_steps=30_000,
    ),
    Recipe(
        "mountaincar-td3-idle", "MountainCarContinuous-v0", "local optimum",
        Training(20_000, 1, CONTINUOUS | {"gamma": 0.999}, "TD3"),
        "push_along", "scripted: pushes in the direction of motion",
        "Pushes right with a twenty-fifth of its force from the first step to the last, and stays at the bottom of the "
        "valley.",
        "Force costs at each step, and the flag's 100 was never seen; noise that is drawn anew at each step only makes "
        "the car tremble.",
        "TD3 with the library's settings, which explore by no noise but the first 1,000 random steps.",
        continue_steps=20_000,
    ),
    Recipe(
        "taxi-dqn-no-passenger", "Taxi-v4", "local optimum",
        Training(60_000, 1, DQN, "DQN"),
        "planned", "value iteration on the task's table of transitions",
        "Drives south until a wall stops it, and goes on driving south until time is up: -1 for each of 200 steps.",
        "Picking up and dropping cost -10 in the wrong place, which is nearly everywhere, and the 20 for a delivery "
        "was hardly ever seen: driving into a wall is the best that it knows.",
        "DQN with the usual settings and few random actions.",
        continue_steps=20_000,
    ),
    # Tried; PPO gets them moving.
    Recipe(
        "reacher-full-torque", "Reacher-v5", "exploration died",
        Training(40_000, 1, {"learning_rate": 0.03}, normalize=True),
        "reach", "scripted: inverse kinematics and a damped spring",
        "Whirls the arm round at full torque, whatever the target.",
        "Its hidden units are saturated and its actions lie far outside the bounds, where noise changes nothing.",
        "A learning rate of 0.03 threw the policy into a corner.",
    ),
    Recipe(
        "lunarlander-early", "LunarLander-v3", "local optimum",
        Training(100_000, 1, {"ent_coef": 0.01}),
        "heuristic_lander", "the controller that Gymnasium ships with the task (lunar_lander.heuristic)",
        "Hovers, like lunarlander-hover, but is on its way.", "It does.", "PPO for 100k steps, which hovers.",
    ),
    Recipe(
        "reacher-little-noise", "Reacher-v5", "exploration died",
        Training(60_000, 1, {"policy_kwargs": {"log_std_init": -5.0}}, normalize=True),
        "reach", "scripted: inverse kinematics and a damped spring",
        "Lets the arm hang where it is: torques of 0.01 and less, whatever the target.",
        "Its actions scatter by 0.007 of a torque that goes to 1: what it tries hardly differs, and an update may move "
        "the mean by a fraction of that only.",
        "PPO that began with log_std_init=-5, too little noise.",
    ),
)  # fmt: skip
