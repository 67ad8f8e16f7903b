"""Beside others who filter packets: iptables-nft, iptables-legacy, and a real dockerd that sets FORWARD to DROP."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from onggi.base.errors import FailedPrecondition
from onggi.host import firewall
from onggi.host.launcher import Launcher, LaunchFailed
from tests.netns import HOST4, HOST6, LAN4, LAN6, Host, Server, ask, private_host, run
from tests.peers import Docker, docker_in
from tests.root.test_network_containers import World, wait_until, world_in


@pytest.fixture
def host() -> Iterator[Host]:
    with private_host() as private:
        yield private


@pytest.fixture
def world(host: Host, tmp_path: Path, launcher: Launcher, busybox: Path) -> Iterator[World]:
    with world_in(tmp_path / "world", launcher, busybox) as private:
        yield private


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt-get install iptables")


def passes(host: Host, world: World, id: str) -> dict[str, str]:
    """Try every way through FORWARD: from outside, to outside, and between two containers."""
    other = world.start()
    with (
        world.inside(id) as inside,
        world.inside(other) as neighbour,
        Server(inside, "0.0.0.0", 80),
        Server(inside, "::", 80),
        Server(host.lan, LAN4, 90),
        Server(host.lan, LAN6, 90),
    ):
        at = world.settings(id)
        answers = {
            "in": ask(host.lan, HOST4, 8080, timeout_s=1),
            "in by IPv6": ask(host.lan, HOST6, 8080, timeout_s=1),
            "out": ask(inside, LAN4, 90, timeout_s=1),
            "out by IPv6": ask(inside, LAN6, 90, timeout_s=1),
            "neighbour": ask(neighbour, at.gateway4, 8080, timeout_s=1),
            "neighbour directly": ask(neighbour, at.address4, 80, timeout_s=1),
        }
    world.end(other)
    return answers


ALL_PASS: Final = dict.fromkeys(("in", "in by IPv6", "out", "out by IPv6", "neighbour", "neighbour directly"), "hello")


@pytest.mark.parametrize("flavour", ["nft", "legacy"])
@pytest.mark.parametrize("place", ["FORWARD", "DOCKER-USER"])
def test_where_forward_drops_two_accepts_let_us_through(host: Host, world: World, flavour: str, place: str) -> None:
    tools = [f"iptables-{flavour}", f"ip6tables-{flavour}"]
    needs(*tools)
    for tool in tools:
        if place == "DOCKER-USER":
            run(tool, "-N", place)
            run(tool, "-A", place, "-j", "RETURN")
            run(tool, "-A", "FORWARD", "-j", place)
        run(tool, "-P", "FORWARD", "DROP")
    before = [run(tool, "-S") for tool in tools]
    id = world.start(publish=("8080:80",))
    bridge = world.settings(id).bridge
    assert passes(host, world, id) == ALL_PASS
    for tool in tools:
        rules = [line for line in run(tool, "-S").splitlines() if bridge in line]
        assert sorted(rules) == [
            f"-A {place} -i {bridge} -m comment --comment {bridge} -j ACCEPT",
            f"-A {place} -o {bridge} -m comment --comment {bridge} -j ACCEPT",
        ]

    # Somebody takes them away: a finding, and the next start brings them back, once.
    for tool in tools:
        for way in ("-i", "-o"):
            run(tool, "-D", place, way, bridge, "-m", "comment", "--comment", bridge, "-j", "ACCEPT")
    assert "in" not in {way for way, answer in passes_without_start(host, world, id).items() if answer == "hello"}
    assert {f.subject for f in world.engine.system.check()} == {f"the bridge {bridge}"}
    assert passes(host, world, id) == ALL_PASS
    assert [run(tool, "-S").count(f"--comment {bridge} ") for tool in tools] == [2, 2]
    assert world.engine.system.check() == []

    # They leave with the last container.
    world.end(id)
    world.engine.system.fold()
    assert [run(tool, "-S") for tool in tools] == before


def passes_without_start(host: Host, world: World, id: str) -> dict[str, str]:
    with world.inside(id) as inside, Server(inside, "0.0.0.0", 80), Server(host.lan, LAN4, 90):
        return {
            "in": ask(host.lan, HOST4, 8080, timeout_s=0.5),
            "out": ask(inside, LAN4, 90, timeout_s=0.5),
        }


def test_where_forward_lets_everything_pass_nothing_is_added(host: Host, world: World) -> None:
    needs("iptables-nft")
    run("iptables-nft", "-P", "FORWARD", "ACCEPT")
    before = run("nft", "list", "table", "ip", "filter")
    world.start()
    assert run("nft", "list", "table", "ip", "filter") == before


def test_a_table_that_we_cannot_change_is_named(host: Host, world: World) -> None:
    world.start()
    run("nft", "add table inet strict; add chain inet strict fw { type filter hook forward priority 10; policy drop; }")
    problems = [finding.problem for finding in world.engine.system.check()]
    assert len(problems) == 1
    assert "cut off by the chain strict fw, whose policy is drop" in problems[0]


def test_the_program_of_the_old_filter_is_missing(
    host: Host, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs("iptables-legacy")
    run("iptables-legacy", "-P", "FORWARD", "DROP")
    monkeypatch.setattr("onggi.host.firewall.legacy._PATH", str(tmp_path))
    with pytest.raises(FailedPrecondition, match="iptables-legacy is not installed"):
        world.start()


# -- a real dockerd --------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_beside_a_real_docker(host: Host, world: World, tmp_path: Path, busybox: Path) -> None:
    host.sysctl("net.ipv4.ip_forward", "0")  # who turns it on, sets FORWARD to DROP
    with docker_in(tmp_path / "docker", "--storage-driver", "vfs") as docker:
        assert "-P FORWARD DROP" in run("iptables", "-S")
        id = world.start(publish=("8080:80",))
        bridge = world.settings(id).bridge
        assert passes(host, world, id) == ALL_PASS
        assert run("iptables", "-S", "DOCKER-USER").count(bridge) == 4
        # Docker adds and removes its rules around ours, and restarts.
        docker.run("network", "create", "other")
        docker.run("network", "rm", "other")
        docker.stop()
        docker.start()
        assert passes(host, world, id) == ALL_PASS
        # The port is taken for Docker too, and its own containers are as they were.
        if _can_run(docker, world.rootfs):
            refused = docker.run("run", "--rm", "-p", "8080:80", "box", "true", check=False)
            assert b"address already in use" in refused.stderr
            docker.run(
                "run", "-d", "--name", "web", "-p", "8090:80", "box", "nc", "-ll", "-p", "80", "-e", "echo", "docker"
            )
            wait_until(lambda: ask(host.lan, HOST4, 8090, timeout_s=1) == "docker\n", "Docker's port is not reached")
            with pytest.raises(LaunchFailed, match="8090/tcp: address already in use"):
                world.start(publish=("8090:80",))
            with world.inside(id) as inside:
                assert ask(inside, HOST4, 8090, timeout_s=1) == "docker\n"
            docker.run("rm", "-f", "web")
        world.end(id)
        world.engine.system.fold()
        assert bridge not in run("iptables-save")
    assert firewall.missing_accepts(bridge) != []


def _can_run(docker: Docker, rootfs: Path) -> bool:
    """Give Docker an image; on a host where it cannot run any, the rest of the test still says something."""
    tar = subprocess.run(["tar", "-C", str(rootfs), "-c", "."], capture_output=True, check=True).stdout
    docker.run("import", "-", "box", input=tar)
    return docker.run("run", "--rm", "box", "true", check=False).returncode == 0
