"""How agents learn: one place for each algorithm, behind one interface (`base.Algorithm`)."""

from unstuck.algorithms.base import (
    Algorithm,
    Archive,
    Policy,
    Trainer,
    Training,
    Update,
    algorithm,
    algorithm_of,
    algorithm_of_model,
    continued_by,
    names,
    policy_of,
    recognise,
)

__all__ = [
    "Algorithm",
    "Archive",
    "Policy",
    "Trainer",
    "Training",
    "Update",
    "algorithm",
    "algorithm_of",
    "algorithm_of_model",
    "continued_by",
    "names",
    "policy_of",
    "recognise",
]
