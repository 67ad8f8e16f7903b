"""Netlink messages against what iproute2 6.1 sends for the same, recorded at its sendmsg, and their own rules."""

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import FailedPrecondition
from onggi.plan import ops
from onggi.plan.explain import describe
from onggi.plan.network import Attachment, Bridged, Table, links, nftables, plan_attachment, pool
from onggi.plan.network.attachment import mac_address
from onggi.plan.network.netlink import NLM_F_ACK, Parts, attribute, join, message, nest, plain
from onggi.plan.network.table import element
from onggi.plan.ops import Bind, Close, LinkHole, Netlink, SetNamespace, SlotHole
from onggi.spec.ports import PublishedPort
from tests.netlink_reader import attributes, flat, messages, tree

MAC: Final = bytes.fromhex("026f0ac90002")
INFO: Final = links.IFLA_LINKINFO
NESTED: Final = frozenset({(INFO,), (INFO, links.IFLA_INFO_DATA), (INFO, links.IFLA_INFO_SLAVE_DATA)})


def recorded(text: str, fixed: int) -> tuple[int, bytes, object]:
    """Read one recorded message: its type, the fixed part and the attributes."""
    (read,) = messages(bytes.fromhex(text))
    return read.kind, read.body[:fixed], tree(read.body[fixed:], NESTED)


def ours(parts: Parts, fixed: int) -> tuple[int, bytes, object]:
    (read,) = messages(join([parts]))
    assert read.flags & (NLM_F_ACK | 1) == NLM_F_ACK | 1
    return read.kind, read.body[:fixed], tree(read.body[fixed:], NESTED)


def test_a_bridge_as_ip_makes_it() -> None:
    text = (
        "5000000010000506527a066b000000000000000000000000000000000000000008000400dc0500000a000100026f0ac9000100000b000300"
        "6f6e676769300000100012000a0001006272696467650000"
    )
    kind, head, fields = recorded(text, 16)
    assert isinstance(fields, dict)
    fields[INFO][1] += b"\0"  # ip leaves out the NUL of the kind
    assert ours(links.new_bridge("onggi0", mac=bytes.fromhex("026f0ac90001"), mtu=1500), 16) == (kind, head, fields)


def test_a_pair_as_ip_makes_it() -> None:
    """Ours has the network namespace of the peer, which is not up yet."""
    text = (
        "8000000010000506527a066b000000000000000000000000010000000100000008000400dc05000008000a00020000000b00030076657468"
        "61620000440012000800010076657468380002003400010000000000000000000000000000000000"
        "08000400dc0500000a000100026f0ac900020000090003006574683000000000"
    )
    kind, head, wanted = recorded(text, 16)
    parts = links.new_veth("vethab", bridge=2, mtu=1500, mac=MAC, netns=SlotHole(slot="n", binary=True))
    found = ours(parts, 16)
    assert found[:2] == (kind, head)
    theirs, mine = wanted, found[2]
    assert isinstance(theirs, dict)
    assert isinstance(mine, dict)
    peers = [fields[INFO][links.IFLA_INFO_DATA].pop(links.VETH_INFO_PEER) for fields in (theirs, mine)]
    theirs[INFO][1] += b"\0"
    assert mine == theirs
    assert peers[0][:16] == peers[1][:16] == bytes(16)
    assert attributes(peers[1][16:]) == {**attributes(peers[0][16:]), links.IFLA_NET_NS_FD: b"SLOT"}


@pytest.mark.parametrize(
    ("text", "fixed", "parts"),
    [
        (
            "2800000014000506527a066b000000000210000002000000080002000ac90002080001000ac90002",
            8,
            links.new_address(2, ip_address("10.201.0.2").packed, 16),
        ),
        (
            "2400000018000505527a066b0000000002000000fe03000100000000080005000ac90001",
            12,
            links.default_route(ip_address("10.201.0.1").packed),
        ),
        (
            "4000000018000505527a066b000000000a800000ff03000200000000140001000000000000000000000000000000000108000600000800"
            "000800040002000000",
            12,
            links.loopback_route(2),
        ),
        ("2000000010000500527a066b0000000000000000010000000100000001000000", 16, links.link_up(1)),
    ],
    ids=["address", "route", "route to ::1", "lo up"],
)
def test_addresses_and_routes_as_ip_makes_them(text: str, fixed: int, parts: Parts) -> None:
    assert ours(parts, fixed) == recorded(text, fixed)


def test_an_ipv6_address_as_ip_makes_it() -> None:
    """`nodad` is in the old eight bits there, in IFA_FLAGS here."""
    text = (
        "4000000014000506527a066b000000000a4002000200000014000200fd42000000000000000000000000000214000100fd42000000000000"
        + ("0000000000000002")
    )
    kind, head, fields = recorded(text, 8)
    assert head[2] == links.IFA_F_NODAD
    assert isinstance(fields, dict)
    wanted = kind, head[:2] + b"\0" + head[3:], {**fields, links.IFA_FLAGS: struct.pack("=I", links.IFA_F_NODAD)}
    assert ours(links.new_address(2, ip_address("fd42::2").packed, 64), 8) == wanted


def test_hairpin_as_ip_makes_it() -> None:
    text = "4000000010000500527a066b0000000000000000050000000000000000000000200012001000010062726964"
    text += "67655f736c6176650c0005000500040001000000"
    # ip names the port's kind where the kernel never looks (IFLA_INFO_KIND); what it looks at is the data.
    _, _, fields = recorded(text, 16)
    _, head, mine = ours(links.set_hairpin("vethab"), 16)
    assert head == bytes(16)
    assert isinstance(fields, dict)
    assert isinstance(mine, dict)
    assert mine[INFO][links.IFLA_INFO_SLAVE_DATA] == fields[INFO][links.IFLA_INFO_SLAVE_DATA]
    assert mine[links.IFLA_IFNAME] == b"vethab\0"


# -- framing ---------------------------------------------------------------------------------------

part = st.one_of(st.binary(max_size=40), st.just(SlotHole(slot="x", binary=True)), st.just(LinkHole()))


@given(st.lists(st.lists(part, max_size=4), max_size=4))
def test_lengths_hold_whatever_is_inside(values: list[list[ops.Part]]) -> None:
    inner = [attribute(number, *value) for number, value in enumerate(values, 2)]
    (read,) = messages(join([message(9, 4, *nest(7, *inner))]))
    assert (read.kind, read.flags) == (9, 5)
    found = attributes(attributes(read.body)[7])
    assert found == {number: flat(tuple(value)) for number, value in enumerate(values, 2)}


def test_only_the_launcher_fills_holes() -> None:
    with pytest.raises(TypeError):
        plain(links.new_address(LinkHole(), bytes(4), 24))


# -- the table -------------------------------------------------------------------------------------

PORTS: Final = (
    PublishedPort(protocol="tcp", host_ip="0.0.0.0", host_port=8080, container_port=80),
    PublishedPort(protocol="tcp", host_ip="::", host_port=8080, container_port=80),
    PublishedPort(protocol="udp", host_ip="127.0.0.1", host_port=53, container_port=5353),
)


def attachment(**fields: Any) -> Attachment:
    values: dict[str, Any] = {
        "table": "onggi",
        "bridge": "onggi0",
        "bridge_index": 7,
        "mtu": 1500,
        "link": "veth01234abcdef",
        "number": 2,
        "subnet4": IPv4Network("10.201.0.0/16"),
        "subnet6": IPv6Network("fd42::/64"),
        "ports": PORTS,
        **fields,
    }
    return Attachment(**values)


def test_a_published_port_is_one_element() -> None:
    four, six, single = attachment().elements()
    assert four == nftables.Element("open4", bytes.fromhex("060000001f900000"), bytes.fromhex("0ac9000200500000"))
    assert (six.map, six.data[:16]) == ("open6", ip_address("fd42::2").packed)
    assert single.map == "published4"
    assert single.key == bytes.fromhex("110000007f00000100350000")


HOST_IPS: Final = ("0.0.0.0", "127.0.0.1", "192.0.2.1", "::", "fd00::1")


@given(st.lists(st.tuples(st.sampled_from(["tcp", "udp"]), st.sampled_from(HOST_IPS), st.integers(1, 65535))))
def test_different_ports_have_different_elements(wanted: list[tuple[str, str, int]]) -> None:
    ports = [PublishedPort(protocol=p, host_ip=ip, host_port=n, container_port=80) for p, ip, n in set(wanted)]
    made = [element(port, "fd42::2" if ":" in port.host_ip else "10.201.0.2") for port in ports]
    assert len({(each.map, each.key) for each in made}) == len(ports)


@given(st.integers(0, 3000))
def test_a_table_of_any_size_can_be_framed(count: int) -> None:
    table = Table(name="onggi", networks=())
    elements = [nftables.Element("open6", struct.pack("=BxxxHxx", 6, n), bytes(20)) for n in range(count)]
    made = messages(plain(*table.make("/var/lib/onggi", elements)))
    assert made[0].kind == nftables.BATCH_BEGIN
    assert made[-1].kind == nftables.BATCH_END
    assert all(read.flags & NLM_F_ACK for read in made[1:-1])


def test_the_comment_follows_the_rules() -> None:
    one = Bridged(bridge="onggi0", subnet4=IPv4Network("10.201.0.0/16"))
    tables = [
        Table(name="onggi", networks=()),
        Table(name="onggi", networks=(one,)),
        Table(name="onggi", networks=(one,), loopback6=True),
        Table(name="onggi", networks=(Bridged(bridge="onggi0", subnet4=IPv4Network("10.202.0.0/16")),)),
    ]
    comments = {table.comment("/var/lib/onggi") for table in tables}
    assert len(comments) == len(tables)
    assert all(comment.startswith("Onggi, /var/lib/onggi; rules ") for comment in comments)
    assert len(tables[0].comment("/" + "x" * 4000)) < 250


# -- a container's part ----------------------------------------------------------------------------


def test_the_lines_of_a_plan() -> None:
    planned = plan_attachment(attachment())
    assert [describe(op) for op in planned.before] == [
        "hold port 0.0.0.0:8080/tcp",
        "hold port [::]:8080/tcp",
        "hold port 127.0.0.1:53/udp",
        "open own-network = /proc/self/ns/net (read)",
    ]
    assert [describe(op) for op in planned.beside] == [
        "netlink: make veth01234abcdef a port of onggi0, its other end eth0 in %hold-network, 02:6f:0a:c9:00:02, "
        "hairpin",
        "join network namespace of %hold-network",
        "netlink: eth0 up, has 10.201.0.2/16, route by 10.201.0.1",
        "netlink: eth0 has fd42::2/64, route by fd42::1  (or EACCES, ENOTSUP, EPERM)",
        "join network namespace of %own-network",
        "netlink: publish 0.0.0.0:8080/tcp to 80, [::]:8080/tcp to 80, 127.0.0.1:53/udp to 5353 of 10.201.0.2 "
        "in table onggi",
        "netlink: forget flows to udp port 53 of IPv4  (or ENOENT, EINVAL, ENOTSUP)",
    ]
    assert [describe(op) for op in planned.after] == [
        "netlink: publish 0.0.0.0:8080/tcp to 80, [::]:8080/tcp to 80, 127.0.0.1:53/udp to 5353 no longer  (or ENOENT)",
        "close %port0",
        "close %port1",
        "close %port2",
    ]


def test_without_ports_or_ipv6_there_is_less() -> None:
    planned = plan_attachment(attachment(ports=(), subnet6=None))
    assert [type(op) for op in planned.beside] == [Netlink, SetNamespace, Netlink, SetNamespace]
    assert planned.after == ()
    assert not any(isinstance(op, Bind) for op in planned.before)
    assert "hairpin" not in describe(planned.beside[0])


@given(st.integers(0, 200))
def test_every_port_that_is_held_is_let_go(count: int) -> None:
    ports = tuple(
        PublishedPort(protocol="tcp", host_ip="0.0.0.0", host_port=n + 1, container_port=80) for n in range(count)
    )
    planned = plan_attachment(attachment(ports=ports))
    held = [op.slot for op in planned.before if isinstance(op, Bind)]
    assert held == [op.slot for op in planned.after if isinstance(op, Close)]
    assert len(set(held)) == count


def test_messages_are_counted_as_they_are_acknowledged() -> None:
    for op in (*plan_attachment(attachment()).beside, *plan_attachment(attachment()).after):
        if isinstance(op, Netlink):
            assert sum(bool(read.flags & NLM_F_ACK) for read in messages(op.messages)) == op.count


# -- subnets ---------------------------------------------------------------------------------------

PRIVATE: Final = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
networks = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
)


@given(st.lists(networks, max_size=30), st.integers(0, 2**32 - 1))
def test_a_chosen_subnet_is_private_and_free(taken: list[IPv4Network], seed: int) -> None:
    try:
        chosen = pool.choose_subnet(taken, seed)
    except FailedPrecondition:
        return
    assert any(chosen.subnet_of(private) for private in PRIVATE)
    assert not any(chosen.overlaps(network) for network in taken if network.prefixlen >= 8)
    assert chosen == pool.choose_subnet(taken, seed)


@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(8, 32)), max_size=40))
def test_a_route_to_any_part_of_the_choice_changes_it(seed: int, routes: list[tuple[int, int]]) -> None:
    """Routes anywhere seldom meet a candidate: these always do, from within and from around it."""
    taken: list[IPv4Network] = []
    for offset, length in routes:
        try:
            chosen = pool.choose_subnet(taken, seed)
        except FailedPrecondition:
            assert any(network.prefixlen < 16 for network in taken)
            return
        assert not any(chosen.overlaps(network) for network in taken)
        inside = chosen[offset % chosen.num_addresses]
        taken.append(IPv4Network((inside, length), strict=False))


def test_default_routes_in_disguise_take_nothing() -> None:
    halves = [IPv4Network("0.0.0.0/0"), IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1")]
    assert pool.choose_subnet(halves, 0) == IPv4Network("10.201.0.0/16")


def test_when_everything_is_taken() -> None:
    with pytest.raises(FailedPrecondition, match="non-overlapping IPv4 address pool"):
        pool.choose_subnet(PRIVATE, 0)
    assert pool.choose_subnet(PRIVATE[:1], 0) == IPv4Network("172.31.0.0/16")
    assert pool.choose_subnet(PRIVATE[:2], 0) == IPv4Network("192.168.255.0/24")


@given(st.binary(min_size=5, max_size=5))
def test_unique_local_prefixes(random: bytes) -> None:
    prefix = pool.unique_prefix(random)
    assert prefix.prefixlen == 64
    assert prefix.subnet_of(IPv6Network("fd00::/8"))


@given(st.integers(0, 2**32 - 1))
def test_mac_addresses_are_local_and_no_group(number: int) -> None:
    mac = mac_address(IPv4Address(number))
    assert mac[0] & 3 == 2
    assert mac[2:] == struct.pack(">I", number)
