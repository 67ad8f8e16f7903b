"""Completion as a shell asks for it: bash reads the script that Onggi prints and completes a command line."""

import shutil
import subprocess

import pytest

from tests.homes import IMAGE, Home

ASK = """
onggi() { "$INSTALLED" "$@"; }
PATH=$(dirname "$INSTALLED"):$PATH
source /dev/stdin <<<"$SCRIPT"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_onggi_completion onggi "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(home: Home, *words: str) -> list[str]:
    """Complete the last word."""
    script = home.ok("completion", "bash", warm=False)
    environment = home.environment(warm=False, INSTALLED=str(home.installed.onggi), SCRIPT=script)
    line = ["onggi", "--root", str(home.root), *words]
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", *line], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_flags(home: Home) -> None:
    assert complete(home, "re") == ["rename", "restart"]
    assert complete(home, "run", "--memory-s") == ["--memory-swap", "--memory-swappiness"]


def test_names_of_what_is_here(home: Home) -> None:
    for name in ("first", "second"):
        home.ok("create", "--name", name, "--network", "none", IMAGE, "true", warm=False)
    assert complete(home, "rm", "") == ["first", "second"]
    assert complete(home, "logs", "f") == ["first"]
    assert complete(home, "run", "b") == [f"{IMAGE}:latest"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_one_of_its_shell(home: Home, shell: str) -> None:
    script = home.ok("completion", shell, warm=False)
    assert f"{shell}_complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}: apt-get install {shell}")
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_a_shell_that_is_not_known(home: Home) -> None:
    done = home.onggi("completion", "tcsh", warm=False)
    assert done.returncode == 125
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.stderr
