"""Recordings: every exchange with a language model, one JSON file each, addressed by what was asked.

The key is a hash of the conversation and the sample index, and of nothing else: neither the model nor its
settings take part. So a reply that was made with any model, or relayed by hand, answers `--llm recorded`. Which of
several replies to the same conversation counts is decided when it is looked up:

* with a live model configured, only a reply of exactly that model string counts, or a user who changes the model
  would be shown the old model's words as the new one's;
* in recorded mode any reply counts: the first folder that has one, and in it the oldest. Where no folder has one, a
  reply to a prompt that differs by no more than rounding (`near.py`) stands in.

Settings are recorded, but do not count: to ask afresh, use another sample index.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from unstuck.errors import LLMError
from unstuck.files import write_whole
from unstuck.llm.addresses import same_place, source_of
from unstuck.llm.near import same_but_for_rounding
from unstuck.llm.pictures import read_picture, save_picture
from unstuck.llm.requests import KEY_LENGTH, Message, Request

FORMAT = 1
LIVE = "api"
"""Provenance of a reply that this machine asked for, and whose cost therefore counts against the budget."""


class Recording(BaseModel):
    """One exchange: what was asked and the reply, word for word, before anybody parsed it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT
    key: str
    prompt_sha256: str
    messages: tuple[Message, ...] = Field(min_length=1)
    sample: int = Field(default=0, ge=0)
    reply: str
    model: str
    """The configured model string, such as `openai:gpt-4o`, or in words who replied."""
    replied_by: str = ""
    """The model's own name for itself, where the service gave one."""
    settings: dict[str, Any] = {}
    tokens_in: int | None = Field(default=None, ge=0)
    tokens_out: int | None = Field(default=None, ge=0)
    cost_usd: float | None = Field(default=None, ge=0)
    """None where the price or the number of tokens is not known."""
    latency_s: float | None = Field(default=None, ge=0)
    finish_reason: str | None = None
    """`length` where the reply was cut off; `refusal`, `content_filter` or `tool_call` where it is no answer."""
    call: str = ""
    """The ledger's number of the call that brought it; '' for replies that came otherwise."""
    notes: tuple[str, ...] = ()
    """What was not as it should have been, in words: settings that the provider does not take, a body that the client
    library could not read."""
    follows: str = ""
    """Key of the exchange that led to this one: in a later round, of the round before. '' for the first."""
    created: str
    """ISO 8601 date, or date and time."""
    provenance: str
    """`api`: asked for by this program. Otherwise how the reply got here, in words."""

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = dump(self)
        return data if self.follows else {k: v for k, v in data.items() if k != "follows"}

    @property
    def request(self) -> Request:
        return Request(self.messages, self.sample, self.follows)

    @property
    def is_live(self) -> bool:
        return self.provenance == LIVE

    @property
    def file_name(self) -> str:
        """One for each question and source."""
        source = source_of(self.model, self.settings.get("base_url"))
        return f"{self.key}-{hashlib.sha256(source.encode()).hexdigest()[:8]}.json"


def record(request: Request, reply: str, *, model: str, provenance: str, created: str, **more: Any) -> Recording:
    """A recording of a reply to a request; `more` are further fields of `Recording`."""
    return Recording(
        key=request.key, prompt_sha256=request.sha256, messages=request.messages, sample=request.sample,
        reply=reply, model=model, provenance=provenance, created=created, follows=request.follows, **more,
    )  # fmt: skip


class Recordings:
    """Folders of recordings. The first is written to; further ones, such as those that come with the package,
    are only read.

    Beside the recordings lies `pending/`: conversations that were asked for and have no reply yet, one file each,
    so that they can be exported, and a reply that comes back later finds its conversation by its key.
    """

    def __init__(self, folders: Path | str | Iterable[Path | str]) -> None:
        several = [folders] if isinstance(folders, str | Path) else list(folders)
        if not several:
            raise LLMError("recordings need at least one folder to be written to")
        self.folders = tuple(Path(f) for f in several)

    @property
    def folder(self) -> Path:
        """The one that is written to."""
        return self.folders[0]

    def find(
        self, request: Request, model: str | None = None, base_url: str | None = None, limit: int | None = None
    ) -> Recording | None:
        """The recorded reply to this request.

        Args:
            model: only one of exactly that model string.
            base_url: with `model`, only one of that server, where the recording says of which it is.
            limit: longest reply that would be asked for now; a reply that was cut off at a shorter one does not count.

        Raises:
            LLMError: if a recording of this request is damaged, or of a newer format; names the file.
        """

        def counts(r: Recording) -> bool:
            if model is None:
                return True
            of_place = not r.is_live or same_place(r.settings.get("base_url"), base_url)
            asked = r.settings.get("max_tokens")
            cut = r.finish_reason == "length" and limit is not None and isinstance(asked, int) and asked < limit
            return r.model == model and of_place and not cut

        for folder in self.folders:
            found = [r for r in _read_all(folder, f"{request.key}-*.json") if counts(r)]
            if found:
                return min(found, key=lambda r: (r.created, r.file_name))
        return self._near(request) if model is None else None

    def _near(self, request: Request) -> Recording | None:
        """A reply to the same conversation as another machine would have written it; the nearest."""
        found = []
        for path in (p for folder in self.folders for p in sorted(folder.glob("[0-9a-f]" * KEY_LENGTH + "-*.json"))):
            with suppress(LLMError):  # a damaged one is named where it is the one that is asked for
                r = _read(path)
                differs = same_but_for_rounding(r.messages, request.messages)
                if r.sample == request.sample and differs is not None:
                    found.append((differs, r.created, r.file_name, r))
        return min(found, key=lambda each: each[:3])[3] if found else None

    def of(self, key: str, model: str | None = None) -> list[Recording]:
        """The writable folder's replies to one conversation, oldest first; with `model`, only of that model string."""
        found = [r for r in _read_all(self.folder, f"{key}-*.json") if model in (None, r.model)] if _is_key(key) else []
        return sorted(found, key=lambda r: (r.created, r.file_name))

    def reply_to(self, key: str, model: str = "") -> Recording | None:
        """A reply to the conversation with this key, from the first folder that has one; that of `model`, where there
        are several."""
        for folder in self.folders if _is_key(key) else ():
            if found := list(_read_all(folder, f"{key}-*.json")):
                return min(found, key=lambda r: (r.model != model, r.created, r.file_name))
        return None

    def all(self, *, writable_only: bool = False) -> list[Recording]:
        """Every recording, by folder and name."""
        folders = self.folders[:1] if writable_only else self.folders
        return [r for folder in folders for r in _read_all(folder, "[0-9a-f]" * KEY_LENGTH + "-*.json")]

    def live(self) -> list[Recording]:
        """Those of the writable folder that this program asked for, set aside or not: what the budget has paid."""
        return [r for r in [*self.all(writable_only=True), *self.discarded()] if r.is_live]

    def save(self, recording: Recording) -> Path:
        """Write a recording, whole or not at all, and take its conversation off the pending ones.

        Raises:
            LLMError: if the folder cannot be written, or has another reply of this model to this request.
        """
        path = self.folder / recording.file_name
        if path.exists():
            if _read(path).reply != recording.reply:
                raise LLMError(
                    f"{path} already holds another reply of {recording.model} to the same prompt; a recording is "
                    f"never overwritten. `unstuck recordings discard RUN {recording.key}` sets the old one aside."
                )
        else:
            _write(path, recording.model_dump(mode="json"))
        with suppress(OSError):
            (self.folder / "pending" / f"{recording.key}.json").unlink()
        return path

    def replace(self, recording: Recording) -> Path:
        """Write one exchange, and set aside another reply to the same question from the same source.

        Raises:
            LLMError: if it cannot be written.
        """
        path = self.folder / recording.file_name
        if path.exists() and (old := _read(path)).reply != recording.reply:
            self.set_aside(old)
        return self.save(recording)

    def set_aside(self, recording: Recording) -> Path:
        """Move a recording of the writable folder to `discarded/`, where nothing looks for replies; what it cost goes
        on counting. Returns where it is now.

        Raises:
            LLMError: if it is not there, or cannot be moved.
        """
        held = (p for p in sorted(self.folder.glob(f"{recording.key}-*.json")) if _read(p) == recording)
        source = next(held, self.folder / recording.file_name)
        place = self.folder / "discarded"
        number = 1
        while (target := place / f"{source.stem}.{number}.json").exists():
            number += 1
        try:
            place.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
        except OSError as error:
            raise LLMError(f"cannot set {source} aside: {error.strerror or error}") from error
        return target

    def discarded(self) -> list[Recording]:
        """Those set aside, by name."""
        return list(_read_all(self.folder / "discarded", "*.json"))

    def save_picture(self, png: bytes) -> str:
        """Keep a picture for a prompt beside the recordings; its digest. Raises as `pictures.save_picture` does."""
        return save_picture(self.folder, png)

    def picture(self, digest: str) -> bytes:
        """The PNG of that digest. Raises as `pictures.read_picture` does."""
        return read_picture(self.folders, digest)

    def save_pending(self, request: Request, model: str = "") -> None:
        """Note down a conversation that has no reply yet. `model` is the model string that it is meant for.

        Raises:
            LLMError: if the folder cannot be written.
        """
        messages = [m.model_dump() for m in request.messages]
        data = {"format": FORMAT, "key": request.key, "sample": request.sample, "model": model}
        data |= {"follows": request.follows} if request.follows else {}
        _write(self.folder / "pending" / f"{request.key}.json", {**data, "messages": messages})

    def pending(self) -> list[Request]:
        """Conversations without a reply, by key.

        Raises:
            LLMError: if a file is damaged; names it.
        """
        return [self._read_pending(path)[0] for path in sorted((self.folder / "pending").glob("*.json"))]

    def asked(self, key: str) -> tuple[Request, str] | None:
        """The conversation with this key, pending or recorded, and the model string it was exported for."""
        if not _is_key(key):
            return None  # keys come from files of others, and are about to become part of a path
        path = self.folder / "pending" / f"{key}.json"
        if path.exists():
            return self._read_pending(path)
        for folder in self.folders:
            for recording in _read_all(folder, f"{key}-*.json"):
                return recording.request, ""
        return None

    @staticmethod
    def _read_pending(path: Path) -> tuple[Request, str]:
        data = _load(path)
        try:
            messages = tuple(Message.model_validate(m) for m in data["messages"])
            request = Request(messages, int(data["sample"]), str(data.get("follows", "")))
            model = str(data.get("model", ""))
        except (ValidationError, LookupError, TypeError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if request.key != path.stem:
            raise _damaged(path, "its name is not the key of the conversation in it")
        return request, model


def _is_key(key: str) -> bool:
    return len(key) == KEY_LENGTH and set(key) <= set("0123456789abcdef")


def _read_all(folder: Path, pattern: str) -> Iterator[Recording]:
    for path in sorted(folder.glob(pattern)):
        yield _read(path)


def _read(path: Path) -> Recording:
    try:
        recording = Recording.model_validate(_load(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    request = recording.request
    if (recording.key, recording.prompt_sha256) != (request.key, request.sha256):
        raise _damaged(path, "its key does not belong to the conversation in it")
    return recording


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LLMError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(data, dict):
        raise _damaged(path, "it is no JSON object")
    version = data.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise LLMError(f"{path} has format {version}, this Unstuck reads up to {FORMAT}; update Unstuck")
    return data


def _damaged(path: Path, reason: str) -> LLMError:
    return LLMError(f"{path} is damaged: {reason}. Restore it, or delete it to have its prompt asked again.")


def _write(path: Path, data: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise LLMError(f"cannot write {path}: {error.strerror or error}. Make the folder writable.") from error
