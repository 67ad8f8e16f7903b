"""The packet filter of this network namespace: Onggi's own table, and room for its bridges in those of others.

An `accept` in one base chain overrules no `drop` in another of the same hook. Where
somebody (a Docker) lets FORWARD drop what it does not know, two accepts per bridge go
into DOCKER-USER, which is the place that Docker leaves to others, else to the head of
FORWARD: by nf_tables where iptables-nft made those chains, by iptables-legacy where
that is in use. Their comment is the bridge's name, by which they are found again.
"""

from onggi.host.firewall import chains, legacy
from onggi.host.firewall.table import (
    drop_elements,
    ensure_table,
    generation,
    has_table,
    is_whole,
    list_elements,
    remove_table,
)

__all__ = [
    "drop_elements",
    "ensure_accepts",
    "ensure_table",
    "generation",
    "has_accepts",
    "has_table",
    "is_legacy",
    "is_whole",
    "list_elements",
    "missing_accepts",
    "other_drops",
    "remove_accepts",
    "remove_table",
]


def ensure_accepts(bridge: str) -> None:
    """See that the chains of others let a bridge's packets pass."""
    for chain in chains.places_for_accepts(chains.find_filter_chains()):
        chains.ensure_in(chain, bridge)
    for program in legacy.programs_in_use():
        legacy.ensure(program, bridge)


def is_legacy() -> bool:
    """Tell whether iptables-legacy is in use, whose changes nf_tables does not count."""
    return bool(legacy.programs_in_use())


def missing_accepts(bridge: str) -> list[str]:
    """Name the chains of others that lack our accepts."""
    places = chains.places_for_accepts(chains.find_filter_chains())
    lacking = [f"{chain.table} {chain.name}" for chain in places if len(chains.tagged(chain, bridge)) != 2]
    return lacking + [program for program in legacy.programs_in_use() if legacy.lacks(program, bridge)]


def has_accepts(bridge: str) -> bool:
    """Tell whether a chain of others has accepts of ours."""
    if any(chains.tagged(chain, bridge) for chain in chains.find_filter_chains()):
        return True
    return any(legacy.has_any(program, bridge) for program in legacy.programs_in_use())


def remove_accepts(bridge: str) -> int:
    """Take our accepts out of the chains of others; gives how many there were."""
    number = sum(chains.remove_from(chain, bridge) for chain in chains.find_filter_chains())
    return number + sum(legacy.remove(program, bridge) for program in legacy.programs_in_use())


def other_drops() -> list[str]:
    """Name the base chains that drop forwarded packets and are not those that iptables made: we cannot help there."""
    return [
        f"{chain.table} {chain.name}"
        for chain in chains.list_forward_chains()
        if chain.drops and chain.table != chains.TABLE
    ]
