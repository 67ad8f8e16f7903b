"""resolv.conf and hosts for containers."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.spec.resolv import (
    Resolver,
    change_resolver,
    is_loopback,
    parse_extra_host,
    parse_resolv,
    print_hosts,
    print_resolv,
    reachable_servers,
)

STUB = """\
# This is /run/systemd/resolve/stub-resolv.conf
nameserver 127.0.0.53
options edns0 trust-ad
options ndots:2
domain first.example
search example.org lan ; not a comment in the middle
"""
words = st.text("abcdefgh.-:0123456789", min_size=1, max_size=12)


def test_a_resolv_conf_is_read() -> None:
    assert parse_resolv(STUB) == Resolver(
        servers=("127.0.0.53",),
        search=("example.org", "lan", ";", "not", "a", "comment", "in", "the", "middle"),
        options=("edns0", "trust-ad", "ndots:2"),
    )
    assert parse_resolv("nameserver\n;nameserver 192.0.2.1\n\n") == Resolver()


@given(st.lists(words), st.lists(words), st.lists(words))
def test_what_is_printed_is_read_again(servers: list[str], search: list[str], options: list[str]) -> None:
    resolver = Resolver(servers=tuple(servers), search=tuple(search), options=tuple(options))
    assert parse_resolv(print_resolv(resolver)) == resolver


def test_servers_that_a_container_cannot_reach_are_left_out() -> None:
    every = ("127.0.0.53", "::1", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "127.1.2.3", "what")
    assert reachable_servers(every, ipv6=True) == ("192.0.2.1", "2001:db8::1")
    assert reachable_servers(every, ipv6=False) == ("192.0.2.1",)
    assert is_loopback("127.0.0.53")
    assert not is_loopback("192.0.2.1")


def test_flags_take_the_place_of_what_the_host_has() -> None:
    host = Resolver(servers=("192.0.2.1",), search=("lan",), options=("edns0",))
    assert change_resolver(host, Resolver()) == host
    assert change_resolver(host, Resolver(search=(".",))).search == ()
    asked = Resolver(servers=("192.0.2.2",), search=("example.org",), options=("ndots:1",))
    assert change_resolver(host, asked) == asked


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("db:192.0.2.1", ("db", "192.0.2.1")),
        ("db=192.0.2.1", ("db", "192.0.2.1")),
        ("db:2001:db8::1", ("db", "2001:db8::1")),
        ("db=[2001:db8::1]", ("db", "2001:db8::1")),
        ("up:host-gateway", ("up", "host-gateway")),
    ],
)
def test_lines_of_hosts(text: str, wanted: tuple[str, str]) -> None:
    assert parse_extra_host(text) == wanted


def test_a_hosts_file() -> None:
    gateways = {6: ip_address("fd00::1"), 4: ip_address("192.0.2.1")}
    text = print_hosts("web", (ip_address("192.0.2.2"),), ("db:192.0.2.7", "up:host-gateway"), gateways)
    assert text.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ")
    assert text.endswith("\n192.0.2.7\tdb\n192.0.2.1\tup\nfd00::1\tup\n192.0.2.2\tweb\n")
    assert print_hosts("web", (), (), {}, base="192.0.2.9 host") == "192.0.2.9 host\n"
    with pytest.raises(InvalidArgument, match="unable to derive the IP value for host-gateway"):
        print_hosts("web", (), ("up:host-gateway",), {})
