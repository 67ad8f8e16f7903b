"""Making files beneath a directory as an archive or another tree says: the hands of `unpack` and `copy_tree`.

The order of the calls is the archive's, and may be hostile: children before
their parents, files that become directories and the reverse, the same name
twice (the last one stays), symbolic links in the middle of a path. A path is
resolved as by a process whose root directory is the given one, so it cannot
leave it; the last name is never followed. Hard links follow no link at all.

Descriptors of directories are kept, for finding them is most of the cost; as
soon as a directory or a symbolic link is replaced all are let go. Directories
get their time and their final mode in `finish`. Paths are clean: bytes without
leading slash, `.`, `..` or empty components; the root is `b""`.

Each thing gets its owner before its mode (chown clears setuid) and its
attributes after both (chown clears capabilities). Methods raise OSError, or
Corrupt or Conflict where the order of the calls makes no sense.
"""

import errno
import os
import stat
from collections.abc import Iterable
from typing import Final, Protocol, Self

import msgspec

from onggi.base.errors import Conflict, Corrupt
from onggi.base.names import shown

from .tree import OPEN_DIRECTORY, open_beneath, open_straight, remove_beneath, through
from .xattrs import CAPABILITY

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD_MOST: Final = 128
_PIECE: Final = 64 * 1024
_NOTED_BYTES_MOST: Final = 128 << 20
_NO_DIRECTORY: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Attributes(Protocol):
    """What every file has, whoever describes it; mode is the twelve permission bits."""

    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def xattrs(self) -> dict[bytes, bytes]: ...


class _Held(msgspec.Struct, frozen=True):
    """An open directory: whether its children inherit its group, whether its path has no symbolic link."""

    fd: int
    inode: int
    setgid: bool
    straight: bool


class _Noted(msgspec.Struct, frozen=True):
    """What a directory gets at the end; `mode` is None where it has it already."""

    inode: int
    mtime_ns: int
    mode: int | None


class Planter:
    """Makes files beneath `root`, whose descriptor stays the caller's.

    `overlay`: the prefix of the attribute that marks opaque directories, where
    the root is a layer of an overlay: `trusted`, or `user` in a user namespace.
    `owners`: False leaves everything to the caller's own ids.
    `replace_directories`: False refuses to replace a directory by something else, or the reverse.
    `keep_directory_links`: a symbolic link to a directory stays where a directory is
    to be made (dpkg does so: `/lib` of a package is the link to `usr/lib` of the system).
    """

    def __init__(
        self,
        root: int,
        *,
        overlay: str | None = None,
        owners: bool = True,
        replace_directories: bool = True,
        keep_directory_links: bool = False,
    ) -> None:
        """Start with nothing made."""
        self.lost_xattrs = 0
        self._root = root
        self._opaque = f"{overlay}.overlay.opaque".encode() if overlay else None
        self._owners = owners
        self._replace_directories = replace_directories
        self._keep_directory_links = keep_directory_links
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._held: dict[bytes, _Held] = {}
        self._let_go: list[int] = []
        self._noted: dict[bytes, _Noted] = {}
        self._noted_bytes = 0
        self._hidden: set[bytes] = set()

    def __enter__(self) -> Self:
        """Be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every descriptor."""
        self._release_all()
        self._close_let_go()

    # -- things ------------------------------------------------------------------------------------

    def regular(
        self, path: bytes, attributes: Attributes, size: int, extents: Iterable[tuple[int, memoryview]]
    ) -> None:
        """Make a file of `size` bytes from (offset, data) in ascending order; what is between stays a hole."""
        fd = self.create(path)
        try:
            _pour(fd, size, extents)
            self.seal(fd, attributes)
        finally:
            os.close(fd)

    def create(self, path: bytes) -> int:
        """Make an empty file and open it for writing; the caller fills, seals and closes it."""
        held, name = self._place(path)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=held.fd)
        except FileExistsError:
            self._vacate(held, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=held.fd)
        if held.setgid and self._owners:
            os.fchown(fd, self._uid, self._gid)
        return fd

    def seal(self, fd: int, attributes: Attributes) -> None:
        """Give a created file its owner, mode, attributes and, last, its time."""
        self._own(fd, attributes, strange=False)
        os.fchmod(fd, attributes.mode)
        if attributes.xattrs:
            self._attach(fd, attributes.xattrs)
        os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))

    def directory(self, path: bytes, attributes: Attributes) -> None:
        """Make a directory, or give the one that is there these attributes."""
        self._close_let_go()
        fresh = False
        held = self._held.get(path)
        if not path:
            held = self._open(path)
        elif held is None or not held.straight:
            if self._keep_directory_links and self._is_directory_link(path):
                return
            held, fresh = self._make_directory(path, replace=True)
        assert held is not None, "the root is always there"
        mode = attributes.mode
        self._own(held.fd, attributes, strange=held.setgid or not fresh)
        # Whoever is not privileged needs these bits until everything is in it.
        os.fchmod(held.fd, mode | 0o700)
        self._attach(held.fd, attributes.xattrs)
        if held.setgid != bool(mode & stat.S_ISGID):
            self._held[path] = _Held(held.fd, held.inode, not held.setgid, held.straight)
        self._note(path, held, attributes.mtime_ns, mode if mode & 0o700 != 0o700 else None)

    def _is_directory_link(self, path: bytes) -> bool:
        above, name = self._place(path)
        try:
            is_link = stat.S_ISLNK(os.lstat(name, dir_fd=above.fd).st_mode)
        except FileNotFoundError:
            return False
        return is_link and self._open(path) is not None

    def symlink(self, path: bytes, attributes: Attributes, target: bytes) -> None:
        """Make a symbolic link; its target is only text."""
        held, name = self._place(path)
        try:
            os.symlink(target, name, dir_fd=held.fd)
        except FileExistsError:
            self._vacate(held, name)
            os.symlink(target, name, dir_fd=held.fd)
        uid, gid = attributes.uid, attributes.gid
        if self._owners and (uid != self._uid or gid != self._gid or held.setgid):
            os.chown(name, uid, gid, dir_fd=held.fd, follow_symlinks=False)
        os.utime(name, ns=(attributes.mtime_ns, attributes.mtime_ns), dir_fd=held.fd, follow_symlinks=False)

    def node(self, path: bytes, attributes: Attributes, kind: int, device: int = 0) -> None:
        """Make a FIFO or a device: `kind` is S_IFIFO, S_IFCHR or S_IFBLK."""
        held, name = self._place(path)
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=held.fd)
        except FileExistsError:
            self._vacate(held, name)
            os.mknod(name, kind | 0o600, device, dir_fd=held.fd)
        # chmod by name would follow a link that a running container puts there now.
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=held.fd)
        try:
            if stat.S_IFMT(os.fstat(handle).st_mode) != kind:
                raise Conflict(f"{shown(path)} was replaced while it was made")
            itself = through(handle)
            if self._owners:
                os.chown(itself, attributes.uid, attributes.gid)
            os.chmod(itself, attributes.mode)
            os.utime(itself, ns=(attributes.mtime_ns, attributes.mtime_ns))
        finally:
            os.close(handle)

    def hardlink(self, path: bytes, target: bytes) -> None:
        """Give a file that was made before a second name. The way to it has no symbolic link, unless those are kept."""
        held, name = self._place(path)
        parent, _, target_name = target.rpartition(b"/")
        source = self._open(parent)
        try:
            if source is None or not (source.straight or self._keep_directory_links):
                raise FileNotFoundError
            seen = os.lstat(target_name, dir_fd=source.fd)
            if stat.S_ISDIR(seen.st_mode) or _is_whiteout(seen):
                raise FileNotFoundError
            try:
                os.link(target_name, name, src_dir_fd=source.fd, dst_dir_fd=held.fd, follow_symlinks=False)
            except FileExistsError:
                there = os.lstat(name, dir_fd=held.fd)
                if (there.st_dev, there.st_ino) == (seen.st_dev, seen.st_ino):
                    return  # the same file already, perhaps even the same name
                self._vacate(held, name)
                os.link(target_name, name, src_dir_fd=source.fd, dst_dir_fd=held.fd, follow_symlinks=False)
        except FileNotFoundError:
            raise Corrupt(f"a hard link to {shown(target)}, which is not an earlier file here") from None

    # -- marks of an overlay -----------------------------------------------------------------------

    def whiteout(self, path: bytes) -> None:
        """Say that the layers below have no such name; what this layer has under it stays."""
        held, name = self._place(path)
        self._count(path)
        self._hidden.add(path)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=held.fd)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=held.fd).st_mode):
                self._mark_opaque(self._enter(path).fd)

    def opaque(self, path: bytes) -> None:
        """Say that the layers below have nothing in this directory; it is made if it is not there."""
        self._close_let_go()
        self._mark_opaque(self._enter(path).fd)

    def _mark_opaque(self, fd: int) -> None:
        assert self._opaque is not None, "only a layer of an overlay has opaque directories"
        os.setxattr(fd, self._opaque, b"y")

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Give the directories their times and final modes; then everything is as it was told."""
        left = [(path, noted.mode) for path, noted in self._noted.items() if self._set_time(path, noted)]
        # Children first: a directory without x keeps even its owner from what is in it.
        for path, mode in sorted(left, reverse=True):
            self._close_let_go()
            held = self._open(path)
            if held is not None and mode is not None:
                os.fchmod(held.fd, mode)
        self._noted.clear()

    def _set_time(self, path: bytes, noted: _Noted) -> bool:
        """Set the time of a directory, unless something took its place; True if it waits for a mode too."""
        self._close_let_go()
        times = (noted.mtime_ns, noted.mtime_ns)
        parent, _, name = path.rpartition(b"/")
        held = self._open(parent)
        if held is None:
            return False
        if not path:
            os.utime(held.fd, ns=times)
            return noted.mode is not None
        try:
            seen = os.lstat(name, dir_fd=held.fd)
            if seen.st_ino != noted.inode or not stat.S_ISDIR(seen.st_mode):
                return False
            os.utime(name, ns=times, dir_fd=held.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return noted.mode is not None

    # -- attributes --------------------------------------------------------------------------------

    def _own(self, fd: int, attributes: Attributes, *, strange: bool) -> None:
        """Set the owner; `strange`: the object may belong to others than us."""
        uid, gid = attributes.uid, attributes.gid
        if self._owners and (strange or uid != self._uid or gid != self._gid):
            os.fchown(fd, uid, gid)

    def _attach(self, fd: int, xattrs: dict[bytes, bytes]) -> None:
        for name, value in xattrs.items():
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                # Like Docker, go on without what the file system cannot hold. But a program
                # that loses its capability does not work, so that one is an error.
                if name == CAPABILITY or error.errno != errno.EOPNOTSUPP:
                    raise
                self.lost_xattrs += 1

    def _note(self, path: bytes, held: _Held, mtime_ns: int, mode: int | None) -> None:
        if not held.straight:
            path = self._straightened(held.fd, path)
        if path not in self._noted:
            self._count(path)
        self._noted[path] = _Noted(held.inode, mtime_ns, mode)

    def _straightened(self, fd: int, path: bytes) -> bytes:
        """Give the path of a directory without symbolic links: they may lead elsewhere by the end."""
        top = os.readlink(through(self._root)).rstrip(b"/") + b"/"
        true = os.readlink(through(fd))
        return true[len(top) :] if true.startswith(top) else path

    def _count(self, path: bytes) -> None:
        """Bound the memory that remembered paths take."""
        self._noted_bytes += len(path)
        if self._noted_bytes > _NOTED_BYTES_MOST:
            raise Corrupt(f"the names of its directories take more than {_NOTED_BYTES_MOST >> 20} MiB")

    # -- places ------------------------------------------------------------------------------------

    def _place(self, path: bytes) -> tuple[_Held, bytes]:
        """Begin an operation: find the parent of a path, making what is missing, and the last name."""
        if self._let_go:
            self._close_let_go()
        parent, _, name = path.rpartition(b"/")
        if not name:
            raise Corrupt("something that is no directory takes the place of the root")
        return self._held.get(parent) or self._enter(parent), name

    def _enter(self, path: bytes) -> _Held:
        """Open a directory, making it and its parents if they are not there."""
        held = self._open(path)
        start = 0
        while held is None:
            self._close_let_go()  # as many as the path is deep
            start = path.find(b"/", start + 1)
            prefix = path if start < 0 else path[:start]
            held = self._open(prefix) or self._imply_directory(prefix)
            if start >= 0:
                held = None
        return held

    def _open(self, path: bytes) -> _Held | None:
        """Open a directory that is there, following links inside the root; None if there is none."""
        held = self._held.get(path)
        if held is not None:
            return held
        straight = True
        try:
            fd = open_straight(self._root, path)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY:
                raise
            if error.errno != errno.ELOOP:
                return None
            straight = False
            try:
                fd = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as second:
                if second.errno not in _NO_DIRECTORY:
                    raise
                return None
        return self._hold(path, fd, straight=straight)

    def _imply_directory(self, path: bytes) -> _Held:
        """Make a directory that nothing described: root's, 0755, and of no time so that it is the same each time."""
        held, _ = self._make_directory(path, replace=False)
        os.fchmod(held.fd, 0o755)
        if self._owners and (self._uid or self._gid or held.setgid):
            os.fchown(held.fd, 0, 0)
        held = self._held[path] = _Held(held.fd, held.inode, False, held.straight)
        self._note(path, held, 0, None)
        return held

    def _make_directory(self, path: bytes, *, replace: bool) -> tuple[_Held, bool]:
        """Make one directory in a parent, which may be missing, and hold it; False if it was there already.

        `replace`: something else that lies there gives way. A whiteout always does.
        """
        parent, _, name = path.rpartition(b"/")
        above = self._held.get(parent) or self._enter(parent)
        fresh = True
        try:
            os.mkdir(name, 0o700, dir_fd=above.fd)
        except FileExistsError:
            seen = os.lstat(name, dir_fd=above.fd)
            fresh = not stat.S_ISDIR(seen.st_mode)
            if fresh:
                if not replace and not _is_whiteout(seen):
                    raise Corrupt(f"{shown(path)} is not a directory, but something is in it") from None
                if not self._replace_directories and not _is_whiteout(seen):
                    raise Conflict(f"cannot overwrite non-directory {shown(path)} with directory") from None
                self._vacate(above, name)
                os.mkdir(name, 0o700, dir_fd=above.fd)
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=above.fd)
        held = self._hold(path, fd, straight=above.straight)
        if fresh and path in self._hidden:
            # `.wh.x` and a directory x in one layer: what was below is gone, this one is new.
            self._mark_opaque(fd)
        return held, fresh

    def _vacate(self, held: _Held, name: bytes) -> None:
        """Remove what lies at a name that something else is to take."""
        try:
            seen = os.lstat(name, dir_fd=held.fd)
            if stat.S_ISDIR(seen.st_mode):
                if not self._replace_directories:
                    raise Conflict(f"cannot overwrite directory {shown(name)} with non-directory")
                remove_beneath(held.fd, name)
                self._release_all()
            else:
                os.unlink(name, dir_fd=held.fd)
                if stat.S_ISLNK(seen.st_mode):
                    self._release_all()
        except FileNotFoundError:
            return  # a running container was faster

    # -- descriptors -------------------------------------------------------------------------------
    # What is let go is closed only at the start of the next operation: the current one may use it.

    def _hold(self, path: bytes, fd: int, *, straight: bool) -> _Held:
        before = self._held.pop(path, None)
        if before is not None:
            self._let_go.append(before.fd)
        elif len(self._held) >= _HELD_MOST:
            self._let_go.append(self._held.pop(next(iter(self._held))).fd)
        seen = os.fstat(fd)
        held = self._held[path] = _Held(fd, seen.st_ino, bool(seen.st_mode & stat.S_ISGID), straight)
        return held

    def _release_all(self) -> None:
        self._let_go.extend(held.fd for held in self._held.values())
        self._held.clear()

    def _close_let_go(self) -> None:
        for fd in self._let_go:
            os.close(fd)
        self._let_go.clear()


def device_number(major: int, minor: int) -> int:
    """Put the two parts of a device number together, as `Planter.node` takes it."""
    return os.makedev(major, minor)


def _is_whiteout(seen: os.stat_result) -> bool:
    return stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0


def _pour(fd: int, size: int, extents: Iterable[tuple[int, memoryview]]) -> None:
    """Write the data of a file; longer runs of zeros in a large one become holes too."""
    end = 0
    for offset, data in extents:
        if len(data) < _PIECE:
            _write(fd, data, offset)
            end = offset + len(data)
            continue
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            if piece[0] or piece[-1] or piece.tobytes().strip(b"\0"):
                _write(fd, piece, offset + start)
                end = offset + start + len(piece)
    if end != size:
        os.ftruncate(fd, size)


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        offset += written
        data = data[written:]
