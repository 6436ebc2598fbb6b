"""Reading pickles as data: nothing a pickle names is ever imported or called.

A pickle is a program: `GLOBAL` names anything importable and `REDUCE` calls it. Here every name resolves
to a fresh, empty record type that only remembers its arguments and its state, and names outside the
allow-list are refused on sight. Arrays, scalars and spaces are then rebuilt from the records by the
functions below, so even an allow-listed name never runs code that the file chose.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict, deque
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from unstuck.errors import AgentError, UntrustedError

_ALLOWED = re.compile(
    r"""
    (gym|gymnasium)\.spaces(\.\w+)?\.[A-Z]\w*
    | numpy\.(dtype|ndarray|bool_?|float(16|32|64)|u?int(8|16|32|64))
    | numpy\._?core\.(multiarray|numeric)\.(_reconstruct|scalar|_frombuffer)
    | numpy\.random\.(\w+\.)*\w+
    | collections\.(OrderedDict|deque)
    | builtins\.(bytearray|set|frozenset)
    | __builtin__\.bytearray
    | _codecs\.encode
    | torch\.nn\.modules\.(activation|linear)\.[A-Z]\w*
    | torch\.device
    | torch\.optim\.\w+\.[A-Z]\w*
    | stable_baselines3\.common\.sb2_compat\.rmsprop_tf_like\.RMSpropTFLike
    | stable_baselines3\.common\.torch_layers\.(FlattenExtractor|NatureCNN|CombinedExtractor)
    | stable_baselines3\.common\.utils\.(FloatSchedule|ConstantSchedule|LinearSchedule)
    | stable_baselines3\.common\.type_aliases\.(TrainFreq|TrainFrequencyUnit)
    | stable_baselines3\.common\.noise\.(Normal|OrnsteinUhlenbeck|Vectorized)ActionNoise
    | stable_baselines3\.common\.vec_env\.vec_normalize\.VecNormalize
    | stable_baselines3\.common\.running_mean_std\.RunningMeanStd
    | (stable_baselines3|sb3_contrib)\.(\w+\.)+policies\.[A-Z]\w*
    """,
    re.VERBOSE,
)
MOST_OPERATIONS, MOST_TUPLES = 2_000_000, 10_000
_NUMERIC_DTYPE = re.compile(r"[<>|=]?(\?|[biufc]\d{1,2})")


class Record:
    """What a pickle said about one object: its class by name, its arguments, its state, its items."""

    path: ClassVar[str] = ""
    args: tuple[Any, ...]
    state: Any
    items: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Record:
        self = object.__new__(cls)
        self.args, self.state, self.items = args, None, []
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        self.items.append(value)

    def extend(self, values: Any) -> None:
        self.items.extend(values)

    @property
    def fields(self) -> dict[str, Any]:
        """The state as a dict; {} when the object keeps none."""
        state = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return state if isinstance(state, dict) else {}


class _InertUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data))
        self._where = where
        self._types: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        path = f"{module}.{name}"
        if not _ALLOWED.fullmatch(path):
            raise UntrustedError(
                f"{self._where} holds a pickle that names {path!r}, which Unstuck does not read, because "
                "unpickling it can run code from the file. If you trust where the file comes from, "
                "load it with --trust (trust=True in Python)."
            )
        # One type per name and per pickle: a pickle can then only change what is its own.
        return self._types.setdefault(path, type(name.rsplit(".", 1)[-1], (Record,), {"path": path}))

    def persistent_load(self, pid: Any) -> Any:
        raise UntrustedError(f"{self._where} holds a pickle with a persistent id, which Unstuck does not read.")


def read_pickle(data: bytes, where: str) -> Any:
    """The tree of plain values and `Record`s in a pickle; arrays and scalars as numpy's.

    Args:
        where: what is being read, for the messages.

    Raises:
        UntrustedError: the pickle names anything outside the allow-list.
        AgentError: the pickle is damaged.
    """
    try:
        _check_memo(data)
        return _plain(_InertUnpickler(data, where).load(), {})
    except AgentError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = f"{type(error).__name__}: {error}"
        raise AgentError(f"{where} is damaged or no pickle ({reason}); get the file again.") from error


def _check_memo(data: bytes) -> None:
    """Refuse memo indices that no honest pickle reaches: the unpickler would allocate up to them.

    Raises:
        ValueError: an index is larger than the pickle has bytes, or the pickle is truncated.
    """
    tuples = 0
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        tuples += operation.name.startswith("TUPLE")
        # Tuples in tuples are hashed by recursion in C: a million of them ends the process.
        if number > MOST_OPERATIONS or tuples > MOST_TUPLES:
            raise ValueError("more operations than any agent's needs")
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise ValueError("a memo index beyond the pickle's length")


def serialized(where: str, value: Any) -> bytes:
    """The bytes behind SB3's ":serialized:".

    Raises:
        AgentError: they are not base64.
    """
    try:
        return base64.b64decode(value[":serialized:"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise AgentError(f"{where} is damaged: not base64 ({error}).") from error


def run_pickle(content: bytes, where: str) -> Any:
    """Unpickle in full, running whatever the pickle names: only for files the user trusts.

    Raises:
        AgentError: it cannot be unpickled here.
    """
    import cloudpickle

    try:
        return cloudpickle.loads(content)
    except Exception as error:
        raise AgentError(
            f"{where} cannot be unpickled ({type(error).__name__}: {error}). Is the code it needs installed?"
        ) from error


def class_path(value: Any) -> str | None:
    """The dotted name when the value is a class by reference, else None."""
    return value.path if isinstance(value, type) and issubclass(value, Record) else None


def _plain(value: Any, memo: dict[int, Any]) -> Any:
    """Replace records by what they stand for; each object once, since pickles share references."""
    if not isinstance(value, (dict, list, tuple, set, frozenset, Record)):
        return value
    if id(value) not in memo:
        memo[id(value)] = _replace(value, memo)
    return memo[id(value)]


def _replace(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {_plain(k, memo): _plain(v, memo) for k, v in value.items()}
    if not isinstance(value, Record):
        return type(value)(_plain(v, memo) for v in value)
    args = tuple(_plain(v, memo) for v in value.args)
    state = _plain(value.state, memo)
    items = [_plain(v, memo) for v in value.items]
    last = value.path.rsplit(".", 1)[-1]
    if value.path.startswith("numpy.") and ".random." not in value.path:
        return _numpy(last, args, state)
    if last == "OrderedDict":
        return OrderedDict(items or (args[0] if args else []))
    if last == "deque":
        return deque([*(args[0] if args else ()), *items])
    if value.path.startswith(("builtins.", "__builtin__.", "_codecs.")):
        return _builtin(last, args)
    made = type(value)(*args)
    made.state, made.items = state, items
    return made


def _builtin(name: str, args: tuple[Any, ...]) -> Any:
    if name == "encode":  # how protocol 2 writes bytes
        return str(args[0]).encode("latin-1")
    head = args[0] if args else b""
    if name == "bytearray":
        return head.encode("latin-1") if isinstance(head, str) else bytes(head)
    return set(head) if name == "set" else frozenset(head)


def _dtype(value: Any) -> np.dtype:
    if isinstance(value, np.dtype):
        return value
    path = class_path(value)
    code = path.rsplit(".", 1)[-1] if path else str(value)
    if not path and not _NUMERIC_DTYPE.fullmatch(code):
        raise ValueError(f"an array of dtype {code!r}; only numbers are read")
    return np.dtype(code)


def _numpy(name: str, args: tuple[Any, ...], state: Any) -> Any:
    if name == "dtype":
        made = _dtype(args[0])
        swapped = bool(state) and state[1] in ("<", ">")
        return made.newbyteorder(state[1]) if swapped else made
    if name == "scalar":
        return np.frombuffer(args[1], dtype=_dtype(args[0]), count=1)[0]
    if name == "_reconstruct":
        _, shape, dtype, fortran, raw = state
        flat = np.frombuffer(raw, dtype=_dtype(dtype))
        return flat.reshape(shape, order="F" if fortran else "C").copy()
    if name == "_frombuffer":
        raw, dtype, shape, order, *axes = args
        flat = np.frombuffer(raw, dtype=_dtype(dtype))
        if order == "K" and axes and axes[0] is not None:
            return flat.reshape(shape, order="C").transpose(axes[0]).copy()
        return flat.reshape(shape, order=order).copy()
    raise ValueError(f"cannot rebuild numpy.{name}")


def to_space(value: Any) -> spaces.Space | None:
    """A gymnasium space from the record of an old gym's or a gymnasium's; None when it is of another kind."""
    if not isinstance(value, Record) or ".spaces." not in value.path:
        return None
    kind, fields = value.path.rsplit(".", 1)[-1], value.fields
    if kind == "Box":
        # Old gym may store float64 bounds beside a float32 dtype: the dtype is what the agent was given.
        dtype = _dtype(fields["dtype"])
        return spaces.Box(fields["low"].astype(dtype), fields["high"].astype(dtype), dtype=dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(int(fields["n"]), start=int(fields.get("start", 0)))
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.asarray(fields["nvec"]))
    if kind == "MultiBinary":
        n = fields["n"]
        return spaces.MultiBinary(int(n) if np.ndim(n) == 0 else [int(i) for i in n])
    if kind == "Dict":
        parts = {str(k): to_space(v) for k, v in fields["spaces"].items()}
        return None if None in parts.values() else spaces.Dict(parts)  # type: ignore[arg-type]
    return None


def to_number(value: Any) -> float | None:
    """The value of a constant schedule or of a number; None for any other schedule."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if isinstance(value, Record):
        if value.path.endswith(".FloatSchedule"):
            return to_number(value.fields.get("value_schedule"))
        if value.path.endswith(".ConstantSchedule"):
            return to_number(value.fields.get("val"))
    return None
