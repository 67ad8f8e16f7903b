"""The chains of others in nf_tables: those of iptables-nft, into which our accepts go, and what else drops."""

import errno
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from onggi.host.netlink import NETFILTER, Message, Netlink, Refused, doing, read_attributes, read_text
from onggi.plan.network import nftables as nft
from onggi.plan.network.netlink import Parts
from onggi.plan.network.table import accepts

TABLE: Final = "filter"
_PLACES: Final = ("DOCKER-USER", "FORWARD")
_FAMILIES: Final = (nft.NFPROTO_IPV4, nft.NFPROTO_IPV6)


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain; `drops`: what no rule decides is dropped. `hook` is None for one that is only jumped to."""

    family: int
    table: str
    name: str
    hook: int | None
    drops: bool
    rules: int


def list_forward_chains() -> list[Chain]:
    """List all base chains that see forwarded packets, and DOCKER-USER where there is one."""
    found = [_chain(message) for message in _dump(nft.get_chains(nft.NFPROTO_UNSPEC), "list the chains of nf_tables")]
    return [chain for chain in found if chain.hook == nft.FORWARD or (chain.table == TABLE and chain.name in _PLACES)]


def find_filter_chains() -> list[Chain]:
    """Find the chains for our accepts, each by its name: a host with much of Docker's has very many others."""
    found: list[Chain] = []
    with doing(f"look for the chains of {TABLE}"), Netlink(NETFILTER) as netlink:
        for family in _FAMILIES:
            for name in _PLACES:
                try:
                    found += map(_chain, netlink.ask(nft.get_chain(family, TABLE, name)))
                except Refused as error:
                    if error.errno != errno.ENOENT:
                        raise
    return found


def _chain(message: Message) -> Chain:
    attributes = read_attributes(message.body, 4)
    hook = read_attributes(attributes.get(nft.NFTA_CHAIN_HOOK, b"")).get(nft.NFTA_HOOK_HOOKNUM)
    return Chain(
        family=message.body[0],
        table=read_text(attributes.get(nft.NFTA_CHAIN_TABLE)),
        name=read_text(attributes.get(nft.NFTA_CHAIN_NAME)),
        hook=_be32(hook) if hook else None,
        drops=attributes.get(nft.NFTA_CHAIN_POLICY) == struct.pack(">I", nft.DROP),
        rules=_be32(attributes.get(nft.NFTA_CHAIN_USE, bytes(4))),
    )


def places_for_accepts(chains: Sequence[Chain]) -> list[Chain]:
    """Choose, of each family, the chain where accepts are needed: none where FORWARD lets everything pass."""
    chosen = []
    for family in _FAMILIES:
        known = {chain.name: chain for chain in chains if chain.family == family and chain.table == TABLE}
        forward = known.get("FORWARD")
        if forward is not None and (forward.drops or forward.rules):
            chosen.append(known.get("DOCKER-USER", forward))
    return chosen


def ensure_in(chain: Chain, bridge: str) -> None:
    """Put our two accepts at the head of a chain, unless they are there."""
    wanted = accepts(chain.family, chain.table, chain.name, bridge)
    present = tagged(chain, bridge)
    if len(present) == len(wanted):
        return
    stale = [nft.delete_rule(chain.family, chain.table, chain.name, handle) for handle in present]
    with doing(f"let {bridge} pass {chain.table} {chain.name}"), Netlink(NETFILTER) as netlink:
        netlink.act(nft.batch([*stale, *wanted]))


def remove_from(chain: Chain, bridge: str) -> int:
    """Take our accepts out of a chain; gives how many there were."""
    handles = tagged(chain, bridge)
    if handles:
        rules = [nft.delete_rule(chain.family, chain.table, chain.name, handle) for handle in handles]
        with doing(f"take the rules of {bridge} out of {chain.table} {chain.name}"), Netlink(NETFILTER) as netlink:
            netlink.act(nft.batch(rules))
    return len(handles)


def tagged(chain: Chain, bridge: str) -> list[int]:
    """List the handles of the rules in a chain whose comment is the bridge."""
    handles = []
    for message in _dump(
        nft.get_rules(chain.family, chain.table, chain.name), f"list the rules of {chain.table} {chain.name}"
    ):
        attributes = read_attributes(message.body, 4)
        if nft.read_comment(attributes.get(nft.NFTA_RULE_USERDATA, b"")) == bridge:
            handles.append(struct.unpack(">Q", attributes[nft.NFTA_RULE_HANDLE])[0])
    return handles


def _dump(request: Parts, step: str) -> list[Message]:
    with doing(step), Netlink(NETFILTER) as netlink:
        try:
            return netlink.dump(request)
        except Refused as error:
            if error.errno != errno.ENOENT:
                raise
    return []


def _be32(value: bytes) -> int:
    return int(struct.unpack(">I", value)[0])
