"""Fixtures for tests that run plans on the real kernel."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from onggi.host.launcher import Launcher
from onggi.host.probe import probe_facts
from onggi.plan.facts import Facts
from tests.conftest import make_rootfs
from tests.containers import BUILD_ID, Room, compile_launcher
from tests.homes import Home, Installed, install, pack
from tests.registry_server import Registry


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


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, rootfs: Path) -> Path:
    """Give a tar of the busybox root file system."""
    return pack(rootfs, tmp_path_factory.mktemp("base") / "box.tar")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Installed:
    """Install a copy of these sources."""
    return install(tmp_path_factory.mktemp("installed"), Path(launcher.program))


@pytest.fixture
def new_home(tmp_path: Path, launcher: Launcher, installed: Installed, base: Path) -> Iterator[Callable[[str], Home]]:
    """Make state roots by name; they end with the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(Home(tmp_path / name, launcher, installed, base))


@pytest.fixture
def home(new_home: Callable[[str], Home]) -> Home:
    """Give a state root of the test's own."""
    return new_home("state")


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Give a registry of the test's own."""
    with Registry() as started:
        yield started
