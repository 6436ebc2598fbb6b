"""Prompts that are the same but for rounding: another machine's arithmetic may print one number in a thousand with
another last digit, and a recorded reply answers such a prompt as well as its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

from unstuck.llm.requests import Message

MOST = 0.01
"""Share of the numbers in a text that may differ."""
BY = 0.05
"""How far such a number may be off, as a share of itself."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def differing(a: str, b: str) -> int | None:
    """How many numbers differ between two texts that are otherwise the same, by no more than rounding may do; None
    where the texts are not the same. Numbers without a point, such as indices and counts, must be equal.
    """
    if a == b:
        return 0
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return None
    pairs = list(zip_longest(_NUMBER.findall(a), _NUMBER.findall(b)))
    others = [(x, y) for x, y in pairs if x != y]
    if len(others) > MOST * len(pairs) or not all(_near(x, y) for x, y in others):
        return None
    return len(others)


def _near(a: str, b: str) -> bool:
    if "." not in a or "." not in b:
        return False
    last = 10.0 ** -min(len(a.partition(".")[2].partition("e")[0]), len(b.partition(".")[2].partition("e")[0]))
    x, y = float(a), float(b)
    # One unit of the last digit that is shown, or a few hundredths of the number: 0.0213 may be 0.022 elsewhere.
    return abs(x - y) <= max(BY * max(abs(x), abs(y)), 1.001 * last if "e" not in a + b else 0.0)


def same_but_for_rounding(a: Sequence[Message], b: Sequence[Message]) -> int | None:
    """As `differing`, for whole conversations."""
    # Pictures are drawn a little differently elsewhere, too; what they show is said in the text.
    if [(m.role, len(m.pictures)) for m in a] != [(m.role, len(m.pictures)) for m in b]:
        return None
    counts = [differing(x.content, y.content) for x, y in zip(a, b, strict=True)]
    return None if None in counts else sum(c for c in counts if c is not None)
