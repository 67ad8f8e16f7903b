"""Netlink sockets: send the messages that plan/network encodes, read what the kernel answers.

For what outlives containers; a container's own part is sent by the launcher. All is
synchronous: the kernel has queued its answers when send(2) returns, and a dump goes on
as it is read.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from onggi.base.errors import NotSupported, OnggiError, PermissionDenied, Unavailable
from onggi.plan.network.netlink import Parts, plain

ROUTE: Final = 0
NETFILTER: Final = 12

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_SO_SNDBUFFORCE: Final = 32
_ERROR: Final = 2
_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")
_INTERRUPTED: Final = 0x10
_ACK_TLVS: Final = 0x200
_ACK_TEXT: Final = 1
_BUFFER_BYTES: Final = 1 << 18
_ATTEMPTS: Final = 8


class Message(msgspec.Struct, frozen=True):
    """One message of the kernel: its type, its flags, and what follows the header."""

    kind: int
    flags: int
    body: bytes


class Refused(OSError):
    """The kernel's answer to a request was an error; `detail` is what it said beyond the number."""

    def __init__(self, number: int, detail: str = "") -> None:
        """Keep the errno."""
        super().__init__(number, os.strerror(number))
        self.detail = detail

    def explain(self, step: str) -> OnggiError:
        """Make it an error of ours; `step` reads as in `cannot {step}`."""
        words = f"cannot {step}: {os.strerror(self.errno or 0).lower()}" + (f" ({self.detail})" if self.detail else "")
        match self.errno:
            case errno.EPERM | errno.EACCES:
                return PermissionDenied(f"{words}; changing the network needs root (CAP_NET_ADMIN) here")
            case errno.EOPNOTSUPP | errno.EPROTONOSUPPORT | errno.EAFNOSUPPORT:
                return NotSupported(f"{words}; this kernel lacks a part that it needs: veth, bridge or nf_tables")
            case _:
                return Unavailable(f"{words}; `onggi system check` tells more; --network host and none work without")


class Netlink:
    """A netlink socket of one family, for one thread."""

    def __init__(self, family: int) -> None:
        """Open it in this process's network namespace."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        except OSError as error:
            raise Refused(error.errno or errno.EIO) from None
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)

    def __enter__(self) -> Self:
        """Give the socket itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._socket.close()

    def act(self, messages: Sequence[Parts]) -> None:
        """Send requests and see that each is acknowledged. Raises Refused with the first error."""
        data = plain(*messages)
        # A whole table is one transaction, and one datagram; without this right what is small still goes through.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, max(2 * len(data), _BUFFER_BYTES))
        self._send(data)
        for message in list(self._queued()):
            _is_error(message)

    def ask(self, request: Parts) -> list[Message]:
        """Send one request and give the answer. Raises Refused."""
        self._send(plain(request))
        return [message for message in list(self._queued()) if not _is_error(message)]

    def dump(self, request: Parts) -> list[Message]:
        """Send a request for a list and read it to its end; again if it changed meanwhile. Raises Refused."""
        for _ in range(_ATTEMPTS):
            self._send(plain(request))
            found, whole = self._read_dump()
            if whole:
                break
        return found

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise Refused(error.errno or errno.EIO) from None

    def _queued(self) -> Iterator[Message]:
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from _messages(data)

    def _read_dump(self) -> tuple[list[Message], bool]:
        found: list[Message] = []
        whole = True
        while True:
            for message in _messages(self._socket.recv(_BUFFER_BYTES)):
                whole = whole and not message.flags & _INTERRUPTED
                if message.kind == _DONE:
                    return found, whole
                if not _is_error(message):
                    found.append(message)


@contextlib.contextmanager
def doing(step: str) -> Iterator[None]:
    """Make a sentence of what the kernel refuses meanwhile; `step` reads as in `cannot {step}`."""
    try:
        yield
    except Refused as error:
        raise error.explain(step) from None


def read_attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Read the attributes from `offset` on, by number; the flag of nested ones is taken off."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4 or offset + length > len(data):
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def read_list(data: bytes) -> list[bytes]:
    """Read the values of a list of attributes, whatever their numbers."""
    found, offset = [], 0
    while offset + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, offset)
        if length < 4:
            break
        found.append(data[offset + 4 : offset + length])
        offset += length + 3 & ~3
    return found


def read_text(value: bytes | None) -> str:
    """Read a string attribute; "" if it is not there."""
    return (value or b"").split(b"\0", 1)[0].decode("utf-8", "replace")


def _messages(data: bytes) -> Iterator[Message]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, data[offset + _HEADER.size : offset + length])
        offset += length + 3 & ~3


def _is_error(message: Message) -> bool:
    """Raise what an acknowledgement says, unless it says that all is well."""
    if message.kind != _ERROR:
        return False
    (number,) = struct.unpack_from("=i", message.body)
    if number:
        detail = read_attributes(message.body, 4 + _HEADER.size) if message.flags & _ACK_TLVS else {}
        raise Refused(-number, read_text(detail.get(_ACK_TEXT)))
    return True
