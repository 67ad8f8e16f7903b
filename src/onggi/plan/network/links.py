"""Links, addresses and routes as rtnetlink messages (rtnetlink(7), linux/if_link.h, linux/if_bridge.h).

Addresses and gateways are packed: four bytes of IPv4, sixteen of IPv6.
"""

import struct
from typing import Final

from onggi.plan.network.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Parts,
    attribute,
    flatten,
    message,
    nest,
    text,
    u32,
)
from onggi.plan.ops import LinkHole, Part, SlotHole

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26

IFF_UP: Final = 1
LOOPBACK_INDEX: Final = 1
AF_UNSPEC: Final = 0
AF_INET: Final = 2
AF_INET6: Final = 10

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
RTEXT_FILTER_SKIP_STATS: Final = 8
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_BRPORT_MODE: Final = 4
VETH_INFO_PEER: Final = 1

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x02

RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_TABLE: Final = 15
RT_TABLE_MAIN: Final = 254
RT_TABLE_LOCAL: Final = 255
RTPROT_BOOT: Final = 3
RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
RT_SCOPE_UNIVERSE: Final = 0

MAX_NAME: Final = 15
"""IFNAMSIZ without the NUL."""

_NEW: Final = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL


def link_up(index: int) -> Parts:
    """Set IFF_UP on the link with this index."""
    return message(RTM_NEWLINK, NLM_F_ACK, _link(index, up=True))


def new_bridge(name: str, *, mac: bytes, mtu: int) -> Parts:
    """Make a bridge; its MAC address then no longer follows its ports."""
    kind = nest(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    body = flatten(text(IFLA_IFNAME, name), attribute(IFLA_ADDRESS, mac), u32(IFLA_MTU, mtu), kind)
    return message(RTM_NEWLINK, _NEW, _link(0), *body)


def new_veth(name: str, *, bridge: int, mtu: int, mac: bytes, netns: int | SlotHole) -> Parts:
    """Make a pair in one message: `name` a port of the bridge and up, its peer `eth0` in `netns`.

    The peer cannot come up in this message: it is opened before the two know each other (veth: ENOTCONN).
    """
    place: Part = netns if isinstance(netns, SlotHole) else struct.pack("=I", netns)
    peer = flatten(
        text(IFLA_IFNAME, "eth0"),
        attribute(IFLA_ADDRESS, mac),
        u32(IFLA_MTU, mtu),
        attribute(IFLA_NET_NS_FD, place),
    )
    data = nest(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, _link(0), *peer))
    kind = nest(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), data)
    body = flatten(text(IFLA_IFNAME, name), u32(IFLA_MTU, mtu), u32(IFLA_MASTER, bridge), kind)
    return message(RTM_NEWLINK, _NEW, _link(0, up=True), *body)


def set_up(name: str) -> Parts:
    """Set IFF_UP on a link by its name."""
    return message(RTM_NEWLINK, NLM_F_ACK, _link(0, up=True), *flatten(text(IFLA_IFNAME, name)))


def set_hairpin(name: str) -> Parts:
    """Let a bridge send back through the port that a frame came from.

    Where br_netfilter is on, the bridge itself turns around what a container sends to its own published port.
    """
    data = nest(IFLA_INFO_SLAVE_DATA, attribute(IFLA_BRPORT_MODE, b"\1"))
    port = nest(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), data)
    return message(RTM_NEWLINK, NLM_F_ACK, _link(0), *flatten(text(IFLA_IFNAME, name), port))


def set_master(name: str, bridge: int) -> Parts:
    """Make a link a port of a bridge."""
    return message(RTM_NEWLINK, NLM_F_ACK, _link(0), *flatten(text(IFLA_IFNAME, name), u32(IFLA_MASTER, bridge)))


def delete_link(index: int) -> Parts:
    """Remove a link."""
    return message(RTM_DELLINK, NLM_F_ACK, _link(index))


def get_link(name: str) -> Parts:
    """Ask for one link."""
    mask = u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return message(RTM_GETLINK, 0, _link(0), *flatten(text(IFLA_IFNAME, name), mask))


def get_links() -> Parts:
    """Ask for all links."""
    return message(RTM_GETLINK, NLM_F_DUMP, _link(0), *u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))


def new_address(link: int | LinkHole, address: bytes, prefix: int) -> Parts:
    """Give a link an address; one that it has already stays. IPv6: at once, without looking for a duplicate."""
    six = len(address) == 16
    head = _address(AF_INET6 if six else AF_INET, prefix, link)
    body = flatten(attribute(IFA_LOCAL, address), attribute(IFA_ADDRESS, address))
    if six:
        body = flatten(body, u32(IFA_FLAGS, IFA_F_NODAD))
    return message(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, *head, *body)


def get_addresses() -> Parts:
    """Ask for all addresses."""
    return message(RTM_GETADDR, NLM_F_DUMP, *_address(AF_UNSPEC, 0, 0))


def default_route(gateway: bytes) -> Parts:
    """Add a default route; the link follows from the gateway."""
    family = AF_INET6 if len(gateway) == 16 else AF_INET
    head = _route(family, 0, RT_TABLE_MAIN, RTN_UNICAST)
    return message(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, head, *attribute(RTA_GATEWAY, gateway))


def loopback_route(index: int) -> Parts:
    """Let what comes in through this link end at ::1: what `route_localnet` is for IPv4.

    The kernel looks ::1 up by link (rt6_need_strict), so answers that are translated back to it need this. Foreign
    packets to ::1 are dropped before any table is looked at (RFC 4291 2.5.3, ip6_rcv_core).
    """
    head = _route(AF_INET6, 128, RT_TABLE_LOCAL, RTN_LOCAL)
    body = flatten(attribute(RTA_DST, bytes(15) + b"\1"), u32(RTA_OIF, index), u32(RTA_PRIORITY, 2048))
    return message(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, head, *body)


def get_routes(family: int) -> Parts:
    """Ask for all routes of an address family."""
    return message(RTM_GETROUTE, NLM_F_DUMP, _route(family, 0, 0, 0))


def _link(index: int, *, up: bool = False) -> bytes:
    flags = IFF_UP if up else 0
    return struct.pack("=BxHiII", AF_UNSPEC, 0, index, flags, flags)


def _address(family: int, prefix: int, link: int | LinkHole) -> Parts:
    place: Part = link if isinstance(link, LinkHole) else struct.pack("=I", link)
    return (struct.pack("=BBBB", family, prefix, 0, 0), place)


def _route(family: int, length: int, table: int, kind: int) -> bytes:
    return struct.pack("=BBBBBBBBI", family, length, 0, 0, table, RTPROT_BOOT, RT_SCOPE_UNIVERSE, kind, 0)
