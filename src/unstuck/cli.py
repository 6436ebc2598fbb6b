"""The command line: finds the command, runs it, and says what went wrong in a sentence.

Nothing but the table of commands is imported before one is called, so that `unstuck --help` is quick.
"""

from __future__ import annotations

import os
import sys

from unstuck.commands import ALIASES, COMMANDS, WITH_JSON
from unstuck.commands.talk import WORDS as TALK_WORDS
from unstuck.commands.talk import take_out
from unstuck.errors import UnstuckError, did_you_mean

LISTS = ("--train.seeds", "--train.log", "--seeds", "--tasks", "--methods", "--redo")
"""Flags that take several values: `--seeds 1,2` is understood as `--seeds 1 2`."""


def usage() -> str:
    """The text of `unstuck --help`."""
    lines = [f"  {name:<11} {command.help}" for name, command in COMMANDS.items()]
    return (
        "usage: unstuck COMMAND ...\n\n"
        "Gets a stuck reinforcement-learning agent moving again, with a language model as its coach.\n\n"
        "  unstuck refine agent.zip --env Hopper-v5 --llm openai:MODEL\n\ncommands:\n"
        + "\n".join(lines)
        + "\n\n`unstuck COMMAND --help` lists a command's settings. Beside those:\n"
        "  --config FILE.toml   many settings at once, in the sections of the long names\n"
        "  --env-kwargs JSON    keyword arguments of gymnasium.make\n"
        + "".join(f"  {name:<20} {words}\n" for name, words in TALK_WORDS.items())
        + "".join(f"  {short:<20} short for {long}\n" for short, long in ALIASES.items())
    )


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits with 2 on an error that the user can act on, 130 when interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return
    if args[0] == "--version":
        from unstuck import __version__

        print(f"unstuck {__version__}")
        return
    from unstuck.terminal import protected

    _no_foreign_warnings()
    with protected():
        _run(args)


def _run(args: list[str]) -> None:
    """The command, with everything that can go wrong said in a sentence."""
    from pydantic import ValidationError

    word = args[0]
    try:
        said = take_out(args[1:], knows_json=word in WITH_JSON)
        rest = _apart([_unalias(a, word) for a in said])
        if word not in COMMANDS:
            raise UnstuckError(
                f"there is no command {word!r}.{did_you_mean(word, COMMANDS)} `unstuck --help` lists them"
            )
        COMMANDS[word].call(word, rest)
    except ValidationError as error:
        from unstuck.guidance import validation_message

        _fail(f"a setting is not valid:\n{validation_message(error)}")
    except UnstuckError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where this one stood", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A full disk, a name that is too long: nothing that a traceback would explain. Finished stages are kept.
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except Exception as error:
        import traceback

        print(traceback.format_exc(), file=sys.stderr)
        print(
            f"error: {type(error).__name__}: this should not have happened. What is done is kept. Please report the "
            "lines above: docs/security.md says where",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def _no_foreign_warnings() -> None:
    """Gymnasium's remarks on environments would tear up the progress bars; they go on being shown from Python, and
    where the user set PYTHONWARNINGS. The worker processes read the variable."""
    if "PYTHONWARNINGS" in os.environ or sys.warnoptions:
        return
    import warnings

    modules = ("envs.registration", "utils.passive_env_checker", "core", "spaces.box", "spaces.utils")
    os.environ["PYTHONWARNINGS"] = ",".join(f"ignore:::gymnasium.{m}" for m in modules)
    warnings.filterwarnings("ignore", module="gymnasium")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2) from None


def _unalias(word: str, command: str) -> str:
    name, equals, value = word.partition("=")
    aliases = {"--import": "--import-module"} if command in COMMANDS and COMMANDS[command].of_env else ALIASES
    if command in COMMANDS and not COMMANDS[command].short_forms:
        return word
    return aliases.get(name, name) + equals + value


def _apart(words: list[str]) -> list[str]:
    """Values of a list that stand in one word, `1,2`, in a word each."""
    found: list[str] = []
    inside = False
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            inside = name in LISTS
            found += [name, *value.split(",")] if inside and equals else [word]
        else:
            found += [part for part in word.split(",") if part] if inside else [word]
    return found
