"""`onggi image bootstrap` as a command: what it asks the engine, and what it prints."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from onggi.base.errors import Cancelled, OnggiError, Unavailable
from onggi.build.events import Note, StepDone, StepStarted
from onggi.cli.app import State, run_command
from onggi.cli.caller import Caller
from onggi.cli.main import cli
from onggi.host.http import Proxies
from tests.callers import FakeCaller


class FakeEngine:
    """An engine that makes an image of anything, or fails."""

    def __init__(self, error: OnggiError | None = None) -> None:
        self.error = error
        self.asked: list[Any] = []
        self.id = "sha256:" + "1" * 64

    def bootstrap(self, *, tell: Any, proxies: Proxies) -> "FakeEngine":
        self.asked.append(proxies)
        self.tell = tell
        return self

    def make(self, name: str, *, mirror: str | None, tag: str | None) -> "FakeEngine":
        self.asked.append((name, mirror, tag))
        self.tell(StepStarted(step="1", title="read", at_ns=0))
        self.tell(Note(text="without something"))
        self.tell(StepDone(step="1", title="read", at_ns=10**9, duration_ns=10**9))
        if self.error:
            raise self.error
        return self


def run(engine: FakeEngine, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int | None, FakeCaller]:
    """Run the command line."""
    caller = FakeCaller(env)
    state = State(cast("Caller", caller), cast("Any", lambda _root: engine))
    return run_command(cli, ["image", "bootstrap", *arguments], state), caller


def test_the_id_is_printed_and_progress_is_told_beside_it() -> None:
    engine = FakeEngine()
    code, caller = run(engine, "debian:bookworm", "--mirror", "http://m.example/debian", "-t", "mine")
    assert (code, caller.stdout) == (0, engine.id + "\n")
    assert caller.stderr == "#1 read\nwithout something\n#1 DONE 1.0s\n\n"
    assert engine.asked == [Proxies(), ("debian:bookworm", "http://m.example/debian", "mine")]


@pytest.mark.parametrize("flags", [["-q"], ["--progress", "quiet"]])
def test_quiet_prints_the_id_only(flags: list[str]) -> None:
    code, caller = run(FakeEngine(), "busybox", *flags)
    assert (code, caller.stderr) == (0, "")


def test_progress_as_json() -> None:
    _, caller = run(FakeEngine(), "busybox", "--progress", "json")
    assert [line[:10] for line in caller.stderr.splitlines()] == ['{"type":"s', '{"type":"n', '{"type":"d']


def test_the_proxies_of_the_caller_are_used() -> None:
    engine = FakeEngine()
    env = {
        "http_proxy": "http://p.example:1",
        "HTTP_PROXY": "http://not.example",
        "ALL_PROXY": "http://all.example:2",
        "no_proxy": "a.example, .b.example",
        "SSL_CERT_FILE": "/x.pem",
    }
    run(engine, "busybox", env=env)
    assert engine.asked[0] == Proxies(
        http="http://p.example:1", https="http://all.example:2", none=("a.example", ".b.example"), ca_bundle="/x.pem"
    )


@pytest.mark.parametrize(("error", "expected"), [(Unavailable("no network"), 1), (Cancelled("interrupted"), 130)])
def test_errors_are_told_and_have_codes(error: OnggiError, expected: int) -> None:
    code, caller = run(FakeEngine(error), "busybox")
    assert code == expected
    assert caller.stderr.endswith(f"onggi: {error}\n")
    assert caller.stdout == ""


def test_an_unknown_progress_is_refused() -> None:
    code, caller = run(FakeEngine(), "busybox", "--progress", "loud")
    assert code == 1
    assert "invalid progress mode loud" in caller.stderr
