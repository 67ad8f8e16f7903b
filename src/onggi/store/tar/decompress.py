"""The stream of a layer in front of the tar reader: decompressed, hashed, bounded.

gzip (many members, as in eStargz), zstd (many frames, skippable ones too), and
for ADD and `load` bzip2 and xz; what begins with none of their magic numbers is
taken as it is. Media types are not asked: they lie, and Docker looks at the
first bytes too. Nothing but zeros may come after the last member (Go, which
Docker reads with, takes no garbage there; zeros are the padding of tapes).

The DiffID is the SHA-256 of the whole uncompressed stream, including what comes
after the end of the archive: hence `drain`.
"""

import bz2
import functools
import hashlib
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Final, Protocol, cast

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument
from onggi.spec.digest import DiffID

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK: Final = 128 << 10
_PIECE: Final = 256 << 10
_LZMA_MEMORY: Final = 256 << 20
_ZSTD_WINDOW_LOG: Final = 27
_MAGIC_BYTES: Final = 6
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"
_BZIP2: Final = b"BZh"
_XZ: Final = b"\xfd7zXZ\0"


class Source(Protocol):
    """Where the compressed bytes come from: a file, a response, a BytesIO."""

    def read(self, size: int, /) -> bytes | None:
        """Give up to `size` bytes; empty at the end."""


class Expansion(msgspec.Struct, frozen=True, kw_only=True):
    """How much a compressed stream may become before it is taken for a bomb.

    gzip reaches 1032 times its size, zstd far more: what is beyond `free_bytes`
    has to be paid for with compressed bytes. Members without any content cost
    time only, so their number is bounded too.
    """

    total_bytes: int = 1 << 40
    free_bytes: int = 1 << 30
    ratio: int = 2000
    empty_members: int = 1 << 16


EXPANSION: Final = Expansion()


class _Decompressor(Protocol):
    """bz2.BZ2Decompressor and everything made after it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _ZlibDecompressor:
    """zlib's older interface in the shape of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_gzip: Callable[[], _Decompressor] = _ZlibDecompressor
_broken: tuple[type[Exception], ...] = (zlib.error, zstd.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError)
try:
    from isal import igzip_lib
except ImportError:
    pass  # no wheel for this platform: slower, not different
else:
    _gzip = functools.partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_GZIP)
    _broken = (*_broken, cast("type[Exception]", igzip_lib.IsalError))  # its stub declares an instance


def _zstd() -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)


def _sniff(start: bytes) -> tuple[str, Callable[[], _Decompressor] | None]:
    """Name the compression that the first bytes announce, and how to undo it."""
    if start.startswith(_GZIP):
        return "gzip", _gzip
    if start.startswith(_ZSTD) or (start[1:4] == _ZSTD_SKIPPABLE and start[0] & 0xF0 == 0x50):
        return "zstd", _zstd
    if start.startswith(_BZIP2):
        return "bzip2", bz2.BZ2Decompressor
    if start.startswith(_XZ):
        return "xz", _xz
    return "none", None


class LayerStream:
    """The uncompressed bytes of a layer, read with `readinto`; `compression` is what it was."""

    def __init__(self, source: Source, *, expansion: Expansion = EXPANSION) -> None:
        """Read the first bytes of `source` to see what it is."""
        self._source = source
        self._expansion = expansion
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.compressed_bytes = 0
        self._input = self._read_start()
        self._ready = memoryview(b"")
        self._empty_members = 0
        self._member_bytes = 0
        self._ended = False
        self.compression, self._make = _sniff(self._input)
        self._decompressor = self._make() if self._make else None

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from its beginning; 0 at the end. Raises Corrupt, InvalidArgument for a bomb."""
        if not self._ready:
            self._ready = memoryview(self._more())
            self._hash.update(self._ready)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def drain(self) -> DiffID:
        """Read to the end and give the digest of everything that was and was not read."""
        self._ready = memoryview(b"")
        while more := self._more():
            self._hash.update(more)
        return DiffID.from_hash(self._hash)

    # -- pieces ------------------------------------------------------------------------------------

    def _read(self) -> bytes:
        data = self._source.read(_CHUNK) or b""
        self.compressed_bytes += len(data)
        return data

    def _read_start(self) -> bytes:
        start = b""
        while len(start) < _MAGIC_BYTES and (more := self._read()):
            start += more
        return start

    def _more(self) -> bytes:
        """Give the next piece of the uncompressed stream; empty at its end."""
        if self._decompressor is None:
            data, self._input = self._input or self._read(), b""
        else:
            data = self._decompress(self._decompressor)
        self.size_bytes += len(data)
        bound = self._expansion
        if self.size_bytes > bound.total_bytes:
            raise InvalidArgument(f"the layer has more than {bound.total_bytes} bytes, which is the limit")
        if self.size_bytes > bound.free_bytes + bound.ratio * self.compressed_bytes:
            raise InvalidArgument(
                f"{self.compressed_bytes} compressed bytes became {self.size_bytes}: the layer is taken for a bomb"
            )
        return data

    def _decompress(self, decompressor: _Decompressor) -> bytes:
        while not self._ended:
            if decompressor.eof:
                if not (following := self._next_member(decompressor)):
                    break
                decompressor = following
            data, exhausted = b"", False
            if decompressor.needs_input:
                data, self._input = self._input or self._read(), b""
                exhausted = not data
            try:
                piece = decompressor.decompress(data, _PIECE)
            except _broken as error:
                raise Corrupt(f"the {self.compression} stream of the layer is damaged: {error}") from None
            if exhausted and not piece and not decompressor.eof:
                raise Corrupt(f"the {self.compression} stream of the layer is truncated")
            self._member_bytes += len(piece)
            if piece:
                return piece
        return b""

    def _next_member(self, decompressor: _Decompressor) -> _Decompressor | None:
        """Begin what follows a finished member; None at the end of the stream."""
        if self._member_bytes == 0:
            self._empty_members += 1
            if self._empty_members > self._expansion.empty_members:
                raise InvalidArgument("the layer consists of compressed streams without content")
        self._member_bytes = 0
        self._input = decompressor.unused_data or self._read()
        while 0 < len(self._input) < _MAGIC_BYTES and (more := self._read()):
            self._input += more
        if _sniff(self._input)[0] == self.compression and self._make is not None:
            self._decompressor = self._make()
            return self._decompressor
        while self._input:
            if self._input.strip(b"\0"):
                raise Corrupt(f"there is something behind the {self.compression} stream of the layer")
            self._input = self._read()
        self._ended = True
        return None


def open_layer(source: Source, *, expansion: Expansion = EXPANSION) -> LayerStream:
    """Open the uncompressed, hashed and bounded stream of a layer or archive, whatever its compression."""
    return LayerStream(source, expansion=expansion)
