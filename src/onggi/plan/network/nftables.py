"""The words of nf_tables: batches, tables, chains, maps, rules and the expressions that rules are made of.

Message types, attributes and registers are those of linux/netfilter/nf_tables.h; numbers
are in network order. A rule is a tuple of expressions, run in order until one does not match.
"""

import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from onggi.plan.network.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    Parts,
    attribute,
    be32,
    flatten,
    message,
    nest,
    text,
)

NFPROTO_UNSPEC: Final = 0
NFPROTO_INET: Final = 1
NFPROTO_IPV4: Final = 2
NFPROTO_IPV6: Final = 10

SUBSYSTEM: Final = 10  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN: Final = 16
BATCH_END: Final = 17
NEWTABLE: Final = 0
GETTABLE: Final = 1
DELTABLE: Final = 2
NEWCHAIN: Final = 3
GETCHAIN: Final = 4
NEWRULE: Final = 6
GETRULE: Final = 7
DELRULE: Final = 8
NEWSET: Final = 9
NEWSETELEM: Final = 12
GETGEN: Final = 16
GETSETELEM: Final = 13
DELSETELEM: Final = 14

NFTA_TABLE_NAME: Final = 1
NFTA_GEN_ID: Final = 1
NFTA_TABLE_USERDATA: Final = 6
NFTA_CHAIN_TABLE: Final = 1
NFTA_CHAIN_NAME: Final = 3
NFTA_CHAIN_HOOK: Final = 4
NFTA_CHAIN_POLICY: Final = 5
NFTA_CHAIN_USE: Final = 6
NFTA_CHAIN_TYPE: Final = 7
NFTA_HOOK_HOOKNUM: Final = 1
NFTA_HOOK_PRIORITY: Final = 2
NFTA_RULE_TABLE: Final = 1
NFTA_RULE_CHAIN: Final = 2
NFTA_RULE_HANDLE: Final = 3
NFTA_RULE_EXPRESSIONS: Final = 4
NFTA_RULE_USERDATA: Final = 7
NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
NFTA_SET_ELEM_KEY: Final = 1
NFTA_SET_ELEM_DATA: Final = 2
NFTA_LIST_ELEM: Final = 1
NFTA_DATA_VALUE: Final = 1

PREROUTING: Final = 0
FORWARD: Final = 2
OUTPUT: Final = 3
POSTROUTING: Final = 4

DROP: Final = 0
ACCEPT: Final = 1
JUMP: Final = -3
RETURN: Final = -5

# Registers: 1 is the first of sixteen bytes; from WORD on they are counted in fours.
REGISTER: Final = 1
WORD: Final = 8

# Types of set keys as nft(8) numbers them, for its listings; the kernel does not look at them.
TYPE_IPV4: Final = 7
TYPE_IPV6: Final = 8
TYPE_PROTOCOL: Final = 12
TYPE_SERVICE: Final = 13

META_IIFNAME: Final = 6
META_OIFNAME: Final = 7
META_NFPROTO: Final = 15
META_L4PROTO: Final = 16
NETWORK_HEADER: Final = 1
TRANSPORT_HEADER: Final = 2
CT_STATE: Final = 0
CT_STATUS: Final = 2
CT_STATE_ESTABLISHED_RELATED: Final = 2 | 4
CT_STATUS_DNAT: Final = 0x20
RTN_LOCAL: Final = 2

_EQ: Final = 0
_NEQ: Final = 1
_NAME_BYTES: Final = 16


class Element(msgspec.Struct, frozen=True):
    """One element of a map: the key and what it leads to, each field padded to four bytes."""

    map: str
    key: bytes
    data: bytes


def request(kind: int, family: int, flags: int, *attributes: Parts) -> Parts:
    """Frame one request of nf_tables."""
    return message(SUBSYSTEM << 8 | kind, flags, struct.pack(">BBH", family, 0, 0), *flatten(*attributes))


def batch(requests: Iterable[Parts]) -> list[Parts]:
    """Frame a transaction: all of it happens, or nothing. Every request in it is acknowledged."""
    edge = struct.pack(">BBH", NFPROTO_UNSPEC, 0, SUBSYSTEM)
    return [message(BATCH_BEGIN, 0, edge), *requests, message(BATCH_END, 0, edge)]


def new_table(table: str, comment: str) -> Parts:
    """Make a table, or keep the one that is there."""
    return request(
        NEWTABLE,
        NFPROTO_INET,
        NLM_F_ACK | NLM_F_CREATE,
        text(NFTA_TABLE_NAME, table),
        attribute(NFTA_TABLE_USERDATA, _comment(comment)),
    )


def delete_table(table: str) -> Parts:
    """Remove a table with all that is in it."""
    return request(DELTABLE, NFPROTO_INET, NLM_F_ACK, text(NFTA_TABLE_NAME, table))


def get_table(table: str) -> Parts:
    """Ask for a table."""
    return request(GETTABLE, NFPROTO_INET, 0, text(NFTA_TABLE_NAME, table))


def get_generation() -> Parts:
    """Ask for the number that every change of any table raises."""
    return request(GETGEN, 0, 0)


def new_chain(table: str, chain: str, base: tuple[str, int, int] | None = None) -> Parts:
    """Make a chain; `base` is its type, hook and priority."""
    hooked: Parts = ()
    if base is not None:
        kind, hook, priority = base
        place = nest(NFTA_CHAIN_HOOK, be32(NFTA_HOOK_HOOKNUM, hook), be32(NFTA_HOOK_PRIORITY, priority & 0xFFFF_FFFF))
        hooked = flatten(place, be32(NFTA_CHAIN_POLICY, ACCEPT), text(NFTA_CHAIN_TYPE, kind))
    return request(
        NEWCHAIN,
        NFPROTO_INET,
        NLM_F_ACK | NLM_F_CREATE,
        text(NFTA_CHAIN_TABLE, table),
        text(NFTA_CHAIN_NAME, chain),
        hooked,
    )


def get_chains(family: int) -> Parts:
    """Ask for all chains of a family."""
    return request(GETCHAIN, family, NLM_F_DUMP)


def get_chain(family: int, table: str, name: str) -> Parts:
    """Ask for one chain."""
    return request(GETCHAIN, family, 0, text(NFTA_CHAIN_TABLE, table), text(NFTA_CHAIN_NAME, name))


def new_map(table: str, name: str, number: int, key: tuple[int, ...], data: tuple[int, ...]) -> Parts:
    """Make a map from one concatenation of types to another; `number` tells it apart within the batch."""
    return request(
        NEWSET,
        NFPROTO_INET,
        NLM_F_ACK | NLM_F_CREATE,
        text(1, table),
        text(2, name),
        be32(3, 8),  # NFT_SET_MAP
        be32(4, _concatenated(key)),
        be32(5, sum(_width(kind) for kind in key)),
        be32(6, _concatenated(data)),
        be32(7, sum(_width(kind) for kind in data)),
        be32(10, number),
    )


def new_elements(table: str, name: str, elements: Iterable[Element]) -> Parts:
    """Put elements into a map; one that is there already, with the same data, stays."""
    return _elements(NEWSETELEM, NLM_F_ACK | NLM_F_CREATE, table, name, elements, data=True)


def delete_elements(table: str, name: str, elements: Iterable[Element]) -> Parts:
    """Take elements out of a map, by their keys."""
    return _elements(DELSETELEM, NLM_F_ACK, table, name, elements, data=False)


def get_elements(table: str, name: str) -> Parts:
    """Ask for all elements of a map."""
    return request(GETSETELEM, NFPROTO_INET, NLM_F_DUMP, text(1, table), text(2, name))


def get_element(table: str, element: Element) -> Parts:
    """Ask for one element, by its key."""
    return _elements(GETSETELEM, 0, table, element.map, [element], data=False)


def new_rule(
    table: str,
    chain: str,
    *expressions: Parts,
    family: int = NFPROTO_INET,
    comment: str = "",
    first: bool = False,
) -> Parts:
    """Add a rule at the end of a chain, or as its `first`."""
    return request(
        NEWRULE,
        family,
        NLM_F_ACK | NLM_F_CREATE | (0 if first else NLM_F_APPEND),
        text(NFTA_RULE_TABLE, table),
        text(NFTA_RULE_CHAIN, chain),
        nest(NFTA_RULE_EXPRESSIONS, *expressions),
        attribute(NFTA_RULE_USERDATA, _comment(comment)) if comment else (),
    )


def get_rules(family: int, table: str, chain: str = "") -> Parts:
    """Ask for the rules of a table, or of one chain."""
    where = text(NFTA_RULE_CHAIN, chain) if chain else ()
    return request(GETRULE, family, NLM_F_DUMP, text(NFTA_RULE_TABLE, table), where)


def delete_rule(family: int, table: str, chain: str, handle: int) -> Parts:
    """Remove one rule."""
    return request(
        DELRULE,
        family,
        NLM_F_ACK,
        text(NFTA_RULE_TABLE, table),
        text(NFTA_RULE_CHAIN, chain),
        attribute(NFTA_RULE_HANDLE, struct.pack(">Q", handle)),
    )


def read_comment(userdata: bytes) -> str:
    """Read the comment that nft(8) and iptables-nft keep with tables and rules; "" where there is none."""
    while len(userdata) >= 2:
        kind, length = userdata[0], userdata[1]
        if kind == 0:
            return userdata[2 : 2 + length].rstrip(b"\0").decode("utf-8", "replace")
        userdata = userdata[2 + length :]
    return ""


# -- expressions -------------------------------------------------------------------------------------


def load_meta(key: int, register: int = REGISTER) -> Parts:
    """Load something about the packet."""
    return _expression("meta", be32(1, register), be32(2, key))


def load_header(base: int, offset: int, length: int, register: int = REGISTER) -> Parts:
    """Load a piece of a header."""
    return _expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, length))


def equal(value: bytes, register: int = REGISTER) -> Parts:
    """Go on if the register has this value."""
    return _expression("cmp", be32(1, register), be32(2, _EQ), nest(3, attribute(NFTA_DATA_VALUE, value)))


def unequal(value: bytes, register: int = REGISTER) -> Parts:
    """Go on if the register has another value."""
    return _expression("cmp", be32(1, register), be32(2, _NEQ), nest(3, attribute(NFTA_DATA_VALUE, value)))


def masked(mask: bytes) -> Parts:
    """Keep only these bits of the first register."""
    return _expression(
        "bitwise",
        be32(1, REGISTER),
        be32(2, REGISTER),
        be32(3, len(mask)),
        nest(4, attribute(NFTA_DATA_VALUE, mask)),
        nest(5, attribute(NFTA_DATA_VALUE, bytes(len(mask)))),
    )


def interface(key: int, name: str, *, other: bool = False) -> Parts:
    """Go on if the packet came in (META_IIFNAME) or leaves (META_OIFNAME) by this link, or by any `other`."""
    padded = name.encode().ljust(_NAME_BYTES, b"\0")
    return flatten(load_meta(key), unequal(padded) if other else equal(padded))


def protocol(family: int) -> Parts:
    """Go on for packets of IPv4 or of IPv6."""
    return flatten(load_meta(META_NFPROTO), equal(bytes([family])))


def has_bits(key: int, bits: int, *, none: bool = False) -> Parts:
    """Go on if conntrack's state or status has one of these bits, or `none`."""
    zero, mask = bytes(4), struct.pack("=I", bits)
    load = _expression("ct", be32(1, REGISTER), be32(2, key))
    return flatten(load, masked(mask), equal(zero) if none else unequal(zero))


def to_local_address() -> Parts:
    """Go on if the destination is an address of this host (fib, by address type)."""
    load = _expression("fib", be32(1, REGISTER), be32(2, 3), be32(3, 2))
    return flatten(load, equal(struct.pack("=I", RTN_LOCAL)))


def look_up(name: str) -> Parts:
    """Go on with what the map has for the key in the registers from WORD on."""
    return _expression("lookup", text(1, name), be32(2, REGISTER), be32(3, REGISTER))


def translate(family: int, port_register: int) -> Parts:
    """Turn the packet to the address in the first register and the port in another (DNAT)."""
    address, port = be32(3, REGISTER), be32(5, port_register)
    return _expression("nat", be32(1, 1), be32(2, family), address, port)


def masquerade() -> Parts:
    """Give the packet the address of the link that it leaves by."""
    return _expression("masq")


def count() -> Parts:
    """Count packets and bytes, as rules of iptables do."""
    return _expression("counter")


def verdict(code: int, chain: str = "") -> Parts:
    """End with a verdict; JUMP names a chain."""
    target = text(2, chain) if chain else ()
    value = nest(2, be32(1, code & 0xFFFF_FFFF), target)
    return _expression("immediate", be32(1, 0), nest(2, value))


def _expression(name: str, *attributes: Parts) -> Parts:
    return nest(NFTA_LIST_ELEM, text(1, name), nest(2, *attributes))


def _elements(kind: int, flags: int, table: str, name: str, elements: Iterable[Element], *, data: bool) -> Parts:
    entries = [
        nest(
            NFTA_LIST_ELEM,
            nest(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, element.key)),
            nest(NFTA_SET_ELEM_DATA, attribute(NFTA_DATA_VALUE, element.data)) if data else (),
        )
        for element in elements
    ]
    return request(kind, NFPROTO_INET, flags, text(1, table), text(2, name), nest(3, *entries))


def _comment(value: str) -> bytes:
    raw = value.encode()[:250] + b"\0"
    return bytes([0, len(raw)]) + raw


def _width(kind: int) -> int:
    return 16 if kind == TYPE_IPV6 else 4


def _concatenated(kinds: tuple[int, ...]) -> int:
    number = 0
    for kind in kinds:
        number = number << 6 | kind
    return number
