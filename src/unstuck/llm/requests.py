"""What is asked of a language model: a conversation, as plain data, and the key under which its replies are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

KEY_LENGTH = 20
"""Hex digits of a key, 80 bits: it names a few hundred conversations, chance collisions are out of reach."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Of a picture; it becomes part of a path."""


class Message(BaseModel):
    """One turn of a conversation, as plain text, and the pictures that go with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"]
    content: str
    pictures: tuple[Digest, ...] = ()
    """Digests of PNG files, which lie beside the recordings (`pictures.py`)."""

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = dump(self)
        return data if self.pictures else {k: v for k, v in data.items() if k != "pictures"}


@dataclass(frozen=True)
class Request:
    """What is asked: the whole conversation so far, ending with the user's turn."""

    messages: tuple[Message, ...]
    sample: int = 0
    """Distinguishes several replies to the same conversation."""
    follows: str = field(default="", compare=False)
    """Key of the exchange that led to this one; it takes no part in the key."""

    @classmethod
    def of(cls, prompt: str, sample: int = 0, pictures: Sequence[str] = (), follows: str = "") -> Request:
        """A single prompt as a request."""
        return cls((Message(role="user", content=prompt, pictures=tuple(pictures)),), sample, follows)

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON of the conversation and the sample index, 64 hex digits."""
        messages = [[m.role, m.content, *([list(m.pictures)] if m.pictures else [])] for m in self.messages]
        asked = {"messages": messages, "sample": self.sample}
        text = json.dumps(asked, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def key(self) -> str:
        return self.sha256[:KEY_LENGTH]

    @property
    def text(self) -> str:
        """All turns as one text, for estimates."""
        return "\n".join(m.content for m in self.messages)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Digests of those of all turns, in order."""
        return tuple(p for m in self.messages for p in m.pictures)

    @property
    def parent(self) -> str:
        """Key of the exchange that led to this one: the turn before, or what else it follows; '' for the first."""
        return Request(self.messages[:-2], self.sample).key if len(self.messages) > 2 else self.follows

    def then(self, reply: str, answer: str) -> Request:
        """The conversation continued: the model's reply, then the user's next turn."""
        turns = (Message(role="assistant", content=reply), Message(role="user", content=answer))
        return Request((*self.messages, *turns), self.sample, self.key)


def key_for(messages: str | Sequence[Message], sample: int = 0) -> str:
    """The key of a conversation (or of a single prompt): what its recordings are found by."""
    if isinstance(messages, str):
        return Request.of(messages, sample).key
    return Request(tuple(messages), sample).key
