"""What an upper directory changes about the layers below it (`docker diff`)."""

import os
import stat
from collections.abc import Iterator
from typing import Final

from .tree import open_beneath, walk

_OPAQUE: Final = b"trusted.overlay.opaque"


def list_changes(upper: int, below: int) -> Iterator[tuple[str, bytes]]:
    """Give (A added, C changed or D deleted, absolute path), sorted by path; both are directories' descriptors."""
    changes: list[tuple[bytes, str]] = []
    for directory in walk(upper):
        if directory.path:
            existed = _is_there(below, directory.path)
            changes.append((b"/" + directory.path, "C" if existed else "A"))
            if existed and _is_opaque(directory.fd):
                kept = {name for name, _ in directory.files} | set(directory.subdirectories)
                changes += [(b"/" + directory.path + b"/" + name, "D") for name in _names(below, directory.path) - kept]
        prefix = directory.path + b"/" if directory.path else b""
        for name, _ in directory.files:
            path = prefix + name
            seen = os.lstat(name, dir_fd=directory.fd)
            if stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0:
                changes.append((b"/" + path, "D"))
            else:
                changes.append((b"/" + path, "C" if _is_there(below, path) else "A"))
    for path, kind in sorted(changes):
        yield kind, path


def _is_there(root: int, path: bytes) -> bool:
    try:
        fd = open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return False
    os.close(fd)
    return True


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError:
        return False


def _names(root: int, path: bytes) -> set[bytes]:
    try:
        fd = open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return set()
    try:
        return {os.fsencode(name) for name in os.listdir(fd)}
    finally:
        os.close(fd)
