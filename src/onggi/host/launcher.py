"""Execute plans: the one way from a `Plan` to the kernel.

Owns the C launcher as a program: handing it a plan in a sealed memfd, and reading the
one report that it gives before it turns into the container's supervisor.
"""

import fcntl
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from errno import EMFILE
from typing import TYPE_CHECKING, Final, Self

from onggi.base.errors import FailedPrecondition, NotSupported, Unavailable

if TYPE_CHECKING:  # what makes plans is large: those who never start a container do without it
    import socket

    from onggi.plan.facts import Facts
    from onggi.plan.ops import Op, Plan

_ORDER: Final = struct.Struct("=I")  # how many descriptors come with it, in packets of
_PACKET_FDS: Final = 200
_REPORT: Final = struct.Struct("=IIii")  # kind, op, errno, pid
_REINSTALL: Final = "reinstall Onggi so that its parts are of one build"
_FAILED: Final = 1
_STARTED: Final = 2
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class LaunchFailed(FailedPrecondition):
    """A step of a plan failed; everything that the plan had made is cleared away again.

    `op` is the failing op (None when the plan itself was refused), `errno` the kernel's answer.
    """

    def __init__(self, text: str, op: "Op | None", errno: int) -> None:
        super().__init__(text)
        self.op = op
        self.errno = errno

    @property
    def exit_code(self) -> int:
        """Docker's exit code: 127 for a command that is not there, 126 for one that cannot run, else 125."""
        from onggi.plan.ops import Exec

        if not isinstance(self.op, Exec):
            return 125
        return 127 if self.errno == 2 else 126


class Launcher:
    """The installed launcher program."""

    def __init__(
        self, program: str | os.PathLike[str], build_id: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """`environment` reaches a test build only: the real launcher looks at none."""
        self.program = os.fspath(program)
        self.build_id = build_id
        self._environment = dict(environment or {})

    @classmethod
    def installed(cls) -> "Launcher":
        """Find the launcher that came with this package."""
        directory = os.path.join(os.path.dirname(os.path.dirname(__file__)), "bin")
        try:
            with open(f"{directory}/build-id", encoding="ascii") as file:
                build_id = file.read().strip()
        except FileNotFoundError:
            raise NotSupported(
                f"the launcher is missing from {directory}: this is a source tree that was not built; "
                "install it (pip install .), or run python3 launcher/build.py"
            ) from None
        return cls(f"{directory}/onggi-launcher", build_id)

    def encode(self, plan: "Plan") -> int:
        """Give a sealed memfd with the plan; the caller closes it."""
        from onggi.plan.wire import encode_plan

        data = encode_plan(plan, self.build_id)
        fd = os.memfd_create("onggi-plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            written = os.write(fd, data)
            if written != len(data):
                raise OSError(28, os.strerror(28))
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def run(self, plan: "Plan", inherited: Sequence[int] = (), *, facts: "Facts | None" = None) -> int:
        """Execute a plan until its process runs; gives the process's pid.

        The supervisor stays behind as nobody's child. Raises LaunchFailed after the launcher has cleared away.
        """
        with self.prepare() as waiting:
            return waiting.run(plan, inherited, facts)

    def prepare(self) -> "Waiting":
        """Start the program, which then waits for a plan: it starts while the caller is still planning."""
        import socket

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                pid = self._spawn(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        return Waiting(self, ours, pid)

    def _spawn(self, status_fd: int) -> int:
        # posix_spawn, never fork: a warm Python may be large and have threads. The dup2 of
        # a descriptor onto itself is how it is passed without a moment in which another
        # thread's child could inherit it too.
        return os.posix_spawn(
            self.program,
            ["onggi-launcher", "launch", str(status_fd)],
            self._environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, status_fd, status_fd)],
        )


class Waiting:
    """A launcher without a plan yet. It has done nothing, and ends when this is closed."""

    def __init__(self, launcher: Launcher, status: "socket.socket", pid: int) -> None:
        self._launcher, self._status, self._pid = launcher, status, pid

    def run(self, plan: "Plan", inherited: Sequence[int] = (), facts: "Facts | None" = None) -> int:
        """Execute a plan, once, as `Launcher.run` does."""
        import socket

        plan_fd = self._launcher.encode(plan)
        try:
            fds = [plan_fd, *inherited]
            for start in range(0, len(fds), _PACKET_FDS):
                socket.send_fds(self._status, [_ORDER.pack(len(fds))], fds[start : start + _PACKET_FDS])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was killed: so says the report that does not come
        finally:
            os.close(plan_fd)
        return read_report(self._status, plan, facts)

    def close(self) -> None:
        """Let it end, or go on without us if it has a plan. Our own child only forked it."""
        self._status.close()
        with suppress(ChildProcessError):  # a program that ignores SIGCHLD has its children reaped by the kernel
            os.waitpid(self._pid, 0)

    def __enter__(self) -> Self:
        """Give this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def read_report(status: "socket.socket", plan: "Plan", facts: "Facts | None" = None) -> int:
    """Wait until the launcher says that the process runs (gives its pid) or that a step failed."""
    report = status.recv(_REPORT.size)
    if len(report) == _REPORT.size and _REPORT.unpack(report)[0] != _STARTED:
        status.recv(1)  # end of file: the launcher has run its last section
    return interpret_report(report, plan, facts)


def interpret_report(report: bytes, plan: "Plan", facts: "Facts | None" = None) -> int:
    """Give the pid that a launcher reported, or raise what it reported instead."""
    if len(report) != _REPORT.size:
        raise Unavailable(
            "the launcher was killed before it could report; run the command again, it sweeps what is left"
        )
    kind, number, errno, pid = _REPORT.unpack(report)
    if kind == _STARTED:
        return int(pid)
    from onggi.plan.explain import explain_failure, strerror

    every = plan.ops()
    op = every[number] if number < len(every) else None
    text = explain_failure(plan, number, errno, facts)
    if op is None:
        advice = "raise the limit of open files (ulimit -n)" if errno == EMFILE else _REINSTALL
        text = f"the launcher refused the plan: {strerror(errno)}; {advice}"
    raise LaunchFailed(text, op, errno)
