"""Commands that look at a task: `describe`, `card` and `check-env`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from unstuck.commands.arguments import Positional, json_object, parse
from unstuck.commands.talk import as_json


@dataclass
class EnvArgs:
    """A task, by its Gymnasium id."""

    env: Annotated[str, Positional]
    """Gymnasium id, e.g. Hopper-v5."""
    env_kwargs: str = "{}"
    """JSON: keyword arguments of gymnasium.make."""
    import_module: str | None = None
    """A Python module to import first, which registers your environments."""
    card: Path | None = None
    """A TOML task card to use."""


@dataclass
class DescribeArgs(EnvArgs):
    """Show how states of a task read in language."""

    states: int = 5
    """States to show, from random play."""
    seed: int = 0


@dataclass
class CheckArgs(EnvArgs):
    """Check exact snapshots, the card, the size of a state in words, and what all of it costs."""

    agent: Path | None = None
    """An SB3 zip that plays as well, to hold the card against what it sees."""
    vecnormalize: Path | None = None
    """Its VecNormalize statistics, if they are not found beside it."""
    trust: bool = False
    """Let the agent's file run code."""
    seeds: int = 3
    """Runs in which snapshots are compared."""
    steps: int | None = None
    """Length of each; by default a whole episode and some of the next."""
    states: int = 2000
    """States to hold the card against."""


def describe(command: str, args: list[str]) -> None:
    """`unstuck describe`."""
    from unstuck import tasks

    parsed = parse(DescribeArgs, command, args)
    env = _env_of(parsed)
    describer = tasks.describer_for(env, card=parsed.card)
    if as_json(lambda: describer.card.model_dump(mode="json")):
        return
    _print_card(describer.card)
    print(f"\nStates (seed {parsed.seed}, random play):")
    env.action_space.seed(parsed.seed)
    obs, _ = env.reset(seed=parsed.seed)
    for i in range(parsed.states):
        print(f"  {i}: {tasks.describe_state(describer, obs)}")
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            obs, _ = env.reset()
    env.close()


def _print_card(card: Any) -> None:
    limit = f" Time limit: {card.max_episode_steps} steps." if card.max_episode_steps else ""
    print(f"{card.env_id}\n\nGoal: {card.goal}\nReward: {card.reward}\nEnds: {card.termination}{limit}")
    if card.notes:
        print(f"Notes: {card.notes}")
    print(f"Actions ({card.action.kind}): {', '.join(card.action.legend)}\n\nVariables:")
    for v in card.variables:
        bounds = f" in [{v.low:g}, {v.high:g}]" if v.low is not None and v.high is not None else ""
        print(f"  {v.name}{f' ({v.unit})' if v.unit else ''}{bounds}: {v.description}")


def card(command: str, args: list[str]) -> None:
    """`unstuck card`."""
    from unstuck import tasks

    parsed = parse(EnvArgs, command, args)
    env = _env_of(parsed)
    print(tasks.card_to_toml(tasks.describer_for(env, card=parsed.card).card), end="")
    env.close()


def _env_of(parsed: Any) -> Any:
    from unstuck import tasks

    return tasks.make_env(parsed.env, json_object(parsed.env_kwargs, "--env-kwargs"), parsed.import_module)


def check(command: str, args: list[str]) -> None:
    """`unstuck check-env`."""
    from unstuck.errors import EnvironmentFaultError

    parsed = parse(CheckArgs, command, args)
    try:
        _check(parsed)
    except EnvironmentFaultError as error:
        print(f"{parsed.env}: NOT OK\n    PROBLEM: {error}\n{error.trace}")
        raise SystemExit(1) from None


def _check(parsed: CheckArgs) -> None:
    from functools import partial

    from unstuck import tasks
    from unstuck.checks import check_env

    kwargs = json_object(parsed.env_kwargs, "--env-kwargs")
    make_env = partial(tasks.make_env, parsed.env, kwargs, parsed.import_module)
    env = make_env()
    describer = tasks.describer_for(env, card=parsed.card)
    actor = None
    if parsed.agent is not None:
        from unstuck.agents import check_fits, load_agent
        from unstuck.algorithms import policy_of

        agent = load_agent(parsed.agent, vecnormalize=parsed.vecnormalize, trust=parsed.trust)
        check_fits(agent, env.observation_space, env.action_space, parsed.env)
        actor = policy_of(agent, env.observation_space, env.action_space)
    env.close()
    seeds = range(max(1, parsed.seeds))
    report = check_env(make_env, describer, seeds=seeds, steps=parsed.steps, states=parsed.states, actor=actor)
    if not as_json(lambda: {"ok": report.ok, **asdict(report)}):
        print(report.words())
    if not report.ok:
        raise SystemExit(1)
