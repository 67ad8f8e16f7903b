"""Containers in networks: attached before a start, released after the end, described while they run.

The order in which a kill at any moment does no harm: row, link, element of the packet
filter; back the other way. The supervisor takes out the elements and lets the ports go
before it records the exit, so an endpoint whose owner has an exit record is free,
whatever its row says.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

import msgspec

from onggi.engine.bridges import (
    BRIDGE,
    Bridge,
    attachment_of,
    elements_of,
    ensure_bridge,
    lock_network,
    may_have_ipv6,
    preview_bridge,
    table_name,
    withdraw_if_idle,
)
from onggi.engine.context import Context
from onggi.engine.publishing import addresses_of, choose_ports, is_open, wanted_ports
from onggi.host import firewall
from onggi.host.locks import probe_lock
from onggi.plan.network import Attachment
from onggi.spec.container import ContainerRequest
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.ports import PortRequest, PublishedPort
from onggi.store.networks import Endpoint, PortTaken

_ATTEMPTS: Final = 8
_PREVIEW_LINK: Final = "veth00000"


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A container's place in a network, for those who look; "" for what it has not."""

    network: str
    bridge: str
    address4: str
    prefix4: int
    gateway4: str
    address6: str
    prefix6: int
    gateway6: str
    mac: str
    link: str
    ports: tuple[PublishedPort, ...]


def attach_container(context: Context, id: str, request: ContainerRequest, image: ImageDefaults) -> Attachment:
    """Give a container an address and its ports in the bridge network. The caller holds the container's lock.

    Raises Conflict, with Docker's text, for a port that another container has.
    """
    return _attach(context, id, wanted_ports(request, image), lease=None)


def attach_lease(context: Context, owner: str, lease: str) -> Attachment:
    """Give an address to what belongs to no container but to the lease of a running command (a step of a build)."""
    return _attach(context, owner, (), lease=lease)


def preview_attachment(context: Context, request: ContainerRequest, image: ImageDefaults) -> Attachment:
    """Say how a container would be attached, with stand-ins for what is known only then; nothing is made."""
    bridge = preview_bridge(context)
    ports = tuple(
        PublishedPort(
            protocol=port.protocol, host_ip=address, host_port=port.host_port, container_port=port.container_port
        )
        for port in wanted_ports(request, image)
        for address in addresses_of(port, bridge)
    )
    endpoint = Endpoint(owner="", network=BRIDGE, number=2, link=_PREVIEW_LINK, ports=ports)
    return attachment_of(bridge, endpoint)


def release(context: Context, owner: str, *, link: str | None = None) -> None:
    """Free the address and the ports of what has ended; with `link` only if it is still that start's. Idempotent."""
    endpoint = context.networks.endpoint(owner)
    if endpoint is None or (link is not None and endpoint.link != link):
        return
    network = context.networks.get(endpoint.network)
    if network is not None and endpoint.ports:
        firewall.drop_elements(table_name(context), elements_of(network, endpoint))
    if context.networks.detach(owner, endpoint.link):
        withdraw_if_idle(context)


def release_left(context: Context) -> list[str]:
    """Free what belonged to commands that are gone; gives the containers that have an endpoint, for a closer look."""
    containers = []
    for owner, lease in context.networks.owners():
        if lease is None:
            containers.append(owner)
        elif not context.root.locks("leases").probe(lease):
            release(context, owner)
    return containers


def describe(context: Context, id: str) -> NetworkSettings | None:
    """Say where a container is in the bridge network; None for one that is not."""
    endpoint = context.networks.endpoint(id)
    network = None if endpoint is None else context.networks.get(endpoint.network)
    if endpoint is None or network is None:
        return None
    subnet4 = IPv4Network(network.subnet4)
    subnet6 = IPv6Network(network.subnet6) if may_have_ipv6() else None
    at = Attachment(
        table=table_name(context),
        bridge=network.bridge,
        bridge_index=0,
        mtu=0,
        link=endpoint.link,
        number=endpoint.number,
        subnet4=subnet4,
        subnet6=subnet6,
    )
    return NetworkSettings(
        network=network.name,
        bridge=network.bridge,
        address4=str(at.address4),
        prefix4=subnet4.prefixlen,
        gateway4=str(subnet4[1]),
        address6=str(at.address6 or ""),
        prefix6=subnet6.prefixlen if subnet6 else 0,
        gateway6=str(subnet6[1]) if subnet6 else "",
        mac=at.mac.hex(":"),
        link=endpoint.link,
        ports=endpoint.ports,
    )


def _attach(context: Context, owner: str, wanted: Sequence[PortRequest], *, lease: str | None) -> Attachment:
    link = f"veth{owner[:5]}{context.random(3).hex()}"
    with lock_network(context):
        bridge = ensure_bridge(context)
        endpoint = _claim(context, bridge, owner, link, wanted, lease)
        attachment = attachment_of(bridge, endpoint)
        if elements := attachment.elements():
            # Nobody has these ports. What a supervisor could not take out any more would be in the way.
            firewall.drop_elements(bridge.table, elements)
    return attachment


def _claim(
    context: Context, bridge: Bridge, owner: str, link: str, wanted: Sequence[PortRequest], lease: str | None
) -> Endpoint:
    open_choice = any(is_open(request) for request in wanted)
    attempts = 0
    while True:
        ports = choose_ports(wanted, bridge, context.networks.taken_ports)
        try:
            return context.networks.attach(BRIDGE, owner, link, ports, lease=lease)
        except PortTaken as taken:
            attempts += 1
            if attempts == _ATTEMPTS or not (_free_if_ended(context, taken) or open_choice):
                raise


def _free_if_ended(context: Context, taken: PortTaken) -> bool:
    """Free what only a row still holds: its container has ended, and nobody has come to say so.

    The order decides: a start holds the container's lock until its supervisor holds the run directory's. What starts
    anew meanwhile has another link.
    """
    run = context.run_directory(taken.owner)
    has_ended = context.files.look(f"{run}/exit") is not None
    if not has_ended and (context.root.locks("containers").probe(taken.owner) or probe_lock(f"{run}/lock")):
        return False
    return context.networks.detach(taken.owner, taken.link)
