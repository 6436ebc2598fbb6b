"""Unstuck in somebody's own training script: watches a model learn, and helps when it has stopped improving.

    model = SAC("MlpPolicy", env)
    model.learn(1_000_000, callback=unstuck.UnstuckCallback(llm="openai:gpt-5", run="runs/ant"))

The environments, VecNormalize and the logger that the model was made with stay as they are. What is tried in the
simulator is tried in a copy of the environment, made by its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback

from unstuck.config import GuideConfig, RunConfig
from unstuck.errors import UnstuckError
from unstuck.guide.assembly import Guide
from unstuck.guide.plan import Plan
from unstuck.plateau import Plateau, plateau
from unstuck.suspended import random_numbers, restore_random_numbers

ALGORITHMS = ("PPO", "SAC", "DQN")
CONFIRMED = 0.25
"""Share of the patience for which the test must go on to say so: a single look alarms too often."""
CHECKS = 40
"""Looks at the curve within the patience."""
LEFT_OUT: dict[str, Any] = {"restart": 0.0, "roll_in": "none", "short_episodes": 0, "rnd": 0.0, "rescale": False}
"""Parts that would have to reach into the user's environments."""


class UnstuckCallback(BaseCallback):
    """For `model.learn(callback=...)` of Stable-Baselines3's PPO, SAC and DQN.

    It watches the returns of training episodes and tests for a plateau (`unstuck.plateau`). Then it collects episodes
    of the agent in a copy of the environment, asks for an explanation, verifies it, and goes on with guidance inside
    the same `learn`, until the guidance has faded and is removed. If any of this fails, it says why and training goes
    on as it was.

    Args:
        llm: a language model, as for `unstuck refine --llm`; '' for the search without one.
        run: folder for what it does, a run folder in it for each time.
        env: Gymnasium id of the task; by default that of the first environment.
        env_kwargs: of `gymnasium.make`, for the copy.
        patience: environment steps without improvement after which training counts as plateaued. It is confirmed
            over a quarter of them more.
        budget: environment steps in the copy, at most, for collecting, searching and verifying each time. They are on
            top of `total_timesteps`, and logged as unstuck/env_steps.
        guided: environment steps over which guidance fades to nothing.
        times: how often it may help in one `learn`.
        dry_run: only tell; training is, to the bit, what it is without the callback.
        guide: settings of the parts over the method's own, such as {"imitate": 0.1}.
        config: all other settings, of collecting, explaining, verifying and the language model.
        coach: a pydantic-ai model object to ask instead of making one from `llm`'s name.

    Attributes:
        plateaus: (environment steps, what was found) of each plateau.
        live: the parts on the model while it is guided, else None.
        run_folders: of each time that it helped.

    Raises:
        UnstuckError: when training begins: the algorithm is none of these, or the environment does not say its id.
    """

    def __init__(
        self,
        llm: str = "",
        run: Path | str = "runs/callback",
        *,
        env: str = "",
        env_kwargs: Mapping[str, Any] | None = None,
        patience: int = 200_000,
        budget: int = 20_000,
        guided: int = 100_000,
        times: int = 1,
        dry_run: bool = False,
        guide: Mapping[str, Any] | None = None,
        config: RunConfig | None = None,
        coach: Any = None,
        verbose: int = 1,
    ):
        super().__init__(verbose)
        if min(patience, budget, guided) < 1:
            raise UnstuckError("patience, budget and guided are numbers of environment steps, at least 1")
        self._llm, self._root, self._env, self._env_kwargs = llm, Path(run), env, dict(env_kwargs or {})
        self._patience, self._budget, self._guided, self._left = patience, budget, guided, times
        self._dry_run, self._coach = dry_run, coach
        self._guide_settings, self._config = dict(guide or {}), config or RunConfig()
        self.plateaus: list[tuple[int, Plateau]] = []
        self.run_folders: list[Path] = []
        self._steps: list[int] = []
        self.returns: list[float] = []
        """Of training episodes, in order."""
        self._since: int | None = None
        self._told = self._looked = 0
        self._pending: Guide | None = None
        self._seen: Any = None
        self.live: Any = None
        self._spent = 0
        self._algorithm = ""

    def _init_callback(self) -> None:
        names = [kind.__name__ for kind in type(self.model).__mro__]
        self._algorithm = next((name for name in ALGORITHMS if name in names), "")
        if not self._algorithm:
            raise UnstuckError(f"UnstuckCallback helps {', '.join(ALGORITHMS)}, not {names[0]}")
        if hasattr(self.model, "slow_because"):
            raise UnstuckError(
                "UnstuckCallback helps Stable-Baselines3's own PPO; FastPPO takes guidance before it begins"
            )
        if not self._env:
            try:
                spec = self.training_env.get_attr("spec", 0)[0]
                usual = gym.registry[spec.id].max_episode_steps if spec.id in gym.registry else None
                limit = {} if spec.max_episode_steps == usual else {"max_episode_steps": spec.max_episode_steps}
                self._env, self._env_kwargs = spec.id, {**spec.kwargs, **limit, **self._env_kwargs}
            except Exception as error:
                raise UnstuckError(
                    "the environment does not say its id, so it cannot be copied; name it: "
                    "UnstuckCallback(env='Hopper-v5')"
                ) from error
            # What gymnasium.make adds by itself is no argument of the task.
            self._env_kwargs.pop("render_mode", None)

    def _on_training_start(self) -> None:
        self._looked = self._begun = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.live is not None and self.live.over:
            self.live.detach()
            self.live = None
            self._say("the guidance has faded and is removed")
        if self._pending is not None:
            self._attach(self._pending)
            self._pending = None

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if (episode := info.get("episode")) is not None:
                self._steps.append(self.num_timesteps)
                self.returns.append(float(episode["r"]))
        if self.live is not None:
            self.live.step(self.locals)
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._looked < self._patience / CHECKS:
            return
        self._looked = self.num_timesteps
        self._record()
        if self.live is None and self._pending is None and (found := self._plateaued()) is not None:
            self._since, self._told = None, self.num_timesteps
            self.plateaus.append((self.num_timesteps, found))
            self._say(f"training has plateaued: {found.words()}; {self._signals()}")
            if not self._dry_run and self._left > 0:
                self._left -= 1
                self._pending = self._helped()
                self._seen = deepcopy(getattr(getattr(self.model, "rollout_buffer", None), "observations", None))

    def _on_training_end(self) -> None:
        if self.live is not None:
            self.live.detach()
            self.live = None

    def _plateaued(self) -> Plateau | None:
        """What the test says, once it has been confirmed."""
        if self.num_timesteps - max(self._told, self._begun) < self._patience or self._explores_less():
            return None
        found = plateau(self._steps, self.returns, self._patience)
        if found is None or not found.reached:
            self._since = None
            return None
        if self._since is None:
            self._since = self.num_timesteps
        return found if self.num_timesteps - self._since >= CONFIRMED * self._patience else None

    def _explores_less(self) -> bool:
        """Whether a schedule of exploration is under way, or learning has not begun: then nothing can be said yet."""
        model: Any = self.model
        rate = getattr(model, "exploration_rate", None)
        if rate is not None and rate > model.exploration_final_eps + 1e-6:
            return True
        return self.num_timesteps < getattr(model, "learning_starts", 0)

    def _signals(self) -> str:
        """What the algorithm itself last logged."""
        names = ("entropy_loss", "std", "explained_variance", "ent_coef", "critic_loss", "loss")
        held = {n: self.logger.name_to_value.get(f"train/{n}") for n in names}
        told = ", ".join(f"{n} {v:.3g}" for n, v in held.items() if v is not None)
        return told or "the algorithm has logged nothing yet"

    def _record(self) -> None:
        found = plateau(self._steps, self.returns, self._patience)
        record = self.logger.record
        record("unstuck/plateaus", len(self.plateaus))
        record("unstuck/guided", float(self.live is not None))
        if found is not None:
            record("unstuck/plateau", float(found.reached))
            record("unstuck/p_of_a_rise", found.trend)
        if self._spent:
            record("unstuck/env_steps", self._spent)
        if self.live is not None:
            for name, value in self.live.line().items():
                record(f"unstuck/{name}", value)

    def _say(self, text: str) -> None:
        if self.verbose:
            print(f"Unstuck, step {self.num_timesteps}: {text}")

    # ------------------------------------------------------------------------------------------ helping

    def _helped(self) -> Guide | None:
        """Collect, explain and verify; None, with words, where that fails."""
        numbers = random_numbers()
        try:
            return self._prepared()
        except Exception as error:
            # Whatever goes wrong in a copy of their environment, hours of somebody's training must not end with it.
            what = str(error) if isinstance(error, UnstuckError) else f"{type(error).__name__}: {error}"
            self._say(f"it cannot help: {what} Training goes on as it was.")
            return None
        finally:
            restore_random_numbers(numbers)

    def _prepared(self) -> Guide:
        from unstuck.learner import RunSource
        from unstuck.pipeline import open_run
        from unstuck.stages.collect import collect
        from unstuck.stages.explain import explain
        from unstuck.stages.verify import verify
        from unstuck.workspace import Workspace

        folder = next(f for n in count(1) if not (f := self._root / str(n)).exists())
        agent = self._saved(folder.with_name(f"{folder.name}-agent.zip"))
        run = open_run(self._settings(agent), folder)
        collect(run)
        explain(run, model=self._coach)
        guidance = verify(run)
        self._spent += sum(run.record(stage).env_steps for stage in ("collect", "explain", "verify"))
        self.run_folders.append(folder)
        plan = self._plan(guidance)
        self._say(
            f"{guidance.diagnosis} Advice used: {len(plan.advice(guidance))} of {len(guidance.advice)}, reward terms: "
            f"{len(plan.reward_terms(guidance))}. See {folder}."
        )
        model: Any = self.model
        return Guide(
            RunSource(Workspace(run)), plan, guidance, seed=int(model.seed or 0), total=self._guided,
            gamma=float(model.gamma), n_envs=int(model.n_envs),
        )  # fmt: skip

    def _saved(self, path: Path) -> Path:
        """A copy of the agent as it is now, with its observation statistics."""
        from unstuck.algorithms import algorithm

        algorithm(self._algorithm).save(self.model, path)
        normalizer = self.model.get_vec_normalize_env()
        if normalizer is not None:
            normalizer.save(str(path.with_suffix(".vecnormalize.pkl")))
        return path

    def _settings(self, agent: Path) -> RunConfig:
        config = self._config
        share = max(1, self._budget // 2)
        return config.model_copy(
            update={
                "task": config.task.model_copy(update={"env": self._env, "env_kwargs": self._env_kwargs}),
                "agent": config.agent.model_copy(update={"agent": str(agent)}),
                "collect": config.collect.model_copy(
                    update={"max_steps": max(100, min(config.collect.max_steps, share))}
                ),
                "llm": config.llm.model_copy(update={"model": self._llm}) if self._llm else config.llm,
                "verify": config.verify.model_copy(update={"max_steps": min(config.verify.max_steps, share)}),
                "train": config.train.model_copy(update={"guide": GuideConfig(**self._guide_settings)}),
            }
        )

    def _plan(self, guidance: Any) -> Plan:
        from unstuck.methods import Setting, make_plan

        setting = Setting(hasattr(self.model.action_space, "n"), replays=self._algorithm != "PPO")
        plan = make_plan("unstuck", GuideConfig(**self._guide_settings), guidance, setting).having(**LEFT_OUT)
        return plan.having(imitate=0.0) if setting.replays else plan

    def _attach(self, guide: Guide) -> None:
        from unstuck.guide.live import LiveOffPolicy, LivePPO

        if not any(p.rewards or p.acts or p.imitate > 0 for p in guide.parts):
            self._say("nothing of the guidance can be used. Training goes on as it was")
            return
        try:
            model: Any = self.model
            on_policy = self._algorithm == "PPO"
            self.live = LivePPO(model, guide, self._seen) if on_policy else LiveOffPolicy(model, guide)
            self._say(f"guidance is on, and fades over {self._guided} steps")
        except UnstuckError as error:
            self._say(f"it cannot help: {error}")
