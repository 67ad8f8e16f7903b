"""Acts on cgroups that are there: who is in them, freeze and thaw, new limits, kill, remove.

Waiting here is for the kernel only, and every wait ends: what is stuck in the kernel
can be neither frozen nor killed, and then a sentence says so.
"""

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from onggi.base.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from onggi.base.errors import OnggiError
from onggi.plan.cgroup import UNIFIED
from onggi.plan.ops import FilterDevices, WriteFile

PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05


# -- members -----------------------------------------------------------------------------------------------


def main_directory(directories: Mapping[str, str]) -> str:
    """Choose the directory that stands for the whole cgroup: all members are in every one of them."""
    for key in (UNIFIED, "pids", "devices", "freezer", "memory"):
        if key in directories:
            return directories[key]
    if not directories:
        raise FailedPrecondition("the container is in no cgroup of its own, so its processes cannot be told from others")
    return next(iter(directories.values()))


def processes(directory: str) -> tuple[int, ...]:
    """List the processes of a cgroup and of those beneath it; nothing when it is gone."""
    found: set[int] = set()
    for current, names, _ in os.walk(directory):
        del names  # os.walk goes on into them
        found.update(_members(current))
    return tuple(sorted(found))


def _members(directory: str) -> set[int]:
    for file in ("cgroup.procs", "cgroup.threads"):
        try:
            with open(f"{directory}/{file}", encoding="ascii") as lines:
                return {int(line) for line in lines} - {0}  # 0: not of our pid namespace
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # a threaded cgroup lists threads only
                return set()
    return set()


def check_vacant(directories: Mapping[str, str]) -> None:
    """Refuse a cgroup that others use: before a container goes to a path that its user chose."""
    if not directories:
        return
    directory = main_directory(directories)
    if members := processes(directory):
        raise Conflict(
            f"container's cgroup is not empty: {len(members)} process(es) found in {directory}; choose another path"
        )
    if is_frozen(directories):
        raise Conflict(f"container's cgroup unexpectedly frozen: thaw {directory} first, or choose another path")


# -- freeze ------------------------------------------------------------------------------------------------


def freeze(directories: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> None:
    """Stop all members until `thaw`. Raises Unavailable, with all of them running on, when one does not stop."""
    deadline = time.monotonic() + patience_s
    if directory := _unified_freezer(directories):
        _write(f"{directory}/cgroup.freeze", "1", "freeze")
        stopped = _wait_for_event(directory, "frozen", 1, deadline)
    else:
        directory = _v1_freezer(directories)
        stopped = _freeze_v1(directory, deadline)
    if not stopped:
        thaw(directories)
        raise Unavailable(
            f"freeze {directory}: a process did not stop within {patience_s:g} s (it hangs in the kernel, or new ones "
            "come faster than they stop); all of them run on, try again"
        )


def thaw(directories: Mapping[str, str]) -> None:
    """Let all members run again; harmless when they do."""
    if directory := _unified_freezer(directories):
        _write(f"{directory}/cgroup.freeze", "0", "thaw")
    if "freezer" in directories:
        _write(f"{directories['freezer']}/freezer.state", "THAWED", "thaw")


def is_frozen(directories: Mapping[str, str]) -> bool:
    """Say whether this cgroup was told to freeze (and not only one above it)."""
    if (directory := _unified_freezer(directories)) and _read(f"{directory}/cgroup.freeze").strip() == "1":
        return True
    return "freezer" in directories and _read(f"{directories['freezer']}/freezer.self_freezing").strip() == "1"


def _unified_freezer(directories: Mapping[str, str]) -> str | None:
    """Give the v2 directory if it can freeze. It is used on hybrid hosts too: there a frozen task can be killed."""
    directory = directories.get(UNIFIED)
    return directory if directory is not None and os.path.exists(f"{directory}/cgroup.freeze") else None


def _v1_freezer(directories: Mapping[str, str]) -> str:
    if "freezer" not in directories:
        raise FailedPrecondition(
            "the container cannot be paused: its host has neither cgroup v2 nor the freezer controller of v1 mounted"
        )
    return directories["freezer"]


def _freeze_v1(directory: str, deadline: float) -> bool:
    """Freeze, again and again: a task that forks just then leaves the v1 freezer in FREEZING for good."""
    pause, tries = _PAUSE_S, 0
    while True:
        _write(f"{directory}/freezer.state", "FROZEN", "freeze")
        if _read(f"{directory}/freezer.state").strip() == "FROZEN":
            return True
        if time.monotonic() > deadline:
            return False
        tries += 1
        if tries % 50 == 0:  # letting them run for a moment helps where forks come in between
            _write(f"{directory}/freezer.state", "THAWED", "freeze")
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        time.sleep(pause)


def _wait_for_event(directory: str, name: str, value: int, deadline: float) -> bool:
    """Wait until cgroup.events says so; the kernel tells of each change (cgroups(7))."""
    try:
        events = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while f"{name} {value}\n" not in os.pread(events, 4096, 0).decode():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            poll.poll(remaining * 1000)
        return True
    except OSError as error:
        if error.errno == errno.ENODEV:  # the cgroup went away meanwhile
            return False
        raise
    finally:
        os.close(events)


# -- limits ------------------------------------------------------------------------------------------------


def update_limits(writes: Iterable[WriteFile | FilterDevices], directories: Mapping[str, str]) -> None:
    """Give new limits to a cgroup that is there.

    Some values may not pass each other (memory and memory+swap, quota and period): a
    write that fails is tried again after the others, as long as that gets on. When one
    cannot be had the others stay set, and the error names it.
    """
    waiting = list(writes)
    while waiting:
        failed: list[tuple[WriteFile, OSError]] = []
        for op in waiting:
            if isinstance(op, FilterDevices):
                from onggi.host.bpf import replace_device_filter

                replace_device_filter(directories[UNIFIED], op.program)
                continue
            try:
                _write_plainly(op.path, _bytes(op))
            except OSError as error:
                if error.errno not in op.tolerate:
                    failed.append((op, error))
        if len(failed) == len(waiting):
            raise _refusal(*failed[0])
        waiting = [op for op, _ in failed]


def check_memory_usage(limit: int | None, swap: int | None, directories: Mapping[str, str]) -> None:
    """Refuse limits that are in use already (linux.resources.memory.checkBeforeUpdate)."""
    from onggi.host.cgroupfs.statistics import read_statistics

    memory = read_statistics(directories).memory
    used = memory.usage_bytes if memory is not None else 0
    for name, value in (("memory+swap", swap), ("memory", limit)):
        if value is not None and 0 < value <= used:
            raise FailedPrecondition(f"rejecting {name} limit {value} <= usage {used}: the container would be killed")


def _bytes(op: WriteFile) -> bytes:
    if not isinstance(op.data, bytes):
        raise InvalidArgument(f"{op.path}: a limit is plain bytes, without holes")
    return op.data


def _refusal(op: WriteFile, error: OSError) -> OnggiError:
    directory, _, file = op.path.rpartition("/")
    said = f"set {file} of {directory} to {_bytes(op).decode()}: {_words(error)}"
    match error.errno:
        case errno.ENOENT | errno.ENODEV if not os.path.isdir(directory):
            return NotFound(f"{said}; the cgroup is gone, its container has ended")
        case errno.ENOENT:
            return FailedPrecondition(f"{said}; the cgroup was made without that controller, start the container anew")
        case errno.ENODEV:
            return InvalidArgument(f"{said}; there is no such device")
        case errno.EBUSY if file.startswith("memory."):
            usage = _read(f"{directory}/memory.usage_in_bytes").strip()
            return FailedPrecondition(f"{said}; its processes use {usage} bytes, which do not fit")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionDenied(f"{said}; run as root on the host")
        case _:
            return InvalidArgument(f"{said}; the kernel does not take that value here")


# -- the end -----------------------------------------------------------------------------------------------


def kill_members(directories: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> None:
    """SIGKILL all members and wait until none is left. Raises Unavailable for what cannot be killed."""
    if not directories:
        return
    directory = main_directory(directories)
    deadline = time.monotonic() + patience_s
    if UNIFIED in directories:
        with suppress(FileNotFoundError):
            _write_plainly(f"{directory}/cgroup.kill", b"1")
            if _wait_for_event(directory, "populated", 0, deadline):
                return
    if "freezer" in directories:
        with suppress(OSError):
            _write_plainly(f"{directories['freezer']}/freezer.state", b"THAWED")
    _repeat(lambda: not _kill_once(directory), deadline)
    if left := processes(directory):
        raise Unavailable(
            f"kill the processes of {directory}: {', '.join(map(str, left[:5]))} did not die within {patience_s:g} s; "
            "they hang in the kernel (a dead disk or network file system?)"
        )


def _kill_once(directory: str) -> bool:
    """Kill who is a member now. A pid may be somebody else's the next moment, so look again with a hold on it."""
    found = False
    for pid in processes(directory):
        found = True
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if pid in processes(directory):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)
    return found


def remove_cgroup(directories: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> None:
    """Remove a cgroup from all hierarchies, with those beneath it; harmless when it is gone."""
    deadline = time.monotonic() + patience_s
    for directory in dict.fromkeys(directories.values()):
        remove_tree(directory, deadline)


def remove_tree(directory: str, deadline: float) -> None:
    """Remove one directory of cgroupfs and those beneath. Members that are just exiting are waited for."""
    if not _repeat(lambda: _remove_once(directory), deadline):
        members = processes(directory)
        raise Conflict(
            f"remove {directory}: still {len(members)} process(es) in it"
            f"{' (' + ', '.join(map(str, members[:5])) + ')' if members else ''}; end them first"
        )


def _remove_once(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise PermissionDenied(f"remove {directory}: {_words(error)}; run as root on the host") from error
    else:
        return True
    for current, _, _ in os.walk(directory, topdown=False):
        with suppress(OSError):
            os.rmdir(current)
    return not os.path.exists(directory)


# -- plumbing ----------------------------------------------------------------------------------------------


def _repeat(attempt: Callable[[], bool], deadline: float) -> bool:
    pause = _PAUSE_S
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
    return True


def _write(path: str, text: str, step: str) -> None:
    try:
        _write_plainly(path, text.encode())
    except FileNotFoundError as error:
        raise NotFound(f"{step} {path}: the cgroup is gone; its container has ended") from error
    except OSError as error:
        raise PermissionDenied(f"{step} {path}: {_words(error)}; run as root on the host") from error


def _write_plainly(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
