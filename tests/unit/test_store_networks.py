"""Addresses and ports as rows: given once, in turn, and gone with their owner."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onggi.base.errors import NotFound, Unavailable
from onggi.spec.ports import PublishedPort
from onggi.store.networks import Endpoint, Network, Networks, PortTaken
from tests.stores import Store, new_container

NETWORK: Final = Network(name="bridge", bridge="onggi0", subnet4="10.201.0.0/16", subnet6="fd42::/64", created_ns=1)


def published(text: str) -> PublishedPort:
    """Read `tcp 0.0.0.0 8080`."""
    protocol, host_ip, port = text.split()
    return PublishedPort(protocol=protocol, host_ip=host_ip, host_port=int(port), container_port=80)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as made:
        yield made


@pytest.fixture
def networks(store: Store) -> Networks:
    made = Networks(store.root)
    made.put(NETWORK)
    return made


def new(store: Store, name: str | None = None) -> str:
    """Record a container; gives its id."""
    container = new_container(name=name)
    store.containers.create(container, durable=False)
    return container.id


def attach(store: Store, networks: Networks, *ports: str, name: str | None = None) -> Endpoint:
    owner = new(store, name)
    return networks.attach("bridge", owner, f"veth{owner[:9]}", [published(text) for text in ports])


def test_a_network_is_kept(store: Store, networks: Networks) -> None:
    assert networks.get("bridge") == NETWORK
    assert networks.get("other") is None


def test_addresses_are_given_in_turn_and_used_again_late(store: Store, networks: Networks) -> None:
    first, second = attach(store, networks), attach(store, networks)
    assert (first.number, second.number) == (2, 3)
    assert networks.detach(first.owner, first.link)
    assert attach(store, networks).number == 4
    assert [endpoint.number for endpoint in networks.endpoints("bridge")] == [3, 4]


def test_all_addresses_are_given_before_one_is_again(store: Store, networks: Networks) -> None:
    networks.put(Network(name="bridge", bridge="onggi0", subnet4="192.168.7.0/29", subnet6="fd42::/64", created_ns=1))
    ends = [attach(store, networks) for _ in range(5)]
    assert [end.number for end in ends] == [2, 3, 4, 5, 6]  # 0 the subnet, 1 the gateway, 7 for broadcasts
    with pytest.raises(Unavailable, match="no available IPv4 addresses on network bridge"):
        attach(store, networks)
    networks.detach(ends[2].owner, ends[2].link)
    assert attach(store, networks).number == 4


def test_a_new_subnet_forgets_who_was_in_the_old_one(store: Store, networks: Networks) -> None:
    attach(store, networks)
    networks.put(Network(name="bridge", bridge="onggi0", subnet4="10.202.0.0/16", subnet6="fd43::/64", created_ns=2))
    assert networks.endpoints("bridge") == []
    assert attach(store, networks).number == 2


def test_an_endpoint_goes_with_its_container(store: Store, networks: Networks) -> None:
    end = attach(store, networks, "tcp 0.0.0.0 8080")
    store.containers.remove(end.owner)
    assert networks.endpoint(end.owner) is None
    assert networks.taken_ports("tcp") == set()
    attach(store, networks, "tcp 0.0.0.0 8080")


def test_an_endpoint_goes_with_its_lease(store: Store, networks: Networks) -> None:
    with store.leases.open("a build") as lease:
        end = networks.attach("bridge", "step", "vethstep", lease=lease.id)
        assert networks.owners() == [("step", lease.id)]
        assert end.number == 2
    assert networks.owners() == []


def test_an_unknown_network_or_container(store: Store, networks: Networks) -> None:
    with pytest.raises(NotFound, match="network other not found"):
        networks.attach("other", new(store), "veth")
    with pytest.raises(NotFound, match="No such container"):
        networks.attach("bridge", "nobody", "veth")


def test_a_restart_gives_up_what_it_had(store: Store, networks: Networks) -> None:
    end = attach(store, networks, "tcp 0.0.0.0 8080")
    again = networks.attach("bridge", end.owner, "vethnew", [published("tcp 0.0.0.0 8080")])
    assert networks.endpoints("bridge") == [again]
    assert not networks.detach(end.owner, end.link), "who saw the earlier start must not end the later one"
    assert networks.detach(end.owner, "vethnew")


def test_a_taken_port_is_refused_whole(store: Store, networks: Networks) -> None:
    first = attach(store, networks, "tcp 0.0.0.0 8080", name="first")
    other = new(store, "second")
    ports = [published("tcp 0.0.0.0 8081"), published("tcp 127.0.0.1 8080")]
    with pytest.raises(
        PortTaken, match=r"Bind for 127\.0\.0\.1:8080 failed: port is already allocated, by .* first"
    ) as error:
        networks.attach("bridge", other, "veth2", ports)
    assert (error.value.owner, error.value.link) == (first.owner, first.link)
    assert networks.endpoint(other) is None
    assert networks.taken_ports("tcp") == {8080}


def collides(one: PublishedPort, other: PublishedPort) -> bool:
    """What bind(2) says about two sockets, IPv6 ones for IPv6 only."""
    same = (one.protocol, one.host_port, ":" in one.host_ip) == (other.protocol, other.host_port, ":" in other.host_ip)
    return same and (one.host_ip == other.host_ip or bool({one.host_ip, other.host_ip} & {"0.0.0.0", "::"}))


some_ports = st.builds(
    PublishedPort,
    protocol=st.sampled_from(["tcp", "udp"]),
    host_ip=st.sampled_from(["0.0.0.0", "127.0.0.1", "192.0.2.1", "::", "::1"]),
    host_port=st.integers(80, 82),
    container_port=st.just(80),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(wanted=st.lists(st.lists(some_ports, max_size=3), max_size=6))
def test_ports_collide_as_sockets_do(store: Store, wanted: list[list[PublishedPort]]) -> None:
    networks = Networks(store.root)
    networks.put(
        Network(name="bridge", bridge="onggi0", subnet4=str(IPv4Network("10.201.0.0/16")), subnet6="", created_ns=1)
    )
    held: list[PublishedPort] = []
    for ports in wanted:
        owner = new(store)
        clash = any(collides(port, other) for n, port in enumerate(ports) for other in (*held, *ports[:n]))
        try:
            end = networks.attach("bridge", owner, f"veth{owner[:9]}", ports)
        except PortTaken:
            assert clash
        else:
            assert not clash
            assert set(end.ports) == set(ports)
            stored = networks.endpoint(owner)
            assert stored is not None
            assert set(stored.ports) == set(ports)
            held += ports
