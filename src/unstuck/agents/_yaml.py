"""Reading what RL Baselines3 Zoo writes (args.yml, config.yml) as plain values.

Its files are PyYAML's block style with Python tags (`!!python/object/apply:collections.OrderedDict`), which a safe YAML
loader refuses and an unsafe one would run. Here tags are skipped, and only lists, mappings and scalars are read: what
the Zoo writes, not all of YAML.
"""

from __future__ import annotations

import re
from typing import Any

from unstuck.errors import AgentError

_KEY = re.compile(r"([A-Za-z_][\w./-]*):(?:[ \t]+(.*))?$")
_TAG = re.compile(r"!![\w./:]+[ \t]*")
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}
_DEEPEST = 32


def read_pairs(text: str) -> dict[str, Any]:
    """The mapping in such a file, be it written as a mapping or as a list of pairs.

    Raises:
        AgentError: if the text is of another form.
    """
    lines = [_Line(len(raw) - len(raw.lstrip(" ")), raw.strip()) for raw in text.splitlines()]
    reader = _Reader([line for line in lines if line.text and line.text[0] != "#" and line.text != "---"])
    value = reader.block(0, 0)
    if reader.at < len(reader.lines):
        raise AgentError(f"a line that is not understood: {reader.lines[reader.at].text[:80]!r}")
    # An OrderedDict is its constructor's arguments: a list of one list of pairs.
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value):
        value = {str(key): item for key, item in value}
    if not isinstance(value, dict):
        raise AgentError(f"a mapping was expected, not {type(value).__name__}")
    return value


class _Line:
    def __init__(self, indent: int, text: str) -> None:
        self.indent, self.text = indent, text


class _Reader:
    """Goes through the lines once, one block at a time."""

    def __init__(self, lines: list[_Line]) -> None:
        self.lines, self.at = lines, 0

    def block(self, indent: int, depth: int) -> Any:
        """The value that begins at the current line, whose lines are indented at least so far."""
        if depth > _DEEPEST:
            raise AgentError("nested too deep")
        self._skip_tag()
        if self.at >= len(self.lines) or self.lines[self.at].indent < indent:
            return None
        line = self.lines[self.at]
        if _is_item(line.text):
            return self._sequence(line.indent, depth)
        if _KEY.match(line.text):
            return self._mapping(line.indent, depth)
        return self._scalar(line.indent)

    def _skip_tag(self) -> None:
        if self.at < len(self.lines) and (tag := _TAG.match(self.lines[self.at].text)):
            line = self.lines[self.at]
            line.text = line.text[tag.end() :]
            self.at += not line.text

    def _sequence(self, indent: int, depth: int) -> list[Any]:
        items = []
        while self.at < len(self.lines) and self.lines[self.at].indent == indent and _is_item(self.lines[self.at].text):
            line = self.lines[self.at]
            # `- x` is the block `x`, two columns further in; `-` alone is followed by its block.
            line.indent, line.text = indent + 2, line.text[1:].lstrip()
            self.at += not line.text
            items.append(self.block(indent + 1, depth + 1))
        return items

    def _mapping(self, indent: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.at < len(self.lines) and self.lines[self.at].indent == indent:
            match = _KEY.match(self.lines[self.at].text)
            if match is None:
                break
            rest = _TAG.sub("", match[2] or "", count=1)
            if rest:
                line = self.lines[self.at]
                line.text, line.indent = rest, indent + 1
                found[match[1]] = self._scalar(indent + 1)
                continue
            self.at += 1
            # A list that belongs to a key may stand in the key's own column.
            same = self.at < len(self.lines) and _is_item(self.lines[self.at].text)
            found[match[1]] = self.block(indent if same else indent + 1, depth + 1)
        return found

    def _scalar(self, indent: int) -> Any:
        parts = [self.lines[self.at].text]
        self.at += 1
        # A long text goes on in lines that are indented further than what it belongs to.
        while (
            self.at < len(self.lines) and self.lines[self.at].indent >= indent and _goes_on(parts, self.lines[self.at])
        ):
            parts.append(self.lines[self.at].text)
            self.at += 1
        return _value(" ".join(parts))


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _goes_on(parts: list[str], line: _Line) -> bool:
    text = " ".join(parts)
    if text[0] in "'\"":
        return len(text) == 1 or text[-1] != text[0]
    return not _is_item(line.text) and not _KEY.match(line.text)


def _value(text: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1].replace('\\"', '"')
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        inside = text[1:-1].strip()
        return [_value(part.strip()) for part in inside.split(",")] if inside else []
    if text == "{}":
        return {}
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
