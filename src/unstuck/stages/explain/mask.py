"""The explainer that trains a mask network (`unstuck.masknet`): critical is where it keeps the agent's action."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from unstuck.config import ExplainConfig
from unstuck.episodes import EpisodeSet
from unstuck.guidance import Advice, Guidance, Near, Provenance, scales_from
from unstuck.masknet import MASK_FILE, Blinding, Objective, load_mask, save_mask, train_mask
from unstuck.stages.explain.base import Explanation
from unstuck.stages.explain.reply import evidence_at
from unstuck.stages.explain.views import peaks, reward_scale, views_of
from unstuck.tasks.card import Describer
from unstuck.workspace import Workspace

RADIUS = 0.15
APART = 20
"""Critical states of an episode of T steps are at least T / APART steps apart."""


class MaskExplainer:
    """Trains a mask network and names the states of each episode at which it is surest to keep the agent's action.

    It says nothing of what to do there: the advice has neither action nor reward. The network is kept beside it.
    """

    def __init__(self, objective: Objective, space: Workspace, config: ExplainConfig):
        self.objective, self.space, self.config = objective, space, config

    def explain(self, episodes: EpisodeSet, describer: Describer) -> Explanation:
        card = describer.card
        views = views_of(episodes, describer)
        sampled = [v for v in views if not v.deterministic] or views
        blinding = Blinding(
            self.objective,
            bonus=self.config.mask_bonus,
            tolerance=self.config.mask_tolerance,
            agent_return=float(np.mean([v.total_reward for v in sampled])),
            agent_length=float(np.mean([len(v) for v in sampled])),
        )
        model, facts = train_mask(self.space, blinding, self.config.mask_steps, self.config.seed)
        steps = int(facts.pop("env_steps"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / MASK_FILE
            save_mask(model, path, self.space.agent.normalization)
            network = load_mask(path, self.space)
            files = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
        advice: list[Advice] = []
        for view, episode in zip(views, episodes, strict=True):
            importance = network.importance(episode.observations)[: len(view)]
            for step in peaks(importance, self.config.critical_states, max(2, len(view) // APART)):
                evidence = evidence_at(view, step, card)
                why = f"The mask network keeps the agent's action here with probability {importance[step]:.3f}."
                near = Near(point=evidence.state, radius=RADIUS)
                advice.append(Advice(id=f"m{len(advice) + 1}", kind="state", why=why, evidence=evidence, near=near))
        guidance = Guidance(
            env_id=card.env_id,
            diagnosis=_diagnosis(self.objective, facts["blinded"], steps),
            advice=tuple(advice),
            scales=scales_from(np.concatenate([v.states for v in views]), card.variable_names),
            reward_scale=reward_scale(views),
            provenance=Provenance(explainer=self.objective),
        )
        return Explanation(guidance, env_steps=steps, facts=facts, files=files)


def _diagnosis(objective: str, blinded: float, steps: int) -> str:
    paper = "StateMask" if objective == "statemask" else "RICE"
    return (
        f"Mask network ({paper}): nobody has read the episodes, so no reason is given. After {steps} environment steps "
        f"of training the network blinds the agent in {100 * blinded:.0f} % of steps; the states at which it is surest "
        "not to are the critical ones."
    )
