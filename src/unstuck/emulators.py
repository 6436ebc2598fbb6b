"""Saving and restoring the emulator of Atari games (the ALE), whatever is wrapped around it."""

from __future__ import annotations

import hmac
import struct
import zlib
from typing import Any

import gymnasium as gym
import numpy as np

from unstuck.errors import RunError
from unstuck.keys import user_key
from unstuck.simulators import DeepcopySnapshotter, make_ready, pack, packed_attributes, size_of, unpack

_LENGTHS = struct.Struct("<II")
"""At the head of a snapshot: bytes of the emulator's state, and of the rest before it was compressed."""
_SEAL = 32
"""Bytes of the seal at the end."""


class AleSnapshotter:
    """The emulator's own state with its random numbers (`clone_state`), and the numbers and arrays that layers keep in
    attributes (stacked frames, the two frames of which an observation is the maximum, lives, scores, random number
    generators), as bytes.

    The emulator's part is left as it is: most of it are random numbers that hardly ever change, which a file of many
    snapshots compresses to nothing. The rest is compressed here. Nothing checks what the emulator is given, so each
    snapshot is sealed with the user's key, and what somebody else saved is not restored.
    """

    name = "ale"
    storable = True

    def restores(self, state: np.ndarray) -> bool:
        """Whether this user has saved it, on this machine."""
        data, key = np.asarray(state, np.uint8).tobytes(), user_key(make=False)
        return key is not None and hmac.compare_digest(data[-_SEAL:], _seal(data[:-_SEAL], key))

    def save(self, env: gym.Env) -> np.ndarray:
        """(S,) uint8; S differs from state to state.

        Raises:
            TaskError: if an attribute is an integer too large for a float, or a generator is not PCG64.
            RunError: if the user's key can neither be read nor made.
        """
        key = user_key(make=True)
        assert key is not None
        emulator = env.unwrapped.clone_state(include_rng=True).serialize()  # type: ignore[attr-defined]
        numbers: list[float] = []
        arrays: list[bytes] = []
        for layer, name in packed_attributes(env):
            value = vars(layer)[name]
            if isinstance(value, np.ndarray):
                arrays.append(value.tobytes())
            else:
                pack(value, name, numbers)
        around = b"".join([np.array(numbers).tobytes(), *arrays])
        data = _LENGTHS.pack(len(emulator), len(around)) + emulator + zlib.compress(around, 1)
        return np.frombuffer(data + _seal(data, key), np.uint8)

    def restore(self, env: gym.Env, state: np.ndarray) -> None:
        """Raises:
        RunError: if it is damaged, somebody else's, or of another environment, so of another game or other wrappers.
        """
        import ale_py

        if not self.restores(state):
            raise RunError("a snapshot of the emulator is damaged, or was not saved here; collect the episodes again")
        make_ready(env)
        emulator, around = _parted(np.asarray(state, np.uint8).tobytes())
        attributes = packed_attributes(env)
        lengths = [_length(vars(layer)[name]) for layer, name in attributes]
        if len(around) != sum(lengths):
            raise RunError(
                f"the snapshot has {len(around)} bytes beside the emulator's, this environment needs {sum(lengths)}: "
                "it was saved with another environment or other wrappers; collect the episodes again"
            )
        values = [vars(layer)[name] for layer, name in attributes]
        counts = [0 if isinstance(value, np.ndarray) else size_of(value) for value in values]
        numbers, at, i = np.frombuffer(around[: 8 * sum(counts)]).tolist(), 8 * sum(counts), 0
        for (layer, name), length, count in zip(attributes, lengths, counts, strict=True):
            if count:
                unpack(numbers[i : i + count], vars(layer), name)
                i += count
            else:
                like = vars(layer)[name]
                vars(layer)[name] = np.frombuffer(around, like.dtype, like.size, at).reshape(like.shape).copy()
                at += length
        env.unwrapped.restore_state(ale_py.ALEState(emulator))  # type: ignore[attr-defined]


def _length(value: Any) -> int:
    """Bytes that an attribute packs into."""
    return value.nbytes if isinstance(value, np.ndarray) else 8 * size_of(value)


def _seal(data: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"unstuck emulator" + data, "sha256")


def _parted(state: bytes) -> tuple[bytes, bytes]:
    """The emulator's state and what is around it, of a snapshot."""
    first, second = _LENGTHS.unpack_from(state)
    end = _LENGTHS.size + first
    return state[_LENGTHS.size : end], zlib.decompressobj().decompress(state[end:-_SEAL], second + 1)


class AleCopySnapshotter:
    """The emulator's own state with its random numbers (`clone_state`), and copies of what the wrappers keep. For
    wrappers that keep more than numbers and arrays, such as a list of frames."""

    name = "ale"
    storable = False

    def __init__(self) -> None:
        self._around = _AroundAle()

    def save(self, env: gym.Env) -> Any:
        return env.unwrapped.clone_state(include_rng=True), self._around.save(env)  # type: ignore[attr-defined]

    def restore(self, env: gym.Env, state: Any) -> None:
        emulator, around = state
        self._around.restore(env, around)
        env.unwrapped.restore_state(emulator)  # type: ignore[attr-defined]


class _AroundAle(DeepcopySnapshotter):
    def _moving(self, layer: gym.Env) -> dict[str, Any]:
        return {k: v for k, v in super()._moving(layer).items() if k != "ale"}
