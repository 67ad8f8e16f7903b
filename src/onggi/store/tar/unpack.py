"""Archives become trees: layers in the form of an overlay's directory, and plain archives.

image-spec, layer.md. In a layer `.wh.x` says that the layers below have no x,
and `.wh..wh..opq` that they have nothing in this directory; both speak of lower
layers only, whatever their order among the layer's own files. They become what
overlayfs reads: a character device 0:0, and the attribute `overlay.opaque`.
A plain archive (`import`, ADD, `cp`) has no such names.

What may not come in: names and hard links that lead out, devices 0:0, which
would be whiteouts, and the attributes of overlayfs.
"""

import errno
import stat
from typing import Final, Literal

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument, OnggiError
from onggi.base.names import shown
from onggi.host.oserrors import explain_oserror
from onggi.host.planter import Planter, device_number
from onggi.host.xattrs import belongs_to_image

from .entry import LIMITS, Entry, Kind, Limits
from .paths import AUFS, OPAQUE, WHITEOUT, clean
from .reader import TarReader
from .window import ByteStream

Marks = Literal["trusted", "user"]
"""Whose attributes mark opaque directories: `user` in a user namespace (mounted with userxattr)."""

# What the kernel says about names that make no sense together, rather than about the disk.
_SENSELESS: Final = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EMLINK,
    errno.EEXIST, errno.ENOTEMPTY,
)  # fmt: skip


class Unpacked(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of an archive, and what could not be kept: `skipped_devices` would have needed privileges."""

    entries: int
    size_bytes: int
    lost_xattrs: int
    skipped_devices: int


class _Unpacking:
    """One archive on its way."""

    def __init__(self, reader: TarReader, planter: Planter, limits: Limits, *, layer: bool, devices: bool) -> None:
        self.entries = 0
        self.size_bytes = 0
        self.skipped_devices = 0
        self.owner: tuple[int, int] | None = None
        self.keep_root = False
        self._reader = reader
        self._planter = planter
        self._limits = limits
        self._layer = layer
        self._devices = devices

    def all(self) -> None:
        for entry in self._reader:
            self.entries += 1
            try:
                self._one(entry)
            except OnggiError as error:
                raise type(error)(_sentence(entry, str(error))) from None
            except OSError as error:
                raise _refused(entry, error) from None
        try:
            self._planter.finish()
        except OSError as error:
            raise explain_oserror(error, "finish the directories of", "the unpacked archive") from None

    def _one(self, entry: Entry) -> None:
        path = clean(entry.name, self._limits)
        if not path and self.keep_root and entry.kind is Kind.DIRECTORY:
            return
        if self._layer and WHITEOUT in path and self._mark(path):
            return
        if entry.xattrs or self.owner:
            entry = self._adapted(entry)
        planter = self._planter
        match entry.kind:
            case Kind.REGULAR:
                planter.regular(path, entry, entry.size, self._reader.extents())
                self.size_bytes += entry.size
            case Kind.DIRECTORY:
                planter.directory(path, entry)
            case Kind.SYMLINK:
                if not entry.link:
                    raise Corrupt("a symbolic link to nothing")
                planter.symlink(path, entry, entry.link)
            case Kind.HARDLINK:
                planter.hardlink(path, clean(entry.link, self._limits))
            case Kind.FIFO:
                planter.node(path, entry, stat.S_IFIFO)
            case Kind.CHARACTER | Kind.BLOCK:
                self._device(path, entry)

    def _device(self, path: bytes, entry: Entry) -> None:
        if entry.kind is Kind.CHARACTER and entry.device == (0, 0):
            raise Corrupt("a character device 0:0, which would delete a file of the layers below")
        if not self._devices:
            self.skipped_devices += 1
            return
        kind = stat.S_IFCHR if entry.kind is Kind.CHARACTER else stat.S_IFBLK
        self._planter.node(path, entry, kind, device_number(*entry.device))

    def _mark(self, path: bytes) -> bool:
        """Do what a name with `.wh.` in it says; False if it is an ordinary one after all."""
        parent, _, name = path.rpartition(b"/")
        first = next((part for part in parent.split(b"/") if part.startswith(WHITEOUT)), None)
        if first is not None:
            if first.startswith(AUFS):
                return True
            raise Corrupt(f"it lies beneath {shown(first)}, which says that something is deleted")
        if not name.startswith(WHITEOUT):
            return False
        if name == OPAQUE:
            self._planter.opaque(parent)
        elif not name.startswith(AUFS):
            # Other names beginning with AUFS are the notes of aufs to itself; Docker skips them.
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise Corrupt("it says that a directory itself is deleted")
            self._planter.whiteout(parent + b"/" + hidden if parent else hidden)
        return True

    def _adapted(self, entry: Entry) -> Entry:
        """Leave out attributes that no image has, and put another owner where one is wanted."""
        kept = {name: value for name, value in entry.xattrs.items() if belongs_to_image(name)}
        uid, gid = self.owner or (entry.uid, entry.gid)
        return msgspec.structs.replace(entry, xattrs=kept, uid=uid, gid=gid)


def unpack_layer(
    stream: ByteStream,
    root: int,
    *,
    limits: Limits = LIMITS,
    marks: Marks = "trusted",
    devices: bool = True,
    owners: bool = True,
) -> Unpacked:
    """Unpack the uncompressed tar of a layer into `root`, an empty directory, as overlayfs will read it.

    `devices=False` skips device nodes and counts them, for user namespaces.
    `owners=False` leaves everything to the caller, who is not privileged. Reads
    up to the end of the archive: what comes after it is the caller's to drain.
    Raises Corrupt or InvalidArgument for the archive, other kinds for the host;
    then `root` holds a part of the layer, to be thrown away.
    """
    with Planter(root, overlay=marks, owners=owners) as planter:
        unpacking = _Unpacking(TarReader(stream, limits=limits), planter, limits, layer=True, devices=devices)
        unpacking.all()
        return _result(unpacking, planter)


def unpack_tree(
    stream: ByteStream,
    root: int,
    *,
    limits: Limits = LIMITS,
    devices: bool = True,
    owners: bool = True,
    owner: tuple[int, int] | None = None,
    replace_directories: bool = True,
    keep_directory_links: bool = False,
    keep_root: bool = False,
) -> Unpacked:
    """Unpack an uncompressed tar over what is in `root`, with no name that means something else.

    `owner`: everything belongs to these ids. `replace_directories=False`: Conflict
    where something that is no directory would replace one, or the reverse (`cp`).
    `keep_root`: `root` itself stays as it is, whatever the archive says of it.
    `keep_directory_links`: a symbolic link to a directory stays where the archive
    has a directory (packages on a merged /usr). The rest is as in `unpack_layer`.
    """
    with Planter(
        root, owners=owners, replace_directories=replace_directories, keep_directory_links=keep_directory_links
    ) as planter:
        unpacking = _Unpacking(TarReader(stream, limits=limits), planter, limits, layer=False, devices=devices)
        unpacking.owner, unpacking.keep_root = owner, keep_root
        unpacking.all()
        return _result(unpacking, planter)


def _result(unpacking: _Unpacking, planter: Planter) -> Unpacked:
    return Unpacked(
        entries=unpacking.entries,
        size_bytes=unpacking.size_bytes,
        lost_xattrs=planter.lost_xattrs,
        skipped_devices=unpacking.skipped_devices,
    )


def _sentence(entry: Entry, reason: str) -> str:
    return f"cannot unpack entry {shown(entry.name)} at byte {entry.offset} of the archive: {reason}"


def _refused(entry: Entry, error: OSError) -> OnggiError:
    """Say whether the archive or the host is to blame."""
    if error.errno in _SENSELESS:
        kind = InvalidArgument if error.errno in (errno.ENAMETOOLONG, errno.EMLINK) else Corrupt
        return kind(_sentence(entry, f"{error.strerror}; it does not fit what the archive made before"))
    return explain_oserror(error, f"unpack (at byte {entry.offset} of the archive)", shown(entry.name))
