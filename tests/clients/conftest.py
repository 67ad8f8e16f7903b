"""Fixtures for tests beside other engines."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.engine.builds import BuildRequest
from onggi.host.launcher import Launcher
from tests.conftest import make_rootfs
from tests.homes import Home, install, pack
from tests.interop import CAPABILITY, DOCKERFILE, NAME, Site
from tests.peers import NO_NETWORK, Docker, Podman, docker_in, podman_in


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher, busybox: Path) -> Iterator[Site]:
    """Build the image."""
    directory = tmp_path_factory.mktemp("interop")
    base = pack(make_rootfs(directory / "rootfs", busybox), directory / "box.tar")
    installed = install(directory / "installed", Path(launcher.program), launcher.build_id)
    files = directory / "context" / "files"
    (files / "directory").mkdir(parents=True)
    (files / "directory" / "in").write_text("in\n")
    (files / ("long" * 30)).write_text("long\n")
    (files / "ping").write_text("#!/bin/sh\n")
    (files / "ping").chmod(0o755)
    os.setxattr(files / "ping", "security.capability", CAPABILITY)
    os.setxattr(files / "ping", "user.of", b"us\0er")
    os.utime(files / "ping", ns=(0, 1_500_000_000_123_456_789))
    with (
        Home(directory / "here", launcher, installed, base) as here,
        Home(directory / "there", launcher, installed, base) as there,
    ):
        request = BuildRequest(context=str(files.parent), text=DOCKERFILE.encode(), tags=(NAME,), network="none")
        here.engine.builds.build(request, lambda event: None)
        archive = directory / "ours.tar"
        here.ok("save", "-o", str(archive), NAME)
        yield Site(here, there, archive, files.parent)
        for home in (here, there):
            home.assert_consistent()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Give a dockerd of our own."""
    with docker_in(tmp_path_factory.mktemp("peer") / "docker", *NO_NETWORK) as docker:
        yield docker


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Give a podman of our own."""
    with podman_in(tmp_path_factory.mktemp("peer") / "podman") as podman:
        yield podman


@pytest.fixture(params=["docker", "podman"])
def peer(request: pytest.FixtureRequest) -> Docker | Podman:
    """Give both, one after the other."""
    found: Docker | Podman = request.getfixturevalue(request.param)
    return found
