"""A training that was suspended, as a file: what another process needs to go on with it.

The file holds tensors, arrays and plain values only, and is read without running code from it. The environments are
not in it: episodes begin anew where a training goes on, from seeds of their own.
"""

from __future__ import annotations

import io
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstuck.agents._limits import check_tensors
from unstuck.errors import RunError
from unstuck.files import check_arrays, write_whole

FORMAT = 2


@dataclass(frozen=True)
class Suspended:
    """What is kept of a training besides its environments."""

    algorithm: str
    """Name of the algorithm that trains, as in an agent's file."""
    begun: int
    """At how many steps of the whole this training began, with a fresh optimiser."""
    total: int
    """Environment steps of the whole, by which everything that fades or warms up goes."""
    trainer: dict[str, Any]
    """What `Trainer.state` gave."""

    @property
    def steps(self) -> int:
        """Environment steps trained so far, those of earlier segments included."""
        return int(self.trainer["steps"])

    def save(self, path: Path) -> Path:
        """Write it whole or not at all.

        Raises:
            RunError: the folder cannot be written to.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **_tensors(asdict(self))}, buffer)
        try:
            write_whole(path, buffer.getvalue())
        except OSError as error:
            raise RunError(f"cannot write {path}: {error}; choose another folder") from error
        return path

    @classmethod
    def load(cls, path: Path) -> Suspended:
        """Raises:
        RunError: there is no such file, it is damaged, or of another version.
        """
        try:
            check_arrays(path, path.stat().st_size)  # nothing in it is compressed
            data = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
                raise ValueError("it is of another version of Unstuck")
            return cls(**_arrays(data))
        except FileNotFoundError as error:
            raise RunError(f"there is no suspended training at {path}; begin it anew") from error
        except Exception as error:  # torch.load raises many kinds
            raise RunError(f"the suspended training {path} cannot be read ({error}); begin it anew") from error


def _tensors(value: Any) -> Any:
    """numpy arrays as tensors under a key that tells them from torch's own."""
    if isinstance(value, np.ndarray):
        return {"__array__": torch.as_tensor(value.copy()), "__dtype__": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {k: _tensors(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_tensors(v) for v in value)
    return value


def _arrays(value: Any) -> Any:
    """The reverse.

    Raises:
        AgentError, ValueError: a tensor or its type is none that `_tensors` gave, or larger than what the file holds.
    """
    if isinstance(value, torch.Tensor):
        check_tensors("it", {"": value})
    if isinstance(value, dict):
        if "__array__" in value:
            kind = np.dtype(str(value["__dtype__"]))
            if kind.kind not in "biuf":
                raise ValueError(f"it holds an array of {kind}")
            return _arrays(value["__array__"]).numpy().astype(kind)
        return {k: _arrays(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays(v) for v in value)
    return value


def random_numbers() -> dict[str, Any]:
    """The state of the global random numbers of Python, numpy and torch."""
    version, held, gauss = random.getstate()
    _, keys, pos, has, cached = np.random.get_state()  # type: ignore[misc]
    return {
        "python": [version, list(held), gauss],
        "numpy": [np.asarray(keys, dtype=np.int64), int(pos), int(has), float(cached)],
        "torch": torch.get_rng_state(),
    }


def restore_random_numbers(state: dict[str, Any]) -> None:
    """Put the global random numbers back to what `random_numbers` gave."""
    version, held, gauss = state["python"]
    random.setstate((version, tuple(held), gauss))
    keys, pos, has, cached = state["numpy"]
    np.random.set_state(("MT19937", np.asarray(keys).astype(np.uint32), pos, has, cached))
    torch.set_rng_state(state["torch"])
