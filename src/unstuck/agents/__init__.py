"""Load and save agents: zips of Stable-Baselines3 (safely), folders of RL Baselines3 Zoo."""

from unstuck.agents._find import find_env_id, zoo_env_kwargs
from unstuck.agents.actor import Actor
from unstuck.agents.loading import load_agent
from unstuck.agents.normalization import Normalization, load_normalization, to_vecnormalize
from unstuck.agents.policy import build_policy, check_fits
from unstuck.agents.training import save_agent, to_ppo
from unstuck.agents.types import Agent

__all__ = [
    "Actor",
    "Agent",
    "Normalization",
    "build_policy",
    "check_fits",
    "find_env_id",
    "load_agent",
    "load_normalization",
    "save_agent",
    "to_ppo",
    "to_vecnormalize",
    "zoo_env_kwargs",
]
