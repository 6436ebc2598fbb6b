"""Make the stuck agents that ship with Unstuck, and the numbers that say that they are stuck.

    python scripts/make_agents.py               # all that is not done yet, then the manifest
    python scripts/make_agents.py NAME ...      # only these
    python scripts/make_agents.py --list        # what there is, and how far it is
    python scripts/make_agents.py --docs        # the table in docs/agents.md, from the manifest

For each agent: train it, continue it by its own algorithm with five seeds (a run of `unstuck` with the method ppo,
whose settings are the defaults), score all of them, measure the reference, judge. Each part is a file under
runs/agents/NAME and is not repeated; a run that is killed goes on. What is stuck goes into src/unstuck/stuck, what is
not is entered in the manifest as tried.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import platform
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from agent_recipes import COMMON, N_ENVS, RECIPES, Recipe, Training
from agent_references import SCRIPTED, play

from unstuck import stuck
from unstuck.algorithms.settings import ReplaySettings
from unstuck.config import AgentConfig, EvaluateConfig, RunConfig, TaskConfig, TrainConfig
from unstuck.results import MODES, StageKey, TrainFacts
from unstuck.run import Run, digest, read_json, write_json

ROOT = Path(__file__).parents[1]
WORK = ROOT / "runs" / "agents"
SHIPPED = ROOT / "src" / "unstuck" / "stuck"
SEEDS = (1, 2, 3, 4, 5)
EPISODES = 20
FIRST_SEED = 1_000_000
_TRAIN_FIELDS = (
    "learning_rate", "n_envs", "n_steps", "batch_size", "n_epochs", "clip_range", "ent_coef", "critic_warmup",
    "late_checkpoints",
)  # fmt: skip


def say(*words: Any) -> None:
    print(time.strftime("%H:%M:%S"), *words, flush=True)


# Training.


def train_agent(training: Training, task: str, env_kwargs: dict[str, Any], target: Path) -> None:
    """Train with Stable-Baselines3 and save without the optimiser's state, which is two thirds of a zip."""
    import stable_baselines3
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    from unstuck.agents import load_normalization, save_agent
    from unstuck.tasks import make_env

    settings, n_envs = used_settings(training)
    kind: Any = getattr(stable_baselines3, training.algorithm)
    if training.fast:
        from unstuck.ppo.fast import FastPPO as kind  # noqa: N813
        from unstuck.vecenvs import make_vec_env

        venv: Any = make_vec_env(lambda: make_env(task, env_kwargs), task, env_kwargs, n_envs, threads=1)
    else:
        venv = DummyVecEnv([lambda: Monitor(make_env(task, env_kwargs)) for _ in range(n_envs)])
    if training.normalize:
        venv = VecNormalize(venv, norm_reward=training.norm_reward, gamma=settings.get("gamma", 0.99))
    model = kind("MlpPolicy", venv, seed=training.seed, device="cpu", **settings)
    model.learn(training.steps)
    for part in (model.policy, getattr(model.policy, "actor", None), getattr(model.policy, "critic", None)):
        if getattr(part, "optimizer", None) is not None:
            part.optimizer.state.clear()
    normalization = None
    if training.normalize:
        raw = target.with_name("raw-statistics.pkl")
        venv.save(str(raw))
        normalization = load_normalization(raw)
        raw.unlink()
    save_agent(model, target, normalization)
    venv.close()


def used_settings(training: Training) -> tuple[dict[str, Any], int]:
    """Of the learner, and how many environments it trains in."""
    on_policy = training.algorithm == "PPO"
    return (COMMON | training.settings, N_ENVS) if on_policy else (training.settings, 1)


def facts_of(training: Training) -> dict[str, Any]:
    """What a training depends on. A PPO is known as it was before there were others."""
    found = asdict(training)
    if training.algorithm == "PPO":
        del found["algorithm"]
    return found


def trained(training: Training, task: str, env_kwargs: dict[str, Any], target: Path) -> Path:
    """The agent of this training run; trained now if it is not there."""
    mark = digest(facts_of(training), task, env_kwargs, COMMON, N_ENVS)
    note = target.with_suffix(".json")
    if target.exists() and note.exists() and read_json(note)["mark"] == mark:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    train_agent(training, task, env_kwargs, target)
    write_json(note, {"mark": mark, "seconds": round(time.monotonic() - begun), "versions": versions()})
    say(f"  trained {target.parent.name}/{target.name}: {training.steps} steps in {time.monotonic() - begun:.0f} s")
    return target


def versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("stable_baselines3", "gymnasium", "numpy", "torch")
    return {p: version(p) for p in packages} | {"python": platform.python_version()}


# Measuring.


def continued(recipe: Recipe, agent: Path) -> dict[str, Any]:
    """Scores of the agent before and of PPO continued, from a run of Unstuck with the method ppo."""
    from unstuck.pipeline import open_run
    from unstuck.stages.evaluate import evaluate
    from unstuck.stages.train import train

    folder = WORK / recipe.name / "continued"
    if (folder / "manifest.json").exists() and digest(Run(folder).agent_path) != digest(agent):
        shutil.rmtree(folder)
    config = RunConfig(
        task=TaskConfig(env=recipe.task, env_kwargs=recipe.env_kwargs),
        agent=AgentConfig(agent=str(agent)),
        train=TrainConfig(
            steps=recipe.continue_steps, seeds=SEEDS, method="ppo", jobs=1, replay=ReplaySettings(**recipe.replay)
        ),
        evaluate=EvaluateConfig(episodes=7, before_episodes=EPISODES, seed=FIRST_SEED),
    )
    run = open_run(config, folder)
    train(run)
    scores = evaluate(run)
    settings = config.train.model_dump(mode="json")
    if recipe.training.algorithm == "PPO":
        settings = {k: settings[k] for k in _TRAIN_FIELDS if k in settings}
        if settings["ent_coef"] is None:
            settings["ent_coef"] = 0.01 if _is_discrete(recipe) else 0.0
    else:
        kept = {k: v for k, v in settings["replay"].items() if v is not None}
        settings = {**kept, "late_checkpoints": settings["late_checkpoints"]}
    used = TrainFacts.read(folder / str(StageKey("train", "ppo", SEEDS[0])) / "info.json")
    settings |= {"engine": used.engine, "backend": used.backend}
    return {"scores": scores, "settings": settings, "steps": used.steps}


def _is_discrete(recipe: Recipe) -> bool:
    from unstuck.tasks import make_env

    env = make_env(recipe.task, recipe.env_kwargs)
    discrete = hasattr(env.action_space, "n")
    env.close()
    return discrete


def agent_returns(path: Path, recipe: Recipe) -> list[float]:
    """Returns of a saved agent on the recipe's task, with its most likely actions."""
    from unstuck.agents import load_agent
    from unstuck.algorithms import policy_of
    from unstuck.rollout import run_episodes
    from unstuck.tasks import make_env

    agent = load_agent(path)
    envs = [make_env(recipe.task, recipe.env_kwargs) for _ in range(8)]
    actor = policy_of(agent, envs[0].observation_space, envs[0].action_space)
    seeds = range(FIRST_SEED, FIRST_SEED + EPISODES)
    return [t.total_reward for t in run_episodes(envs, actor, seeds, deterministic=True, keep=False)]


def reference(recipe: Recipe) -> dict[str, Any]:
    """Mean, sd and n of the reference on the recipe's task."""
    target = WORK / recipe.name / "reference.json"
    given = recipe.reference
    mark = digest(given if isinstance(given, str) else facts_of(given), recipe.task, recipe.env_kwargs, EPISODES)
    if target.exists() and (held := read_json(target))["mark"] == mark:
        return held
    if isinstance(given, str):
        from unstuck.tasks import make_env

        env = make_env(recipe.task, recipe.env_kwargs)
        returns = play(SCRIPTED[given], env, range(FIRST_SEED, FIRST_SEED + EPISODES))
    else:
        task = given.task or recipe.task
        kept = WORK / "references" / f"{task.replace('/', '-')}-{digest(facts_of(given))[:8]}.zip"
        returns = agent_returns(trained(given, task, recipe.env_kwargs, kept), recipe)
    found = {"mark": mark, "mean": float(np.mean(returns)), "sd": float(np.std(returns, ddof=1)), "n": len(returns)}
    write_json(target, found)
    return found


# The manifest.


def make(recipe: Recipe) -> dict[str, Any]:
    """All parts of one agent, and its entry: a StuckAgent as JSON."""
    folder = WORK / recipe.name
    mark = _mark(recipe)
    if (folder / "entry.json").exists() and (held := read_json(folder / "entry.json"))["mark"] == mark:
        return held["entry"]
    agent = trained(
        recipe.training, recipe.training.task or recipe.task, recipe.env_kwargs, folder / f"{recipe.name}.zip"
    )
    better = reference(recipe)
    found = continued(recipe, agent)
    scores = found["scores"]
    arm = scores.arms["ppo"]
    points = arm.seeds[SEEDS[0]].checkpoints
    statistics = agent.with_suffix(".vecnormalize.pkl")
    t = recipe.training
    parts: dict[str, Any] = {
        "before": stuck.Modes(**{m: _returns(scores.before.of(m)) for m in MODES}),
        "continued": stuck.Continued(
            steps=found["steps"], seeds=SEEDS, settings=found["settings"],
            episodes=sum(len(p.deterministic) for p in points),
            **{m: tuple(_short(r) for r in arm.per_seed(m)) for m in MODES},
        ),
        "reference": stuck.Reference(
            mean=_short(better["mean"]), sd=_short(better["sd"]), n=better["n"], origin="measured",
            how=recipe.reference_how,
        ),
    }  # fmt: skip
    entry = stuck.StuckAgent(
        name=recipe.name, task=recipe.task, env_kwargs=recipe.env_kwargs, rut=recipe.rut,  # type: ignore[arg-type]
        wrong=recipe.wrong, why=recipe.why,
        training=stuck.Training(
            how=recipe.how, command=f"python scripts/make_agents.py {recipe.name}", steps=t.steps, seed=t.seed,
            settings=_settings_told(t), normalized=t.normalize, algorithm=t.algorithm,
        ),
        verdict=_rounded_verdict(stuck.judge(parts["before"], parts["continued"], parts["reference"])),
        versions=read_json(agent.with_suffix(".json"))["versions"], file=agent.name,
        vecnormalize_file=statistics.name if statistics.exists() else None, **parts,
    )  # fmt: skip
    data = entry.model_dump(mode="json")
    write_json(folder / "entry.json", {"mark": mark, "entry": data})
    say(f"  {recipe.name}: {words(data)}")
    return data


def _mark(recipe: Recipe) -> str:
    """What an entry depends on, but its words."""
    better = recipe.reference if isinstance(recipe.reference, str) else facts_of(recipe.reference)
    return digest(
        facts_of(recipe.training), better, recipe.task, recipe.env_kwargs, recipe.continue_steps, COMMON, N_ENVS, SEEDS,
        *([recipe.replay] if recipe.replay else []),
    )  # fmt: skip


def _short(x: float) -> float:
    return float(f"{x:.6g}")


def _returns(values: list[float]) -> stuck.Returns:
    return stuck.Returns(mean=_short(np.mean(values)), sd=_short(np.std(values, ddof=1)), n=len(values))


def _settings_told(training: Training) -> dict[str, Any]:
    settings, n_envs = used_settings(training)
    return {**settings, "n_envs": n_envs} if training.algorithm != "PPO" else COMMON | {"n_envs": n_envs} | settings


def _rounded_verdict(v: stuck.StuckVerdict) -> stuck.StuckVerdict:
    def short(g: stuck.Gain) -> stuck.Gain:
        return stuck.Gain(mean=round(g.mean, 4), low=round(g.low, 4), high=round(g.high, 4))

    return v.model_copy(update={"deterministic": short(v.deterministic), "sampled": short(v.sampled)})


def words(e: dict[str, Any]) -> str:
    """The numbers of an entry in a line."""
    c, v = e["continued"], e["verdict"]
    parts = [
        f"{m} {e['before'][m]['mean']:.4g} → {np.mean(c[m]):.4g} "
        f"(gain {v[m]['mean']:.2f} [{v[m]['low']:.2f}, {v[m]['high']:.2f}])"
        for m in ("deterministic", "sampled")
    ]
    stuck_or_not = "stuck" if v["stuck"] else "NOT STUCK"
    longer = f"{e['training'].get('algorithm', 'PPO')} +{c['steps']} steps"
    return f"{'; '.join(parts)}; reference {e['reference']['mean']:.4g}; {longer}: {stuck_or_not}"


def write_manifest() -> None:
    """The manifest and the shipped files, from the entries that are finished."""
    entries = {r.name: read_json(p)["entry"] for r in RECIPES if (p := WORK / r.name / "entry.json").exists()}
    held, kept_tried = SHIPPED / "manifest.json", []
    if held.exists():
        # What was made elsewhere, or before runs/ was emptied, stays.
        names = {r.name for r in RECIPES}
        for e in read_json(held)["agents"]:
            if e["name"] in names:
                entries.setdefault(e["name"], e)
        kept_tried = [t for t in read_json(held)["tried"] if t["name"] in names - entries.keys()]
    for recipe in RECIPES:
        if recipe.name in entries:
            # Words may be corrected without measuring anew.
            e = entries[recipe.name]
            e |= {"rut": recipe.rut, "wrong": recipe.wrong, "why": recipe.why}
            e["training"]["how"], e["reference"]["how"] = recipe.how, recipe.reference_how
    ruts = list(stuck.Rut.__args__)  # type: ignore[attr-defined]
    agents = sorted(
        (e for e in entries.values() if e["verdict"]["stuck"]), key=lambda e: (ruts.index(e["rut"]), e["name"])
    )
    tried = kept_tried + [
        {"name": n, "task": e["task"], "what": e["training"]["how"], "numbers": words(e)}
        for n, e in entries.items()
        if not e["verdict"]["stuck"]
    ]
    for entry in agents:
        for name in filter(None, (entry["file"], entry["vecnormalize_file"])):
            source = WORK / entry["name"] / name
            if source.exists():
                shutil.copyfile(source, SHIPPED / name)
    data = {"format": 1, "agents": agents, "tried": tried}
    stuck.Manifest.model_validate(data)
    write_json(held, data)
    kept = {f for e in agents for f in (e["file"], e["vecnormalize_file"]) if f}
    for path in (*SHIPPED.glob("*.zip"), *SHIPPED.glob("*.pkl")):
        if path.name not in kept:
            path.unlink()
    say(f"{len(agents)} stuck, {len(tried)} not: {held.relative_to(ROOT)}")


def write_docs() -> None:
    from unstuck.stuck.page import updated_page

    target = ROOT / "docs" / "agents.md"
    target.write_text(updated_page(target.read_text(encoding="utf-8"), stuck.read_manifest()), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--docs", action="store_true", help="only write the tables of docs/agents.md")
    parser.add_argument("--manifest", action="store_true", help="only write the manifest, from what is finished")
    given = parser.parse_args()
    known = {r.name: r for r in RECIPES}
    if unknown := [n for n in given.names if n not in known]:
        sys.exit(f"no recipe for {', '.join(unknown)}; there are: {', '.join(known)}")
    if given.list:
        for name in known:
            path = WORK / name / "entry.json"
            print(f"{name}: {words(read_json(path)['entry']) if path.exists() else 'to do'}")
        return
    import torch

    torch.set_num_threads(1)
    if not (given.docs or given.manifest):
        for name in given.names or known:
            say(name)
            make(known[name])
    if not given.docs:
        write_manifest()
    write_docs()


if __name__ == "__main__":
    main()
