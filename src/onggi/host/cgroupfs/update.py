"""New limits for a cgroup that is there."""

import errno
import os
from collections.abc import Iterable, Mapping

from onggi.base.errors import FailedPrecondition, InvalidArgument, NotFound, OnggiError, PermissionDenied
from onggi.plan.cgroup import UNIFIED
from onggi.plan.ops import FilterDevices, WriteFile

from .files import read, words, write
from .statistics import read_statistics


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
                from onggi.host.bpf import replace_device_filter  # ctypes: rarely needed

                replace_device_filter(directories[UNIFIED], op.program)
                continue
            try:
                write(op.path, _bytes(op))
            except OSError as error:
                if error.errno not in op.tolerate:
                    failed.append((op, error))
        if len(failed) == len(waiting):
            raise _refusal(*failed[0])
        waiting = [op for op, _ in failed]


def check_memory_usage(limit: int | None, swap: int | None, directories: Mapping[str, str]) -> None:
    """Refuse limits that are in use already (linux.resources.memory.checkBeforeUpdate)."""
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
    said = f"set {file} of {directory} to {_bytes(op).decode()}: {words(error)}"
    match error.errno:
        case errno.ENOENT | errno.ENODEV if not os.path.isdir(directory):
            return NotFound(f"{said}; the cgroup is gone, its container has ended")
        case errno.ENOENT:
            return FailedPrecondition(f"{said}; the cgroup was made without that controller, start the container anew")
        case errno.ENODEV:
            return InvalidArgument(f"{said}; there is no such device")
        case errno.EBUSY if file.startswith("memory."):
            usage = read(f"{directory}/memory.usage_in_bytes").strip()
            return FailedPrecondition(f"{said}; its processes use {usage} bytes, which do not fit")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionDenied(f"{said}; run as root on the host")
        case _:
            return InvalidArgument(f"{said}; the kernel does not take that value here")
