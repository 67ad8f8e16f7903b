"""Who is in a cgroup; ends them all, and takes the cgroup away.

Every wait ends: what is stuck in the kernel cannot be killed, and then a sentence says so.
"""

import errno
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from onggi.base.errors import Conflict, FailedPrecondition, PermissionDenied, Unavailable
from onggi.plan.cgroup import UNIFIED

from .files import PATIENCE_S, wait_for_event, wait_until, words, write
from .freezer import is_frozen


def main_directory(directories: Mapping[str, str]) -> str:
    """Choose the directory that stands for the whole cgroup: all members are in every one of them."""
    for key in (UNIFIED, "pids", "devices", "freezer", "memory"):
        if key in directories:
            return directories[key]
    if not directories:
        raise FailedPrecondition("the container is in no cgroup of its own: its processes cannot be told from others")
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


def kill_members(directories: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> None:
    """SIGKILL all members and wait until none is left. Raises Unavailable for what cannot be killed."""
    if not directories:
        return
    directory = main_directory(directories)
    deadline = time.monotonic() + patience_s
    if UNIFIED in directories:
        with suppress(FileNotFoundError):
            write(f"{directory}/cgroup.kill", b"1")
            if wait_for_event(directory, "populated", 0, deadline):
                return
    if "freezer" in directories:
        with suppress(OSError):
            write(f"{directories['freezer']}/freezer.state", b"THAWED")
    wait_until(lambda: not _kill_once(directory), deadline)
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
    if not wait_until(lambda: _remove_once(directory), deadline):
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
            raise PermissionDenied(f"remove {directory}: {words(error)}; run as root on the host") from error
    else:
        return True
    for current, _, _ in os.walk(directory, topdown=False):
        with suppress(OSError):
            os.rmdir(current)
    return not os.path.exists(directory)
