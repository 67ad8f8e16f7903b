"""The encoders and readers against the real kernel, in a network namespace of the test's own."""

import errno
import json
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

import pytest

from onggi.base.errors import NotSupported, PermissionDenied, Unavailable
from onggi.host import firewall
from onggi.host.links import (
    act,
    default_mtu,
    find_link,
    list_addresses,
    list_links,
    list_routes,
    read_sysctl,
    write_sysctl,
)
from onggi.host.netlink import NETFILTER, Netlink, Refused
from onggi.host.ports import find_any_port, find_port_among
from onggi.plan.network import Bridged, Table, links, nftables
from onggi.plan.network.table import element
from onggi.spec.ports import PublishedPort
from tests.netns import Host, Server, is_taken, private_host, run

BRIDGE: Final = "onggi0-01234567"
TABLE: Final = Table(
    name="onggi-01234567",
    networks=(Bridged(bridge=BRIDGE, subnet4=IPv4Network("10.201.0.0/16"), subnet6=IPv6Network("fd42::/64")),),
)
LISTED: Final = """\
table inet onggi-01234567 {
	map published4 {
		type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
		elements = { udp . 127.0.0.1 . 53 : 10.201.0.2 . 5353 }
	}

	map open4 {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 10.201.0.2 . 80 }
	}

	map published6 {
		type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service
		elements = { tcp . 2001:db8::1 . 8081 : fd42::2 . 81 }
	}

	map open6 {
		type inet_proto . inet_service : ipv6_addr . inet_service
		elements = { tcp . 8080 : fd42::2 . 80 }
	}

	chain publish {
		dnat ip to meta l4proto . ip daddr . th dport map @published4
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @open4
		dnat ip6 to meta l4proto . ip6 daddr . th dport map @published6
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @open6
	}

	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname "onggi0-01234567" ip daddr 127.0.0.0/8 drop
		iifname "onggi0-01234567" ip saddr 127.0.0.0/8 drop
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 127.0.0.0/8 return
		fib daddr type local jump publish
	}

	chain output {
		type nat hook output priority -100; policy accept;
		ip6 daddr ::1 return
		fib daddr type local jump publish
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.201.0.0/16 oifname != "onggi0-01234567" masquerade
		oifname "onggi0-01234567" ip saddr 10.201.0.0/16 ct status dnat masquerade
		oifname "onggi0-01234567" ip saddr 127.0.0.0/8 masquerade
		ip6 saddr fd42::/64 oifname != "onggi0-01234567" masquerade
		oifname "onggi0-01234567" ip6 saddr fd42::/64 ct status dnat masquerade
		oifname "onggi0-01234567" ip6 saddr ::1 masquerade
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		oifname "onggi0-01234567" iifname != "onggi0-01234567" ct state ! established,related ct status ! dnat drop
	}
}
"""


def port(protocol: str, host_ip: str, host_port: int, container_port: int) -> nftables.Element:
    made = PublishedPort(protocol=protocol, host_ip=host_ip, host_port=host_port, container_port=container_port)
    return element(made, "fd42::2" if ":" in host_ip else "10.201.0.2")


ELEMENTS: Final = [
    port("udp", "127.0.0.1", 53, 5353),
    port("tcp", "0.0.0.0", 8080, 80),
    port("tcp", "2001:db8::1", 8081, 81),
    port("tcp", "::", 8080, 80),
]


@pytest.fixture(autouse=True)
def host() -> Iterator[Host]:
    with private_host() as private:
        yield private


def listed(*what: str) -> str:
    lines = run("nft", "list", *what).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("\tcomment"))


def test_the_table_as_nft_reads_it() -> None:
    assert firewall.ensure_table(TABLE, "/var/lib/onggi", ELEMENTS)
    assert listed("table", "inet", TABLE.name) == LISTED
    assert f'comment "{TABLE.comment("/var/lib/onggi")}"' in run("nft", "list", "table", "inet", TABLE.name)


def test_a_table_is_made_once_and_again_when_it_is_not_whole() -> None:
    assert firewall.ensure_table(TABLE, "/var/lib/onggi", ELEMENTS)
    assert not firewall.ensure_table(TABLE, "/var/lib/onggi", ELEMENTS)
    run("nft", "flush", "chain", "inet", TABLE.name, "guard")
    assert firewall.ensure_table(TABLE, "/var/lib/onggi", ELEMENTS)
    changed = Table(name=TABLE.name, networks=TABLE.networks, loopback6=True)
    assert firewall.ensure_table(changed, "/var/lib/onggi", ELEMENTS)
    assert "::1 return" not in listed("table", "inet", TABLE.name)
    assert firewall.ensure_table(TABLE, "/var/lib/onggi", ELEMENTS)
    assert listed("table", "inet", TABLE.name) == LISTED
    assert firewall.has_table(TABLE.name)
    assert firewall.remove_table(TABLE.name)
    assert not firewall.remove_table(TABLE.name)
    assert not firewall.has_table(TABLE.name)


def test_elements_are_listed_and_dropped_one_by_one() -> None:
    assert firewall.list_elements(TABLE.name) == []
    firewall.drop_elements(TABLE.name, ELEMENTS)
    firewall.ensure_table(TABLE, "/", ELEMENTS)
    assert sorted(firewall.list_elements(TABLE.name), key=str) == sorted(ELEMENTS, key=str)
    firewall.drop_elements(TABLE.name, [port("tcp", "0.0.0.0", 1, 1), *ELEMENTS[:2]])
    assert sorted(firewall.list_elements(TABLE.name), key=str) == sorted(ELEMENTS[2:], key=str)


def test_two_thousand_elements_are_one_transaction() -> None:
    many = [port("tcp", every, number, number) for every in ("0.0.0.0", "::") for number in range(1, 1001)]
    firewall.ensure_table(TABLE, "/", many)
    assert len(firewall.list_elements(TABLE.name)) == 2000


def test_an_element_that_leads_elsewhere_is_refused() -> None:
    """A stale element is in the way of a new one: this is why a start drops it first."""
    firewall.ensure_table(TABLE, "/", ELEMENTS[1:2])
    other = nftables.Element(ELEMENTS[1].map, ELEMENTS[1].key, bytes.fromhex("0ac9000300500000"))
    with Netlink(NETFILTER) as netlink, pytest.raises(Refused) as error:
        netlink.act(nftables.batch([nftables.new_elements(TABLE.name, other.map, [other])]))
    assert error.value.errno in (errno.EEXIST, errno.EBUSY)
    with Netlink(NETFILTER) as netlink:
        netlink.act(nftables.batch([nftables.new_elements(TABLE.name, other.map, ELEMENTS[1:2])]))


def test_a_batch_happens_whole_or_not_at_all() -> None:
    firewall.ensure_table(TABLE, "/", ELEMENTS)
    absent = port("tcp", "0.0.0.0", 1, 1)
    requests = [nftables.delete_elements(TABLE.name, each.map, [each]) for each in (ELEMENTS[0], absent)]
    with Netlink(NETFILTER) as netlink, pytest.raises(Refused) as error:
        netlink.act(nftables.batch(requests))
    assert error.value.errno == errno.ENOENT
    assert len(firewall.list_elements(TABLE.name)) == len(ELEMENTS)


def test_links_addresses_and_routes_as_ip_lists_them() -> None:
    act("make a bridge", links.new_bridge(BRIDGE, mac=bytes.fromhex("026f0ac90001"), mtu=1400))
    bridge = find_link(BRIDGE)
    assert bridge is not None
    assert (bridge.up, bridge.mtu, bridge.kind, bridge.master) == (False, 1400, "bridge", 0)
    act(
        "configure it",
        links.link_up(bridge.index),
        links.new_address(bridge.index, ip_address("10.201.0.1").packed, 16),
        links.new_address(bridge.index, ip_address("fd42::1").packed, 64),
        links.loopback_route(bridge.index),
    )
    run("ip", "link", "add", "port", "type", "veth", "peer", "name", "peer")
    port = find_link("port")
    assert port is not None
    act("make it a port", links.set_master("port", bridge.index), links.set_hairpin("port"))
    assert "hairpin on" in run("bridge", "-d", "link", "show", "dev", "port")
    attached = find_link("port")
    assert attached is not None
    assert attached.master == bridge.index

    by_ip = json.loads(run("ip", "-j", "-d", "address"))
    assert {link.name: (link.index, link.mtu, link.up) for link in list_links()} == {
        shown["ifname"]: (shown["ifindex"], shown["mtu"], "UP" in shown["flags"]) for shown in by_ip
    }
    assert sorted((index, str(address), prefix) for index, address, prefix in list_addresses()) == sorted(
        (shown["ifindex"], info["local"], info["prefixlen"]) for shown in by_ip for info in shown["addr_info"]
    )
    routes = {(str(route.destination), route.local) for route in list_routes()}
    assert {("10.201.0.0/16", False), ("0.0.0.0/0", False), ("10.201.0.1/32", True)} <= routes
    assert "local ::1 dev onggi0-01234567 metric 2048" in run("ip", "-6", "route", "show", "table", "local")
    run("ip", "link", "set", "up0", "mtu", "1300")
    assert default_mtu() == 1300
    run("ip", "route", "del", "default")
    assert default_mtu() == 1500
    act("remove it", links.delete_link(bridge.index))
    assert find_link(BRIDGE) is None


def test_what_the_kernel_refuses_is_a_sentence() -> None:
    act("make a bridge", links.new_bridge(BRIDGE, mac=bytes.fromhex("026f0ac90001"), mtu=1500))
    with pytest.raises(Unavailable, match=r"^cannot make a second: file exists"):
        act("make a second", links.new_bridge(BRIDGE, mac=bytes.fromhex("026f0ac90001"), mtu=1500))
    assert isinstance(Refused(errno.EPERM).explain("x"), PermissionDenied)
    assert isinstance(Refused(errno.EOPNOTSUPP).explain("x"), NotSupported)
    with pytest.raises(PermissionDenied, match=r"cannot set the sysctl net\.ipv4\.no_such to 1: no such file"):
        write_sysctl("ipv4/no_such", "1")
    assert read_sysctl("ipv4/no_such") is None
    write_sysctl("ipv4/ip_forward", "1")
    assert read_sysctl("ipv4/ip_forward") == "1"


def test_free_ports(host: Host) -> None:
    any_port = find_any_port("tcp", ("0.0.0.0", "::"), ())
    assert any_port is not None
    assert not is_taken("0.0.0.0", any_port)
    with Server(host.own, "0.0.0.0", 7000), Server(host.own, "::", 7001), Server(host.own, "0.0.0.0", 7002, udp=True):
        assert find_port_among("tcp", ("0.0.0.0", "::"), range(7000, 7004)) == 7002
        assert find_port_among("tcp", ("0.0.0.0", "::"), range(7000, 7002)) is None
        assert find_port_among("udp", ("0.0.0.0",), range(7002, 7004)) == 7003
