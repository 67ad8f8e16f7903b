"""Fixtures for tests that run plans on the real kernel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.host.launcher import Launcher
from onggi.host.probe import probe_facts
from onggi.plan.facts import Facts
from tests.conftest import make_rootfs
from tests.containers import BUILD_ID, Room, compile_launcher


@pytest.fixture(scope="session")
def facts() -> Facts:
    """Give the facts of this host."""
    return probe_facts()


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    """Give a launcher of these sources."""
    return Launcher(compile_launcher(tmp_path_factory.mktemp("launcher")), BUILD_ID)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Path:
    """Give a root file system of busybox that no test changes."""
    return make_rootfs(tmp_path_factory.mktemp("rootfs") / "rootfs", busybox)


@pytest.fixture
def room(launcher: Launcher, facts: Facts, tmp_path: Path, rootfs: Path) -> Iterator[Room]:
    """Give a private place for containers, which is empty again afterwards."""
    with Room(launcher, facts, tmp_path, rootfs) as place:
        yield place
