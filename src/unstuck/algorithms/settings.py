"""What a user may set of learning from a replay buffer. Cheap to import: `unstuck.config` reads it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReplaySettings(BaseModel):
    """Agents with a replay buffer (SAC, TD3, DQN and their kin). What is left out is as in the agent's file; where that
    does not say it either, as Stable-Baselines3 has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    n_envs: int = Field(default=4, ge=1)
    """Environments side by side."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Of all optimisers."""
    batch_size: int | None = Field(default=None, ge=1)
    """Transitions in each gradient step."""
    train_freq: int | None = Field(default=None, ge=1)
    """Environment steps between two updates."""
    gradient_steps: int | None = Field(default=None, ge=1)
    """Gradient steps in each update."""
    early: tuple[int, int] | None = None
    """(N, G): in the first N environment steps of the training at least G gradient steps in each update. What is learnt
    of few transitions can be learnt by many steps. Not set: as many as later."""
    buffer_size: int | None = Field(default=None, ge=1)
    """Transitions that are kept at most."""
    learning_starts: int = Field(default=1_000, ge=1)
    """Environment steps before the first update, in which the agent explores as it last did: its file holds no
    experience, so the buffer is empty at first. At most a tenth of the training."""
    critic_warmup: int = Field(default=2_000, ge=0)
    """Environment steps after the first update in which only the critic learns. At most a fifth of the training."""
    anew: bool = False
    """Begin as one does who knows nothing: random actions before the first update, then (DQN, QR-DQN) ever fewer of
    them over the first fifth of training; actor and critic begin together."""
    average: float | None = Field(default=None, gt=0, le=1)
    """Share of the training so far over which the weights of what acts are averaged, in what is saved and evaluated;
    training goes on with them as they are. No average where not set."""
    exploration: float | None = Field(default=None, ge=0, le=1)
    """DQN and QR-DQN: probability of a random action. TD3 and DDPG: standard deviation of the noise, of half the range.
    As in the last episodes of the agent's own training where not set."""
    q_filter: bool = False
    """SAC, TQC, CrossQ, TD3 and DDPG, where suggestions are imitated: only where the critic rates them above what the
    policy would do. A critic that has seen nothing good lets the wrong ones pass, and what verification found helpful
    needs no filter (docs/off-policy.md)."""
    margin: float = Field(default=0.8, ge=0)
    """DQN and QR-DQN, where suggestions are imitated: by how much Q of the suggested action should exceed all others,
    in units of the task's rewards (the 95th percentile of their magnitude)."""
