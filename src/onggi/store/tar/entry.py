"""One entry of a tar archive as a value, and the bounds within which entries are taken.

Names are bytes, as the archive has them; `paths.py` makes them clean.
"""

import enum

import msgspec


class Kind(enum.Enum):
    """What an entry makes; the value is its type flag in the archive."""

    REGULAR = b"0"
    HARDLINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file as an archive describes it, without its data.

    `size` is what the file has in the end, holes included; `extents` are the
    (offset, length) that are stored, None for a file without holes. `mode` is the
    twelve permission bits. `offset` and `data_offset` are where the header and
    the stored data begin in the stream.
    """

    name: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = {}
    extents: tuple[tuple[int, int], ...] | None = None
    offset: int = 0
    data_offset: int = 0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an archive or a tree is taken before it is refused as hostile."""

    entries: int = 4_000_000
    total_bytes: int = 1 << 40
    """Sum of the sizes of all files, holes included."""
    header_bytes: int = 1 << 20
    """One PAX header, or one sparse map."""
    path_bytes: int = 4095
    component_bytes: int = 255
    depth: int = 512
    sparse_extents: int = 1 << 17


LIMITS = Limits()
