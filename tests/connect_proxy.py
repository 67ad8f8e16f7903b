"""A small HTTP proxy that only knows CONNECT, with hosts of its own and perhaps a password."""

import base64
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_PIECE: Final = 64 << 10


class ConnectProxy:
    """Leads to `hosts`: where each `name:port` is. `asked` are the names that were asked for."""

    def __init__(self, hosts: Mapping[str, str], password: str = "") -> None:
        """Let in only those who say `password`, as `user:password`."""
        self.asked: list[str] = []
        wanted = f"Basic {base64.b64encode(password.encode()).decode()}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.asked.append(self.path)
                if password and self.headers.get("Proxy-Authorization") != wanted:
                    return self.send_error(407)
                if self.path not in hosts:
                    return self.send_error(502)
                host, _, port = hosts[self.path].rpartition(":")
                self.send_response(200)
                self.end_headers()
                with socket.create_connection((host, int(port))) as far:
                    back = threading.Thread(target=_copy, args=(far, self.connection))
                    back.start()
                    _copy(self.connection, far)
                    back.join()
                self.close_connection = True
                return None

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "ConnectProxy":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_PIECE):
            sink.sendall(data)
    for sock in (source, sink):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
