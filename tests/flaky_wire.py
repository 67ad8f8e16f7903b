"""A wire to a server that counts what comes over it, and cuts, holds back and spoils as it is told."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

_PIECE: Final = 16 << 10

Spoil = Callable[[bytes], bytes | None]
"""What becomes of the next bytes from the server; None cuts the connection."""


class FlakyWire:
    """Listens on loopback and passes everything on to `target`, a `host:port`."""

    def __init__(self, target: str, address: str = "127.0.0.1") -> None:
        """Pass on what `plan` lets pass: it is asked for each connection what becomes of what the server says."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self.host = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self.plan: Callable[[], Spoil] = lambda: lambda data: data
        self.received_bytes = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "FlakyWire":
        """Begin."""
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Cut everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _begin(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._begin(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far:
            with self._lock:
                self._sockets |= {near, far}
            there = threading.Thread(target=self._pass_on, args=(near, far, bytes))
            there.start()
            self._pass_on(far, near, self.plan(), counted=True)
            there.join()
            with self._lock:
                self._sockets -= {near, far}

    def _pass_on(self, source: socket.socket, sink: socket.socket, spoil: Spoil, *, counted: bool = False) -> None:
        with contextlib.suppress(OSError):
            for data in _pieces(source):
                passed = spoil(data)
                if passed is None:
                    break
                if counted:
                    with self._lock:
                        self.received_bytes += len(passed)
                sink.sendall(passed)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _pieces(source: socket.socket) -> Iterator[bytes]:
    while data := source.recv(_PIECE):
        yield data
