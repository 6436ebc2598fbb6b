"""What may be done to a stuck agent, by name, each with its reason.

A treatment changes the agent before training (transplant, shrink and perturb, afresh, sac, thaw), or what it is
trained with. Those that change the agent are pure functions: agent in, agent out.
"""

from unstuck.treatments.another import check_sac, sac
from unstuck.treatments.fresh import afresh, with_weights
from unstuck.treatments.noise import quieter, thaw
from unstuck.treatments.shrink import shrink_and_perturb
from unstuck.treatments.states import States, joined, of_episodes, visit
from unstuck.treatments.transplant import NOTE, Fit, transplant

__all__ = [
    "NOTE",
    "Fit",
    "States",
    "afresh",
    "check_sac",
    "joined",
    "of_episodes",
    "quieter",
    "sac",
    "shrink_and_perturb",
    "thaw",
    "transplant",
    "visit",
    "with_weights",
]
