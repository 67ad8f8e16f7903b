"""Looking at files beneath a directory, for those above host/ who turn trees into archives and hashes.

The names are those of a `walk`; nothing follows a symbolic link.
"""

import io
import os
from typing import TypeAlias

Stat: TypeAlias = os.stat_result


def look(dirfd: int, name: bytes) -> Stat | None:
    """Give what is known about one name of a directory; None if it is gone."""
    try:
        return os.lstat(name, dir_fd=dirfd)
    except FileNotFoundError:
        return None


def look_at(fd: int) -> Stat:
    """Give what is known about an open file or directory."""
    return os.fstat(fd)


def read_link(dirfd: int, name: bytes) -> bytes | None:
    """Give the target of a symbolic link as text; None if it is gone or no link any more."""
    try:
        return os.readlink(name, dir_fd=dirfd)
    except OSError:
        return None


def read_into(fd: int, buffer: memoryview) -> int:
    """Read the next bytes of a file into the buffer; 0 at its end."""
    return os.readv(fd, (buffer,))


def close(fd: int) -> None:
    """Close a descriptor."""
    os.close(fd)


def device_parts(device: int) -> tuple[int, int]:
    """Split a device number into major and minor."""
    return os.major(device), os.minor(device)


def open_seekable(path: str) -> io.BufferedReader:
    """Open a regular file of ours for reading from any place."""
    return io.BufferedReader(io.FileIO(path, "rb"))
