"""Taking stock of the network: what `system check` says about bridge, packet filter, links and addresses.

A bridge that is not there is no finding while nobody needs it: the next start makes it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Network
from typing import Final

from onggi.engine.bridges import (
    BRIDGE,
    bridge_name,
    elements_of,
    ensure_bridge,
    lock_network,
    may_have_ipv6,
    preview_bridge,
    remove_bridge,
    table_name,
    wanted_table,
)
from onggi.engine.context import Context
from onggi.host import firewall
from onggi.host.clock import pause_s
from onggi.host.links import Link, act, find_link, has_advertised_default_route, list_links, list_routes, read_sysctl
from onggi.plan.network import links, pool
from onggi.store.check import Finding
from onggi.store.networks import Network

_VETH: Final = "veth"
_LOOKS: Final = 20
_PAUSE_S: Final = 0.1
Trouble = tuple[Finding, Callable[[], object] | None]


def check_network_state(context: Context, *, repair: bool = False) -> list[Finding]:
    """List what is left over or not as it should be; with `repair` mend what can be."""
    network = context.networks.get(BRIDGE)
    if network is None:
        return []
    found = []
    for finding, mend in list(_troubles(context, network)):
        found.append(finding)
        if repair and mend is not None:
            mend()
    return found


def _troubles(context: Context, network: Network) -> Iterator[Trouble]:
    name, table = bridge_name(context), table_name(context)
    link = find_link(name)
    if link is not None:
        yield from _strays(context, link)
    elements = firewall.list_elements(table)  # first: a row comes before its element
    endpoints = context.networks.endpoints(BRIDGE)
    if endpoints:
        yield from _missing(context, link, partial(_ensure, context))
    elif firewall.has_accepts(name):
        mend = partial(firewall.remove_accepts, name)
        yield _trouble(f"the bridge {name}", "has accepts in the packet filter that nobody needs", mend)
    known = {element for endpoint in endpoints for element in elements_of(network, endpoint)}
    left = [element for element in elements if element not in known]
    if left:
        problem = f"has {len(left)} published ports that lead nowhere"
        yield _trouble(f"the nf_tables table {table}", problem, partial(firewall.drop_elements, table, left))
    if link is not None:
        yield from _overlaps(network, link, None if endpoints else partial(remove_bridge, context))


def _missing(context: Context, link: Link | None, mend: Callable[[], object]) -> Iterator[Trouble]:
    name = bridge_name(context)
    subject = f"the bridge {name}"
    if link is None:
        yield _trouble(subject, "is gone, though containers are attached to it", mend)
        return
    if not firewall.is_whole(wanted_table(preview_bridge(context)), context.root.path):
        yield _trouble(f"the nf_tables table {table_name(context)}", "is not as it should be", mend)
    for place in firewall.missing_accepts(name):
        yield _trouble(subject, f"is not let through by {place}, which drops forwarded packets", mend)
    if read_sysctl("ipv4/ip_forward") != "1":
        yield _trouble(subject, "does not lead outside, since net.ipv4.ip_forward is 0", mend)
    for place in firewall.other_drops():
        problem = f"is cut off by the chain {place}, whose policy is drop; let {name} pass there"
        yield _trouble(subject, problem, None)
    if not may_have_ipv6() and has_advertised_default_route():
        problem = (
            "has no IPv6: to forward it would make the kernel drop the default route that a router announced; "
            "to have both, set net.ipv6.conf.all.forwarding=1 and accept_ra=2 on that link"
        )
        yield _trouble(subject, problem, None)


def _strays(context: Context, bridge: Link) -> Iterator[Trouble]:
    """Look for links that belong to nobody. Those of containers that ended just now are on their way out."""
    left: list[Link] = []
    for _ in range(_LOOKS):
        # A row comes before its link: who reads in the other order misses none.
        ports = [link for link in list_links() if link.master == bridge.index and link.kind == _VETH]
        known = {endpoint.link for endpoint in context.networks.endpoints(BRIDGE)}
        left = [link for link in ports if link.name not in known]
        if not left:
            return
        pause_s(_PAUSE_S)
    for link in left:
        mend = partial(act, f"remove the link {link.name}", links.delete_link(link.index))
        yield _trouble(f"the link {link.name}", f"is at the bridge {bridge.name} and belongs to no container", mend)


def _overlaps(network: Network, bridge: Link, mend: Callable[[], object] | None) -> Iterator[Trouble]:
    subnet = IPv4Network(network.subnet4)
    for route in list_routes():
        if route.link not in (0, bridge.index) and pool.overlaps(subnet, route.destination):
            problem = f"has addresses of {subnet}, now reached by another link too ({route.destination})"
            if mend is None:
                problem += "; stop the containers, then `onggi system check --repair` lets the next start choose others"
            yield _trouble(f"the bridge {bridge.name}", problem, mend)
            return


def _ensure(context: Context) -> None:
    with lock_network(context):
        ensure_bridge(context)


def _trouble(subject: str, problem: str, mend: Callable[[], object] | None) -> Trouble:
    return Finding(kind="network", subject=subject, problem=problem, repairable=mend is not None), mend
