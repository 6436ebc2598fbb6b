"""How guidance enters training, each part by the gentlest hook that suffices.

- `plan`: which parts a method uses.
- `venv`: a VecEnv wrapper: matches advice, adds rewards, replaces executed actions.
- `imitation`: a rollout buffer that remembers suggestions, and a loss term on them.
- `execution`: substitution inside the policy's forward pass, where PPO's log-prob is to be the suggestion's.
"""
