"""Copying a tree beneath one directory to beneath another: volumes' first contents, COPY.

What is copied is what an image keeps: owner, mode, times, links, devices, holes,
and the attributes that belong to an image. Sockets are left out. A directory of
the target that is there already is merged into; anything else gives way.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final

import msgspec

from .planter import Planter
from .tree import Directory, open_regular, through, walk
from .xattrs import belongs_to_image, read_xattrs

_CHUNK: Final = 64 << 20
_NO_COPY_IN_KERNEL: Final = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EBADF)


Owner = Callable[[int, int], tuple[int, int]]
"""Gives the ids in the copy for those of the source."""


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What the copy took: how many names, how many bytes, how many attributes the target could not hold."""

    entries: int
    size_bytes: int
    lost_xattrs: int


class _Stat(msgspec.Struct, frozen=True):
    """The attributes of a file that was looked at."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[bytes, bytes]


class _Copy:
    """One copy in progress."""

    def __init__(self, planter: Planter, owner: Owner | None, *, no_xdev: bool) -> None:
        self.entries = 0
        self.size_bytes = 0
        self._planter = planter
        self._owner = owner
        self._no_xdev = no_xdev
        self._links: dict[tuple[int, int], bytes] = {}

    def directory(self, directory: Directory) -> None:
        self.entries += 1
        self._planter.directory(directory.path, self._attributes(os.fstat(directory.fd), directory.fd))
        prefix = directory.path + b"/" if directory.path else b""
        for name, regular in directory.files:
            self.entries += 1
            path = prefix + name
            if not (regular and self._regular(directory.fd, name, path)):
                self._other(directory.fd, name, path)

    def _regular(self, dirfd: int, name: bytes, path: bytes) -> bool:
        try:
            opened = open_regular(dirfd, name, no_xdev=self._no_xdev)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return True  # something is mounted on it, and stays where it is
            raise
        if opened is None:
            return False
        source, seen = opened
        try:
            if self._linked(seen, path):
                return True
            target = self._planter.create(path)
            try:
                self.size_bytes += copy_data(source, target, seen)
                self._planter.seal(target, self._attributes(seen, source))
            finally:
                os.close(target)
        finally:
            os.close(source)
        return True

    def _other(self, dirfd: int, name: bytes, path: bytes) -> None:
        try:
            seen = os.lstat(name, dir_fd=dirfd)
        except FileNotFoundError:
            return
        kind = stat.S_IFMT(seen.st_mode)
        if kind in (stat.S_IFSOCK, stat.S_IFDIR, stat.S_IFREG) or self._linked(seen, path):
            return
        if kind == stat.S_IFLNK:
            self._planter.symlink(path, self._attributes(seen), os.readlink(name, dir_fd=dirfd))
        else:
            self._planter.node(path, self._attributes(seen), kind, seen.st_rdev)

    def _linked(self, seen: os.stat_result, path: bytes) -> bool:
        """Make a second name of a file that was copied already; False if it is the first."""
        if seen.st_nlink == 1:
            return False
        identity = (seen.st_dev, seen.st_ino)
        first = self._links.setdefault(identity, path)
        if first is path:
            return False
        self._planter.hardlink(path, first)
        return True

    def _attributes(self, seen: os.stat_result, fd: int | None = None) -> _Stat:
        uid, gid = self._owner(seen.st_uid, seen.st_gid) if self._owner else (seen.st_uid, seen.st_gid)
        found = {} if fd is None else {k: v for k, v in read_xattrs(fd).items() if belongs_to_image(k)}
        return _Stat(stat.S_IMODE(seen.st_mode), uid, gid, seen.st_mtime_ns, found)


def copy_tree(
    source: int,
    target: int,
    *,
    owner: Owner | None = None,
    owners: bool = True,
    no_xdev: bool = False,
    max_entries: int = 10_000_000,
) -> Copied:
    """Copy what is beneath the directory `source`, and its own attributes, to the directory `target`.

    `owner` gives other ids for those of the source; `owners=False`: to whoever copies.
    `no_xdev`: what is mounted in the tree is left out.
    Raises OSError, and what Planter and walk raise.
    """
    with Planter(target, owners=owners) as planter:
        copy = _Copy(planter, owner, no_xdev=no_xdev)
        for directory in walk(source, max_entries=max_entries, no_xdev=no_xdev):
            copy.directory(directory)
        planter.finish()
        return Copied(entries=copy.entries, size_bytes=copy.size_bytes, lost_xattrs=planter.lost_xattrs)


def move_contents(source: int, target: int) -> None:
    """Move what is in the directory `source` to `target`, which takes its attributes.

    A name that is in `target` already stays what it is there. Done again after a kill in the middle, it goes on.
    Where a disk is mounted on `target`, everything is copied instead.
    """
    seen = os.fstat(source)
    try:
        _move_names(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_tree(source, target)
        return
    found = {k: v for k, v in read_xattrs(source).items() if belongs_to_image(k)}
    with Planter(target) as planter:
        planter.directory(b"", _Stat(stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_mtime_ns, found))
        planter.finish()


def _move_names(source: int, target: int) -> None:
    with os.scandir(through(source)) as scan:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan]
    for name, is_directory in entries:
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            if is_directory:
                _move_directory(source, target, name)
            else:
                # rename(2) would replace a file that somebody has put there; link(2) never does.
                os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                os.unlink(name, dir_fd=source)


def _move_directory(source: int, target: int, name: bytes) -> None:
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def copy_data(source: int, target: int, seen: os.stat_result) -> int:
    """Copy the data between the holes; what a growing file gets meanwhile is left out."""
    size = seen.st_size
    if seen.st_blocks * 512 >= size:
        return _copy_range(source, target, 0, size)
    copied = end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            raise
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        if start < end:
            copied += _copy_range(source, target, start, end)
    os.ftruncate(target, size)
    return copied


def _copy_range(source: int, target: int, start: int, end: int) -> int:
    at = start
    in_kernel = True
    while at < end:
        wanted = min(end - at, _CHUNK)
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, wanted, at, at)
            except OSError as error:
                if error.errno not in _NO_COPY_IN_KERNEL:
                    raise
                in_kernel = False
                continue
        else:
            data = os.pread(source, min(wanted, 1 << 20), at)
            done = os.pwrite(target, data, at)
        if done == 0:
            break  # it shrank meanwhile
        at += done
    return at - start
