"""Looking at a container's process from outside, through /proc."""

import os
from typing import Final

from onggi.base.errors import FailedPrecondition

from .oserrors import explain_oserror

NAMESPACE_FILES: Final = {
    "user": "user",
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}


def own_namespaces(pid: int) -> tuple[str, ...]:
    """List the kinds of namespace in which a process differs from us: those are the ones to join.

    Raises FailedPrecondition when it has ended.
    """
    own = []
    for kind, file in NAMESPACE_FILES.items():
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{file}")
            ours = os.stat(f"/proc/self/ns/{file}")
        except FileNotFoundError:
            if not os.path.isdir(f"/proc/{pid}"):
                raise FailedPrecondition("the container has ended just now") from None
            continue  # a kind that this kernel does not have
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            own.append(kind)
    return tuple(own)


def open_process_root(pid: int) -> int:
    """Open the root directory of a process, to be used with RESOLVE_IN_ROOT only; the caller closes it."""
    try:
        return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise FailedPrecondition("the container has ended just now") from None
    except OSError as error:
        raise explain_oserror(error, "open", f"/proc/{pid}/root") from None


def process_command(pid: int) -> tuple[str, ...]:
    """Read a process's arguments; none when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            data = file.read(1 << 17)
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(part.decode("utf-8", "replace") for part in data.rstrip(b"\0").split(b"\0") if part)


def network_traffic(pid: int) -> tuple[int, int]:
    """Count what came in and went out in a process's network, in bytes, loopback left out; nothing when it is gone."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
            for line in file.readlines()[2:]:
                name, _, counters = line.partition(":")
                fields = counters.split()
                if name.strip() != "lo" and len(fields) >= 9:
                    received, sent = received + int(fields[0]), sent + int(fields[8])
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    return received, sent
