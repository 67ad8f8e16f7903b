"""Published ports: `-p` in Docker's syntax, `EXPOSE` of an image, and what becomes of both.

    [[IP:][HOST]:]CONTAINER[/PROTOCOL]     HOST and CONTAINER are a port or a range A-B; IPv6 in brackets
    target=80,published=8080,protocol=tcp  the long form

A range of host ports for a single port of the container is a choice: the first that is free.
"""

from ipaddress import IPv6Address, ip_address
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported

PROTOCOLS: Final = ("tcp", "udp")
MAX_PORT: Final = 65535
_LONG: Final = ("target", "published", "protocol", "mode")


class PortRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One port to publish.

    `host_ip` "" is every address, of IPv4 and of IPv6. `host_port` 0 is any free one; with
    `host_port_last` the first free one of a range.
    """

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_port_last: int = 0


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port as it is published: `host_ip` is an address of the host, `0.0.0.0` or `::`."""

    protocol: str
    host_ip: str
    host_port: int
    container_port: int


def parse_publish(text: str) -> tuple[PortRequest, ...]:
    """Read one `-p`; a range gives a port each. Raises InvalidArgument with Docker's texts."""
    if "=" in text:
        return _parse_long(text)
    host_ip, host, container = _split(text)
    container, protocol = _split_protocol(container)
    host_ip = _parse_ip(host_ip)
    if not container:
        raise InvalidArgument(f"no port specified: {text}<empty>")
    return _combine(host_ip, host, container, protocol)


def parse_exposed(text: str) -> tuple[tuple[int, str], ...]:
    """Read `--expose` or a key of the image's ExposedPorts: `80`, `80/udp`, `80-90/tcp`."""
    port, protocol = _split_protocol(text)
    found = _parse_range(port)
    if found is None or found[0] == 0:
        raise InvalidArgument(
            f"invalid range format for --expose: {text}: expected PORT or FIRST-LAST, with /tcp or /udp"
        )
    return tuple((number, _parse_protocol(protocol)) for number in range(found[0], found[1] + 1))


def _split(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) == 1:
        return "", "", text
    if len(parts) == 2:
        return "", parts[0], parts[1]
    return ":".join(parts[:-2]), parts[-2], parts[-1]


def _split_protocol(text: str) -> tuple[str, str]:
    port, _, protocol = text.partition("/")
    return (port, protocol or "tcp") if port else ("", "")


def _parse_ip(text: str) -> str:
    if not text:
        return ""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        if "%" in bare:
            raise ValueError
        address = ip_address(bare)
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {bare}") from None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _parse_protocol(text: str) -> str:
    protocol = text.lower()
    if protocol == "sctp":
        raise NotSupported("publishing sctp ports is not supported by this version of Onggi; tcp and udp are")
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {text}")
    return protocol


def _parse_range(text: str) -> tuple[int, int] | None:
    """Read `A` or `A-B`; None if it is neither."""
    first, dash, last = text.partition("-")
    numbers = [int(part) for part in ((first, last) if dash else (first, first)) if _is_port(part)]
    return (numbers[0], numbers[1]) if len(numbers) == 2 and numbers[0] <= numbers[1] else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_PORT


def _combine(host_ip: str, host: str, container: str, protocol: str) -> tuple[PortRequest, ...]:
    inside = _parse_range(container)
    if inside is None or inside[0] == 0:
        raise InvalidArgument(f"invalid containerPort: {container}")
    outside = _parse_range(host) if host else (0, 0)
    if outside is None:
        raise InvalidArgument(f"invalid hostPort: {host}")
    proto = _parse_protocol(protocol)
    count, choices = inside[1] - inside[0] + 1, outside[1] - outside[0] + 1
    if host and count != choices and count != 1:
        raise InvalidArgument(f"invalid ranges specified for container and host Ports: {container} and {host}")
    return tuple(
        PortRequest(
            container_port=inside[0] + number,
            protocol=proto,
            host_ip=host_ip,
            host_port=outside[0] + number if outside[0] else 0,
            host_port_last=outside[1] if count == 1 and choices > 1 else 0,
        )
        for number in range(count)
    )


def _parse_long(text: str) -> tuple[PortRequest, ...]:
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise InvalidArgument(f"invalid field: {part}")
        if key.lower() not in _LONG:
            raise InvalidArgument(f"invalid field key: {key}")
        fields[key.lower()] = value
    mode = fields.get("mode", "ingress")
    if mode not in ("ingress", "host"):
        raise InvalidArgument(f"invalid publish mode: {mode}")
    target, published = fields.get("target", ""), fields.get("published", "")
    if not target:
        raise InvalidArgument(f"invalid publish opts format (should be name=value but got '{text}'): no target port")
    return _combine("", published, target, fields.get("protocol", "tcp"))
