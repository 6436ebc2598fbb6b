"""Guidance means the same in the fast PPO as with the hooks on Stable-Baselines3's."""

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from guide_cases import names, wrapped
from unstuck.guidance import Action, Advice, Condition, Guidance, Term
from unstuck.guide.on_policy import Attached
from unstuck.guide.parts.imitation import pulls
from unstuck.guide.plan import Plan
from unstuck.ppo.fast import FastPPO
from unstuck.testing import CORRIDOR, PUSH

PLANS = {
    "imitation": Plan(imitate=0.4),
    "executed, its own log-prob": Plan(execute=True, log_prob="suggestion"),
    "executed, the policy's log-prob": Plan(execute=True, log_prob="mixed"),
    "executed, the policy's own action stored": Plan(execute=True, log_prob="own"),
    "both": Plan(execute=True, imitate=0.2),
    "with rewards": Plan(imitate=0.4, terms=True),
    "balanced": Plan(imitate=0.4, imitate_balance=True),
}


def guidance(env_id, delta):
    x = names(env_id)[0]
    action = Action(index=1) if env_id == CORRIDOR else Action(values=(0.4,), delta=delta)
    near = Advice(
        id="near", kind="rule", why="", when=(Condition(variable=x, op="<", value=0.08),), hold=2, action=action
    )
    return Guidance(env_id=env_id, diagnosis="", advice=(near,), reward_terms=(Term(variable=x, weight=1, cap=1),))


def guided(kind, env_id, plan, delta=False, **kwargs):
    guide, venv = wrapped(env_id, plan, n=3, total=2000, limit=40, guidance=guidance(env_id, delta), seeded=False)
    model = kind(
        "MlpPolicy", venv, n_steps=32, batch_size=20, n_epochs=2, seed=4, device="cpu", learning_rate=1e-3, **kwargs
    )
    with torch.no_grad():
        model.policy.action_net.weight *= 30
    imitation = Attached(model, guide).imitation
    model.set_random_seed(4)
    model.learn(96 * 4)
    return model, guide, imitation


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(("env_id", "delta"), [(CORRIDOR, False), (PUSH, False), (PUSH, True)])
def test_both_engines_learn_the_same_under_guidance(name, env_id, delta):
    theirs, their_guide, their_imitation = guided(PPO, env_id, PLANS[name], delta)
    ours, our_guide, our_imitation = guided(FastPPO, env_id, PLANS[name], delta)
    assert ours.slow_because is None, "nothing is hooked to the policy"
    for (key, a), b in zip(ours.policy.state_dict().items(), theirs.policy.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=5e-5, rtol=1e-4, err_msg=key)
    for field in ("actions", "log_probs", "rewards", "advantages"):
        a, b = getattr(ours.rollout_buffer, field), getattr(theirs.rollout_buffer, field)
        np.testing.assert_allclose(a, b, atol=1e-3, err_msg=field)
    told = our_guide.line()
    assert told == pytest.approx(their_guide.line())
    assert 0.05 < told["hit_rate"] < 0.95, "advice applies in some states"
    if our_imitation is not None:
        loss = our_imitation.take_loss()
        assert loss == pytest.approx(their_imitation.take_loss(), rel=1e-3)
        assert our_imitation.take_loss() is None, "taken"


def test_rare_suggestions_pull_as_hard_as_frequent_ones():
    advised = np.array([True] * 8 + [False, True, True])
    suggested = np.array([0] * 8 + [5, 2, 2])
    plain, balanced = pulls(advised, suggested, False), pulls(advised, suggested, True)
    np.testing.assert_array_equal(plain, advised)
    assert balanced[8] == 0
    assert balanced[:8].sum() == pytest.approx(balanced[9:].sum()) == pytest.approx(5)
    capped = pulls(np.ones(1000, bool), np.arange(1000) // 999, True)
    assert capped[-1] / capped[0] == pytest.approx(20, rel=0.01), "ten times the mean, where half of it would be 500"


def test_imitation_changes_what_is_learnt():
    plain, *_ = guided(FastPPO, CORRIDOR, Plan(terms=True))
    imitating, *_ = guided(FastPPO, CORRIDOR, Plan(terms=True, imitate=1.0))
    at_wall = torch.zeros(1, 1)
    with torch.no_grad():
        rights = [m.policy.get_distribution(at_wall).distribution.probs[0, 1] for m in (plain, imitating)]
    assert rights[1] > rights[0] + 0.02


def test_a_policy_that_sb3_computes_is_guided_by_hooks():
    model, _, imitation = guided(FastPPO, PUSH, PLANS["both"], clip_range_vf=0.2)
    assert model.slow_because is not None
    assert model.target is None
    assert imitation.take_loss() > 0


def test_guidance_that_would_be_passed_by_is_an_error():
    guide, venv = wrapped(PUSH, PLANS["both"], guidance=guidance(PUSH, False))
    model = FastPPO("MlpPolicy", venv, n_steps=8, batch_size=8, device="cpu")
    Attached(model, guide)
    model.use_sde = True
    with pytest.raises(RuntimeError, match="gSDE"):
        model.learn(8)
