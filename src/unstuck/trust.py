"""What a run folder may make this machine do, and who said so.

A manifest names environments, modules to import, wrappers, describers, the address that a key is sent to, and whether
the agent's pickles may run. In a folder that somebody sent, each of these would be the sender's choice. So what is
more than data is sealed when the user says it on this machine: with a key of theirs that no folder contains. A folder
whose seal does not match is refused until it is confirmed, which seals it. Moving or copying a folder changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unstuck.config import RunConfig
from unstuck.errors import RunError
from unstuck.keys import STATE_VARIABLE, state_dir, user_key
from unstuck.llm.config import DEFAULT_COST_USD, LLMConfig
from unstuck.tasks.plain import foreign

MOST_SEALS = 16
_USUAL_CALLS = LLMConfig.model_fields["max_calls"].default


def claims(config: RunConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What of the settings is more than data: by name, as plain values. {} for most runs.

    Args:
        inputs: digests of the files that would be loaded with trust.
    """
    task, llm = config.task, config.llm
    found: dict[str, Any] = {}
    if words := foreign(task.env, task.env_kwargs):
        found["task"] = [task.env, task.env_kwargs, words]
    if task.import_module and not task.import_module.startswith("unstuck."):  # what ships is no sender's
        found["import_module"] = task.import_module
    if task.card:
        found["card"] = str(task.card)
    if config.agent.trust:
        found["trust"] = dict(inputs)
    if llm.base_url:
        found["base_url"] = llm.base_url
    if llm.headers:
        found["headers"] = dict(sorted(llm.headers.items()))
    if caps := _raised_caps(llm):
        found["caps"] = caps
    return found


def _raised_caps(llm: LLMConfig) -> dict[str, Any]:
    """Spending caps above the defaults: a folder may not decide to spend its reader's money."""
    found: dict[str, Any] = {}
    for name in ("max_cost_usd", "max_calls"):
        value, usual = getattr(llm, name), DEFAULT_COST_USD if name == "max_cost_usd" else _USUAL_CALLS
        if value is not None and value > usual:
            found[name] = value
    if llm.prices.known:  # a price that is stated too low lifts the cap
        found["prices"] = [llm.prices.input, llm.prices.output]
    return found


def in_words(found: Mapping[str, Any]) -> list[str]:
    """What the claims would do, a sentence each."""
    lines = []
    if "task" in found:
        lines += [f"makes {words} of its choice" for words in found["task"][2]]
    if "import_module" in found:
        lines.append(f"imports the module {found['import_module']}")
    if "card" in found:
        lines.append(f"reads or imports the task card {found['card']}")
    if "trust" in found:
        lines.append("lets the pickles in its agent's files run code (agent.trust)")
    if "base_url" in found:
        lines.append(f"sends prompts, and your key, to {found['base_url']}")
    if "headers" in found:
        many = "s" if len(found["headers"]) > 1 else ""
        lines.append(f"sends the header{many} {', '.join(found['headers'])} with every prompt, beside your key")
    if "out" in found:
        lines.append(f"writes its runs to {found['out']}")
    if "recordings" in found:
        lines.append(f"keeps replies in {found['recordings']}")
    for name, value in found.get("caps", {}).items():
        if name == "prices":
            lines.append(f"says that a million tokens cost ${value[0]:g} in and ${value[1]:g} out")
        else:
            lines.append(f"raises the spending cap llm.{name.replace('_', '-')} to {value}")
    return lines


def seal(found: Mapping[str, Any], held: Mapping[str, str]) -> dict[str, str]:
    """`held` with this user's seal of the claims added, in place of an older one.

    Raises:
        RunError: if the user's key can neither be read nor made.
    """
    if not found:
        return {}
    name, mac = _mac(found, user_key(make=True))
    others = {k: v for k, v in held.items() if k != name}
    return {**dict(list(others.items())[-(MOST_SEALS - 1) :]), name: mac}


def sealed(found: Mapping[str, Any], held: Mapping[str, str]) -> bool:
    """Whether this user has sealed these very claims."""
    if not found:
        return True
    key = user_key(make=False)
    if key is None:
        return False
    name, mac = _mac(found, key)
    return hmac.compare_digest(held.get(name, "").encode(), mac.encode())


def _mac(found: Mapping[str, Any], key: bytes | None) -> tuple[str, str]:
    assert key is not None
    text = json.dumps(found, sort_keys=True, default=str).encode()
    name = hashlib.sha256(b"unstuck key name" + key).hexdigest()[:12]
    return name, hmac.new(key, text, hashlib.sha256).hexdigest()


def confirmed(found: Mapping[str, Any]) -> bool:
    """Whether this user has confirmed these claims of a file that holds no seal, such as a suite."""
    return not found or _note(found).is_file()


def confirm(found: Mapping[str, Any]) -> None:
    """Remember that this user confirms the claims.

    Raises:
        RunError: if the user's own folder cannot be written.
    """
    path = _note(found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text("\n".join(in_words(found)) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; set {STATE_VARIABLE}") from error


def _note(found: Mapping[str, Any]) -> Path:
    text = json.dumps(found, sort_keys=True, default=str).encode()
    return state_dir() / "confirmed" / hashlib.sha256(text).hexdigest()


def refusal(what: str, found: Mapping[str, Any], flag: str) -> str:
    """Why something is not opened, and the words that confirm it."""
    lines = "".join(f"\n  - it {words}" for words in in_words(found))
    return (
        f"{what} was not made by you on this machine, or was changed since, and asks for more than data:{lines}\n"
        f"If you trust whoever made it, say so by adding {flag} to the command (trust=True in Python): that is "
        "remembered. If not, nothing of it has been run."
    )
