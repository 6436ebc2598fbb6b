"""`unstuck completion`: what a shell needs to complete commands, flags and their choices."""

from __future__ import annotations

import argparse
import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from unstuck.commands import ALIASES, COMMANDS, arguments
from unstuck.commands.arguments import Positional, parse
from unstuck.errors import UnstuckError

PLAIN_FILES = frozenset({"agent", "file", "suite", "what"})
"""Positional arguments that may be files, though they are read as text."""
MOST_HELP = 70
"""Characters of a flag's help that a shell shows."""


@dataclass
class CompletionArgs:
    """Print what a shell needs to complete `unstuck`: its commands, their flags, and the choices of these."""

    shell: Annotated[Literal["bash", "zsh", "fish", "tcsh", "powershell"], Positional]
    """bash: into ~/.local/share/bash-completion/completions/unstuck; zsh: into a file _unstuck in a folder of $fpath;
    fish: into ~/.config/fish/completions/unstuck.fish."""


def completion(command: str, args: list[str]) -> None:
    """`unstuck completion`."""
    parsed = parse(CompletionArgs, command, args)
    import shtab

    print(shtab.complete(whole_parser(), parsed.shell))


class _CaughtError(Exception):
    """A command came as far as its arguments; carries what they are parsed into."""


@contextlib.contextmanager
def _catching() -> Iterator[None]:
    def caught(kind: Any, command: str, args: list[str]) -> Any:
        raise _CaughtError(kind)

    arguments.CATCH = caught
    try:
        yield
    finally:
        arguments.CATCH = None


def whole_parser() -> argparse.ArgumentParser:
    """All commands with their flags as one parser; nothing parses with it, shells are told what is in it."""
    from unstuck.commands.talk import WORDS

    whole = argparse.ArgumentParser("unstuck", description="Gets a stuck reinforcement-learning agent moving again.")
    whole.add_argument("--version", action="store_true", help="Show the version.")
    below = whole.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        made = below.add_parser(name, help=command.help, description=command.help)
        taken = _copy(_actions(name), made)
        for alias, long in [*ALIASES.items(), ("--import", "--import-module")]:
            if alias not in taken and (meant := taken.get(long)):
                taken |= _copy([meant], made, alias)
        for word, text in WORDS.items():
            if (flag := word.split()[0]) not in taken:
                _switch(made, flag, text, " " not in word)
        if "--task.env" in taken or "--train.steps" in taken:
            _files(made.add_argument("--config", help="settings from a TOML file"))
        if "--task.env" in taken:
            made.add_argument("--env-kwargs", help="keyword arguments of gymnasium.make, as JSON")
    return whole


def _switch(parser: argparse.ArgumentParser, flag: str, text: str, alone: bool) -> None:
    if alone:
        parser.add_argument(flag, action="store_true", help=_escaped(text))
    else:
        parser.add_argument(flag, help=_escaped(text))


def _actions(command: str) -> list[Any]:
    """The arguments of a command, as the library that parses them lists them.

    Raises:
        UnstuckError: its version does not tell.
    """
    import tyro

    with _catching():
        try:
            COMMANDS[command].call(command, [])
        except _CaughtError as found:
            kind = found.args[0]
        else:
            raise UnstuckError(f"`unstuck {command}` does not say what it takes")
    if not hasattr(tyro.extras, "get_parser"):
        raise UnstuckError("this version of tyro does not list arguments; install another one: pip install 'tyro<1.1'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return list(tyro.extras.get_parser(kind, prog=f"unstuck {command}")._actions)


def _copy(actions: list[Any], to: argparse.ArgumentParser, alias: str = "") -> dict[str, Any]:
    """Add the arguments, under another name if one is given; flag → the argument that was copied."""
    taken: dict[str, Any] = {}
    for action in actions:
        flags = [alias] if alias else list(action.option_strings)
        if "-h" in flags:
            continue
        text = _escaped(str(action.help or ""))
        made: Any
        if not flags:
            made = to.add_argument(str(action.dest), nargs="*", help=text, choices=action.choices)
        elif action.nargs == 0:
            made = to.add_argument(*flags, action="store_true", help=text)
        else:
            nargs = "*" if action.nargs == "*" else None
            made = to.add_argument(*flags, dest=flags[0], nargs=nargs, choices=action.choices, help=text)
        if "PATH" in str(action.metavar or "") or (not flags and action.dest in PLAIN_FILES):
            _files(made)
        taken |= dict.fromkeys(flags, action)
    return taken


def _files(action: Any) -> None:
    import shtab

    action.complete = shtab.FILE


def _escaped(text: str) -> str:
    """The first sentence, short, with what argparse would fill in left as it is."""
    first = " ".join(text.split()).partition(". ")[0]
    return (first if len(first) <= MOST_HELP else first[: MOST_HELP - 1] + "…").replace("%", "%%")
