"""`top`: columns of ps, computed here."""

import os
import subprocess
from datetime import UTC, datetime

import msgspec
import pytest

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.cli.processes_table import Moment, choose_columns, process_rows
from onggi.host.machine_info import MachineInfo, read_machine_info
from onggi.host.proctable import TICKS, Process, read_process

BOOT = 1714500000
MACHINE = MachineInfo(name="pot", kernel="6", system="", processors=2, memory_bytes=1 << 30, boot_s=BOOT)
NOW = Moment(datetime.fromtimestamp(BOOT + 7200, UTC), MACHINE)
PROCESS = Process(
    pid=42,
    parent=1,
    uid=4242424,
    state="S",
    name="sh",
    command=("sh", "-c", "sleep 9"),
    tty="?",
    used=90 * TICKS,
    started=3600 * TICKS,
    virtual_bytes=4 << 20,
    resident_bytes=1 << 20,
    threads=1,
    nice=0,
    group=42,
    session=42,
)


def shown(process: Process, *options: str, at: Moment = NOW) -> list[tuple[str, str]]:
    """Give headers and values."""
    columns = choose_columns(options)
    (row,) = process_rows([process], columns, at)
    return [(header, value) for (header, _), value in zip(columns, row, strict=True)]


def test_full_format() -> None:
    expected = [
        ("UID", "4242424"),
        ("PID", "42"),
        ("PPID", "1"),
        ("C", "2"),
        ("STIME", "19:00"),
        ("TTY", "?"),
        ("TIME", "00:01:30"),
        ("CMD", "sh -c sleep 9"),
    ]
    for options in ([], ["-ef"], ["-e", "-f"]):
        assert shown(PROCESS, *options) == expected


def test_by_user() -> None:
    assert shown(PROCESS, "aux") == [
        ("USER", "4242424"),
        ("PID", "42"),
        ("%CPU", "2.5"),
        ("%MEM", "0.1"),
        ("VSZ", "4096"),
        ("RSS", "1024"),
        ("TTY", "?"),
        ("STAT", "Ss"),
        ("START", "19:00"),
        ("TIME", "1:30"),
        ("COMMAND", "sh -c sleep 9"),
    ]


def test_chosen_fields() -> None:
    assert shown(PROCESS, "-o", "pid,etime,comm=PROGRAM") == [("PID", "42"), ("ELAPSED", "01:00:00"), ("PROGRAM", "sh")]
    assert shown(PROCESS, "-opid,pcpu") == [("PID", "42"), ("%CPU", "2.5")]
    assert shown(PROCESS, "-eo", "pid ppid") == [("PID", "42"), ("PPID", "1")]


@pytest.mark.parametrize(
    ("options", "kind", "problem"),
    [
        (["-x"], NotSupported, "the option -x of ps is not supported"),
        (["-ef", "--forest"], NotSupported, "--forest"),
        (["-o", "pid,odd"], NotSupported, "the field odd of ps is not supported"),
        (["-o", "comm"], InvalidArgument, "Couldn't find PID field in ps output"),
    ],
)
def test_what_is_not_known(options: list[str], kind: type[Exception], problem: str) -> None:
    with pytest.raises(kind, match=problem):
        choose_columns(options)


@pytest.mark.parametrize(
    ("change", "header", "expected"),
    [
        ({"state": "Z", "command": ()}, "CMD", "[sh] <defunct>"),
        ({"command": ()}, "CMD", "[sh]"),
        ({"used": 100 * 3600 * TICKS}, "TIME", "4-04:00:00"),
        ({"used": 9999 * TICKS}, "C", "99"),
        ({"tty": "pts/3"}, "TTY", "pts/3"),
    ],
)
def test_odd_processes(change: dict[str, object], header: str, expected: str) -> None:
    assert dict(shown(msgspec.structs.replace(PROCESS, **change)))[header] == expected


@pytest.mark.parametrize(("days", "expected"), [(0, "19:00"), (2, "Apr30"), (400, "2024")])
def test_starts(days: int, expected: str) -> None:
    at = Moment(datetime.fromtimestamp(BOOT + 7200 + days * 86400, UTC), MACHINE)
    assert dict(shown(PROCESS, at=at))["STIME"] == expected


def test_as_ps_shows_this_process() -> None:
    process = read_process(os.getpid())
    assert process is not None
    fields = "pid,ppid,uid,user,pgid,sid,tty,nlwp,ni,comm,args"
    said = subprocess.run(
        ["ps", "-ww", "-o", fields, "-p", str(os.getpid())], capture_output=True, text=True, check=True
    )
    columns = choose_columns(["-o", fields])
    rows = process_rows([process], columns, Moment(datetime.now(UTC), read_machine_info()))
    assert [" ".join(header for header, _ in columns).split(), " ".join(rows[0]).split()] == [
        line.split() for line in said.stdout.splitlines()
    ]


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert read_process(child.pid) is None
