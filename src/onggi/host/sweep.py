"""Clear away what a start or a supervisor left behind that was killed.

A container's run directory tells whether it is alive and what it has on the host:

    starting   held (OFD) by whoever prepares a start, until the launcher has reported
    lock       held by the supervisor as long as it lives
    cgroups    JSON: the cgroup's directory in each hierarchy; written before the launch, gone when all is cleared
    trees      JSON: directories that go with the container
    exit       how it ended (launcher/record.c)

While `cgroups` is there and neither lock is held, nobody looks after the container:
its processes are killed, the cgroups and trees removed, and an end without a record is
recorded as exit code 137. That can be done again and by several at once: whoever
clears holds `starting`, so nobody clears beside it or starts a container in between.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from onggi.base.errors import Conflict, Corrupt, NotFound, OnggiError
from onggi.host.cgroupfs import kill_members, remove_cgroup
from onggi.host.files import Files
from onggi.host.locks import Lock, probe_lock, take_lock

LOST_EXIT_CODE: Final = 137
_MAX_BYTES: Final = 1 << 20
_CGROUPS: Final = msgspec.json.Decoder(dict[str, str])
_TREES: Final = msgspec.json.Decoder(tuple[str, ...])
_T = TypeVar("_T")


def begin_start(
    files: Files, run: str, cgroups: Mapping[str, str], trees: tuple[str, ...] = (), *, now_ns: int
) -> Lock:
    """Prepare the run directory `run`, which is there, for a start.

    Gives a lock to hold until the launcher has reported. What an earlier start left is
    cleared first. Raises Conflict if the container runs.
    """
    lock = take_lock(f"{run}/starting", f"the start in {run}")
    try:
        if probe_lock(f"{run}/lock"):
            raise Conflict(f"a supervisor holds {run}: what it looks after is running; stop that first")
        _clear(files, run, now_ns)
        for name in ("exit", "state", "attach"):
            files.remove_tree(f"{run}/{name}")
        files.put(f"{run}/trees", msgspec.json.encode(trees))
        files.put(f"{run}/cgroups", msgspec.json.encode(dict(cgroups)))
    except BaseException:
        lock.close()
        raise
    return lock


def is_alive(run: str) -> bool:
    """Tell whether somebody starts or looks after a container here.

    In this order: a start lets go of its lock only when the supervisor holds the other.
    """
    return probe_lock(f"{run}/starting") or probe_lock(f"{run}/lock")


def sweep(files: Files, root: str, *, now_ns: int) -> tuple[tuple[str, ...], tuple[OnggiError, ...]]:
    """Clear every run directory beneath `root` whose container nobody looks after.

    Gives the directories that were cleared, and the errors of those that could not be
    (processes that hang in the kernel, say); they do not keep the others from it.
    """
    cleared: list[str] = []
    errors: list[OnggiError] = []
    for name in files.entries(root):
        run = f"{root}/{name}"
        try:
            if clear(files, run, now_ns=now_ns):
                cleared.append(run)
        except OnggiError as error:
            errors.append(error)
    return tuple(cleared), tuple(errors)


def clear(files: Files, run: str, *, now_ns: int) -> bool:
    """Clear away what a container has left; False if it has left nothing, is alive, or somebody else is at it."""
    if files.look(f"{run}/cgroups") is None or is_alive(run):
        return False
    try:
        lock = take_lock(f"{run}/starting", run, timeout_s=0)
    except Conflict:
        return False
    with lock:
        return not probe_lock(f"{run}/lock") and _clear(files, run, now_ns)


def _clear(files: Files, run: str, now_ns: int) -> bool:
    """Clear what the records name, and the records last: what is interrupted is begun anew."""
    if files.look(f"{run}/cgroups") is None:
        return False
    cgroups = _read(files, f"{run}/cgroups", _CGROUPS)
    kill_members(cgroups)
    if files.look(f"{run}/exit") is None:
        text = f"exit {LOST_EXIT_CODE}\nsignal 0\ntime {now_ns}\nlost 0\nsupervisor lost\n"
        files.put(f"{run}/exit", text.encode())
    remove_cgroup(cgroups)
    if files.look(f"{run}/trees") is not None:
        for tree in _read(files, f"{run}/trees", _TREES):
            with suppress(NotFound):  # its directory is gone as well
                files.remove_tree(tree)
    for name in ("trees", "cgroups"):
        files.remove_tree(f"{run}/{name}")
    return True


def _read(files: Files, path: str, decoder: msgspec.json.Decoder[_T]) -> _T:
    try:
        return decoder.decode(files.read(path, _MAX_BYTES))
    except msgspec.MsgspecError:
        raise Corrupt(f"{path} cannot be read; remove it once the container's processes and cgroups are gone") from None
