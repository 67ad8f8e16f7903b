"""What pulls and pushes show while they run."""

import io
import json

import pytest
from rich.console import Console

from onggi.base.errors import InvalidArgument
from onggi.cli.transfers import (
    PULL,
    PUSH,
    PlainTransfers,
    QuietTransfers,
    TerminalTransfers,
    choose_transfers,
)
from onggi.registry.progress import BlobProgress, Event, Note, State
from onggi.spec.digest import Digest
from tests.callers import FakeCaller

A, B = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
EVENTS = (
    BlobProgress(blob=A, state=State.WAITING),
    BlobProgress(blob=B, state=State.WAITING),
    BlobProgress(blob=A, state=State.UPLOADING, bytes=0, total=4_000_000),
    BlobProgress(blob=A, state=State.UPLOADING, bytes=2_000_000, total=4_000_000),
    BlobProgress(blob=B, state=State.MOUNTED, source="library/base"),
    Note(text="the digest changes"),
    BlobProgress(blob=A, state=State.READY, bytes=4_000_000, total=4_000_000),
)


def drawn(*events: Event, width: int = 100) -> list[str]:
    """Tell a terminal everything; gives the picture that is left."""
    screen = io.StringIO()
    told: list[Event] = []
    shown = TerminalTransfers(PUSH, Console(file=screen, width=width, height=25), lambda: float(len(told)))
    for event in events:
        told.append(event)
        shown.tell(event)
    shown.finish()
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_elsewhere_than_on_a_terminal_each_state_is_a_line_of_docker() -> None:
    said: list[str] = []
    shown = PlainTransfers(said.append, PUSH)
    for event in EVENTS:
        shown.tell(event)
    assert "".join(said).splitlines() == [
        "aaaaaaaaaaaa: Preparing",
        "bbbbbbbbbbbb: Preparing",
        "aaaaaaaaaaaa: Pushing",
        "bbbbbbbbbbbb: Mounted from library/base",
        "the digest changes",
        "aaaaaaaaaaaa: Pushed",
    ]


def test_every_state_has_a_word() -> None:
    assert set(PULL) | set(PUSH) == set(State)


def test_a_terminal_shows_bars_with_rates() -> None:
    lines = drawn(*EVENTS[:5])
    assert lines == [
        "aaaaaaaaaaaa: Pushing [===============>              ]  2MB/4MB  1MB/s",
        "bbbbbbbbbbbb: Mounted from library/base",
    ]


def test_a_narrow_terminal_gets_the_beginning_of_a_line() -> None:
    assert drawn(*EVENTS[:5], width=20)[0] == "aaaaaaaaaaaa: Pushin"


def test_a_registry_cannot_move_the_cursor() -> None:
    event = BlobProgress(blob=A, state=State.MOUNTED, source="a\x1b[2Jb")
    assert drawn(event, Note(text="x\x1b]0;y\x07z")) == ["xz", "aaaaaaaaaaaa: Mounted from ab"]


def test_json_lines_are_the_events() -> None:
    caller = FakeCaller()
    shown = choose_transfers("json", PUSH, caller)  # type: ignore[arg-type]
    for event in EVENTS:
        shown.tell(event)
    shown.finish()
    documents = [json.loads(line) for line in caller.stderr.splitlines()]
    assert documents[3] == {
        "type": "blob",
        "blob": A,
        "state": "uploading",
        "bytes": 2_000_000,
        "total": 4_000_000,
        "source": "",
    }
    assert documents[5] == {"type": "note", "text": "the digest changes"}
    assert caller.stdout == ""


def test_the_mode_is_chosen() -> None:
    caller = FakeCaller()
    assert isinstance(choose_transfers("auto", PUSH, caller), PlainTransfers)  # type: ignore[arg-type]
    assert isinstance(choose_transfers("quiet", PUSH, caller), QuietTransfers)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="invalid progress mode fancy: known are auto, tty, plain, json and quie"):
        choose_transfers("fancy", PUSH, caller)  # type: ignore[arg-type]
