"""Onggi's own table in the kernel: made, compared with what it should be, its elements listed and dropped."""

import errno
from collections.abc import Iterable, Sequence

from onggi.host.netlink import NETFILTER, Message, Netlink, Refused, doing, read_attributes, read_list
from onggi.plan.network import nftables as nft
from onggi.plan.network.table import MAPS, Table, remove_elements


def ensure_table(table: Table, root: str, elements: Sequence[nft.Element]) -> bool:
    """Make our table anew unless it is as it should be; `elements` are for that case. Tells whether it was made."""
    if is_whole(table, root):
        return False
    with doing(f"make the nf_tables table {table.name}"), Netlink(NETFILTER) as netlink:
        netlink.act(table.make(root, elements))
    return True


def is_whole(table: Table, root: str) -> bool:
    """Compare the comment, which names the rules, and their number: somebody may have flushed a chain."""
    try:
        with Netlink(NETFILTER) as netlink:
            found = netlink.ask(nft.get_table(table.name))
            if _comment_of(found) != table.comment(root):
                return False
            return len(netlink.dump(nft.get_rules(nft.NFPROTO_INET, table.name))) == table.size()
    except Refused as error:
        if error.errno == errno.ENOENT:
            return False
        raise error.explain(f"look for the nf_tables table {table.name}") from None


def generation() -> int:
    """Give the number that every change of nf_tables in this network namespace raises, whoever makes it."""
    with doing("ask nf_tables for its generation"), Netlink(NETFILTER) as netlink:
        (answer,) = netlink.ask(nft.get_generation())
    return int.from_bytes(read_attributes(answer.body, 4).get(nft.NFTA_GEN_ID, b""), "big")


def remove_table(name: str) -> bool:
    """Remove our table; False if it is not there."""
    try:
        with Netlink(NETFILTER) as netlink:
            netlink.act(nft.batch([nft.delete_table(name)]))
    except Refused as error:
        if error.errno == errno.ENOENT:
            return False
        raise error.explain(f"remove the nf_tables table {name}") from None
    return True


def has_table(name: str) -> bool:
    """Tell whether our table is there."""
    try:
        with Netlink(NETFILTER) as netlink:
            return bool(netlink.ask(nft.get_table(name)))
    except Refused:
        return False


def list_elements(table: str) -> list[nft.Element]:
    """List what our maps hold; nothing where there is no table."""
    found: list[nft.Element] = []
    try:
        with Netlink(NETFILTER) as netlink:
            for name in MAPS:
                for message in netlink.dump(nft.get_elements(table, name)):
                    entries = read_attributes(message.body, 4).get(nft.NFTA_SET_ELEM_LIST_ELEMENTS, b"")
                    found += [_element(name, entry) for entry in read_list(entries)]
    except Refused as error:
        if error.errno == errno.ENOENT:
            return []
        raise error.explain(f"list the published ports in table {table}") from None
    return found


def drop_elements(table: str, elements: Iterable[nft.Element]) -> None:
    """Take elements out of our maps; those that are not there are fine.

    Looked for first: a transaction that fails waits for grace periods (11 ms an element).
    """
    with doing(f"take a published port out of table {table}"), Netlink(NETFILTER) as netlink:
        present = [element for element in elements if _is_there(netlink, table, element)]
        if present:
            netlink.act(nft.batch(remove_elements(table, present)))


def _is_there(netlink: Netlink, table: str, element: nft.Element) -> bool:
    try:
        return bool(netlink.ask(nft.get_element(table, element)))
    except Refused as error:
        if error.errno == errno.ENOENT:
            return False
        raise


def _element(name: str, entry: bytes) -> nft.Element:
    attributes = read_attributes(entry)
    key, data = (read_attributes(attributes.get(kind, b"")) for kind in (nft.NFTA_SET_ELEM_KEY, nft.NFTA_SET_ELEM_DATA))
    return nft.Element(name, key.get(nft.NFTA_DATA_VALUE, b""), data.get(nft.NFTA_DATA_VALUE, b""))


def _comment_of(tables: Sequence[Message]) -> str:
    if not tables:
        return ""
    return nft.read_comment(read_attributes(tables[0].body, 4).get(nft.NFTA_TABLE_USERDATA, b""))
