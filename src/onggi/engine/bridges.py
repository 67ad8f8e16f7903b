"""The bridge of a state root on this host: made when the first container needs it, and seen to be right at every start.

What it consists of: a link with the gateways' addresses, a table of nf_tables, a few
sysctls, and two accepts in the chains of others where those drop what they do not
know. Link and table stay until `system reset`; the accepts leave with the last container.

IPv6 is a matter of the host: a network has it where the host has it and may forward it.
To begin with forwarding makes the kernel forget default routes that it had learned from
routers; where it has one, it is left alone, and the network is IPv4 only.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

import msgspec

from onggi.base.errors import Conflict, PermissionDenied
from onggi.engine.context import Context
from onggi.host import firewall
from onggi.host.hostfiles import read_host_file
from onggi.host.links import (
    Device,
    Link,
    act,
    default_mtu,
    find_link,
    forward_ipv6,
    has_advertised_default_route,
    list_addresses,
    list_routes,
    look_at_link,
    read_sysctl,
    write_sysctl,
)
from onggi.host.locks import Lock, take_lock
from onggi.plan.network import Attachment, Bridged, Table, links, pool
from onggi.plan.network.attachment import GATEWAY_NUMBER, mac_address
from onggi.plan.network.nftables import Element
from onggi.spec.resolv import parse_resolv
from onggi.store.networks import Endpoint, Network

BRIDGE: Final = "bridge"
"""The name of the network that containers get unless they ask for another."""

_LOCK_TIMEOUT_S: Final = 30.0
_ATTEMPTS: Final = 4
_UNSET_INDEX: Final = 0


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """A bridge as it stands: `subnet6` is None where there is no IPv6; `loopback6`: ::1 leads to containers too."""

    name: str
    table: str
    index: int
    mtu: int
    subnet4: IPv4Network
    subnet6: IPv6Network | None
    loopback6: bool


def bridge_name(context: Context) -> str:
    """Give the name of this root's bridge: at most 15 characters."""
    return f"onggi0{context.suffix}"


def table_name(context: Context) -> str:
    """Give the name of this root's table of nf_tables."""
    return f"onggi{context.suffix}"


def lock_network(context: Context) -> Lock:
    """Exclude others while the network of this root is changed. Taken after a container's lock, never before."""
    return take_lock(f"{context.run}/network.lock", "the network", timeout_s=_LOCK_TIMEOUT_S)


def ensure_bridge(context: Context) -> Bridge:
    """Make what is missing of the bridge and all that belongs to it. The caller holds the network's lock."""
    name = bridge_name(context)
    network = context.networks.get(BRIDGE)
    link: Device | Link | None = look_at_link(name)
    if network is None or link is None:
        network, link = _make(context, name, network)
    subnet4, subnet6 = IPv4Network(network.subnet4), IPv6Network(network.subnet6)
    write_sysctl("ipv4/ip_forward", "1")
    # What the table's chain `guard` is for.
    write_sysctl(f"ipv4/conf/{name}/route_localnet", "1")
    ipv6 = _ensure_ipv6(name)
    _ensure_addresses(link, subnet4, subnet6 if ipv6 else None)
    bridge = Bridge(
        name=name,
        table=table_name(context),
        index=link.index,
        mtu=link.mtu,
        subnet4=subnet4,
        subnet6=subnet6 if ipv6 else None,
        loopback6=ipv6 and _may_reach_loopback6(),
    )
    _ensure_filter(context, bridge, network)
    return bridge


def _ensure_filter(context: Context, bridge: Bridge, network: Network) -> None:
    """See that table and accepts are there: not once more if nothing has changed since they were."""
    wanted = wanted_table(bridge)
    now = None if firewall.is_legacy() else (wanted, firewall.generation())
    if now is not None and context.filtered == now:
        return
    elements = [
        element for endpoint in context.networks.endpoints(BRIDGE) for element in elements_of(network, endpoint)
    ]
    firewall.ensure_table(wanted, context.root.path, elements)
    firewall.ensure_accepts(bridge.name)
    context.filtered = now


def wanted_table(bridge: Bridge) -> Table:
    """Give the table that a bridge needs."""
    network = Bridged(bridge=bridge.name, subnet4=bridge.subnet4, subnet6=bridge.subnet6)
    return Table(name=bridge.table, networks=(network,), loopback6=bridge.loopback6)


def preview_bridge(context: Context) -> Bridge:
    """Give the bridge as it is or would be, for explanations; makes nothing."""
    name = bridge_name(context)
    network, link = context.networks.get(BRIDGE), find_link(name)
    if network is None:
        network = _choose(context, None, [])
    ipv6 = may_have_ipv6()
    return Bridge(
        name=name,
        table=table_name(context),
        index=_UNSET_INDEX if link is None else link.index,
        mtu=default_mtu() if link is None else link.mtu,
        subnet4=IPv4Network(network.subnet4),
        subnet6=IPv6Network(network.subnet6) if ipv6 else None,
        loopback6=ipv6 and _may_reach_loopback6(),
    )


def attachment_of(bridge: Bridge, endpoint: Endpoint) -> Attachment:
    """Say how an endpoint is attached to the bridge."""
    return Attachment(
        table=bridge.table,
        bridge=bridge.name,
        bridge_index=bridge.index,
        mtu=bridge.mtu,
        link=endpoint.link,
        number=endpoint.number,
        subnet4=bridge.subnet4,
        subnet6=bridge.subnet6,
        ports=endpoint.ports,
    )


def elements_of(network: Network, endpoint: Endpoint) -> tuple[Element, ...]:
    """Give the elements of the table that an endpoint's ports are."""
    return _as_attachment(network, endpoint).elements()


def may_have_ipv6() -> bool:
    """Tell whether this host has IPv6, and forwards it or may begin to without losing a route."""
    if read_sysctl("ipv6/conf/all/disable_ipv6") != "0":
        return False
    return read_sysctl("ipv6/conf/all/forwarding") == "1" or not has_advertised_default_route()


def _may_reach_loopback6() -> bool:
    """With br_netfilter, answers are turned back to ::1 while still on the bridge, and then dropped as foreign."""
    return read_sysctl("bridge/bridge-nf-call-ip6tables") != "1"


def withdraw_if_idle(context: Context) -> None:
    """Take our accepts out of the chains of others if no container is attached any more."""
    with lock_network(context):
        if not context.networks.endpoints(BRIDGE):
            firewall.remove_accepts(bridge_name(context))


def remove_bridge(context: Context) -> None:
    """Remove the bridge and all that belongs to it."""
    name = bridge_name(context)
    with lock_network(context):
        firewall.remove_accepts(name)
        firewall.remove_table(table_name(context))
        if link := find_link(name):
            act(f"remove the bridge {name}", links.delete_link(link.index))


# -- making ----------------------------------------------------------------------------------------


def _make(context: Context, name: str, known: Network | None) -> tuple[Network, Link]:
    """Make the link, with a subnet that nobody else has, not even another root that does the same just now."""
    avoided: list[IPv4Network] = []
    for _ in range(_ATTEMPTS):
        network = _choose(context, known, avoided)
        subnet = IPv4Network(network.subnet4)
        gateway = subnet[GATEWAY_NUMBER]
        if (old := find_link(name)) is not None:
            act(f"remove the bridge {name}, which is not recorded", links.delete_link(old.index))
        act(f"make the bridge {name}", links.new_bridge(name, mac=mac_address(gateway), mtu=default_mtu()))
        link = find_link(name)
        if link is None:
            break
        act(
            f"give the bridge {name} the address {gateway}",
            links.new_address(link.index, gateway.packed, subnet.prefixlen),
            links.link_up(link.index),
        )
        if not _taken_by_others(subnet, link):
            if network != known:
                context.networks.put(network)
            _reconnect(context, link)
            return network, link
        act(f"remove the bridge {name}", links.delete_link(link.index))
        avoided.append(subnet)
    raise Conflict(f"the bridge {name} or its addresses are being changed by somebody else; try again")


def _reconnect(context: Context, link: Link) -> None:
    """Make the links of running containers ports of the bridge again; somebody removed it under them."""
    for endpoint in context.networks.endpoints(BRIDGE):
        if find_link(endpoint.link) is not None:
            act(f"make {endpoint.link} a port of {link.name}", links.set_master(endpoint.link, link.index))


def _choose(context: Context, known: Network | None, avoided: list[IPv4Network]) -> Network:
    """Keep the subnets that are recorded while they are free, else choose others."""
    taken = [route.destination for route in list_routes()]
    for server in parse_resolv(read_host_file("/etc/resolv.conf")).servers:
        try:
            address = ip_address(server)
        except ValueError:
            continue
        taken += [IPv4Network(address)] if address.version == 4 else []
    taken += avoided
    if known is not None and not any(pool.overlaps(IPv4Network(known.subnet4), network) for network in taken):
        return known
    # The default root begins at the first candidate, others anywhere: they seldom try the same one at once.
    seed = int(context.suffix[1:] or "0", 16)
    return Network(
        name=BRIDGE,
        bridge=bridge_name(context),
        subnet4=str(pool.choose_subnet(taken, seed)),
        subnet6=str(pool.unique_prefix(context.random(5))),
        created_ns=context.root.clock_ns(),
    )


def _taken_by_others(subnet: IPv4Network, link: Link) -> bool:
    return any(
        route.link not in (0, link.index) and pool.overlaps(subnet, route.destination) for route in list_routes()
    )


def _ensure_ipv6(name: str) -> bool:
    if not may_have_ipv6():
        return False
    try:
        write_sysctl(f"ipv6/conf/{name}/disable_ipv6", "0")
        # No router lives on our bridge, whatever a container may say (CVE-2020-13401).
        write_sysctl(f"ipv6/conf/{name}/accept_ra", "0")
        # Without a link-local address that it may use at once it could not look for containers in its first seconds.
        write_sysctl(f"ipv6/conf/{name}/accept_dad", "0")
        forward_ipv6(name)
    except PermissionDenied:
        return False
    return True


def _ensure_addresses(link: Device | Link, subnet4: IPv4Network, subnet6: IPv6Network | None) -> None:
    present = {address for index, address, _ in list_addresses() if index == link.index}
    missing = [
        links.new_address(link.index, subnet[GATEWAY_NUMBER].packed, subnet.prefixlen)
        for subnet in (subnet4, subnet6)
        if subnet is not None and subnet[GATEWAY_NUMBER] not in present
    ]
    if subnet6 is not None and missing:
        missing.append(links.loopback_route(link.index))
    if not link.up:
        missing.append(links.link_up(link.index))
    if missing:
        act(f"give the bridge {link.name} its addresses", *missing)


def _as_attachment(network: Network, endpoint: Endpoint) -> Attachment:
    return Attachment(
        table="",
        bridge=network.bridge,
        bridge_index=_UNSET_INDEX,
        mtu=0,
        link=endpoint.link,
        number=endpoint.number,
        subnet4=IPv4Network(network.subnet4),
        subnet6=IPv6Network(network.subnet6),
        ports=endpoint.ports,
    )
