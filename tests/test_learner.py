"""One training in several segments, of any agent: what is kept between them, and what goes by the whole."""

import json
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C

from grid_cases import collected
from unstuck.agents import load_agent
from unstuck.errors import RunError
from unstuck.guidance import Action, Advice, Guidance, Term
from unstuck.guide.plan import Plan
from unstuck.learner import Learner
from unstuck.suspended import Suspended, random_numbers, restore_random_numbers
from unstuck.tasks import describer_for
from unstuck.testing import CORRIDOR, save_stuck_agent
from unstuck.workspace import Workspace

TOTAL = 128 * 8
X = describer_for(CORRIDOR).card.variable_names[0]
GUIDANCE = Guidance(
    env_id=CORRIDOR,
    diagnosis="",
    advice=(Advice(id="r", kind="rule", why="", when=(), action=Action(index=1)),),
    reward_terms=(Term(variable=X, above=-1.0, weight=1, cap=1),),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner")
    return collected(folder / "run", CORRIDOR, save_stuck_agent(folder / "agent.zip", CORRIDOR))


def learner(run, folder, plan=None, guidance=None, **more):
    folder.mkdir(exist_ok=True)
    settings = run.config.train.model_copy(update={"critic_warmup": 10**6, "late_checkpoints": 3, "late_share": 0.5})
    return Learner(Workspace(run), settings, plan or Plan(), guidance, 3, TOTAL, folder, **more)


def curve(folder):
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def test_any_agent_of_the_task_can_be_trained(run, tmp_path):
    other = load_agent(save_stuck_agent(tmp_path / "other.zip", CORRIDOR, seed=5, bias=-1.0))
    one = learner(run, tmp_path / "one", agent=other)
    for name, weights in other.state_dict.items():
        torch.testing.assert_close(one.model.policy.state_dict()[name], weights)


def test_segments_go_on_where_the_one_before_stood(run, tmp_path):
    plan = Plan(terms=True, imitate=0.3, rnd=0.1)
    first = learner(run, tmp_path / "a", plan, GUIDANCE, stop=TOTAL // 2)
    outcome = first.learn(100)
    assert outcome["trained"] == TOTAL // 2
    assert outcome["checkpoints"][:-1] == [], "late checkpoints lie in the second half"
    state = first.suspend(tmp_path / "state.pt")
    numbers = random_numbers()
    np.random.seed(0)
    second = learner(run, tmp_path / "b", plan, GUIDANCE, resume=state)
    assert (second.start, second.stop) == (TOTAL // 2, TOTAL)
    assert str(random_numbers()) == str(numbers)
    weights = first.model.policy.state_dict()
    for name, value in second.model.policy.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
    adam, held = (m.model.policy.optimizer.state_dict() for m in (second, first))
    torch.testing.assert_close(adam["state"], held["state"], rtol=0, atol=0)
    assert str(second.guide.state()) == str(first.guide.state())
    assert second.guide.sense.now == TOTAL // 2, "rewards fade by the whole"
    result = second.learn(100)
    assert result["trained"] == TOTAL
    assert [steps for steps, _ in result["checkpoints"]] == [6 * 128, 7 * 128, TOTAL]
    lines = curve(tmp_path / "a") + curve(tmp_path / "b")
    assert [line["trained"] for line in lines] == [128 * (i + 1) for i in range(8)]
    assert [line["steps"] for line in lines] == [100 + line["trained"] for line in lines]
    assert second.guide.sense.now == TOTAL


def test_the_warm_up_is_not_repeated_and_schedules_go_by_the_whole(run, tmp_path):
    first = learner(run, tmp_path / "a", stop=256)
    first.learn(0)
    state = first.suspend(tmp_path / "state.pt")
    second = learner(run, tmp_path / "b", resume=state, stop=384)
    before = second.model.policy.action_net.weight.detach().clone()
    second.learn(0)
    assert not torch.equal(second.model.policy.action_net.weight, before), "a fifth of the whole was one rollout"
    assert second.model._current_progress_remaining == pytest.approx(1 - 384 / TOTAL)
    fresh = learner(run, tmp_path / "c", start=256, stop=384)
    before = fresh.model.policy.action_net.weight.detach().clone()
    fresh.learn(0)
    assert torch.equal(fresh.model.policy.action_net.weight, before), "a fresh optimiser warms up where it begins"


def test_the_same_state_gives_the_same_weights(run, tmp_path):
    first = learner(run, tmp_path / "a", stop=256)
    first.learn(0)
    state, found = first.suspend(tmp_path / "state.pt"), []
    for name in ("b", "c"):
        one = learner(run, tmp_path / name, resume=state, stop=512)
        one.learn(0)
        found.append(one.model.policy.state_dict())
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def test_an_agent_that_goes_on_as_ppo_can_go_on_twice(tmp_path):
    """What trains an A2C agent is PPO, and so is what it leaves."""
    agent = tmp_path / "a2c.zip"
    A2C("MlpPolicy", gym.make(CORRIDOR), device="cpu", seed=0).save(agent)
    run = collected(tmp_path / "run", CORRIDOR, agent)
    first = learner(run, tmp_path / "a", stop=TOTAL // 2)
    first.learn(0)
    left = load_agent(tmp_path / "a" / "agent.zip")
    second = learner(run, tmp_path / "b", agent=left, resume=first.suspend(tmp_path / "state.pt"))
    assert second.learn(0)["trained"] == TOTAL


def test_a_state_that_does_not_fit_is_an_error_with_what_to_do(run, tmp_path):
    with pytest.raises(RunError, match="begin it anew"):
        learner(run, tmp_path / "a", resume=tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"no state")
    with pytest.raises(RunError, match="begin it anew"):
        learner(run, tmp_path / "a", resume=tmp_path / "bad.pt")
    one = learner(run, tmp_path / "a", stop=128)
    one.learn(0)
    state = one.suspend(tmp_path / "state.pt")
    with pytest.raises(RunError, match="another agent or plan"):
        learner(run, tmp_path / "b", Plan(terms=True), GUIDANCE, resume=state)
    shorter = Suspended(**{**vars(Suspended.load(state)), "total": 7}).save(tmp_path / "other.pt")
    with pytest.raises(RunError, match="over 7 steps"):
        learner(run, tmp_path / "b", resume=shorter)


@pytest.mark.parametrize(
    "held",
    [
        {"__array__": torch.zeros(1).expand(10**12), "__dtype__": "float32"},
        {"__array__": torch.zeros(4), "__dtype__": "S1000000000"},
        {"__array__": torch.zeros(4), "__dtype__": "O"},
        {"__array__": torch.zeros(4), "__dtype__": "no type"},
        {"__array__": torch.zeros(4).to_sparse(), "__dtype__": "float32"},
        {"__array__": 3, "__dtype__": "float32"},
        torch.empty(4, device="meta"),
        [torch.zeros(1).expand(10**12)],
        torch.zeros(1).to(torch.float8_e5m2),
    ],
    ids=str,
)
def test_a_state_that_would_eat_the_machine_is_refused(tmp_path, held):
    path = tmp_path / "state.pt"
    state = {"format": 2, "algorithm": "PPO", "begun": 0, "total": 5, "trainer": {"steps": 1, "held": held}}
    torch.save(state, path)
    with pytest.raises(RunError, match="begin it anew"):
        Suspended.load(path)
    torch.save({**state, "trainer": {"steps": 1}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{next(iter(members)).partition('/')[0]}/data/0", bytes(10**7))
    with pytest.raises(RunError, match="would unpack to"):
        Suspended.load(path)


def test_random_numbers_go_on(tmp_path):
    torch.manual_seed(1)
    state, expected = random_numbers(), (np.random.rand(), torch.rand(3))
    restore_random_numbers(state)
    assert np.random.rand() == expected[0]
    assert torch.equal(torch.rand(3), expected[1])


def test_a_late_checkpoint_at_the_very_end_is_the_agent_itself(run, tmp_path):
    settings = run.config.train.model_copy(update={"critic_warmup": 10**6, "late_checkpoints": 4, "late_share": 0.02})
    folder = tmp_path / "end"
    folder.mkdir()
    result = Learner(Workspace(run), settings, Plan(), None, 3, TOTAL, folder).learn(0)
    assert result["checkpoints"] == [[TOTAL, "agent.zip"]]
    assert [path.name for path in folder.glob("*.zip")] == ["agent.zip"]
