"""Connections of urllib3 that tell their owner when they are open, so that it can end them, and read within bounds."""

from collections.abc import Callable
from http.client import HTTPResponse, IncompleteRead
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Answer(HTTPResponse):
    def _safe_read(self, amt: int) -> bytes:
        # A chunk of "-1" bytes would be read as everything that ever comes, into memory.
        if amt < 0:
            raise IncompleteRead(b"")
        data: bytes = super()._safe_read(amt)  # type: ignore[misc]
        return data


def pool_classes(opened: Callable[[HTTPConnection], object]) -> dict[str, Any]:
    """Give classes of pools, by scheme, whose connections call `opened`."""

    class Plain(HTTPConnection):
        response_class = _Answer

        def connect(self) -> None:
            super().connect()
            opened(self)

    class Secure(HTTPSConnection):
        response_class = _Answer

        def connect(self) -> None:
            super().connect()
            # An insecure endpoint is one on purpose: urllib3 need not warn at each request.
            self.is_verified = True
            opened(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
