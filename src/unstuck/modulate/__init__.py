"""How an explanation enters training, each part by the gentlest hook that suffices.

- `plan`: the settings of all parts.
- `attach`: all of a plan that meets the simulator, put around the environments of one training run.
- `venv`: a VecEnv wrapper: matches advice, adds rewards, replaces executed actions.
- `potential`: the same rewards as potentials.
- `restart`: episodes that begin at critical states.
- `jsrl`: episodes that the stuck agent begins.
- `rnd`: a bonus for novel states.
- `ends`: what these share.
- `imitation`: a rollout buffer that remembers suggestions, and a loss term on them.
- `execution`: substitution inside the policy's forward pass, where PPO's log-prob is to be the suggestion's.
"""
