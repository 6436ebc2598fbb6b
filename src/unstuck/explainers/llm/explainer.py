"""The explainer that asks a language model: once, or for several opinions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

from unstuck.agents.history import LearningCurve
from unstuck.config import ExplainConfig, PromptSettings
from unstuck.diagnosis.panel import read_panel
from unstuck.errors import BudgetError, LLMError
from unstuck.explainers import Explainer, Explanation
from unstuck.explainers.llm.facts import AgentFacts, Wanted
from unstuck.explainers.llm.form import reply_schema
from unstuck.explainers.llm.frames import Pictures, pictures_of
from unstuck.explainers.llm.policy_facts import settings_words
from unstuck.explainers.llm.prompt import build_prompt
from unstuck.explainers.llm.recordings import recordings_of
from unstuck.explainers.llm.reply import Reply, ReplyReader
from unstuck.explainers.several import merged
from unstuck.guidance import Guidance
from unstuck.llm import Answer, Coach, Request, Usage
from unstuck.run import Run, read_json
from unstuck.views import View, views_of
from unstuck.workspace import Workspace


class LLMExplainer(Explainer):
    """One prompt with all that is known; a checked reply for each opinion that is asked for."""

    Settings = PromptSettings
    label = "a language model"
    settings: PromptSettings

    @classmethod
    def asks(cls, config: ExplainConfig) -> bool:
        return True

    def announce(self) -> str:
        llm = self.space.config.llm
        return "recorded reply" if llm.is_recorded else f"asking {', '.join(llm.every_model)}"

    def depends(self) -> list[Any]:
        llm = self.space.config.llm
        several: list[Any] = [llm.every_model, llm.ask] if llm.models else []
        several += [llm.opinions] if llm.opinions != "apart" else []
        return [llm.model, [request.key for request in self.requests()], *several]

    def requests(self) -> list[Request]:
        """Exactly what `explain` asks first, one for each sample."""
        prompt, first, follows = self._prompt(), self.settings.sample, before(self.space.run)
        shown = self._pictures.digests
        return [Request.of(prompt, first + i, shown, follows) for i in range(self.space.config.llm.samples)]

    @cached_property
    def _views(self) -> list[View]:
        return views_of(self.space.episodes, self.space.describer)

    @cached_property
    def _pictures(self) -> Pictures:
        run = self.space.run
        count = self.space.config.llm.frames if self.settings.prompt_version > 1 else 0  # older prompts know of none
        found = pictures_of(run, self._views, self.space.episodes, recordings_of(run), count)
        if found.problem:
            self.say(f"no pictures go with the prompt: {found.problem}")
        return found

    def _prompt(self) -> str:
        space = self.space
        facts = replace(agent_facts(space), pictures=self._pictures.captions)
        settings = self.settings
        return build_prompt(self._views, space.describer.card, facts, settings.prompt_tokens, settings.prompt_version)

    def explain(self) -> Explanation:
        """Ask, or replay. The first opinion is the explanation, the others go beside it.

        Raises:
            NoRecordingError, BudgetError, LLMError: as `Coach.ask` does, if there is no usable reply at all.
        """
        card, llm = self.space.describer.card, self.space.config.llm
        reader = ReplyReader(self._views, card)
        schema = reply_schema(card, wanted(self.space))
        found: list[tuple[Guidance, Answer[Reply]]] = []
        problems: list[LLMError] = []
        for request in self.requests():
            for coach in self._coaches():
                try:
                    answer = coach.ask(
                        request, Reply, check=reader.check, salvage=reader.salvage, schema=schema,
                    )  # fmt: skip
                except LLMError as problem:
                    problems.append(problem)
                    if isinstance(problem, BudgetError):
                        break
                    continue
                guidance = reader.guidance(
                    answer.value, model=", ".join(answer.models), recordings=answer.keys, dropped=answer.dropped
                )
                found.append((guidance, answer))
                if llm.ask == "fallback":
                    break
        if not found:
            raise problems[0]
        for one in problems:
            self.say(f"one opinion less: {one}")
        if llm.opinions == "merged" and len(found) > 1:
            each = {f"opinion {i}": Explanation(guidance) for i, (guidance, _) in enumerate(found, 1)}
            return replace(merged(each), facts=_facts(found))
        return Explanation(found[0][0], facts=_facts(found), opinions=tuple(g for g, _ in found[1:]))

    def _coaches(self) -> Iterator[Coach]:
        llm, recordings = self.space.config.llm, recordings_of(self.space.run)
        for name in llm.every_model:
            yield Coach(llm.of(name), recordings, model=self.model, say=self.say)


def _facts(found: list[tuple[Guidance, Answer[Reply]]]) -> dict[str, Any]:
    usage = sum((a.usage for _, a in found), Usage())
    notes = dict.fromkeys(n for _, a in found for n in a.notes)
    return {
        "model": found[0][0].provenance.model,
        "calls": usage.calls,
        "replayed": usage.replayed,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cost_usd": usage.cost_usd,
        "spent_usd": usage.spent_usd,
        "recordings": [k for _, a in found for k in a.keys],
        "dropped": [d for g, _ in found for d in g.provenance.dropped],
        "opinions": len(found),
        **({"notes": list(notes)} if notes else {}),
    }


def before(run: Run) -> str:
    """Key of the exchange that the round before was explained by; '' where this is the first."""
    later = run.manifest.round
    if later is None:
        return ""
    outer = run.root / later.outer
    earlier = Run(outer if later.number == 2 else run.root.parent / str(later.number - 1))
    stage = earlier.manifest.stages.get("explain")
    return next(reversed(stage.facts.get("recordings", ())), "") if stage is not None else ""


def agent_facts(space: Workspace) -> AgentFacts:
    """What the prompt says of the agent."""
    settings = space.agent.hyperparameters
    later = space.run.manifest.round
    steps = later.trained if later else settings.get("num_timesteps")
    return AgentFacts(
        algorithm=space.agent.algorithm,
        trained_steps=int(steps) if steps else None,
        gamma=float(settings.get("gamma") or 0.99),
        settings=settings_words(space.agent),
        curve=_curve(space.run),
        panel=panel.as_text() if (panel := read_panel(space.run.root)) else "",
        wanted=wanted(space),
    )


def _curve(run: Run) -> LearningCurve | None:
    """What collecting found of the agent's own training."""
    path = run.root / "collect" / "learning-curve.json"
    if not path.exists():
        return None
    data = read_json(path)
    return LearningCurve(tuple(data["steps"]), tuple(data["returns"]), data["source"])


def wanted(space: Workspace) -> Wanted:
    """What the run's method reads of a reply, or all of it if that is asked for."""
    config = space.config
    if config.explain.ask_for == "all":
        return Wanted(terms=True, state_reward=True)
    guide, method = config.train.guide, config.train.method
    terms = space.describer.card.action.kind == "continuous" or guide.terms is True
    rewarded = guide.state_reward if guide.state_reward is not None else method in ("ultra-r", "ultra-ra")
    return Wanted(terms or config.explain.explainer == "random-terms", rewarded)
