"""Free ports of this host, found by trying."""

import errno
import socket
from collections.abc import Iterable, Sequence
from typing import Final

_KINDS: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_ATTEMPTS: Final = 64


def find_any_port(protocol: str, addresses: Sequence[str], taken: Iterable[int]) -> int | None:
    """Find a port that is free on all these addresses, as the kernel chooses them (net.ipv4.ip_local_port_range)."""
    busy = set(taken)
    for _ in range(_ATTEMPTS):
        port = _try(protocol, addresses[0], 0)
        if port and port not in busy and all(_try(protocol, address, port) for address in addresses[1:]):
            return port
    return None


def find_port_among(protocol: str, addresses: Sequence[str], candidates: Iterable[int]) -> int | None:
    """Find the first of the `candidates` that is free on all these addresses."""
    for port in candidates:
        if all(_try(protocol, address, port) for address in addresses):
            return port
    return None


def _try(protocol: str, address: str, port: int) -> int:
    """Bind for a moment; gives the port, 0 if it is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, _KINDS[protocol] | socket.SOCK_CLOEXEC) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            # Whatever else is wrong with the address, the launcher's own bind tells.
            return 0 if error.errno == errno.EADDRINUSE else port
        return int(probe.getsockname()[1])
