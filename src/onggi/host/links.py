"""Links of this network namespace: bridges, addresses, routes, and the sysctls that go with them."""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Final

import msgspec

from onggi.base.errors import PermissionDenied
from onggi.host.netlink import ROUTE, Netlink, Refused, doing, read_attributes, read_text
from onggi.plan.network import links
from onggi.plan.network.netlink import Parts

Address = IPv4Address | IPv6Address

_GET_FLAGS: Final = 0x8913  # SIOCGIFFLAGS and so on, linux/sockios.h
_GET_MTU: Final = 0x8921
_GET_INDEX: Final = 0x8933
_IFF_UP: Final = 1
_RTM_F_CLONED: Final = 0x200
_RTF_ADDRCONF: Final = 0x0004_0000


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link as the kernel lists it; `master` is the index of its bridge, 0 for none."""

    index: int
    name: str
    up: bool
    mtu: int
    kind: str
    master: int


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What `look_at_link` tells of a link."""

    index: int
    name: str
    up: bool
    mtu: int


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """An IPv4 route: where to, by which link, and whether it belongs to the table of local addresses."""

    destination: IPv4Network
    link: int
    local: bool


def find_link(name: str) -> Link | None:
    """Give a link by name; None if there is none."""
    try:
        with Netlink(ROUTE) as netlink:
            return _link(netlink.ask(links.get_link(name))[0].body)
    except Refused as error:
        if error.errno == errno.ENODEV:
            return None
        raise error.explain(f"look for the link {name}") from None


def look_at_link(name: str) -> Device | None:
    """Give what is needed of a link most often, by netdevice(7).

    Unlike rtnetlink it does not wait for the lock that the kernel holds while it clears
    away the network namespaces of containers that have ended.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            index, flags, mtu = (_ask_device(sock, request, name) for request in (_GET_INDEX, _GET_FLAGS, _GET_MTU))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise Refused(error.errno or errno.EIO).explain(f"look for the link {name}") from None
    return Device(index=index, name=name, up=bool(flags & _IFF_UP), mtu=mtu)


def _ask_device(sock: socket.socket, request: int, name: str) -> int:
    answer = fcntl.ioctl(sock, request, struct.pack("16s24x", name.encode()))
    return int(struct.unpack_from("=H" if request == _GET_FLAGS else "=i", answer, 16)[0])


def list_links() -> list[Link]:
    """List all links."""
    return [_link(body) for body in _dump(links.get_links(), "links")]


def list_addresses() -> list[tuple[int, Address, int]]:
    """List all addresses: the index of the link, the address, the length of its prefix."""
    found: list[tuple[int, Address, int]] = []
    for body in _dump(links.get_addresses(), "addresses"):
        _, prefix, _, _, index = struct.unpack_from("=BBBBI", body)
        attributes = read_attributes(body, 8)
        packed = attributes.get(links.IFA_LOCAL) or attributes.get(links.IFA_ADDRESS)
        if packed:
            found.append((index, IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed), prefix))
    return found


def list_routes() -> list[Route]:
    """List the IPv4 routes of all tables."""
    found = []
    for body in _dump(links.get_routes(links.AF_INET), "routes"):
        _, length, _, _, _, _, _, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
        if flags & _RTM_F_CLONED:
            continue
        attributes = read_attributes(body, 12)
        link = struct.unpack("=I", attributes.get(links.RTA_OIF, bytes(4)))[0]
        destination = IPv4Network((attributes.get(links.RTA_DST, bytes(4)), length), strict=False)
        found.append(Route(destination=destination, link=link, local=kind != links.RTN_UNICAST))
    return found


def default_mtu() -> int:
    """Give the MTU of the link that the default route leaves by; 1500 where there is none."""
    every = {route.link for route in list_routes() if route.destination.prefixlen == 0 and route.link}
    mtus = [link.mtu for link in list_links() if link.index in every]
    return min(mtus, default=1500)


def has_advertised_default_route() -> bool:
    """Tell whether the kernel itself took an IPv6 default route from a router: forwarding would make it drop that."""
    for line in _read("/proc/net/ipv6_route").splitlines():
        fields = line.split()
        if len(fields) == 10 and fields[1] == "00" and int(fields[8], 16) & _RTF_ADDRCONF:
            return True
    return False


def act(step: str, *messages: Parts) -> None:
    """Send rtnetlink requests; `step` reads as in `cannot {step}`."""
    with doing(step), Netlink(ROUTE) as netlink:
        netlink.act(messages)


def read_sysctl(path: str) -> str | None:
    """Read a file beneath /proc/sys/net; None if it is not there."""
    return _read(f"/proc/sys/net/{path}").strip() or None


def write_sysctl(path: str, value: str) -> None:
    """Set a file beneath /proc/sys/net, unless it has this value. Raises PermissionDenied."""
    if read_sysctl(path) == value:
        return
    try:
        with open(f"/proc/sys/net/{path}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        name = f"net.{path.replace('/', '.')}"
        raise PermissionDenied(
            f"cannot set the sysctl {name} to {value}: {os.strerror(error.errno or 0).lower()}; set it where Onggi's "
            "network namespace is made (sysctl -w), or use --network host or none"
        ) from None


def forward_ipv6(name: str) -> None:
    """Let this network namespace forward IPv6, and change nothing else about links other than `name`.

    Forwarding is decided by `all` (ip6_forward); a link's own value decides whether it still listens to routers, and
    writing `all` overwrites it.
    """
    if read_sysctl("ipv6/conf/all/forwarding") == "1":
        return
    try:
        others = [other for other in os.listdir("/proc/sys/net/ipv6/conf") if other not in ("all", "lo", name)]
    except OSError:
        others = []
    hosts = [other for other in others if read_sysctl(f"ipv6/conf/{other}/forwarding") == "0"]
    write_sysctl("ipv6/conf/all/forwarding", "1")
    for other in hosts:
        with contextlib.suppress(PermissionDenied):  # it may be gone
            write_sysctl(f"ipv6/conf/{other}/forwarding", "0")


def _dump(request: Parts, what: str) -> list[bytes]:
    with doing(f"list {what}"), Netlink(ROUTE) as netlink:
        return [message.body for message in netlink.dump(request)]
    return []


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
    attributes = read_attributes(body, 16)
    info = read_attributes(attributes.get(links.IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=read_text(attributes.get(links.IFLA_IFNAME)),
        up=bool(flags & links.IFF_UP),
        mtu=_number(attributes.get(links.IFLA_MTU)),
        kind=read_text(info.get(links.IFLA_INFO_KIND)),
        master=_number(attributes.get(links.IFLA_MASTER)),
    )


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        return file.read()
    return ""
