"""A lean SAC: Stable-Baselines3's algorithm, its gradient steps computed in numpy with analytic gradients.

At the sizes of control policies most of the time of a gradient step in torch is not arithmetic. Modules:

- `networks`: several MLPs of one shape as a flat array, to and from torch, with their Adam.
- `update`: one gradient step.
- `fast`: the learner, a Stable-Baselines3 SAC that trains so where its policy allows it.
- `discrete`: SAC for discrete actions, which the library lacks, in torch.
- `fast_discrete`: the same with gradient steps in numpy.
"""
