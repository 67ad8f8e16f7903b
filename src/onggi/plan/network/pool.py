"""Subnets for bridge networks: private ones that the host neither has nor routes to.

The first candidates are parts of 10.0.0.0/8 that few use, then what else RFC 1918 has.
A route of fewer than eight bits is a default route under another name (a VPN's two
halves) and takes nothing.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from onggi.base.errors import FailedPrecondition

_SHORTEST: Final = 8
_HIGH_TENS: Final = range(201, 255)


def choose_subnet(taken: Iterable[IPv4Network], seed: int) -> IPv4Network:
    """Choose a subnet that overlaps none of those `taken`; `seed` is where to begin, so that two roots differ.

    Raises FailedPrecondition where none is left.
    """
    busy = list(taken)
    for candidate in _candidates(seed):
        if not any(overlaps(candidate, network) for network in busy):
            return candidate
    raise FailedPrecondition(
        "could not find an available, non-overlapping IPv4 address pool: the routes of this host cover all of "
        "10.201.0.0-10.254.255.255, 172.16.0.0/12 and 192.168.0.0/16; use --network host or --network none"
    )


def overlaps(subnet: IPv4Network, taken: IPv4Network) -> bool:
    """Tell whether a route takes a subnet, or a part of it."""
    return taken.prefixlen >= _SHORTEST and subnet.overlaps(taken)


def unique_prefix(random: bytes) -> IPv6Network:
    """Make a unique local prefix of five random bytes (RFC 4193)."""
    return IPv6Network((b"\xfd" + random + bytes(10), 64))


def _candidates(seed: int) -> Iterator[IPv4Network]:
    for step in range(len(_HIGH_TENS)):
        yield IPv4Network(f"10.{_HIGH_TENS[(seed + step) % len(_HIGH_TENS)]}.0.0/16")
    for second in range(31, 15, -1):
        yield IPv4Network(f"172.{second}.0.0/16")
    for third in range(255, -1, -1):
        yield IPv4Network(f"192.168.{third}.0/24")
