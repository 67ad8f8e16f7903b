"""Which name servers a container gets, on hosts of several kinds."""

from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

import pytest

from onggi.engine import resolving
from onggi.engine.resolving import resolver_of
from onggi.plan.network import Attachment
from onggi.spec.container import ContainerRequest
from onggi.spec.resolv import Resolver

PLAIN: Final = {"/etc/resolv.conf": "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch lan\n"}
RESOLVED: Final = {
    "/etc/resolv.conf": "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n",
    "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch other\n",
}
OPTIONS: Final = ("edns0", "trust-ad")
DNSMASQ: Final = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\n",
    "/run/NetworkManager/no-stub-resolv.conf": "nameserver 192.0.2.54\n",
}


def place(*, ipv6: bool) -> Attachment:
    return Attachment(
        table="onggi",
        bridge="onggi0",
        bridge_index=1,
        mtu=1500,
        link="veth0",
        number=2,
        subnet4=IPv4Network("10.201.0.0/16"),
        subnet6=IPv6Network("fd42::/64") if ipv6 else None,
    )


@pytest.mark.parametrize(
    ("host", "request_fields", "ipv6", "wanted"),
    [
        (PLAIN, {}, True, Resolver(servers=("192.0.2.53", "2001:db8::53"), search=("lan",))),
        (PLAIN, {}, False, Resolver(servers=("192.0.2.53",), search=("lan",))),
        (RESOLVED, {}, True, Resolver(servers=("192.0.2.53",), search=("lan",), options=OPTIONS)),
        (DNSMASQ, {}, True, Resolver(servers=("192.0.2.54",))),
        ({"/etc/resolv.conf": "nameserver ::1\n"}, {}, True, Resolver(servers=("8.8.8.8", "8.8.4.4"))),
        ({}, {}, True, Resolver(servers=("8.8.8.8", "8.8.4.4"))),
        (
            RESOLVED,
            {"dns": ("127.0.0.1",), "dns_search": (".",)},
            True,
            Resolver(servers=("127.0.0.1",), options=OPTIONS),
        ),
        (PLAIN, {"dns_options": ("a",)}, False, Resolver(servers=("192.0.2.53",), search=("lan",), options=("a",))),
        # In the host's own network its own server is the right one.
        (RESOLVED, {"network": "host"}, True, Resolver(servers=("127.0.0.53",), search=("lan",), options=OPTIONS)),
    ],
)
def test_name_servers(
    monkeypatch: pytest.MonkeyPatch,
    host: dict[str, str],
    request_fields: dict[str, Any],
    ipv6: bool,
    wanted: Resolver,
) -> None:
    monkeypatch.setattr(resolving, "read_host_file", lambda path: host.get(path, ""))
    request = ContainerRequest(**request_fields)
    assert resolver_of(request, place(ipv6=ipv6) if request.network == "bridge" else None) == wanted
