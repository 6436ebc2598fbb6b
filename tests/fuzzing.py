"""Honest files, mutated, and what reads them (`fuzz_readers`).

A reader either reads a file or refuses it with an UnstuckError, soon, whatever the file holds; what it lets through
keeps what it promises (`Reader.read` checks that). Mutations are of JSON values (another type, a hostile value, a key
doubled or gone, nesting, length) and of text and bytes. They follow from a seed alone.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from unstuck.errors import UnstuckError

SLOW = 20.0
"""Seconds of processor time after which a reader hangs."""
HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 1e-320, 1e308, -1e308,
    float("nan"), float("inf"), float("-inf"), "", "x", "nan", "1e999", "../../..", "/etc/passwd", "os:system",
    "\x1b[2J", "\ud800", "\x00", "\u202e", "${HOME}", "$x_{", "<script>", "{{7*7}}", "%s%n", "x" * 5000, "CartPole-v1",
    [], {}, [[]], [None], {"": None}, {"a": 1}, [1, 2, 3], ["a"], [1e308, 1e308], "2020-13-45", "unstuck.testing",
    "http://127.0.0.1:9/v1", "__class__", "-", "a b", "0x10", "１", "advice", "ppo", "before", "train/ppo/1",
]  # fmt: skip
TOKENS = [
    b"\x00", b"\xff", b"\xed\xa0\x80", b"[", b"]", b"{", b"}", b'"', b"'", b",", b":", b"\n", b"\r", b"\\", b"=", b"#",
    b"!!", b"&a ", b"*a", b"- ", b"? ", b"<<: ", b"\t", b"[[", b"]]", b'"""', b"1e999", b"-", b"NaN", b"Infinity",
    b"null", b"9" * 400, b"[" * 3000, b"{'a':" * 300, b"\x1b[2J", b"\\u0000", b"\\ud800", b"\xef\xbb\xbf", b"/*", b"//",
    b"```", b"nan", b"inf", b"0x", b"1_000", b"1979-05-27", b".", b"..", b"PK\x03\x04", b"\x80\x04", b"R", b"o", b"i",
]  # fmt: skip


class Reader(NamedTuple):
    """A kind of file: honest ones, and what reads them."""

    name: str
    honest: tuple[bytes, ...]
    read: Callable[[bytes], Any]
    json: bool = True
    """Whether its values are mutated too, not only its text."""


@dataclass
class Fault:
    """What a reader must not do."""

    reader: str
    number: int
    what: str
    data: bytes


def mutated(honest: bytes, rng: random.Random, values: bool) -> bytes:
    """One to four mutations of an honest file; of JSON mostly of its values."""
    data = honest
    if values and rng.random() < 0.75:
        lines = honest.splitlines() if b"\n{" in honest and not honest.startswith(b"{\n") else [honest]
        i = rng.randrange(len(lines))
        value = json.loads(lines[i])
        for _ in range(1 + int(rng.expovariate(1))):
            value = _value(value, rng)
        lines[i] = _dumped(value, rng)
        data = b"\n".join(lines)
        if rng.random() < 0.8:
            return data
    for _ in range(1 + int(rng.expovariate(0.7))):
        data = _bytes(data, rng)
    return data


def _dumped(value: Any, rng: random.Random) -> bytes:
    ascii_only = rng.random() < 0.5
    try:
        text = json.dumps(value, ensure_ascii=ascii_only)
    except RecursionError:
        text = "[" * 100_000
    if rng.random() < 0.1 and '"' in text:  # a key twice
        at = text.find("{", rng.randrange(len(text)))
        if at >= 0:
            text = text[: at + 1] + json.dumps(rng.choice(["format", "id", "advice", "x"])) + ": 1, " + text[at + 1 :]
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _value(value: Any, rng: random.Random) -> Any:
    """One place in it another one."""
    try:
        value = json.loads(json.dumps(value))
        places = list(_places(value))
    except RecursionError:  # an earlier mutation nested it deep
        return value
    path = rng.choice(places)
    held = _at(value, path)
    new = json.loads(json.dumps(_other(held, rng, value, places)))
    if not path:
        return new
    parent, key = _at(value, path[:-1]), path[-1]
    how = rng.random()
    if how < 0.12:
        del parent[key]
    elif how < 0.2 and isinstance(parent, dict):
        parent[rng.choice([str(h)[:50] for h in HOSTILE])] = parent.pop(key)
    else:
        parent[key] = new
    return value


def _other(held: Any, rng: random.Random, whole: Any, places: list[tuple[Any, ...]]) -> Any:
    how = rng.random()
    if how < 0.5:
        return rng.choice(HOSTILE)
    if how < 0.65:
        return _at(whole, rng.choice(places))
    if how < 0.7:
        for _ in range(rng.choice([1, 5, 80, 400])):
            held = [held] if rng.random() < 0.5 else {"a": held}
        return held
    if isinstance(held, bool) or held is None:
        return not held
    if isinstance(held, (int, float)):
        if not abs(held) < 1e9:
            return 0
        choices = [-held, held + 1, held * 1e300, held / 3, str(held), [held], int(held)]
        return rng.choice(choices)
    if isinstance(held, str):
        at = rng.randrange(len(held) + 1)
        return held[:at] + str(rng.choice(HOSTILE))[:200] + held[at:]
    if isinstance(held, list):
        return rng.choice(
            [held * 2, held[::-1], held[: len(held) // 2], held * (300 // (len(held) + 1)), [*held, None]]
        )
    return dict(list(held.items())[: rng.randrange(len(held) + 1)])


def _bytes(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + 1 + int(rng.expovariate(0.1)))
    how = rng.randrange(6)
    if how == 0:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if how == 1:
        return data[:at] + rng.choice(TOKENS) + data[end if rng.random() < 0.5 else at :]
    if how == 2:
        return data[:at] + data[end:]
    if how == 3:
        return data[:end] + data[at:]
    if how == 4:
        other = rng.randrange(len(data) + 1)
        return data[:at] + data[other : other + 40] + data[at:]
    return data[:at] if rng.random() < 0.3 else data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


def fuzz(readers: list[Reader], cases: int, seed: int, begin: int = 0, each: Callable[[int], None] = lambda n: None):
    """Cases `begin` to `begin + cases`, the readers in turn.

    Yields:
        each Fault.
    """
    for number in range(begin, begin + cases):
        reader = readers[number % len(readers)]
        rng = random.Random(f"{seed} {reader.name} {number}")
        data = mutated(rng.choice(reader.honest), rng, reader.json)
        begun = time.process_time()
        try:
            reader.read(data)
        except UnstuckError:
            pass
        except Exception as error:
            yield Fault(reader.name, number, f"{type(error).__name__}: {error}"[:500], data)
        if time.process_time() - begun > SLOW:
            yield Fault(reader.name, number, f"took {time.process_time() - begun:.0f} s", data)
        each(number)
