"""What the commands that people wait for load in a process of their own: with -X importtime Python itself says it."""

import subprocess
from pathlib import Path

from tests.homes import IMAGE, Home
from tests.rules import checks
from tests.rules.test_imports import ENTRIES, SLOW

START = "import gc; gc.disable(); from onggi.cli.main import main; main()"
DOCKERFILE = f'FROM {IMAGE}\nENV A=b\nWORKDIR /w\nCOPY one .\nRUN cat one > two\nCMD ["cat", "two"]\n'


def loaded_by(home: Home, *arguments: str) -> list[str]:
    """Run a command line without an onggid; gives the modules that it imported."""
    words = [home.installed.python, "-X", "importtime", "-I", "-c", START, *home.words(*arguments)[1:]]
    done = subprocess.run(words, env=home.environment(warm=False), stderr=subprocess.PIPE, text=True, check=True)
    return [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]


def test_a_run(home: Home) -> None:
    loaded = loaded_by(home, "run", "--rm", IMAGE, "true")
    assert "onggi.engine.starting" in loaded
    checks.none(checks.beneath(loaded, SLOW | ENTRIES["a cold run"][1]))


def test_a_build_that_finds_all_in_its_cache(home: Home, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "one").write_text("1")
    without = SLOW | ENTRIES["a build that finds all in its cache"][1]
    assert checks.beneath(loaded_by(home, "build", "-t", "a", str(context)), without), "the first one needs more"
    loaded = loaded_by(home, "build", "-t", "a", str(context))
    assert "onggi.build.solver" in loaded
    checks.none(checks.beneath(loaded, without))
