"""The client side of a supervisor's socket (launcher/launcher.h): signals, sizes, output, and the end."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

from onggi.base.errors import FailedPrecondition, NotSupported, Unavailable

VERSION: Final = 1
STDIN, STDOUT, STDERR = 1, 2, 4
CHUNK: Final = 32768
_PACKET: Final = CHUNK + 16
_END: Final = struct.Struct("=ii")


class Attachment:
    """A connection to the supervisor of one container or exec session."""

    def __init__(self, sock: socket.socket) -> None:
        """Own a connected socket."""
        self._socket = sock
        self._end: tuple[int, int] | None = None

    @classmethod
    def connect(cls, run_directory: str) -> Self:
        """Connect to a running supervisor. Raises FailedPrecondition when there is none."""
        # sun_path has 108 bytes and a state root may be deep: name it through the directory's descriptor.
        try:
            at = os.open(run_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FailedPrecondition("it is not running") from None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(f"/proc/self/fd/{at}/attach")
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            raise FailedPrecondition("it is not running") from None
        except OSError as error:
            sock.close()
            raise Unavailable(f"its supervisor cannot be reached: {error.strerror}") from None
        finally:
            os.close(at)
        return cls(sock)

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """Make a connection for a supervisor that is still to be started; the second end goes to the launcher."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def __enter__(self) -> Self:
        """Give the connection itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection; the container goes on."""
        self._socket.close()

    def hang_up(self) -> None:
        """End the connection, for whatever thread is using it; it is still to be closed."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def fileno(self) -> int:
        """The socket's descriptor, for selectors and to hand it on."""
        return self._socket.fileno()

    def detach(self) -> int:
        """Give the descriptor away."""
        return self._socket.detach()

    def join(self, streams: int) -> None:
        """Take part in stdio: a sum of STDIN, STDOUT, STDERR."""
        self._send(b"a" + bytes([streams]))

    def join_with_control(self, streams: int) -> int:
        """Take part, and give a second descriptor for signals and sizes that overtake queued input."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [b"a" + bytes([streams])], [theirs.fileno()])
        return ours.detach()

    def send_input(self, data: bytes) -> None:
        """Send bytes to stdin."""
        for start in range(0, len(data), CHUNK):
            self._send(b"i" + data[start : start + CHUNK])

    def end_input(self) -> None:
        """Close stdin."""
        self._send(b"e")

    def feed(self, data: bytes) -> None:
        """Send all of stdin and close it; what nobody reads any more is no error."""
        try:
            self.send_input(data)
            self.end_input()
        except FailedPrecondition:
            return

    @property
    def end(self) -> tuple[int, int] | None:
        """How it ended, (exit code, signal), once `output` is exhausted; None when the supervisor is gone."""
        return self._end

    def send_signal(self, number: int) -> None:
        """Send a signal to the container's first process, by the supervisor's pidfd: never to another."""
        self._send(b"s" + bytes([number]))

    def kill_quietly(self) -> None:
        """Kill the container, if it still runs."""
        try:
            self.send_signal(9)
        except FailedPrecondition:
            return

    def resize(self, rows: int, columns: int) -> None:
        """Change the terminal's size."""
        self._send(b"r" + struct.pack("=HH", rows, columns))

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Give (STDOUT or STDERR, bytes) until the end; needs `join`."""
        while (message := self._receive()) is not None:
            kind, data = message
            if kind in (b"o", b"x"):
                yield (STDOUT if kind == b"o" else STDERR), data

    def wait_end(self, timeout_s: float | None = None) -> tuple[int, int] | None:
        """Wait for the end; gives (exit code, signal), None when the supervisor is gone without a word.

        Raises TimeoutError.
        """
        self._socket.settimeout(timeout_s)
        try:
            for _ in self.output():
                pass
        except BlockingIOError:  # what a timeout of zero gives
            raise TimeoutError from None
        finally:
            self._socket.settimeout(None)
        return self._end

    def skip(self) -> bool:
        """Read one message and forget it; False at the end."""
        return self._receive() is not None

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise FailedPrecondition("it is not running") from None

    def _receive(self) -> tuple[bytes, bytes] | None:
        try:
            message = self._socket.recv(_PACKET)
        except ConnectionResetError:
            return None
        if not message:
            return None
        kind, data = message[:1], message[1:]
        if kind == b"q":
            code, signal = _END.unpack(data[: _END.size])
            self._end = code, signal
            return None
        if kind == b"h" and data[0] != VERSION:
            raise NotSupported(
                f"its supervisor speaks version {data[0]} of the protocol, this Onggi version {VERSION}: "
                "it can only be stopped or killed"
            )
        return kind, data
