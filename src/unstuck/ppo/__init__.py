"""A lean PPO: Stable-Baselines3's algorithm, its rollout and update computed in numpy with analytic gradients.

- `fast`: `FastPPO`, a Stable-Baselines3 PPO with its own rollout and update where the policy allows it.
- `support`: which policies allow it, and where their layers are.
- `mlp`: forward and backward pass of one or several MLPs.
- `networks`: actor and critic as one flat vector, to and from torch.
- `heads`: log-probabilities, samples and gradients of the two action distributions.
- `update`: one pass over a rollout in minibatches: PPO's loss, its gradient, the statistics that PPO logs.
- `adam`: Adam on the flat vector, and its state in torch's form.
- `returns`: generalised advantage estimates.
- `normalize`: VecNormalize with statistics that do not change.
- `hooks`: how guidance takes part: actions substituted in rollouts, a loss on suggestions in the update.
"""
