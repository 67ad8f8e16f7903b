"""What every tier of tests shares: the launcher, a small root file system, the rule for tests that need root."""

import os
import shutil
import signal
import struct
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import onggi
from launcher import build
from onggi.host.launcher import Launcher

# Machines are shared: what is slow today is no failure.
settings.register_profile("onggi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("onggi")

TESTS = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Tests press Ctrl-C, which a shell lets its background ignore, and never leave this machine for an image."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = tempfile.TemporaryDirectory(prefix="onggi-tests-")
    config.add_cleanup(home.cleanup)
    Path(home.name, "onggi").mkdir()
    Path(home.name, "onggi", "registries.toml").write_text('[registry."docker.io"]\nurl = "http://127.0.0.1:1"\n')
    os.environ["XDG_CONFIG_HOME"] = home.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give everything beneath tests/root its marker, and skip what needs root where we are not root."""
    for item in items:
        if item.path.is_relative_to(TESTS / "root"):
            item.add_marker("root")
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason=f"needs root, this is uid {os.geteuid()}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long each tier took."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                tier = Path(report.nodeid.partition("::")[0]).parts[:2][-1]
                seconds[tier] += report.duration
                tests[tier].add(report.nodeid)
    terminalreporter.section("tiers")
    for tier, total in seconds.items():
        terminalreporter.write_line(f"{tier:10} {len(tests[tier]):6} tests {total:8.1f} s")


@pytest.fixture(scope="session")
def launcher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the launcher that belongs to these sources: the installed one, or one compiled now if that is older."""
    installed = Path(onggi.__file__).parent / "bin" / "onggi-launcher"
    if installed.exists() and installed.stat().st_mtime > build.newest_source():
        return installed
    return compile_launcher(tmp_path_factory.mktemp("launcher"))


@pytest.fixture(scope="session")
def crash_launcher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the launcher that can be told to die (ONGGI_CRASH_TEST); it is never installed."""
    return compile_launcher(tmp_path_factory.mktemp("crash-launcher"), *build.CRASH_TEST)


def compile_launcher(directory: Path, *extra: str) -> Path:
    """Compile the launcher into `directory`, with its build id beside it as in the package."""
    out, name = directory / "onggi-launcher", build.build_id()
    with build.compiler() as cc:
        build.compile_launcher(cc, out, build=name, extra=extra)
    (directory / "build-id").write_text(name + "\n")
    return out


def open_launcher(program: Path, **environment: str) -> Launcher:
    """Give the executor of plans that drives this program; `environment` is for a crash-test one."""
    return Launcher(program, program.with_name("build-id").read_text().strip(), environment or None)


@pytest.fixture(scope="session")
def launcher(launcher_path: Path) -> Launcher:
    """Give what executes plans, with the launcher that belongs to these sources."""
    return open_launcher(launcher_path)


@pytest.fixture(scope="session")
def busybox() -> Path:
    """Give a static busybox of this machine."""
    found = shutil.which("busybox")
    if found is None or is_dynamic(Path(found)):
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    return Path(found)


@pytest.fixture
def busybox_rootfs(tmp_path: Path, busybox: Path) -> Path:
    """Make a root file system of busybox, its applets, and the directories and accounts that programs expect."""
    return make_rootfs(tmp_path / "rootfs", busybox)


@pytest.fixture
def new_busybox_rootfs(tmp_path: Path, busybox: Path) -> Callable[[str], Path]:
    """Make such root file systems by name, for tests that need more than one."""
    return lambda name: make_rootfs(tmp_path / name, busybox)


def make_rootfs(root: Path, busybox: Path) -> Path:
    """Fill the new directory `root`."""
    for name in ("bin", "dev", "etc", "proc", "root", "sbin", "sys", "usr/bin", "usr/sbin", "var"):
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir()
        (root / name).chmod(0o1777)
    shutil.copy(busybox, root / "bin" / "busybox")
    applets = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    for applet in set(applets) - {"linuxrc"}:
        place = root / applet
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to("/bin/busybox")
    (root / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "www:x:82:82:www:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    (root / "etc" / "group").write_text("root:x:0:\ndaemon:x:1:\naudio:x:29:www\nwww:x:82:\nnogroup:x:65534:\n")
    return root


def is_dynamic(program: Path) -> bool:
    """Say whether an ELF program (64-bit, little-endian) asks for a dynamic loader: elf(5), PT_INTERP."""
    with program.open("rb") as file:
        head = file.read(64)
        offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
    return any(struct.unpack_from("<I", table, at)[0] == 3 for at in range(0, len(table), size))
