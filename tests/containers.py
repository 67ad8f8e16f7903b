"""Containers without an engine: a request is planned here and executed by the real launcher.

A `Room` is a private place for them: directories below the test's own, a cgroup
parent of its own, and everything that is left in there ends with the test.
"""

import os
import shutil
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from launcher import build
from onggi.host.cgroupfs import kill_members, remove_cgroup
from onggi.host.launcher import Launcher
from onggi.host.locks import take_lock
from onggi.plan.cgroup import plan_cgroup
from onggi.plan.container import Supervision, plan_container
from onggi.plan.facts import Facts
from onggi.plan.ops import Plan
from onggi.plan.rootfs import Directory, Overlay
from onggi.runtime.bundle import Resolved, make_spec
from onggi.runtime.records import ExitRecord, parse_exit
from onggi.spec.container import ContainerRequest
from onggi.spec.image_config import ContainerConfig
from onggi.spec.passwd import Identity
from onggi.spec.runtime import Spec

TIMEOUT_S: Final = 30.0
BUILD_ID: Final = "0123456789abcdef"


def compile_launcher(directory: Path, *extra: str) -> Path:
    """Compile a launcher whose build id does not follow the sources, which others may be working on."""
    program = directory / "onggi-launcher"
    with build.compiler() as cc:
        build.compile_launcher(cc, program, build=BUILD_ID, extra=extra)
    return program


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended, and what it said: `output` is stdout or the terminal."""

    pid: int
    output: bytes
    errors: bytes
    code: int
    signal: int
    record: ExitRecord

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode()


class Running:
    """A started container and the client's end of its supervisor's socket."""

    def __init__(self, run: Path, pid: int, sock: socket.socket) -> None:
        self.run, self.pid = run, pid
        self._socket = sock
        self._said = {b"o": bytearray(), b"x": bytearray()}

    def close(self) -> None:
        """Leave without waiting."""
        self._socket.close()

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send one message: `i` input, `e` its end, `s` a signal, `r` a size."""
        self._socket.send(kind + data)

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process."""
        self.send(b"s", bytes([number]))

    def hear(self) -> tuple[bytes, bytes]:
        """Wait for the next message of the supervisor."""
        message = self._socket.recv(70000)
        kind, data = message[:1], message[1:]
        if kind in self._said:
            self._said[kind] += data
        return kind, data

    def read_until(self, text: bytes) -> bytes:
        """Read until the output has this text; gives all of it so far."""
        while text not in self._said[b"o"]:
            kind, _ = self.hear()
            assert kind not in (b"", b"q"), (text, self._said)
        return bytes(self._said[b"o"])

    def wait(self) -> Ended:
        """Wait for the end, and until the supervisor has cleared everything away."""
        end = b""
        while not end:
            kind, data = self.hear()
            assert kind, f"the supervisor is gone without a word; {self._said}"
            end = data if kind == b"q" else b""
        self._socket.close()
        code, number = struct.unpack("=ii", end)
        wait_released(self.run)
        record = parse_exit((self.run / "exit").read_bytes())
        output, errors = bytes(self._said[b"o"]), bytes(self._said[b"x"])
        return Ended(pid=self.pid, output=output, errors=errors, code=code, signal=number, record=record)


def wait_released(run: Path) -> None:
    """Wait until no supervisor holds the lock of this run directory any more."""
    take_lock(f"{run}/lock", str(run), timeout_s=TIMEOUT_S).close()


class Room:
    """Where the containers of one test live."""

    def __init__(self, launcher: Launcher, facts: Facts, directory: Path, rootfs: Path) -> None:
        self.launcher, self.facts, self.directory, self.rootfs = launcher, facts, directory, rootfs
        self.parent = f"/onggi-test-{uuid.uuid4().hex[:12]}"
        self._cgroups: list[dict[str, str]] = []
        self._running: list[Running] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for directories in self._cgroups:
            kill_members(directories)
            remove_cgroup(directories)
        if self._cgroups:
            remove_cgroup(plan_cgroup(None, self.parent, self.facts.cgroup).directories)

    def place(self, name: str) -> Path:
        """Make a directory for this room's own use."""
        path = self.directory / name
        path.mkdir(parents=True)
        return path

    def spec(
        self,
        *command: str,
        identity: Identity | None = None,
        resolved: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> Spec:
        """Build the spec of a container that runs `command`, as the engine would."""
        container = uuid.uuid4().hex * 2
        path = f"{self.parent}/{container[:12]}"
        self._cgroups.append(plan_cgroup(None, path, self.facts.cgroup).directories)
        return make_spec(
            container,
            ContainerRequest(command=command, **request),
            ContainerConfig(),
            Resolved(identity=identity or Identity(), cgroups_path=path, **(resolved or {})),
            self.facts,
        )

    def plan(
        self,
        spec: Spec,
        root: Overlay | Directory | None = None,
        *,
        bundle: str = "",
        facts: Facts | None = None,
        **supervision: Any,
    ) -> tuple[Plan, Path]:
        """Plan a container over a fresh overlay; gives the plan and its new run directory."""
        place = self.place(f"container-{uuid.uuid4().hex[:8]}")
        for name in ("run", "log", "upper"):
            (place / name).mkdir()
        overlay = Overlay(lowers=(str(self.rootfs),), upper=str(place / "upper"), work=str(place / "work"))
        supervision = {"log_directory": str(place / "log"), "client": 0, **supervision}
        plan = plan_container(
            spec,
            root or overlay,
            Supervision(run_directory=str(place / "run"), **supervision),
            facts or self.facts,
            bundle=bundle,
        )
        return plan, place / "run"

    def launch(self, plan: Plan, run: Path, *inherited: int, streams: int = 7, said: Sequence[bytes] = ()) -> Running:
        """Execute a plan whose descriptor 0 is the client's socket; `said` are first messages of the client."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(TIMEOUT_S)
        with theirs:
            ours.send(b"a" + bytes([streams]))
            for message in said:
                ours.send(message)
            try:
                pid = self.launcher.run(plan, [theirs.fileno(), *inherited], facts=self.facts)
            except BaseException:
                ours.close()
                raise
        return Running(run, pid, ours)

    def start(self, spec: Spec, root: Overlay | Directory | None = None, **supervision: Any) -> Running:
        """Plan and launch a container."""
        plan, run = self.plan(spec, root, **supervision)
        return self.launch(plan, run)

    def run(self, *command: str, identity: Identity | None = None, **request: Any) -> Ended:
        """Run a command in a container as `onggi run` would."""
        init = bool(request.get("init"))
        return self.start(self.spec(*command, identity=identity, **request), init=init).wait()

    def shell(self, script: str, **request: Any) -> Ended:
        """Run a script of busybox's shell in a container."""
        return self.run("sh", "-c", script, **request)


def make_small_rootfs(root: Path, busybox: Path, applets: Iterable[str] = ("sh", "sleep", "cat", "true")) -> Path:
    """Make a root file system with only what a test needs."""
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    for applet in applets:
        (root / "bin" / applet).symlink_to("busybox")
    return root


def processes_below(directory: Path) -> list[int]:
    """List the processes that have a mount, a directory or a program below this directory."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                text = Path(f"/proc/{entry}/mountinfo").read_text() + os.readlink(f"/proc/{entry}/exe")
                if str(directory) in text:
                    found.append(int(entry))
    return found


def wait_for(condition: Any, what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until a condition of the kernel holds that nothing announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.002)


def run_in(pid: int, *command: str, flags: Sequence[str] = ("-a",)) -> str:
    """Run a command of the host in the namespaces of a process."""
    done = subprocess.run(["nsenter", "-t", str(pid), *flags, *command], capture_output=True, text=True, check=True)
    return done.stdout
