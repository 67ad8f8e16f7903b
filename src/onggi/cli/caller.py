"""Who called, and how to answer: the edge between a command and its user.

A command runs in the user's own process or in a thread of onggid. It sees only this:
the user's working directory, environment and terminal are data, output goes through
`out` and `err`, and a plan is executed wherever the user's own context is.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import msgspec

from onggi.host.launcher import Launcher

if TYPE_CHECKING:
    from onggi.host.attach import Attachment
    from onggi.plan.facts import Facts
    from onggi.plan.ops import Plan

RAW: Final = 1
PROXY: Final = 2
KEEP_OPEN: Final = 4
DEFAULT_DETACH_KEYS: Final = b"\x10\x11"  # ctrl-p ctrl-q


class Attach(msgspec.Struct, frozen=True, kw_only=True):
    """How to carry stdio: which streams (attach.STDIN …), RAW | PROXY | KEEP_OPEN, and what detaches."""

    streams: int
    flags: int
    detach_keys: bytes = DEFAULT_DETACH_KEYS


class Finished(Exception):
    """The user's process goes on without us: it carries stdio now, and its exit code is the container's."""


class Caller(Protocol):
    """The user's side of a command."""

    env: Mapping[str, str]
    cwd: str
    terminal: tuple[bool, bool, bool]
    size: tuple[int, int]
    served: bool
    """Whether this runs beside other commands, and not in the user's own process."""

    def out(self, text: str) -> None:
        """Write to the user's stdout."""

    def err(self, text: str) -> None:
        """Write to the user's stderr."""

    def out_bytes(self, data: bytes) -> None:
        """Write bytes to the user's stdout."""

    def err_bytes(self, data: bytes) -> None:
        """Write bytes to the user's stderr."""

    def facts(self, facts: "Facts") -> "Facts":
        """Give the host's facts as they are for this user's process."""

    def spawn(self, plan: "Plan", inherited: Sequence[int], facts: "Facts") -> int:
        """Execute a plan in the user's context; gives the pid, raises LaunchFailed."""

    def spawner(self, attach: Attach) -> "Spawner":
        """Prepare to execute a plan and carry its stdio."""

    def attach(self, attachment: "Attachment", attach: Attach) -> NoReturn:
        """Carry the stdio of something that runs already; raises Finished or does not come back."""

    def only_in_process(self) -> None:
        """Leave a command that blocks for long to the user's own process."""


class Spawner(Protocol):
    """One execution with attached stdio: pass `client` and `spawn` on, then `carry`."""

    client: int

    def spawn(self, plan: "Plan", inherited: Sequence[int], facts: "Facts") -> int:
        """Execute the plan."""

    def carry(self) -> NoReturn:
        """Carry stdio to the end; raises Finished or does not come back."""

    def close(self) -> None:
        """Give up, when nothing was started."""


class LocalCaller:
    """A command in the user's own process."""

    served = False

    def __init__(self, *, leaving: Callable[[], None]) -> None:
        """Take everything from this process; `leaving` is called before it becomes another program."""
        self.leaving = leaving
        self.env: Mapping[str, str] = os.environ
        self.cwd = _getcwd()
        self.terminal = (os.isatty(0), os.isatty(1), os.isatty(2))
        self.size = _terminal_size(self.terminal)
        self._launcher = Launcher.installed()

    def out(self, text: str) -> None:
        """Write to stdout at once, since the process may become another one."""
        self.out_bytes(text.encode("utf-8", "surrogateescape"))

    def err(self, text: str) -> None:
        """Write to stderr."""
        self.err_bytes(text.encode("utf-8", "surrogateescape"))

    def out_bytes(self, data: bytes) -> None:
        """Write bytes to stdout."""
        _write(1, data)

    def err_bytes(self, data: bytes) -> None:
        """Write bytes to stderr."""
        _write(2, data)

    def facts(self, facts: "Facts") -> "Facts":
        """The host's facts were observed in this very process."""
        return facts

    def spawn(self, plan: "Plan", inherited: Sequence[int], facts: "Facts") -> int:
        """Execute a plan."""
        return self._launcher.run(plan, inherited, facts=facts)

    def spawner(self, attach: Attach) -> Spawner:
        """Join before the start, so that no output is missed."""
        return _LocalSpawner(self, attach)

    def attach(self, attachment: "Attachment", attach: Attach) -> NoReturn:
        """Become the C client: no Python stays between the user and the container."""
        control = attachment.join_with_control(attach.streams)
        self.leaving()
        _become_client(self._launcher, attachment.detach(), control, attach)

    def only_in_process(self) -> None:
        """We are."""


class _LocalSpawner:
    def __init__(self, caller: LocalCaller, attach: Attach) -> None:
        self._caller, self._attach = caller, attach
        from onggi.host.attach import Attachment

        self._ours, self._theirs = Attachment.pair()
        self._control = self._ours.join_with_control(attach.streams)
        self.client = self._theirs.fileno()

    def spawn(self, plan: "Plan", inherited: Sequence[int], facts: "Facts") -> int:
        return self._caller.spawn(plan, inherited, facts)

    def carry(self) -> NoReturn:
        self._theirs.close()
        self._caller.leaving()
        _become_client(self._caller._launcher, self._ours.detach(), self._control, self._attach)

    def close(self) -> None:
        self._theirs.close()
        self._ours.close()
        os.close(self._control)


def _become_client(launcher: Launcher, sock: int, control: int, attach: Attach) -> NoReturn:
    for fd in (sock, control):
        os.set_inheritable(fd, True)
    words = [sock, control, attach.streams, attach.flags]
    arguments = [
        "onggi-launcher",
        "attach",
        *map(str, words),
        *([os.fsdecode(attach.detach_keys)] if attach.detach_keys else []),
    ]
    os.execv(launcher.program, arguments)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BrokenPipeError:
            # As a C program would: `onggi logs | head` ends quietly.
            sys.exit(128 + 13)


def _getcwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _terminal_size(terminal: tuple[bool, bool, bool]) -> tuple[int, int]:
    for fd, is_terminal in enumerate(terminal):
        if is_terminal:
            size = os.get_terminal_size(fd)
            return size.lines, size.columns
    return (0, 0)
