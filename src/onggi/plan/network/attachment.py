"""A container's part of a bridge network: the lines of its plan.

    before   hold the published ports of the host (first of all: a taken one fails before anything is made)
    beside   the link; then, inside the container's namespace, addresses and routes; then the ports, open at last
    after    close the ports and let them go, before the exit is told: the next start may take them at once

The link itself is not removed: it goes with the network namespace, when the kernel has
time for that; an explicit removal would wait for a grace period (24 ms).
"""

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

import msgspec

from onggi.plan import abi
from onggi.plan.network import links
from onggi.plan.network.netlink import NLM_F_ACK, Parts, attribute, flatten, join, message, nest, u32
from onggi.plan.network.nftables import Element, batch
from onggi.plan.network.table import PROTOCOLS, add_elements, element, remove_elements
from onggi.plan.ops import Bind, Close, LinkHole, Netlink, Op, OpenPath, SetNamespace, SlotHole
from onggi.spec.ports import PublishedPort

GATEWAY_NUMBER: Final = 1
_NETNS: Final = "hold-network"
_OWN: Final = "own-network"

# ctnetlink (linux/netfilter/nfnetlink_conntrack.h; the filter's bits are in the kernel's nf_internals.h)
_CT_DELETE: Final = 1 << 8 | 2
_CTA_TUPLE_ORIG: Final = 1
_CTA_TUPLE_PROTO: Final = 2
_CTA_PROTO_NUM: Final = 1
_CTA_PROTO_DST_PORT: Final = 3
_CTA_FILTER: Final = 25
_CTA_FILTER_ORIG_FLAGS: Final = 1
_BY_PROTOCOL_AND_PORT: Final = 1 << 3 | 1 << 5


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A container at a bridge: `number` is its place in both subnets, `link` the bridge's end of the pair."""

    table: str
    bridge: str
    bridge_index: int
    mtu: int
    link: str
    number: int
    subnet4: IPv4Network
    subnet6: IPv6Network | None = None
    ports: tuple[PublishedPort, ...] = ()

    @property
    def address4(self) -> IPv4Address:
        """The container's IPv4 address."""
        return self.subnet4[self.number]

    @property
    def address6(self) -> IPv6Address | None:
        """Its IPv6 address, where the network has IPv6."""
        return None if self.subnet6 is None else self.subnet6[self.number]

    @property
    def mac(self) -> bytes:
        """Its MAC address: the same for the same IPv4 address, so that no neighbour remembers a wrong one."""
        return mac_address(self.address4)

    def elements(self) -> tuple[Element, ...]:
        """Give the elements of the table's maps that publish its ports."""
        return tuple(element(port, str(self.address6 if ":" in port.host_ip else self.address4)) for port in self.ports)


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a network adds to the sections of a container's plan."""

    before: tuple[Op, ...] = ()
    beside: tuple[Op, ...] = ()
    after: tuple[Op, ...] = ()


def mac_address(address: IPv4Address) -> bytes:
    """Give the locally administered MAC address that belongs to an IPv4 address."""
    return b"\x02\x6f" + address.packed


def plan_attachment(at: Attachment) -> NetworkPlan:
    """Plan a container's network. Its plan must make the network namespace, and hold it as `hold-network`."""
    binds = [
        Bind(slot=f"port{number}", datagram=port.protocol == "udp", address=port.host_ip, port=port.host_port)
        for number, port in enumerate(at.ports)
    ]
    beside: list[Op] = [
        _plan_link(at),
        SetNamespace(slot=_NETNS, types=abi.CLONE_NEWNET),
        _plan_address(at.address4, at.subnet4, up=True),
    ]
    if at.subnet6 is not None and at.address6 is not None:
        # A container may be without IPv6, by a sysctl of its own.
        beside.append(_plan_address(at.address6, at.subnet6, tolerate=(abi.EACCES, abi.EOPNOTSUPP, abi.EPERM)))
    beside.append(SetNamespace(slot=_OWN, types=abi.CLONE_NEWNET))
    after: list[Op] = []
    if elements := at.elements():
        opening = batch(add_elements(at.table, elements))
        closing = batch(remove_elements(at.table, elements))
        shown = ", ".join(f"{show_port(port)} to {port.container_port}" for port in at.ports)
        beside.append(_nft(opening, f"publish {shown} of {at.address4} in table {at.table}"))
        # The socket stays open until the launcher leaves: nobody waits for it then.
        text = f"publish {shown} no longer"
        after.append(_nft(closing, text, tolerate=(abi.ENOENT,), keep="nf_tables"))
        beside += _plan_forgetting(at.ports)
        after += [Close(slot=bind.slot) for bind in binds]
    before = (*binds, OpenPath(slot=_OWN, path="/proc/self/ns/net", flags=abi.OPEN_READ))
    return NetworkPlan(before=before, beside=tuple(beside), after=tuple(after))


def show_port(port: PublishedPort) -> str:
    """Write a published port as people do: `0.0.0.0:8080/tcp`."""
    address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"{address}:{port.host_port}/{port.protocol}"


def _plan_link(at: Attachment) -> Netlink:
    netns = SlotHole(slot=_NETNS, binary=True)
    messages = [links.new_veth(at.link, bridge=at.bridge_index, mtu=at.mtu, mac=at.mac, netns=netns)]
    text = f"make {at.link} a port of {at.bridge}, its other end eth0 in %{_NETNS}, {_show_mac(at.mac)}"
    if at.ports:
        messages.append(links.set_hairpin(at.link))
        text += ", hairpin"
    return Netlink(family=abi.NETLINK_ROUTE, messages=join(messages), count=len(messages), text=text)


def _plan_address(
    address: IPv4Address | IPv6Address,
    subnet: IPv4Network | IPv6Network,
    *,
    up: bool = False,
    tolerate: tuple[int, ...] = (),
) -> Netlink:
    gateway = subnet[GATEWAY_NUMBER]
    messages = [
        *([links.set_up("eth0")] if up else []),
        links.new_address(LinkHole(), address.packed, subnet.prefixlen),
        links.default_route(gateway.packed),
    ]
    text = f"eth0 {'up, ' if up else ''}has {address}/{subnet.prefixlen}, route by {gateway}"
    count = len(messages)
    return Netlink(family=abi.NETLINK_ROUTE, messages=join(messages), count=count, text=text, tolerate=tolerate)


def _plan_forgetting(ports: tuple[PublishedPort, ...]) -> list[Op]:
    """Forget flows of UDP that began before: conntrack would lead them on to where nobody is any more."""
    wanted = dict.fromkeys((":" in port.host_ip, port.host_port) for port in ports if port.protocol == "udp")
    return [
        Netlink(
            family=abi.NETLINK_NETFILTER,
            messages=join([forget_flows(six=six, port=port)]),
            count=1,
            text=f"forget flows to udp port {port} of {'IPv6' if six else 'IPv4'}",
            # A kernel that cannot choose by port (before 5.19) keeps them until they expire.
            tolerate=(abi.ENOENT, abi.EINVAL, abi.EOPNOTSUPP),
        )
        for six, port in wanted
    ]


def forget_flows(*, six: bool, port: int) -> Parts:
    """Ask conntrack to forget what was sent to a UDP port, whatever the addresses."""
    family = links.AF_INET6 if six else links.AF_INET
    protocol = nest(
        _CTA_TUPLE_PROTO,
        attribute(_CTA_PROTO_NUM, bytes([PROTOCOLS["udp"]])),
        attribute(_CTA_PROTO_DST_PORT, struct.pack(">H", port)),
    )
    only = nest(_CTA_FILTER, u32(_CTA_FILTER_ORIG_FLAGS, _BY_PROTOCOL_AND_PORT))
    head = struct.pack(">BBH", family, 0, 0)
    return message(_CT_DELETE, NLM_F_ACK, head, *flatten(nest(_CTA_TUPLE_ORIG, protocol), only))


def _nft(messages: list[Parts], text: str, *, tolerate: tuple[int, ...] = (), keep: str | None = None) -> Netlink:
    return Netlink(
        family=abi.NETLINK_NETFILTER,
        messages=join(messages),
        count=len(messages) - 2,  # the two edges of the batch are not acknowledged
        text=text,
        tolerate=tolerate,
        keep=keep,
    )


def _show_mac(mac: bytes) -> str:
    return mac.hex(":")
