"""Onggi's table of nf_tables: one per state root, the same rules however many containers there are.

    maps     published4/6   protocol . address of the host . port  ->  container's address . port
             open4/6        protocol . port, on every address      ->  container's address . port
    chains   guard          route_localnet makes 127.0.0.0/8 reachable from the bridge: refuse it (CVE-2020-8558)
             prerouting     packets to an address of this host: look the port up
             output         the same for the host's own packets
             publish        the four look-ups
             postrouting    masquerade what leaves a bridge, and what would be answered past us
             forward        between bridges, and from elsewhere to what is not published: nothing

A published port is one element of one map. DNAT of 127.0.0.0/8 happens in `output`
only: in `prerouting` a neighbour could address it (see forward and guard for the rest).
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

import msgspec

from onggi.plan.network import nftables as nft
from onggi.plan.network.netlink import Parts, flatten, plain
from onggi.spec.ports import PublishedPort

PROTOCOLS: Final = {"tcp": 6, "udp": 17}
_SERVICE: Final = (nft.TYPE_PROTOCOL, nft.TYPE_SERVICE)
_MAPS: Final = {
    "published4": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV4, nft.TYPE_SERVICE), (nft.TYPE_IPV4, nft.TYPE_SERVICE)),
    "open4": (_SERVICE, (nft.TYPE_IPV4, nft.TYPE_SERVICE)),
    "published6": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV6, nft.TYPE_SERVICE), (nft.TYPE_IPV6, nft.TYPE_SERVICE)),
    "open6": (_SERVICE, (nft.TYPE_IPV6, nft.TYPE_SERVICE)),
}
MAPS: Final = tuple(_MAPS)
_CHAINS: Final = (
    ("publish", None),
    ("guard", ("filter", nft.PREROUTING, -300)),
    ("prerouting", ("nat", nft.PREROUTING, -100)),
    ("output", ("nat", nft.OUTPUT, -100)),
    ("postrouting", ("nat", nft.POSTROUTING, 100)),
    ("forward", ("filter", nft.FORWARD, 0)),
)
_PER_REQUEST: Final = 500  # an attribute has at most 64 KiB
_LOOPBACK4: Final = IPv4Network("127.0.0.0/8")
_LOOPBACK6: Final = IPv6Network("::1/128")


class Bridged(msgspec.Struct, frozen=True, kw_only=True):
    """A bridge network as the table sees it; `subnet6` is None where the network has no IPv6."""

    bridge: str
    subnet4: IPv4Network
    subnet6: IPv6Network | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All rules of a state root. `loopback6`: the host's own packets to ::1 can be turned to containers."""

    name: str
    networks: tuple[Bridged, ...]
    loopback6: bool = False

    def rules(self) -> list[Parts]:
        """Give the rules, in order."""
        return [*self._publish(), *(rule for network in self.networks for rule in self._of_network(network))]

    def comment(self, root: str) -> str:
        """Say whose table it is; a change of any rule changes the text."""
        return f"Onggi, {root[:200]}; rules {_stamp(self)[0]}"

    def size(self) -> int:
        """Give the number of its rules."""
        return _stamp(self)[1]

    def make(self, root: str, elements: Sequence[nft.Element]) -> list[Parts]:
        """Encode the transaction that makes the table anew, in place of the one that may be there."""
        comment = self.comment(root)
        requests = [nft.new_table(self.name, comment), nft.delete_table(self.name), nft.new_table(self.name, comment)]
        requests += [nft.new_chain(self.name, chain, base) for chain, base in _CHAINS]
        requests += [
            nft.new_map(self.name, name, number, key, data)
            for number, (name, (key, data)) in enumerate(_MAPS.items(), 1)
        ]
        requests += self.rules()
        return nft.batch([*requests, *add_elements(self.name, elements)])

    def _rule(self, chain: str, *expressions: Parts) -> Parts:
        return nft.new_rule(self.name, chain, *expressions)

    def _publish(self) -> list[Parts]:
        jump = flatten(nft.to_local_address(), nft.verdict(nft.JUMP, "publish"))
        rules = [
            self._rule("prerouting", _destination(_LOOPBACK4), nft.verdict(nft.RETURN)),
            self._rule("prerouting", jump),
        ]
        if not self.loopback6:
            rules.append(self._rule("output", _destination(_LOOPBACK6), nft.verdict(nft.RETURN)))
        rules.append(self._rule("output", jump))
        for family, offset, width in ((nft.NFPROTO_IPV4, 16, 4), (nft.NFPROTO_IPV6, 24, 16)):
            digit, words = (4, 1) if width == 4 else (6, 4)
            head = flatten(nft.protocol(family), nft.load_meta(nft.META_L4PROTO))
            turn = nft.translate(family, nft.WORD + words)
            address = nft.load_header(nft.NETWORK_HEADER, offset, width, nft.WORD + 1)
            rules.append(self._rule("publish", head, address, _port(1 + words), nft.look_up(f"published{digit}"), turn))
            rules.append(self._rule("publish", head, _port(1), nft.look_up(f"open{digit}"), turn))
        return rules

    def _of_network(self, network: Bridged) -> list[Parts]:
        came, leaves = nft.interface(nft.META_IIFNAME, network.bridge), nft.interface(nft.META_OIFNAME, network.bridge)
        elsewhere = nft.interface(nft.META_OIFNAME, network.bridge, other=True)
        from_others = nft.interface(nft.META_IIFNAME, network.bridge, other=True)
        published = nft.has_bits(nft.CT_STATUS, nft.CT_STATUS_DNAT)
        new = nft.has_bits(nft.CT_STATE, nft.CT_STATE_ESTABLISHED_RELATED, none=True)
        unpublished = nft.has_bits(nft.CT_STATUS, nft.CT_STATUS_DNAT, none=True)
        masquerade = nft.masquerade()
        rules = [
            self._rule("guard", came, _destination(_LOOPBACK4), nft.verdict(nft.DROP)),
            self._rule("guard", came, _source(_LOOPBACK4), nft.verdict(nft.DROP)),
            self._rule("forward", leaves, from_others, new, unpublished, nft.verdict(nft.DROP)),
        ]
        for subnet, loopback in ((network.subnet4, _LOOPBACK4), (network.subnet6, _LOOPBACK6)):
            if subnet is not None:
                rules += [
                    self._rule("postrouting", _source(subnet), elsewhere, masquerade),
                    # To itself or a neighbour through a published port: the answer must come back through us.
                    self._rule("postrouting", leaves, _source(subnet), published, masquerade),
                    self._rule("postrouting", leaves, _source(loopback), masquerade),
                ]
        return rules


@lru_cache(maxsize=8)
def _stamp(table: Table) -> tuple[str, int]:
    """Asked for at every start, and a table is seldom another one than the last time."""
    rules = table.rules()
    return hashlib.sha256(plain(*rules)).hexdigest()[:12], len(rules)


def element(port: PublishedPort, address: str) -> nft.Element:
    """Give the element of a published port; `address` is the container's, of the same family."""
    host, container = ip_address(port.host_ip), ip_address(address)
    digit = host.version
    number = struct.pack("=B3x", PROTOCOLS[port.protocol])
    service = struct.pack(">H2x", port.host_port)
    data = container.packed + struct.pack(">H2x", port.container_port)
    if host.is_unspecified:
        return nft.Element(f"open{digit}", number + service, data)
    return nft.Element(f"published{digit}", number + host.packed + service, data)


def add_elements(table: str, elements: Iterable[nft.Element]) -> list[Parts]:
    """Give the requests that put elements into their maps."""
    return [nft.new_elements(table, name, group) for name, group in _grouped(elements)]


def remove_elements(table: str, elements: Iterable[nft.Element]) -> list[Parts]:
    """Give the requests that take elements out of their maps."""
    return [nft.delete_elements(table, name, group) for name, group in _grouped(elements)]


def accepts(family: int, table: str, chain: str, bridge: str) -> list[Parts]:
    """Give two rules that let a bridge's packets pass a chain of others, as its first; the comment is the bridge."""
    return [
        nft.new_rule(
            table,
            chain,
            nft.interface(key, bridge),
            nft.count(),
            nft.verdict(nft.ACCEPT),
            family=family,
            comment=bridge,
            first=True,
        )
        for key in (nft.META_IIFNAME, nft.META_OIFNAME)
    ]


def _grouped(elements: Iterable[nft.Element]) -> list[tuple[str, list[nft.Element]]]:
    groups: dict[str, list[nft.Element]] = {}
    for each in elements:
        groups.setdefault(each.map, []).append(each)
    return [
        (name, group[start : start + _PER_REQUEST])
        for name, group in groups.items()
        for start in range(0, len(group), _PER_REQUEST)
    ]


def _port(words: int) -> Parts:
    return nft.load_header(nft.TRANSPORT_HEADER, 2, 2, nft.WORD + words)


def _source(subnet: IPv4Network | IPv6Network) -> Parts:
    return _within(subnet, 12 if subnet.version == 4 else 8)


def _destination(subnet: IPv4Network | IPv6Network) -> Parts:
    return _within(subnet, 16 if subnet.version == 4 else 24)


def _within(subnet: IPv4Network | IPv6Network, offset: int) -> Parts:
    """Go on if the address at this offset lies in the subnet."""
    family = nft.NFPROTO_IPV4 if subnet.version == 4 else nft.NFPROTO_IPV6
    address, mask = subnet.network_address.packed, subnet.netmask.packed
    load = nft.load_header(nft.NETWORK_HEADER, offset, len(address))
    kept = nft.masked(mask) if subnet.prefixlen < subnet.max_prefixlen else ()
    return flatten(nft.protocol(family), load, kept, nft.equal(address))
