"""Small reads and writes of cgroupfs, and waiting for it."""

import errno
import os
import select
import time
from collections.abc import Callable
from typing import Final

from onggi.base.errors import NotFound, PermissionDenied

PATIENCE_S: Final = 10.0
PAUSE_S: Final = 0.001
LONGEST_PAUSE_S: Final = 0.05


def read(path: str) -> str:
    """Read a small file; "" when it is not there (ENOENT), its cgroup is just going (ENODEV) or it is switched off."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def read_number(path: str) -> int | None:
    """Read one number; None for `max` and for a file that is not there."""
    text = read(path).strip()
    return int(text) if text.isdecimal() else None


def read_pairs(path: str) -> dict[str, int]:
    """Read lines of a key and a number."""
    rows = (line.split() for line in read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}


def write(path: str, data: bytes) -> None:
    """Write in one write(2), as these files want it; OSError as the kernel gives it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def write_or_explain(path: str, data: bytes, step: str, *, if_empty: bool = False) -> None:
    """Write, with `if_empty` only where nothing is said yet, and say in a sentence what was in the way."""
    try:
        if not (if_empty and read(path).strip()):
            write(path, data)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            raise NotFound(f"{step} {path}: the cgroup is gone; its container has ended") from error
        raise PermissionDenied(f"{step} {path}: {words(error)}; run as root on the host") from error


def words(error: OSError) -> str:
    """Give the kernel's reason for the middle of a sentence."""
    return os.strerror(error.errno or 0).lower()


def wait_until(attempt: Callable[[], bool], deadline: float) -> bool:
    """Try again until it succeeds or the time (time.monotonic) has come."""
    pause = PAUSE_S
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)
    return True


def wait_for_event(directory: str, name: str, value: int, deadline: float) -> bool:
    """Wait until cgroup.events of a v2 cgroup says so; the kernel tells of each change (cgroups(7))."""
    try:
        events = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while f"{name} {value}\n" not in (text := os.pread(events, 4096, 0).decode()):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or (name == "frozen" and "populated 0\n" in text):
                return False
            poll.poll(min(remaining, LONGEST_PAUSE_S) * 1000)  # of its removal the kernel does not tell
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False  # the cgroup went away meanwhile
    finally:
        os.close(events)
    return True
