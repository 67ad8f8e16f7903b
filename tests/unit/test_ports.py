"""Published ports as people write them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.spec.container import ContainerRequest, check_network
from onggi.spec.ports import PortRequest, parse_exposed, parse_publish

ports = st.integers(1, 65535)


def one(container: int, host: int = 0, **fields: Any) -> tuple[PortRequest, ...]:
    return (PortRequest(container_port=container, host_port=host, **fields),)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("80", one(80)),
        ("80/udp", one(80, protocol="udp")),
        ("80/UDP", one(80, protocol="udp")),
        ("80/", one(80)),
        ("8080:80", one(80, 8080)),
        (":80", one(80)),
        ("127.0.0.1:8080:80", one(80, 8080, host_ip="127.0.0.1")),
        ("127.0.0.1::80", one(80, host_ip="127.0.0.1")),
        ("0.0.0.0:8080:80/tcp", one(80, 8080, host_ip="0.0.0.0")),
        ("[::1]:8080:80", one(80, 8080, host_ip="::1")),
        ("::1:8080:80", one(80, 8080, host_ip="::1")),
        ("[2001:DB8::0001]:8080:80", one(80, 8080, host_ip="2001:db8::1")),
        ("[::ffff:127.0.0.1]:8080:80", one(80, 8080, host_ip="127.0.0.1")),
        ("8000-8010:80", one(80, 8000, host_port_last=8010)),
        ("8000-8000:80", one(80, 8000)),
        ("80-81", one(80) + one(81)),
        ("8080-8081:80-81/udp", one(80, 8080, protocol="udp") + one(81, 8081, protocol="udp")),
        ("target=80,published=8080,protocol=udp,mode=host", one(80, 8080, protocol="udp")),
        ("target=80", one(80)),
    ],
)
def test_published_ports(text: str, wanted: tuple[PortRequest, ...]) -> None:
    assert parse_publish(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no port specified: <empty>"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("abc:80", "invalid hostPort: abc"),
        ("65536:80", "invalid hostPort: 65536"),
        ("99999999999:80", "invalid hostPort: 99999999999"),
        ("-1:80", "invalid hostPort: -1"),
        ("8081-8080:80", "invalid hostPort: 8081-8080"),
        ("8080-:80", "invalid hostPort: 8080-"),
        ("1-2-3:80", "invalid hostPort: 1-2-3"),
        ("8080:0", "invalid containerPort: 0"),
        ("8080:eighty", "invalid containerPort: eighty"),
        ("80:90-80", "invalid containerPort: 90-80"),
        ("8080:٨٠", "invalid containerPort: ٨٠"),
        ("8080-8082:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8080-8082"),
        ("8080:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8080"),
        ("80/xyz", "invalid proto: xyz"),
        ("localhost:8080:80", "invalid IP address: localhost"),
        ("256.0.0.1:8080:80", "invalid IP address: 256.0.0.1"),
        ("[fe80::1%eth0]:8080:80", "invalid IP address: fe80::1%eth0"),
        ("[::1:8080:80", "invalid IP address: [::1"),
        ("target=80,colour=red", "invalid field key: colour"),
        ("target=80,published", "invalid field: published"),
        ("target=80,mode=fast", "invalid publish mode: fast"),
    ],
)
def test_what_is_no_published_port(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        parse_publish(text)
    assert str(error.value) == said


def test_sctp_is_refused_by_name() -> None:
    with pytest.raises(NotSupported, match="sctp ports is not supported"):
        parse_publish("80/sctp")


@given(first=ports, count=st.integers(1, 50), host=ports)
def test_ranges_pair_up_in_order(first: int, count: int, host: int) -> None:
    last, host_last = first + count - 1, host + count - 1
    if last > 65535 or host_last > 65535:
        return
    found = parse_publish(f"{host}-{host_last}:{first}-{last}")
    assert [(p.host_port, p.container_port) for p in found] == [(host + n, first + n) for n in range(count)]


@given(st.text(max_size=30))
def test_nothing_else_is_raised(text: str) -> None:
    try:
        for port in parse_publish(text):
            assert 1 <= port.container_port <= 65535
            assert 0 <= port.host_port <= 65535
    except (InvalidArgument, NotSupported):
        pass


def test_exposed_ports() -> None:
    assert parse_exposed("80") == ((80, "tcp"),)
    assert parse_exposed("80-82/udp") == ((80, "udp"), (81, "udp"), (82, "udp"))
    for text in ("", "0", "web", "90-80/tcp"):
        with pytest.raises(InvalidArgument, match="invalid range format for --expose"):
            parse_exposed(text)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"network": "mine"}, "network mine not found"),
        ({"network": "container:x", "ports": one(80)}, "port publishing and the container type network mode"),
        ({"network": "container:x", "publish_all": True}, "port publishing and the container type network mode"),
        ({"network": "container:x", "exposed": ("80",)}, "port exposing and the container type network mode"),
        ({"network": "container:x", "hostname": "h"}, "hostname and the container type network mode"),
        ({"network": "container:x", "dns": ("192.0.2.1",)}, "dns and the container type network mode"),
        ({"network": "container:x", "extra_hosts": ("a:192.0.2.1",)}, "custom host-to-IP mapping and the container"),
        ({"network": "host", "ports": one(80)}, "port publishing and network mode host"),
        ({"network": "none", "publish_all": True}, "port publishing and network mode none"),
        ({"dns": ("resolver",)}, "resolver is not an ip address"),
        ({"extra_hosts": ("db",)}, 'bad format for add-host: "db"'),
        ({"extra_hosts": ("db:here",)}, 'invalid IP address in add-host: "here"'),
        ({"exposed": ("web",)}, "invalid range format"),
    ],
)
def test_what_does_not_go_together(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        check_network(ContainerRequest(**fields))
    assert said in str(error.value)


def test_what_goes_together() -> None:
    check_network(ContainerRequest(ports=one(80), dns=("192.0.2.1", "2001:db8::1"), extra_hosts=("h:host-gateway",)))
    check_network(ContainerRequest(network="host", extra_hosts=("db=2001:db8::1",), exposed=("80-90/udp",)))
    check_network(ContainerRequest(network="container:x"))
