"""Processes as ps(1) shows them, read from /proc (proc_pid_stat(5)); times are in clock ticks."""

import os
from typing import Final

import msgspec

from .processes import process_command

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_PTY_MAJORS: Final = range(136, 144)
_CONSOLE_MAJOR: Final = 4


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `used` is processor time, `started` is since boot; `tty` is "?" without a terminal."""

    pid: int
    parent: int
    uid: int
    state: str
    name: str
    command: tuple[str, ...]
    tty: str
    used: int
    started: int
    virtual_bytes: int
    resident_bytes: int
    threads: int
    nice: int
    group: int
    session: int


def read_process(pid: int) -> Process | None:
    """Look at one process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, rest = file.read(8192).rpartition(")")
        uid = os.stat(f"/proc/{pid}").st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = rest.split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        uid=uid,
        state=fields[0],
        name=head.partition("(")[2],
        command=process_command(pid),
        tty=_tty(int(fields[4])),
        used=int(fields[11]) + int(fields[12]),
        started=int(fields[19]),
        virtual_bytes=int(fields[20]),
        resident_bytes=int(fields[21]) * PAGE_BYTES,
        threads=int(fields[17]),
        nice=int(fields[16]),
        group=int(fields[2]),
        session=int(fields[3]),
    )


def _tty(device: int) -> str:
    major, minor = os.major(device), os.minor(device)
    if major in _PTY_MAJORS:
        return f"pts/{minor + 256 * (major - _PTY_MAJORS.start)}"
    return f"tty{minor}" if major == _CONSOLE_MAJOR else "?"


def user_name(uid: int) -> str:
    """Give the host's name for a user, or the number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
