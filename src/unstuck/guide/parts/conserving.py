"""Conserving what an agent does: a cost of rating actions that it does not take above those that it takes.

A good agent's own experience holds no failures, and no file holds the experience from which it learnt them. Its critic
then forgets first what tells its actions apart: a DQN whose pole stands for 500 steps rates both pushes 106, and a
quarter apart. After 500 gradient steps on what it does now it falls at 120, however small these steps are.
"""

from __future__ import annotations

from pydantic import Field

from unstuck.guide.base import Part, PartSettings


class ConservingSettings(PartSettings):
    """Conserving what the agent does."""

    conserve: float = Field(default=0.0, ge=0)
    """DQN and QR-DQN: coefficient of a loss that keeps Q of the actions that were taken above that of others
    (conservative Q-learning), so that a good agent does not forget, while its replay buffer holds no failures, what it
    knows of them."""


class Conserving(Part):
    """Says how much; the loss is the algorithm's own (`unstuck.algorithms.imitating.Conservation`)."""

    name = "conserving"
    Settings = ConservingSettings
    explained = False
    settings: ConservingSettings
