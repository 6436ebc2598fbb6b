"""The explainer that trains a mask network (`unstuck.masknet`): critical is where it keeps the agent's action."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.config import RiceSettings, StateMaskSettings
from unstuck.explainers import Explainer, Explanation
from unstuck.explainers.base import evidence_at
from unstuck.guidance import Advice, Guidance, Near, Provenance, scales_from
from unstuck.masknet import MASK_FILE, Blinding, Objective, load_mask, save_mask, train_mask
from unstuck.views import peaks, reward_scale, views_of, whole_of

RADIUS = 0.15
APART = 20
"""Critical states of an episode of T steps are at least T / APART steps apart."""


class _MaskExplainer(Explainer):
    """Trains a mask network and names the states of each episode at which it is surest to keep the agent's action.

    It says nothing of what to do there: the advice has neither action nor reward. The network is kept beside it.
    """

    objective: Objective
    settings: Any

    def announce(self) -> str:
        return f"training the mask network for {self.settings.mask_steps} steps"

    def blinding(self) -> dict[str, float]:
        """Of `Blinding`, what the objective adds."""
        return {}

    def explain(self) -> Explanation:
        episodes, describer = self.space.episodes, self.space.describer
        card = describer.card
        views = views_of(episodes, describer)
        sampled = [v for v in views if not v.deterministic] or views
        blinding = Blinding(
            self.objective,
            **self.blinding(),
            agent_return=float(np.mean([v.total_reward for v in whole_of(sampled)])),
            agent_length=float(np.mean([len(v) for v in sampled])),
        )
        model, facts = train_mask(self.space, blinding, self.settings.mask_steps, self.settings.seed)
        steps = int(facts.pop("env_steps"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / MASK_FILE
            save_mask(model, path, self.space.agent.normalization)
            network = load_mask(path, self.space)
            files = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
        advice: list[Advice] = []
        for view, episode in zip(views, episodes, strict=True):
            importance = network.importance(episode.observations)[: len(view)]
            for step in peaks(importance, self.settings.critical_states, max(2, len(view) // APART)):
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


class StateMaskExplainer(_MaskExplainer):
    """StateMask's network (Guo et al. 2021 and 2023): blinds as much as its share of the return allows."""

    Settings = StateMaskSettings
    label = "a mask network, trained as StateMask has it"
    objective = "statemask"

    def blinding(self) -> dict[str, float]:
        return {"tolerance": self.settings.mask_tolerance}


class RiceExplainer(_MaskExplainer):
    """RICE's network (Cheng et al. 2024): a bonus for each blinded step."""

    Settings = RiceSettings
    label = "a mask network, trained as RICE has it"
    objective = "rice"

    def blinding(self) -> dict[str, float]:
        return {"bonus": self.settings.mask_bonus}


def _diagnosis(objective: str, blinded: float, steps: int) -> str:
    paper = "StateMask" if objective == "statemask" else "RICE"
    return (
        f"Mask network ({paper}): nobody has read the episodes, so no reason is given. After {steps} environment steps "
        f"of training the network blinds the agent in {100 * blinded:.0f} % of steps; the states at which it is surest "
        "not to are the critical ones."
    )
