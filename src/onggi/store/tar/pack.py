"""Trees become archives: the upper directory of an overlay a layer, any tree a plain archive.

A pure function of the tree: names in the order of their bytes, the files of a
directory before its subdirectories, nothing of the machine or the moment. In a
layer, what overlayfs calls deleted (a character device 0:0, an opaque directory)
gets the names of image-spec, layer.md, and no time of its own; the root appears
only where it is not plain root's 0755. Sockets are left out, holes are zeros.

The tree may change meanwhile. Files that vanish are left out. What grows is cut
at the size that was announced; what shrinks is filled with zeros, so that the
archive stays readable, and refused at its end.
"""

import errno
import hashlib
import stat
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

import msgspec

from onggi.base.errors import FailedPrecondition, InvalidArgument
from onggi.base.names import shown
from onggi.host.oserrors import explain_oserror
from onggi.host.reading import Stat, close, device_parts, look, look_at, read_into, read_link
from onggi.host.tree import Directory, open_regular, walk
from onggi.host.xattrs import belongs_to_image, read_xattrs
from onggi.spec.digest import DiffID

from .entry import LIMITS, Entry, Kind, Limits
from .fields import BLOCK
from .paths import OPAQUE, WHITEOUT, check_bounds
from .pax import SECOND_NS
from .unpack import Marks
from .window import BUFFER_BYTES
from .writer import END, encode_header, padding

_KINDS: Final = {
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}
_LINKS_BYTES_MOST: Final = 256 << 20
_NONE: Final[dict[bytes, bytes]] = {}


class Sink(Protocol):
    """Where an archive goes: an unbuffered file, a socket's file, a Hashing."""

    def write(self, data: memoryview, /) -> int | None:
        """Take the data, or as much of it as the result says; None, as of unbuffered files: nothing at the moment."""


def write_all(sink: Sink, data: bytes | memoryview) -> None:
    """Write all of it, in as many pieces as the sink takes it."""
    rest = memoryview(data)
    while rest:
        taken = sink.write(rest)
        if taken is None:
            raise FailedPrecondition("the output is full and does not wait: give one that blocks, not O_NONBLOCK")
        rest = rest[taken:]


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """How large the archive became; `extended_bytes` of it are headers for what ustar has no room for."""

    entries: int
    size_bytes: int
    extended_bytes: int = 0


class Hashing:
    """A sink that hashes, and passes on if there is something behind it."""

    def __init__(self, behind: Sink | None = None) -> None:
        """Begin with nothing."""
        self._hash = hashlib.sha256()
        self._behind = behind

    def write(self, data: memoryview, /) -> int:
        """Hash what is taken."""
        if self._behind is not None:
            write_all(self._behind, data)
        self._hash.update(data)
        return len(data)

    def diff_id(self) -> DiffID:
        """Name all that was written."""
        return DiffID.from_hash(self._hash)


class _Out:
    """The archive, put together in one buffer."""

    def __init__(self, sink: Sink) -> None:
        self.size_bytes = 0
        self._sink = sink
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._filled = 0

    def put(self, data: bytes) -> None:
        """Append a few blocks."""
        if self._filled + len(data) > BUFFER_BYTES:
            self.flush()
            if len(data) > BUFFER_BYTES:
                self._write(memoryview(data))
                return
        self._view[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def copy(self, fd: int, size: int) -> int:
        """Append `size` bytes of a file; gives how many it did not have."""
        left = size
        while left:
            if self._filled == BUFFER_BYTES:
                self.flush()
            got = read_into(fd, self._view[self._filled : min(self._filled + left, BUFFER_BYTES)])
            if not got:
                break
            self._filled += got
            left -= got
        return left

    def fill(self, size: int) -> None:
        """Append zeros."""
        while size:
            piece = min(size, BUFFER_BYTES)
            self.put(bytes(piece))
            size -= piece

    def flush(self) -> None:
        """Hand on what is in the buffer."""
        self._write(self._view[: self._filled])
        self._filled = 0

    def _write(self, data: memoryview) -> None:
        self.size_bytes += len(data)
        write_all(self._sink, data)


class _Packing:
    """One archive on its way."""

    def __init__(
        self, sink: Sink, limits: Limits, *, marks: Marks | None, prefix: bytes, epoch: int | None, no_xdev: bool
    ) -> None:
        self.entries = 0
        self.extended_bytes = 0
        self.out = _Out(sink)
        self.torn: bytes | None = None
        self.at = b"/"
        self._limits = limits
        self._overlay = f"{marks}.overlay.".encode() if marks else None
        self._prefix = prefix
        self.no_xdev = no_xdev
        self._latest_ns = None if epoch is None else epoch * SECOND_NS
        self._total = 0
        self._links: dict[tuple[int, int], bytes] = {}
        self._links_bytes = 0

    def directory(self, directory: Directory) -> None:
        self.at = directory.path or b"/"
        path = self._prefix + directory.path
        self._describe(directory, path)
        inside = path + b"/" if path and path[-1:] != b"/" else path
        for name, regular in directory.files:
            self._file(directory.fd, name, inside + name, regular)

    def single(self, directory: int, file: bytes, name: bytes) -> None:
        self.at = file
        self._file(directory, file, name, regular=True)

    def mounted(self, path: bytes) -> None:
        """Write an empty directory in the place of one on which something is mounted."""
        self._emit(Entry(name=self._prefix + path + b"/", kind=Kind.DIRECTORY, mode=0o755))

    # -- entries -----------------------------------------------------------------------------------

    def _describe(self, directory: Directory, path: bytes) -> None:
        """Write the entry of a directory, and whether what is below it is hidden."""
        seen = look_at(directory.fd)
        found = read_xattrs(directory.fd)
        kept = self._kept(found, path) if found else _NONE
        plain = stat.S_IMODE(seen.st_mode) == 0o755 and seen.st_uid == seen.st_gid == 0 and not kept
        if path or not plain:
            self._emit(self._entry(path.rstrip(b"/") + b"/" if path else b"./", Kind.DIRECTORY, seen, kept))
        if found and self._overlay and found.get(self._overlay + b"opaque") == b"y":
            self._emit(Entry(name=path + b"/" + OPAQUE if path else OPAQUE, kind=Kind.REGULAR, mode=0o600))

    def _file(self, dirfd: int, name: bytes, path: bytes, regular: bool) -> None:
        if self._overlay and name.startswith(WHITEOUT):
            raise InvalidArgument(
                f"{shown(path)} cannot be in an image layer, where names beginning with .wh. say that files "
                f"are deleted; remove or rename it"
            )
        if regular:
            try:
                opened = open_regular(dirfd, name, no_xdev=self.no_xdev)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._emit(Entry(name=path, kind=Kind.REGULAR))
                return
            if opened is not None:
                fd, seen = opened
                try:
                    self._regular(fd, seen, path)
                finally:
                    close(fd)
                return
        self._special(dirfd, name, path)

    def _regular(self, fd: int, seen: Stat, path: bytes) -> None:
        if seen.st_nlink > 1 and self._linked(seen, path):
            return
        found = read_xattrs(fd)
        size = seen.st_size
        self._total += size
        if self._total > self._limits.total_bytes:
            raise InvalidArgument(
                f"{shown(path)} has {size} bytes: the files are larger than {self._limits.total_bytes} bytes together"
            )
        self._emit(self._entry(path, Kind.REGULAR, seen, self._kept(found, path) if found else _NONE, size=size))
        missing = self.out.copy(fd, size)
        if missing:
            self.torn = path
            self.out.fill(missing)
        self.out.put(padding(size))

    def _special(self, dirfd: int, name: bytes, path: bytes) -> None:
        seen = look(dirfd, name)
        kind = _KINDS.get(stat.S_IFMT(seen.st_mode)) if seen else None
        if seen is None or kind is None:
            return  # gone, or a socket, or replaced meanwhile by what this walk does not expect here
        if self._overlay and kind is Kind.CHARACTER and seen.st_rdev == 0:
            parent, slash, name = path.rpartition(b"/")
            self._emit(Entry(name=parent + slash + WHITEOUT + name, kind=Kind.REGULAR, mode=0o600))
            return
        if seen.st_nlink > 1 and self._linked(seen, path):
            return
        link = b""
        if kind is Kind.SYMLINK:
            target = read_link(dirfd, name)
            if target is None:
                return
            link = target
        device = device_parts(seen.st_rdev) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0)
        self._emit(self._entry(path, kind, seen, _NONE, link=link, device=device))

    def _linked(self, seen: Stat, path: bytes) -> bool:
        """Write a further name of a file as a hard link; False if this is its first."""
        first = self._links.setdefault((seen.st_dev, seen.st_ino), path)
        if first is path:
            self._links_bytes += len(path)
            if self._links_bytes > _LINKS_BYTES_MOST:
                raise InvalidArgument("the tree has too many files with several names")
            return False
        self._emit(self._entry(path, Kind.HARDLINK, seen, _NONE, link=first))
        return True

    # -- attributes --------------------------------------------------------------------------------

    def _entry(
        self, path: bytes, kind: Kind, seen: Stat, xattrs: dict[bytes, bytes], *,
        size: int = 0, link: bytes = b"", device: tuple[int, int] = (0, 0),
    ) -> Entry:  # fmt: skip
        mtime_ns = seen.st_mtime_ns
        if self._latest_ns is not None and mtime_ns > self._latest_ns:
            mtime_ns = self._latest_ns
        return Entry(
            name=path,
            kind=kind,
            mode=seen.st_mode & 0o7777,
            uid=seen.st_uid,
            gid=seen.st_gid,
            mtime_ns=mtime_ns,
            size=size,
            link=link,
            device=device,
            xattrs=xattrs,
        )

    def _kept(self, found: dict[bytes, bytes], path: bytes) -> dict[bytes, bytes]:
        """Choose the attributes that go along; refuse what only the overlay that made it can read."""
        if self._overlay:
            for what in (b"redirect", b"metacopy"):
                if self._overlay + what in found:
                    raise FailedPrecondition(
                        f"{shown(path)} was changed under an overlay mounted with {what.decode()}, so its content "
                        f"is elsewhere; such a directory is no layer"
                    )
        return {name: value for name, value in found.items() if belongs_to_image(name)}

    def _emit(self, entry: Entry) -> None:
        self.entries += 1
        if len(entry.name) > self._limits.path_bytes:
            raise InvalidArgument(f"the name {shown(entry.name)} is longer than {self._limits.path_bytes} bytes")
        check_bounds(entry.name, self._limits)
        header = encode_header(entry)
        if len(header) > self._limits.header_bytes:
            raise InvalidArgument(f"{shown(entry.name)} has more extended attributes than an archive can hold")
        self.extended_bytes += len(header) - BLOCK
        self.out.put(header)


def pack_layer(
    root: int, sink: Sink, *, marks: Marks = "trusted", limits: Limits = LIMITS, epoch: int | None = None
) -> Packed:
    """Write the layer that the upper directory `root` is, as an uncompressed tar.

    `marks`: whose attributes of overlayfs count, as when it was mounted. `epoch`:
    no time is later than this second (SOURCE_DATE_EPOCH). Raises InvalidArgument
    for what no layer can hold, FailedPrecondition if a file shrank meanwhile.
    """
    return _pack(root, _Packing(sink, limits, marks=marks, prefix=b"", epoch=epoch, no_xdev=False), limits)


def pack_tree(
    root: int,
    sink: Sink,
    *,
    prefix: bytes = b"",
    limits: Limits = LIMITS,
    epoch: int | None = None,
    no_xdev: bool = True,
) -> Packed:
    """Write what is beneath `root`, a merged tree, as an uncompressed tar in which no name means something else.

    `prefix`: a clean path that stands for the root in the names. `no_xdev`: what
    is mounted in the tree is left out; its place is an empty file or directory.
    """
    below = prefix + b"/" if prefix else b""
    return _pack(root, _Packing(sink, limits, marks=None, prefix=below, epoch=epoch, no_xdev=no_xdev), limits)


def pack_file(directory: int, file: bytes, sink: Sink, *, name: bytes, limits: Limits = LIMITS) -> Packed:
    """Write one name of a directory, which is no directory itself; in the archive it is called `name`."""
    packing = _Packing(sink, limits, marks=None, prefix=b"", epoch=None, no_xdev=False)
    return _written(packing, [partial(packing.single, directory, file, name)])


def hash_layer(
    root: int, *, marks: Marks = "trusted", limits: Limits = LIMITS, epoch: int | None = None
) -> tuple[DiffID, Packed]:
    """Find the DiffID of the layer that the upper directory `root` is, and the size of its tar."""
    sink = Hashing()
    packed = pack_layer(root, sink, marks=marks, limits=limits, epoch=epoch)
    return sink.diff_id(), packed


def _pack(root: int, packing: _Packing, limits: Limits) -> Packed:
    walked = walk(root, max_entries=limits.entries, no_xdev=packing.no_xdev, mounted=packing.mounted)
    return _written(packing, (partial(packing.directory, directory) for directory in walked))


def _written(packing: _Packing, parts: Iterable[Callable[[], None]]) -> Packed:
    try:
        for part in parts:
            part()
        packing.out.put(END)
        packing.out.flush()
    except OSError as error:
        raise explain_oserror(error, "pack", shown(packing.at)) from None
    if packing.torn is not None:
        raise FailedPrecondition(f"{shown(packing.torn)} became shorter while it was read; stop what writes to it")
    return Packed(entries=packing.entries, size_bytes=packing.out.size_bytes, extended_bytes=packing.extended_bytes)
