"""Imports go down only; effects, edges and dependencies stay where they belong (ARCHITECTURE.md has the floors)."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.rules import checks
from tests.rules.checks import none
from tests.rules.source import read_modules

PROJECT: Final = Path(__file__).parent.parent.parent
SRC: Final = PROJECT / "src"
MODULES: Final = read_modules(SRC)

FLOOR: Final = {
    "base": 0,
    "spec": 1,
    "plan": 2,
    "host": 3,
    "store": 4,
    "registry": 5,
    "build": 5,
    "bootstrap": 5,
    "runtime": 5,
    "engine": 6,
    "onggi": 7,  # the root package: the Python API, which shows what engine has
    "cli": 7,
    "dockerapi": 7,
    "cri": 7,
    "web": 7,
    "__main__": 8,
}
SURFACES: Final = {package for package, floor in FLOOR.items() if floor >= 7} - {"onggi"}
PURE: Final = {"base", "spec", "plan"}

PURE_STDLIB: Final = {
    *("__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "datetime"),
    *("enum", "errno", "fractions", "functools", "hashlib", "heapq", "hmac", "ipaddress", "itertools", "json", "math"),
    *("operator", "posixpath", "re", "secrets", "stat", "string", "struct", "sys", "textwrap", "types", "typing"),
    *("zlib", "urllib.parse", "pathlib.PurePath", "pathlib.PurePosixPath", "os.fsencode", "os.fsdecode", "os.fspath"),
}
"""What base, spec and plan may know of the standard library. `secrets` is for new ids, given as an argument."""

EFFECTS: Final = {
    *("os", "posix", "pathlib.Path", "glob", "shutil", "tempfile", "mmap", "fcntl", "sqlite3", "dbm", "shelve"),
    *("socket", "socketserver", "ssl", "http", "urllib.request", "select", "selectors", "asyncio", "ftplib"),
    *("subprocess", "multiprocessing", "ctypes", "pty", "tty", "termios", "resource", "syslog"),
    *("pwd", "grp", "platform", "getpass", "time", "uuid", "random"),
}
ACTS: Final = {
    "open",
    *("signal.signal", "signal.alarm", "signal.setitimer", "signal.pthread_sigmask", "signal.set_wakeup_fd"),
    *("signal.pidfd_send_signal", "signal.pthread_kill", "signal.raise_signal", "signal.sigwait", "signal.pause"),
}
"""What acts, in modules that have constants too, or none."""

HARMLESS: Final = {"os.path", "os.fsencode", "os.fsdecode", "os.fspath", "os.PathLike", "http.HTTPStatus"}
"""Names that only compute, in modules that otherwise act."""

OWN_EDGE: Final = {
    *("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv", "os.path.expandvars"),
    *("os.getcwd", "os.getcwdb", "os.chdir", "os.fchdir", "os.chroot", "os.umask", "os.path.abspath"),
    *("os.path.expanduser", "pathlib.Path.cwd", "pathlib.Path.home", "tempfile.gettempdir", "sys.argv", "sys.exit"),
}
"""The caller's environment, directory and umask are data, which only a surface reads: `onggid` serves many callers."""

STREAMS: Final = {"print", "input", "sys.stdin", "sys.stdout", "sys.stderr"}
FORKS: Final = {"os.fork", "os.forkpty", "pty.fork", "multiprocessing"}

ALLOWED: Final = {
    ("onggi.engine.assemble", "os"): "wires randomness in, and is where a Python program opens a state root",
    ("onggi.engine.assemble", "time"): "wires the clock in",
    ("onggi.plan.seccomp.tables", "open"): "a table too long to be code, part of the package",
}
"""(module, name): why. As short as it can be."""

DEPENDENCIES: Final = {
    "base": {"msgspec"},
    "spec": {"msgspec"},
    "plan": {"msgspec"},
    "host": {"msgspec", "urllib3"},
    "store": {"msgspec", "backports", "isal"},
    "registry": {"msgspec"},
    "build": {"msgspec"},
    "bootstrap": {"msgspec", "pysequoia"},
    "runtime": {"msgspec"},
    "engine": {"msgspec"},
    "cli": {"msgspec", "click", "rich"},
}
DISTRIBUTION: Final = {"backports": "backports.zstd", "grpc": "grpcio"}
"""Where a package on PyPI has another name than its module."""

SLOW: Final = {
    *("asyncio", "concurrent", "email", "http", "logging", "multiprocessing", "pathlib", "shutil"),
    *("subprocess", "unittest", "urllib", "urllib3", "xml", "rich", "lzma", "bz2", "isal", "backports"),
}
"""What costs milliseconds, and is imported by those only who need it; with it goes all that is beneath it."""
ENTRIES: Final = {
    "the Python API": (("onggi",), {"click", "onggi.engine"}),
    "a cold run": (
        ("onggi.cli.main", "onggi.cli.running", "onggi.engine.containers", "onggi.engine.system"),
        {"onggi.build", "onggi.store.tar", "onggi.engine.archives", "onggi.engine.network_check"},
    ),
    "ps, images, history, stats, inspect": (
        ("onggi.cli.showing", "onggi.cli.image_showing"),
        {"onggi.build", "onggi.cli.template", "dataclasses", "zoneinfo"},
    ),
    "a build that finds all in its cache": (
        ("onggi.cli.main", "onggi.cli.build", "onggi.engine.builds"),
        {"socket", "onggi.plan.ops", "onggi.runtime", "onggi.store.tar", "onggi.engine.containers"},
    ),
}
"""What a short command loads, and what besides `SLOW` it does without. tests/root/test_start_up.py runs them."""


def test_there_is_something_to_check() -> None:
    assert {"onggi", "onggi.base.errors"} <= {module.name for module in MODULES}


def test_every_package_has_a_floor() -> None:
    none(checks.without_floor(MODULES, FLOOR))


def test_imports_only_go_down() -> None:
    none(checks.floor_violations(MODULES, FLOOR))


def test_base_spec_and_plan_are_pure() -> None:
    pure = [module for module in MODULES if module.package in PURE]
    none(checks.not_among(pure, PURE_STDLIB))


EFFECTFUL: Final = [
    *checks.forbidden_imports(
        [module for module in MODULES if module.package not in {"host", *PURE, *SURFACES}], EFFECTS, HARMLESS
    ),
    *checks.forbidden_uses([module for module in MODULES if module.package not in {"host", *SURFACES}], ACTS),
]
AT_THE_EDGE: Final = [
    *checks.forbidden_uses([module for module in MODULES if module.package not in SURFACES], OWN_EDGE),
    *checks.forbidden_uses([module for module in MODULES if module.package not in {"cli", "__main__"}], STREAMS),
    *checks.forbidden_uses(MODULES, FORKS),
]


def test_effects_happen_in_host_only() -> None:
    none(checks.complaints(EFFECTFUL, ALLOWED, "effects belong in host/ and the surfaces")[0])


def test_what_belongs_to_the_caller_is_read_at_the_edge_only() -> None:
    none(checks.complaints(AT_THE_EDGE, ALLOWED, "only a surface knows its caller; nobody forks")[0])


def test_every_exception_is_needed() -> None:
    assert checks.complaints([*EFFECTFUL, *AT_THE_EDGE], ALLOWED, "")[1] == set(ALLOWED)


def test_dependencies_are_known_to_few() -> None:
    none(checks.outside_allow_list(MODULES, DEPENDENCIES))


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    imported = {name for module in MODULES for name, _ in checks.third_party(module)}
    names = {re.split(r"[^\w.-]", entry)[0] for entry in declared}
    assert names == {DISTRIBUTION.get(name, name) for name in imported}


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_slow_to_import_is_imported_late(entry: str) -> None:
    modules, without = ENTRIES[entry]
    code = f"import sys; sys.path.insert(0, {str(SRC)!r}); import {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    none(checks.beneath(loaded.split(), SLOW | without))


def test_every_module_can_be_imported_and_does_nothing_then() -> None:
    names = [module.name for module in MODULES if not module.name.endswith("__main__")]
    code = (
        f"import sys, threading; sys.path.insert(0, {str(SRC)!r})\n"
        f"for name in {names!r}: __import__(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
