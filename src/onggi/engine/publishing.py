"""Which ports of the host a container gets: what it asked for, with numbers where it left the choice to us."""

from collections.abc import Callable, Sequence
from typing import Final

from onggi.base.errors import Conflict, FailedPrecondition
from onggi.engine.bridges import Bridge
from onggi.host.ports import find_any_port, find_port_among
from onggi.spec.container import ContainerRequest
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.ports import PortRequest, PublishedPort, parse_exposed

_EVERY4: Final = "0.0.0.0"
_EVERY6: Final = "::"

Taken = Callable[[str], set[int]]
"""The ports of a protocol that are published already."""


def exposed_ports(request: ContainerRequest, image: ImageDefaults) -> tuple[tuple[int, str], ...]:
    """List what the request and its image expose, in order."""
    every = [*request.exposed, *(image.exposed_ports or ())]
    return tuple(sorted({port for text in every for port in parse_exposed(text)}))


def wanted_ports(request: ContainerRequest, image: ImageDefaults) -> tuple[PortRequest, ...]:
    """List the ports to publish: `-p`, and with `-P` what is exposed and was not named."""
    if not request.publish_all:
        return tuple(dict.fromkeys(request.ports))
    named = {(port.container_port, port.protocol) for port in request.ports}
    exposed = exposed_ports(request, image)
    rest = [PortRequest(container_port=port, protocol=kind) for port, kind in exposed if (port, kind) not in named]
    return tuple(dict.fromkeys((*request.ports, *rest)))


def choose_ports(wanted: Sequence[PortRequest], bridge: Bridge, taken: Taken) -> tuple[PublishedPort, ...]:
    """Give every port its addresses and number; those left to us are free at this moment. Raises Conflict."""
    chosen: list[PublishedPort] = []
    for request in wanted:
        addresses = addresses_of(request, bridge)
        mine = {port.host_port for port in chosen if port.protocol == request.protocol}
        number = _number(request, addresses, taken(request.protocol) | mine if is_open(request) else set())
        chosen += [
            PublishedPort(
                protocol=request.protocol, host_ip=address, host_port=number, container_port=request.container_port
            )
            for address in addresses
        ]
    return tuple(chosen)


def is_open(request: PortRequest) -> bool:
    """Tell whether the number of the host's port is left to us."""
    return not request.host_port or bool(request.host_port_last)


def _number(request: PortRequest, addresses: tuple[str, ...], taken: set[int]) -> int:
    if not is_open(request):
        return request.host_port
    if request.host_port_last:
        choices = range(request.host_port, request.host_port_last + 1)
        found = find_port_among(request.protocol, addresses, (port for port in choices if port not in taken))
        where = f"{addresses[0]}:{request.host_port}-{request.host_port_last}"
    else:
        found = find_any_port(request.protocol, addresses, taken)
        where = f"{addresses[0]}:0"
    if found is None:
        raise Conflict(f"Bind for {where} failed: all ports are allocated; free one, or publish others")
    return found


def addresses_of(request: PortRequest, bridge: Bridge) -> tuple[str, ...]:
    """List the addresses of the host that a port is published on. Raises FailedPrecondition."""
    if not request.host_ip:
        return (_EVERY4, _EVERY6) if bridge.subnet6 is not None else (_EVERY4,)
    if ":" in request.host_ip and bridge.subnet6 is None:
        raise FailedPrecondition(
            f"cannot publish a port on {request.host_ip}: this network has no IPv6: this host has none or does not "
            "forward it (sysctl net.ipv6.conf.all.forwarding); publish on an IPv4 address"
        )
    if request.host_ip == "::1" and not bridge.loopback6:
        raise FailedPrecondition(
            "cannot publish a port on ::1 alone while br_netfilter filters bridges (sysctl "
            "net.bridge.bridge-nf-call-ip6tables is 1); publish on 127.0.0.1"
        )
    return (request.host_ip,)
