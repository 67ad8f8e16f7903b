"""The ports of EXPOSE: `80`, `80/udp`, `8000-8010`, and with what a `docker run -p` would have before them."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from onggi.base.errors import InvalidArgument

from .quoting import quote

_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_MAX_PORT: Final = 65535


def parse_ports(words: Iterable[str]) -> tuple[str, ...]:
    """Give `80/tcp` for each port, in the order given; a range becomes its ports. Raises InvalidArgument."""
    return tuple(port for word in words for port in _ports(word))


def _ports(word: str) -> list[str]:
    before, _, container = word.rpartition(":")
    address, _, host = before.rpartition(":")
    ports, _, protocol = container.partition("/")
    if not ports:
        raise InvalidArgument(f"invalid port: {quote(word)}: no port specified")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidArgument(f"invalid port: {quote(word)}: invalid proto: {protocol}")
    if address:
        _check_address(address)
    first, last = _range(ports, "containerPort")
    if host:
        host_first, host_last = _range(host, "hostPort")
        if last != first and host_last - host_first != last - first:
            raise InvalidArgument(f"invalid ranges specified for container and host Ports: {ports} and {host}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _check_address(text: str) -> None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ip_address(bare)
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {bare}") from None


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = (first, last) if dash else (first, first)
    if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
        raise InvalidArgument(f"invalid {what}: {text}")
    low, high = (int(number) for number in numbers)
    if not low <= high <= _MAX_PORT:
        raise InvalidArgument(f"invalid {what}: {text}")
    return low, high
