"""Shells are told every command, its flags and their choices."""

import shutil
import subprocess

import pytest

from unstuck.cli import ALIASES, main
from unstuck.commands import COMMANDS, arguments


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")

    def made(shell):
        path = folder / shell
        if not path.exists():
            with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.stdout", file)
                main(["completion", shell])
        return path

    return made


def completed(script, *typed):
    """What bash offers after these words."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    words = " ".join(f"'{w}'" for w in typed)
    code = (
        f"source {script('bash')}; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _shtab_unstuck; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash, "--norc", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_bash_completes_commands_flags_and_choices(script):
    assert completed(script, "unstuck", "") >= set(COMMANDS)
    assert completed(script, "unstuck", "rev") == {"review"}
    assert completed(script, "unstuck", "refine", "--train.meth") == {"--train.method"}
    assert {"race", "unstuck"} <= completed(script, "unstuck", "refine", "agent.zip", "--method", "")
    assert completed(script, "unstuck", "train", "RUN", "--no-c") == {"--no-control"}
    assert completed(script, "unstuck", "describe", "--imp") == {"--import", "--import-module"}
    assert completed(script, "unstuck", "refine", "--conf") == {"--config"}
    assert set(ALIASES) <= completed(script, "unstuck", "refine", "--")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(script, shell):
    text = script(shell).read_text(encoding="utf-8")
    assert all(name in text for name in COMMANDS)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([program, "-n", script(shell)], check=True, timeout=60)


def test_afterwards_commands_parse_as_ever(script, capsys):
    script("bash")
    assert arguments.CATCH is None
    with pytest.raises(SystemExit):
        main(["completion", "cmd"])
    assert "powershell" in capsys.readouterr().err
