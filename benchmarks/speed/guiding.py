"""What guidance costs in training, by the number of pieces and by how they say where they apply.

A few per cent drown in the scatter of whole runs, so the clock runs inside of a real training: around the wrapper
through which guidance meets the simulator, less the simulator within; around the substitution of actions; around what
looks at whole rollouts where nothing is executed; around the loss of imitation; and around what parts do once for each
update. It is compared with the time that a vector step takes in all in the same training without guidance, its share
of the update included.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed.rows import Row, workspace

ENV, N_ENVS, N_STEPS = "Hopper-v5", 16, 128
NUMBERS = (10, 100, 1_000, 10_000)
KINDS = {
    "imitated": "rules with two conditions each, imitated",
    "conditions": "rules with two conditions each, executed",
    "neighbourhoods": "neighbourhoods of seen states, executed",
    "table": "entries of the look-up table, executed",
    "terms": "reward terms with two conditions each",
}
TARGETS = {100: 0.03, 10_000: 0.10}
"""Largest share of the steps per second, by the number of pieces."""
DIVIDED = 100
"""The number of pieces whose execution is timed part by part."""


def measure(repeats: int, quick: bool = False) -> list[Row]:
    """One row for each kind and number: seconds of a vector step without guidance, and of the guidance in it."""
    from unstuck.guide.plan import Plan
    from unstuck.workers import one_thread

    execute = Plan(execute=True)
    plans = {"terms": Plan(terms=True), "imitated": Plan(imitate=0.3)}
    plans = {k: plans.get(k, execute) for k in KINDS}
    with one_thread(), tempfile.TemporaryDirectory() as name:
        space = workspace(ENV, Path(name))
        seen = _seen(space)
        made = {(k, n): _guidance(space, seen, k, n) for n in NUMBERS[: 1 if quick else None] for k in KINDS}
        _train(space, Plan(), None, Path(name), 1)
        bare: list[float] = []
        costs: dict[Any, list[float]] = {case: [] for case in made}
        hits: dict[Any, float] = {}
        for _ in range(repeats):
            for number, (case, guidance) in enumerate(made.items()):
                if number % len(KINDS) == 0:
                    bare.append(_train(space, Plan(), None, Path(name), 1 if quick else 4)[0])
                _, cost, hits[case] = _train(space, plans[case[0]], guidance, Path(name), 1 if quick else 2)
                costs[case].append(cost)
        parts = {
            case: _parts(space, execute, guidance, Path(name), 1 if quick else 2)
            for case, guidance in made.items()
            if plans[case[0]] is execute and case[1] == (NUMBERS[0] if quick else DIVIDED)
        }
    step = float(np.median(bare))
    return [_row(kind, n, step, costs[kind, n], hits[kind, n], parts.get((kind, n))) for kind, n in made]


def _row(kind: str, n: int, step: float, costs: list[float], hit: float, parts: dict[str, float] | None) -> Row:
    cost, note = float(np.median(costs)), f"advice applied in {hit:.0%} of the states"
    if parts is not None:
        divided = ", ".join(f"{name} {1e6 * seconds:.0f}" for name, seconds in parts.items() if name != ALONE)
        note += f"; of it {divided} µs, and {1e6 * parts[ALONE]:.0f} µs all three {ALONE}"
    return {
        "what": f"{n:,} {KINDS[kind]}", "unit": "µs per vector step", "baseline": step * 1e6, "ours": cost * 1e6,
        # What is lost of the steps per second: the time that is added, as a share of all the time there is then.
        "ratio": cost / (step + cost), "spread": [c / (step + c) for c in (min(costs), max(costs))], "limit": None,
        "target": TARGETS.get(n), "kind": kind, "number": n, "note": note,
        **({"alone": parts[ALONE] * 1e6} if parts else {}),
    }  # fmt: skip


def _seen(space: Any) -> np.ndarray:
    """(N, V) variables of states of random play, where advice may apply."""
    env = space.make_env()
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    found = []
    for _ in range(2000):
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        found.append(obs)
        if terminated or truncated:
            obs, _ = env.reset()
    env.close()
    return space.describer.variables(np.array(found))


def _guidance(space: Any, seen: np.ndarray, kind: str, n: int) -> Any:
    """`n` pieces. Actions add nothing to the policy's own, so that all arms meet nearly the same states: other episodes
    would cost other time."""
    from unstuck.guidance import Action, Advice, Condition, Evidence, Guidance, Near, Term, scales_from

    rng, card = np.random.default_rng(0), space.describer.card
    names, scales = card.variable_names, scales_from(seen, card.variable_names)
    spread = seen.std(axis=0)

    def where() -> Any:
        chosen = rng.choice(len(names), 2, replace=False)
        return tuple(
            Condition(variable=names[i], op=">", value=float(np.quantile(seen[:, i], rng.uniform(0.8, 1))))
            for i in chosen
        )

    def spot() -> dict[str, float]:
        state = seen[rng.integers(len(seen))] + 0.1 * spread * rng.normal(size=len(names))
        return dict(zip(names, map(float, state), strict=True))

    say = {
        "imitated": lambda: {"kind": "rule", "when": where()},
        "conditions": lambda: {"kind": "rule", "when": where()},
        "neighbourhoods": lambda: {"kind": "state", "near": Near(point=spot(), radius=0.15)},
        "table": lambda: {"kind": "state", "evidence": Evidence(episode=0, step=0, state=spot())},
    }
    terms, advice = (), ()
    if kind == "terms":
        terms = tuple(
            Term(variable=str(rng.choice(names)), above=0.0, weight=1e-6, cap=1.0, when=where()) for _ in range(n)
        )
    else:
        nothing = Action(values=(0.0,) * len(card.action.names), delta=True)
        advice = tuple(Advice(id=f"a{i}", why="", action=nothing, **say[kind]()) for i in range(n))
    return Guidance.model_construct(
        format=1, env_id=ENV, diagnosis="", summary="", advice=advice, reward_terms=terms, progress=None, scales=scales,
        reward_scale=1.0,
    )  # fmt: skip


def _train(space: Any, plan: Any, guidance: Any, folder: Path, rollouts: int) -> tuple[float, float, float]:
    """Seconds of a vector step in all, seconds of it in guidance, and the share of states in which advice applied."""
    from unstuck.config import TrainConfig
    from unstuck.learner import Learner

    config = TrainConfig(n_envs=N_ENVS, n_steps=N_STEPS, critic_warmup=0, threads=1)
    steps = rollouts * N_ENVS * N_STEPS
    learner = Learner(space, config, plan, guidance, 0, steps, folder)
    clock = _Clock()
    hits: list[float] = []
    with _clocked(learner, clock):
        begun = time.perf_counter()
        learner.trainer.learn(steps, lambda _: hits.append(learner.guide.line().get("hit_rate") or 0.0))
        seconds = time.perf_counter() - begun
    learner.model.get_env().close()
    return seconds / (rollouts * N_STEPS), clock.spent / (rollouts * N_STEPS), float(np.mean(hits))


ALONE = "by themselves"


def _parts(space: Any, plan: Any, guidance: Any, folder: Path, rollouts: int) -> dict[str, float]:
    """Seconds of a vector step in which variables are computed, advice is matched, actions are substituted; and of all
    three where they are called again and again, with nothing in between."""
    from unstuck.config import TrainConfig
    from unstuck.learner import Learner

    steps = rollouts * N_ENVS * N_STEPS
    learner = Learner(
        space, TrainConfig(n_envs=N_ENVS, n_steps=N_STEPS, critic_warmup=0, threads=1), plan, guidance, 0, steps, folder
    )
    sense, substitution = learner.guide.sense, learner.model.substitution
    (part,) = (p for p in sense.parts if p.acts)
    observe, see, substitute = sense.observe, part.see, substitution.substitute
    seen: list[np.ndarray] = []

    def watched(obs: np.ndarray) -> np.ndarray:
        seen.append(np.array(obs))
        return clocks["variables"].timed(observe)(obs)

    clocks = {"variables": _Clock(), "matching": _Clock(), "substitution": _Clock()}
    sense.observe = watched
    clocks["matching"].around(part, "see")
    clocks["substitution"].around(substitution, "substitute")
    learner.trainer.learn(steps, lambda _: None)
    own = np.zeros((N_ENVS, *learner.model.action_space.shape), np.float32)
    none, some, times = np.zeros(N_ENVS, dtype=bool), [o for o in seen if len(o) == N_ENVS][:N_STEPS], []
    for _ in range(20):
        begun = time.perf_counter()
        for obs in some:
            see(observe(obs), none)
            substitute(own)
        times.append((time.perf_counter() - begun) / len(some))
    learner.model.get_env().close()
    return {name: clock.spent / (rollouts * N_STEPS) for name, clock in clocks.items()} | {ALONE: float(min(times))}


@contextlib.contextmanager
def _clocked(learner: Any, clock: _Clock) -> Iterator[None]:
    """The clock around all that guidance does in a training by `FastPPO`.

    Raises:
        RuntimeError: guidance takes part in another way, which nobody would clock.
    """
    from unstuck.ppo import heads

    sense, model = learner.guide.sense, learner.model
    if sense is None:
        yield
        return
    if model.slow_because is not None:
        raise RuntimeError(f"not by the fast loops: {model.slow_because}")
    for name in ("step_async", "step_wait"):
        clock.around(sense.venv, name, -1)
        clock.around(sense, name)
    if model.substitution is not None:
        clock.around(model.substitution, "substitute")
    for name in ("begin", "rewards", "suggestions") if sense.memory is not None else ():
        clock.around(sense.memory, name)
    for name in ("on_update", "line"):
        clock.around(learner.guide, name)
    own = heads.Gaussian.imitate
    heads.Gaussian.imitate = clock.timed(own)  # type: ignore[method-assign]
    try:
        yield
    finally:
        heads.Gaussian.imitate = own  # type: ignore[method-assign]


class _Clock:
    """Seconds spent in some functions, less those in others."""

    def __init__(self) -> None:
        self.spent = 0.0

    def around(self, owner: Any, name: str, sign: int = 1) -> None:
        """Time a method of one object; with -1 it is taken off, as it lies in another that is timed."""
        setattr(owner, name, self.timed(getattr(owner, name), sign))

    def timed(self, function: Any, sign: int = 1) -> Any:
        def call(*args: Any) -> Any:
            begun = time.perf_counter()
            found = function(*args)
            self.spent += sign * (time.perf_counter() - begun)
            return found

        return call


def plot(rows: list[Row], path: Path) -> None:
    """Cost against the number of pieces, a line for each kind."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "speed"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for kind, marker in zip(KINDS, "vosd^", strict=True):
        mine = [r for r in rows if r["kind"] == kind]
        numbers, low, high = [r["number"] for r in mine], *zip(*(r["spread"] for r in mine), strict=True)
        axes.plot(numbers, [100 * r["ratio"] for r in mine], marker=marker, label=kind)
        axes.fill_between(numbers, np.multiply(low, 100), np.multiply(high, 100), alpha=0.15)
    for number, share in TARGETS.items():
        axes.plot([number / 1.6, number * 1.6], [100 * share] * 2, color="black", linewidth=1.5)
    axes.set(xscale="log", xlabel="pieces of advice", ylabel="% of the steps per second", ylim=(0, None))
    axes.set_title(f"What guidance costs: {ENV}, {N_ENVS} environments; bars: at most", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
