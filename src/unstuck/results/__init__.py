"""What stages leave in files, typed: the stage that writes one and everybody who reads it share its model.

    train/ARM/SEED/info.json      TrainFacts, which the manifest's entry of the stage holds too
    evaluate/scores.json          Scores
    score/ARM/SEED/scores.json    AgentScores, in a benchmark; score/scores.json, Returns of the agent before
    verdict.json                  RunVerdict: the agent to use (agent.zip beside it), and how it compares

- `keys`: names and what all of them share; the names of stages are built and taken apart by `StageKey` alone.
- `training`, `races`, `scores`, `verdict`: what these leave.
"""

from unstuck.results.keys import (
    BEFORE,
    CONTROL,
    DEPLOYED,
    LADDER,
    MODES,
    RACE,
    STATISTICS,
    VERDICT,
    Charges,
    Mode,
    StageKey,
)
from unstuck.results.races import Gain, Ladder, RaceVerdict, Rank
from unstuck.results.scores import AgentScores, ArmScores, CheckpointScores, LastTest, Return, Returns, Scores
from unstuck.results.training import Checkpoint, MeanReturns, RoundFacts, TrainFacts, trainings
from unstuck.results.verdict import RunVerdict, Spread

__all__ = [
    "BEFORE",
    "CONTROL",
    "DEPLOYED",
    "LADDER",
    "MODES",
    "RACE",
    "STATISTICS",
    "VERDICT",
    "AgentScores",
    "ArmScores",
    "Charges",
    "Checkpoint",
    "CheckpointScores",
    "Gain",
    "Ladder",
    "LastTest",
    "MeanReturns",
    "Mode",
    "RaceVerdict",
    "Rank",
    "Return",
    "Returns",
    "RoundFacts",
    "RunVerdict",
    "Scores",
    "Spread",
    "StageKey",
    "TrainFacts",
    "trainings",
]
