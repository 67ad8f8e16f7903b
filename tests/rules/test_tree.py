"""What every file of the project has, and what none has."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.rules import checks
from tests.rules.checks import none
from tests.rules.test_imports import MODULES, PROJECT

BANNED_NAMES: Final = {"utils", "util", "helpers", "helper", "misc", "manager", "common", "stuff"}

# Written apart, so that this file does not have what it forbids.
NOWHERE: Final = (
    *("../" + "shared", "/work/" + "shared", "/tmp/" + "onggi/", "." + "library/"),
    *("pypi." + "org", "pythonhosted." + "org", "deb.debian." + "org", "archive.ubuntu." + "com"),
    *("npmjs." + "org", "proxy.golang." + "org", "crates." + "io", "repo.maven." + "apache"),
)
"""Places that only the machine of whoever writes this has, and hosts that only its configuration names."""

UNFINISHED: Final = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "HA" + "CK:")
CODE: Final = {".py", ".c", ".h", ".sh", ""}
SKIPPED: Final = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "dist"}


def project_files() -> Iterator[tuple[Path, str]]:
    """Give every text of the project and its content."""
    for directory, names, files in os.walk(PROJECT):
        names[:] = sorted(set(names) - SKIPPED)
        for file in sorted(files):
            path = Path(directory, file)
            try:
                yield path.relative_to(PROJECT), path.read_text()
            except UnicodeDecodeError:
                continue  # a binary: no text to read


def lines_with(words: tuple[str, ...], suffixes: set[str] | None = None) -> list[str]:
    """Give the lines of the project that contain one of the words."""
    return [
        f"{path}:{number} {word}"
        for path, text in project_files()
        if suffixes is None or path.suffix in suffixes
        for number, line in enumerate(text.splitlines(), 1)
        for word in words
        if word in line
    ]


def test_no_file_names_a_place_that_others_do_not_have() -> None:
    none(lines_with(NOWHERE))


def test_nothing_is_left_for_later() -> None:
    none(lines_with(UNFINISHED, CODE))


def test_the_search_finds_what_is_there() -> None:
    assert any(line.startswith("tests/rules/test_tree.py:") for line in lines_with(("lines_with",), CODE))


def test_every_module_says_what_it_owns() -> None:
    none(checks.without_docstring(MODULES))


def test_every_directory_of_code_is_a_package() -> None:
    none(checks.without_init(MODULES))


def test_no_module_is_named_after_nothing() -> None:
    none(checks.bad_names(MODULES, BANNED_NAMES))


@pytest.mark.parametrize("path", sorted((PROJECT / "launcher").rglob("*.[ch]")), ids=lambda path: path.name)
def test_every_c_file_says_what_it_owns(path: Path) -> None:
    assert path.read_text().startswith("/*")


def test_scripts_are_executable() -> None:
    assert all(os.access(PROJECT / name, os.X_OK) for name in ("run", ".ci/run"))
