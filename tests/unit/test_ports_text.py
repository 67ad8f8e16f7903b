"""Ports as `ps` shows them."""

import pytest

from onggi.cli.ports_text import ports_text
from onggi.spec.ports import PublishedPort

ANY, SIX = "0.0.0.0", "::"


def published(*ports: tuple[str, int, int]) -> list[PublishedPort]:
    """Make tcp ports of (address, host port, container port)."""
    return [PublishedPort(protocol="tcp", host_ip=ip, host_port=out, container_port=to) for ip, out, to in ports]


@pytest.mark.parametrize(
    ("ports", "exposed", "expected"),
    [
        ([], set(), ""),
        ([(ANY, 8080, 80), (SIX, 8080, 80)], set(), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([(ANY, 80, 80)], set(), "0.0.0.0:80->80/tcp"),
        ([(ANY, 80, 80), (ANY, 81, 81), (ANY, 82, 82)], set(), "0.0.0.0:80-82->80-82/tcp"),
        ([(ANY, 80, 80), (ANY, 82, 82)], set(), "0.0.0.0:80->80/tcp, 0.0.0.0:82->82/tcp"),
        ([], {(80, "tcp"), (81, "tcp"), (53, "udp")}, "53/udp, 80-81/tcp"),
        ([(ANY, 8080, 80)], {(80, "tcp"), (99, "tcp")}, "99/tcp, 0.0.0.0:8080->80/tcp"),
        ([(ANY, 80, 80), (SIX, 80, 80), (ANY, 81, 81), (SIX, 81, 81)], set(),
         "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp"),
    ],
)  # fmt: skip
def test_ports(ports: list[tuple[str, int, int]], exposed: set[tuple[int, str]], expected: str) -> None:
    assert ports_text(published(*ports), exposed) == expected
