"""Trees that strangers wrote: the roots of images and containers, contexts, volumes.

Everything is done beneath the descriptor of a directory. No symbolic link leads
out of it, no magic link of /proc is followed, and what lies there may be
anything: a FIFO without a writer, a device, a terabyte of holes, a name that is
no text, a hundred thousand directories in each other. Names are bytes. What a
running container changes meanwhile may be missed, but never leads elsewhere.

Functions raise OSError like the os module's unless they say otherwise.
`planter.py` makes files beneath a directory, `copying.py` copies trees.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from onggi.base.errors import FailedPrecondition, InvalidArgument, NotFound
from onggi.base.names import shown

from .oserrors import explain_oserror
from .syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: the opening of a FIFO must not wait for a writer, nor that of a terminal for a carrier.
OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_INSIDE: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_STRAIGHT: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_VANISHED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_DEEP: Final = 64
_AT_FDCWD: Final = -100


class MountCrossed(FailedPrecondition):
    """Something is mounted over the path; only a process in that mount namespace may read it."""


class Directory(msgspec.Struct, kw_only=True):
    """One directory of a walk; names are sorted as bytes.

    `fd` is open until the walk goes on. `files` holds everything that is not a
    directory, with whether the directory says that it is a regular file. The
    walk enters what is in `subdirectories` when it goes on: take out what it
    should not enter.
    """

    fd: int
    path: bytes
    files: list[tuple[bytes, bool]]
    subdirectories: list[bytes]


def open_beneath(root: int, path: bytes, flags: int = os.O_RDONLY, *, no_xdev: bool = False) -> int:
    """Open `path` as a process does whose root directory is `root`: links and `..` stay inside.

    Gives a close-on-exec descriptor. Of a path that may be a FIFO or a device
    ask for O_PATH first. `no_xdev`: EXDEV where the path crosses a mount.
    """
    return openat2(root, path or b".", flags, _INSIDE | (RESOLVE_NO_XDEV if no_xdev else 0))


def open_straight(root: int, path: bytes, flags: int = os.O_RDONLY | os.O_DIRECTORY, *, no_xdev: bool = False) -> int:
    """Open `path` beneath `root`; ELOOP where it meets a symbolic link, EXDEV where it leaves the root."""
    return openat2(root, path or b".", flags, _STRAIGHT | (RESOLVE_NO_XDEV if no_xdev else 0))


def is_magic(path: str) -> bool:
    """Tell whether a path leads through a link that means another thing to each process: /dev/stdin, /proc/self/cwd."""
    try:
        os.close(openat2(_AT_FDCWD, os.fsencode(path), os.O_PATH, RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def path_for_others(fd: int) -> str:
    """Give a path by which another process of ours finds what `fd` refers to, while we hold it open."""
    return f"/proc/{os.getpid()}/fd/{fd}"


def through(fd: int, name: bytes = b"") -> bytes:
    """Give a path to what `fd` refers to, or to `name` in it, for calls that take no descriptor.

    This is also the way to change an object that was opened with O_PATH, a
    device say, without any chance that its name means another one by then.
    """
    return b"/proc/self/fd/%d/%s" % (fd, name) if name else b"/proc/self/fd/%d" % fd


def open_regular(dirfd: int, name: bytes, *, no_xdev: bool = False) -> tuple[int, os.stat_result] | None:
    """Open one name of a directory for reading; None if it is no regular file, or gone.

    `no_xdev`: EXDEV if something is mounted on it.
    """
    try:
        if no_xdev:
            fd = open_straight(dirfd, name, OPEN_FILE & ~os.O_NOFOLLOW, no_xdev=True)
        else:
            fd = os.open(name, OPEN_FILE, dir_fd=dirfd)
    except OSError as error:
        # ENXIO: a socket or a device without a driver; EISDIR cannot be, we only read.
        if error.errno in (*_VANISHED, errno.ENXIO, errno.ENODEV):
            return None
        raise
    seen = os.fstat(fd)
    if stat.S_ISREG(seen.st_mode):
        return fd, seen
    os.close(fd)
    return None


def read_small(root: int, path: bytes, *, max_bytes: int, no_xdev: bool = True) -> bytes:
    """Read a small regular file of a hostile tree: passwd, group, hosts.

    The file is looked at through O_PATH before anything is opened for reading.
    Raises NotFound, InvalidArgument if it is no regular file or too large,
    MountCrossed if something is mounted on the way, or what the kernel said.
    """
    try:
        handle = open_beneath(root, path, os.O_PATH, no_xdev=no_xdev)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InvalidArgument(f"cannot read {shown(path)}: it is not a regular file")
            fd = os.open(through(handle), OPEN_FILE & ~os.O_NOFOLLOW)
        finally:
            os.close(handle)
        with open(fd, "rb", buffering=0) as file:
            data = bytearray()
            while len(data) <= max_bytes and (chunk := file.read(max_bytes + 1 - len(data))):
                data += chunk
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise MountCrossed(f"cannot read {shown(path)} from here: something is mounted over it") from None
        if error.errno in (*_VANISHED, errno.ENAMETOOLONG):
            raise NotFound(f"there is no {shown(path)} (symbolic links count within the tree)") from None
        raise explain_oserror(error, "read", shown(path)) from None
    if len(data) > max_bytes:
        raise InvalidArgument(f"cannot read {shown(path)}: it is larger than {max_bytes} bytes")
    return bytes(data)


def walk(
    root: int,
    *,
    max_entries: int = 10_000_000,
    no_xdev: bool = False,
    mounted: Callable[[bytes], None] | None = None,
) -> Iterator[Directory]:
    """Visit every directory beneath `root`, parents first, depth first, in the order of the names.

    Holds one descriptor at a time, whatever the depth. A directory that is gone
    when its turn comes is left out. With `no_xdev` a directory on which something
    is mounted is not entered, but told to `mounted`. Raises InvalidArgument beyond `max_entries` names.
    """
    pending = [b""]
    seen = 0
    while pending:
        path = pending.pop()
        try:
            fd = open_straight(root, path, no_xdev=no_xdev and path != b"")
        except OSError as error:
            if path and no_xdev and error.errno == errno.EXDEV:
                if mounted is not None:
                    mounted(path)
                continue
            if path and error.errno in _VANISHED:
                continue
            raise
        try:
            directory = _list(fd, path, max_entries - seen)
            seen += len(directory.files) + len(directory.subdirectories)
            yield directory
        finally:
            os.close(fd)
        prefix = path + b"/" if path else b""
        pending.extend(prefix + name for name in reversed(directory.subdirectories))


def _list(fd: int, path: bytes, max_entries: int) -> Directory:
    """Read the names of a directory: not from the descriptor, which gives them decoded."""
    files: list[tuple[bytes, bool]] = []
    subdirectories: list[bytes] = []
    with os.scandir(through(fd)) as scan:
        for entry in scan:
            max_entries -= 1
            if max_entries < 0:
                raise InvalidArgument(f"the tree has too many files: the limit was reached in {shown(path or b'/')}")
            if entry.is_dir(follow_symlinks=False):
                subdirectories.append(entry.name)
            else:
                files.append((entry.name, entry.is_file(follow_symlinks=False)))
    files.sort()
    subdirectories.sort()
    return Directory(fd=fd, path=path, files=files, subdirectories=subdirectories)


def remove_beneath(dirfd: int, name: bytes) -> None:
    """Remove one name of a directory, with everything below if it is a directory.

    Follows no link and crosses no mount (EXDEV, EBUSY): what is mounted there is
    somebody else's. Directories deeper than `_DEEP` are first moved to the top,
    so neither recursion nor open descriptors grow with the tree.
    """
    try:
        os.unlink(name, dir_fd=dirfd)
        return
    except OSError as error:
        # unlink(2) of a directory: EISDIR on Linux, EPERM by POSIX.
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        os.rmdir(name, dir_fd=dirfd)
        return
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    top = _enter_to_remove(dirfd, name)
    try:
        remove_contents(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=dirfd)


def remove_contents(top: int) -> None:
    """Empty a directory; the rules are those of `remove_beneath`."""
    while _empty(top, top, 0):
        pass


def _empty(fd: int, top: int, depth: int) -> bool:
    """Empty one directory; True if something deep was moved to `top` and is still to be removed."""
    moved = False
    with os.scandir(through(fd)) as scan:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan]
    for name, is_directory in entries:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
        elif depth == _DEEP:
            os.rename(name, b".onggi-deep-%s" % os.urandom(8).hex().encode(), src_dir_fd=fd, dst_dir_fd=top)
            moved = True
        else:
            child = _enter_to_remove(fd, name)
            try:
                moved |= _empty(child, top, depth + 1)
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=fd)
    return moved


def _enter_to_remove(dirfd: int, name: bytes) -> int:
    try:
        fd = open_straight(dirfd, name, no_xdev=True)
    except PermissionError:
        # Without privileges a directory may forbid its own removal to its owner.
        os.chmod(name, 0o700, dir_fd=dirfd)
        fd = open_straight(dirfd, name, no_xdev=True)
    if os.geteuid() != 0:
        os.fchmod(fd, 0o700)
    return fd
