"""All measurements of one agent, in one panel."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unstuck.agents.history import LearningCurve, events_unread, learning_curve
from unstuck.algorithms import algorithm, algorithm_of
from unstuck.diagnosis import critic, endings, exploration, inputs, network, settings, shadow, standing, summary
from unstuck.diagnosis.evidence import Evidence, Rollout, StateSample, hidden_layers, rollout_of
from unstuck.diagnosis.panel import FILE, Finding, Panel
from unstuck.diagnosis.references import reference_for
from unstuck.run import read_json, write_json
from unstuck.tasks.beside import seen, seen_space
from unstuck.workers import one_thread

if TYPE_CHECKING:
    from unstuck.agents import Agent
    from unstuck.episodes import Episode
    from unstuck.workspace import Workspace

MEASUREMENTS: tuple[Callable[[Evidence], Finding | None], ...] = (
    standing.as_in_training, inputs.reward_signal, exploration.beyond_bounds, exploration.noise_left,
    exploration.at_bounds, exploration.noise, exploration.entropy, exploration.same_action, exploration.modes,
    network.saturated_units, network.dormant_units, network.feature_rank, critic.explained_variance,
    critic.overestimation, inputs.reward_size, inputs.observation_size, endings.same_step, shadow.update_size,
    shadow.update_clipped, settings.settings,
)  # fmt: skip
"""Each looks at the evidence and says what it finds; None where it does not apply to this kind of agent."""


def examine(evidence: Evidence, *, env_steps: int = 0, seconds: float = 0.0) -> Panel:
    """Measure everything.

    Args:
        env_steps: that were taken to gather the evidence.
        seconds: that it took.
    """
    begun = time.monotonic()
    distance = standing.distance(evidence)
    found = [standing.progress(evidence), distance]
    found += [measure(evidence) for measure in MEASUREMENTS]
    found.append(endings.time_limit_only(evidence, good=standing.is_good(distance)))
    findings = summary.settle([_spoken(f, evidence) for f in found if f is not None])
    said = summary.verdict(findings)
    helps = summary.treatments(findings, said)
    a, b = evidence.returns(True), evidence.returns(False)
    return Panel(
        agent=evidence.agent, env=evidence.env, algorithm=evidence.algorithm, verdict=said,
        summary=summary.paragraph(evidence, findings, said, helps), treatments=helps, findings=findings,
        deterministic=float(a.mean()) if len(a) else None, sampled=float(b.mean()) if len(b) else None,
        env_steps=env_steps, looked_at=sum(map(len, evidence.rollouts)),
        seconds=round(seconds + time.monotonic() - begun, 2),
    )  # fmt: skip


def _spoken(finding: Finding, evidence: Evidence) -> Finding:
    if finding.name not in evidence.unspoken:
        return finding
    meaning = f"An agent of {evidence.algorithm} has {algorithm(evidence.algorithm).added}."
    return Finding(name=finding.name, status="unknown", meaning=meaning)


@one_thread()
def diagnose_run(workspace: Workspace, *, trunk: LearningCurve | None = None, env_steps: int = 0) -> Panel:
    """The panel of a run whose episodes are collected; takes no environment steps.

    Args:
        trunk: the curve of PPO continued from the agent, to be used instead of what lies beside it.
        env_steps: taken for this diagnosis alone, to be said in it.

    Raises:
        RunError: no episodes were collected, or they cannot be read.
    """
    begun = time.monotonic()
    evidence = gather(workspace, trunk=trunk)
    return examine(evidence, env_steps=env_steps, seconds=time.monotonic() - begun)


def leave_panel(workspace: Workspace) -> Panel:
    """`diagnose_run`, written to RUN/diagnosis.json for the prompt and the report."""
    panel = diagnose_run(workspace)
    write_json(workspace.run.root / FILE, panel.model_dump(mode="json"))
    return panel


def gather(workspace: Workspace, *, trunk: LearningCurve | None = None) -> Evidence:
    """What a run's episodes, its agent and the files beside it say."""
    agent, policy, config = workspace.agent, workspace.actor, workspace.config
    gamma = float(agent.hyperparameters.get("gamma") or 0.99)
    rollouts: list[Rollout] = []
    sampled: list[Episode] = []
    collected = workspace.run.record("collect")
    sample = StateSample(collected.env_steps + len(workspace.episodes))
    room = shadow.BYTES
    for episode in workspace.episodes:
        rollouts.append(rollout_of(episode, gamma))
        sample.add(seen(episode.observations))
        size = _bytes(episode.observations)
        fits = size <= room or (not sampled and size <= shadow.BYTES_OF_ONE)
        if not episode.deterministic and sum(len(e) for e in sampled) < shadow.STEPS and fits:
            sampled.append(episode)
            room -= size
    states = sample.states()
    env = workspace.make_env()
    action = workspace.describer.card.action
    try:
        spec = env.spec
        observation_space, action_space = seen_space(env.observation_space), env.action_space
    finally:
        env.close()
    n = agent.normalization
    scaled = n is not None and n.norm_reward
    on_policy = algorithm_of(agent).on_policy
    update, note = None, ""
    if on_policy:
        scale = float(np.sqrt(n.ret_var + n.epsilon)) if n is not None and scaled else 1.0
        update, note = shadow.shadow_update(agent, sampled, observation_space, action_space, config.train, scale)
    curve, why = _curve_of(workspace, agent) if trunk is None else (trunk, "")
    return Evidence(
        agent=agent.path.name, env=config.task.env, algorithm=agent.algorithm, on_policy=on_policy,
        hyperparameters=agent.hyperparameters, rollouts=tuple(rollouts), action_space=action_space,
        observation_space=observation_space, states=states, normalization=n, normalized_rewards=scaled,
        layers=hidden_layers(policy, states, orthogonal=on_policy), curve=curve, curve_note=why,
        trunk=trunk is not None, shadow=update,
        shadow_note=note, time_limit=spec.max_episode_steps if spec else None,
        # What is published is of episodes as long as the task is registered with.
        reference=None
        if "max_episode_steps" in config.task.env_kwargs
        else reference_for(config.task.env, on_policy=on_policy, solved=_threshold(spec)),
        action_names=action.names if action.kind == "discrete" else (),
        unspoken=algorithm_of(agent).unspoken,
    )  # fmt: skip


def _bytes(observations: Any) -> int:
    parts = observations.values() if isinstance(observations, dict) else [observations]
    return sum(int(part.nbytes) for part in parts)


def _threshold(spec: object) -> float | None:
    value = getattr(spec, "reward_threshold", None)
    return None if value is None else float(value)


def _curve_of(workspace: Workspace, agent: Agent) -> tuple[LearningCurve | None, str]:
    """The curve beside the agent's own file, which the run has only a copy of."""
    given = Path(workspace.config.agent.agent).expanduser() if workspace.config.agent.agent else None
    here = given is not None and (given.exists() or given.with_name(given.name + ".zip").exists())
    curve = learning_curve(given) if given is not None and here else _kept(workspace)
    if curve is None:
        if given is not None and here and events_unread(given):
            return None, "TensorBoard events lie beside it, and `pip install tensorboard` lets them be read"
        return None, "no learning curve lies beside the agent"
    trained = agent.hyperparameters.get("num_timesteps")
    if not isinstance(trained, (int, float)) or trained <= 0:
        return curve, ""
    if curve.steps[-1] < 0.5 * trained:
        return None, f"{curve.source} ends at {curve.steps[-1]:,} steps, but the agent has {trained:,}"
    # A curve goes on after an agent that was saved early, such as EvalCallback's best_model.zip.
    kept = sum(step <= 1.05 * trained for step in curve.steps)
    return LearningCurve(curve.steps[:kept], curve.returns[:kept], curve.source), ""


def _kept(workspace: Workspace) -> LearningCurve | None:
    """The curve that `collect` kept with the run."""
    path = workspace.run.root / "collect" / "learning-curve.json"
    if not path.is_file():
        return None
    held = read_json(path)
    return LearningCurve(tuple(held["steps"]), tuple(held["returns"]), str(held["source"]))
