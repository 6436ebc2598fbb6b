"""The main job on toy tasks with known answers: what the guidance says must be learnt, by a rerun to the same bits."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from unstuck.agents import load_agent
from unstuck.config import (
    AgentConfig,
    CollectConfig,
    EvaluateConfig,
    ExplainConfig,
    RunConfig,
    TaskConfig,
    TrainConfig,
    VerifyConfig,
)
from unstuck.diagnosis import read_panel
from unstuck.errors import GuidanceError, RunError
from unstuck.guidance import Action, Advice, Condition, Guidance, Term, load_guidance, save_guidance
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.llm import LLMConfig
from unstuck.pipeline import open_run, refine, run_stages
from unstuck.progress import Progress
from unstuck.run import Run
from unstuck.stages.collect import collect
from unstuck.stages.evaluate import evaluate
from unstuck.stages.train import plan_jobs, train
from unstuck.testing import CORRIDOR, PUSH, save_stuck_agent, scripted_model
from unstuck.workspace import Workspace

SMALL = {"n_envs": 4, "n_steps": 64, "batch_size": 64, "n_epochs": 10, "critic_warmup": 256, "jobs": 1}


def config(env_id, agent, **train_settings):
    return RunConfig(
        task=TaskConfig(env=env_id, import_module="unstuck.testing"),
        agent=AgentConfig(agent=str(agent)),
        collect=CollectConfig(episodes=4, max_steps=300),
        explain=ExplainConfig(search_states=2),
        llm=LLMConfig(model="scripted"),
        verify=VerifyConfig(pairs=3, max_steps=1_500, episode_pairs=2),
        train=TrainConfig(**(SMALL | {"learning_rate": 1e-3, "steps": 6_000, "seeds": (1,)} | train_settings)),
        evaluate=EvaluateConfig(episodes=2, before_episodes=2),
    )


@pytest.fixture(scope="module")
def corridor_agent(tmp_path_factory):
    return save_stuck_agent(tmp_path_factory.mktemp("agent") / "corridor.zip", CORRIDOR)


@pytest.fixture(scope="module")
def push_agent(tmp_path_factory):
    return save_stuck_agent(tmp_path_factory.mktemp("agent") / "push.zip", PUSH, normalize=True, bias=0.7)


def variables(env_id):
    from unstuck.tasks import describer_for

    return describer_for(env_id).card.variable_names


def with_guidance(run, guidance):
    """Collect, then put guidance in as if explaining and verifying had made it, for free."""
    collect(run)
    for stage in ("explain", "verify"):
        with run.stage(stage, "by hand"):
            pass
    save_guidance(guidance, run.guidance_path)


def reply(x):
    return json.dumps(
        {
            "analysis": "It walks left into the wall in every episode.",
            "diagnosis": "The agent always goes left & never sees the <b>end</b>.",
            "critical_states": [{"episode": 0, "step": 5, "why": "At the wall.", "action": 1, "hold": 3, "reward": -1}],
            "rules": [
                {"when": [{"variable": x, "abs": False, "op": "<", "value": 2}], "action": 1, "why": "Go right."}
            ],
            "reward_terms": [],
            "progress": {
                "terms": [
                    {"variable": x, "abs": False, "weight": 1, "cap": 2, "above": None, "below": None, "when": []}
                ],
                "aggregate": "last",
                "why": "how far along",
            },
        }
    )


def test_the_main_job_end_to_end_and_a_rerun_asks_and_trains_nothing(tmp_path, corridor_agent):
    x = variables(CORRIDOR)[0]
    settings = config(CORRIDOR, corridor_agent)
    console = Console(file=io.StringIO(), width=200)
    run = refine(
        corridor_agent,
        run=tmp_path / "run",
        config=settings,
        model=scripted_model(reply(x)),
        progress=Progress(console),
    )
    said = console.file.getvalue()
    assert said.index("collect: ") < said.index("diagnosis: ") < said.index("explain: "), "known before it is treated"
    assert str(read_panel(run.root).verdict).capitalize() in said
    summary = json.loads((run.root / "evaluate" / "scores.json").read_text())["summary"]
    assert summary["before"]["deterministic"]["mean"] == -60
    assert summary["arms"]["unstuck"]["deterministic"]["mean"] > -35, "it has learnt to walk right"
    guidance = load_guidance(run.guidance_path)
    assert {a.id: a.verdict.status for a in guidance.advice if a.kind == "rule"} == {"r1": "helpful"}
    charged = run.record("train/unstuck/1").facts["charged"]
    assert charged["collect"] == run.record("collect").env_steps > 0
    assert charged["verify"] == run.record("verify").env_steps > 0
    assert sum(charged.values()) <= 6_000
    assert run.record("train/ppo/1").facts["charged"] == {"train": 6_000 // 256 * 256}
    page = (run.root / "report.html").read_text()
    assert "<b>end</b>" not in page
    assert "&lt;b&gt;end&lt;/b&gt;" in page
    before = {name: record.finished for name, record in run.manifest.stages.items() if name != "report"}
    again = refine(corridor_agent, run=tmp_path / "run", config=settings, model=scripted_model())
    assert {n: r.finished for n, r in again.manifest.stages.items() if n != "report"} == before


def test_the_saved_agent_runs_where_unstuck_is_not(tmp_path, push_agent):
    settings = config(PUSH, push_agent, method="ppo", steps=256)
    run = open_run(settings, tmp_path / "run")
    path = train(run)["ppo"][0]
    program = (
        "import sys; sys.modules['unstuck'] = None\n"
        "from stable_baselines3 import PPO\n"
        f"print(PPO.load({str(path)!r}, device='cpu').predict([0.0, 0.0])[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1,)"
    assert path.with_suffix(".vecnormalize.pkl").exists()


def test_reward_terms_get_a_continuous_agent_out_of_its_rut(tmp_path, push_agent):
    speed = variables(PUSH)[1]
    settings = config(PUSH, push_agent, steps=12_000, control=False)
    run = open_run(settings, tmp_path / "run")
    guidance = Guidance(
        env_id=PUSH, diagnosis="", reward_terms=(Term(variable=speed, below=0.0, weight=-3, cap=2),),
    )  # fmt: skip
    with_guidance(run, guidance)
    train(run)
    scores = evaluate(run).summary
    assert 0 < scores["before"]["deterministic"]["mean"] < 30
    assert scores["arms"]["unstuck"]["deterministic"]["mean"] > 40, "right pays four times as much as left"


def test_same_seed_same_agent_and_another_seed_another(tmp_path, corridor_agent):
    x = variables(CORRIDOR)[0]
    rule = Advice(
        id="r", kind="rule", why="", when=(Condition(variable=x, op="<", value=2),), action=Action(index=1)
    )  # fmt: skip
    weights = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run = open_run(config(CORRIDOR, corridor_agent, steps=1_024, seeds=(seed,), control=False), tmp_path / name)
        with_guidance(run, Guidance(env_id=CORRIDOR, diagnosis="", advice=(rule,)))
        weights.append(load_agent(train(run)["unstuck"][0]).state_dict)
    assert all(np.array_equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert not all(np.array_equal(weights[0][k], weights[2][k]) for k in weights[0])


def test_only_the_critic_learns_at_first(tmp_path, corridor_agent):
    """Ten rollouts: a fifth of the training is two, so the actor is as it was after them and moves in the third."""
    folder = tmp_path / "learner"
    folder.mkdir()
    settings = config(CORRIDOR, corridor_agent, critic_warmup=10**6, n_steps=16)
    space = Workspace(open_run(settings, tmp_path / "run"))
    start, rollouts = load_agent(corridor_agent).state_dict, []

    class Watch(BaseCallback):
        def _on_rollout_start(self):
            rollouts.append({k: v.clone() for k, v in self.model.policy.state_dict().items()})

        def _on_step(self):
            return True

    learner = Learner(space, settings.train, Plan(), None, 0, 640, folder)
    learner.model.learn(640, callback=[*learner.trainer.callbacks(), Watch()])
    assert np.array_equal(rollouts[2]["action_net.weight"], start["action_net.weight"])
    assert not np.array_equal(rollouts[2]["value_net.weight"], start["value_net.weight"])
    assert not np.array_equal(rollouts[3]["action_net.weight"], start["action_net.weight"])


def test_an_interrupted_training_goes_on_where_it_stood(tmp_path, corridor_agent, monkeypatch):
    settings = config(CORRIDOR, corridor_agent, method="ppo", steps=512, seeds=(1, 2))
    run = open_run(settings, tmp_path / "run")
    import unstuck.stages.train as module

    real, calls = module.train_one, []

    def killed_at_the_second(root, job, folder):
        calls.append(job.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(root, job, folder)

    monkeypatch.setattr(module, "train_one", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    assert "train/ppo/1" in Run(run.root).manifest.stages
    finished = Run(run.root).record("train/ppo/1").finished
    again = Run(run.root)
    train(again)
    assert calls == [1, 2, 2]
    assert again.record("train/ppo/1").finished == finished


def test_edited_guidance_is_checked_and_trains_again(tmp_path, corridor_agent):
    run = open_run(config(CORRIDOR, corridor_agent, steps=1_024, control=False), tmp_path / "run")
    rule = Advice(id="r", kind="rule", why="", when=(), action=Action(index=1))
    with_guidance(run, Guidance(env_id=CORRIDOR, diagnosis="", advice=(rule,)))
    train(run)
    first = run.record("train/unstuck/1").fingerprint
    data = json.loads(run.guidance_path.read_text())
    data["advice"][0]["action"]["index"] = 9
    run.guidance_path.write_text(json.dumps(data))
    with pytest.raises(GuidanceError, match="index 9 is out of bounds"):
        train(run)
    data["advice"][0]["action"]["index"] = 0
    run.guidance_path.write_text(json.dumps(data))
    train(run)
    assert run.record("train/unstuck/1").fingerprint != first


def test_a_budget_that_leaves_no_training_is_refused(tmp_path, corridor_agent):
    run = open_run(config(CORRIDOR, corridor_agent, steps=300), tmp_path / "run")
    with_guidance(run, Guidance(env_id=CORRIDOR, diagnosis=""))
    with pytest.raises(RunError, match=r"leaves 60 to train 'unstuck' after 240 for collect"):
        plan_jobs(run)


def test_the_papers_methods_are_not_charged_for_verifying(tmp_path, corridor_agent):
    run = open_run(config(CORRIDOR, corridor_agent, method="ultra-ra"), tmp_path / "run")
    with_guidance(run, Guidance(env_id=CORRIDOR, diagnosis=""))
    assert set(plan_jobs(run)[-1].charged) == {"collect", "explain", "train"}


def test_plain_ppo_needs_no_explanation(tmp_path, corridor_agent):
    run = run_stages(open_run(config(CORRIDOR, corridor_agent, method="ppo", steps=512), tmp_path / "run"))
    assert "explain" not in run.manifest.stages
    assert (run.root / "report.html").exists()


def test_without_a_model_the_search_runs_and_says_so(tmp_path, corridor_agent):
    settings = config(CORRIDOR, corridor_agent, steps=12_000).model_copy(update={"llm": LLMConfig()})
    run = refine(corridor_agent, run=tmp_path / "run", config=settings)
    guidance = load_guidance(run.guidance_path)
    assert guidance.provenance.explainer == "search"
    assert "without a language model" in guidance.diagnosis.lower() or "llm-free" in guidance.diagnosis.lower()
    assert run.record("train/unstuck/1").facts["charged"]["explain"] > 0
