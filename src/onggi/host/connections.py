"""Connections of urllib3 that tell their owner when they are open, so that it can end them."""

from collections.abc import Callable
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


def pool_classes(opened: Callable[[HTTPConnection], None]) -> dict[str, Any]:
    """Give classes of pools, by scheme, whose connections call `opened`."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            opened(self)

    class Secure(HTTPSConnection):
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
