"""What an upper directory changes about the layers below it (`docker diff`).

As Docker tells it: a directory is changed if its mode or owner is, or if anything in it is; a
file also if its size or time is. What went with its directory is not told of.
"""

import errno
import os
import stat
from collections.abc import Collection
from typing import Final

import msgspec

from onggi.base.errors import OnggiError
from onggi.base.names import shown

from .oserrors import explain_oserror
from .tree import Directory, open_straight, through, walk

_OPAQUE: Final = b"trusted.overlay.opaque"
_CAPABILITY: Final = b"security.capability"


class _Seen(msgspec.Struct, frozen=True):
    """What is compared of two files; size, time and capability are 0 of a directory."""

    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    capability: bytes


def list_changes(upper: int, below: int, *, made: Collection[bytes] = ()) -> list[tuple[str, bytes]]:
    """Give (A added, C changed or D deleted, absolute path), each directory before what is in it.

    `upper` and `below` are directories' descriptors. `made` are paths that whoever started the
    container made to mount something there: they count as empty files and directories below.
    """
    kinds: dict[bytes, str] = {}
    hidden: set[bytes] = set()  # directories in which nothing of the layers below shows
    try:
        for directory in walk(upper):
            _compare(kinds, upper, below, directory, hidden, made)
    except OSError as error:
        raise _explain(error) from None
    for path in list(kinds):
        while path := os.path.dirname(path):
            kinds.setdefault(path, "C")
    return [(kinds[path], b"/" + path) for path in sorted(kinds, key=lambda path: path.split(b"/"))]


def _compare(
    kinds: dict[bytes, str],
    upper: int,
    below: int,
    directory: Directory,
    hidden: set[bytes],
    made: Collection[bytes],
) -> None:
    """Note the changes of one directory's names."""
    at = directory.path
    here = [name for name, _ in directory.files] + directory.subdirectories
    if _is_opaque(directory.fd) or (at and os.path.dirname(at) in hidden):
        hidden.add(at)
        kinds.update((_join(at, name), "D") for name in _names(below, at).difference(here))
    for name in here:
        path = _join(at, name)
        new, old = _look(upper, path), _look(below, path)
        if new is None:
            continue  # gone by now
        if stat.S_ISCHR(new.mode) and new.rdev == 0:  # a whiteout
            if old is not None:
                kinds[path] = "D"
        elif old is None:
            if path not in made:
                kinds[path] = "A"
            elif new.size:
                kinds[path] = "C"
        elif new != old:
            kinds[path] = "C"


def _look(root: int, path: bytes) -> _Seen | None:
    try:
        fd = open_straight(root, path, os.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # one of its directories is a link there
            return None
        raise
    try:
        seen = os.fstat(fd)
        kept = (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_rdev)
        if stat.S_ISDIR(seen.st_mode):
            return _Seen(*kept, 0, 0, b"")
        capability = _attribute(fd, _CAPABILITY) if stat.S_ISREG(seen.st_mode) else b""
        return _Seen(*kept, seen.st_size, seen.st_mtime_ns, capability)
    finally:
        os.close(fd)


def _is_opaque(fd: int) -> bool:
    return _attribute(fd, _OPAQUE) == b"y"


def _attribute(fd: int, name: bytes) -> bytes:
    try:
        return os.getxattr(through(fd), name)
    except OSError:
        return b""


def _names(root: int, path: bytes) -> set[bytes]:
    try:
        fd = open_straight(root, path)
    except OSError:
        return set()
    try:
        return {os.fsencode(name) for name in os.listdir(fd)}
    finally:
        os.close(fd)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _explain(error: OSError) -> OnggiError:
    path = error.filename if isinstance(error.filename, bytes) else b"/"
    return explain_oserror(error, "compare with the image", shown(path))
