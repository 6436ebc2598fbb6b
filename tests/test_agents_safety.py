"""Loading runs no code from a file unless the user says so."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from unstuck.agents import Actor, build_policy, load_agent
from unstuck.agents._pickles import read_pickle
from unstuck.errors import AgentError, UntrustedError


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class DoublingExtractor(BaseFeaturesExtractor):
    """An honest custom extractor, importable from this module."""

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, features_dim=observation_space.shape[0])

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return 2 * observations


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("honest") / "agent.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0).save(path)
    return path


def rewrite(source: Path, target: Path, *, entries: dict | None = None, **members: bytes | None) -> Path:
    """Copy a zip with some entries of its JSON replaced, and members replaced or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content: bytes | None = old.read(name)
            if name == "data" and entries is not None:
                content = json.dumps(json.loads(content) | entries).encode()
            key = name.replace(".", "_")
            content = members.get(key, content)
            if content is not None:
                new.writestr(name, content)
    return target


def pickled(value: object, *, kind: str = "<class 'dict'>") -> dict[str, str]:
    return {":type:": kind, ":serialized:": base64.b64encode(pickle.dumps(value)).decode()}


def test_the_trap_works_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("key", ["policy_kwargs", "policy_class"])
def test_trapped_policy_is_refused(honest: Path, tmp_path: Path, key: str) -> None:
    marker = tmp_path / "marker"
    bad = rewrite(honest, tmp_path / "bad.zip", entries={key: pickled({"net_arch": Trap(marker)})})
    with pytest.raises(UntrustedError, match=r"posix\.system.*--trust") as caught:
        load_agent(bad)
    assert key in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "key",
    [
        "observation_space",
        "action_space",
        "lr_schedule",
        "clip_range",
        "learning_rate",
        "ep_info_buffer",
        "_last_obs",
    ],
)
def test_traps_that_are_not_needed_stay_unread(honest: Path, tmp_path: Path, key: str) -> None:
    marker = tmp_path / "marker"
    agent = load_agent(rewrite(honest, tmp_path / "bad.zip", entries={key: pickled([Trap(marker)])}))
    assert not marker.exists()
    policy = build_policy(agent, spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
    assert policy.predict(np.zeros((1, 4), dtype=np.float32))[0].shape == (1,)
    if "space" in key:
        assert getattr(agent, key) is None
        assert any(key in note for note in agent.notes)


def test_trapped_weights_are_refused(honest: Path, tmp_path: Path) -> None:
    marker, buffer = tmp_path / "marker", io.BytesIO()
    torch.save({"w": Trap(marker)}, buffer)
    bad = rewrite(honest, tmp_path / "bad.zip", policy_pth=buffer.getvalue())
    with pytest.raises(UntrustedError, match="--trust"):
        load_agent(bad)
    assert not marker.exists()


def test_trapped_old_style_weights_are_refused(honest: Path, tmp_path: Path) -> None:
    marker, buffer = tmp_path / "marker", io.BytesIO()
    torch.save({"w": Trap(marker)}, buffer, _use_new_zipfile_serialization=False)
    with pytest.raises(UntrustedError):
        load_agent(rewrite(honest, tmp_path / "bad.zip", policy_pth=buffer.getvalue()))
    assert not marker.exists()


def test_trapped_variables_and_optimizer_are_never_opened(honest: Path, tmp_path: Path) -> None:
    marker, buffer = tmp_path / "marker", io.BytesIO()
    torch.save({"w": Trap(marker)}, buffer)
    load_agent(
        rewrite(
            honest,
            tmp_path / "bad.zip",
            pytorch_variables_pth=buffer.getvalue(),
            policy_optimizer_pth=buffer.getvalue(),
        )
    )
    assert not marker.exists()


def test_trapped_statistics_are_refused(honest: Path, tmp_path: Path) -> None:
    marker, stats = tmp_path / "marker", tmp_path / "stats.pkl"
    stats.write_bytes(pickle.dumps({"obs_rms": Trap(marker)}))
    with pytest.raises(UntrustedError, match=r"stats\.pkl.*posix\.system"):
        load_agent(honest, vecnormalize=stats)
    assert not marker.exists()


def test_statistics_with_a_trap_inside_an_honest_object_are_refused(honest: Path, tmp_path: Path) -> None:
    marker, stats = tmp_path / "marker", tmp_path / "stats.pkl"
    vec = VecNormalize(DummyVecEnv([lambda: __import__("gymnasium").make("CartPole-v1")]))
    vec.extra = Trap(marker)
    vec.save(str(stats))
    with pytest.raises(UntrustedError):
        load_agent(honest, vecnormalize=stats)
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(V1+1\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n(Vx\ntR.",
        b"ctorch\nload\n.",
        b"ccloudpickle.cloudpickle\n_make_function\n.",
        b"cstable_baselines3.common.policies\nnp.load\n.",
        b"ccopyreg\n_reconstructor\n.",
        b"cfunctools\npartial\n.",
        b"Vsome id\nP.",
        b"(ios\nsystem\nVtrue\no.",
        b"(Vtrue\nios\nsystem\n.",
    ],
)
def test_names_beyond_the_allow_list_are_refused(program: bytes) -> None:
    with pytest.raises(AgentError):
        read_pickle(program, "a test")


def test_allowed_names_are_not_called_either() -> None:
    record = read_pickle(b"ctorch.nn.modules.activation\nReLU\n(I1\ntR.", "a test")
    assert not isinstance(record, torch.nn.Module)
    assert record.args == (1,)


def test_shared_references_do_not_blow_up() -> None:
    value: list = []
    for _ in range(60):
        value = [value, value]
    assert read_pickle(pickle.dumps(value), "a test")


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.float32(2.5), np.array([True, False]), np.int64(3)])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numbers_are_read_without_numpys_unpickling(array: np.ndarray, protocol: int) -> None:
    read = read_pickle(pickle.dumps(array, protocol=protocol), "a test")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


def test_object_arrays_are_refused() -> None:
    with pytest.raises(AgentError, match="only numbers"):
        read_pickle(pickle.dumps(np.array([None, 1], dtype=object)), "a test")


def test_a_custom_extractor_loads_only_with_trust(tmp_path: Path) -> None:
    path = tmp_path / "custom.zip"
    kwargs = {"features_extractor_class": DoublingExtractor}
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, policy_kwargs=kwargs, seed=0)
    model.save(path)
    with pytest.raises(UntrustedError, match=r"DoublingExtractor.*--trust"):
        load_agent(path)
    agent = load_agent(path, trust=True)
    policy = build_policy(agent, model.observation_space, model.action_space)
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        policy.predict(obs, deterministic=True)[0], model.policy.predict(obs, deterministic=True)[0]
    )


def test_a_class_pickled_with_its_code_is_refused(tmp_path: Path) -> None:
    class Local(BaseFeaturesExtractor):
        def __init__(self, observation_space: spaces.Space) -> None:
            super().__init__(observation_space, features_dim=4)

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return observations

    path = tmp_path / "local.zip"
    kwargs = {"features_extractor_class": Local}
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, policy_kwargs=kwargs).save(path)
    with pytest.raises(UntrustedError, match="cloudpickle"):
        load_agent(path)
    assert load_agent(path, trust=True).policy_kwargs["features_extractor_class"].__name__ == "Local"


# Files that are no such agent


@pytest.mark.parametrize("missing", ["data", "policy_pth"])
def test_a_missing_member_is_named(honest: Path, tmp_path: Path, missing: str) -> None:
    with pytest.raises(AgentError, match=missing.replace("_", ".")):
        load_agent(rewrite(honest, tmp_path / "bad.zip", **{missing: None}))


@pytest.mark.parametrize("kept", [0, 3, 200, 0.5, 0.99])
def test_a_truncated_zip(honest: Path, tmp_path: Path, kept: float) -> None:
    content = honest.read_bytes()
    (tmp_path / "bad.zip").write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(AgentError, match=r"truncated|not a zip"):
        load_agent(tmp_path / "bad.zip")


def test_flipped_bytes_give_a_clear_error_or_a_good_agent(honest: Path, tmp_path: Path) -> None:
    content, rng = honest.read_bytes(), np.random.default_rng(0)
    for position in rng.integers(0, len(content), size=60):
        bad = bytearray(content)
        bad[position] ^= 0xFF
        (tmp_path / "bad.zip").write_bytes(bad)
        try:
            load_agent(tmp_path / "bad.zip")
        except AgentError:
            continue


@pytest.mark.parametrize(
    ("name", "content"),
    [("agent.pkl", pickle.dumps({"a": 1})), ("agent.pt", b"\x80\x02"), ("empty.zip", b"")],
)
def test_another_kind_of_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AgentError, match=r"^\S+ is not a zip file\."):
        load_agent(tmp_path / name)


def test_data_that_is_no_json(honest: Path, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="`data`"):
        load_agent(rewrite(honest, tmp_path / "bad.zip", **{"data": b"{nonsense"}))


def test_nan_weights(honest: Path, tmp_path: Path) -> None:
    state = {k: torch.full_like(v, float("nan")) for k, v in load_agent(honest).state_dict.items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with pytest.raises(AgentError, match="NaN"):
        load_agent(rewrite(honest, tmp_path / "bad.zip", policy_pth=buffer.getvalue()))


def test_a_zip_that_would_unpack_to_too_much(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unstuck.agents._archive.MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(AgentError, match="unpack"):
        load_agent(honest)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("sb3_contrib.common.recurrent.policies", "RecurrentPPO"),
        ("sb3_contrib.common.maskable.policies", "MaskablePPO"),
        ("stable_baselines3.sac.policies", "SAC"),
    ],
)
def test_agents_that_no_algorithm_reads_are_named(honest: Path, tmp_path: Path, module: str, said: str) -> None:
    """The last one has PPO's data with a policy of SAC's: neither reads it."""
    stored = {":type:": "", ":serialized:": base64.b64encode(f"c{module}\nSomePolicy\n.".encode()).decode()}
    with pytest.raises(AgentError, match=said):
        load_agent(rewrite(honest, tmp_path / "other.zip", entries={"policy_class": stored}))


def test_a2c_is_told_from_ppo(honest: Path, tmp_path: Path) -> None:
    A2C("MlpPolicy", "CartPole-v1").save(tmp_path / "a2c.zip")
    assert load_agent(tmp_path / "a2c.zip").algorithm == "A2C"
    assert load_agent(honest).algorithm == "PPO"


# Robustness of reading pickles as data


def test_a_memo_bomb_is_refused() -> None:
    """The unpickler of CPython allocates its memo up to the index that a pickle names."""
    with pytest.raises(AgentError, match="memo"):
        read_pickle(b"Nr\xff\xff\xff\x7f.", "a test")


def test_damaged_pickles_give_clear_errors(honest: Path) -> None:
    stored = json.loads(zipfile.ZipFile(honest).read("data"))["observation_space"]
    content, rng = base64.b64decode(stored[":serialized:"]), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        bad = bytearray(content)
        bad[rng.integers(len(bad))] = rng.integers(256)
        try:
            read_pickle(bytes(bad), "a test")
        except AgentError:
            refused += 1
    assert refused > 100


class ScaledNormalize(VecNormalize):
    """Somebody's own class of statistics."""


def test_statistics_of_a_custom_class_need_trust(honest: Path, tmp_path: Path) -> None:
    class_path, stats = f"{ScaledNormalize.__module__}.ScaledNormalize", tmp_path / "stats.pkl"
    vec = VecNormalize(DummyVecEnv([lambda: __import__("gymnasium").make("CartPole-v1")]))
    vec.extra = ScaledNormalize
    vec.save(str(stats))
    with pytest.raises(UntrustedError, match=class_path):
        load_agent(honest, vecnormalize=stats)
    found = load_agent(honest, vecnormalize=stats, trust=True).normalization
    assert found is not None
    assert np.shape(found.obs_mean) == (4,)


def test_statistics_of_another_kind(honest: Path, tmp_path: Path) -> None:
    stats = tmp_path / "stats.pkl"
    stats.write_bytes(pickle.dumps({"mean": [0.0]}))
    for trust in (False, True):
        with pytest.raises(AgentError, match="no VecNormalize"):
            load_agent(honest, vecnormalize=stats, trust=trust)


class SteadyPolicy(ActorCriticPolicy):
    """A custom policy class, importable from this module."""


def test_a_custom_policy_class_loads_only_with_trust(tmp_path: Path) -> None:
    path = tmp_path / "custom.zip"
    model = PPO(SteadyPolicy, "CartPole-v1", n_steps=8, batch_size=8, seed=0)
    model.save(path)
    with pytest.raises(UntrustedError, match="SteadyPolicy"):
        load_agent(path)
    agent = load_agent(path, trust=True)
    assert agent.policy_class_name.endswith("SteadyPolicy")
    policy = build_policy(agent, model.observation_space, model.action_space)
    assert type(policy) is SteadyPolicy
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    actions = Actor(policy, None, model.action_space).act(obs)
    np.testing.assert_array_equal(actions, model.predict(obs, deterministic=True)[0])


def test_trust_is_no_licence_for_nonsense(honest: Path, tmp_path: Path) -> None:
    bad = rewrite(honest, tmp_path / "bad.zip", entries={"policy_class": pickled(Path)})
    with pytest.raises(AgentError, match="not an ActorCriticPolicy"):
        load_agent(bad, trust=True)
