"""What a supervisor leaves in the run directory of its container, read back.

lock     held (OFD) as long as the supervisor lives
state    `pid <n>`, `started <ns>`; written before the process runs
exit     how it ended (launcher/record.c); the first thing to be known after the end
attach   socket for stdio, signals, and waiting
"""

from typing import Final

import msgspec

from onggi.base.errors import Corrupt
from onggi.plan.cgroup import count_oom_kills

MAX_RECORD_BYTES: Final = 64 << 10
LOST_EXIT_CODE: Final = 137


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The process as it was started: its pid on the host, and when (nanoseconds since the epoch)."""

    pid: int
    started_ns: int


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended. `kept` has the first 4 KiB of the files that the plan wanted to keep.

    `failed`: it never ran, since a step of its start failed.
    """

    code: int
    signal: int
    at_ns: int
    lost_records: int = 0
    failed: bool = False
    kept: dict[str, bytes] = {}

    @property
    def status(self) -> int:
        """The exit code as a shell has it: 128 and the signal for a process that was killed."""
        return 128 + self.signal if self.signal else self.code

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel killed something in the container for want of memory."""
        return count_oom_kills(self.kept) > 0


def parse_state(data: bytes) -> StateRecord:
    """Read a `state` record."""
    fields = _pairs(data.decode("ascii", "replace").splitlines())
    try:
        return StateRecord(pid=int(fields["pid"]), started_ns=int(fields["started"]))
    except (KeyError, ValueError):
        raise Corrupt(
            "the state record of a container cannot be read; `onggi system check --repair` clears it"
        ) from None


def parse_exit(data: bytes) -> ExitRecord:
    """Read an `exit` record."""
    head: list[str] = []
    kept: dict[str, bytes] = {}
    rest = data
    while rest:
        line, _, rest = rest.partition(b"\n")
        words = line.decode("ascii", "replace").split(" ")
        if words[0] == "keep" and len(words) == 3 and words[2].isdigit():
            size = int(words[2])
            kept[words[1]], rest = rest[:size], rest[size + 1 :]
        else:
            head.append(" ".join(words))
    fields = _pairs(head)
    try:
        return ExitRecord(
            code=int(fields["exit"]),
            signal=int(fields["signal"]),
            at_ns=int(fields["time"]),
            lost_records=int(fields.get("lost", "0")),
            failed="failed" in fields,
            kept=kept,
        )
    except (KeyError, ValueError):
        raise Corrupt(
            "the exit record of a container cannot be read; `onggi system check --repair` clears it"
        ) from None


def _pairs(lines: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}
