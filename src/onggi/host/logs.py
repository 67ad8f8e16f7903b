"""Logs of the json-file driver, as the supervisor writes them: `json.log`, older ones in `json.log.1`, `.2`, …"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO, Final, Literal

import msgspec

from onggi.base.units import parse_time

_POLL_S: Final = 0.05
_MAX_FILES: Final = 1000


class LogLine(msgspec.Struct, frozen=True):
    """One record: its text with the newline, the stream, and the time as written (RFC 3339)."""

    log: str = ""
    stream: Literal["stdout", "stderr"] = "stdout"
    time: str = ""


_DECODER: Final = msgspec.json.Decoder(LogLine)


def read_logs(
    path: str, *, tail: int | None, since_ns: int, until_ns: int | None = None, alive: Callable[[], bool] | None
) -> Iterator[LogLine]:
    """Give the records in order; with `alive`, go on until it says no and nothing more is written.

    Of a time that is given, only the records from `since_ns` on and up to `until_ns` are wanted.
    """
    current = _open(path, alive)
    if current is None:
        return
    with current:
        lines = _wanted(chain(_older(path), _complete(current)), since_ns, until_ns)
        if tail is None:
            yield from lines
        else:
            yield from deque(lines, maxlen=tail)
        if alive is not None:
            yield from _wanted(_follow(path, current, alive), since_ns, until_ns)


def _open(path: str, alive: Callable[[], bool] | None) -> BinaryIO | None:
    """Open a log; one that is to be followed may not have been begun yet."""
    while True:
        ended = alive is None or not alive()
        try:
            return open(path, "rb")
        except FileNotFoundError:
            if ended:
                return None
        time.sleep(_POLL_S)


def _older(path: str) -> Iterator[bytes]:
    """Read the rotated files, oldest first."""
    names = []
    for number in range(1, _MAX_FILES):
        if not os.path.exists(f"{path}.{number}"):
            break
        names.append(f"{path}.{number}")
    for name in reversed(names):
        try:
            with open(name, "rb") as file:
                yield from file
        except FileNotFoundError:
            continue


def _complete(file: BinaryIO) -> Iterator[bytes]:
    """Read what is there in whole lines, leaving the position after the last of them."""
    place = file.tell()
    for line in iter(file.readline, b""):
        if not line.endswith(b"\n"):
            file.seek(place)
            return
        place += len(line)
        yield line


def _follow(path: str, current: BinaryIO, alive: Callable[[], bool]) -> Iterator[bytes]:
    """Read on, over rotations, until nobody writes any more."""
    file = current
    try:
        while True:
            ended = not alive()
            yield from _complete(file)
            if _rotated(path, file):
                yield from _complete(file)
                following = open(path, "rb")  # noqa: SIM115
                file.close()
                file = following
            elif ended:
                return
            else:
                time.sleep(_POLL_S)
    finally:
        file.close()


def _rotated(path: str, file: BinaryIO) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def _wanted(lines: Iterator[bytes], since_ns: int, until_ns: int | None) -> Iterator[LogLine]:
    for line in lines:
        if not line.strip():
            continue
        try:
            record = _DECODER.decode(line)
        except msgspec.MsgspecError:
            continue  # half a line: the supervisor was killed while writing it
        if since_ns and parse_time(record.time) < since_ns:
            continue
        if until_ns is not None and parse_time(record.time) > until_ns:
            return
        yield record
