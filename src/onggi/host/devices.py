"""Device nodes of the host, as `--device` and privileged containers name them."""

import os
import stat
from collections.abc import Iterator
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument

# What every container gets anew, or must not share.
_OWN: Final = frozenset({"pts", "ptmx", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"})


class DeviceNode(msgspec.Struct, frozen=True, kw_only=True):
    """A device node: `type` is b or c; `mode` without the file type."""

    path: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


def look_up_devices(path: str) -> tuple[DeviceNode, ...]:
    """Find the device at a path, or all beneath it when it is a directory. Raises InvalidArgument, Docker's text."""
    try:
        seen = os.stat(path)
    except OSError as error:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{path}": {(error.strerror or "").lower()}'
        ) from None
    if stat.S_ISDIR(seen.st_mode):
        return tuple(_walk(path))
    node = _node(path, seen)
    if node is None:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{path}": not a device node'
        )
    return (node,)


def list_devices() -> tuple[DeviceNode, ...]:
    """List every device of /dev, for a privileged container."""
    return tuple(_walk("/dev"))


def _walk(directory: str) -> Iterator[DeviceNode]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if directory == "/dev" and entry.name in _OWN:
                continue
            if entry.is_symlink():
                continue
            if entry.is_dir():
                yield from _walk(entry.path)
            elif (node := _node(entry.path, entry.stat())) is not None:
                yield node


def _node(path: str, seen: os.stat_result) -> DeviceNode | None:
    kind = "c" if stat.S_ISCHR(seen.st_mode) else "b" if stat.S_ISBLK(seen.st_mode) else None
    if kind is None:
        return None
    return DeviceNode(
        path=path,
        type=kind,
        major=os.major(seen.st_rdev),
        minor=os.minor(seen.st_rdev),
        mode=stat.S_IMODE(seen.st_mode),
        uid=seen.st_uid,
        gid=seen.st_gid,
    )
