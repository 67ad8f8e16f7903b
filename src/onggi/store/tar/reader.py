"""Reading tar archives from strangers: ustar, GNU, PAX, star's and V7 headers, all sparse formats.

Pure: bytes in, values out. Where programs disagree on what an archive means,
this one refuses it or does as Go's archive/tar, which Docker, containerd and
BuildKit read with: a PAX size overrides the header's, links and directories
carry no data, the end is two zero blocks or the end of the stream.

Every refusal is Corrupt, or InvalidArgument for what is well-formed but beyond
the limits, and says which entry at which byte.
"""

from collections.abc import Iterator
from typing import Final

from onggi.base.errors import Corrupt, InvalidArgument, OnggiError
from onggi.base.names import shown

from . import sparse
from .entry import LIMITS, Entry, Kind, Limits
from .fields import BLOCK, ZERO_BLOCK, Header, number, parse_header, repeated_number, text
from .pax import SECOND_NS, Records, is_xattr, parse_number, parse_records, parse_time, parse_xattrs
from .window import BUFFER_BYTES, ByteStream, Window

_KINDS: Final = {kind.value: kind for kind in Kind} | {b"\0": Kind.REGULAR, b"7": Kind.REGULAR, b"S": Kind.REGULAR}
_NONE: Final[dict[bytes, bytes]] = {}
_TYPE: Final = slice(156, 157)
_SIZE_MOST: Final = (1 << 63) - 1
_ID_MOST: Final = (1 << 32) - 2  # 2^32-1 is "no change" to chown(2)
_MAJOR_MOST: Final = (1 << 12) - 1
_MINOR_MOST: Final = (1 << 20) - 1
_SECONDS_MOST: Final = 1 << 60
_LONG_NAME_MOST: Final = 1 << 16
# What no global header can say about all entries together.
_NEVER_GLOBAL: Final = (b"path", b"linkpath", b"size")


class TarReader:
    """The entries of an archive in its order.

        for entry in (reader := TarReader(stream)):
            for offset, data in reader.extents(): ...

    The data of an entry is there until the next one is asked for; what was not
    read is skipped.
    """

    def __init__(self, stream: ByteStream, *, limits: Limits = LIMITS) -> None:
        """Read nothing yet; `stream` is read up to the end of the archive and somewhat beyond."""
        self._window = Window(stream)
        self._limits = limits
        self._count = 0
        self._total = 0
        self._global: dict[bytes, bytes] = {}
        self._extents: sparse.Extents = ()
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Give one entry after the other; raises Corrupt, InvalidArgument."""
        while (entry := self._next()) is not None:
            yield entry

    def extents(self) -> Iterator[tuple[int, memoryview]]:
        """Give the stored data of the current entry as (offset in the file, view), ascending.

        A view is good until the next one is asked for.
        """
        window = self._window
        for offset, length in self._extents:
            while length:
                try:
                    piece = window.some(length)
                except Corrupt as error:
                    raise _at(error, window.offset, b"") from None
                self._left -= len(piece)
                yield offset, piece
                offset += len(piece)
                length -= len(piece)

    def read(self, most: int) -> bytes:
        """Give the whole content of the current entry, a small file; InvalidArgument beyond `most` bytes."""
        size = sum(length for _, length in self._extents)
        if size > most:
            raise InvalidArgument(f"a file of {size} bytes where at most {most} are expected")
        return b"".join(piece.tobytes() for _, piece in self.extents())

    # -- headers -----------------------------------------------------------------------------------

    def _next(self) -> Entry | None:
        window = self._window
        try:
            window.skip(self._left + self._padding)
        except OnggiError as error:
            raise _at(error, window.offset, b"") from None
        self._left = self._padding = 0
        self._extents = ()
        long: dict[bytes, bytes] = {}
        records: Records = []
        while True:
            offset = window.offset
            name = b""
            try:
                block = window.block_or_end(BLOCK)
                if block is None or block == ZERO_BLOCK:
                    self._check_end(block, bool(long or records))
                    return None
                header = parse_header(block)
                name = header.name
                self._count_entry()
                if header.type in b"xX":
                    records = self._read_records(header)
                elif header.type == b"g":
                    self._add_global(self._read_records(header))
                elif header.type in b"LK":
                    long[header.type] = text(self._read_body(header, _LONG_NAME_MOST))
                else:
                    return self._entry(header, block, offset, long, records)
            except OnggiError as error:
                raise _at(error, offset, name) from None

    def _count_entry(self) -> None:
        self._count += 1
        if self._count > self._limits.entries:
            raise InvalidArgument(f"the archive has more than {self._limits.entries} entries")

    def _check_end(self, block: bytes | None, inside: bool) -> None:
        """Accept the end: the stream's, or a zero block with another one or the stream's end after it."""
        if inside:
            raise Corrupt("the archive ends after an extended header")
        if block is not None:
            second = self._window.block_or_end(BLOCK)
            if second is not None and second != ZERO_BLOCK:
                raise Corrupt("there is a zero block in the middle of the archive")

    def _read_body(self, header: Header, most: int) -> bytes:
        size = number(header.size, "size")
        if not 0 <= size <= most:
            raise Corrupt(f"an extended header of {size} bytes, where at most {most} are taken")
        body = self._window.exactly(size)
        self._window.skip(-size % BLOCK)
        return body

    def _read_records(self, header: Header) -> Records:
        return parse_records(self._read_body(header, min(self._limits.header_bytes, BUFFER_BYTES)))

    def _add_global(self, records: Records) -> None:
        for key, value in records:
            if key in _NEVER_GLOBAL or key.startswith(b"GNU.sparse."):
                raise Corrupt(f"its global header gives every file the same {shown(key)}")
            if value or is_xattr(key):
                self._global[key] = value
            else:
                self._global.pop(key, None)

    # -- entries -----------------------------------------------------------------------------------

    def _entry(self, header: Header, block: bytes, offset: int, long: dict[bytes, bytes], records: Records) -> Entry:
        kind = _KINDS.get(header.type)
        if kind is None:
            raise Corrupt(f"an entry of the unknown type {shown(header.type)}")
        pax = self._overrides(long, records) if records or long or self._global else _NONE
        name, link = pax.get(b"path", header.name), pax.get(b"linkpath", header.link)
        if header.type == b"\0" and name.endswith(b"/"):
            kind = Kind.DIRECTORY  # V7 had no type for them
        size, extents, device = 0, None, (0, 0)
        if kind is Kind.REGULAR:
            size = parse_number(pax[b"size"], "size") if b"size" in pax else number(header.size, "size")
            if not 0 <= size <= _SIZE_MOST:
                raise Corrupt(f"its size is {size}")
            name = pax.get(b"GNU.sparse.name", name)
            size, extents = self._begin_data(block, size, pax, records)
        elif kind is Kind.CHARACTER or kind is Kind.BLOCK:
            major = repeated_number(header.major, "major number", _MAJOR_MOST)
            device = major, repeated_number(header.minor, "minor number", _MINOR_MOST)
        self._check_names(name, link)
        return Entry(
            name=name,
            kind=kind,
            mode=repeated_number(header.mode, "mode", _SIZE_MOST) & 0o7777,
            uid=_id(pax, b"uid") if b"uid" in pax else repeated_number(header.uid, "uid", _ID_MOST),
            gid=_id(pax, b"gid") if b"gid" in pax else repeated_number(header.gid, "gid", _ID_MOST),
            mtime_ns=parse_time(pax[b"mtime"]) if b"mtime" in pax else _seconds(header.mtime),
            size=size,
            link=link,
            device=device,
            xattrs=parse_xattrs(pax) if pax else _NONE,
            extents=extents,
            offset=offset,
            data_offset=self._window.offset,
        )

    def _overrides(self, long: dict[bytes, bytes], records: Records) -> dict[bytes, bytes]:
        """Put together what extended headers say about the next entry.

        The last record counts; an empty value takes back, but an attribute may be empty.
        GNU's long names become `path` and `linkpath`; with a different one of PAX there would be two names.
        """
        pax = dict(self._global)
        for key, value in records:
            if value or is_xattr(key):
                pax[key] = value
            else:
                pax.pop(key, None)
        for kind, key in ((b"L", b"path"), (b"K", b"linkpath")):
            if kind in long and pax.setdefault(key, long[kind]) != long[kind]:
                raise Corrupt("its GNU and PAX headers give it two names")
            if b"\0" in pax.get(key, b""):
                raise Corrupt("its name has a NUL in it")
        return pax

    def _begin_data(
        self, block: bytes, stored: int, pax: dict[bytes, bytes], records: Records
    ) -> tuple[int, sparse.Extents | None]:
        """Find out what the data that follows is: `stored` bytes, perhaps of a larger file with holes."""
        most = self._limits.sparse_extents
        extents: sparse.Extents | None = None
        size = stored
        version = sparse.pax_version(pax) if pax else None
        if block[_TYPE] == b"S":
            size, extents = sparse.read_old(block, lambda: self._window.exactly(BLOCK), most)
        elif version == (1, 0):
            extents, taken = sparse.read_1_0(
                lambda: self._window.exactly(BLOCK), most, min(stored, self._limits.header_bytes)
            )
            size, stored = sparse.real_size(pax), stored - taken
        elif version is not None:
            size = sparse.real_size(pax)
            extents = (
                sparse.parse_0_1(pax[b"GNU.sparse.map"], most) if version == (0, 1) else sparse.parse_0_0(records, most)
            )
        if extents is not None:
            sparse.check(extents, size, stored)
        self._extents = ((0, stored),) if extents is None else extents
        self._left, self._padding = stored, -stored % BLOCK
        self._total += size
        if self._total > self._limits.total_bytes:
            raise InvalidArgument(f"the files of the archive are larger than {self._limits.total_bytes} bytes together")
        return size, extents

    def _check_names(self, name: bytes, link: bytes) -> None:
        if not name:
            raise Corrupt("an entry without a name")
        most = self._limits.path_bytes
        if len(name) > most or len(link) > most:
            raise InvalidArgument(f"a name of {max(len(name), len(link))} bytes; at most {most} are taken")


def _at(error: OnggiError, offset: int, name: bytes) -> OnggiError:
    """Say where in the archive: every refusal names the entry and the byte."""
    what = f"entry {shown(name)} at byte {offset}" if name else f"byte {offset}"
    return type(error)(f"bad tar archive, {what}: {error}")


def _id(pax: dict[bytes, bytes], key: bytes) -> int:
    value = parse_number(pax[key], key.decode())
    if value > _ID_MOST:
        raise Corrupt(f"its {key.decode()} is {value}, which is not between 0 and {_ID_MOST}")
    return value


def _seconds(field: bytes) -> int:
    seconds = number(field, "mtime")
    if not -_SECONDS_MOST < seconds < _SECONDS_MOST:
        raise Corrupt(f"its time is {seconds} s")
    return seconds * SECOND_NS
