"""Containers on a bridge, in a network namespace that plays the host: who reaches whom, and what is left afterwards."""

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from onggi.base.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from onggi.engine.assemble import Engine
from onggi.engine.bridges import ensure_bridge, table_name, wanted_table
from onggi.engine.networks import NetworkSettings
from onggi.host import firewall
from onggi.host.launcher import Launcher, LaunchFailed
from onggi.host.links import has_advertised_default_route
from onggi.plan.network import Table
from onggi.plan.ops import SetHostname
from onggi.spec.container import ContainerRequest, IdMapRequest
from onggi.spec.ports import parse_publish
from tests.conftest import make_rootfs
from tests.netns import HOST4, HOST6, LAN4, LAN6, Host, Namespace, Server, ask, is_taken, private_host, run

WAIT_S: Final = 20.0
SWEPT_S: Final = 10.0
"""How soon after the next command nothing is left of what was killed."""
SLEEP: Final = ("sleep", "600")


@pytest.fixture
def host() -> Iterator[Host]:
    with private_host() as private:
        yield private


class World:
    """An engine of the test's own on the private host."""

    def __init__(self, engine: Engine, rootfs: Path) -> None:
        self.engine, self.rootfs = engine, rootfs

    def request(self, *command: str, publish: tuple[str, ...] = (), **fields: Any) -> ContainerRequest:
        ports = tuple(port for text in publish for port in parse_publish(text))
        return ContainerRequest(rootfs=str(self.rootfs), command=command or SLEEP, ports=ports, **fields)

    def start(self, *command: str, **fields: Any) -> str:
        """Start a container; gives its id."""
        made = self.engine.containers.create(self.request(*command, **fields))
        return self.engine.containers.start(made.id).id

    def run(self, *command: str, **fields: Any) -> str:
        """Run a container to its end; gives what it said."""
        id = self.start(*command, **fields)
        self.engine.containers.wait(id, timeout_s=WAIT_S)
        return "".join(line.log for line in self.engine.containers.logs(id))

    def end(self, id: str) -> None:
        self.engine.containers.kill(id)
        self.engine.containers.wait(id, timeout_s=WAIT_S)

    def settings(self, id: str) -> NetworkSettings:
        found = self.engine.containers.network(id)
        assert found is not None
        return found

    def inside(self, id: str) -> Namespace:
        """Open the network namespace of a running container."""
        return Namespace(f"/proc/{self.engine.containers.get(id).pid}/ns/net")

    def close(self) -> None:
        for container in self.engine.containers.list(every=True):
            self.engine.containers.remove(container.id, force=True)
        self.engine.system.reset()
        self.engine.close()


@contextmanager
def world_in(directory: Path, launcher: Launcher, busybox: Path) -> Iterator[World]:
    directory.mkdir()
    engine = Engine(directory / "state", launcher=launcher)
    world = World(engine, make_rootfs(directory / "rootfs", busybox))
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def world(host: Host, tmp_path: Path, launcher: Launcher, busybox: Path) -> Iterator[World]:
    with world_in(tmp_path / "world", launcher, busybox) as private:
        yield private


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = WAIT_S) -> None:
    """Wait for what the kernel does in its own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# -- who reaches whom ------------------------------------------------------------------------------


@pytest.mark.parametrize("bridged", ["0", "1"], ids=["br_netfilter off", "br_netfilter on"])
@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_published_port_is_reached_from_everywhere(host: Host, world: World, udp: bool, bridged: str) -> None:
    if not Path("/proc/sys/net/bridge").exists():
        if bridged == "1":
            pytest.skip("needs br_netfilter: modprobe br_netfilter")
    else:
        host.sysctl("net.bridge.bridge-nf-call-iptables", bridged)
        host.sysctl("net.bridge.bridge-nf-call-ip6tables", bridged)
    id = world.start(publish=("8080:80/udp" if udp else "8080:80",))
    other = world.start()
    at = world.settings(id)
    with ExitStack() as stack:
        inside = stack.enter_context(world.inside(id))
        neighbour = stack.enter_context(world.inside(other))
        for every in ("0.0.0.0", "::"):
            stack.enter_context(Server(inside, every, 80, udp=udp))
        answers = {
            "host by 127.0.0.1": ask(host.own, "127.0.0.1", 8080, udp=udp),
            "host by its address": ask(host.own, HOST4, 8080, udp=udp),
            "host by its IPv6 address": ask(host.own, HOST6, 8080, udp=udp),
            "host by the gateway": ask(host.own, at.gateway4, 8080, udp=udp),
            "host directly": ask(host.own, at.address4, 80, udp=udp),
            "LAN": ask(host.lan, HOST4, 8080, udp=udp),
            "LAN by IPv6": ask(host.lan, HOST6, 8080, udp=udp),
            "neighbour by the gateway": ask(neighbour, at.gateway4, 8080, udp=udp),
            "neighbour by the host's address": ask(neighbour, HOST4, 8080, udp=udp),
            "neighbour by IPv6": ask(neighbour, HOST6, 8080, udp=udp),
            "neighbour directly": ask(neighbour, at.address4, 80, udp=udp),
            "neighbour directly by IPv6": ask(neighbour, at.address6, 80, udp=udp),
            "itself by the gateway": ask(inside, at.gateway4, 8080, udp=udp),
            "itself by the host's address": ask(inside, HOST4, 8080, udp=udp),
            "itself by IPv6": ask(inside, HOST6, 8080, udp=udp),
        }
        assert answers == dict.fromkeys(answers, "hello")
        loopback6 = ask(host.own, "::1", 8080, udp=udp, timeout_s=1)
        if bridged == "0":
            assert loopback6 == "hello"
        else:
            # Never a connection that hangs: `localhost` goes on to 127.0.0.1 then. Datagrams just get lost.
            assert loopback6 == ("timeout" if udp else "refused")


def test_the_container_sees_who_asks_from_the_lan(host: Host, world: World) -> None:
    id = world.start(publish=("8080:80",))
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80) as server, Server(inside, "::", 80) as server6:
        assert ask(host.lan, HOST4, 8080) == ask(host.lan, HOST6, 8080) == "hello"
        assert server.peers == [LAN4]
        assert server6.peers == [LAN6]


def test_what_leaves_has_the_hosts_address(host: Host, world: World) -> None:
    id = world.start()
    with world.inside(id) as inside, Server(host.lan, LAN4, 90) as server, Server(host.lan, LAN6, 90) as server6:
        assert ask(inside, LAN4, 90) == ask(inside, LAN6, 90) == "hello"
        assert server.peers == [HOST4]
        assert server6.peers == [HOST6]


def test_what_is_not_published_is_not_reached_from_outside(host: Host, world: World) -> None:
    id = world.start(publish=("8080:80",))
    at = world.settings(id)
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80), Server(inside, "0.0.0.0", 81):
        # The neighbour routes by us, as a hostile one may.
        assert ask(host.lan, at.address4, 80, timeout_s=0.5) == "timeout"
        assert ask(host.lan, at.address4, 81, timeout_s=0.5) == "timeout"
        assert ask(host.lan, HOST4, 8080) == "hello"


def test_a_port_of_one_address_is_not_on_others(host: Host, world: World) -> None:
    run("ip", "address", "add", "192.0.2.9/24", "dev", "up0")
    id = world.start(publish=("192.0.2.9:8080:80", f"[{HOST6}]:8081:80", "127.0.0.1:8082:80"))
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80), Server(inside, "::", 80):
        assert ask(host.lan, "192.0.2.9", 8080) == "hello"
        assert ask(host.lan, HOST4, 8080) == "refused"
        assert ask(host.own, "127.0.0.1", 8080) == "refused"
        assert ask(host.lan, HOST6, 8081) == "hello"
        assert ask(host.lan, HOST4, 8081) == "refused"
        assert ask(host.own, "127.0.0.1", 8082) == "hello"
        assert ask(host.lan, HOST4, 8082) == "refused"


def test_the_hosts_loopback_stays_its_own(host: Host, world: World) -> None:
    """CVE-2020-8558: route_localnet alone would let neighbours and containers in."""
    id = world.start(publish=("127.0.0.1:8082:80",))
    at = world.settings(id)
    host.sysctl(f"net.ipv4.conf.{at.bridge}.accept_local", "1")  # the kernel's own second fence
    with (
        world.inside(id) as inside,
        Server(inside, "0.0.0.0", 80),
        Server(host.own, "127.0.0.1", 7000) as private,
        Server(host.own, "0.0.0.0", 7001, udp=True) as trusting,
    ):
        for place, gateway in ((inside, at.gateway4), (host.lan, HOST4)):
            for route in ("127.0.0.0/8", "127.0.0.1"):
                place.run("ip", "route", "del", "local", route, "dev", "lo", "table", "local")
            place.run("ip", "route", "add", "127.0.0.0/8", "via", gateway, "dev", "eth0")
            for name in ("all/route_localnet", "eth0/accept_local"):
                place.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{name}")
            place.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/eth0/rp_filter")
            assert ask(place, "127.0.0.1", 7000, timeout_s=0.5) == "timeout"
            assert ask(place, "127.0.0.1", 8082, timeout_s=0.5) == "timeout"
            place.run("ip", "address", "add", "127.0.0.5/32", "dev", "eth0")
            with place.socket(socket.AF_INET, socket.SOCK_DGRAM) as spoof:
                spoof.bind(("127.0.0.5", 0))
                spoof.sendto(b"?", (gateway, 7001))
        assert ask(host.own, "127.0.0.1", 7001, udp=True) == "hello"
        assert trusting.peers == ["127.0.0.1"]
        assert private.peers == []
        assert ask(host.own, "127.0.0.1", 8082) == "hello"


def test_tools_of_people(host: Host, world: World) -> None:
    """busybox httpd in the container, wget and nc in others, curl on the host where there is one."""
    id = world.start("httpd", "-f", "-p", "80", "-h", "/etc", publish=("8080:80",))
    at = world.settings(id)
    wait_until(lambda: ask(host.own, "127.0.0.1", 8080, timeout_s=0.3) != "refused", "httpd does not come up")
    assert "root:x:0:0" in world.run("wget", "-q", "-O", "-", f"http://{at.gateway4}:8080/passwd")
    script = f"printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n' | nc {at.address4} 80"
    assert "root:x:0:0" in world.run("sh", "-c", script)
    if shutil.which("curl") is None:
        pytest.skip("the rest needs curl: apt-get install curl")
    assert "root:x:0:0" in run("curl", "-sS", "http://localhost:8080/passwd")


def test_flows_of_udp_follow_the_container_that_has_the_port(host: Host, world: World) -> None:
    """A client that keeps its port keeps its flow; conntrack must not lead it to who had the port before."""
    with host.lan.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((HOST4, 5353))
        for number in range(2):
            id = world.start(publish=("5353:53/udp",))
            with world.inside(id) as inside, Server(inside, "0.0.0.0", 53, udp=True, says=f"{number}"):
                client.send(b"?")
                assert client.recv(10) == f"{number}".encode()
            world.end(id)


# -- the host sees it ------------------------------------------------------------------------------


def test_the_host_sees_published_ports_taken_until_the_end(host: Host, world: World) -> None:
    id = world.start(publish=("8080:80", "127.0.0.1:8081:81/udp"))
    for address in ("0.0.0.0", "127.0.0.1", HOST4, "::", "::1"):
        assert is_taken(address, 8080), address
        assert is_taken(address, 8080, reuse=False), address
    assert is_taken("127.0.0.1", 8081, udp=True)
    assert not is_taken(HOST4, 8081, udp=True)
    assert not is_taken("127.0.0.1", 8081)
    world.end(id)
    assert not is_taken("0.0.0.0", 8080)
    assert not is_taken("::", 8080)
    assert not is_taken("127.0.0.1", 8081, udp=True)


def test_a_port_leads_nowhere_as_soon_as_its_container_has_ended(host: Host, world: World) -> None:
    """Before any command comes by: whoever has the port next is who answers."""
    id = world.start(publish=("8080:80",))
    run_directory = Path(world.engine._context.run_directory(id))
    os.kill(world.engine.containers.get(id).pid, 9)
    wait_until((run_directory / "exit").exists, "the end is recorded")
    with Server(host.own, "0.0.0.0", 8080, says="next"):
        assert ask(host.lan, HOST4, 8080) == "next"


def test_nobody_listens_where_the_packet_filter_does_not_lead(host: Host, world: World) -> None:
    world.start(publish=("8080:80",))
    run("nft", "flush", "ruleset")
    assert ask(host.own, "127.0.0.1", 8080) == "refused"


def test_a_port_that_a_program_has_is_refused(host: Host, world: World) -> None:
    said = r"hold port 0\.0\.0\.0:8080/tcp: .*port is already allocated.*8080"
    with Server(host.own, "127.0.0.1", 8080), pytest.raises(LaunchFailed, match=said):
        world.start(publish=("8080:80",))
    id = world.start(publish=("8080:80",))
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80):
        assert ask(host.own, "127.0.0.1", 8080) == "hello"


def test_a_port_in_time_wait_is_no_obstacle(host: Host, world: World) -> None:
    with Server(host.own, "127.0.0.1", 8080):
        assert ask(host.own, "127.0.0.1", 8080) == "hello"
    wait_until(lambda: "TIME-WAIT" in run("ss", "-Htan", "sport = :8080"), "no connection in TIME_WAIT")
    world.start(publish=("8080:80",))


def test_a_port_that_a_container_has_is_refused_by_its_name(world: World) -> None:
    made = world.engine.containers.create(world.request(publish=("8080:80",)), name="first")
    world.engine.containers.start(made.id)
    with pytest.raises(
        Conflict, match=r"Bind for 127\.0\.0\.1:8080 failed: port is already allocated, by container first"
    ):
        world.start(publish=("127.0.0.1:8080:80",))
    world.start(publish=("8080:80/udp",))


def test_an_address_that_the_host_has_not_is_refused(world: World) -> None:
    with pytest.raises(LaunchFailed, match=r"198\.51\.100\.7:80/tcp: cannot assign .* this host has no address"):
        world.start(publish=("198.51.100.7:80:80",))


def test_free_ports_are_found(host: Host, world: World) -> None:
    first, second = world.start(publish=("80", "81/udp")), world.start(publish=("80",))
    ports = {(p.host_port, p.protocol, p.host_ip) for id in (first, second) for p in world.settings(id).ports}
    assert len(ports) == 6
    by_family = {(p.container_port, p.protocol): p.host_port for p in world.settings(first).ports}
    assert {p.host_port for p in world.settings(first).ports} == set(by_family.values()), "one number for both families"
    with Server(host.own, "0.0.0.0", 9000):
        numbers = [world.settings(world.start(publish=("9000-9002:80",))).ports[0].host_port for _ in range(2)]
        assert numbers == [9001, 9002]
        with pytest.raises(Conflict, match=r"9000-9002 failed: all ports are allocated"):
            world.start(publish=("9000-9002:80",))


def test_ranges_and_exposed_ports(host: Host, world: World) -> None:
    id = world.start(publish=("7000-7002:80-82",), publish_all=True, exposed=("90-91/udp", "80"))
    got = {(p.host_port, p.container_port) for p in world.settings(id).ports if p.protocol == "tcp"}
    assert got == {(7000, 80), (7001, 81), (7002, 82)}
    assert {p.container_port for p in world.settings(id).ports if p.protocol == "udp"} == {90, 91}
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 82, says="82"):
        assert ask(host.lan, HOST4, 7002) == "82"


# -- other networks --------------------------------------------------------------------------------


def test_none_has_only_its_loopback(world: World) -> None:
    said = world.run("sh", "-c", "ip -o link; cat /etc/hosts; hostname", network="none", hostname="lonely")
    assert "lo:" in said
    assert "eth0" not in said
    assert "127.0.1.1\tlonely" in said


def test_host_is_the_hosts(host: Host, world: World) -> None:
    id = world.start(network="host")
    with world.inside(id) as inside:
        assert Path(f"/proc/self/fd/{inside.fd}").stat().st_ino == Path("/proc/self/ns/net").stat().st_ino
    assert world.engine.containers.network(id) is None


def test_in_the_hosts_network_it_has_the_hosts_name(world: World) -> None:
    script = ("sh", "-c", "hostname; echo $HOSTNAME; cat /etc/hostname")
    name = os.uname().nodename
    assert world.run(*script, network="host").splitlines() == [name] * 3
    assert world.run(*script, network="host", uts="host").splitlines() == [name] * 3
    assert world.run(*script, network="host", hostname="asked").splitlines() == ["asked"] * 3
    assert world.run(*script).splitlines() != [name] * 3

    # Whoever comes later sees the same: exec, a container in its network, and the plan that is shown beforehand.
    id = world.start(network="host")
    assert world.engine.containers.handle(id).exec(["sh", "-c", "echo $HOSTNAME"]).stdout.decode().strip() == name
    assert world.run(*script, network=f"container:{id}").splitlines() == [name] * 3
    plan = world.engine.containers.explain(world.request(network="host"))
    assert [op.name for op in plan.ops() if isinstance(op, SetHostname)] == [name]


def test_a_container_in_the_network_of_another(world: World) -> None:
    id = world.start(hostname="shared", extra_hosts=("db:192.0.2.7",))
    at = world.settings(id)
    said = world.run("sh", "-c", "ip -4 -o address; hostname; cat /etc/hosts /etc/hostname", network=f"container:{id}")
    assert at.address4 in said
    assert f"{at.address4}\tshared" in said
    assert "192.0.2.7\tdb" in said
    assert said.splitlines()[-1] == "shared"
    with pytest.raises(
        InvalidArgument, match="conflicting options: port publishing and the container type network mode"
    ):
        world.start(network=f"container:{id}", publish=("80:80",))


def test_names_are_resolved_as_asked(host: Host, world: World) -> None:
    said = world.run(
        *("sh", "-c", "cat /etc/resolv.conf /etc/hosts"),
        hostname="web",
        domainname="example.org",
        dns=("192.0.2.53",),
        dns_search=("example.org",),
        dns_options=("ndots:2",),
        extra_hosts=("db=192.0.2.7", "up:host-gateway"),
    )
    assert "nameserver 192.0.2.53\nsearch example.org\noptions ndots:2\n" in said
    gateway = world.run("sh", "-c", "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'").strip()
    assert f"192.0.2.7\tdb\n{gateway}\tup\n" in said
    assert "\tweb.example.org web\n" in said


# -- what is left ----------------------------------------------------------------------------------


def _left() -> tuple[str, str]:
    """What of the network grows if something leaks: links, and elements of the packet filter."""
    table = next(line.split()[2] for line in run("nft", "list", "tables").splitlines() if "onggi" in line)
    maps = "".join(run("nft", "list", "map", "inet", table, name) for name in ("open4", "open6", "published4"))
    return " ".join(sorted(line.split(":")[1] for line in run("ip", "-o", "link").splitlines())), maps


def test_two_hundred_starts_never_meet_their_own_port(world: World) -> None:
    for _ in range(200):
        made = world.engine.containers.create(
            world.request("true", auto_remove=True, publish=("8080:80", "127.0.0.1:8081:81/udp")), name="again"
        )
        world.engine.containers.start(made.id)
        with suppress(NotFound):  # over and removed before we look
            world.engine.containers.wait(made.id, timeout_s=WAIT_S)
    world.engine.system.fold()
    wait_until(lambda: "veth" not in _left()[0], "links are left")
    assert "elements" not in _left()[1]
    assert world.engine.system.check() == []


def test_addresses_are_given_in_turn(world: World) -> None:
    seen = []
    for _ in range(4):
        id = world.start()
        seen.append(world.settings(id).address4)
        world.end(id)
    assert len(set(seen)) == 4


@pytest.mark.parametrize("signal", ["killed supervisor", "killed payload"])
def test_after_a_kill_the_next_command_clears_away(world: World, signal: str) -> None:
    id = world.start(publish=("8080:80",))
    container = world.engine.containers.get(id)
    if signal == "killed payload":
        os.kill(container.pid, 9)
        world.engine.containers.wait(id, timeout_s=WAIT_S)
    else:
        os.kill(_parent_of(container.pid), 9)
    wait_until(lambda: not Path(f"/proc/{container.pid}").exists(), "the container lives on")
    world.engine.system.fold()
    assert "elements" not in _left()[1]
    assert world.engine.containers.network(id) is None
    wait_until(lambda: "veth" not in _left()[0], "its link is left", seconds=SWEPT_S)
    other = world.start(publish=("8080:80",))
    assert world.settings(other).ports


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_port_of_a_lost_container_is_free_for_a_start_that_does_not_look_first(world: World) -> None:
    id = world.start(publish=("8080:80",))
    waiting = world.engine.containers.create(world.request(publish=("8080:80",)))
    pid = world.engine.containers.get(id).pid
    os.kill(_parent_of(pid), 9)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the container lives on")
    world.engine.containers.start(waiting.id)
    assert world.settings(waiting.id).ports[0].host_port == 8080


def test_a_flushed_packet_filter_is_made_again_by_the_next_start(host: Host, world: World) -> None:
    id = world.start(publish=("8080:80",))
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80):
        run("nft", "flush", "ruleset")
        assert [f.problem for f in world.engine.system.check()] == ["is not as it should be"]
        world.start()
        assert ask(host.lan, HOST4, 8080) == "hello"
        assert world.engine.system.check() == []


def test_a_removed_bridge_is_made_again_and_containers_are_connected_to_it(host: Host, world: World) -> None:
    id = world.start(publish=("8080:80",))
    at = world.settings(id)
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80):
        run("ip", "link", "del", at.bridge)
        assert [f.problem for f in world.engine.system.check()] == ["is gone, though containers are attached to it"]
        assert world.engine.system.check(repair=True)
        assert world.engine.system.check() == []
        assert ask(host.lan, HOST4, 8080) == "hello"


def test_what_is_left_over_is_found_and_mended(world: World) -> None:
    at = world.settings(world.start())
    table = at.bridge.replace("onggi0", "onggi")
    run("nft", "add", "element", "inet", table, "open4", "{ tcp . 9999 : 10.1.2.3 . 80 }")
    run("ip", "link", "add", "vethstray", "master", at.bridge, "type", "veth", "peer", "name", "other")
    found = sorted(f"{f.subject} {f.problem}" for f in world.engine.system.check(repair=True))
    assert found == [
        f"the link vethstray is at the bridge {at.bridge} and belongs to no container",
        f"the nf_tables table {table} has 1 published ports that lead nowhere",
    ]
    assert world.engine.system.check() == []


def test_reset_leaves_nothing(host: Host, tmp_path: Path, launcher: Launcher, busybox: Path) -> None:
    before = run("ip", "-o", "link"), run("nft", "list", "ruleset")
    with world_in(tmp_path / "again", launcher, busybox) as world:
        world.start(publish=("8080:80",))
        assert run("nft", "list", "ruleset") != before[1]
    wait_until(lambda: "veth" not in run("ip", "-o", "link"), "a link is left")
    assert (run("ip", "-o", "link"), run("nft", "list", "ruleset")) == before


# -- the bridge itself -----------------------------------------------------------------------------


def test_subnets_avoid_routes_and_other_roots(host: Host, tmp_path: Path, launcher: Launcher, busybox: Path) -> None:
    run("ip", "route", "add", "10.0.0.0/8", "via", LAN4)
    with (
        world_in(tmp_path / "one", launcher, busybox) as one,
        world_in(tmp_path / "two", launcher, busybox) as two,
    ):
        first, second = one.settings(one.start()), two.settings(two.start())
        assert first.address4.startswith("172.")
        assert second.address4.startswith("172.")
        assert first.bridge != second.bridge
        assert first.gateway4 != second.gateway4
        assert len(first.bridge) <= 15
        id = two.start()
        # Between the bridges of two roots nothing passes that is not published.
        server = one.start()
        with one.inside(server) as place, two.inside(id) as other, Server(place, "0.0.0.0", 80):
            assert ask(other, one.settings(server).address4, 80, timeout_s=0.5) == "timeout"
        one.end(server)


def test_a_taken_subnet_is_left_when_nobody_is_in_it(host: Host, world: World) -> None:
    id = world.start()
    before = world.settings(id)
    run("ip", "route", "add", f"{before.gateway4.rpartition('.')[0]}.0/24", "via", LAN4)
    assert "now reached by another link too" in world.engine.system.check()[0].problem
    world.end(id)
    assert world.engine.system.check(repair=True)
    after = world.settings(world.start())
    assert after.gateway4 != before.gateway4
    assert world.engine.system.check() == []


def test_a_host_without_ipv6(host: Host, world: World) -> None:
    host.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
    id = world.start(publish=("8080:80",))
    at = world.settings(id)
    assert at.address6 == ""
    assert [port.host_ip for port in at.ports] == ["0.0.0.0"]
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80):
        assert ask(host.lan, HOST4, 8080) == "hello"
    with pytest.raises(FailedPrecondition, match="this network has no IPv6"):
        world.start(publish=("[::]:8081:80",))


def test_a_container_without_ipv6(world: World) -> None:
    off = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}
    said = world.run("ip", "-o", "address", sysctls=off)
    assert "inet 10." in said
    assert "inet6" not in said


def test_a_route_that_a_router_announced_is_not_lost(host: Host, world: World) -> None:
    """To forward IPv6 makes the kernel forget such routes; then the network does without."""
    run("ip", "-6", "route", "del", "default")
    advertise = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    router = host.lan.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6))
    with router:
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        link = host.lan.call(lambda: socket.if_nametoindex("eth0"))

        def is_announced() -> bool:
            with suppress(OSError):  # its link-local address is not ready at once
                router.sendto(advertise, ("ff02::1", 0, 0, link))
            return has_advertised_default_route()

        wait_until(is_announced, "no route was announced")
    before = run("ip", "-6", "route", "show", "default")
    id = world.start(publish=("8080:80",))
    assert [port.host_ip for port in world.settings(id).ports] == ["0.0.0.0"]
    assert [finding.problem.partition(":")[0] for finding in world.engine.system.check()] == ["has no IPv6"]
    after = run("ip", "-6", "route", "show", "default")
    assert after.partition("expires")[0] == before.partition("expires")[0] != ""
    # Who wants both says so, and has both.
    host.sysctl("net.ipv6.conf.up0.accept_ra", "2")
    host.sysctl("net.ipv6.conf.all.forwarding", "1")
    assert world.settings(world.start()).address6 != ""


def test_listening_to_routers_goes_on(host: Host, world: World) -> None:
    assert Path("/proc/sys/net/ipv6/conf/up0/forwarding").read_text() == "0\n"
    world.start()
    assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "1\n"
    assert Path("/proc/sys/net/ipv6/conf/up0/forwarding").read_text() == "0\n"


def test_a_user_namespace_has_a_network_too(world: World) -> None:
    for name in ("hosts", "hostname", "resolv.conf"):  # where they are not, the mapped root may not make them
        (world.rootfs / "etc" / name).touch()
    ids = (IdMapRequest(container=0, host=300000, size=65536),)
    said = world.run("sh", "-c", "ip -4 -o address; ip route", uid_map=ids, gid_map=ids)
    assert "inet 10." in said
    assert "default via 10." in said


def test_the_table_is_looked_at_again_only_after_a_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    ensure = firewall.ensure_table

    def counting(table: Table, *rest: Any) -> bool:
        looked.append(table.name)
        return ensure(table, *rest)

    monkeypatch.setattr(firewall, "ensure_table", counting)
    world.run("true")
    world.run("true")  # it sees what the first one made
    looked.clear()
    world.run("true")
    assert looked == []
    name = table_name(world.engine._context)
    subprocess.run(["nft", "flush", "table", "inet", name], check=True)
    world.run("true")
    assert looked == [name]
    assert firewall.is_whole(wanted_table(ensure_bridge(world.engine._context)), world.engine.root)
