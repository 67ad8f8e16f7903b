"""Events: in order, found by time and kind, never more than are kept."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.store import events
from onggi.store.events import Event, Events
from tests.stores import Store


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Events]:
    """Give an empty log."""
    with Store(tmp_path) as store:
        yield store.events


def event(time_ns: int, action: str = "start", type: str = "container", actor: str = "a") -> Event:
    """Make an event."""
    return Event(time_ns=time_ns, type=type, action=action, actor=actor, attributes={"name": "é\n"})


def test_what_is_appended_is_read_in_order(log: Events) -> None:
    log.append(event(5), event(3, "die"))
    log.append(event(5, "pull", "image"))
    seen = log.read()
    assert [(item.id, item.time_ns, item.action) for item in seen] == [(1, 5, "start"), (2, 3, "die"), (3, 5, "pull")]
    assert seen[0].attributes == {"name": "é\n"}


def test_what_is_no_text_is_kept_as_such(log: Events) -> None:
    bad = os.fsdecode(b"\xff")
    log.append(Event(time_ns=1, type="container", action=f"exec_start: {bad}", actor="a", attributes={bad: f"x{bad}"}))
    (seen,) = log.read()
    assert (seen.action, seen.attributes) == ("exec_start: \ufffd", {"\ufffd": "x\ufffd"})


def test_a_part_is_read_by_time_id_and_kind(log: Events) -> None:
    log.append(*(event(at, action) for at, action in ((1, "create"), (2, "start"), (3, "die"), (4, "start"))))
    log.append(event(5, "pull", "image", "b"))

    def times(**arguments: object) -> list[int]:
        return [item.time_ns for item in log.read(**arguments)]  # type: ignore[arg-type]

    assert times(since_ns=3) == [3, 4, 5]
    assert times(since_ns=2, until_ns=4) == [2, 3]
    assert times(after_id=4) == [5]
    assert times(where={"action": ["start", "pull"], "type": ["container"]}) == [2, 4]
    assert times(where={"actor": ["b"]}) == [5]
    assert times(where={"actor": []}) == [1, 2, 3, 4, 5]
    assert times(limit=2) == [1, 2]


def test_the_oldest_go(log: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 300)
    log.append(*(event(at) for at in range(1000)))
    kept = log.read(limit=1000)
    assert 300 <= len(kept) < 300 + 256
    assert kept[-1].id == 1000
    assert [item.id for item in kept] == list(range(kept[0].id, 1001))


def test_threads_append_at_once(log: Events) -> None:
    def append_often() -> None:
        for _ in range(20):
            log.append(event(1))

    threads = [threading.Thread(target=append_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.read()) == 80
