"""When a command leaves an onggid warm behind it."""

import os
from pathlib import Path

import pytest

from onggi.cli import warm
from onggi.host.locks import take_lock


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    roots: list[str | None] = []
    monkeypatch.setattr(warm, "_start_onggid", roots.append)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return roots


def test_what_an_onggid_serves_or_flushes_leaves_one(started: list[str | None], tmp_path: Path) -> None:
    for words in (["ps"], ["build", "."], ["version"], ["--help"], []):
        warm.leave_warm(["--root", str(tmp_path), *words])
    assert started == [str(tmp_path)] * 2


@pytest.mark.parametrize(
    ("words", "served"),
    [
        ("ps", True),
        ("--root x build .", True),
        ("image build .", True),
        ("builder build .", True),
        ("image bootstrap busybox", False),
        ("builder prune", False),
        ("image", False),
        ("load", False),
        ("", False),
    ],
)
def test_what_is_served(words: str, served: bool) -> None:
    assert warm.is_served(words.split()) is served


def test_one_that_runs_is_enough(started: list[str | None], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    arguments = [f"--root={tmp_path}", "build", "."]
    with take_lock(f"{tmp_path}/run/onggid.lock", "onggid"):
        warm.leave_warm(arguments)
        assert started == []
    warm.leave_warm(arguments)
    assert started == [str(tmp_path)]


def test_a_root_that_cannot_be_is_not_looked_after(started: list[str | None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warm.leave_warm(["--root", f"{tmp_path}/file", "ps"])
    assert started == []


def test_only_root_has_one(started: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    warm.leave_warm(["ps"])
    assert started == []
