"""Networks as values: netlink messages as bytes, and what a container's start sends of them.

    netlink     framing and attributes (netlink(7))
    links       links, addresses, routes (rtnetlink(7), linux/if_link.h)
    nftables    the words of nf_tables (linux/netfilter/nf_tables.h)
    table       Onggi's table: what it holds and how it is made
    pool        subnets that nobody uses
    attachment  a container's part: the lines of its plan

Nothing here asks the host; host/netlink.py does, and sends what concerns more than one container.
"""

from onggi.plan.network.attachment import Attachment, NetworkPlan, plan_attachment
from onggi.plan.network.links import LOOPBACK_INDEX, link_up
from onggi.plan.network.table import Bridged, Table

__all__ = ["LOOPBACK_INDEX", "Attachment", "Bridged", "NetworkPlan", "Table", "link_up", "plan_attachment"]
