"""`cp` as a command: which end is the container's, what is asked of the engine, and what is said meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from onggi.cli.app import State, run_command
from onggi.cli.main import cli
from onggi.engine.copying import Copied
from tests.callers import FakeCaller


class FakeEngine:
    """An engine whose containers take and give everything."""

    def __init__(self) -> None:
        self.containers = self
        self.asked: list[Any] = []

    @contextmanager
    def files(self, ref: str) -> Iterator["FakeEngine"]:
        self.asked.append(ref)
        yield self

    def copy_in(self, source: str, path: str, **options: Any) -> Copied:
        return self._copied("in", source, path, options)

    def copy_out(self, path: str, destination: str, **options: Any) -> Copied:
        return self._copied("out", path, destination, options)

    def _copied(self, way: str, source: str, destination: str, options: dict[str, Any]) -> Copied:
        options.pop("tell")(1_234_567)
        self.asked.append((way, source, destination, options))
        return Copied(size_bytes=2048, skipped_devices=2 if way == "out" else 0)


def run(*arguments: str, terminal: bool = False) -> tuple[FakeEngine, FakeCaller]:
    """Run the command line, which must succeed."""
    engine, caller = FakeEngine(), FakeCaller(terminal=terminal)
    state = State(cast("Any", caller), cast("Any", lambda _root: engine))
    assert run_command(cli, ["cp", *arguments], state) == 0
    return engine, caller


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        (("web:/a/.", "b/"), ("out", "/a/.", "/here/b/")),
        (("web:a", "."), ("out", "a", "/here/.")),
        (("a:b", "web:/c"), None),
        (("./a:b", "web:/c"), ("in", "/here/a:b", "/c")),
        (("/x/../a:b", "web:"), ("in", "/a:b", "")),
        (("..", "web:/c"), ("in", "/", "/c")),
    ],
)
def test_the_end_with_a_name_is_the_containers(arguments: tuple[str, str], way: tuple[str, str, str] | None) -> None:
    if way is None:
        with pytest.raises(AssertionError):
            run(*arguments)
        return
    engine, caller = run("-aL", *arguments)
    assert engine.asked == ["web", (*way, {"follow": True, "archive": True})]
    assert caller.stdout == ""


def test_what_is_said() -> None:
    assert run("a", "web:/b")[1].stderr == ""
    assert run("web:/b", "a")[1].stderr == "onggi: left out 2 device files\n"
    assert run("--no-quiet", "a", "web:b")[1].stderr == "Successfully copied 2.05kB to web:b\n"
    shown = run("web:/b", "a", terminal=True)[1].stderr
    assert shown.startswith("\r\x1b[2KCopying from container - 1.23MB\r\x1b[2K")
    assert shown.endswith("Successfully copied 2.05kB to /here/a\n")
    assert run("-q", "a", "web:/b", terminal=True)[1].stderr == ""
