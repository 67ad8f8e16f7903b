"""Tar headers of our own archives: one way to write each entry, so that the same tree gives the same bytes.

POSIX ustar; a PAX header in front only where ustar has no room: names over 100
bytes that no `/` splits, ids from 2^21, sizes from 8 GiB, times that are not
whole seconds or before 1970, extended attributes. No user names, no access
times. Docker and BuildKit cut times to seconds (containerd's archive/tar.go
does); we keep nanoseconds, because a layer of ours is first of all its
directory, and unpacking its tar elsewhere has to give the same directory.
"""

from typing import Final

from .entry import Entry
from .fields import BLOCK, ZERO_BLOCK
from .pax import SECOND_NS, Records, format_records, format_time, format_xattrs

END: Final = 2 * ZERO_BLOCK
"""What closes an archive."""

_NAME_MOST: Final = 100
_PREFIX_MOST: Final = 155
_ID_MOST: Final = 0o7777777
_SIZE_MOST: Final = 0o77777777777
_HEADER: Final = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%bustar\00000%b%07o\0%07o\0%b"
_NO_OWNERS: Final = bytes(64)
_NO_PREFIX: Final = bytes(167)
_NO_LINK: Final = bytes(100)
_PAX_NAME: Final = b"PaxHeader"


def encode_header(entry: Entry) -> bytes:
    """Write the header of an entry, with a PAX header before it if one is needed.

    The data follows, padded with `padding`. Holes are not told: data is whole.
    """
    name = entry.name
    records: Records = []
    prefix = _NO_PREFIX
    if len(name) > _NAME_MOST:
        split = _split(name)
        if split is None:
            records.append((b"path", name))
            name = name[:_NAME_MOST].rstrip(b"/")
        else:
            prefix, name = name[:split].ljust(167, b"\0"), name[split + 1 :]
    link = entry.link
    if len(link) > _NAME_MOST:
        records.append((b"linkpath", link))
        link = link[:_NAME_MOST]
    size, uid, gid = entry.size, entry.uid, entry.gid
    if size > _SIZE_MOST:
        records.append((b"size", b"%d" % size))
        size = 0
    if uid > _ID_MOST:
        records.append((b"uid", b"%d" % uid))
        uid = 0
    if gid > _ID_MOST:
        records.append((b"gid", b"%d" % gid))
        gid = 0
    seconds, rest = divmod(entry.mtime_ns, SECOND_NS)
    if rest or not 0 <= seconds <= _SIZE_MOST:
        records.append((b"mtime", format_time(entry.mtime_ns)))
        seconds = min(max(seconds, 0), _SIZE_MOST)
    if entry.xattrs:
        records += format_xattrs(entry.xattrs)
    header = _block(name, entry.mode, uid, gid, size, seconds, entry.kind.value, link, entry.device, prefix)
    return _pax_header(records) + header if records else header


def padding(size: int) -> bytes:
    """Give the zeros between data of this size and the next header."""
    return bytes(-size % BLOCK)


def _split(name: bytes) -> int | None:
    """Find the `/` at which ustar can cut a name into prefix and rest."""
    at = name.find(b"/", len(name) - _NAME_MOST - 1, len(name) - 1)
    return at if 0 < at <= _PREFIX_MOST else None


def _pax_header(records: Records) -> bytes:
    body = format_records(sorted(records))
    header = _block(_PAX_NAME, 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0), _NO_PREFIX)
    return header + body + padding(len(body))


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, seconds: int, kind: bytes, link: bytes,
    device: tuple[int, int], prefix: bytes,
) -> bytes:  # fmt: skip
    link = link.ljust(_NAME_MOST, b"\0") if link else _NO_LINK
    name = name.ljust(_NAME_MOST, b"\0")
    block = _HEADER % (name, mode, uid, gid, size, seconds, kind, link, _NO_OWNERS, *device, prefix)
    return b"%b%06o\0 %b" % (block[:148], sum(block), block[156:])
