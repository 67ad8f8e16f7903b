"""Choosing files beneath a directory, hashing what was chosen, and copying it elsewhere: COPY and ADD.

The source is a stranger's (a context, another stage's root): everything is resolved
beneath its descriptor, and a symbolic link that leads out of it stays inside.
"""

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.names import shown

from .copying import copy_data
from .planter import Planter
from .tree import OPEN_FILE, open_beneath, through
from .xattrs import CAPABILITY, read_xattrs

_CHUNK: Final = 1 << 20
_MAX_LINKS: Final = 40
Match = bytes | Callable[[bytes], bool]
Skip = Callable[[bytes, bool], bool]
"""Tells of a path (relative to the source root) and whether it is a directory if it is left out."""
Enter = Callable[[bytes], bool]
"""Tells whether anything below a directory that is left out may be wanted."""
Count = Callable[[], None]
"""Told of every entry of a directory that is looked at, before anything is made of it; what it raises ends that."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One chosen file: where it lies beneath the source root, and its name below the destination ("" is itself)."""

    source: bytes
    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    link: bytes = b""
    rdev: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


class Digests(Protocol):
    """A memory of what files contain, so that an unchanged file is not read again."""

    def get(self, item: Item) -> bytes | None:
        """Give the digest of this very state of a file, if it is known and to be trusted."""

    def put(self, item: Item, digest: bytes) -> None:
        """Remember it."""


class NoDigests:
    """Remembers nothing."""

    def get(self, item: Item) -> bytes | None:
        """Know nothing."""

    def put(self, item: Item, digest: bytes) -> None:
        """Forget."""


def find_matches(root: int, components: Sequence[Match], *, count: Count | None = None) -> list[bytes]:
    """Find the paths that match, component by component, sorted. A literal component need not be a directory entry
    that is there: the path is given as it is, and whoever looks at it learns."""
    found = [b""]
    for component in components:
        following: list[bytes] = []
        for path in found:
            if isinstance(component, bytes):
                following.append(_join(path, component))
            else:
                following += [_join(path, name) for name in _names(root, path, count) if component(name)]
        found = following
    return sorted(found)


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _names(root: int, path: bytes, count: Count | None) -> list[bytes]:
    try:
        fd = open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        return [os.fsencode(entry.name) for entry in _scan(fd, count)]
    finally:
        os.close(fd)


def _scan(fd: int, count: Count | None) -> Iterator[os.DirEntry[str]]:
    with os.scandir(fd) as scan:
        for entry in scan:
            if count is not None:
                count()
            yield entry


def look(root: int, path: bytes, *, follow: bool = False) -> os.stat_result | None:
    """Look at a path beneath the root; None when nothing is there."""
    try:
        fd = open_beneath(root, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def choose(
    root: int, path: bytes, *, skip: Skip | None = None, enter: Enter | None = None, count: Count | None = None
) -> Iterator[Item]:
    """Give a path and all below it, directories before what is in them; a link that is named itself is followed.

    Nothing is given when nothing is there. `skip` leaves files and directories out. `enter` tells whether something
    below a directory that is left out may be wanted; such a directory is given too when something below it is.
    """
    seen = look(root, path, follow=True)
    if seen is None:
        return
    yield _item(root, path, b"", seen)
    if stat.S_ISDIR(seen.st_mode):
        yield from _below(root, path, b"", skip, enter, count)


def _below(
    root: int, path: bytes, name: bytes, skip: Skip | None, enter: Enter | None, count: Count | None
) -> Iterator[Item]:
    fd = open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries = sorted((os.fsencode(entry.name), entry) for entry in _scan(fd, count))
        for child, entry in entries:
            seen = entry.stat(follow_symlinks=False)
            source, below = _join(path, child), _join(name, child)
            is_directory = stat.S_ISDIR(seen.st_mode)
            if skip is None or not skip(source, is_directory):
                if not stat.S_ISSOCK(seen.st_mode):
                    yield _item(root, source, below, seen)
                if is_directory:
                    yield from _below(root, source, below, skip, enter, count)
            elif is_directory and enter is not None and enter(source):
                wanted = _below(root, source, below, skip, enter, count)
                first = next(wanted, None)
                if first is not None:
                    yield _item(root, source, below, seen)
                    yield first
                    yield from wanted
    finally:
        os.close(fd)


def _item(root: int, source: bytes, name: bytes, seen: os.stat_result) -> Item:
    link = b""
    if stat.S_ISLNK(seen.st_mode):
        fd = open_beneath(root, source, os.O_PATH | os.O_NOFOLLOW)
        try:
            link = os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
    return Item(
        source=source,
        name=name,
        mode=seen.st_mode,
        uid=seen.st_uid,
        gid=seen.st_gid,
        size=seen.st_size,
        mtime_ns=seen.st_mtime_ns,
        ctime_ns=seen.st_ctime_ns,
        device=seen.st_dev,
        inode=seen.st_ino,
        link=link,
        rdev=seen.st_rdev,
    )


def hash_item(root: int, item: Item, *, owners: bool, digests: Digests) -> bytes:
    """Hash what COPY would take of a file: kind, mode, owner if `owners`, link target, content; never its time."""
    hasher = hashlib.sha256(b"%o %d %d\0" % (item.mode, item.uid if owners else 0, item.gid if owners else 0))
    if stat.S_ISLNK(item.mode):
        hasher.update(item.link)
    elif stat.S_ISREG(item.mode):
        hasher.update(_content(root, item, digests))
    elif not item.is_directory:
        hasher.update(b"%d" % item.rdev)
    return hasher.digest()


def _content(root: int, item: Item, digests: Digests) -> bytes:
    if (known := digests.get(item)) is not None:
        return known
    hasher = hashlib.sha256()
    fd = open_beneath(root, item.source, OPEN_FILE & ~os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{shown(item.source)} changed while it was read; stop what writes to it")
        buffer = bytearray(min(_CHUNK, max(item.size, 1)))
        view = memoryview(buffer)
        while count := os.readv(fd, [view]):
            hasher.update(view[:count])
        capability = read_xattrs(fd).get(CAPABILITY, b"")
    finally:
        os.close(fd)
    hasher.update(capability)
    digest = hasher.digest()
    digests.put(item, digest)
    return digest


class _Attributes(msgspec.Struct, frozen=True):
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[bytes, bytes]


class Copier:
    """Copies chosen items into a target: `owner` None keeps theirs, `mode` changes permission bits."""

    def __init__(
        self,
        root: int,
        planter: Planter,
        *,
        owner: tuple[int, int] | None,
        change_mode: Callable[[int, bool], int] | None,
        epoch_ns: int | None = None,
    ) -> None:
        """Copy from the directory `root`."""
        self._root, self._planter, self._owner, self._change = root, planter, owner, change_mode
        self._epoch_ns = epoch_ns
        self._links: dict[tuple[int, int], bytes] = {}

    def copy(self, item: Item, target: bytes) -> None:
        """Copy one item to this path of the target. Directories are merged."""
        kind = stat.S_IFMT(item.mode)
        attributes = self._attributes(item)
        if kind == stat.S_IFDIR:
            self._planter.directory(target, attributes)
        elif kind == stat.S_IFLNK:
            self._planter.symlink(target, attributes, item.link)
        elif kind == stat.S_IFREG:
            self._regular(item, target, attributes)
        else:
            self._planter.node(target, attributes, kind, item.rdev)

    def _regular(self, item: Item, target: bytes, attributes: _Attributes) -> None:
        identity = (item.device, item.inode)
        if identity in self._links:
            self._planter.hardlink(target, self._links[identity])
            return
        source = open_beneath(self._root, item.source, OPEN_FILE & ~os.O_NOFOLLOW)
        try:
            seen = os.fstat(source)
            if not stat.S_ISREG(seen.st_mode):
                raise InvalidArgument(f"{shown(item.source)} changed while it was copied; stop what writes to it")
            fd = self._planter.create(target)
            try:
                copy_data(source, fd, seen)
                capability = {k: v for k, v in read_xattrs(source).items() if k == CAPABILITY}
                self._planter.seal(fd, msgspec.structs.replace(attributes, xattrs=capability))
            finally:
                os.close(fd)
            if seen.st_nlink > 1:
                self._links[identity] = target
        finally:
            os.close(source)

    def _attributes(self, item: Item) -> _Attributes:
        uid, gid = self._owner or (item.uid, item.gid)
        mode = stat.S_IMODE(item.mode)
        if self._change is not None and not stat.S_ISLNK(item.mode):
            mode = self._change(mode, item.is_directory)
        mtime_ns = item.mtime_ns if self._epoch_ns is None else min(item.mtime_ns, self._epoch_ns)
        return _Attributes(mode, uid, gid, mtime_ns, {})


def make_parents(root: int, path: bytes, owner: tuple[int, int], *, mode: int = 0o755) -> bytes:
    """Make a directory and its parents where they are missing, through the links of the tree; gives its true path."""
    current = b""
    pending = [part for part in path.split(b"/") if part not in (b"", b".")]
    links = 0
    while pending:
        part = pending.pop(0)
        if part == b"..":
            current = current.rpartition(b"/")[0]
            continue
        here = _join(current, part)
        seen = look(root, here)
        if seen is None:
            parent = open_beneath(root, current, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.mkdir(part, 0o700, dir_fd=parent)
                made = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                try:
                    os.fchown(made, *owner)
                    os.fchmod(made, mode)
                finally:
                    os.close(made)
            finally:
                os.close(parent)
        elif stat.S_ISLNK(seen.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise InvalidArgument(f"{shown(path)} leads through too many symbolic links")
            fd = open_beneath(root, here, os.O_PATH | os.O_NOFOLLOW)
            try:
                target = os.readlink(b"", dir_fd=fd)
            finally:
                os.close(fd)
            if target.startswith(b"/"):
                current = b""
            pending = [step for step in target.split(b"/") if step not in (b"", b".")] + pending
            continue
        elif not stat.S_ISDIR(seen.st_mode):
            raise InvalidArgument(f"mkdir {shown(path)}: {shown(here)} is not a directory")
        current = here
    return current


def find_missing(root: int, path: bytes) -> list[bytes]:
    """Give what has to be made for a path to be there, deepest first, each by its true path."""
    missing: list[bytes] = []
    while path and look(root, path, follow=True) is None:
        path, _, name = path.rpartition(b"/")
        missing = [name, *(name + b"/" + below for below in missing)]
    above = true_path(root, path) if missing else None
    return [] if above is None else [_join(above, name) for name in reversed(missing)]


def resolve_last(root: int, path: bytes) -> bytes:
    """Follow a path whose last name is a symbolic link, be it one to nothing, inside the root."""
    for _ in range(_MAX_LINKS):
        seen = look(root, path)
        if seen is None or not stat.S_ISLNK(seen.st_mode):
            return path
        parent = path.rpartition(b"/")[0]
        fd = open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            target = os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
        joined = target if target.startswith(b"/") else _join(parent, target)
        above, _, name = os.path.normpath(b"/" + joined).lstrip(b"/").rpartition(b"/")
        path = _join(true_path(root, above) or above, name)
    raise InvalidArgument(f"{shown(path)} leads through too many symbolic links")


def set_time(root: int, path: bytes, mtime_ns: int) -> None:
    """Set the time of a directory beneath the root."""
    fd = open_directory(root, path)
    try:
        os.utime(fd, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(fd)


def hide(root: int, path: bytes, cover: int, *, skip: Skip, enter: Enter) -> None:
    """Put a whiteout into `cover` for everything below a path that is left out: an overlay of both lacks it."""
    fd = open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for entry in os.scandir(fd):
            name = os.fsencode(entry.name)
            source, is_directory = _join(path, name), entry.is_dir(follow_symlinks=False)
            out = skip(source, is_directory)
            if not is_directory or (out and not (enter(source) and _has_wanted(root, source, skip, enter))):
                if out:
                    os.mknod(name, stat.S_IFCHR, 0, dir_fd=cover)
                continue
            seen = entry.stat(follow_symlinks=False)
            os.mkdir(name, stat.S_IMODE(seen.st_mode), dir_fd=cover)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=cover)
            try:
                hide(root, source, below, skip=skip, enter=enter)
                os.fchmod(below, stat.S_IMODE(seen.st_mode))
                os.utime(below, ns=(seen.st_atime_ns, seen.st_mtime_ns))
            finally:
                os.close(below)
    finally:
        os.close(fd)


def _has_wanted(root: int, path: bytes, skip: Skip, enter: Enter, count: Count | None = None) -> bool:
    return next(_below(root, path, b"", skip, enter, count), None) is not None


def is_chosen(
    root: int, path: bytes, is_directory: bool, *, skip: Skip, enter: Enter, count: Count | None = None
) -> bool:
    """Tell whether a path is not left out, or is a directory with something below it that is not."""
    if not skip(path, is_directory):
        return True
    return is_directory and enter(path) and _has_wanted(root, path, skip, enter, count)


def read_prefix(root: int, path: bytes, size: int) -> bytes:
    """Read the first bytes of a regular file."""
    fd = open_beneath(root, path, OPEN_FILE & ~os.O_NOFOLLOW)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def true_path(root: int, path: bytes) -> bytes | None:
    """Give the path of a directory with all links resolved inside the root; None where nothing is there."""
    try:
        fd = open_beneath(root, path, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        top = os.readlink(through(root)).rstrip(b"/") + b"/"
        real = os.readlink(through(fd))
        if real + b"/" == top:
            return b""
        return real[len(top) :] if real.startswith(top) else real.lstrip(b"/")
    finally:
        os.close(fd)


def open_anything(root: int, path: bytes) -> int:
    """Open a path beneath the root as a handle (O_PATH). Raises NotFound."""
    try:
        return open_beneath(root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{shown(path)} is not there") from None


def is_directory(fd: int) -> bool:
    """Tell whether an open handle is a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def open_file(root: int, path: bytes) -> io.FileIO:
    """Open a regular file beneath the root for reading, unbuffered."""
    return io.FileIO(open_beneath(root, path, OPEN_FILE & ~os.O_NOFOLLOW), "rb")


def open_directory(root: int, path: bytes) -> int:
    """Open a directory beneath the root."""
    return open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)


def close(fd: int) -> None:
    """Close what one of these opened."""
    os.close(fd)
