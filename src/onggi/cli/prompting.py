"""Questions to a user at a terminal: a line with echo or without, and what is piped in."""

import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from onggi.base.errors import InvalidArgument
from onggi.cli.caller import Caller

MAX_BYTES: Final = 1 << 16


def ask(caller: Caller, question: str, *, fd: int = 0) -> str:
    """Ask for a line; gives it without the blanks around it."""
    caller.out(question)
    return _text(_line(fd)).strip()


def ask_secret(caller: Caller, question: str, *, fd: int = 0) -> str:
    """Ask for a line that the terminal does not show."""
    with _without_echo(fd):
        caller.out(question)
        answer = _text(_line(fd)).strip()
    caller.out("\n")
    return answer


def read_piped(what: str, *, fd: int = 0) -> str:
    """Read stdin to its end, but for one line ending there; `what` names it in the error for one that is too long."""
    data = bytearray()
    while chunk := os.read(fd, MAX_BYTES):
        data += chunk
        if len(data) > MAX_BYTES:
            raise InvalidArgument(f"{what}: more than {MAX_BYTES} bytes")
    return _text(bytes(data)).removesuffix("\n").removesuffix("\r")


def _line(fd: int) -> bytes:
    line = bytearray()
    while len(line) < MAX_BYTES and (byte := os.read(fd, 1)) and byte != b"\n":
        line += byte
    return bytes(line)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextmanager
def _without_echo(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    silent = termios.tcgetattr(fd)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)
