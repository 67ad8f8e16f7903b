"""`onggi events`: how an event is printed, and which of them a filter admits."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from onggi.base.errors import InvalidArgument
from onggi.cli.events import FILTERS, is_wanted, line, shower
from onggi.cli.filters import parse_filters
from onggi.cli.moments import parse_moment
from onggi.store.events import Event
from tests.stores import Store

ID = "4a8d60354b19dd2cb1ac7f480b40bfc7ca5d9dad30481c63db6acbdefc589f8b"
IMAGE = "sha256:248350adcde1972c9974dfed779e7015117add6351c2178b3364e7fd26da364e"
DIE = Event(
    time_ns=1795596565968497780,
    type="container",
    action="die",
    actor=ID,
    attributes={"name": "dd", "image": "box:1", "exitCode": "3", "owner": "me"},
)
EXEC = Event(
    time_ns=1, type="container", action="exec_start: sh -c true", actor=ID, attributes={"name": "dd", "image": "box:1"}
)
TAG = Event(time_ns=1, type="image", action="tag", actor=IMAGE, attributes={"name": "box:1"})
PRUNE = Event(time_ns=1, type="builder", action="prune", actor="", attributes={})
CONNECT = Event(
    time_ns=1, type="network", action="connect", actor="bridge", attributes={"container": ID, "name": "bridge"}
)


def test_a_line_is_dockers() -> None:
    assert (
        line(DIE, {"TZ": "UTC"})
        == f"2026-11-25T08:49:25.968497780Z container die {ID} (exitCode=3, image=box:1, name=dd, owner=me)"
    )
    assert line(DIE, {"TZ": "Asia/Seoul"}).startswith("2026-11-25T17:49:25.968497780+09:00 container")
    assert line(PRUNE, {"TZ": "UTC"}) == "1970-01-01T00:00:00.000000001Z builder prune "


@pytest.mark.parametrize("format", ["json", "{{json .}}"])
def test_json_is_dockers(format: str) -> None:
    assert shower(format, {})(DIE) == (
        f'{{"status":"die","id":"{ID}","from":"box:1","Type":"container","Action":"die","Actor":{{"ID":"{ID}",'
        '"Attributes":{"exitCode":"3","image":"box:1","name":"dd","owner":"me"}},"scope":"local",'
        '"time":1795596565,"timeNano":1795596565968497780}'
    )
    found = msgspec.json.decode(shower(format, {})(CONNECT))
    assert list(found) == ["Type", "Action", "Actor", "scope", "time", "timeNano"]
    assert "from" not in msgspec.json.decode(shower(format, {})(TAG))


def test_templates_have_the_fields_of_gos_structure() -> None:
    text = "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.exitCode}} {{.Status}} {{.ID}} {{.From}} {{.Scope}}"
    assert shower(text, {})(DIE) == f"container die {ID} 3 die {ID} box:1 local"
    assert shower("{{.Time}} {{.TimeNano}}", {})(DIE) == "1795596565 1795596565968497780"
    with pytest.raises(InvalidArgument, match="template parsing error"):
        shower("{{.Bogus}}", {})(DIE)
    with pytest.raises(InvalidArgument, match="template parsing error"):
        shower("{{", {})


@pytest.mark.parametrize(
    ("filters", "admitted"),
    [
        ((), [DIE, EXEC, TAG, PRUNE, CONNECT]),
        (("type=container",), [DIE, EXEC]),
        (("type=image", "type=network"), [TAG, CONNECT]),
        (("event=die",), [DIE]),
        (("event=exec_start",), [EXEC]),
        (("event=exec_start: sh -c true",), [EXEC]),
        (("event=die", "event=tag"), [DIE, TAG]),
        (("event=die", "type=image"), []),
        (("container=dd",), [DIE, EXEC]),
        ((f"container={ID[:12]}",), [DIE, EXEC]),
        (("container=other",), []),
        (("image=box:1",), [DIE, EXEC, TAG]),
        (("image=box",), [DIE, EXEC, TAG]),
        ((f"image={IMAGE}",), [TAG]),
        (("network=bridge",), [CONNECT]),
        (("label=owner",), [DIE]),
        (("label=owner=me", "label=exitCode=3"), [DIE]),
        (("label=owner=you",), []),
        (("scope=local",), [DIE, EXEC, TAG, PRUNE, CONNECT]),
        (("scope=swarm",), []),
        (("volume=vol",), []),
    ],
)
def test_filters(filters: Sequence[str], admitted: Sequence[Event]) -> None:
    wanted = parse_filters(filters, FILTERS)
    assert [event for event in (DIE, EXEC, TAG, PRUNE, CONNECT) if is_wanted(event, wanted)] == list(admitted)


@pytest.mark.parametrize("text", ["9999-12-31", "99999999999999999", "1000-01-01"])
def test_times_beyond_what_a_database_counts_are_its_ends(tmp_path: Path, text: str) -> None:
    moment = parse_moment(text, 0, {})
    assert abs(moment) == 2**63 - 1
    with Store(tmp_path) as store:
        assert store.events.read(since_ns=moment, until_ns=moment) == []
